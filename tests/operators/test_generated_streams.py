"""The laws, over generated streams, with times: what is seen and when, and what the source sees of it.

A small part of the cases runs in the default tier and many in the slow one. For as many new ones as you like:

    RXAUTH_CASES=100000 pytest -m slow --timeout=0 tests/operators/test_generated_streams.py
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from reactivex import Observable

from rxauth import (
    NeverLiveError,
    buffer_until_live,
    flush_on_complete_or_error,
    retry_on_first_auth_error,
    switch_if_never_live,
)

from .generated_cases import CALLBACKS, cases, share
from .generated_model import Model
from .generated_world import (
    AGAIN,
    BUSY,
    EARLIER,
    PING,
    REJECTED,
    START,
    TEXT,
    Attempt,
    Case,
    Ends,
    Try,
    World,
    fused,
    three,
)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """A hundred thousand recoveries are as many log records, and pytest keeps them all."""
    logger = logging.getLogger("rxauth")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


both = pytest.mark.parametrize("pipe", [three, fused], ids=["three operators", "recover_auth"])


def recover_auth_is_the_three_operators(case: Case) -> None:
    assert World(case).run(fused) == World(case).run(three)


def a_recovered_stream_is_what_the_model_says(case: Case) -> None:
    assert World(case).run(three) == Model(case).run()


def buffer_and_flush_are_transparent(case: Case) -> None:
    """The same elements and end; only the prelude is later, and an error event before live is the end."""
    case = Case((without_held(case.attempts[0]),))
    plain = World(case).run(lambda _: ()).seen
    first = next((i for i, (_, item) in enumerate(plain) if item not in (START, PING)), None)
    if first is None:
        expected = []  # still held
    else:
        at, item = plain[first]
        rest = [(at, Ends())] if item in (REJECTED, BUSY) else plain[first + 1 :]
        expected = [(at, each) for _, each in plain[: first + 1]] + rest
    assert World(case).run(lambda _: (buffer_until_live(), flush_on_complete_or_error())).seen == expected


def without_held(attempt: Attempt) -> Attempt:
    """A source of events and of exceptions that hold none."""

    def plain(item: Any) -> Any:
        held = isinstance(item, Ends) and item.error is not None and item.error.startswith("held")
        return Ends("other") if held else item

    later = tuple((gap, plain(item)) for gap, item in attempt.later)
    return dataclasses.replace(attempt, inside=tuple(map(plain, attempt.inside)), later=later, raises=None)


def a_second_buffer_changes_nothing(case: Case) -> None:
    def run(*operators: Any) -> list[tuple[int, Any]]:
        world = World(Case(case.attempts[:1]))
        seen = world.run(lambda _: operators).seen
        return [(at, contents(world, item.error) if isinstance(item, Ends) else item) for at, item in seen]

    buffer: Any = buffer_until_live(max_held=case.max_held)
    assert run(buffer, buffer) == run(buffer)


def contents(world: World, error: Any) -> Any:
    """A `NeverLiveError` of the source keeps its name."""
    known = world.exceptions.get(error, error)
    return (known.held, world.name(known.failure)) if isinstance(known, NeverLiveError) else error


LAWS = [
    recover_auth_is_the_three_operators,
    a_recovered_stream_is_what_the_model_says,
    buffer_and_flush_are_transparent,
    a_second_buffer_changes_nothing,
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@share(60)
@given(case=cases())
def test_law(law: Callable[[Case], None], case: Case) -> None:
    law(case)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@share(1500)
@given(case=cases())
def test_law_over_many_streams(law: Callable[[Case], None], case: Case) -> None:
    law(case)


answer = Attempt((START, TEXT, Ends()))


@both
@pytest.mark.parametrize(
    ("case", "seen"),
    [
        pytest.param(
            Case((Attempt((START, Ends("held, nested"))),), tries=(Try(value=None),)),
            [START, EARLIER, START, Ends("auth")],
            id="a NeverLiveError inside another is one with both's events",
        ),
        pytest.param(
            Case((Attempt((Ends("auth"),), raises="other"), answer)),
            [START, TEXT, Ends()],
            id="what attempt 1 raises behind its end does not end attempt 2",
        ),
        pytest.param(
            Case((Attempt((BUSY,), raises="other"),)),
            [BUSY, Ends()],
            id="what a source raises behind an error event is dropped",
        ),
        pytest.param(
            Case((Attempt((START, BUSY)),), throw_in=frozenset({1})),
            [START, Ends("Thrown")],
            id="what the consumer throws at an error event's flush is not swallowed",
        ),
        pytest.param(
            Case((Attempt((START, REJECTED)),), tries=(Try("stream", value=None),), throw_in=frozenset({1})),
            [START, Ends("Thrown")],
            id="nor is what it throws through a refresh that is an Observable",
        ),
        pytest.param(
            Case((Attempt((START, REJECTED)), Attempt((TEXT, Ends()))), throw_in=frozenset({1})),
            [TEXT, Ends("Thrown")],
            id="nor is what it throws out of attempt 2",
        ),
        pytest.param(
            Case((Attempt(later=((1, START), (1, TEXT))),), emit_in={1: Ends("other")}, throw_in=frozenset({1})),
            [START, Ends("other")],
            id="a consumer that ends the source and then throws still gets the end",
        ),
    ],
)
def test_a_case_that_was_wrong_once(pipe: Callable[[World], Any], case: Case, seen: list[Any]) -> None:
    log = World(case).run(pipe)
    assert [item for _, item in log.seen] == seen
    assert log == Model(case).run()


refused = Attempt(later=((1, START), (1, START), (1, REJECTED)))
alive = Attempt(later=((1, START), (1, START), (1, TEXT), (1, TEXT), (1, Ends("other"))))
RECOVERIES = {
    "a new credential": Case((refused, alive)),
    "one that takes its time": Case((refused, alive), tries=(Try("stream", 3),)),
    "after tries that failed": Case((refused, alive), tries=(Try(error="transient"), Try(error="transient"), Try())),
    "after tries that failed at once": Case((refused, alive), tries=(Try(error="transient"), Try()), wait=0),
    "none": Case((refused,), tries=(Try(value=None),)),
    "none, and it raises": Case((refused,), tries=(Try(error="final"),), error_event="made"),
    "none in time": Case((Attempt(later=((1, START), (1, Ends("auth")))),), tries=(Try("never"),), error_event="made"),
}


@pytest.mark.parametrize("recovery", RECOVERIES)
@pytest.mark.parametrize("callback", CALLBACKS)
@pytest.mark.parametrize("trouble", ["dispose_in", "raise_in"])
def test_a_dispose_or_a_raise_inside_any_callback(recovery: str, callback: str, trouble: str) -> None:
    for call in range(1, 7) if (trouble, callback) != ("raise_in", "on_next") else ():
        troubles: Any = {trouble: (callback, call)}
        case = dataclasses.replace(RECOVERIES[recovery], **troubles)
        assert World(case).run(fused) == Model(case).run()


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_a_dispose_at_any_tick(recovery: str) -> None:
    for tick in range(60):
        case = dataclasses.replace(RECOVERIES[recovery], dispose_at=tick)
        assert World(case).run(fused) == Model(case).run()


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_a_consumer_that_throws_at_any_event(recovery: str) -> None:
    for call in range(1, 7):
        for inside in (False, True):
            case = dataclasses.replace(RECOVERIES[recovery], throw_in=frozenset({call}))
            if inside:
                attempts = [Attempt(tuple(item for _, item in each.later)) for each in case.attempts]
                case = dataclasses.replace(case, attempts=tuple(attempts))
            assert World(case).run(fused) == Model(case).run()


@pytest.mark.parametrize("item", [AGAIN, REJECTED, Ends(), Ends("other")], ids=["event", "401", "completion", "error"])
@pytest.mark.parametrize("recovery", RECOVERIES)
def test_a_consumer_that_emits_into_the_source_at_any_event(recovery: str, item: Any) -> None:
    for call in range(1, 7):
        case = dataclasses.replace(RECOVERIES[recovery], emit_in={call: item})
        assert World(case).run(fused) == Model(case).run()


def test_the_source_is_disposed_before_its_failure_goes_on() -> None:
    def switching(world: World) -> Any:
        def other(_: Any) -> Observable[Any]:
            world.log.order.append("switch")
            return rx.empty()

        return buffer_until_live(), switch_if_never_live(other)

    log = World(Case((Attempt(later=((1, START), (1, BUSY))),))).run(switching)
    assert log.order == ["subscribe", "dispose", "switch"]


def test_retry_alone_swallows_no_exception_of_the_consumer() -> None:
    def alone(world: World) -> Any:
        return (retry_on_first_auth_error(world.refresh),)

    case = Case((Attempt((REJECTED,)),), tries=(Try(value=None),), throw_in=frozenset({1}))
    log = World(case).run(alone)
    assert [item for _, item in log.seen] == [REJECTED, Ends("Thrown")]


def test_a_judge_that_disposes_ends_everything() -> None:
    log = World(Case((Attempt(later=((1, REJECTED),)),), dispose_in=("is_auth_error", 1))).run(fused)
    assert (log.seen, log.reported, log.refreshed) == ([], [], [])
