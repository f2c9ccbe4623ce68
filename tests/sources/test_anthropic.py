"""Anthropic Messages to assistant events: what is told, whatever the server makes of the protocol."""

from __future__ import annotations

from typing import Any

import pytest

from rxauth.errors import CredentialRejected, ProtocolError, ProviderError, ProviderUnavailable, StreamCut
from rxauth.events import (
    AssistantEvent,
    Done,
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
)
from tests.sources.streams import ANTHROPIC, check_grammar, done, failed, message_of, read, sse, text_of

Payload = dict[str, Any]


def begin(**message: Any) -> Payload:
    return {"type": "message_start", "message": {"id": "msg_1", "model": "m-1", "content": [], **message}}


def block(index: int, kind: str, **fields: Any) -> Payload:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **fields}}


def delta(index: int, kind: str, **fields: Any) -> Payload:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def text(index: int, said: str) -> Payload:
    return delta(index, "text_delta", text=said)


def stop(index: int) -> Payload:
    return {"type": "content_block_stop", "index": index}


def because(reason: str | None, **rest: Any) -> Payload:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, **rest}


END: Payload = {"type": "message_stop"}
PING: Payload = {"type": "ping"}


def told(*payloads: Payload | str) -> list[AssistantEvent]:
    events = read(ANTHROPIC, sse(*payloads, name=True))
    check_grammar(events)
    return events


BLOCKS = [
    pytest.param(
        [block(0, "text", text=""), text(0, "Hel"), PING, text(0, "lo"), stop(0)],
        [TextStart(0), TextDelta(0, "Hel"), TextDelta(0, "lo"), TextEnd(0, "Hello")],
        id="text comes in deltas; pings are nothing",
    ),
    pytest.param(
        [block(0, "text", text="Hel"), text(0, "lo"), stop(0)],
        [TextStart(0), TextDelta(0, "Hel"), TextDelta(0, "lo"), TextEnd(0, "Hello")],
        id="text that comes with the start is the first delta",
    ),
    pytest.param(
        [block(0, "text", text=""), text(0, ""), {"type": "content_block_delta", "index": 0}, stop(0)],
        [TextStart(0), TextEnd(0, "")],
        id="an empty delta is no event",
    ),
    pytest.param(
        [
            block(0, "thinking", thinking="", signature=""),
            delta(0, "thinking_delta", thinking="Hm"),
            delta(0, "signature_delta", signature="sig"),
            delta(0, "signature_delta", signature="ned"),
            stop(0),
        ],
        [ThinkingStart(0), ThinkingDelta(0, "Hm"), ThinkingEnd(0, "Hm", "signed")],
        id="thinking ends with its signature",
    ),
    pytest.param(
        [block(0, "redacted_thinking", data="encrypted"), stop(0)],
        [ThinkingStart(0), ThinkingEnd(0, "", "encrypted", redacted=True)],
        id="redacted thinking is its own signature",
    ),
    pytest.param(
        [delta(0, "signature_delta", signature="s"), stop(0), text(1, "a"), stop(1)],
        [ThinkingStart(0), ThinkingEnd(0, "", "s"), TextStart(1), TextDelta(1, "a"), TextEnd(1, "a")],
        id="a signature without thinking is kept",
    ),
    pytest.param(
        [
            block(0, "tool_use", id="t1", name="weather", input={}),
            delta(0, "input_json_delta", partial_json=""),
            delta(0, "input_json_delta", partial_json='{"city": '),
            delta(0, "input_json_delta", partial_json='"Paris"}'),
            stop(0),
        ],
        [
            ToolCallStart(0, "t1", "weather"),
            ToolCallDelta(0, '{"city": '),
            ToolCallDelta(0, '"Paris"}'),
            ToolCallEnd(0, ToolCall("t1", "weather", '{"city": "Paris"}')),
        ],
        id="a tool call's arguments come as partial JSON",
    ),
    pytest.param(
        [block(0, "tool_use", id="t1", name="weather", input={"city": "Paris"}), stop(0)],
        [
            ToolCallStart(0, "t1", "weather"),
            ToolCallDelta(0, '{"city":"Paris"}'),
            ToolCallEnd(0, ToolCall("t1", "weather", '{"city":"Paris"}')),
        ],
        id="arguments that come whole with the start are one delta",
    ),
    pytest.param(
        [
            block(0, "tool_use", id="t1", name="weather", input={"city": "Rome"}),
            delta(0, "input_json_delta", partial_json="{}"),
            stop(0),
        ],
        [ToolCallStart(0, "t1", "weather"), ToolCallDelta(0, "{}"), ToolCallEnd(0, ToolCall("t1", "weather", "{}"))],
        id="deltas count more than arguments at the start",
    ),
    pytest.param(
        [
            block(0, "text", text=""),
            text(0, "a"),
            stop(0),
            block(1, "server_tool_use", id="s1", name="web_search", input={}),
            delta(1, "input_json_delta", partial_json='{"q": 1}'),
            stop(1),
            block(2, "web_search_tool_result", tool_use_id="s1", content=[]),
            stop(2),
            block(3, "text", text=""),
            delta(3, "citations_delta", citation={"cited_text": "c"}),
            text(3, "b"),
            stop(3),
        ],
        [TextStart(0), TextDelta(0, "a"), TextEnd(0, "a"), TextStart(1), TextDelta(1, "b"), TextEnd(1, "b")],
        id="what runs at the provider is not part of the answer, and the rest is numbered without gaps",
    ),
    pytest.param(
        [text(5, "a"), text(5, "b")],
        [TextStart(0), TextDelta(0, "a"), TextDelta(0, "b"), TextEnd(0, "ab")],
        id="a delta for a block that was never opened opens it, and the end closes it",
    ),
    pytest.param(
        [delta(0, "thinking_delta", thinking="a"), text(1, "b")],
        [
            ThinkingStart(0),
            ThinkingDelta(0, "a"),
            TextStart(1),
            TextDelta(1, "b"),
            ThinkingEnd(0, "a"),
            TextEnd(1, "b"),
        ],
        id="whatever kind of delta it is",
    ),
    pytest.param(
        [block(0, "text", text=""), text(0, "a"), stop(0), text(0, "b"), stop(0), stop(0), stop(9)],
        [TextStart(0), TextDelta(0, "a"), TextEnd(0, "a"), TextStart(1), TextDelta(1, "b"), TextEnd(1, "b")],
        id="a delta behind the end of its block opens another one",
    ),
    pytest.param(
        [block(0, "text", text=""), text(0, "a"), block(0, "text", text=""), text(0, "b"), stop(0)],
        [TextStart(0), TextDelta(0, "a"), TextEnd(0, "a"), TextStart(1), TextDelta(1, "b"), TextEnd(1, "b")],
        id="a block that is opened again is another one",
    ),
    pytest.param(
        [block(0, "text", text=""), delta(0, "thinking_delta", thinking="a"), text(0, "b")],
        [
            TextStart(0),
            TextEnd(0, ""),
            ThinkingStart(1),
            ThinkingDelta(1, "a"),
            ThinkingEnd(1, "a"),
            TextStart(2),
            TextDelta(2, "b"),
            TextEnd(2, "b"),
        ],
        id="a delta of another kind than its block is kept in a block of its own",
    ),
    pytest.param(
        [block(0, "text", text=""), text(0, "a"), block(1, "text", text=""), text(0, "b"), text(1, "c"), stop(0)],
        [
            TextStart(0),
            TextDelta(0, "a"),
            TextStart(1),
            TextDelta(0, "b"),
            TextDelta(1, "c"),
            TextEnd(0, "ab"),
            TextEnd(1, "c"),
        ],
        id="blocks may be open at the same time",
    ),
    pytest.param(
        [block(0, "server_tool_use"), stop(0), block(0, "text"), stop(0), text(0, "a")],
        [TextStart(0), TextEnd(0, ""), TextStart(1), TextEnd(1, ""), TextStart(2), TextDelta(2, "a"), TextEnd(2, "a")],
        id="an index that was foreign need not stay so",
    ),
    pytest.param(
        [{"type": "novelty", "index": 3}, delta(0, "novel_delta", novelty=1)],
        [],
        id="what the protocol may grow is ignored",
    ),
    pytest.param(
        [{"type": "content_block_start", "index": 0, "content_block": None}, text(0, "a")],
        [TextStart(0), TextDelta(0, "a"), TextEnd(0, "a")],
        id="a start without a block says nothing",
    ),
]


@pytest.mark.parametrize(("payloads", "events"), BLOCKS)
def test_blocks_are_told_as_they_are_said(payloads: list[Payload], events: list[AssistantEvent]) -> None:
    *body, end = told(begin(), *payloads, because("end_turn"), END)
    assert body == events
    assert isinstance(end, Done)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "pause"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "toolUse"),
        ("refusal", "refusal"),
        ("a_new_one", "stop"),
    ],
)
def test_the_reason_is_one_of_ours_and_the_providers_own_word_is_kept(word: str, reason: str) -> None:
    end = done(told(begin(), because(word), END))
    assert end.reason == reason
    assert end.message.stop_details == word


def test_a_refusal_that_is_explained_keeps_the_explanation() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "I will not."}
    payload = {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": details}}
    end = done(told(begin(), payload, END))
    assert (end.reason, end.message.stop_details) == ("refusal", "I will not.")


def test_the_message_has_every_block_and_what_is_known_of_the_answer() -> None:
    end = done(
        told(
            begin(usage={"input_tokens": 10, "cache_read_input_tokens": 3, "output_tokens": 1}),
            block(0, "thinking", thinking=""),
            delta(0, "thinking_delta", thinking="Hm"),
            stop(0),
            text(1, "Hello"),
            block(2, "tool_use", id="t", name="f", input={}),
            because("tool_use", usage={"output_tokens": 20, "input_tokens": None, "cache_creation_input_tokens": 4}),
            END,
        )
    )
    assert end.message.content == (Thinking("Hm"), Text("Hello"), ToolCall("t", "f", ""))
    assert (end.message.id, end.message.model) == ("msg_1", "m-1")
    assert end.message.usage == Usage(input_tokens=10, output_tokens=20, cache_read_tokens=3, cache_write_tokens=4)


@pytest.mark.parametrize(
    "usage", [None, [], "many", {"input_tokens": "7", "output_tokens": -1}, {"input_tokens": True}]
)
def test_counts_that_are_none_are_no_counts(usage: Any) -> None:
    assert done(told(begin(usage=usage), because("end_turn", usage=usage), END)).message.usage == Usage()


def test_nothing_follows_the_end() -> None:
    events = told(begin(), text(0, "a"), because("end_turn"), END, text(0, "b"), END, "garbage", {"type": "error"})
    assert text_of(events) == "a"


def test_a_body_that_ends_after_the_reason_was_told_is_complete() -> None:
    assert done(told(begin(), text(0, "a"), because("max_tokens"))).reason == "length"


def test_a_stop_without_a_reason_is_a_stop() -> None:
    assert done(told(begin(), text(0, "a"), because(None), END)).reason == "stop"


def test_a_tool_call_is_the_reason_where_none_is_told() -> None:
    assert done(told(begin(), block(0, "tool_use", id="t", name="f"), END)).reason == "toolUse"


def test_the_end_of_another_dialect_is_an_end() -> None:
    assert done(told(begin(), text(0, "a"), "[DONE]")).reason == "stop"


@pytest.mark.parametrize(
    "payloads",
    [
        pytest.param([], id="nothing"),
        pytest.param([PING], id="a ping alone"),
        pytest.param([begin()], id="the message alone"),
        pytest.param(
            [begin(), block(0, "tool_use", id="t", name="f"), delta(0, "input_json_delta", partial_json="{")], id="half"
        ),
        pytest.param([begin(), because(None)], id="no reason"),
    ],
)
def test_a_body_that_ends_before_the_reason_was_told_is_cut(payloads: list[Payload]) -> None:
    error = failed(told(*payloads))
    assert type(error.cause) is StreamCut
    assert not any(isinstance(event, ToolCallEnd) for event in told(*payloads)), "half a tool call is not one to run"


def test_arguments_that_came_whole_are_in_the_message_of_an_error() -> None:
    error = failed(told(begin(), block(0, "tool_use", id="t", name="f", input={"a": 1})))
    assert error.error.content == (ToolCall("t", "f", '{"a":1}'),)


def test_what_was_said_before_an_error_is_in_its_message() -> None:
    error = failed(
        told(
            begin(),
            text(0, "Hel"),
            text(0, "lo"),
            block(1, "tool_use", id="t", name="f"),
            delta(1, "input_json_delta", partial_json='{"a'),
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        )
    )
    assert error.error.content == (Text("Hello"), ToolCall("t", "f", '{"a'))
    assert error.error.id == "msg_1"
    assert error.error.error_message == str(error.cause) == "Overloaded (overloaded_error)"


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"type": "error", "error": {"type": "authentication_error", "message": "m"}}, CredentialRejected),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, ProviderUnavailable),
        ({"type": "error", "error": {"type": "api_error", "message": "m"}}, ProviderUnavailable),
        ({"type": "error", "error": "m"}, ProviderError),
        ({"type": "error", "error": None}, ProviderError),
        ({"type": "error"}, ProviderError),
        ({"type": "", "error": {"code": 401, "message": "m"}}, CredentialRejected),
        ({"type": "error", "code": 500, "message": "m"}, ProviderUnavailable),
    ],
)
def test_an_error_in_band_has_a_typed_cause_and_the_status_of_the_response(
    payload: Payload, kind: type[ProviderError]
) -> None:
    cause = failed(told(begin(), payload)).cause
    assert type(cause) is kind
    assert isinstance(cause, ProviderError)
    assert cause.status == 200


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("overloaded, sorry", id="not JSON"),
        pytest.param('{"message": "overloaded, sorry"}', id="without an error inside"),
        pytest.param('{"error": {"message": "overloaded, sorry", "x": %s}}' % ("9" * 5000), id="not quite JSON"),
    ],
)
def test_an_event_named_error_is_one_with_that_text(data: str) -> None:
    events = read(ANTHROPIC, f"event: error\ndata: {data}\n\n".encode())
    assert "overloaded, sorry" in str(failed(events).cause)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(sse("<html>"), id="not JSON"),
        pytest.param(sse("[]"), id="not an object"),
        pytest.param(sse("7"), id="a number"),
        pytest.param(sse("[" * 100_000), id="JSON deeper than a stack"),
        pytest.param(
            sse('{"type": "ping", "x": ' + "[" * 100_000 + "]" * 100_000 + "}"), id="an object that is as deep"
        ),
        pytest.param(sse('{"type": "content_block_delta", "index": ' + "9" * 5000 + "}"), id="a number without end"),
        pytest.param(sse({"choices": [{"index": 0, "delta": {"content": "Hi"}}]}), id="another dialect"),
    ],
)
def test_what_is_not_this_protocol_is_refused_with_a_sentence_that_helps(body: bytes) -> None:
    events = read(ANTHROPIC, body)
    check_grammar(events)
    cause = failed(events).cause
    assert type(cause) is ProtocolError
    assert "base URL and the protocol" in str(cause)
    assert "Anthropic Messages" in str(cause)
    assert len(str(cause)) < 500


def test_garbage_in_the_middle_keeps_what_was_said() -> None:
    error = failed(told(begin(), text(0, "Hello"), "<html>"))
    assert type(error.cause) is ProtocolError
    assert error.error.text == "Hello"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(rb'{"text":"a\ud800b","type":"text_delta"}', "a\ufffdb", id="half a surrogate pair"),
        pytest.param(rb'{"text":"\ud83d\ude00","type":"text_delta"}', "\U0001f600", id="a whole one"),
        pytest.param(rb'{"text":"\ude00\ud83d","type":"text_delta"}', "\ufffd\ufffd", id="the wrong way round"),
        pytest.param(rb'{"text":"\\ud800","type":"text_delta"}', r"\ud800", id="none: the backslash is text"),
        pytest.param(b'{"text":"a\xffb","type":"text_delta"}', "a\ufffdb", id="invalid UTF-8"),
        pytest.param(b'{"text":"a","type":"text_delta","p":NaN}', "a", id="a number that JSON does not have"),
        pytest.param('{"text":"\u2028\u0085","type":"text_delta"}'.encode(), "\u2028\u0085", id="other line breaks"),
    ],
)
def test_damaged_text_is_told_as_text(data: bytes, said: str) -> None:
    body = b'data: {"type":"content_block_delta","index":0,"delta":' + data + b"}\n\n"
    events = read(ANTHROPIC, body + sse(because("end_turn"), END))
    assert text_of(events) == said
    said.encode()


def test_an_event_that_names_its_type_only_outside_the_json_is_understood() -> None:
    body = b'event: content_block_delta\ndata: {"index":0,"delta":{"type":"text_delta","text":"a"}}\n\n'
    assert message_of(read(ANTHROPIC, body)).text == "a"


def test_empty_data_is_nothing() -> None:
    assert done(told(begin(), "", "  ", because("end_turn"), END)).reason == "stop"
