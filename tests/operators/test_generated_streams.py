"""Generated streams, against the law and against a plain model.

The same few hundred cases run every time. For new ones, as many as you like:

    RXAUTH_CASES=100000 pytest --timeout=0 tests/operators/test_generated_streams.py
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

from rxauth import buffer_until_live, retry_on_first_auth_error, switch_if_never_live

from .generated_model import Model
from .generated_world import (
    AGAIN,
    BUSY,
    CALLBACKS,
    EARLIER,
    REJECTED,
    START,
    TEXT,
    Attempt,
    Case,
    Ends,
    Try,
    World,
    cases,
    fused,
    share,
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


@share(700)
@given(case=cases())
def test_recover_auth_is_the_three_operators_whatever_happens(case: Case) -> None:
    assert World(case).run(fused) == World(case).run(three)


@share(700)
@given(case=cases())
def test_a_recovered_stream_is_what_the_plain_model_says_to_the_tick(case: Case) -> None:
    assert World(case).run(three) == Model(case).run()


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
            id="a consumer that ends the source and then throws is told of the end",
        ),
    ],
)
def test_what_was_wrong_once(pipe: Callable[[World], Any], case: Case, seen: list[Any]) -> None:
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


@both
@pytest.mark.parametrize("recovery", RECOVERIES)
@pytest.mark.parametrize("callback", CALLBACKS)
@pytest.mark.parametrize("trouble", ["dispose_in", "raise_in"])
def test_a_dispose_or_a_raise_inside_any_call_of_any_callback(
    pipe: Callable[[World], Any], recovery: str, callback: str, trouble: str
) -> None:
    for call in range(1, 7) if (trouble, callback) != ("raise_in", "on_next") else ():
        troubles: Any = {trouble: (callback, call)}
        case = dataclasses.replace(RECOVERIES[recovery], **troubles)
        assert World(case).run(pipe) == Model(case).run()


@both
@pytest.mark.parametrize("recovery", RECOVERIES)
def test_a_dispose_at_any_tick(pipe: Callable[[World], Any], recovery: str) -> None:
    for tick in range(60):
        case = dataclasses.replace(RECOVERIES[recovery], dispose_at=tick)
        assert World(case).run(pipe) == Model(case).run()


@both
@pytest.mark.parametrize("recovery", RECOVERIES)
def test_a_consumer_that_throws_at_any_event(pipe: Callable[[World], Any], recovery: str) -> None:
    for call in range(1, 7):
        for inside in (False, True):
            case = dataclasses.replace(RECOVERIES[recovery], throw_in=frozenset({call}))
            if inside:
                attempts = [Attempt(tuple(item for _, item in each.later)) for each in case.attempts]
                case = dataclasses.replace(case, attempts=tuple(attempts))
            assert World(case).run(pipe) == Model(case).run()


@both
@pytest.mark.parametrize("item", [AGAIN, REJECTED, Ends(), Ends("other")], ids=["event", "401", "completion", "error"])
@pytest.mark.parametrize("recovery", RECOVERIES)
def test_a_consumer_that_emits_into_the_source_at_any_event(
    pipe: Callable[[World], Any], recovery: str, item: Any
) -> None:
    for call in range(1, 7):
        case = dataclasses.replace(RECOVERIES[recovery], emit_in={call: item})
        assert World(case).run(pipe) == Model(case).run()


def test_the_source_is_disposed_before_its_failure_is_told() -> None:
    def switching(world: World) -> Any:
        def other(_: Any) -> Observable[Any]:
            world.log.order.append("switch")
            return rx.empty()

        return buffer_until_live(), switch_if_never_live(other)

    log = World(Case((Attempt(later=((1, START), (1, BUSY))),))).run(switching)
    assert log.order == ["subscribe", "dispose", "switch"]


def test_without_a_buffer_what_the_consumer_throws_is_not_swallowed_either() -> None:
    def alone(world: World) -> Any:
        return (retry_on_first_auth_error(world.refresh),)

    case = Case((Attempt((REJECTED,)),), tries=(Try(value=None),), throw_in=frozenset({1}))
    log = World(case).run(alone)
    assert [item for _, item in log.seen] == [REJECTED, Ends("Thrown")]


@both
def test_a_judge_that_disposes_is_the_last_thing_that_happens(pipe: Callable[[World], Any]) -> None:
    log = World(Case((Attempt(later=((1, REJECTED),)),), dispose_in=("is_auth_error", 1))).run(pipe)
    assert (log.seen, log.told, log.refreshed) == ([], [], [])
