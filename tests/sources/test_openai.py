"""Chat Completions to assistant events: what is told, whatever compatible servers make of the protocol."""

from __future__ import annotations

from typing import Any

import pytest

from rxauth.errors import (
    CredentialRejected,
    ProtocolError,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    StreamCut,
)
from rxauth.events import (
    AssistantEvent,
    Done,
    Text,
    TextDelta,
    TextEnd,
    TextStart,
    ThinkingDelta,
    ThinkingEnd,
    ThinkingStart,
    ToolCall,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
)
from tests.sources.streams import OPENAI, check_grammar, done, failed, read, sse, text_of

Payload = dict[str, Any]


def chunk(delta: Any = None, *, finish: str | None = None, index: int | None = 0, **rest: Any) -> Payload:
    choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}
    return {"id": "chat_1", "object": "chat.completion.chunk", "model": "m-1", "choices": [choice], **rest}


def say(text: Any) -> Payload:
    return chunk({"role": "assistant", "content": text, "tool_calls": None, "refusal": None})


def think(text: Any, field: str = "reasoning_content") -> Payload:
    return chunk({"content": None, field: text})


def call(
    index: int | None, id: str | None = None, name: str | None = None, arguments: Any = None, **rest: Any
) -> Payload:
    each: Payload = {"type": "function", "function": {"name": name, "arguments": arguments}, "id": id, **rest}
    if index is not None:
        each["index"] = index
    return chunk({"tool_calls": [each]})


def finish(reason: str = "stop", **rest: Any) -> Payload:
    return chunk({}, finish=reason, **rest)


def with_error(error: Payload, *, finish: str | None = None) -> Payload:
    """An error inside the choice."""
    made = chunk({"content": ""}, finish=finish)
    made["choices"][0]["error"] = error
    return made


END = "[DONE]"


def told(*payloads: Payload | str) -> list[AssistantEvent]:
    events = read(OPENAI, sse(*payloads))
    check_grammar(events)
    return events


def tool_call(index: int, id: str, name: str, *arguments: str) -> list[AssistantEvent]:
    return [ToolCallStart(index, id, name), *(ToolCallDelta(index, each) for each in arguments)]


def tool_end(index: int, id: str, name: str, arguments: str = "") -> ToolCallEnd:
    return ToolCallEnd(index, ToolCall(id, name, arguments))


BLOCKS = [
    pytest.param(
        [say(""), say("Hel"), say("lo"), say(None)],
        [TextStart(0), TextDelta(0, "Hel"), TextDelta(0, "lo"), TextEnd(0, "Hello")],
        id="text comes in deltas; empty ones are no events",
    ),
    pytest.param(
        [think("Hm"), think("m", "reasoning"), say("Hello")],
        [
            ThinkingStart(0),
            ThinkingDelta(0, "Hm"),
            ThinkingDelta(0, "m"),
            ThinkingEnd(0, "Hmm"),
            TextStart(1),
            TextDelta(1, "Hello"),
            TextEnd(1, "Hello"),
        ],
        id="reasoning, by either name, is thinking, and is complete when the text begins",
    ),
    pytest.param(
        [chunk({"reasoning_content": "Hm", "reasoning": "Hm", "content": "Hi"})],
        [
            ThinkingStart(0),
            ThinkingDelta(0, "Hm"),
            ThinkingEnd(0, "Hm"),
            TextStart(1),
            TextDelta(1, "Hi"),
            TextEnd(1, "Hi"),
        ],
        id="reasoning under both names is told once, before the text of the same chunk",
    ),
    pytest.param(
        [say("a"), think("b"), say("c")],
        [
            TextStart(0),
            TextDelta(0, "a"),
            TextEnd(0, "a"),
            ThinkingStart(1),
            ThinkingDelta(1, "b"),
            ThinkingEnd(1, "b"),
            TextStart(2),
            TextDelta(2, "c"),
            TextEnd(2, "c"),
        ],
        id="text behind more thinking is another block",
    ),
    pytest.param(
        [
            say([{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}, None, {"type": "image"}]),
            say([]),
            say({}),
        ],
        [TextStart(0), TextDelta(0, "Hel"), TextDelta(0, "lo"), TextEnd(0, "Hello")],
        id="content may be a list of parts",
    ),
    pytest.param(
        [say([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"type": "text", "text": "Hi"}])],
        [
            ThinkingStart(0),
            ThinkingDelta(0, "Hm"),
            ThinkingEnd(0, "Hm"),
            TextStart(1),
            TextDelta(1, "Hi"),
            TextEnd(1, "Hi"),
        ],
        id="with thinking among them",
    ),
    pytest.param(
        [call(0, "c0", "f", ""), call(0, arguments='{"a"'), call(0, arguments=":1}"), call(1, "c1", "g", "{}")],
        [
            *tool_call(0, "c0", "f", '{"a"', ":1}"),
            *tool_call(1, "c1", "g", "{}"),
            tool_end(0, "c0", "f", '{"a":1}'),
            tool_end(1, "c1", "g", "{}"),
        ],
        id="tool calls are told by index",
    ),
    pytest.param(
        [call(0, "c0", "f", "1"), call(1, "c1", "g", "2"), call(0, arguments="3"), call(1, arguments="4")],
        [
            *tool_call(0, "c0", "f", "1"),
            *tool_call(1, "c1", "g", "2"),
            ToolCallDelta(0, "3"),
            ToolCallDelta(1, "4"),
            tool_end(0, "c0", "f", "13"),
            tool_end(1, "c1", "g", "24"),
        ],
        id="also where their arguments come in turns",
    ),
    pytest.param(
        [say("a"), call(0, "c0", "f", "{}"), say("b")],
        [
            TextStart(0),
            TextDelta(0, "a"),
            TextEnd(0, "a"),
            *tool_call(1, "c0", "f", "{}"),
            TextStart(2),
            TextDelta(2, "b"),
            tool_end(1, "c0", "f", "{}"),
            TextEnd(2, "b"),
        ],
        id="text around a tool call is two blocks",
    ),
    pytest.param(
        [call(0, arguments="{"), call(0, "c0", arguments='"a":'), call(0, name="f"), call(0, arguments="1}")],
        [*tool_call(0, "c0", "f", '{"a":', "1}"), tool_end(0, "c0", "f", '{"a":1}')],
        id="arguments that come before the name and the id are kept until both are known",
    ),
    pytest.param(
        [call(0, None, "f", "{}"), call(1, "", "g", "{}")],
        [
            *tool_call(0, "chat_1_0", "f", "{}"),
            *tool_call(1, "chat_1_1", "g", "{}"),
            tool_end(0, "chat_1_0", "f", "{}"),
            tool_end(1, "chat_1_1", "g", "{}"),
        ],
        id="a call that never gets an id is given one",
    ),
    pytest.param(
        [call(0, "c0", "f", "{"), call(0, "c0", "f", "}")],
        [*tool_call(0, "c0", "f", "{", "}"), tool_end(0, "c0", "f", "{}")],
        id="a name and an id that are repeated say nothing new",
    ),
    pytest.param(
        [
            call(None, "c0", "f", "1"),
            call(None, arguments="2"),
            call(None, "c1", "f", "3"),
            call(None, "c0", None, "4"),
        ],
        [
            *tool_call(0, "c0", "f", "1", "2"),
            *tool_call(1, "c1", "f", "3"),
            ToolCallDelta(0, "4"),
            tool_end(0, "c0", "f", "124"),
            tool_end(1, "c1", "f", "3"),
        ],
        id="without an index the id says which call it is, and without an id it is the last one",
    ),
    pytest.param(
        [call(None, None, "f", "1"), call(None, None, "g", "2")],
        [
            *tool_call(0, "chat_1_0", "f", "1"),
            *tool_call(1, "chat_1_1", "g", "2"),
            tool_end(0, "chat_1_0", "f", "1"),
            tool_end(1, "chat_1_1", "g", "2"),
        ],
        id="without either, a name begins another call",
    ),
    pytest.param(
        [call(0, "c0", "f", "1"), call(0, "c1", "g", "2"), call(0, arguments="3")],
        [
            *tool_call(0, "c0", "f", "1"),
            *tool_call(1, "c1", "g", "2", "3"),
            tool_end(0, "c0", "f", "1"),
            tool_end(1, "c1", "g", "23"),
        ],
        id="calls that all have the same index are told apart by id and name",
    ),
    pytest.param(
        [call(0, "c0", "f", {"a": 1})],
        [*tool_call(0, "c0", "f", '{"a":1}'), tool_end(0, "c0", "f", '{"a":1}')],
        id="arguments may be an object",
    ),
    pytest.param(
        [chunk({"function_call": {"name": "f", "arguments": "{"}}), chunk({"function_call": {"arguments": "}"}})],
        [*tool_call(0, "chat_1_function", "f", "{", "}"), tool_end(0, "chat_1_function", "f", "{}")],
        id="the older form of a tool call is one",
    ),
    pytest.param(
        [chunk({"content": "no"}, index=1), say("yes"), chunk({"content": "!"}, index=None)],
        [TextStart(0), TextDelta(0, "yes"), TextDelta(0, "!"), TextEnd(0, "yes!")],
        id="of several choices the first is told",
    ),
    pytest.param(
        [
            chunk(
                {"tool_calls": ["x", {"function": 1, "index": 0}], "function_call": "x", "refusal": 1, "reasoning": {}}
            )
        ],
        [],
        id="fields of another kind are not looked into",
    ),
    pytest.param([chunk(None), {"choices": []}, {"id": "x", "choices": [{}]}], [], id="chunks may be empty"),
]


@pytest.mark.parametrize(("payloads", "events"), BLOCKS)
def test_blocks_are_told_as_they_are_said(payloads: list[Payload], events: list[AssistantEvent]) -> None:
    *body, end = told(*payloads, finish(), END)
    assert body == events
    assert isinstance(end, Done)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("tool_calls", "toolUse"),
        ("function_call", "toolUse"),
        ("content_filter", "refusal"),
        ("sensitive", "refusal"),
        ("a_new_one", "stop"),
    ],
)
def test_the_reason_is_one_of_ours_and_the_providers_own_word_is_kept(word: str, reason: str) -> None:
    end = done(told(say("a"), finish(word), END))
    assert (end.reason, end.message.stop_details) == (reason, word)


def test_a_forced_tool_call_that_ends_with_stop_asks_for_an_answer() -> None:
    end = done(told(call(0, "c", "f", "{}"), finish("stop"), END))
    assert (end.reason, end.message.stop_details) == ("toolUse", "stop")


def test_a_refusal_is_an_end_and_its_words_are_kept() -> None:
    events = told(chunk({"refusal": "I'm "}), chunk({"refusal": "sorry."}), finish("stop"), END)
    assert len(events) == 1
    assert (done(events).reason, done(events).message.stop_details) == ("refusal", "I'm sorry.")
    assert done(told(chunk({"refusal": "Sorry."}), END)).reason == "refusal"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param([say("a"), finish(), END], id="with both"),
        pytest.param([say("a"), finish()], id="without the end mark"),
        pytest.param([say("a"), END], id="without a reason"),
        pytest.param([say("a"), finish(), finish(), END], id="with the reason told twice"),
        pytest.param(
            [say("a"), chunk({"content": ""}, finish="stop")], id="with the reason in a chunk that has content"
        ),
        pytest.param([say("a"), finish(), END, say("b"), END, "garbage"], id="with more behind the end"),
    ],
)
def test_an_answer_is_complete(body: list[Payload | str]) -> None:
    events = told(*body)
    assert text_of(events) == "a"
    assert done(events).reason == "stop"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param([], id="nothing"),
        pytest.param([END], id="the end mark alone"),
        pytest.param([say("a")], id="no reason"),
        pytest.param([call(0, "c", "f", "{")], id="half a tool call"),
        pytest.param([call(0, None, "f", "{")], id="a tool call without an id"),
    ],
)
def test_an_answer_that_ends_before_it_is_complete_is_cut(body: list[Payload | str]) -> None:
    events = told(*body)
    assert type(failed(events).cause) is StreamCut
    assert not any(isinstance(event, ToolCallEnd) for event in events), "half a tool call is not one to run"


@pytest.mark.parametrize(
    ("where", "usage"),
    [
        pytest.param(
            [finish(), {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}],
            Usage(input_tokens=7, output_tokens=5),
            id="in the last chunk",
        ),
        pytest.param(
            [finish(), {"usage": {"prompt_tokens": 7}}], Usage(input_tokens=7), id="in a chunk without choices"
        ),
        pytest.param([finish(usage={"completion_tokens": 5})], Usage(output_tokens=5), id="beside the reason"),
        pytest.param(
            [{"choices": [{"delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 7}}]}],
            Usage(input_tokens=7),
            id="inside the choice",
        ),
        pytest.param(
            [
                finish(
                    usage={"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1}}
                )
            ],
            Usage(input_tokens=7, cache_read_tokens=4, cache_write_tokens=1),
            id="with what came from a cache",
        ),
        pytest.param([finish(usage={"prompt_cache_hit_tokens": 4})], Usage(cache_read_tokens=4), id="by another name"),
        pytest.param(
            [finish(usage={"prompt_tokens": None, "prompt_tokens_details": None})], Usage(), id="or not at all"
        ),
        pytest.param([finish(usage="many")], Usage(), id="nor in words"),
        pytest.param([finish(usage={"prompt_tokens": -1, "completion_tokens": True})], Usage(), id="nor below zero"),
    ],
)
def test_tokens_are_counted_wherever_they_are_told(where: list[Payload], usage: Usage) -> None:
    assert done(told(say("a"), *where, END)).message.usage == usage


def test_the_message_knows_its_id_and_model() -> None:
    first = {"id": "", "model": "", "choices": [], "prompt_filter_results": []}
    message = done(told(first, say("a"), finish(), END)).message
    assert (message.id, message.model, message.text) == ("chat_1", "m-1", "a")


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"error": {"message": "m", "type": "server_error", "code": None}}, ProviderUnavailable),
        ({"error": {"message": "m", "type": "invalid_request_error", "code": "invalid_api_key"}}, CredentialRejected),
        ({"error": {"message": "m", "code": 401}}, CredentialRejected),
        ({"error": {"message": "m", "code": "401"}}, CredentialRejected),
        (
            {
                "error": {"message": "m", "code": 502, "metadata": {}},
                "choices": [{"delta": {}, "finish_reason": "error"}],
            },
            ProviderUnavailable,
        ),
        ({"error": {"message": "m", "code": "context_length_exceeded"}, "choices": []}, RequestRejected),
        ({"error": "m"}, ProviderError),
        ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, RequestRejected),
        ({"choices": [{"delta": {}, "finish_reason": "insufficient_system_resource"}]}, ProviderUnavailable),
        ({"choices": [{"delta": {}, "finish_reason": "error"}]}, ProviderUnavailable),
        ({"choices": [{"finish_reason": "error"}, {"delta": {"content": "more"}}]}, ProviderUnavailable),
        (with_error({"code": 502, "message": "m"}, finish="error"), ProviderUnavailable),
        (with_error({"code": 401, "message": "m"}, finish="error"), CredentialRejected),
        (with_error({"code": "invalid_api_key", "message": "m"}), CredentialRejected),
    ],
)
def test_an_error_in_band_has_a_typed_cause_and_keeps_what_was_said(
    payload: Payload, kind: type[ProviderError]
) -> None:
    error = failed(told(say("Hello"), payload, say("more"), END))
    assert type(error.cause) is kind
    assert isinstance(error.cause, ProviderError)
    assert error.cause.status == 200
    assert error.error.content == (Text("Hello"),)


def test_an_error_inside_a_choice_is_told_in_the_providers_words() -> None:
    cause = failed(told(with_error({"code": 502, "message": "Upstream is down"}, finish="error"))).cause
    assert "Upstream is down" in str(cause)
    assert done(told(say("a"), with_error({}, finish="stop"), END)).reason == "stop"


def test_what_still_waited_for_its_end_is_in_the_message_of_an_error() -> None:
    error = failed(told(call(0, None, "f", '{"a'), chunk({"refusal": "Sor"}), {"error": {"message": "m"}}))
    assert error.error.content == (ToolCall("chat_1_0", "f", '{"a'),)
    assert error.error.stop_details == "Sor"


@pytest.mark.parametrize(
    "body",
    [
        b'event: error\ndata: {"message": "sorry"}\n\n',
        b'event: error\ndata: {"error": {"message": "sorry"}}\n\n',
        b"event: error\ndata: sorry\n\n",
    ],
)
def test_an_event_named_error_is_one(body: bytes) -> None:
    assert "sorry" in str(failed(read(OPENAI, body)).cause)


@pytest.mark.parametrize("payload", [{"error": None}, {"error": {}}, {"error": ""}])
def test_an_error_that_is_none_is_none(payload: Payload) -> None:
    assert done(told(say("a") | payload, finish(), END)).reason == "stop"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(sse("<html>"), id="not JSON"),
        pytest.param(sse("[]"), id="not an object"),
        pytest.param(sse("[" * 100_000), id="JSON deeper than a stack"),
        pytest.param(sse('{"x": ' + "[" * 100_000 + "]" * 100_000 + "}"), id="an object that is as deep"),
        pytest.param(sse('{"choices": {"0": 1}}'), id="a field of another type"),
        *(
            pytest.param(sse(begin + '"x": ' + "9" * 5000 + "}"), id=f"a number without end behind {begin}")
            for begin in ("{", '{"error": {"message": "m"}, ', '{"choices": [{"delta": {"content": "a"}}], ')
        ),
        pytest.param(sse({"type": "message_start", "message": {}}, {"type": "message_stop"}), id="another dialect"),
        pytest.param(sse({"type": "message_start", "message": {}}, END), id="another dialect with an end mark"),
    ],
)
def test_what_is_not_this_protocol_is_refused_with_a_sentence_that_helps(body: bytes) -> None:
    events = read(OPENAI, body)
    check_grammar(events)
    cause = failed(events).cause
    assert type(cause) is ProtocolError
    assert "base URL and the protocol" in str(cause)
    assert "Chat Completions" in str(cause)


def test_a_stream_under_another_name_is_judged_by_what_is_in_it() -> None:
    body = sse(say("a"), finish(), END)
    assert done(read(OPENAI, body, content_type="text/plain")).reason == "stop"
    cause = failed(read(OPENAI, b"hello there", content_type="text/plain")).cause
    assert type(cause) is ProtocolError
    assert "text/plain" in str(cause)


def test_damaged_text_is_told_as_text() -> None:
    body = (
        rb'data: {"choices":[{"index":0,"delta":{"content":"a\ud800"},"logprobs":NaN,"finish_reason":"stop"}]}'
        + b"\n\n"
    )
    assert text_of(read(OPENAI, body)) == "a\ufffd"
