"""The vocabulary: immutable, complete, and its one line of JSON."""

from __future__ import annotations

import json
import typing
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from rxauth import Credential, events
from rxauth.errors import CredentialRejected
from rxauth.events import (
    AssistantEvent,
    AssistantMessage,
    Done,
    Error,
    Ping,
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
    Usage,
    message_from_json,
    to_json,
    with_content,
)

CALL = ToolCall("call_1", "weather", '{"city": "Paris"}')
MESSAGE = AssistantMessage(
    content=(Thinking("hm", "signed"), Text("hello"), CALL, Thinking("", "sealed", redacted=True)),
    id="m",
    model="k",
    usage=Usage(input_tokens=1, output_tokens=2),
    stop_reason="toolUse",
)
EVENTS: list[AssistantEvent] = [
    Start(),
    TextStart(0),
    TextDelta(0, "a"),
    TextEnd(0, "a"),
    ThinkingStart(1),
    ThinkingDelta(1, "b"),
    ThinkingEnd(1, "b", "signed", False),
    ToolCallStart(2, "call_1", "weather"),
    ToolCallDelta(2, '{"city"'),
    ToolCallEnd(2, CALL),
    Done("toolUse", MESSAGE),
    Error("aborted", MESSAGE, CredentialRejected("no", status=401)),
    Ping(),
]


def test_the_names_and_fields_are_those_of_the_protocol() -> None:
    assert {each.type: each.__struct_fields__ for each in EVENTS} == {
        "start": ("message",),
        "text_start": ("content_index",),
        "text_delta": ("content_index", "delta"),
        "text_end": ("content_index", "content"),
        "thinking_start": ("content_index",),
        "thinking_delta": ("content_index", "delta"),
        "thinking_end": ("content_index", "content", "signature", "redacted"),
        "toolcall_start": ("content_index", "id", "name"),
        "toolcall_delta": ("content_index", "delta"),
        "toolcall_end": ("content_index", "tool_call"),
        "done": ("reason", "message"),
        "error": ("reason", "error", "cause"),
        "ping": (),
    }
    assert {type(each) for each in EVENTS} == set(typing.get_args(AssistantEvent))


def test_the_reasons_are_those_of_the_protocol() -> None:
    assert set(typing.get_args(events.DoneReason)) == {"stop", "length", "toolUse", "refusal", "pause"}
    assert set(typing.get_args(events.ErrorReason)) == {"error", "aborted"}


@pytest.mark.parametrize("event", [*EVENTS, MESSAGE, *MESSAGE.content, Usage()], ids=lambda each: type(each).__name__)
def test_nothing_can_be_changed(event: Any) -> None:
    for name in event.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(event, name, None)


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        *[pytest.param(each, {}, id=f"{each!r} is none") for each in ("", " ", "null", "{}")],
        *[pytest.param(each, {"INVALID_JSON": each}, id=f"{each[:12]!a} is no object")
          for each in ("[]", '"Paris"', '{"city": "Pa', "{" * 5000, '{"a":' * 100_000, "\ud800")],
        pytest.param('{"INVALID_JSON": "{"}', {"INVALID_JSON": "{"}, id="an object that reads like none"),
    ],
)  # fmt: skip
def test_arguments_are_an_object_or_say_so(written: str, arguments: Any) -> None:
    call = ToolCall("call_1", "weather", written)
    assert call.arguments == arguments
    assert call.has_invalid_arguments == (arguments == {"INVALID_JSON": written})
    call.arguments["city"] = "a fresh dict each time"
    assert call.arguments == arguments


@given(st.text())
def test_no_arguments_of_a_model_raise(written: str) -> None:
    assert isinstance(ToolCall("call_1", "weather", written).arguments, dict)


def test_the_text_of_a_message_is_its_text_blocks() -> None:
    assert AssistantMessage(content=(Text("a"), Thinking("b"), CALL, Text("c"))).text == "ac"


@pytest.mark.parametrize("event", EVENTS, ids=lambda each: each.type)
def test_an_event_is_one_line_of_json_with_its_type(event: AssistantEvent) -> None:
    line = to_json(event)
    assert "\n" not in line
    assert json.loads(line)["type"] == event.type


def test_json_has_a_role_and_what_is_set() -> None:
    broken = ToolCall("b", "shell", "ls -", extra_json='{"x":1}', after_json='[{"type":"server_tool"}]')
    content = (*MESSAGE.content, broken, ToolCall("c", "shell", "ls", custom=True), Thinking("hm", field="reasoning"))
    message = AssistantMessage(content=content)
    seen = json.loads(to_json(Done("toolUse", message)))["message"]
    assert seen["role"] == "assistant"
    unsigned = {"signature": None, "redacted": False}
    call = {"type": "toolCall", "name": "shell"}
    assert seen["content"][2:] == [
        {"type": "toolCall", "id": "call_1", "name": "weather", "arguments": {"city": "Paris"}},
        {"type": "thinking", "thinking": "", "signature": "sealed", "redacted": True},
        {**call, "id": "b", "arguments": {"INVALID_JSON": "ls -"}, "invalid_arguments": True,
         "extra": {"x": 1}, "after": [{"type": "server_tool"}]},
        {**call, "id": "c", "arguments": {"input": "ls"}, "custom": True},
        {"type": "thinking", "thinking": "hm", "field": "reasoning", **unsigned},
    ]  # fmt: skip
    again = message_from_json(seen)
    assert again is not None
    assert to_json(again) == to_json(message)


def test_json_has_a_cause_without_its_credential() -> None:
    cause = CredentialRejected("no", status=401, retry_after=2.0, credential=Credential("canary", "canary"))
    event = Error("error", AssistantMessage(), cause)
    facts = {"class": "CredentialRejected", "message": "no", "status": 401, "retry_after": 2.0}
    assert json.loads(to_json(event))["cause"] == facts
    assert "canary" not in to_json(event) + repr(event)


WORDS = st.sampled_from(["type", "stop_reason", "extra_json", "arguments", "\u2028", '"', ""])


@given(st.recursive(st.none() | WORDS, lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner), max_leaves=9))
def test_json_keeps_arguments_as_the_model_wrote_them(value: Any) -> None:
    written = {"type": "toolCall", "stop_reason": value}
    call = ToolCall("call_1", "weather", msgspec.json.encode(written).decode())
    assert json.loads(to_json(ToolCallEnd(0, call)))["tool_call"]["arguments"] == written


def test_an_end_with_other_content_is_a_copy() -> None:
    done, error = with_content(Done("stop", MESSAGE), ()), with_content(Error("error", MESSAGE), ())
    assert isinstance(done, Done)
    assert isinstance(error, Error)
    for message in (done.message, error.error):
        assert (message.content, message.model, message.usage) == ((), "k", MESSAGE.usage)
    assert len(MESSAGE.content) == 4
