"""The laws, over generated streams, with times: what is seen, when, and what the source sees of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
import reactivex as rx
from hypothesis import example, given, settings
from reactivex import Observable, abc
from reactivex.testing import ReactiveTest, Recorded, TestScheduler
from reactivex.testing.coldobservable import ColdObservable

from rxauth import (
    NeverLiveError,
    buffer_until_live,
    flush_on_complete_or_error,
    recover_auth,
    retry_on_first_auth_error,
)

from .plain_model import End, Event, Expected, RefreshOutcome, Script, recovered

SUBSCRIBED, DISPOSED = 200, 1000

S = Event("start", "s")
A = Event("text_delta", "a")
B = Event("text_delta", "b")
E401 = Event("error", "e401", 401)
E500 = Event("error", "e500", 500)


class HTTPError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


AUTH, OTHER = HTTPError(401), HTTPError(500)

gaps = st.integers(0, 30)
events = st.sampled_from([S, S, A, B, E401, E500])
ends = st.sampled_from([End(), End(AUTH), End(OTHER), None])


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    at = 0
    script: list[tuple[int, Event | End]] = []
    for event in draw(st.lists(events, max_size=6)):
        at += draw(gaps)
        script.append((at, event))
    end = draw(ends)
    if end is not None:
        script.append((at + draw(gaps), end))
    return script


outcomes = st.builds(
    RefreshOutcome,
    delay=st.integers(0, 50),
    value=st.sampled_from(["fresh", None]),
    error=st.sampled_from([None, ValueError("no")]),
)


def recorded(script: Script) -> list[Recorded[Any]]:
    made: list[Recorded[Any]] = []
    for time, item in script:
        if not isinstance(item, End):
            made.append(ReactiveTest.on_next(time, item))
        elif item.error is not None:
            made.append(ReactiveTest.on_error(time, item.error))
        else:
            made.append(ReactiveTest.on_completed(time))
    return made


class World:
    """One run on a virtual clock: a source per attempt, a refresh, an observer."""

    def __init__(self, attempts: Sequence[Script], outcome: RefreshOutcome) -> None:
        self.scheduler = TestScheduler()
        self.sources: list[ColdObservable[Any]] = [
            self.scheduler.create_cold_observable(recorded(script)) for script in attempts
        ]
        self.subscribed = 0
        self.refreshes = 0
        self.outcome = outcome

    @property
    def source(self) -> Observable[Any]:
        def attempt(_: abc.SchedulerBase) -> Observable[Any]:
            number = self.subscribed
            self.subscribed += 1
            return self.sources[number]

        return rx.defer(attempt)

    def refresh(self, failure: Any) -> Any:
        self.refreshes += 1
        if self.outcome.delay:
            return self.scheduler.create_cold_observable(
                ReactiveTest.on_error(self.outcome.delay, self.outcome.error)
                if self.outcome.error
                else ReactiveTest.on_next(self.outcome.delay, self.outcome.value)
            )
        if self.outcome.error:
            raise self.outcome.error
        return self.outcome.value

    def run(self, *operators: Any) -> Expected:
        observer = self.scheduler.start(lambda: self.source.pipe(*operators))
        seen: list[tuple[int, Any]] = []
        for message in observer.messages:
            item: Any = message.value
            if item.kind != "N":
                item = End(getattr(item, "exception", None))
            seen.append((int(message.time), item.value if hasattr(item, "value") else item))
        times = [(each.subscribe, each.unsubscribe) for source in self.sources for each in source.subscriptions]
        return Expected(seen, times, self.refreshes)


def three(world: World, **options: Any) -> tuple[Any, ...]:
    held = {"max_held": options["max_held"]} if options else {}
    return (
        buffer_until_live(**held),
        retry_on_first_auth_error(world.refresh, timeout=500),
        flush_on_complete_or_error(),
    )


def fused(world: World, **options: Any) -> tuple[Any, ...]:
    return (recover_auth(world.refresh, timeout=500, **options),)


@pytest.mark.parametrize("pipe", [three, fused], ids=["the three operators", "recover_auth"])
@settings(max_examples=400, deadline=None)
@given(first=scripts(), second=scripts(), outcome=outcomes, max_held=st.integers(0, 3))
@example([(0, S), (1, E401)], [(0, S), (3, A), (4, End())], RefreshOutcome(2, "fresh"), 3)
@example([(1, End(AUTH))], [(1, End(AUTH))], RefreshOutcome(0, "fresh"), 3)
def test_a_recovered_stream_is_what_the_plain_model_says_to_the_tick(
    pipe: Callable[..., tuple[Any, ...]], first: Script, second: Script, outcome: RefreshOutcome, max_held: int
) -> None:
    world = World([first, second], outcome)
    seen = world.run(*pipe(world, max_held=max_held))
    assert seen == recovered([first, second], outcome, start=SUBSCRIBED, disposed=DISPOSED, max_held=max_held)


@settings(max_examples=200, deadline=None)
@given(script=scripts())
def test_transparency_nothing_is_lost_and_only_the_prelude_is_later(script: Script) -> None:
    world = World([script], RefreshOutcome(0))
    seen = world.run(buffer_until_live(), flush_on_complete_or_error())
    plain = World([script], RefreshOutcome(0)).run()

    cut = next((i for i, (_, item) in enumerate(plain.notifications) if item in (E401, E500)), None)
    live = next((i for i, (_, item) in enumerate(plain.notifications) if item in (A, B)), None)
    if cut is not None and (live is None or cut < live):  # an error event before live is the end
        plain.notifications[cut + 1 :] = [(plain.notifications[cut][0], End())]
    if live is None and not any(isinstance(item, End) for _, item in plain.notifications):
        assert seen.notifications == []  # still held when it was disposed
        return
    assert [item for _, item in seen.notifications] == [item for _, item in plain.notifications]
    proof = next((at for at, item in plain.notifications if item in (A, B) or isinstance(item, End)), None)
    for (at, item), (was, _) in zip(seen.notifications, plain.notifications, strict=True):
        assert at == (was if proof is None or was >= proof or item is not S else proof)


@settings(max_examples=200, deadline=None)
@given(script=scripts(), max_held=st.integers(0, 3))
def test_a_second_buffer_changes_nothing(script: Script, max_held: int) -> None:
    def run(*operators: Any) -> list[tuple[int, Any]]:
        seen = World([script], RefreshOutcome(0)).run(*operators).notifications
        return [(at, _plain(item)) for at, item in seen]

    once = run(buffer_until_live(max_held=max_held))
    assert run(buffer_until_live(max_held=max_held), buffer_until_live(max_held=max_held)) == once


def _plain(item: Any) -> Any:
    if isinstance(item, End) and isinstance(item.error, NeverLiveError):
        return item.error.held, item.error.failure
    return item
