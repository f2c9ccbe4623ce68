"""The locks of all stores in JSON files, and a process that locks as kimi-cli does."""

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

from rxauth.credentials import Credential, KimiCodeStore
from rxauth.errors import StoreError
from tests.credentials.kinds import KIMI_CLI, KIMI_CODE, KINDS, NEW, OLD, OWN, PI, Kind, Waits, no_time, tokens


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


async def count(store: Any, times: int, lock: threading.Event | None = None) -> None:
    """Read a number and write the next one, under the lock; every lost update is missing at the end."""
    for _ in range(times):
        async with store.locked():
            loaded = await store.load()
            await asyncio.sleep(0)
            await store.save(Credential("a", extra={"n": loaded.extra.get("n", 0) + 1}))


async def test_lock_excludes_tasks_and_threads(kind: Kind, tmp_path: Path) -> None:
    kind.write(tmp_path)
    store = kind.store(tmp_path, sleep=no_time)
    threads = [threading.Thread(target=lambda: asyncio.run(count(store, 5))) for _ in range(3)]
    for thread in threads:
        thread.start()
    await asyncio.gather(count(store, 5), count(kind.store(tmp_path, sleep=no_time), 5))
    for thread in threads:
        await asyncio.to_thread(thread.join)
    loaded = await store.load()
    assert loaded is not None
    assert loaded.extra["n"] == 25


async def test_a_second_lock_inside_the_first_waits(kind: Kind, tmp_path: Path) -> None:
    store = kind.store(tmp_path, sleep=no_time)
    async with store.locked():
        waiter = asyncio.create_task(store.save(OLD))
        other = asyncio.create_task(kind.store(tmp_path, sleep=no_time).save(OLD))
        for _ in range(20):
            await asyncio.sleep(0)
        await store.save(NEW)
        assert tokens(await store.load()) == tokens(NEW)
        assert not other.done()
    await asyncio.gather(waiter, other)
    assert tokens(await store.load()) == tokens(OLD)


async def test_a_task_started_inside_waits_once_outside(kind: Kind, tmp_path: Path) -> None:
    """It has a copy of the context in which the lock was held."""
    store = kind.store(tmp_path, sleep=no_time)
    left = asyncio.Event()

    async def later() -> None:
        await left.wait()
        await store.save(OLD)

    async with store.locked():
        task = asyncio.create_task(later())
        await asyncio.sleep(0)
    async with kind.store(tmp_path).locked():
        left.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert await store.load() is None
    await task
    assert tokens(await store.load()) == tokens(OLD)


async def test_a_cancelled_holder_leaves_nothing_behind(kind: Kind, tmp_path: Path) -> None:
    kind.write(tmp_path)
    store = kind.store(tmp_path, sleep=no_time)

    async def use() -> None:
        async with store.locked():
            await asyncio.sleep(0)
            await store.check_can_save()
            await store.save(NEW)
            await asyncio.sleep(0)

    for turns in range(8):
        task = asyncio.create_task(use())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert kind.names(tmp_path) == {kind.file}
        async with asyncio.timeout(5), store.locked():
            pass


async def test_a_cancelled_waiter_takes_nothing(kind: Kind, tmp_path: Path) -> None:
    for turns in range(6):
        async with kind.store(tmp_path).locked():
            waiter = asyncio.create_task(kind.store(tmp_path, sleep=no_time).save(NEW))
            for _ in range(turns):
                await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.gather(waiter, return_exceptions=True)
            assert not kind.path(tmp_path).exists()
        async with asyncio.timeout(5), kind.store(tmp_path, sleep=no_time).locked():
            pass


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


async def test_a_lock_that_can_never_be_had_is_an_error(kind: Kind, tmp_path: Path) -> None:
    kind.write(tmp_path)
    lock = tmp_path / kind.lock
    lock.parent.mkdir(exist_ok=True)
    if kind in (PI, KIMI_CODE):
        lock.touch()
        os.utime(lock, (1, 1))
    else:
        lock.mkdir()
    with pytest.raises(StoreError, match="cannot be had"):
        await kind.store(tmp_path, sleep=Waits()).save(NEW)


async def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("content")
    (tmp_path / OWN.lock).symlink_to("victim")
    with pytest.raises(StoreError, match="cannot be had"):
        await OWN.store(tmp_path).save(NEW)
    assert (tmp_path / "victim").read_text() == "content"


@pytest.mark.parametrize("kind", [OWN, KIMI_CLI], ids=lambda kind: kind.name)
async def test_a_lock_file_stays(kind: Kind, tmp_path: Path) -> None:
    """A lock on a removed file excludes no process that opens the path again."""
    async with kind.store(tmp_path).locked():
        inode = (tmp_path / kind.lock).stat().st_ino
    async with kind.store(tmp_path).locked():
        assert (tmp_path / kind.lock).stat().st_ino == inode
    assert (tmp_path / kind.lock).stat().st_mode & 0o777 == 0o600


async def test_lock_order_is_that_of_the_other_programs(tmp_path: Path) -> None:
    stores = [kind.store(tmp_path) for kind in KINDS]
    assert [type(store).__name__ for store in sorted(stores, key=lambda store: store.lock_order)] == [
        *("PiStore", "KimiCodeStore", "KimiCliStore", "FileStore")
    ]


# Another process -----------------------------------------------------------------------------------------------------

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
    assert peer.ask("lock") == "locked"
    waits = Waits({5: lambda: peer.ask("release")})
    async with kind.store(tmp_path, sleep=waits).locked():
        assert waits.count == 5
    assert peer.ask("lock") == "locked"
    peer.process.kill()
    peer.process.wait()
    async with asyncio.timeout(5):
        await kind.store(tmp_path).save(NEW)


# kimi-code's switch and places ---------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_kimi_codes_lock_switched_off_excludes_this_process(tmp_path: Path) -> None:
    off = {"KIMI_DISABLE_OAUTH_LOCK": "1"}
    KIMI_CODE.write(tmp_path)
    (tmp_path / "oauth" / "kimi-code.lock").mkdir(parents=True)
    stores = [KimiCodeStore(tmp_path, environ=off, sleep=no_time) for _ in range(3)]
    threads = [threading.Thread(target=lambda: asyncio.run(count(stores[2], 5))) for _ in range(2)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(count(store, 5) for store in stores))
    for thread in threads:
        await asyncio.to_thread(thread.join)
    loaded = await stores[0].load()
    assert loaded is not None
    assert loaded.extra["n"] == 25
    assert (tmp_path / "oauth" / "kimi-code.lock").is_dir(), "not ours to remove"


async def test_kimi_codes_lock_is_off_for_that_one_value_only(tmp_path: Path) -> None:
    async with KimiCodeStore(tmp_path, environ={"KIMI_DISABLE_OAUTH_LOCK": "true"}).locked():
        assert (tmp_path / "oauth" / "kimi-code.lock").is_dir()
