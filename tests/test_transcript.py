"""The messages of assistant streams, and the phantoms among them."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
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
CUSTOM = ToolCall("c", "shell", "ls", custom=True, extra_json='{"a":1}')
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


def test_a_message_grows_and_earlier_values_stay() -> None:
    transcript, seen = Transcript(), []
    for event in (START, A, B):
        transcript.on_next(event)
        seen.append(transcript.messages)
    assert [messages[0].text for messages in seen] == ["", "a", "ab"]
    assert transcript.messages[0] is transcript.messages[0]


def test_the_message_is_whole_before_and_after_done() -> None:
    (message,) = fed(*STREAM[:-1]).messages
    assert (message.content, message.id, message.model, message.stop_reason) == (ANSWER.content, "msg_1", "m", None)
    assert fed(*STREAM).entries == (TranscriptEntry(ANSWER, open=False),)


def test_a_stream_from_its_json_gives_the_same_messages() -> None:
    # But for the white space in a tool call's arguments, which JSON has parsed.
    for events in (STREAM, STREAM[:-1]):
        (message,) = fed(*map(plain, events)).messages
        assert to_json(message) == to_json(fed(*events).messages[0])


@pytest.mark.parametrize(
    ("events", "messages"),
    [
        pytest.param([A, DONE], [("ab", "stop", False)], id="an event without a message opens one"),
        pytest.param([DONE], [("ab", "stop", False)], id="done too"),
        pytest.param([Error("error", AssistantMessage(stop_reason="error"))], [("", "error", False)], id="an error"),
        pytest.param([START, DONE, A], [("ab", "stop", False), ("a", None, True)], id="also behind a closed one"),
        pytest.param([START, START, A, B, DONE], [("", None, True), ("ab", "stop", False)],
                     id="one that is left by a later start stays open"),
        pytest.param([START, A, {"type": "error", "reason": "aborted"}], [("a", "aborted", False)], id="an abort"),
    ],
)  # fmt: skip
def test_the_messages_of_a_stream_are(events: list[Any], messages: list[Any]) -> None:
    assert summary(fed(*events)) == messages
    assert repr(fed(*events)) == f"Transcript({len(messages)} messages, {sum(open for *_, open in messages)} open)"


@pytest.mark.parametrize(
    ("events", "content"),
    [
        pytest.param([ToolCallDelta(5, '{"a"'), ThinkingDelta(1, "hm")], [Thinking("hm"), ToolCall("", "", '{"a"')],
                     id="deltas without a start"),
        pytest.param([ToolCallStart(0, "c", "shell"), ToolCallEnd(0, CUSTOM)], [CUSTOM], id="a call with its extras"),
        pytest.param([ThinkingDelta(0, "hm"), A], [Text("a"), Thinking("hm")], id="two blocks with one number"),
        pytest.param([TextEnd(0, "all"), ThinkingEnd(1, "", "cipher", redacted=True), ToolCallEnd(2, CALL)],
                     [Text("all"), Thinking("", "cipher", True), CALL], id="ends without deltas"),
        pytest.param([ThinkingDelta(0, "hm"), {"type": "thinking_end", "content_index": 0, "signature": "s"}],
                     [Thinking("hm", "s")], id="an end that does not repeat its deltas"),
        pytest.param([{"type": "toolcall_start", "content_index": 0, "id": "1", "name": "n"}, ToolCallDelta(0, "{}"),
                      {"type": "toolcall_end", "content_index": 0, "tool_call": {}}],
                     [ToolCall("1", "n", "{}")], id="an end that says nothing"),
    ],
)  # fmt: skip
def test_the_blocks_of_a_message_are(events: list[Any], content: list[Any]) -> None:
    assert list(fed(START, *events).messages[0].content) == content


def test_an_error_event_closes_the_message() -> None:
    said = AssistantMessage(content=(Text("a"),), stop_reason="error", error_message="No.")
    transcript = fed(START, A, Error("error", said, CredentialRejected("No.", status=401)))
    transcript.on_completed()
    assert transcript.entries == (TranscriptEntry(said, open=False),)
    foreign = {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}
    message = fed(START, A, foreign).messages[0]
    assert (message.text, message.stop_reason, message.error_message) == ("a", "error", "invalid x-api-key")


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
    transcript = Transcript()
    opened = reactivex.of(START, A)
    for stream in (
        reactivex.of(START, A, B, DONE),
        reactivex.throw(ValueError("none is open")),
        opened,
        opened.pipe(ops.concat(reactivex.throw(ValueError("broken")))),
    ):
        stream.subscribe(transcript)
    assert summary(transcript) == [("ab", "stop", False), ("a", "aborted", False), ("a", "error", False)]
    assert transcript.messages[-1].error_message == "broken"


@pytest.mark.parametrize("make", [SimpleNamespace, dict])
def test_type_is_an_attribute_or_a_key(make: Any) -> None:
    transcript = fed(
        make(type="start"),
        make(type="text_delta", content_index=0, delta="hi"),
        make(type="toolcall_end", content_index=1, tool_call=make(id="1", name="n", arguments={"a": 1})),
        make(type="done", reason="length"),
    )
    assert summary(transcript) == [("hi", "length", False)]
    assert transcript.messages[0].content[1] == ToolCall("1", "n", '{"a":1}')


@pytest.mark.parametrize(
    "event", [None, 7, "start", {}, {"type": ["start"]}, {"type": "ping"}, {"type": "text"}, {"type": "text_"}], ids=str
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
    """Counted, not timed: a delta is kept as it is, and joined at the first read."""
    transcript = fed(START, TextDelta(0, "x" * 1_000_000))
    tracemalloc.start()
    for _ in range(100):
        transcript.on_next(A)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
    assert transcript.messages[0].text == "x" * 1_000_000 + "a" * 100
