"""The locks of the stores in JSON files, and a process that locks as kimi-cli does."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials import KimiCodeStore
from rxauth.errors import StoreError
from tests.credentials.kinds import KIMI_CLI, KIMI_CODE, KINDS, NEW, OWN, PI, Kind, Waits, count, counted, no_time


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.mark.parametrize("again", [False, True], ids=["removed", "removed and made again"])
async def test_a_lost_lock_lets_nothing_be_saved(kind: Kind, again: bool, tmp_path: Path) -> None:
    before = kind.write(tmp_path).read_bytes()
    lock = tmp_path / kind.lock
    store = kind.store(tmp_path)
    async with store.locked():
        directory = lock.is_dir()
        lock.rmdir() if directory else lock.unlink()
        if again:
            lock.mkdir() if directory else lock.touch()
        for attempt in (store.save(NEW), store.delete()):
            with pytest.raises(StoreError, match="was lost"):
                await attempt
    assert kind.path(tmp_path).read_bytes() == before
    assert lock.exists() is again, "the lock of another program is not ours to remove"


async def test_a_lock_lost_during_the_write_replaces_nothing(kind: Kind, tmp_path: Path) -> None:
    class Robbed:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def ftruncate(self, fd: int, length: int) -> None:
            os.ftruncate(fd, length)
            lock.rmdir() if lock.is_dir() else lock.unlink()

    lock = tmp_path / kind.lock
    before = kind.write(tmp_path).read_bytes()
    with pytest.raises(StoreError, match="was lost"):
        await kind.store(tmp_path, files=Robbed()).save(NEW)
    assert kind.path(tmp_path).read_bytes() == before
    assert kind.names(tmp_path) == {kind.file}


@pytest.mark.parametrize(
    ("kind", "odd"),
    [
        *((kind, odd) for kind in (PI, KIMI_CODE) for odd in ("a file", "a link", "not empty")),
        *((kind, odd) for kind in (OWN, KIMI_CLI) for odd in ("not empty", "a link")),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
async def test_a_lock_that_can_never_be_had_is_an_error(kind: Kind, odd: str, tmp_path: Path) -> None:
    lock, victim = tmp_path / kind.lock, tmp_path / "victim"
    lock.parent.mkdir(exist_ok=True)
    victim.write_text("content")
    if odd == "a file":
        lock.touch()
    elif odd == "a link":
        lock.symlink_to(victim)
    else:
        (lock / "x").mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be had"):
        await kind.store(tmp_path, clock=lambda: 9e9, sleep=Waits()).save(NEW)
    assert victim.read_text() == "content"
    assert not kind.path(tmp_path).exists()


async def test_a_directory_that_cannot_be_made_is_an_error(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be had"):
        await kind.store(tmp_path / "file" / "x").check_can_save()


async def test_lock_order_is_that_of_the_other_programs(tmp_path: Path) -> None:
    stores = [kind.store(tmp_path) for kind in KINDS]
    assert [type(store).__name__ for store in sorted(stores, key=lambda store: store.lock_order)] == [
        *("PiStore", "KimiCodeStore", "KimiCliStore", "FileStore")
    ]


@pytest.mark.parametrize("value", ["1", "true"])
async def test_kimi_codes_lock_is_off_for_one_value_alone(value: str, tmp_path: Path) -> None:
    """Then rxauth's own processes, threads and tasks exclude each other all the same."""
    stores = [KimiCodeStore(tmp_path, environ={"KIMI_DISABLE_OAUTH_LOCK": value}, sleep=no_time) for _ in range(2)]
    async with stores[0].locked():
        assert (tmp_path / "oauth" / "kimi-code.lock").is_dir() == (value != "1")
    thread = threading.Thread(target=lambda: asyncio.run(count(stores[0], 5)))
    thread.start()
    await asyncio.gather(*(count(store, 5) for store in stores))
    await asyncio.to_thread(thread.join)
    assert await counted(stores[0]) == 15


# flock ---------------------------------------------------------------------------------------------------------------

_PEER = """
import fcntl, os, sys
held = None
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "lock":
        held = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            print("locked", flush=True)
        except OSError:
            os.close(held)
            print("refused", flush=True)
    else:
        os.close(held)
        print("released", flush=True)
"""


class Peer:
    """Another process that locks a file as kimi-cli does, with the operating system's calls alone."""

    def __init__(self, lock: Path) -> None:
        command = [sys.executable, "-c", _PEER, str(lock)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.answer() == "ready"

    def answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def ask(self, word: str) -> str:
        assert self.process.stdin
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.answer()


@pytest.fixture
def start_peer() -> Iterator[Callable[[Path], Peer]]:
    peers: list[Peer] = []

    def start(lock: Path) -> Peer:
        lock.parent.mkdir(parents=True, exist_ok=True)
        peers.append(Peer(lock))
        return peers[-1]

    yield start
    for peer in peers:
        peer.process.kill()
        peer.process.communicate()


@pytest.mark.parametrize("kind", [OWN, KIMI_CLI], ids=lambda kind: kind.name)
async def test_flock_excludes_another_process(kind: Kind, tmp_path: Path, start_peer: Callable[[Path], Peer]) -> None:
    peer = start_peer(tmp_path / kind.lock)
    async with kind.store(tmp_path).locked():
        assert peer.ask("lock") == "refused"
    assert (tmp_path / kind.lock).stat().st_mode & 0o777 == 0o600
    assert peer.ask("lock") == "locked"
    waits = Waits({5: lambda: peer.ask("release")})
    async with kind.store(tmp_path, sleep=waits).locked():
        assert waits.count == 5
    assert peer.ask("lock") == "locked"
    peer.process.kill()
    peer.process.wait()
    async with asyncio.timeout(5):
        await kind.store(tmp_path).save(NEW)


@pytest.mark.parametrize("kind", [OWN, KIMI_CLI], ids=lambda kind: kind.name)
async def test_a_lock_file_stays(kind: Kind, tmp_path: Path) -> None:
    """A lock on a removed file excludes no process that opens the path again."""
    async with kind.store(tmp_path).locked():
        inode = (tmp_path / kind.lock).stat().st_ino
    async with kind.store(tmp_path).locked():
        assert (tmp_path / kind.lock).stat().st_ino == inode
