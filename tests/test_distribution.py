"""The downloads: the wheel holds the library and nothing else, the sdist what it takes to build and test it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.build

ROOT = Path(__file__).parents[1]
SOURCE = [
    ".ci",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "notebooks",
    "pyproject.toml",
    "rxauth",
    "setup.cfg",
    "tests",
]
LEFTOVERS = ["tests/__pycache__/old.cpython-311.pyc", "notebooks/.ipynb_checkpoints/old-checkpoint.ipynb"]


def files(root: Path) -> set[str]:
    return {each.relative_to(root).as_posix() for each in root.rglob("*") if each.is_file()}


def run(*command: str | Path, cwd: Path, path: str = "") -> str:
    # Without bytecode: what a run leaves behind would be taken for content.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | ({"PYTHONPATH": path} if path else {})
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Built:
    source: set[str]
    sdist: Path
    wheel: Path
    metadata: bytes


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both, unpacked; the wheel is built from the sdist, so the sdist alone is enough."""
    root = tmp_path_factory.mktemp("distribution")
    checkout = root / "checkout"
    checkout.mkdir()
    for name in SOURCE:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".*_cache", ".hypothesis", ".ipynb_checkpoints")
            shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, checkout)
    source = files(checkout)
    for name in LEFTOVERS:
        (checkout / name).parent.mkdir()
        (checkout / name).touch()
    run("-m", "build", "--no-isolation", "--outdir", root / "dist", checkout, cwd=root)
    (sdist,) = (root / "dist").glob("*.tar.gz")
    (wheel,) = (root / "dist").glob("*.whl")
    with tarfile.open(sdist) as archive:
        # Python 3.11.2, Debian 12's, has no filters yet.
        filters: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(root / "sdist", **filters)
    with ZipFile(wheel) as archive:
        archive.extractall(root / "wheel")
    (unpacked,) = (root / "sdist").iterdir()
    (metadata,) = (root / "wheel").glob("*.dist-info/METADATA")
    return Built(source, unpacked, root / "wheel", metadata.read_bytes())


def test_wheel_holds_the_library_and_its_types_alone(built: Built) -> None:
    held = {name for name in files(built.wheel) if ".dist-info/" not in name}
    assert held == {name for name in built.source if name.startswith("rxauth/")}
    assert "rxauth/py.typed" in held


def test_sdist_holds_the_whole_source_and_no_leftovers(built: Built) -> None:
    added = {name for name in files(built.sdist) if not name.startswith("rxauth.egg-info/")} - built.source
    assert built.source <= files(built.sdist)
    assert added == {"PKG-INFO"}


def test_both_carry_the_licence(built: Built) -> None:
    (licence,) = built.wheel.glob("*.dist-info/licenses/LICENSE")
    assert licence.read_bytes() == (built.sdist / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_wheel_streams_from_the_embedded_provider(built: Built, tmp_path: Path) -> None:
    # Without `site`: an editable install would lend the modules that the wheel lacks.
    path = os.pathsep.join([str(built.wheel), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    answer = run("-S", "-m", "rxauth", "stream", "--provider", "fake", "hi", cwd=tmp_path, path=path)
    assert "refreshed before you noticed" in answer


def test_unpacked_sdist_collects_and_passes_light_tests(built: Built, tmp_path: Path) -> None:
    # Collected is every test, so a helper module that was left out is found; run are those that cost nothing.
    light = "test_transcript or test_public_names"
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}", "-k", light, cwd=built.sdist)


def test_dependency_stops_before_an_unknown_major(built: Built) -> None:
    requirements = [Requirement(each) for each in message_from_bytes(built.metadata).get_all("Requires-Dist", [])]
    compared = 'extra == "peers"'  # pinned, so that the table of tests/peers says what it compared
    others = [each for each in requirements if each.name != "rxauth" and str(each.marker) != compared]
    assert len(others) >= 5
    open_ended = [str(each) for each in others if {bound.operator for bound in each.specifier} != {">=", "<"}]
    assert not open_ended
