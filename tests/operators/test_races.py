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

    def schedule(self, action: Any, state: Any = None) -> abc.DisposableBase:
        return self.schedule_relative(0, action, state)

    def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> abc.DisposableBase:
        cancelled = threading.Event()
        self.waiting.append(lambda: None if cancelled.is_set() else action(self, state))
        return Disposable(cancelled.set)

    def schedule_absolute(self, duetime: Any, action: Any, state: Any = None) -> abc.DisposableBase:
        return self.schedule_relative(duetime - self.now, action, state)


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
        options: Any = {
            "timeout": 60,
            "retrying": tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(1)),
        }
        self.subscription = (
            Observable(self.attempt)
            .pipe(recover_auth(self.refresh, **options))
            .subscribe(
                self.seen.append,
                lambda error: self.seen.append("#"),
                lambda: self.seen.append("|"),
                scheduler=self.scheduler,
            )
        )

    def attempt(self, observer: abc.ObserverBase[Any], _: Any = None) -> abc.DisposableBase:
        self.observers.append(observer)
        return Disposable()

    def refresh(self, failure: Any) -> Observable[Any]:
        def call(observer: abc.ObserverBase[Any], _: Any = None) -> abc.DisposableBase:
            self.refreshes.append(observer)
            return Disposable()

        return Observable(call)

    def emit(self, number: int) -> None:
        item = self.scripts[number].pop(0)
        if item == "|":
            self.observers[number].on_completed()
        else:
            self.observers[number].on_next(item)

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
        actions: list[Callable[[], None]] = []
        for number in range(len(self.observers)):
            if self.scripts[number]:
                actions.append(lambda number=number: self.emit(number))  # type: ignore[misc]
        if self.refreshes:
            actions += [self.settle, self.settle]
        for timer in list(self.scheduler.waiting):
            if self.dice.randrange(4) == 0:
                self.scheduler.waiting.remove(timer)
                actions.append(timer)
        self.dice.shuffle(actions)
        return actions


def after_a_while(spins: int, action: Callable[[], None]) -> None:
    for _ in range(spins):
        pass
    action()


@pytest.mark.parametrize("races", [60, pytest.param(RACES, marks=pytest.mark.slow)], ids=["a few", "many"])
def test_every_race_has_one_terminal_and_one_attempt_shown(races: int) -> None:
    dice = random.Random(20251123)
    ways: set[tuple[str, ...]] = set()
    with ThreadPoolExecutor(4) as threads:
        for _ in range(races):
            race = Race(dice)
            leaves = dice.randrange(12)
            for number in range(9):
                actions = race.possible()
                if number == leaves:
                    actions.append(race.dispose)
                together = actions[-4:]
                if not together:
                    continue
                barrier = threading.Barrier(len(together), timeout=30)

                def go(action: Callable[[], None], spins: int, barrier: threading.Barrier = barrier) -> None:
                    barrier.wait()
                    after_a_while(spins, action)

                for each in [threads.submit(go, action, dice.randrange(60)) for action in together]:
                    each.result(timeout=30)
            check(race)
            ways.add(tuple(map(str, race.seen)))
    assert {(), ("s", "e401", "|"), ("s", "of attempt 2", "|")} <= ways  # won by this one, and by that


def check(race: Race) -> None:
    seen = race.seen
    ends = [each for each in seen if each in ("|", "#")]
    assert len(ends) <= 1
    assert not ends or seen[-1] == ends[0]
    assert len(race.observers) <= 2
    shown = [each for each in seen if each not in ("|", "#")]
    assert shown in ([], [START], [START, REJECTED], [START, SECOND])
    if SECOND in shown:
        assert len(race.observers) == 2
    if REJECTED in shown and not race.left:
        assert ends == ["|"]


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
        attempts: list[int] = []

        def attempt(_: Any, attempts: list[int] = attempts) -> Observable[Any]:
            attempts.append(1)
            return rx.of(*(START, REJECTED) if len(attempts) == 1 else (START, SECOND))

        subscription = rx.defer(attempt).pipe(recover_auth(refresh)).subscribe(seen.append)
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

    def waits() -> abc.DisposableBase:
        failing = rx.concat(rx.of(START, REJECTED))
        policy = tenacity.Retrying(wait=tenacity.wait_fixed(3600))

        def refresh(_: Any) -> Any:
            raise OSError

        return failing.pipe(recover_auth(refresh, retrying=policy, timeout=7200)).subscribe()

    async def make() -> abc.DisposableBase:
        return waits()

    def dispose(subscription: abc.DisposableBase) -> None:
        barrier.wait()  # both loops stand in a callback, and neither turns
        subscription.dispose()
        barrier.wait()

    mine = waits()
    others = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make(), there))
    there.call_soon_threadsafe(dispose, mine)
    await asyncio.sleep(0)
    dispose(others)
    there.call_soon_threadsafe(there.stop)
    await asyncio.to_thread(thread.join, 30)
    there.close()
    assert not thread.is_alive()
