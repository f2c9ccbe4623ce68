"""After a stream nothing of it is left: no task, no thread, no timer, no cycle around the credential.

`RXAUTH_CASES=100000 pytest -m slow --timeout=0 ...` soaks that many streams instead of four thousand.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import tracemalloc
import weakref
from typing import Any

import pytest
import reactivex as rx
import tenacity
from reactivex import Observable, abc
from reactivex.testing import TestScheduler

from rxauth import Credential, recover_auth
from rxauth.errors import CredentialRejected
from rxauth.events import AssistantMessage, Done, Error, Start, TextDelta

from .marble_table import one_after_the_other

pytestmark = pytest.mark.slow

STREAMS = int(os.environ.get("RXAUTH_CASES", "4000"))
TWICE = tenacity.Retrying(stop=tenacity.stop_after_attempt(2), reraise=True)


def raises(_: Any) -> Any:
    raise OSError


REFRESHES: dict[str, Any] = {
    "new": one_after_the_other("fresh"),
    "none": one_after_the_other(None),
    "an Observable": one_after_the_other(rx.of("fresh")),
    "one that raises": raises,
}


class Failure(CredentialRejected):
    """Can be watched."""


class Rejecting(Observable[Any]):
    """A source whose first attempt is refused, with a failure that knows the credential."""

    def __init__(self, kind: str) -> None:
        super().__init__(self.attempt)
        self.kind = kind
        self.watched: list[weakref.ref[Any]] = []

    def attempt(self, observer: abc.ObserverBase[Any], _: Any = None) -> Any:
        observer.on_next(Start())
        if self.watched:
            observer.on_next(TextDelta(0, "hello"))
            observer.on_completed()
        else:
            self.fail(observer)

    def fail(self, observer: abc.ObserverBase[Any]) -> None:
        failure = Failure("401", status=401, credential=Credential("access", "refresh"))
        self.watched.append(weakref.ref(failure))
        if self.kind == "in-band":
            observer.on_next(Error("error", AssistantMessage(), failure))
        else:
            observer.on_error(failure)

    def alive(self) -> int:
        return sum(each() is not None for each in self.watched)


def join_timers(before: set[threading.Thread]) -> None:
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


def ignore(*_: Any) -> None: ...


both_kinds = pytest.mark.parametrize("kind", ["in-band", "thrown"])


@pytest.mark.usefixtures("no_collections")
@both_kinds
@pytest.mark.parametrize("refresh", [*REFRESHES][:3])
def test_no_cycle_holds_the_failure_and_its_credential(kind: str, refresh: str) -> None:
    rejecting, before = Rejecting(kind), set(threading.enumerate())
    rejecting.pipe(recover_auth(REFRESHES[refresh])).subscribe(ignore, ignore)
    join_timers(before)
    assert rejecting.alive() == 0


@both_kinds
def test_a_refresh_that_raises_and_its_failure_are_collected(kind: str) -> None:
    """Its traceback holds the frame that was given the failure: Python's own cycle, and Python's own collection."""
    rejecting = Rejecting(kind)
    rejecting.pipe(recover_auth(raises, retrying=TWICE)).subscribe(ignore, ignore)
    for _ in range(3):  # what a thread-local held goes in the round after it
        gc.collect()
    assert rejecting.alive() == 0


@pytest.mark.usefixtures("no_collections")
@both_kinds
@pytest.mark.parametrize("end", ["refreshed", "none", "timed out", "disposed in a wait", "disposed in a try"])
@pytest.mark.looptime
async def test_a_loop_keeps_no_task_no_timer_and_no_cycle(kind: str, end: str) -> None:
    rejecting = Rejecting(kind)
    started, over, go = asyncio.Event(), asyncio.Event(), asyncio.Event()
    policy = tenacity.Retrying(wait=tenacity.wait_fixed(1000))

    async def refresh(_: Any) -> Any:
        started.set()
        if end == "disposed in a wait":
            raise OSError
        if end in ("timed out", "disposed in a try"):
            await go.wait()
        await asyncio.sleep(1)
        return "fresh" if end == "refreshed" else None

    subscription = rejecting.pipe(recover_auth(refresh, retrying=policy, timeout=3000)).subscribe(
        ignore, lambda _: over.set(), over.set
    )
    if end.startswith("disposed"):
        await started.wait()
        await asyncio.sleep(5)
        subscription.dispose()
    else:
        await over.wait()
    go.set()
    await asyncio.sleep(2)
    del subscription
    assert rejecting.alive() == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("refresh", ["new", "none"])
def test_a_refresh_that_ends_at_once_starts_no_timer(refresh: str) -> None:
    class Timerless(TestScheduler):
        def schedule_relative(self, *_: Any) -> Any:
            pytest.fail("a timer, which may be a thread")

    Rejecting("in-band").pipe(recover_auth(REFRESHES[refresh])).subscribe(scheduler=Timerless())


@pytest.mark.usefixtures("no_collections")
def test_no_timer_thread_outlives_a_dispose() -> None:
    before = set(threading.enumerate())
    policy = tenacity.Retrying(wait=tenacity.wait_fixed(3600))
    operator: Any = recover_auth(raises, retrying=policy, timeout=7200)
    subscription = Rejecting("in-band").pipe(operator).subscribe()
    assert set(threading.enumerate()) - before
    subscription.dispose()
    del subscription
    join_timers(before)


def test_memory_is_flat_over_many_streams(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)  # pytest keeps the records
    refreshes = [*REFRESHES.values()]
    live = rx.of(Start(), TextDelta(0, "hello"), Done("stop", AssistantMessage()))

    def traced(streams: int) -> int:
        for number in range(streams):
            source = Rejecting(("in-band", "thrown")[number % 2]) if number % 3 == 0 else live
            source.pipe(recover_auth(refreshes[number // 3 % 4], retrying=TWICE)).subscribe(ignore, ignore)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    traced(STREAMS // 4)
    tracemalloc.start()
    try:
        first = traced(STREAMS // 4)
        assert traced(STREAMS // 2) - first < 64 * 1024
    finally:
        tracemalloc.stop()
