"""The locks of the stores in JSON files."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from pathlib import Path

import pytest

from rxauth.credentials import KimiCodeStore
from rxauth.errors import StoreError
from tests.credentials.faulty_files import FaultyFiles
from tests.credentials.kinds import KIMI_CLI, KIMI_CODE, KINDS, NEW, OWN, PI, Kind, Waits, count, counted, no_time


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
    class Robbed(FaultyFiles):
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
    assert KIMI_CODE.names(tmp_path) == {KIMI_CODE.file}, "theirs gets no lock file of ours"


# flock ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [OWN, KIMI_CLI], ids=lambda kind: kind.name)
async def test_flock_excludes_who_opens_the_file_too(kind: Kind, tmp_path: Path) -> None:
    """Such a lock belongs to an open file, and not to a process: kimi-cli's is as good as one of this process."""
    lock = tmp_path / kind.lock
    async with kind.store(tmp_path).locked():
        theirs = lock.open("rb")
        with pytest.raises(BlockingIOError):
            fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert lock.stat().st_mode & 0o777 == 0o600
    fcntl.flock(theirs, fcntl.LOCK_EX)
    waits = Waits({5: theirs.close})
    async with kind.store(tmp_path, sleep=waits).locked():
        assert waits.count == 5


@pytest.mark.parametrize("kind", [OWN, KIMI_CLI], ids=lambda kind: kind.name)
async def test_a_lock_file_stays(kind: Kind, tmp_path: Path) -> None:
    """A lock on a removed file excludes no process that opens the path again."""
    inodes = set()
    for _ in range(2):
        async with kind.store(tmp_path).locked():
            inodes.add((tmp_path / kind.lock).stat().st_ino)
    assert len(inodes) == 1
    assert (tmp_path / kind.lock).exists()
