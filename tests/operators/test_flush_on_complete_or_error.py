from __future__ import annotations

from typing import Any

import pytest
import reactivex as rx
from reactivex.subject import Subject

from rxauth import NeverLiveError, buffer_until_live, flush_on_complete_or_error
from rxauth.testing import marbles

from .marble_table import Row


def to_error_event(error: Exception) -> Any:
    return marbles.event("z")


@pytest.mark.parametrize(
    ("source", "options", "result"),
    [
        pytest.param("ss--e----|", {}, "----(sse|)", id="an error event before live: held events, the event, the end"),
        pytest.param("ss--#", {}, "----(ss#)", id="an exception before live: held events, the exception"),
        pytest.param("ss--|", {}, "----(ss|)", id="a completion before live: held events, the end"),
        pytest.param("----|", {}, "----|", id="nothing at all completes"),
        pytest.param("s-a---b-#", {}, "--(sa)b-#", id="a live stream passes untouched"),
        pytest.param("ss--e", {"discard_on_error": True}, "----(e|)", id="discarding, an error event comes alone"),
        pytest.param("ss--#", {"discard_on_error": True}, "----#", id="discarding, an exception comes alone"),
        pytest.param("ss--|", {"discard_on_error": True}, "----(ss|)", id="discarding, a completion is no error"),
        pytest.param("s---#", {"error_event": to_error_event}, "----(sz|)", id="an exception becomes the last event"),
        pytest.param("a---#", {"error_event": to_error_event}, "a---(z|)", id="after live too"),
        pytest.param("s---e", {"error_event": to_error_event}, "----(se|)", id="an error event is one already"),
        pytest.param(
            "s---#",
            {"error_event": to_error_event, "discard_on_error": True},
            "----(z|)",
            id="discarding, the exception's event comes alone",
        ),
    ],
)
def test_marbles(source: str, options: dict[str, Any], result: str) -> None:
    assert Row(source).run(buffer_until_live(), flush_on_complete_or_error(**options)) == result


def test_the_exception_is_the_very_same() -> None:
    error = ValueError("mine")
    assert Row("s-#", error=error).ends(buffer_until_live(), flush_on_complete_or_error()) is error


@pytest.mark.parametrize("source", ["s-#", "a-#"], ids=["before live", "after live"])
def test_an_error_event_that_raises_fails_the_stream(source: str) -> None:
    def raises(error: Exception) -> Any:
        raise LookupError("no event")

    error = Row(source).ends(buffer_until_live(), flush_on_complete_or_error(error_event=raises))
    assert isinstance(error, LookupError)


@pytest.mark.parametrize(
    ("failure", "rest"),
    [(None, ["|"]), ("event", ["event", "|"]), (ValueError("failed"), ["failed"])],
    ids=["a completion", "an event", "an exception"],
)
def test_held_events_are_dropped_after_a_delivery(failure: Any, rest: list[str]) -> None:
    source: Subject[Any] = Subject()
    seen: list[str] = []
    source.pipe(flush_on_complete_or_error()).subscribe(
        seen.append, lambda error: seen.append(str(error)), lambda: seen.append("|")
    )
    source.on_next("shown")
    source.on_error(NeverLiveError(("held",), failure))
    assert seen == ["shown", *rest]


def test_in_each_branch_of_a_merge_shows_both() -> None:
    first, second = Row("s-a----------|"), Row("s------e")
    second.scheduler = first.scheduler
    second.sources = [marbles.cold(first.scheduler, "s------e")]
    branches: list[Any] = [
        each.source.pipe(buffer_until_live(), flush_on_complete_or_error()) for each in (first, second)
    ]
    seen = marbles.draw(marbles.observe(first.scheduler, rx.merge(*branches)))
    assert seen == "--(sa)-(se)--|"


def test_a_consumers_exception_becomes_no_error_event() -> None:
    thrown = LookupError("the consumer's own")
    seen: list[Any] = []

    def emit(observer: Any, _: Any) -> Any:
        observer.on_next("a")

    def consumer(event: Any) -> None:
        seen.append(event)
        raise thrown

    rx.create(emit).pipe(flush_on_complete_or_error(error_event=str)).subscribe(consumer, seen.append)
    assert seen == ["a", thrown]
