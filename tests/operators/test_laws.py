"""The laws, over generated streams, with times: what is seen and when, and what the source sees of it.

A small part of the cases runs in the default tier and many in the slow one. For as many new ones as you like:

    RXAUTH_CASES=100000 pytest -m slow --timeout=0 tests/operators/test_laws.py
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import reactivex as rx
from reactivex import operators as ops

from rxauth import (
    buffer_until_live,
    flush_on_complete_or_error,
    recover_auth,
    retry_on_first_auth_error,
    switch_if_never_live,
)

from .cases import (
    AGAIN,
    BUSY,
    CALLBACKS,
    EARLIER,
    LAST,
    PING,
    PREDICATES,
    REJECTED,
    START,
    TEXT,
    Attempt,
    Case,
    Ends,
    Try,
    generated,
)
from .model import Model
from .world import SUBSCRIBED, Log, World

WANTED = os.environ.get("RXAUTH_CASES")
MANY, SEED = (int(WANTED), None) if WANTED else (5000, 12)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Keep pytest from collecting as many log records as there are recoveries."""
    logger = logging.getLogger("rxauth")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


def a_stream_is_what_the_model_says(case: Case) -> None:
    log = World(case).run()
    assert log.lists() == Model(case, log.emitted).run().lists()


def recover_auth_is_the_three_operators(case: Case) -> None:
    case = replace(case, again=1)
    assert World(case).run(fused=True) == World(case).run()


def buffer_and_flush_are_transparent(case: Case) -> None:
    """The same elements and end; only the prelude is later, and an error event before live is the end."""
    case = Case(case.attempts[:1])
    plain = World(case).run(ops.map(lambda event: event)).seen
    if any(isinstance(item, Ends) and str(item.error).startswith("held") for _, item in plain):
        return
    first = next((i for i, (_, item) in enumerate(plain) if item not in (START, PING)), None)
    expected: list[Any] = []  # still held
    if first is not None:
        at, item = plain[first]
        rest = [(at, Ends())] if item in (REJECTED, BUSY) else plain[first + 1 :]
        expected = [(at, each) for _, each in plain[: first + 1]] + rest
    assert World(case).run(buffer_until_live(), flush_on_complete_or_error()).seen == expected


def a_second_buffer_changes_nothing(case: Case) -> None:
    buffer: Any = buffer_until_live(max_held=case.max_held)
    case = Case(case.attempts[:1])
    assert World(case).run(buffer, buffer).seen == World(case).run(buffer).seen


def a_dispose_ends_everything_at_once(case: Case) -> None:
    """Before it everything is as it is without it; afterwards nothing happens, and no subscription is left."""
    world = World(replace(case, raise_in=None, throw_in=frozenset()))
    cut = world.run(fused=True)
    starts_like(cut.lists(), World(quiet_case(case)).run(fused=True).lists())
    if world.left is not None:
        at, lengths = world.left
        assert cut.lengths()[:3] == lengths[:3]
        assert cut.reported[lengths[3] :] in ([], [(at, "AuthFailedAfterLive")])  # of an end that was under way
        assert sorted(number for time, number in cut.disposed if time <= at) == [*range(len(cut.subscribed))]


def an_exception_of_the_consumer_starts_nothing(case: Case) -> None:
    """It becomes no event; inside the source's `subscribe` it is the end, elsewhere it escapes."""
    case = replace(case, dispose_at=None, dispose_in=None, raise_in=None, emit_in={})
    world = World(case)
    cut, full = world.run(fused=True), World(quiet_case(case)).run(fused=True)
    ends = [item.error for item in items(cut) if isinstance(item, Ends)] + [error for _, error in cut.escaped]
    assert ends.count("Thrown") == sum(call <= world.calls["on_next"] for call in case.throw_in)
    assert items(cut).count(LAST) <= items(full).count(LAST)
    starts_like(cut.lists()[1:], full.lists()[1:])


def a_predicate_that_raises_is_the_end(case: Case) -> None:
    """The held events are dropped, and no attempt and no refresh follows. A listener's exception changes nothing."""
    case = replace(case, dispose_at=None, dispose_in=None, throw_in=frozenset())
    cut, full = World(case).run(fused=True), World(quiet_case(case)).run(fused=True)
    if case.raise_in is None or case.raise_in[0] == "on_recovery":
        assert cut == full
    elif case.raise_in[0] in PREDICATES and cut.seen != full.seen:
        assert items(cut) in ([Ends("Unjudged")], [LAST, Ends()])
        starts_like(cut.lists()[1:], full.lists()[1:])


def items(log: Log) -> list[Any]:
    return [item for _, item in log.seen]


def quiet_case(case: Case) -> Case:
    return replace(case, dispose_at=None, dispose_in=None, raise_in=None, throw_in=frozenset())


def starts_like(cut: tuple[list[Any], ...], full: tuple[list[Any], ...]) -> None:
    for some, whole in zip(cut, full, strict=True):
        assert some == whole[: len(some)]


@pytest.mark.parametrize("count", [200, pytest.param(MANY, marks=pytest.mark.slow)], ids=["a few", "many"])
@pytest.mark.parametrize(
    ("law", "troubled"),
    [
        (a_stream_is_what_the_model_says, False),
        (recover_auth_is_the_three_operators, True),
        (buffer_and_flush_are_transparent, False),
        (a_second_buffer_changes_nothing, False),
        (a_dispose_ends_everything_at_once, True),
        (an_exception_of_the_consumer_starts_nothing, True),
        (a_predicate_that_raises_is_the_end, True),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_law(law: Callable[[Case], None], troubled: bool, count: int) -> None:
    dice = random.Random(SEED)
    for _ in range(count):
        case = generated(dice, troubled=troubled)
        try:
            law(case)
        except Exception as error:
            error.add_note(repr(case))
            raise


answer = Attempt((START, TEXT, Ends()))


@pytest.mark.parametrize("fused", [False, True], ids=["three operators", "recover_auth"])
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
            Case((Attempt((REJECTED, TEXT, Ends("other"))), answer), tries=(Try(3),)),
            [START, TEXT, Ends()],
            id="what attempt 1 emits behind its error event is dropped",
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
            Case((Attempt((START, REJECTED)),), tries=(Try(value=None),), throw_in=frozenset({1})),
            [START, Ends("Thrown")],
            id="nor is what it throws through a refresh",
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
        pytest.param(
            Case((Attempt(later=((1, START), (1, TEXT), (1, TEXT))),), throw_in=frozenset({1})),
            [START, TEXT],
            id="a stream goes on after its consumer has thrown",
        ),
    ],
)
def test_a_case_that_was_wrong_once(fused: bool, case: Case, seen: list[Any]) -> None:
    assert items(World(case).run(fused=fused)) == seen


refused = Attempt(later=((1, START), (1, START), (1, REJECTED)))
alive = Attempt(later=((1, START), (1, START), (1, TEXT), (1, TEXT), (1, Ends("other"))))
RECOVERIES = {
    "a new credential": Case((refused, alive)),
    "one that takes its time": Case((refused, alive), tries=(Try(3),)),
    "after tries that failed": Case((refused, alive), tries=(Try(error="transient"), Try(error="transient"), Try())),
    "after tries that failed at once": Case((refused, alive), tries=(Try(error="transient"), Try()), wait=0),
    "none": Case((refused,), tries=(Try(value=None),)),
    "none, and it raises": Case((refused,), tries=(Try(error="final"),), error_event="made"),
    "none in time": Case((Attempt(later=((1, START), (1, Ends("auth")))),), tries=(Try(None),), error_event="made"),
}


@pytest.mark.parametrize("case", RECOVERIES.values(), ids=RECOVERIES)
def test_a_recovery_in_any_trouble_obeys_the_laws(case: Case) -> None:
    for callback, call in product(CALLBACKS, range(1, 7)):
        a_dispose_ends_everything_at_once(replace(case, dispose_in=(callback, call)))
        a_predicate_that_raises_is_the_end(replace(case, raise_in=(callback, call)))
    for tick in range(60):
        a_dispose_ends_everything_at_once(replace(case, dispose_at=tick))
    inside = replace(case, attempts=tuple(Attempt(tuple(item for _, item in each.later)) for each in case.attempts))
    for call in range(1, 7):
        for each in (case, inside):
            an_exception_of_the_consumer_starts_nothing(replace(each, throw_in=frozenset({call})))
        for item in (AGAIN, REJECTED, Ends(), Ends("other")):
            a_stream_is_what_the_model_says(replace(case, emit_in={call: item}))


@pytest.mark.parametrize("by", ["the refresh", "the switch"])
def test_a_source_is_disposed_before_its_failure_goes_on(by: str) -> None:
    world = World(Case((refused,)))
    left: list[Any] = []

    def other(_: Any) -> Any:
        left.extend(world.log.disposed)
        return rx.empty()

    operators = [recover_auth(other)] if by == "the refresh" else [buffer_until_live(), switch_if_never_live(other)]
    world.run(*operators)
    assert left == [(SUBSCRIBED + 3, 0)]


def test_retry_alone_swallows_no_exception_of_the_consumer() -> None:
    world = World(Case((Attempt((REJECTED,)),), tries=(Try(value=None),), throw_in=frozenset({1})))
    log = world.run(retry_on_first_auth_error(world.refresh))
    assert items(log) == [REJECTED, Ends("Thrown")]
