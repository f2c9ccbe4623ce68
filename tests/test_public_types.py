"""pyright agrees with mypy about the types of the public names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import peers_needed

pytestmark = pytest.mark.peer

ROOT = Path(__file__).parents[1]


def pyright(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    peers_needed.package("pyright")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "error" not in done.stdout:  # it found no Node, or npm could not install pyright
        peers_needed.missing(f"pyright does not run: {(done.stderr or done.stdout).strip()[-200:]}")
    return done


def test_pyright_accepts_the_types_of_the_public_names() -> None:
    done = pyright("tests/public_types.py")
    assert done.returncode == 0, done.stdout


def test_pyright_finds_a_wrong_element_type(tmp_path: Path) -> None:
    text = (ROOT / "tests" / "public_types.py").read_text()
    wrong = tmp_path / "wrong.py"
    wrong.write_text(text.replace("assert_type(chunk, Chunk)", "assert_type(chunk, int)"))
    done = pyright(wrong)
    assert done.returncode == 1
    assert '"assert_type" mismatch' in done.stdout
