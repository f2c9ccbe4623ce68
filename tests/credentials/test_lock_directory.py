"""The lock directory, by the protocol of npm's proper-lockfile, in virtual time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials._stores._locks import LockDirectory
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
def path(tmp_path: Path) -> Path:
    return tmp_path / "auth.json.lock"


def lock(path: Path, **options: Any) -> Any:
    class _L:
        async def acquire(self) -> LockDirectory:
            made = LockDirectory(path, **({"stale": 30.0, "update": 2.0} | options))
            await made.acquire()
            return made

    return _L()


async def test_lock_is_a_directory_that_goes_away(path: Path) -> None:
    held = await lock(path).acquire()
    assert path.is_dir()
    held.release()
    held.release()
    assert not path.exists()


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


@pytest.mark.parametrize(("kind", "stale"), [(PI, 30.0), (KIMI_CODE, 5.0)], ids=["pi", "kimi-code"])
async def test_a_dead_holders_lock_is_free_after_its_stale_time(kind: Kind, stale: float, tmp_path: Path) -> None:
    (tmp_path / kind.lock).mkdir(parents=True)
    clock = Clock()
    waits = Waits({5: clock.moves_to(stale - 1), 10: clock.moves_to(stale + 1)})
    async with kind.store(tmp_path, clock=clock, sleep=waits).locked():
        assert waits.count == 11, "ten looks, and a moment to see whether another took it at the same time"
    assert not (tmp_path / kind.lock).exists()


@pytest.mark.looptime
async def test_a_dead_holders_lock_is_free_after_a_clock_set_back(path: Path) -> None:
    path.mkdir()
    loop = asyncio.get_running_loop()
    before = loop.time()
    held = await lock(path, clock=Clock(-86400)).acquire()
    assert 30 < loop.time() - before < 31
    held.release()


async def test_a_killed_processs_lock_is_free_after_its_stale_time(tmp_path: Path) -> None:
    script = f"""
import asyncio
from rxauth.credentials import PiStore
async def main():
    async with PiStore({str(tmp_path / "auth.json")!r}).locked():
        print("held", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout
    assert await asyncio.to_thread(process.stdout.readline) == b"held\n"
    process.kill()
    process.communicate()
    assert (tmp_path / PI.lock).is_dir()
    clock = Clock()
    async with PI.store(tmp_path, clock=clock, sleep=Waits({3: clock.moves_to(31)})).locked():
        pass
    assert not (tmp_path / PI.lock).exists()


async def test_a_takeover_that_is_cancelled_leaves_no_lock(path: Path) -> None:
    path.mkdir()
    settling = asyncio.Event()

    async def settle(seconds: float) -> None:
        settling.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(lock(path, clock=Clock(31), sleep=settle).acquire())
    await settling.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not path.exists()


async def test_a_takeover_by_two_is_won_by_one(path: Path) -> None:
    """The slower one removes the directory that the faster one has just made: the faster one notices."""
    path.mkdir()
    clock = Clock(31)

    def the_slower_one_comes() -> None:
        path.rmdir()
        path.mkdir()
        os.utime(path, (clock(), clock()))

    waits = Waits({1: the_slower_one_comes, 9: path.rmdir})
    held = await lock(path, clock=clock, sleep=waits).acquire()
    assert waits.count >= 9
    held.release()


async def test_a_lock_leaves_no_open_file_behind(path: Path) -> None:
    def next_descriptor() -> int:
        os.close(free := os.open(path.parent, os.O_RDONLY))
        return free

    before = next_descriptor()
    for _ in range(3):
        (await lock(path).acquire()).release()
    assert next_descriptor() == before


async def test_an_overslept_lock_is_renewed_before_a_save(tmp_path: Path) -> None:
    clock = Clock()
    store = PI.store(tmp_path, clock=clock, sleep=Waits())
    async with store.locked():
        clock.offset = 3600
        await store.save(NEW)
        assert clock() - (tmp_path / PI.lock).stat().st_mtime < 5
    assert await store.load() is not None


async def test_an_overslept_lock_that_another_takes_is_lost(path: Path) -> None:
    clock = Clock()

    def another_takes_it() -> None:
        path.rmdir()
        path.mkdir()

    held = await lock(path, clock=clock, sleep=Waits({1: another_takes_it})).acquire()
    clock.offset = 3600
    with pytest.raises(StoreError, match="lost"):
        await held.confirm()
    held.release()
    assert path.is_dir(), "the other's"


async def test_a_touch_by_another_loses_the_lock(path: Path) -> None:
    """A directory that two took for theirs is the last toucher's."""
    held = await lock(path).acquire()
    held.check()
    os.utime(path, (1, 1))
    with pytest.raises(StoreError, match="lost"):
        held.check()
    held.release()


@pytest.mark.parametrize("odd", ["a file", "a link to nowhere", "not empty"])
async def test_a_lock_that_can_never_be_had_is_an_error(odd: str, path: Path) -> None:
    if odd == "a file":
        path.touch()
    elif odd == "not empty":
        (path / "x").mkdir(parents=True)
    else:
        path.symlink_to("nowhere")
    with pytest.raises(StoreError, match="cannot be had"):
        await lock(path, clock=Clock(31), sleep=Waits()).acquire()
