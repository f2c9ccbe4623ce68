"""Anthropic Messages to assistant events. For errors see test_error_shapes, for tool calls test_tool_calls."""

from __future__ import annotations

from typing import Any

import pytest

from rxauth.errors import CredentialRejected, ProviderError, ProviderUnavailable, StreamCut
from rxauth.events import AssistantEvent, Block, Text, Thinking, ThinkingEnd, ToolCall, ToolCallEnd, Usage
from tests.sources.streams import ANTHROPIC, check_grammar, done, failed, read, sse, text_of, trace

Payload = dict[str, Any]


def begin(**message: Any) -> Payload:
    return {"type": "message_start", "message": {"id": "msg_1", "model": "m-1", "content": [], **message}}


def block(index: int, kind: str, **fields: Any) -> Payload:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **fields}}


def delta(index: int, kind: str, **fields: Any) -> Payload:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def text(index: int, said: str) -> Payload:
    return delta(index, "text_delta", text=said)


def thinking(index: int, said: str, **fields: Any) -> Payload:
    return delta(index, "thinking_delta", thinking=said, **fields)


def signature(index: int, said: str) -> Payload:
    return delta(index, "signature_delta", signature=said)


def json_(index: int, said: str) -> Payload:
    return delta(index, "input_json_delta", partial_json=said)


def stop(index: int) -> Payload:
    return {"type": "content_block_stop", "index": index}


def because(reason: str | None, **rest: Any) -> Payload:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, **rest}


END: Payload = {"type": "message_stop"}
PING: Payload = {"type": "ping"}
OPEN = block(0, "text", text="")
SEARCH: Payload = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
FOUND: Payload = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"url": "u"}]}


def events_of(*payloads: Payload | str) -> list[AssistantEvent]:
    events = read(ANTHROPIC, sse(*payloads, name=True))
    check_grammar(events)
    return events


def content_of(*payloads: Payload) -> tuple[Block, ...]:
    return done(events_of(begin(), *payloads, because("end_turn"), END)).message.content


# fmt: off
@pytest.mark.parametrize(
    ("payloads", "events"),
    [
        pytest.param([OPEN, text(0, "Hel"), PING, text(0, "lo"), stop(0)],
                     "0<text 0+Hel 0+lo 0>", id="deltas, and a ping among them"),
        pytest.param([block(0, "text", text="Hel"), text(0, "lo"), stop(0)],
                     "0<text 0+Hel 0+lo 0>", id="text in the start"),
        pytest.param([OPEN, text(0, ""), {"type": "content_block_delta", "index": 0}, stop(0)],
                     "0<text 0>", id="empty deltas"),
        pytest.param([block(0, "tool_use", id="t", name="f", input={}), json_(0, ""), json_(0, "{}"), stop(0)],
                     "0<f#t 0+{} 0>", id="a tool call"),
        pytest.param([block(0, "tool_use", id="t", name="f", input={"a": 1}), stop(0)],
                     '0<f#t 0+{"a":1} 0>', id="arguments in the start"),
        pytest.param([block(0, "tool_use", id="t", name="f", input='{"a":1}'), stop(0)],
                     '0<f#t 0+{"a":1} 0>', id="arguments in the start, as text"),
        pytest.param([block(0, "tool_use", id="t", name="f", input={"a": 1}), json_(0, "{}"), stop(0)],
                     "0<f#t 0+{} 0>", id="deltas count more than the start"),
        pytest.param([text(5, "a"), text(5, "b")],
                     "0<text 0+a 0+b 0>", id="a block that was never opened"),
        pytest.param([thinking(0, "a"), text(1, "b")],
                     "0<thinking 0+a 1<text 1+b 0> 1>", id="two that were never opened"),
        pytest.param([OPEN, text(0, "a"), stop(0), text(0, "b"), stop(0), stop(0), stop(9)],
                     "0<text 0+a 0> 1<text 1+b 1>", id="a delta after the end of its block"),
        pytest.param([OPEN, text(0, "a"), OPEN, text(0, "b"), stop(0)],
                     "0<text 0+a 0> 1<text 1+b 1>", id="a block opened twice"),
        pytest.param([OPEN, thinking(0, "a"), text(0, "b")],
                     "0<text 0> 1<thinking 1+a 1> 2<text 2+b 2>", id="deltas of another kind"),
        pytest.param([OPEN, text(0, "a"), block(1, "text"), text(0, "b"), text(1, "c"), stop(0)],
                     "0<text 0+a 1<text 0+b 1+c 0> 1>", id="two blocks at once"),
        pytest.param([{"type": "novelty", "index": 3}, delta(0, "novel_delta", novelty=1)],
                     "", id="events of a later version"),
        pytest.param([begin(content=[{"type": "text", "text": "Hi"}])],
                     "0<text 0+Hi 0>", id="content in the message's start"),
        pytest.param([{"type": "content_block_start", "index": 0, "content_block": None}, text(0, "a")],
                     "0<text 0+a 0>", id="a start without a block"),
    ],
)
def test_blocks_become_events(payloads: list[Payload], events: str) -> None:
    assert trace(events_of(begin(), *payloads, because("refusal"), END)) == f"{events} refusal".strip()


@pytest.mark.parametrize(
    ("payloads", "content"),
    [
        pytest.param([block(0, "thinking", thinking="", signature=""), thinking(0, "Hm"), signature(0, "si"),
                      signature(0, "gn"), stop(0)],
                     [Thinking("Hm", "sign")], id="a signature in deltas of its own"),
        pytest.param([block(0, "thinking"), thinking(0, "Hm"), thinking(0, "", signature="sign"), stop(0)],
                     [Thinking("Hm", "sign")], id="in a thinking delta"),
        pytest.param([block(0, "thinking", thinking="Hm", signature="sign"), stop(0)],
                     [Thinking("Hm", "sign")], id="in the start"),
        pytest.param([block(0, "thinking"), thinking(0, "Hm"), stop(0), signature(0, "sign")],
                     [Thinking("Hm", "sign")], id="after the end of the thinking"),
        pytest.param([signature(0, "sign"), stop(0)],
                     [Thinking("", "sign")], id="without thinking"),
        pytest.param([block(0, "tool_use", id="t", name="f"), signature(0, "sign"), stop(0)],
                     [ToolCall("t", "f", extra_json='{"signature":"sign"}')], id="on a tool call"),
        pytest.param([block(0, "redacted_thinking", data="encrypted"), stop(0)],
                     [Thinking("", "encrypted", redacted=True)], id="redacted thinking"),
        pytest.param([block(0, "text", text="", citations=[]), text(0, "a"),
                      delta(0, "citations_delta", citation={"n": 1}), delta(0, "citations_delta", citation={"n": 2}),
                      stop(0)],
                     [Text("a", extra_json='{"citations":[{"n":1},{"n":2}]}')], id="citations"),
        pytest.param([block(0, "tool_use", id="t", name="f", caller={"type": "direct"}), stop(0)],
                     [ToolCall("t", "f", extra_json='{"caller":{"type":"direct"}}')], id="further fields of a block"),
        pytest.param([OPEN, delta(0, "novel_delta", novelty=1), stop(0)],
                     [Text("", extra_json='{"novelty":1}')], id="a delta of a later version"),
    ],
)
def test_fields_without_events_stay_on_their_block(payloads: list[Payload], content: list[Block]) -> None:
    assert content_of(*payloads) == tuple(content)
# fmt: on


def test_the_providers_own_tools_stay_after_their_block() -> None:
    """They have no events, and the other blocks are numbered without gaps."""
    payloads = [
        *(OPEN, text(0, "a"), stop(0)),
        *(block(1, **SEARCH | {"kind": "server_tool_use"}), json_(1, '{"q":'), json_(1, "1}"), stop(1)),
        *(block(2, **FOUND | {"kind": "web_search_tool_result"}), stop(2)),
        *(block(3, "text", text=""), text(3, "b"), stop(3)),
    ]
    events = events_of(begin(), *payloads, because("end_turn"), END)
    assert trace(events) == "0<text 0+a 0> 1<text 1+b 1> stop"
    first, second = done(events).message.content
    assert first.after == [SEARCH | {"input": {"q": 1}}, FOUND]
    assert second == Text("b")


def test_a_tool_of_the_provider_may_come_first() -> None:
    (carrier,) = content_of(block(0, "server_tool_use", id="s"), stop(0))
    assert (carrier, carrier.after) == (
        Text("", after_json=carrier.after_json),
        [{"type": "server_tool_use", "id": "s"}],
    )


def test_the_end_of_thinking_has_its_signature() -> None:
    events = events_of(begin(), block(0, "thinking"), thinking(0, "Hm"), signature(0, "sign"), stop(0), END)
    assert ThinkingEnd(0, "Hm", "sign") in events


def test_a_whole_answer_becomes_events() -> None:
    """Some servers send one although a stream was asked for; framed or not."""
    answer = {
        "type": "message",
        "role": "assistant",
        "id": "msg_1",
        "content": [
            {"type": "thinking", "thinking": "Hm", "signature": "sign"},
            {"type": "text", "text": "Hi", "citations": [{"n": 1}]},
            SEARCH,
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        ],
        "stop_reason": "max_tokens",
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }
    events = events_of(answer)
    assert trace(events) == '0<thinking 0+Hm 0> 1<text 1+Hi 1> 2<f#t 2+{"a":1} 2> length'
    message = done(events).message
    assert message.content[1] == Text(
        "Hi", extra_json='{"citations":[{"n":1}]}', after_json=message.content[1].after_json
    )
    assert (message.content[1].after, message.id, message.usage.output_tokens) == ([SEARCH], "msg_1", 4)
    assert trace(events_of({"type": "message", "content": "Hi"})) == "0<text 0+Hi 0> stop"


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
def test_a_reason_keeps_the_providers_word(word: str, reason: str) -> None:
    end = done(events_of(begin(), because(word), END))
    assert (end.reason, end.message.stop_details) == (reason, word)


def test_a_refusal_keeps_its_explanation() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "I will not."}
    payload = {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": details}}
    end = done(events_of(begin(), payload, END))
    assert (end.reason, end.message.stop_details) == ("refusal", "I will not.")


def test_the_message_has_id_model_usage_and_api() -> None:
    first = begin(usage={"input_tokens": 10, "cache_read_input_tokens": 3, "output_tokens": 1})
    last = because("tool_use", usage={"output_tokens": 20, "input_tokens": None, "cache_creation_input_tokens": 4})
    message = done(events_of(first, text(1, "Hello"), last, END)).message
    assert (message.id, message.model, message.api) == ("msg_1", "m-1", "anthropic-messages")
    assert message.usage == Usage(input_tokens=10, output_tokens=20, cache_read_tokens=3, cache_write_tokens=4)


@pytest.mark.parametrize(
    "usage", [None, [], "many", {"input_tokens": "7", "output_tokens": -1}, {"input_tokens": True}]
)
def test_counts_of_another_kind_are_ignored(usage: Any) -> None:
    assert done(events_of(begin(usage=usage), because("end_turn", usage=usage), END)).message.usage == Usage()


@pytest.mark.parametrize(
    ("payloads", "reason"),
    [
        pytest.param([because("end_turn"), END, text(0, "b"), END, "garbage", {"type": "error"}], "stop", id="more"),
        pytest.param([because("max_tokens")], "length", id="no message_stop"),
        pytest.param([because(None), END], "stop", id="no reason"),
        pytest.param(["[DONE]"], "stop", id="the end mark of another dialect"),
        pytest.param([block(1, "tool_use", id="t", name="f"), END], "toolUse", id="a tool call and no reason"),
    ],
)
def test_an_answer_is_complete(payloads: list[Payload | str], reason: str) -> None:
    events = events_of(begin(), text(0, "a"), *payloads)
    assert (text_of(events), done(events).reason) == ("a", reason)


@pytest.mark.parametrize(
    "payloads",
    [
        pytest.param([], id="nothing"),
        pytest.param([PING], id="a ping alone"),
        pytest.param([begin()], id="the message alone"),
        pytest.param([begin(), block(0, "tool_use", id="t", name="f"), json_(0, "{")], id="half a tool call"),
        pytest.param([begin(), because(None)], id="no reason"),
        pytest.param(["[DONE]"], id="the end mark of another dialect alone"),
    ],
)
def test_an_incomplete_answer_is_cut(payloads: list[Payload]) -> None:
    events = events_of(*payloads)
    assert type(failed(events).cause) is StreamCut
    assert not any(isinstance(event, ToolCallEnd) for event in events), "half a tool call must not run"


def test_an_error_keeps_the_message_so_far() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    call, whole = block(1, "tool_use", id="t", name="f"), block(2, "tool_use", id="u", name="g", input={"a": 1})
    end = failed(events_of(begin(), text(0, "Hello"), call, json_(1, '{"a'), whole, error))
    assert end.error.content == (Text("Hello"), ToolCall("t", "f", '{"a'), ToolCall("u", "g", '{"a":1}'))
    assert end.error.id == "msg_1"
    assert end.error.error_message == str(end.cause) == "Overloaded (overloaded_error)"


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"type": "error", "error": {"type": "authentication_error", "message": "m"}}, CredentialRejected),
        ({"type": "error", "error": {"type": "api_error", "message": "m"}}, ProviderUnavailable),
        ({"type": "error", "error": "m"}, ProviderError),
        ({"type": "error", "error": None}, ProviderError),
        ({"type": "error"}, ProviderError),
        ({"type": "", "error": {"code": 401, "message": "m"}}, CredentialRejected),
        ({"type": "error", "code": 500, "message": "m"}, ProviderUnavailable),
    ],
)
def test_an_error_event_has_a_typed_cause(payload: Payload, kind: type[ProviderError]) -> None:
    cause = failed(events_of(begin(), payload)).cause
    assert type(cause) is kind
    assert isinstance(cause, ProviderError)
    assert cause.status == 200


def test_damaged_text_is_repaired() -> None:
    """Half a surrogate pair, NaN and invalid UTF-8 are no reason to lose an answer."""
    body = sse(begin()) + (
        b"event: content_block_delta\n"
        rb'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\ud800'
        + b'\xff","x":NaN}}\n\n'
    )
    assert text_of(read(ANTHROPIC, body)) == "a\ufffd\ufffd"
