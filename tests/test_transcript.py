"""The messages of assistant streams, and the phantoms among them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reactivex
from reactivex import operators as ops

from rxauth.errors import CredentialRejected
from rxauth.events import (
    AssistantEvent,
    AssistantMessage,
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
    ToolCall,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    to_json,
)
from rxauth.transcript import Transcript, TranscriptEntry

CALL = ToolCall("call_1", "weather", '{"city": "Paris"}')
ANSWER = AssistantMessage(
    content=(Thinking("Hm.", "sig"), Text("Hello."), CALL), id="msg_1", model="m", stop_reason="toolUse"
)
STREAM: list[AssistantEvent] = [
    Start(AssistantMessage(id="msg_1", model="m")),
    ThinkingStart(0),
    ThinkingDelta(0, "Hm."),
    ThinkingEnd(0, "Hm.", "sig"),
    TextStart(1),
    TextDelta(1, "Hel"),
    TextDelta(1, "lo."),
    TextEnd(1, "Hello."),
    ToolCallStart(2, "call_1", "weather"),
    ToolCallDelta(2, '{"city": '),
    ToolCallDelta(2, '"Paris"}'),
    ToolCallEnd(2, CALL),
    Done("toolUse", ANSWER),
]
START, A, B = Start(AssistantMessage()), TextDelta(0, "a"), TextDelta(0, "b")
SAID = AssistantMessage(content=(Text("ab"),), stop_reason="stop")
DONE = Done("stop", SAID)


def fed(*events: Any, path: Path | None = None) -> Transcript:
    transcript = Transcript(path)
    for event in events:
        transcript.on_next(event)
    return transcript


def summary(transcript: Transcript) -> list[tuple[str, str | None, bool]]:
    return [(entry.message.text, entry.message.stop_reason, entry.open) for entry in transcript.entries]


def plain(event: AssistantEvent) -> Any:
    return json.loads(to_json(event))


# Messages.


def test_a_message_grows_and_earlier_values_stay() -> None:
    transcript, seen = Transcript(), []
    for event in (START, A, B):
        transcript.on_next(event)
        seen.append(transcript.messages)
    assert [messages[0].text for messages in seen] == ["", "a", "ab"]
    assert transcript.messages == transcript.messages
    assert transcript.messages[0] is transcript.messages[0]


def test_done_carries_the_message() -> None:
    transcript = fed(*STREAM)
    assert transcript.messages == (ANSWER,)
    assert transcript.entries == (TranscriptEntry(ANSWER, open=False),)


def test_the_message_is_whole_before_done() -> None:
    (message,) = fed(*STREAM[:-1]).messages
    assert (message.content, message.id, message.model, message.stop_reason) == (ANSWER.content, "msg_1", "m", None)


def test_a_message_left_by_a_later_start_stays_open() -> None:
    transcript = fed(START, START, A, B, DONE)
    transcript.on_completed()
    assert summary(transcript) == [("", None, True), ("ab", "stop", False)]
    assert repr(transcript) == "Transcript(2 messages, 1 open)"


def test_an_error_event_closes_the_message() -> None:
    said = AssistantMessage(content=(Text("a"),), stop_reason="error", error_message="No.")
    transcript = fed(START, A, Error("error", said, CredentialRejected("No.", status=401)))
    transcript.on_completed()
    assert transcript.entries == (TranscriptEntry(said, open=False),)


@pytest.mark.parametrize("form", [lambda event: event, plain], ids=["as events", "as JSON"])
def test_an_end_without_a_reason_takes_that_of_its_event(form: Callable[[AssistantEvent], Any], tmp_path: Path) -> None:
    said = AssistantMessage(content=(Text("a"),), error_message="No.")
    ends = (Done("length", AssistantMessage(content=(Text("a"),))), Error("aborted", said))
    transcript = fed(*(form(event) for end in ends for event in (START, A, end)), path=tmp_path / "chat.jsonl")
    transcript.on_completed()
    assert summary(transcript) == [("a", "length", False), ("a", "aborted", False)]
    assert [message.error_message for message in transcript.messages] == [None, "No."]
    lines = (tmp_path / "chat.jsonl").read_text().splitlines()
    assert [json.loads(line)["stop_reason"] for line in lines] == ["length", "aborted"]


def test_rx_channels_close_an_open_message() -> None:
    failed, over = fed(START, START, A), fed(START, A)
    failed.on_error(ValueError("broken"))
    over.on_completed()
    assert summary(failed) == [("", None, True), ("a", "error", False)]
    assert failed.messages[1].error_message == "broken"
    assert summary(over) == [("a", "aborted", False)]


def test_one_transcript_takes_one_stream_after_another() -> None:
    transcript = Transcript()
    for _ in range(2):
        reactivex.of(START, A, B, DONE).subscribe(transcript)
    reactivex.throw(ValueError("x")).subscribe(transcript)
    reactivex.of(START, A).pipe(ops.concat(reactivex.throw(ValueError("y")))).subscribe(transcript)
    assert summary(transcript) == [("ab", "stop", False)] * 2 + [("a", "error", False)]


def test_an_event_without_a_message_opens_one() -> None:
    assert summary(fed(A, DONE)) == [("ab", "stop", False)]
    assert summary(fed(DONE)) == [("ab", "stop", False)]
    assert summary(fed(START, DONE, A)) == [("ab", "stop", False), ("a", None, True)]
    assert summary(fed(Error("error", AssistantMessage(stop_reason="error")))) == [("", "error", False)]


def test_a_delta_without_a_block_opens_one() -> None:
    message = fed(START, ToolCallDelta(5, '{"a"'), ThinkingDelta(1, "hm")).messages[0]
    assert message.content == (Thinking("hm"), ToolCall("", "", '{"a"'))


def test_a_tool_call_keeps_its_extras() -> None:
    call = ToolCall("c", "shell", "ls", custom=True, extra_json='{"a":1}')
    assert fed(START, ToolCallStart(0, "c", "shell"), ToolCallEnd(0, call)).messages[0].content == (call,)


def test_two_blocks_with_one_number_are_kept() -> None:
    assert fed(START, ThinkingDelta(0, "hm"), A).messages[0].content == (Text("a"), Thinking("hm"))


def test_an_end_without_deltas_is_the_whole_block() -> None:
    message = fed(
        START, TextEnd(0, "whole"), ThinkingEnd(1, "", "cipher", redacted=True), ToolCallEnd(2, CALL)
    ).messages[0]
    assert message.content == (Text("whole"), Thinking("", "cipher", True), CALL)


# Events of any make.


class Alien:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def test_a_stream_from_its_json_gives_the_same_messages() -> None:
    # But for the white space in a tool call's arguments, which JSON tells parsed.
    for events in (STREAM, STREAM[:-1]):
        (message,) = fed(*map(plain, events)).messages
        assert to_json(message) == to_json(fed(*events).messages[0])


def test_type_is_an_attribute_or_a_key() -> None:
    for make in (Alien, dict):
        transcript = fed(
            make(type="start"),
            make(type="text_delta", content_index=0, delta="hi"),
            make(type="toolcall_end", content_index=1, tool_call=make(id="1", name="n", arguments={"a": 1})),
            make(type="done", reason="length"),
        )
        assert summary(transcript) == [("hi", "length", False)]
        assert transcript.messages[0].content[1] == ToolCall("1", "n", '{"a":1}')


def test_a_foreign_error_closes_with_its_text() -> None:
    event = {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}
    message = fed(START, A, event).messages[0]
    assert (message.text, message.stop_reason, message.error_message) == ("a", "error", "invalid x-api-key")
    assert fed(START, {"type": "error", "reason": "aborted"}).messages[0].stop_reason == "aborted"


@pytest.mark.parametrize(
    "event",
    [
        None,
        7,
        "start",
        {},
        {"type": None},
        {"type": ["start"]},
        {"type": "ping"},
        {"type": "text"},
        {"type": "text_"},
        object(),
    ],
    ids=str,
)
def test_other_events_are_ignored(event: Any) -> None:
    assert summary(fed(START, A, event, B)) == [("ab", None, True)]
    assert fed(event).messages == ()


@pytest.mark.parametrize(
    "event",
    [
        {"type": "text_delta"},
        {"type": "text_delta", "content_index": None, "delta": None},
        {"type": "text_end", "content_index": "x", "content": 5},
        {"type": "toolcall_end"},
        {"type": "thinking_end", "signature": 4},
        {"type": "done", "message": {"content": "text"}},
        {"type": "done", "message": {"content": [{"type": "unknown"}]}},
        {"type": "done", "message": {"content": [7]}},
        {"type": "done", "reason": "tired"},
        {"type": "error"},
        {"type": "start", "message": "hello"},
    ],
    ids=str,
)
def test_missing_and_wrong_fields_do_not_break_it(event: Any) -> None:
    transcript = fed(event)
    transcript.on_completed()
    assert len(transcript.messages) == 1
    assert to_json(transcript.messages[0])


def test_a_delta_costs_the_same_in_a_long_message() -> None:
    """Counted, not timed: the pieces are joined once, at the first read."""
    joins = 0

    class Piece(str):
        __slots__ = ()

        def __radd__(self, other: str) -> str:
            nonlocal joins
            joins += 1
            return str(other) + str(self)

    transcript = fed(START)
    for _ in range(10_000):
        transcript.on_next(TextDelta(0, Piece("x")))
    assert joins == 0
    assert transcript.messages[0].text == "x" * 10_000
    (draft,) = transcript._drafts
    (block,) = draft._blocks.values()
    assert len(block.parts) == 1, "the next look does not join the same pieces again"
