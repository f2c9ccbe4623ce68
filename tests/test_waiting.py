"""Loops, clocks and contexts: where an action runs, when, and with which context variables."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
import reactivex as rx
from reactivex import abc
from reactivex.scheduler import (
    CurrentThreadScheduler,
    ImmediateScheduler,
    NewThreadScheduler,
    TimeoutScheduler,
    TrampolineScheduler,
)
from reactivex.scheduler.eventloop import AsyncIOScheduler, AsyncIOThreadSafeScheduler
from reactivex.subject import Subject

from rxauth.waiting import Subscriber, seconds_on, settle, waiting_scheduler


def in_a_thread(action: Callable[[], object]) -> None:
    thread = threading.Thread(target=action)
    thread.start()
    thread.join(10)


def closed_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.close()
    return loop


class Collected:
    """An outcome that keeps what it receives."""

    def __init__(self) -> None:
        self.received: list[Any] = []

    def succeeded(self, result: Any) -> None:
        self.received.append(result)

    def failed(self, error: Exception) -> None:
        self.received.append(error)


def test_a_subscriber_runs_a_call_inside_another() -> None:
    """A second try of a refresh may block on one thread while the timeout is reported on another."""
    subscriber = Subscriber()
    assert subscriber.run(subscriber.run, lambda: "the inner result") == "the inner result"


class TestSettle:
    async def settled(self, result: Any) -> Any:
        outcome = Collected()
        settle(result, asyncio.get_running_loop(), outcome)
        while not outcome.received:
            await asyncio.sleep(0)
        (received,) = outcome.received
        return received

    async def test_waits_for_a_value_an_awaitable_and_an_observable(self) -> None:
        async def coroutine() -> int:
            return 2

        future = asyncio.get_running_loop().create_future()
        future.set_result(3)
        results = [await self.settled(each) for each in (1, coroutine(), future, rx.of(4, 5), rx.empty())]
        assert results == [1, 2, 3, 4, None]

    class Stop(BaseException):
        pass

    @pytest.mark.parametrize(
        ("raised", "text"),
        [(ValueError("no"), "no"), (asyncio.CancelledError(), "cancelled"), (Stop(), "It ended with Stop")],
    )
    @pytest.mark.parametrize("kind", ["coroutine", "observable"])
    async def test_reports_any_exception_as_an_exception(self, kind: str, raised: Any, text: str) -> None:
        async def coroutine() -> None:
            raise raised

        def emit(observer: Any, _: Any) -> Any:
            observer.on_error(raised)

        error = await self.settled(coroutine() if kind == "coroutine" else rx.create(emit))
        assert isinstance(error, Exception)
        assert text in str(error)

    @pytest.mark.parametrize("loop", [None, closed_loop()], ids=["no loop", "a closed loop"])
    def test_refuses_a_coroutine_without_a_loop(self, loop: Any) -> None:
        """And leaves no warning of a coroutine that was never awaited: warnings are errors here."""

        async def coroutine() -> None: ...

        outcome = Collected()
        settle(coroutine(), loop, outcome)
        gc.collect()
        assert "event loop" in str(outcome.received[0])

    def test_disposes_an_observable_after_its_first_element(self) -> None:
        source: Subject[int] = Subject()
        outcome = Collected()
        settle(source, None, outcome)
        source.on_next(1)
        assert source.observers == []
        source.on_next(2)
        assert outcome.received == [1]

    def test_passes_the_exception_of_its_outcome_through(self) -> None:
        class Raising(Collected):
            def succeeded(self, result: Any) -> None:
                super().succeeded(result)
                raise LookupError("the outcome's own")

        def emit(observer: Any, _: Any) -> Any:
            observer.on_next(5)

        outcome = Raising()
        with pytest.raises(LookupError, match="the outcome's own"):
            settle(rx.create(emit), None, outcome)
        assert outcome.received == [5]


class TestWaitingScheduler:
    @pytest.mark.parametrize(
        "given", [None, CurrentThreadScheduler.singleton(), ImmediateScheduler.singleton(), TrampolineScheduler()]
    )
    def test_prefers_the_loop_to_one_that_cannot_wait(self, given: Any) -> None:
        loop = asyncio.new_event_loop()
        try:
            assert isinstance(waiting_scheduler(given, loop), AsyncIOScheduler)
        finally:
            loop.close()
        assert isinstance(waiting_scheduler(given, None), TimeoutScheduler)
        assert isinstance(waiting_scheduler(given, loop), TimeoutScheduler)

    @pytest.mark.looptime
    @pytest.mark.parametrize("ask", [lambda action: action(), in_a_thread], ids=["the loop's thread", "another"])
    @pytest.mark.parametrize("dispose", [False, True], ids=["it fires", "it is disposed"])
    async def test_waits_on_the_loop_from_any_thread(self, ask: Callable[..., None], dispose: bool) -> None:
        loop = asyncio.get_running_loop()
        scheduler = waiting_scheduler(None, loop)
        fired: list[tuple[int, Any]] = []
        waits: list[abc.DisposableBase] = []
        began = loop.time()

        def fire(*_: Any) -> None:
            fired.append((threading.get_ident(), pytest.approx(loop.time() - began, abs=0.01)))

        ask(lambda: waits.append(scheduler.schedule_relative(5, fire)))
        if dispose:
            ask(waits[0].dispose)
        await asyncio.sleep(10)
        assert fired == ([] if dispose else [(threading.get_ident(), 5)])

    def test_dispose_waits_for_no_loop(self) -> None:
        """The loop does not run: a dispose that waited for it would not return."""
        loop = asyncio.new_event_loop()
        wait = waiting_scheduler(None, loop).schedule_relative(5, lambda *_: None)
        wait.dispose()
        loop.close()
        wait.dispose()

    def test_falls_back_to_a_thread_if_the_loop_closes(self) -> None:
        loop, fired = asyncio.new_event_loop(), threading.Event()
        scheduler = waiting_scheduler(None, loop)
        loop.close()
        scheduler.schedule_relative(0.001, lambda *_: fired.set())
        assert fired.wait(10)


class TestSecondsOn:
    @pytest.mark.looptime
    @pytest.mark.parametrize("kind", [AsyncIOScheduler, AsyncIOThreadSafeScheduler, None])
    async def test_is_the_loops_time_on_a_loop(self, kind: Any) -> None:
        loop = asyncio.get_running_loop()
        scheduler = waiting_scheduler(kind(loop) if kind is not None else None, loop)
        before = seconds_on(scheduler)
        await asyncio.sleep(3600)
        assert seconds_on(scheduler) - before == pytest.approx(3600, abs=1)

    @pytest.mark.parametrize("kind", [TimeoutScheduler, NewThreadScheduler])
    def test_is_not_the_wall_clock_on_a_thread(self, kind: type[Any]) -> None:
        class Set(kind):  # type: ignore[misc]
            def to_seconds(self, value: Any) -> float:
                raise AssertionError("the wall clock was read")

        before = seconds_on(Set())
        assert 0 <= seconds_on(Set()) - before < 60
