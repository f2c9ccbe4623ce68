"""Real file systems: a bind mount, a directory that is read-only, a disk that is full."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests import peers_needed
from tests.credentials.kinds import OWN, PI, Kind

pytestmark = pytest.mark.slow

_PRELUDE = """
import asyncio, os, subprocess, sys
from pathlib import Path
from rxauth.errors import StoreError
from tests.credentials.kinds import KINDS, NEW, OLD, tokens

at, way = Path(sys.argv[1]), sys.argv[3]
kind = next(kind for kind in KINDS if kind.name == sys.argv[2])

def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True)

def fill(directory):
    with open(directory / "filler", "wb", buffering=0) as filler:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    filler.write(b"x" * size)
            except OSError:
                pass

async def error_of(work):
    try:
        await work
    except StoreError as error:
        return str(error)
    return "no error"

async def refresh(store, *credentials):
    for credential in credentials:
        async with store.locked():
            await store.check_can_save()
            await store.save(credential)
        assert tokens(await store.load()) == tokens(credential)
"""


def in_own_mounts(script: str, directory: Path, kind: Kind, way: str = "") -> list[str]:
    """Run a script that mounts file systems which only it sees; return its lines."""
    if os.geteuid() != 0:
        peers_needed.missing("only root can mount file systems")
    unshare = peers_needed.program("unshare")
    command = [unshare, "-m", sys.executable, "-c", _PRELUDE + textwrap.dedent(script), str(directory), kind.name, way]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=100)
    if "unshare failed" in done.stderr or "permission denied" in done.stderr.lower():
        peers_needed.missing("this machine lets no process mount file systems")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("way", ["read-only", "another user's"])
def test_a_writable_file_in_a_directory_that_is_not(way: str, tmp_path: Path, rxauth_home: Path) -> None:
    """As containers have it. The lock and the copy are in rxauth's own directory; if there is none, it says so."""
    script = """
    import filelock
    OWN, box, home = kind, at / "box", Path(os.environ["RXAUTH_HOME"])
    OWN.write(at / "host"), OWN.write(box)
    mount("--bind", box, box)
    mount("--bind", OWN.path(at / "host"), OWN.path(box))
    if way == "read-only":
        mount("-o", "remount,bind,ro", box)
    else:
        for parent in box.parents[:3]:  # this test's, this run's, and this user's runs
            parent.chmod(0o711)
        for each in (OWN.path(box), home):
            os.chown(each, 65534, 65534)
        box.chmod(0o755)
        os.setgroups([])
        os.setgid(65534), os.setuid(65534)
    asyncio.run(refresh(OWN.store(box), NEW))
    print(os.listdir(box))
    os.environ["RXAUTH_HOME"] = "/proc/none"
    print(asyncio.run(error_of(OWN.store(box).check_can_save())))
    """
    left, error = in_own_mounts(script, tmp_path, OWN, way)
    assert left == "['auth.json']"
    assert "auth.json.lock cannot be had" in error
    assert "access-2" in OWN.path(tmp_path / "host").read_text()
    assert [each.suffix for each in rxauth_home.rglob("*") if each.is_file()] == [".lock"]


@pytest.mark.parametrize("kind", [OWN, PI], ids=lambda kind: kind.name)
@pytest.mark.parametrize("way", ["renamed", "mounted"])
def test_a_full_disk_is_found_in_time(kind: Kind, way: str, tmp_path: Path) -> None:
    """And room that was found is kept: the disk may fill up while the server answers.

    A bind-mounted file, over which none can be renamed, is written in place, and no other is left beside it.
    """
    for name in ("disk", "box"):
        (tmp_path / name).mkdir()
    (tmp_path / "box" / "auth.json").touch()
    script = """
    disk = where = at / "disk"
    mount("-t", "tmpfs", "-o", "size=128k", "none", disk)
    kind.write(disk, theirs="x" * 3000)  # a longer credential takes one more page
    if way == "mounted":
        where = at / "box"
        mount("--bind", kind.path(disk), kind.path(where))
    before, inode = kind.path(where).read_bytes(), kind.path(disk).stat().st_ino
    store = kind.store(where)
    async def main():
        fill(disk)
        print(await error_of(store.check_can_save()))
        print(kind.path(where).read_bytes() == before, tokens(await store.load()) == tokens(OLD))
        os.unlink(disk / "filler")
        async with store.locked():
            await store.check_can_save()
            fill(disk)
            await store.save(NEW)
        print(tokens(await store.load()) == tokens(await kind.store(disk).load()) == tokens(NEW))
        os.unlink(disk / "filler")
        print(kind.names(where) == {kind.file}, kind.path(disk).stat().st_ino == inode)
    asyncio.run(main())
    """
    error, refused, kept, left = in_own_mounts(script, tmp_path, kind, way)
    assert "the disk is full. Free some space" in error
    assert (refused, kept) == ("True True", "True")
    assert left == f"True {way == 'mounted'}"
