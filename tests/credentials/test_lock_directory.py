"""The lock directory, by the protocol of npm's proper-lockfile, in virtual time."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials import PiStore
from rxauth.errors import StoreError
from tests.credentials.kinds import KIMI_CODE, NEW, PI, Kind, Waits


class Clock:
    """Unix time, moved by hand."""

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def __call__(self) -> float:
        return time.time() + self.offset

    def moves_to(self, offset: float) -> Callable[[], None]:
        return lambda: setattr(self, "offset", offset)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / PI.lock


@asynccontextmanager
async def locked(lock: Path, **options: Any) -> AsyncIterator[PiStore]:
    async with (store := PI.store(lock.parent, **options)).locked():
        yield store


@pytest.mark.looptime
@pytest.mark.parametrize(("kind", "every"), [(PI, 2.0), (KIMI_CODE, 1.0)], ids=["pi", "kimi-code"])
async def test_lock_shows_a_sign_of_life(kind: Kind, every: float, tmp_path: Path) -> None:
    """At least two within the shortest stale time of the other program: 10 s for pi's synchronous calls."""
    clock = Clock()
    async with kind.store(tmp_path, clock=clock).locked():
        for _ in range(20):
            clock.offset += every
            await asyncio.sleep(every + 0.01)
            assert clock() - (tmp_path / kind.lock).stat().st_mtime < every + 0.5
    assert not (tmp_path / kind.lock).exists()


@pytest.mark.parametrize(("kind", "stale"), [(PI, 30.0), (KIMI_CODE, 5.0)], ids=["pi", "kimi-code"])
async def test_a_dead_holders_lock_is_free_after_its_stale_time(kind: Kind, stale: float, tmp_path: Path) -> None:
    (tmp_path / kind.lock).mkdir(parents=True)
    clock = Clock()
    waits = Waits({5: clock.moves_to(stale - 1), 10: clock.moves_to(stale + 1)})
    async with kind.store(tmp_path, clock=clock, sleep=waits).locked():
        assert waits.count == 11, "ten looks, and a moment to see whether another took it at the same time"
    assert not (tmp_path / kind.lock).exists()


@pytest.mark.looptime
async def test_a_dead_holders_lock_is_free_after_a_clock_set_back(lock: Path) -> None:
    lock.mkdir()
    loop = asyncio.get_running_loop()
    before = loop.time()
    async with locked(lock, clock=Clock(-86400)):
        assert 30 < loop.time() - before < 31


async def test_a_takeover_that_is_cancelled_leaves_no_lock(lock: Path) -> None:
    lock.mkdir()
    settling = asyncio.Event()

    async def settle(seconds: float) -> None:
        settling.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(locked(lock, clock=Clock(31), sleep=settle).__aenter__())
    await settling.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not lock.exists()


async def test_a_takeover_by_two_is_won_by_one(lock: Path) -> None:
    """The slower one removes the directory that the faster one has just made: the faster one notices."""
    lock.mkdir()
    clock = Clock(31)

    def the_slower_one_comes() -> None:
        lock.rmdir()
        lock.mkdir()
        os.utime(lock, (clock(), clock()))

    waits = Waits({1: the_slower_one_comes, 9: lock.rmdir})
    async with locked(lock, clock=clock, sleep=waits):
        assert waits.count >= 9


def next_descriptor(directory: Path) -> int:
    os.close(free := os.open(directory, os.O_RDONLY))
    return free


async def test_a_lock_leaves_no_open_file_behind(lock: Path) -> None:
    before = next_descriptor(lock.parent)
    for _ in range(3):
        async with locked(lock):
            pass
    assert next_descriptor(lock.parent) == before


async def test_a_process_without_free_descriptors_leaves_no_lock(lock: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    acquiring = locked(lock).__aenter__()
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_descriptor(lock.parent), limits[1]))
    try:
        with pytest.raises(StoreError, match="cannot be had: Too many open files"):
            await acquiring
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not lock.exists()


async def test_an_overslept_lock_is_renewed_before_a_save(lock: Path) -> None:
    clock = Clock()
    async with locked(lock, clock=clock, sleep=Waits()) as store:
        clock.offset = 3600
        await store.save(NEW)
        assert clock() - lock.stat().st_mtime < 5
    assert await store.load() is not None


@pytest.mark.parametrize("overslept", [False, True])
async def test_a_lock_that_another_takes_is_lost(overslept: bool, lock: Path) -> None:
    """A directory that two took for theirs is the last toucher's."""
    clock = Clock()

    def another_takes_it() -> None:
        lock.rmdir()
        lock.mkdir()

    async with locked(lock, clock=clock, sleep=Waits({1: another_takes_it})) as store:
        if overslept:
            clock.offset = 3600
        else:
            os.utime(lock, (1, 1))
        with pytest.raises(StoreError, match="lost"):
            await store.save(NEW)
    assert lock.is_dir(), "the other's"
    assert await store.load() is None
