from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
import reactivex as rx
from hypothesis import given
from reactivex.subject import Subject

from rxauth import AssistantMessage, suppress_empty_response
from rxauth.errors import StreamCut
from rxauth.events import (
    AssistantEvent,
    Block,
    Done,
    Error,
    Start,
    Text,
    TextDelta,
    TextEnd,
    TextStart,
    Thinking,
    ThinkingDelta,
    ThinkingEnd,
    ThinkingStart,
    to_json,
)

MADE_UP = "(Empty response: the model only thought)"
THINKING: list[AssistantEvent] = [ThinkingStart(0), ThinkingDelta(0, "hm"), ThinkingEnd(0, "hm")]
UNDECIDED: list[AssistantEvent] = [TextStart(0), TextDelta(0, "(Em")]


def block(index: int, *pieces: str) -> list[AssistantEvent]:
    return [TextStart(index), *(TextDelta(index, piece) for piece in pieces), TextEnd(index, "".join(pieces))]


def done(*content: Block) -> Done:
    return Done("stop", AssistantMessage(content=content))


def seen(*events: AssistantEvent, error: Exception | None = None) -> list[Any]:
    got: list[Any] = []
    end = rx.throw(error) if error else rx.empty()
    rx.concat(rx.of(*events), end).pipe(suppress_empty_response()).subscribe(got.append, got.append)
    return got


@pytest.mark.parametrize("pieces", [[MADE_UP], list(MADE_UP), ["(Empty response:", " x)"], ["(Empty ", "response: x"]])
def test_drops_the_block_in_any_pieces_and_from_the_message(pieces: list[str]) -> None:
    thought, made_up = Thinking("hm"), Text("".join(pieces))
    got = seen(Start(), *THINKING, *block(1, *pieces), done(thought, made_up))
    assert got == [Start(), *THINKING, done(thought)]


@pytest.mark.parametrize(
    "events",
    [
        *([Start(), *block(0, *text), done(Text(text))] for text in ("(Empty response", "(Empty", "", "hello")),
        [*block(0, " (Empty response: x)")],
        [*UNDECIDED, *THINKING, TextDelta(0, "ber)"), TextEnd(0, "(Ember)")],
        [*UNDECIDED, done(Text("(Em"))],
        UNDECIDED,
    ],
    ids=lambda events: f"{len(events)} events",
)
def test_emits_any_other_event_in_order(events: list[AssistantEvent]) -> None:
    assert seen(*events) == events
    failure = ValueError("cut")
    assert seen(*events, error=failure) == [*events, failure]


def test_nothing_is_held_longer_than_it_may_become_the_marker() -> None:
    source: Subject[AssistantEvent] = Subject()
    got: list[Any] = []
    source.pipe(suppress_empty_response()).subscribe(got.append, on_completed=lambda: got.append("the end"))

    def shown(*events: AssistantEvent) -> list[Any]:
        got.clear()
        for event in events:
            source.on_next(event)
        return [*got]

    begun: list[AssistantEvent] = [TextStart(0), TextDelta(0, "(Emp")]
    assert shown(*begun) == []
    assert shown(TextDelta(0, "loyees")) == [*begun, TextDelta(0, "loyees")]
    assert shown(TextDelta(0, "(Empty response:")) == [TextDelta(0, "(Empty response:")], "the block is decided"
    assert shown(*block(1, "(Em")) == block(1, "(Em"), "it has ended, and is not the marker"
    assert shown(TextStart(2), TextDelta(2, MADE_UP), ThinkingStart(3)) == [ThinkingStart(3)], "the marker is whole"
    cut_off: list[AssistantEvent] = [TextStart(4), TextDelta(4, "(Em"), done(Text("(Em"))]
    assert shown(*cut_off) == cut_off, "nothing comes after `done`"
    source.on_completed()
    assert got[-1] == "the end"


def test_it_is_dropped_from_the_message_of_an_error_on_a_copy() -> None:
    cause = StreamCut("cut")
    original = Error("error", AssistantMessage(content=(Text("kept"), Text(MADE_UP)), error_message="cut"), cause)
    (got,) = seen(original)
    assert (got.error.content, got.error.error_message, got.cause) == ((Text("kept"),), "cut", cause)
    assert original.error.content == (Text("kept"), Text(MADE_UP))


def test_an_event_without_such_a_block_is_passed_on_as_it_is() -> None:
    event = done(Text("kept"))
    assert seen(event)[0] is event


def test_an_empty_prefix_is_refused() -> None:
    with pytest.raises(ValueError, match="prefix"):
        suppress_empty_response("")


@given(st.lists(st.tuples(st.booleans(), st.text("(Empty response:x", max_size=24)), max_size=4))
def test_made_up_blocks_are_all_that_goes(blocks: list[tuple[bool, str]]) -> None:
    texts = ["(Empty response:" + text if made_up else text for made_up, text in blocks]
    events = [event for index, text in enumerate(texts) for event in block(index, *text)]
    kept = [each for each in events if not texts[each.content_index].startswith("(Empty response:")]  # type: ignore[union-attr]
    assert list(map(to_json, seen(*events))) == list(map(to_json, kept))
