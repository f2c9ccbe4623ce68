"""Anthropic Messages to assistant events. For errors see test_error_shapes, for tool calls test_tool_calls."""

from __future__ import annotations

from typing import Any

import pytest

from rxauth.errors import StreamCut
from rxauth.events import AssistantEvent, Block, Text, Thinking, ThinkingEnd, ToolCall, ToolCallEnd, Usage
from tests.sources.streams import ANTHROPIC, check_grammar, done, failed, read, sse, text_of, trace

Payload = dict[str, Any]

DELTAS = {"text": "text_delta", "thinking": "thinking_delta", "signature": "signature_delta",
          "partial_json": "input_json_delta", "citation": "citations_delta", "novelty": "novel_delta"}  # fmt: skip


def begin(**message: Any) -> Payload:
    return {"type": "message_start", "message": {"id": "msg_1", "model": "m-1", "content": [], **message}}


def block(index: int, kind: str, **fields: Any) -> Payload:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **fields}}


def delta(index: int, **fields: Any) -> Payload:
    """A delta, named by its first field."""
    delta = {"type": DELTAS[next(iter(fields))], **fields}
    return {"type": "content_block_delta", "index": index, "delta": delta}


def stop(index: int) -> Payload:
    return {"type": "content_block_stop", "index": index}


def because(reason: str | None, **rest: Any) -> Payload:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, **rest}


END: Payload = {"type": "message_stop"}
PING: Payload = {"type": "ping"}
OPEN = block(0, "text", text="")
CALL = block(0, "tool_use", id="t", name="f", input={})
SEARCH: Payload = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
FOUND: Payload = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"url": "u"}]}


def events_of(*payloads: Payload | str) -> list[AssistantEvent]:
    events = read(ANTHROPIC, sse(*payloads, name=True))
    check_grammar(events)
    return events


# fmt: off
@pytest.mark.parametrize(("payloads", "events"), [
    pytest.param([OPEN, delta(0, text="Hel"), PING, delta(0, text="lo"), stop(0)], "0<text 0+Hel 0+lo 0>",
                 id="deltas, and a ping among them"),
    pytest.param([block(0, "text", text="Hel"), delta(0, text="lo"), stop(0)], "0<text 0+Hel 0+lo 0>",
                 id="text in the start"),
    pytest.param([OPEN, delta(0, text=""), {"type": "content_block_delta", "index": 0}, stop(0)], "0<text 0>",
                 id="empty deltas"),
    pytest.param([block(0, "tool_use", id="t", name="f", input={"a": 1}), stop(0)], '0<f#t 0+{"a":1} 0>',
                 id="arguments in the start"),
    pytest.param([block(0, "tool_use", id="t", name="f", input='{"a":1}'), stop(0)], '0<f#t 0+{"a":1} 0>',
                 id="arguments in the start, as text"),
    pytest.param([block(0, "tool_use", id="t", name="f", input={"a": 1}), delta(0, partial_json="{}"), stop(0)],
                 "0<f#t 0+{} 0>", id="deltas count more than the start"),
    pytest.param([delta(5, text="a"), delta(5, text="b")], "0<text 0+a 0+b 0>", id="a block that was never opened"),
    pytest.param([OPEN, delta(0, text="a"), stop(0), delta(0, text="b"), stop(0), stop(0), stop(9)],
                 "0<text 0+a 0> 1<text 1+b 1>", id="a delta after the end of its block"),
    pytest.param([OPEN, delta(0, text="a"), OPEN, delta(0, text="b"), stop(0)], "0<text 0+a 0> 1<text 1+b 1>",
                 id="a block opened twice"),
    pytest.param([OPEN, delta(0, thinking="a"), delta(0, text="b")], "0<text 0> 1<thinking 1+a 1> 2<text 2+b 2>",
                 id="deltas of another kind"),
    pytest.param([OPEN, delta(0, text="a"), block(1, "text"), delta(0, text="b"), delta(1, text="c"), stop(0)],
                 "0<text 0+a 1<text 0+b 1+c 0> 1>", id="two blocks at once"),
    pytest.param([{"type": "novelty", "index": 3}, delta(0, novelty=1)], "", id="events of a later version"),
    pytest.param([begin(content=[{"type": "text", "text": "Hi"}])], "0<text 0+Hi 0>",
                 id="content in the message's start"),
    pytest.param([{"type": "content_block_start", "index": 0, "content_block": None}, delta(0, text="a")],
                 "0<text 0+a 0>", id="a start without a block"),
])
def test_blocks_become_events(payloads: list[Payload], events: str) -> None:
    assert trace(events_of(begin(), *payloads, because("refusal"), END)) == f"{events} refusal".strip()


@pytest.mark.parametrize(("payloads", "content"), [
    pytest.param([block(0, "thinking"), delta(0, thinking="Hm"), delta(0, signature="si"), delta(0, signature="gn")],
                 [Thinking("Hm", "sign")], id="a signature in deltas of its own"),
    pytest.param([block(0, "thinking"), delta(0, thinking="Hm"), delta(0, thinking="", signature="sign")],
                 [Thinking("Hm", "sign")], id="in a thinking delta"),
    pytest.param([block(0, "thinking", thinking="Hm", signature="sign")], [Thinking("Hm", "sign")], id="in the start"),
    pytest.param([block(0, "thinking"), delta(0, thinking="Hm"), stop(0), delta(0, signature="sign")],
                 [Thinking("Hm", "sign")], id="after the end of the thinking"),
    pytest.param([delta(0, signature="sign")], [Thinking("", "sign")], id="without thinking"),
    pytest.param([CALL, delta(0, signature="sign")],
                 [ToolCall("t", "f", extra_json='{"signature":"sign"}')], id="on a tool call"),
    pytest.param([block(0, "text", citations=[]), delta(0, text="a"), delta(0, citation={"n": 1}),
                  delta(0, citation={"n": 2})],
                 [Text("a", extra_json='{"citations":[{"n":1},{"n":2}]}')], id="citations"),
    pytest.param([block(0, "tool_use", id="t", name="f", caller={"type": "direct"})],
                 [ToolCall("t", "f", extra_json='{"caller":{"type":"direct"}}')], id="further fields of a block"),
    pytest.param([OPEN, delta(0, novelty=1)], [Text("", extra_json='{"novelty":1}')], id="a delta of a later version"),
    pytest.param([block(0, "server_tool_use", id="s")],
                 [Text("", after_json='[{"type":"server_tool_use","id":"s"}]')], id="a provider's tool before a text"),
])
def test_fields_without_events_stay_on_their_block(payloads: list[Payload], content: list[Block]) -> None:
    assert done(events_of(begin(), *payloads, stop(0), END)).message.content == tuple(content)
# fmt: on


def test_the_providers_own_tools_stay_after_their_block() -> None:
    """They have no events, and the other blocks are numbered without gaps."""
    payloads = [
        *(OPEN, delta(0, text="a"), stop(0)),
        *(block(1, **SEARCH | {"kind": "server_tool_use"}), delta(1, partial_json='{"q":1}'), stop(1)),
        *(block(2, **FOUND | {"kind": "web_search_tool_result"}), stop(2)),
        *(block(3, "text", text=""), delta(3, text="b"), stop(3)),
    ]
    events = events_of(begin(), *payloads, because("end_turn"), END)
    assert trace(events) == "0<text 0+a 0> 1<text 1+b 1> stop"
    first, second = done(events).message.content
    assert (first.after, second) == ([SEARCH | {"input": {"q": 1}}, FOUND], Text("b"))


def test_a_whole_answer_becomes_events() -> None:
    """Some servers send one although a stream was asked for; framed or not."""
    thinking = {"type": "thinking", "thinking": "Hm", "signature": "sign"}
    text = {"type": "text", "text": "Hi", "citations": [{"n": 1}]}
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    answer = {"type": "message", "id": "msg_1", "content": [thinking, text, SEARCH, call], "stop_reason": "max_tokens"}
    events = events_of(answer | {"usage": {"input_tokens": 3, "output_tokens": 4}})
    assert trace(events) == '0<thinking 0+Hm 0> 1<text 1+Hi 1> 2<f#t 2+{"a":1} 2> length'
    assert ThinkingEnd(0, "Hm", "sign") in events
    message = done(events).message
    assert (message.content[1].extra, message.content[1].after) == ({"citations": [{"n": 1}]}, [SEARCH])
    assert (message.id, message.usage.output_tokens) == ("msg_1", 4)
    assert trace(events_of({"type": "message", "content": "Hi"})) == "0<text 0+Hi 0> stop"


REASONS = {
    "end_turn": "stop", "stop_sequence": "stop", "pause_turn": "pause", "max_tokens": "length", "tool_use": "toolUse",
    "model_context_window_exceeded": "length", "refusal": "refusal", "a_new_one": "stop",
}  # fmt: skip


@pytest.mark.parametrize(("word", "reason"), REASONS.items(), ids=REASONS)
def test_a_reason_keeps_the_providers_word(word: str, reason: str) -> None:
    end = done(events_of(begin(), because(word), END))
    assert (end.reason, end.message.stop_details) == (reason, word)


def test_a_refusal_keeps_its_explanation() -> None:
    payload = {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": {"explanation": "No."}}}
    assert done(events_of(begin(), payload, END)).message.stop_details == "No."


def test_the_message_has_id_model_usage_and_api() -> None:
    first = begin(usage={"input_tokens": 10, "cache_read_input_tokens": 3, "output_tokens": 1})
    last = because("tool_use", usage={"output_tokens": 20, "input_tokens": None, "cache_creation_input_tokens": 4})
    message = done(events_of(first, delta(1, text="Hello"), last, END)).message
    assert (message.id, message.model, message.api) == ("msg_1", "m-1", "anthropic-messages")
    assert message.usage == Usage(input_tokens=10, output_tokens=20, cache_read_tokens=3, cache_write_tokens=4)


@pytest.mark.parametrize("usage", [None, "many", {"input_tokens": "7", "output_tokens": -1}, {"input_tokens": True}])
def test_counts_of_another_kind_are_ignored(usage: Any) -> None:
    assert done(events_of(begin(usage=usage), because("end_turn", usage=usage), END)).message.usage == Usage()


# fmt: off
@pytest.mark.parametrize(("payloads", "end"), [
    pytest.param([begin(), OPEN, because("end_turn"), END, delta(0, text="b"), "garbage", {"type": "error"}], "stop",
                 id="more after the end"),
    pytest.param([begin(), because("max_tokens")], "length", id="no message_stop"),
    pytest.param([begin(), because(None), END], "stop", id="no reason"),
    pytest.param([begin(), "[DONE]"], "stop", id="the end mark of another dialect"),
    pytest.param([begin(), CALL, END], "toolUse", id="a tool call and no reason"),
    pytest.param([], "cut", id="nothing"),
    pytest.param([PING], "cut", id="a ping alone"),
    pytest.param([begin()], "cut", id="the message alone"),
    pytest.param([begin(), CALL, delta(0, partial_json="{")], "cut", id="half a tool call"),
    pytest.param([begin(), because(None)], "cut", id="neither a reason nor message_stop"),
    pytest.param(["[DONE]"], "cut", id="the end mark of another dialect alone"),
])
def test_an_answer_is_complete_or_cut(payloads: list[Payload | str], end: str) -> None:
    events = events_of(*payloads)
    if end != "cut":
        assert done(events).reason == end
        return
    assert type(failed(events).cause) is StreamCut
    assert not any(isinstance(event, ToolCallEnd) for event in events), "half a tool call must not run"
# fmt: on


def test_an_error_keeps_the_message_so_far() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    whole = block(2, "tool_use", id="u", name="g", input={"a": 1})
    end = failed(events_of(begin(), delta(1, text="Hello"), CALL, delta(0, partial_json='{"a'), whole, error))
    assert end.error.content == (Text("Hello"), ToolCall("t", "f", '{"a'), ToolCall("u", "g", '{"a":1}'))
    assert end.error.id == "msg_1"
    assert end.error.error_message == str(end.cause) == "Overloaded (overloaded_error)"


def test_damaged_text_is_repaired() -> None:
    """Half a surrogate pair, NaN and invalid UTF-8 are no reason to lose an answer."""
    wire = rb'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\ud800' + b'\xff"},"x":NaN}'
    assert text_of(read(ANTHROPIC, b"event: content_block_delta\ndata: " + wire + b"\n\n")) == "a\ufffd\ufffd"
