"""Races: a source, a refresh, timers and a dispose, each on a thread of its own, all started at once.

No thread sleeps: they meet at a barrier, and the interpreter switches between them as often as it can.
`RXAUTH_CASES=100000 pytest -m slow` runs that many races instead of a thousand.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import reactivex as rx
import tenacity
from reactivex import Observable, abc
from reactivex.disposable import Disposable
from reactivex.scheduler.scheduler import Scheduler

from rxauth import recover_auth

from .cases import REJECTED, START, Event

RACES = int(os.environ.get("RXAUTH_CASES", "1000"))
SECOND = Event("text_delta", "of attempt 2")


@pytest.fixture(autouse=True)
def switching_as_often_as_it_can() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class ByHand(Scheduler):
    """Its timers fire when a test says so, on the thread that says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[], Any]] = []

    def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> abc.DisposableBase:
        cancelled = threading.Event()
        self.waiting.append(lambda: None if cancelled.is_set() else action(self, state))
        return Disposable(cancelled.set)

    schedule = schedule_absolute = schedule_relative  # type: ignore[assignment]


def noting(observers: list[abc.ObserverBase[Any]]) -> Observable[Any]:
    """Make a source that emits what a test sends to its observers."""

    def subscribe(observer: abc.ObserverBase[Any], _: Any = None) -> abc.DisposableBase:
        observers.append(observer)
        return Disposable()

    return Observable(subscribe)


class Race:
    """One stream, and everything that can happen to it next."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.scheduler = ByHand()
        self.observers: list[abc.ObserverBase[Any]] = []
        self.refreshes: list[abc.ObserverBase[Any]] = []
        self.seen: list[Any] = []
        self.left = False
        self.scripts: list[list[Any]] = [[START, REJECTED, START], [START, SECOND, "|"]]
        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(1))
        refreshed = noting(self.refreshes)
        recovered = noting(self.observers).pipe(recover_auth(lambda _: refreshed, retrying=policy))
        self.subscription = recovered.subscribe(
            self.seen.append,
            lambda error: self.seen.append("#"),
            lambda: self.seen.append("|"),
            scheduler=self.scheduler,
        )

    def emit(self, number: int) -> None:
        item, observer = self.scripts[number].pop(0), self.observers[number]
        observer.on_completed() if item == "|" else observer.on_next(item)

    def settle(self) -> None:
        observer = self.refreshes[-1]
        match self.dice.randrange(4):
            case 0:
                observer.on_error(OSError())
            case 1:
                observer.on_completed()
            case _:
                observer.on_next("fresh")

    def dispose(self) -> None:
        self.left = True
        self.subscription.dispose()

    def possible(self) -> list[Callable[[], None]]:
        """One source emits from one thread at a time, as Rx's grammar demands; all else is free."""
        emitting = [number for number in range(len(self.observers)) if self.scripts[number]]
        actions: list[Callable[[], None]] = [partial(self.emit, number) for number in emitting]
        if self.refreshes:
            actions += [self.settle, self.settle]
        for timer in list(self.scheduler.waiting):
            if self.dice.randrange(4) == 0:
                self.scheduler.waiting.remove(timer)
                actions.append(timer)
        self.dice.shuffle(actions)
        return actions

    def check(self) -> None:
        """There is one terminal, after which nothing comes, and nothing of attempt 1 beside attempt 2."""
        ends = [each for each in self.seen if each in ("|", "#")]
        shown = [each for each in self.seen if each not in ("|", "#")]
        assert ends in ([], self.seen[-1:])
        assert shown in ([], [START], [START, REJECTED], [START, SECOND])
        assert len(self.observers) == 2 if SECOND in shown else len(self.observers) <= 2
        assert ends == ["|"] or REJECTED not in shown or self.left


def after_a_while(spins: int, action: Callable[[], None]) -> None:
    for _ in range(spins):
        pass
    action()


@pytest.mark.parametrize("races", [60, pytest.param(RACES, marks=pytest.mark.slow)], ids=["a few", "many"])
def test_every_race_has_one_terminal_and_one_attempt_shown(races: int) -> None:
    dice = random.Random(20251123)
    ways: set[tuple[str, ...]] = set()

    def go(action: Callable[[], None], spins: int, barrier: threading.Barrier) -> None:
        barrier.wait()
        after_a_while(spins, action)

    with ThreadPoolExecutor(4) as threads:
        for _ in range(races):
            race = Race(dice)
            leaves = dice.randrange(12)
            for number in range(9):
                actions = race.possible() + ([race.dispose] if number == leaves else [])
                together = actions[-4:]
                barrier = threading.Barrier(max(len(together), 1), timeout=30)
                for each in [threads.submit(go, action, dice.randrange(60), barrier) for action in together]:
                    each.result(timeout=30)
            race.check()
            ways.add(tuple(map(str, race.seen)))
    assert {(), ("s", "e401", "|"), ("s", "of attempt 2", "|")} <= ways  # won by this one, and by that


async def test_a_dispose_from_a_thread_stops_neither_loop_nor_try() -> None:
    """The refresh is a coroutine on the loop; the dispose comes while it starts, runs, ends, or is followed."""
    loop = asyncio.get_running_loop()
    dice = random.Random(7)
    began = ended = 0

    async def refresh(failure: Any) -> str:
        nonlocal began, ended
        began += 1
        for _ in range(dice.randrange(3)):
            await asyncio.sleep(0)
        ended += 1
        return "fresh"

    for _ in range(60):
        seen: list[Any] = []
        attempts = iter([(START, REJECTED), (START, SECOND)])
        stream = rx.defer(lambda _, attempts=attempts: rx.of(*next(attempts)))  # type: ignore[misc]
        subscription = stream.pipe(recover_auth(refresh)).subscribe(seen.append)
        await loop.run_in_executor(None, after_a_while, dice.randrange(2000), subscription.dispose)
        for _ in range(6):
            await asyncio.sleep(0)
        assert seen in ([], [START], [START, SECOND])
    assert began == ended == 60
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_two_loops_can_dispose_each_others_waits() -> None:
    """RxPY's own thread-safe scheduler waits for the other loop, which waits for this one."""
    there = asyncio.new_event_loop()
    thread = threading.Thread(target=there.run_forever)
    thread.start()
    barrier = threading.Barrier(2, timeout=30)

    async def waits() -> abc.DisposableBase:
        def refresh(_: Any) -> Any:
            raise OSError

        policy = tenacity.Retrying(wait=tenacity.wait_fixed(3600))
        return rx.of(START, REJECTED).pipe(recover_auth(refresh, retrying=policy, timeout=7200)).subscribe()

    def dispose(subscription: abc.DisposableBase) -> None:
        barrier.wait()  # both loops stand in a callback, and neither turns
        subscription.dispose()
        barrier.wait()

    mine = await waits()
    others = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(waits(), there))
    there.call_soon_threadsafe(dispose, mine)
    await asyncio.sleep(0)
    dispose(others)
    there.call_soon_threadsafe(there.stop)
    await asyncio.to_thread(thread.join, 30)
    there.close()
    assert not thread.is_alive()
