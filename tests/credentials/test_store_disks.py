"""Real file systems: a bind mount, a directory that is read-only, a disk that is full."""

from __future__ import annotations

import json
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
import asyncio, json, logging, os, subprocess, sys
from pathlib import Path
from rxauth.credentials import Credential, FileStore, LinkedStore, PiStore
from rxauth.errors import StoreError
from tests.credentials.kinds import KINDS, NEW, OLD, tokens

at = Path(sys.argv[1])
kind = next(kind for kind in KINDS if kind.name == sys.argv[2])

def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True)

def fill(directory, leave=0):
    "Fill the file system, but for some bytes."
    with open(directory / "filler", "wb", buffering=0) as filler:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    filler.write(b"x" * size)
            except OSError:
                pass
        os.truncate(filler.fileno(), max(0, filler.tell() - leave))

async def error_of(work):
    try:
        await work
    except StoreError as error:
        return str(error)
    return "no error"
"""


@pytest.fixture(params=[OWN, PI], ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def in_own_mounts(script: str, directory: Path, kind: Kind) -> list[str]:
    """Run a script that mounts file systems which only it sees; return its lines."""
    if os.geteuid() != 0:
        peers_needed.missing("only root can mount file systems")
    unshare = peers_needed.program("unshare")
    command = [unshare, "-m", sys.executable, "-c", _PRELUDE + textwrap.dedent(script), str(directory), kind.name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=100)
    if "unshare failed" in done.stderr or "permission denied" in done.stderr.lower():
        peers_needed.missing("this machine lets no process mount file systems")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_bind_mounted_file_is_written_in_place(kind: Kind, tmp_path: Path, rxauth_home: Path) -> None:
    host = kind.write(tmp_path / "host")
    inode = host.stat().st_ino
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / host.name).touch()
    script = """
    mount("--bind", kind.path(at / "host"), kind.path(at / "box"))
    async def main():
        store = kind.store(at / "box")
        for credential in (NEW, OLD, NEW):
            async with store.locked():
                await store.check_can_save()
                await store.save(credential)
            print(tokens(await store.load()) == tokens(credential))
    asyncio.run(main())
    print(sorted(each.name for each in (at / "box").iterdir()))
    """
    lines = in_own_mounts(script, tmp_path, kind)
    assert lines[:3] == ["True"] * 3
    assert set(json.loads(lines[3].replace("'", '"'))) <= {"auth.json", "auth.json.lock"}
    assert host.stat().st_ino == inode
    assert "access-2" in host.read_text()


def test_a_writable_file_in_a_read_only_directory_is_written(tmp_path: Path, rxauth_home: Path) -> None:
    """As containers have it: the directory is part of the image, the file is mounted."""
    host = OWN.write(tmp_path / "host")
    OWN.write(tmp_path / "box")
    script = """
    mount("--bind", at / "box", at / "box")
    mount("--bind", kind.path(at / "host"), kind.path(at / "box"))
    mount("-o", "remount,bind,ro", at / "box")
    async def main():
        store = kind.store(at / "box")
        async with store.locked():
            await store.check_can_save()
            await store.save(NEW)
        print(tokens(await store.load()) == tokens(NEW), os.listdir(at / "box"))
    asyncio.run(main())
    """
    assert in_own_mounts(script, tmp_path, OWN) == ["True ['auth.json']"]
    assert "access-2" in host.read_text()
    assert [each.suffix for each in rxauth_home.rglob("*") if each.is_file()] == [".lock"]


def test_a_read_only_file_system_is_found_in_time(kind: Kind, tmp_path: Path) -> None:
    kind.write(tmp_path)
    script = """
    mount("--bind", at, at)
    mount("-o", "remount,bind,ro", at)
    store = kind.store(at)
    print(asyncio.run(error_of(store.check_can_save())))
    print(tokens(asyncio.run(store.load())) == tokens(OLD))
    """
    error, same = in_own_mounts(script, tmp_path, kind)
    assert "read-only. Make it writable" in error
    assert same == "True"


@pytest.mark.parametrize("way", ["renamed", "mounted"])
def test_a_full_disk_is_found_in_time(kind: Kind, way: str, tmp_path: Path) -> None:
    """And room that was found is kept: the disk may fill up while the server answers."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "auth.json").touch()
    script = """
    mount("-t", "tmpfs", "-o", "size=128k", "none", at / "disk")
    kind.write(at / "disk", theirs="x" * 3000)  # a longer credential takes one more page
    where = at / "disk"
    if WAY == "mounted":
        where = at / "box"
        mount("--bind", kind.path(at / "disk"), kind.path(where))
    before = kind.path(where).read_bytes()
    store = kind.store(where)
    async def main():
        fill(at / "disk")
        print(await error_of(store.check_can_save()))
        print(kind.path(where).read_bytes() == before, tokens(await store.load()) == tokens(OLD))
        os.unlink(at / "disk" / "filler")
        async with store.locked():
            await store.check_can_save()
            fill(at / "disk")
            await store.save(NEW)
        print(tokens(await store.load()) == tokens(NEW))
    asyncio.run(main())
    """.replace("WAY", repr(way))
    error, refused, kept = in_own_mounts(script, tmp_path, kind)
    assert "the disk is full. Free some space" in error
    assert (refused, kept) == ("True True", "True")


def test_an_ordinary_user_with_a_read_only_directory(tmp_path: Path) -> None:
    """The file is written in place if rxauth has a directory for the lock and the backup; else it says what to do."""
    script = """
    import tempfile, filelock
    at = Path(tempfile.mkdtemp(dir="/dev/shm"))
    OWN = KINDS[0]
    try:
        OWN.write(at)
        (at / "home").mkdir()
        for each in (at / "auth.json", at / "home"):
            os.chown(each, 65534, 65534)
        at.chmod(0o755)
        os.environ["RXAUTH_HOME"] = str(at / "home")
        child = os.fork()
        if not child:
            os.setgroups([])
            os.setgid(65534), os.setuid(65534)
            async def main():
                store = OWN.store(at)
                async with store.locked():
                    await store.check_can_save()
                    await store.save(NEW)
                print(tokens(await store.load()) == tokens(NEW), flush=True)
                os.environ["RXAUTH_HOME"] = str(at / "none")
                print(await error_of(OWN.store(at).check_can_save()), flush=True)
            try:
                asyncio.run(main())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        print(sorted(each.name for each in at.iterdir()))
    finally:
        subprocess.run(["rm", "-r", str(at)])
    """
    written, error, left = in_own_mounts(script, tmp_path, OWN)
    assert written == "True"
    assert "cannot be had: permission denied. Make the file and its directory writable" in error
    assert left == "['auth.json', 'home']"
