"""Operators and pictures need three packages only, which is what a page with Pyodide has."""

from __future__ import annotations

import importlib.util
import subprocess
import venv
from pathlib import Path

import rxauth

NEEDED = ("reactivex", "typing_extensions", "tenacity")

PROGRAM = """
import sys

from reactivex.testing import TestScheduler
from rxauth import operators
from rxauth.marbles import Diagram, Timeline, explain, playground
from rxauth.marbles._playground import answer, state_of

for name in operators.__all__:
    if name != "suppress_empty_response":  # it knows rxauth's own events
        getattr(operators, name)
page = answer(state_of(["s--e", "s---a---|"], operators=["recover_auth", "retry_never_live"]))
assert page["seen"] == "---------(sa)|", page["seen"]
assert page["result"].startswith("<svg")
try:
    playground()
except ImportError as error:
    assert "pip install 'rxauth[notebook]'" in str(error)
# Debian's Python has a sitecustomize.
known = {"reactivex", "typing_extensions", "tenacity", "rxauth", "sitecustomize"} | sys.stdlib_module_names
print(sorted({name.partition(".")[0] for name in sys.modules} - known - {"__main__"}))
"""


def test_pictures_run_where_only_three_packages_are(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "rxauth").symlink_to(Path(rxauth.__file__).parent)
    for name in NEEDED:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        origin = Path(spec.origin)
        origin = origin.parent if origin.name == "__init__.py" else origin
        (site / origin.name).symlink_to(origin)
    python = tmp_path / "venv" / "bin" / "python"
    done = subprocess.run([python, "-I", "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "[]"
