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


def test_arguments_are_a_fresh_dict_each_time() -> None:
    CALL.arguments["city"] = "London"
    CALL.arguments.clear()
    assert CALL.arguments == {"city": "Paris"}


@pytest.mark.parametrize(
    "written",
    ["[]", '"Paris"', '{"city": "Pa', "{" * 5000, '{"a":' * 100_000, "\ud800"],
    ids=lambda each: each[:12],
)
def test_arguments_that_are_no_object_say_so(written: str) -> None:
    call = ToolCall("call_1", "weather", written)
    assert call.has_invalid_arguments
    assert call.arguments == {"INVALID_JSON": written}


@pytest.mark.parametrize("written", ["", " ", "null", "{}"])
def test_no_arguments_are_an_empty_object(written: str) -> None:
    call = ToolCall("call_1", "weather", written)
    assert not call.has_invalid_arguments
    assert call.arguments == {}


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


def test_json_has_arguments_as_an_object_and_a_role() -> None:
    told = json.loads(to_json(Done("toolUse", MESSAGE)))["message"]
    assert told["role"] == "assistant"
    assert told["content"][2] == {"type": "toolCall", "id": "call_1", "name": "weather", "arguments": {"city": "Paris"}}
    assert told["content"][3] == {"type": "thinking", "thinking": "", "signature": "sealed", "redacted": True}


def test_json_has_a_cause_without_its_credential() -> None:
    cause = CredentialRejected(
        "no", status=401, type="authentication_error", retry_after=2.0, credential=Credential("canary", "canary")
    )
    line = to_json(Error("error", AssistantMessage(), cause))
    assert json.loads(line)["cause"] == {
        "class": "CredentialRejected",
        "message": "no",
        "status": 401,
        "type": "authentication_error",
        "retry_after": 2.0,
    }
    assert "canary" not in line + repr(Error("error", AssistantMessage(), cause))


@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_keeps_arguments_as_the_model_wrote_them(value: Any) -> None:
    written = {"type": "toolCall", "stop_reason": value}
    call = ToolCall("call_1", "weather", msgspec.json.encode(written).decode())
    assert json.loads(to_json(ToolCallEnd(0, call)))["tool_call"]["arguments"] == written


@pytest.mark.parametrize("event", [Done("stop", MESSAGE), Error("error", MESSAGE)], ids=["done", "error"])
def test_an_end_with_other_content_is_a_copy(event: Done | Error) -> None:
    copied = with_content(event, ())
    message, before = (
        (copied.message, event.message)
        if isinstance(copied, Done) and isinstance(event, Done)
        else (copied.error, event.error)  # type: ignore[union-attr]
    )
    assert (message.content, message.model, message.usage) == ((), "k", MESSAGE.usage)
    assert before.content == MESSAGE.content
