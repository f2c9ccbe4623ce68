"""After a stream nothing of it is left: no task, no thread, no timer, no cycle around the credential, no secret shown.

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
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import reactivex as rx
import tenacity
from reactivex import Observable, abc
from reactivex.disposable import Disposable
from reactivex.testing import TestScheduler

from rxauth import (
    Credential,
    NeverLiveError,
    RefreshFailed,
    buffer_until_live,
    recover_auth,
    switch_if_never_live,
)
from rxauth.errors import CredentialRejected
from rxauth.events import AssistantMessage, Done, Error, Start, TextDelta

pytestmark = pytest.mark.slow

STREAMS = int(os.environ.get("RXAUTH_CASES", "4000"))
ACCESS, REFRESH, ECHOED = "canary-access", "canary-refresh", "canary-echoed"


class Failure(CredentialRejected):
    """Can be watched, and says what a careless provider's does: the token."""


class Rejecting:
    """A source whose first attempt is refused, with a failure that knows the credential."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.watched: list[weakref.ref[Any]] = []

    @property
    def source(self) -> Observable[Any]:
        return Observable(self.attempt)

    def attempt(self, observer: abc.ObserverBase[Any], _: Any = None) -> abc.DisposableBase:
        observer.on_next(Start())
        if self.watched:
            observer.on_next(TextDelta(0, "hello"))
            observer.on_completed()
        else:
            self.fail(observer)
        return Disposable()

    def fail(self, observer: abc.ObserverBase[Any]) -> None:
        failure = Failure(
            ECHOED, status=401, code=ECHOED, type=ECHOED, request_id=ECHOED, credential=Credential(ACCESS, REFRESH)
        )
        self.watched.append(weakref.ref(failure))
        if self.kind == "in-band":
            observer.on_next(Error("error", AssistantMessage(error_message=ECHOED), failure))
        else:
            observer.on_error(failure)

    def alive(self) -> int:
        return sum(each() is not None for each in self.watched)


def now(_: Any) -> Any:
    return "fresh"


def nothing(_: Any) -> Any:
    return None


def stream(_: Any) -> Any:
    return rx.of("fresh")


def raises(_: Any) -> Any:
    raise OSError("canary-refresh")


@contextmanager
def without_collections() -> Iterator[None]:
    """A failure that is gone in here has gone by itself: nothing held it in a cycle."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


def join_timers(before: set[threading.Thread]) -> None:
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize("kind", ["in-band", "thrown"])
@pytest.mark.parametrize("refresh", [now, nothing, stream], ids=["new", "none", "an Observable"])
def test_no_cycle_holds_the_failure_and_its_credential(kind: str, refresh: Any) -> None:
    rejecting, before = Rejecting(kind), set(threading.enumerate())
    with without_collections():
        rejecting.source.pipe(recover_auth(refresh)).subscribe(lambda _: None, lambda _: None)
        join_timers(before)
        assert rejecting.alive() == 0


@pytest.mark.parametrize("kind", ["in-band", "thrown"])
def test_a_refresh_that_raises_and_its_failure_are_collected(kind: str) -> None:
    """Its traceback holds the frame that was given the failure: Python's own cycle, and Python's own collection."""
    rejecting = Rejecting(kind)
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), reraise=True)
    rejecting.source.pipe(recover_auth(raises, retrying=policy)).subscribe(lambda _: None, lambda _: None)
    for _ in range(3):  # what a thread-local held goes in the round after it
        gc.collect()
    assert rejecting.alive() == 0


@pytest.mark.parametrize("kind", ["in-band", "thrown"])
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

    with without_collections():
        subscription = rejecting.source.pipe(recover_auth(refresh, retrying=policy, timeout=3000)).subscribe(
            lambda _: None, lambda _: over.set(), over.set
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


@pytest.mark.parametrize("refresh", [now, nothing], ids=["new", "none"])
def test_a_refresh_that_ends_at_once_starts_no_timer(refresh: Any) -> None:
    class Timerless(TestScheduler):
        def schedule_relative(self, *_: Any) -> Any:
            pytest.fail("a timer, which may be a thread")

    Rejecting("in-band").source.pipe(recover_auth(refresh)).subscribe(scheduler=Timerless())


def test_no_timer_thread_outlives_a_dispose() -> None:
    before = set(threading.enumerate())
    policy = tenacity.Retrying(wait=tenacity.wait_fixed(3600))
    rejecting = Rejecting("in-band")
    with without_collections():
        subscription = rejecting.source.pipe(recover_auth(raises, retrying=policy, timeout=7200)).subscribe()
        assert set(threading.enumerate()) - before
        subscription.dispose()
        del subscription
        join_timers(before)


@pytest.mark.slow
def test_memory_is_flat_over_many_streams() -> None:
    outcomes = [now, nothing, raises]
    silent = logging.getLogger("rxauth.recovery")
    silent.disabled = True
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(1), reraise=True)

    def run(streams: int) -> None:
        for number in range(streams):
            source = (
                Rejecting(("in-band", "thrown")[number % 2]).source
                if number % 3 == 0
                else rx.of(Start(), TextDelta(0, "hello"), Done("stop", AssistantMessage()))
            )
            source.pipe(recover_auth(outcomes[number // 3 % 3], retrying=policy)).subscribe(
                lambda _: None, lambda _: None
            )

    try:
        run(STREAMS // 4)
        gc.collect()
        tracemalloc.start()
        run(STREAMS // 4)
        gc.collect()
        first, _ = tracemalloc.get_traced_memory()
        run(STREAMS // 2)
        gc.collect()
        second, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        silent.disabled = False
    assert second - first < 64 * 1024


@pytest.mark.parametrize("kind", ["in-band", "thrown"])
@pytest.mark.parametrize("refresh", [now, nothing, raises], ids=["new", "none", "one that raises"])
def test_no_secret_is_logged_or_reported(kind: str, refresh: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    reported: list[Any] = []
    rejecting = Rejecting(kind)
    errors: list[Any] = []
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(2), reraise=True)
    rejecting.source.pipe(recover_auth(refresh, on_recovery=reported.append, retrying=policy)).subscribe(
        lambda _: None, errors.append
    )
    notes = [note for error in errors for note in getattr(error, "__notes__", ())]
    assert reported
    assert "canary" not in "".join(
        [caplog.text, *map(repr, reported), *map(str, reported), *map(str, vars_of(reported)), *notes]
    )


@pytest.mark.parametrize("kind", ["in-band", "thrown"])
def test_a_never_live_error_shows_no_text_of_its_failure(kind: str) -> None:
    errors: list[NeverLiveError] = []

    def other(error: NeverLiveError) -> Observable[Any]:
        errors.append(error)
        return rx.empty()

    Rejecting(kind).source.pipe(buffer_until_live(), switch_if_never_live(other)).subscribe()
    assert "Failure, status 401" in str(errors[0])
    assert "canary" not in str(errors[0]) + "".join(getattr(errors[0], "__notes__", ()))
    assert ACCESS not in repr(errors[0])
    assert REFRESH not in repr(errors[0])


def vars_of(reported: list[Any]) -> list[Any]:
    return [
        [getattr(each, name) for name in getattr(each, "__slots__", ())]
        + ([each.__cause__, each.__context__, each.__traceback__, each.args] if isinstance(each, RefreshFailed) else [])
        for each in reported
    ]
