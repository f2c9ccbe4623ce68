from __future__ import annotations

from typing import Any

import pytest
import reactivex as rx

from rxauth import NeverLiveError, buffer_until_live, flush_on_complete_or_error
from rxauth.testing import marbles

from .marble_table import Row

to_event: dict[str, Any] = {"error_event": lambda error: marbles.event("z")}
discard: dict[str, Any] = {"discard_on_error": True}


@pytest.mark.parametrize(
    ("source", "options", "result"),
    [
        pytest.param("ss--e----|", {}, "----(sse|)", id="an error event before live: held events, the event, the end"),
        pytest.param("ss--#     ", {}, "----(ss#) ", id="an exception before live: held events, the exception"),
        pytest.param("ss--|     ", {}, "----(ss|) ", id="a completion before live: held events, the end"),
        pytest.param("----|     ", {}, "----|     ", id="nothing at all completes"),
        pytest.param("s-a---b-# ", {}, "--(sa)b-# ", id="a live stream passes untouched"),
        pytest.param("ss--e", discard, "----(e|) ", id="discarding, an error event comes alone"),
        pytest.param("ss--#", discard, "----#    ", id="discarding, an exception comes alone"),
        pytest.param("ss--|", discard, "----(ss|)", id="discarding, a completion is no error"),
        pytest.param("s---#", to_event, "----(sz|)", id="an exception becomes the last event"),
        pytest.param("a---#", to_event, "a---(z|) ", id="after live too"),
        pytest.param("s---e", to_event, "----(se|)", id="an error event is one already"),
        pytest.param("s---#", to_event | discard, "----(z|)", id="discarding, the exception's event comes alone"),
    ],
)
def test_flush_follows_its_marbles(source: str, options: dict[str, Any], result: str) -> None:
    assert Row(source).run(buffer_until_live(), flush_on_complete_or_error(**options)) == result.strip()


def test_an_error_event_may_be_none() -> None:
    """Whatever the function returns is the last event."""
    seen: list[Any] = []
    rx.throw(OSError()).pipe(flush_on_complete_or_error(error_event=lambda _: None)).subscribe(seen.append)
    assert seen == [None]


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
    seen: list[str] = []
    stream = rx.concat(rx.of("shown"), rx.throw(NeverLiveError(("held",), failure)))
    stream.pipe(flush_on_complete_or_error()).subscribe(
        seen.append, lambda error: seen.append(str(error)), lambda: seen.append("|")
    )
    assert seen == ["shown", *rest]


def test_in_each_branch_of_a_merge_shows_both() -> None:
    row = Row("s-a----------|", "s------e")
    branch = row.source.pipe(buffer_until_live(), flush_on_complete_or_error())
    assert marbles.draw(marbles.observe(row.scheduler, rx.merge(branch, branch))) == "--(sa)-(se)--|"
