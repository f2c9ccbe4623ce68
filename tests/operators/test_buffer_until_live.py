from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import reactivex as rx
from reactivex import operators as ops
from reactivex.subject import Subject

from rxauth import NeverLiveError, buffer_until_live, recover_auth
from rxauth.testing import marbles

from .marble_table import Row, never_live


@pytest.mark.parametrize(
    ("source", "result", "subscription"),
    [
        pytest.param(
            "s---a-----b--|", "----(sa)--b--|", "^------------!", id="the prelude comes with the first live event"
        ),
        pytest.param("ab-|", "ab-|", "^--!", id="without a prelude nothing is held"),
        pytest.param("ss-a----|", "---(ssa)|", "^-------!", id="several prelude events, in order"),
        pytest.param("s-a---s-e-b|", "--(sa)s-e-b|", "^----------!", id="after live everything passes"),
        pytest.param("s---------", "", "^", id="a stream that stays silent shows nothing"),
        pytest.param("s---e", "----#", "^---!", id="an error event before live ends it at once"),
        pytest.param("s-e-a-|", "--#", "^-!", id="events after an error event are dropped"),
        pytest.param("s---#", "----#", "^---!", id="an exception before live"),
        pytest.param("s---|", "----#", "^---!", id="a completion before live"),
        pytest.param("-|", "-#", "^!", id="a stream without an event"),
        pytest.param("s-a---#", "--(sa)#", "^-----!", id="an exception after live passes"),
    ],
)
def test_marbles(source: str, result: str, subscription: str) -> None:
    row = Row(source)
    assert (row.run(buffer_until_live()), row.subscriptions()) == (result, [subscription])


@pytest.mark.parametrize(
    ("source", "held", "failure"),
    [
        pytest.param("s--e", ["start"], "error", id="an error event"),
        pytest.param("ss--#", ["start", "start"], repr(marbles.failure), id="an exception"),
        pytest.param("s--|", ["start"], "None", id="a completion"),
        pytest.param("---|", [], "None", id="nothing at all"),
    ],
)
def test_the_error_has_the_held_events_and_the_failure(source: str, held: list[str], failure: str) -> None:
    assert never_live(Row(source).ends(buffer_until_live())) == (held, failure)


def test_the_error_names_its_cause_and_the_next_action() -> None:
    class Rejected(Exception):
        status = 401

    error = Row("s-#", error=Rejected("Bearer secret")).ends(buffer_until_live())
    assert isinstance(error.__cause__, Rejected)
    assert "Rejected, status 401" in str(error)
    assert "flush_on_complete_or_error()" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("max_held", "source", "result"),
    [
        pytest.param(0, "s--s---a----|", "s--s---a----|", id="none may be held"),
        pytest.param(1, "s--s---a----|", "---(ss)a----|", id="the second is one too many"),
        pytest.param(2, "s--s---a----|", "-------(ssa)|", id="both may be held"),
    ],
)
def test_one_prelude_event_too_many_counts_as_live(max_held: int, source: str, result: str) -> None:
    assert Row(source).run(buffer_until_live(max_held=max_held)) == result


def test_a_negative_bound_is_refused() -> None:
    for build in (buffer_until_live, partial(recover_auth, bool)):
        with pytest.raises(ValueError, match="0 or more"):
            build(max_held=-1)


def test_an_incoming_never_live_error_is_merged() -> None:
    inner = NeverLiveError(("i",), "failure")
    source = rx.concat(rx.of({"type": "start"}), rx.throw(inner))
    errors: list[Any] = []
    source.pipe(buffer_until_live()).subscribe(on_error=errors.append)
    assert (errors[0].held, errors[0].failure) == (({"type": "start"}, "i"), "failure")


def test_an_incoming_error_passes_if_nothing_is_held() -> None:
    inner = NeverLiveError(("i",), "failure")
    errors: list[Any] = []
    rx.throw(inner).pipe(buffer_until_live()).subscribe(on_error=errors.append)
    assert errors == [inner]


@pytest.mark.parametrize("which", ["is_prelude", "is_error"])
def test_a_predicate_that_raises_fails_the_stream(which: str) -> None:
    def raises(event: Any) -> bool:
        raise LookupError(which)

    row = Row("--s-a-|")
    options: Any = {which: raises}
    assert isinstance(row.ends(buffer_until_live(**options)), LookupError)
    assert row.subscriptions() == ["^-!"]


def test_is_prelude_decides_what_is_held() -> None:
    row = Row("a--b--c----|")
    assert row.run(buffer_until_live(is_prelude=lambda event: event.delta in "ab")) == "------(abc)|"


def test_every_subscription_has_a_state_of_its_own() -> None:
    row = Row("s-a----|", "s-b----|")
    shared = row.source.pipe(buffer_until_live())
    first, second = row.scheduler.create_observer(), row.scheduler.create_observer()
    shared.subscribe(first, scheduler=row.scheduler)
    shared.subscribe(second, scheduler=row.scheduler)
    row.scheduler.start()
    assert (marbles.draw(first.messages), marbles.draw(second.messages)) == ("--(sa)-|", "--(sb)-|")


def test_the_scheduler_is_passed_on_to_the_source() -> None:
    row = Row("s|")
    given: list[Any] = []

    def emit(_: Any, scheduler: Any) -> Any:
        given.append(scheduler)

    rx.create(emit).pipe(buffer_until_live()).subscribe(on_error=lambda _: None, scheduler=row.scheduler)
    assert given == [row.scheduler]


def test_an_event_caused_during_the_flush_waits_its_turn() -> None:
    source: Subject[Any] = Subject()
    seen: list[Any] = []

    def consumer(event: Any) -> None:
        seen.append(event["n"])
        if event["n"] == 1:
            source.on_next({"type": "text_delta", "n": 4})
            source.on_completed()

    source.pipe(buffer_until_live()).subscribe(consumer, on_completed=lambda: seen.append("|"))
    for number, kind in enumerate(["start", "start", "text_delta"], start=1):
        source.on_next({"type": kind, "n": number})
    assert seen == [1, 2, 3, 4, "|"]


def test_an_error_caused_during_the_flush_waits_its_turn() -> None:
    source: Subject[Any] = Subject()
    seen: list[Any] = []

    def consumer(event: Any) -> None:
        seen.append(event["type"])
        if event["type"] == "start":
            source.on_error(ValueError("late"))

    source.pipe(buffer_until_live()).subscribe(consumer, on_error=lambda error: seen.append(str(error)))
    source.on_next({"type": "start"})
    source.on_next({"type": "text_delta"})
    assert seen == ["start", "text_delta", "late"]


def test_dispose_ends_the_flush() -> None:
    row = Row("ss-a---|")
    assert row.run(buffer_until_live(), ops.take(1)) == "---(s|)"
    assert row.subscriptions() == ["^--!"]


def test_ignores_a_source_that_goes_on_after_its_error_event() -> None:
    judged: list[Any] = []

    def is_prelude(event: Any) -> bool:
        judged.append(event)
        return bool(event == "s")

    ended: list[Any] = []

    def emit(observer: Any, _: Any) -> Any:
        for each in "sex":
            observer.on_next(each)

    source: rx.Observable[Any] = rx.create(emit)
    source.pipe(buffer_until_live(is_prelude=is_prelude, is_error=lambda event: event == "e")).subscribe(
        lambda event: ended.append(event), lambda error: ended.append(error)
    )
    assert judged == ["s"]
    assert [type(each) for each in ended] == [NeverLiveError]


@pytest.mark.parametrize("events", ["sa", "a"], ids=["out of the flush", "out of a live event"])
def test_a_consumers_exception_is_no_failure_of_the_stream(events: str) -> None:
    thrown = LookupError("the consumer's own")
    errors: list[Exception] = []

    def emit(observer: Any, _: Any) -> Any:
        for each in events:
            observer.on_next(marbles.event(each))

    def consumer(_: Any) -> None:
        raise thrown

    rx.create(emit).pipe(buffer_until_live()).subscribe(consumer, errors.append)
    assert errors == [thrown]
