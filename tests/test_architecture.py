"""Imports point down only, and the check that says so can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.peer

ROOT = Path(__file__).parents[1]


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None))"
    return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)


def copy_of_the_package(to: Path) -> Path:
    shutil.copytree(ROOT / "rxauth", to / "rxauth", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", to)
    return to


def test_imports_point_down_only(tmp_path: Path) -> None:
    done = lint(copy_of_the_package(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        pytest.param("errors", "from rxauth.operators import recover_auth", id="an import that points up"),
        pytest.param("errors", "    from rxauth.operators import recover_auth", id="one for types alone"),
        pytest.param("failures/_words", "    from rxauth.failures._rules import Rule", id="a circle of two"),
    ],
)
def test_wrong_import_is_found(module: str, line: str, tmp_path: Path) -> None:
    path = copy_of_the_package(tmp_path) / "rxauth" / f"{module}.py"
    path.write_text(f"{path.read_text()}\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode != 0
    assert f".{path.stem} -> " in done.stdout
