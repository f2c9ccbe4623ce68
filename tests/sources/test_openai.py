"""Chat Completions to assistant events. For errors see test_error_shapes, for tool calls test_tool_calls."""

from __future__ import annotations

from typing import Any

import pytest

from rxauth.errors import StreamCut
from rxauth.events import AssistantEvent, Block, Text, Thinking, ToolCall, ToolCallEnd, Usage
from tests.sources.streams import OPENAI, check_grammar, done, failed, read, sse, text_of, trace

Payload = dict[str, Any]


def chunk(delta: Any, finish: str | None = None, **rest: Any) -> Payload:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chat_1", "model": "m-1", "choices": [choice], **rest}


def whole(finish: str | None = None, **message: Any) -> Payload:
    return {"id": "chat_1", "model": "m-1", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def say(text: Any, **rest: Any) -> Payload:
    return chunk({"content": text, **rest})


def think(text: str, field: str = "reasoning_content", **rest: Any) -> Payload:
    return chunk({field: text, **rest})


def call(index: int, id: str | None, name: str | None, arguments: str = "", **rest: Any) -> Payload:
    function = {"name": name, "arguments": arguments}
    return chunk({"tool_calls": [{"index": index, "id": id, "function": function, **rest}]})


def tool(**fields: Any) -> Payload:
    return chunk({"tool_calls": [fields]})


END = "[DONE]"
STOP = chunk({}, "stop")


def events_of(*payloads: Payload | str) -> list[AssistantEvent]:
    events = read(OPENAI, sse(*payloads))
    check_grammar(events)
    return events


# fmt: off
@pytest.mark.parametrize(("payloads", "events"), [
    pytest.param([chunk({"role": "assistant", "content": ""}), say("Hel"), say("lo"), say("")], "0<text 0+Hel 0+lo 0>",
                 id="deltas, and empty ones"),
    pytest.param([think("H"), think("m"), say("Hi"), think("?")],
                 "0<thinking 0+H 0+m 0> 1<text 1+Hi 1> 2<thinking 2+? 2>", id="text and thinking in turns"),
    pytest.param([say("Hi", reasoning_content="Hm")], "0<thinking 0+Hm 0> 1<text 1+Hi 1>", id="both in one chunk"),
    pytest.param([chunk({"reasoning": "Hm", "reasoning_content": "Hm"})], "0<thinking 0+Hm 0>",
                 id="thinking under two names"),
    pytest.param([say([{"type": "text", "text": "Hel"}, {"text": "lo"}, None, {"type": "image"}]), say([]), say({})],
                 "0<text 0+Hel 0+lo 0>", id="content as parts"),
    pytest.param([say([{"thinking": [{"type": "text", "text": "Hm"}]}, {"type": "text", "text": "Hi"}])],
                 "0<thinking 0+Hm 0> 1<text 1+Hi 1>", id="thinking among the parts"),
    pytest.param([say("a"), call(0, "c", "f", "{}"), say("b")], "0<text 0+a 0> 1<f#c 1+{} 2<text 2+b 1> 2>",
                 id="text around a tool call"),
    pytest.param([call(0, "c", "f", "1"), call(1, "d", "g", "2"), call(0, None, None, "3"), call(1, None, None, "4")],
                 "0<f#c 0+1 1<g#d 1+2 0+3 1+4 0> 1>", id="arguments in turns"),
    pytest.param([chunk({"function_call": {"name": "f", "arguments": "{"}}),
                  chunk({"function_call": {"arguments": "}"}})], "0<f#chat_1_function 0+{ 0+} 0>",
                 id="the older form of a tool call"),
    pytest.param([{"id": "chat_1", "choices": [{"index": 1, "delta": {"content": "no"}},
                                               {"index": 0, "delta": {"content": "yes"}}]},
                  {"choices": [{"index": None, "delta": {"content": "!"}}]}],
                 "0<text 0+yes 0+! 0>", id="the first choice of several"),
    pytest.param([{"id": "chat_1", "choices": [{"text": "Hel"}]}, {"choices": [{"text": "lo"}]}],
                 "0<text 0+Hel 0+lo 0>", id="the older completions"),
    pytest.param([chunk({"tool_calls": ["x", {"function": 1, "index": 0}], "function_call": "x", "refusal": 1})], "",
                 id="fields of another kind"),
    pytest.param([chunk(None), {"choices": []}, {"id": "x", "choices": [{}, 7]}], "", id="empty chunks"),
    pytest.param([whole(content="Hel"), whole(content="lo")], "0<text 0+Hel 0+lo 0>", id="messages instead of deltas"),
    pytest.param([say("Hel"), say("lo"), whole(content="Hello", refusal=None)], "0<text 0+Hel 0+lo 0>",
                 id="the whole message after its deltas"),
    pytest.param([say("Hel"), whole(content="Hello")], "0<text 0+Hel 0+lo 0>", id="a whole message that brings more"),
    pytest.param([think("Hm"), call(0, "c", "f", "{}"), whole(reasoning_content="Hm", tool_calls=[
                     {"id": "c", "function": {"name": "f", "arguments": "{}"}}])],
                 "0<thinking 0+Hm 0> 1<f#c 1+{} 1>", id="thinking and calls repeated in a message"),
    pytest.param([chunk({"role": "assistant"}), whole(content="Hi")], "0<text 0+Hi 0>",
                 id="a role, then the whole message"),
])
def test_chunks_become_events(payloads: list[Payload], events: str) -> None:
    assert trace(events_of(*payloads, chunk({}, "length"), END)) == f"{events} length".strip()


def detail(kind: str, **fields: Any) -> Payload:
    return {"type": f"reasoning.{kind}", **fields}


@pytest.mark.parametrize(("payloads", "content"), [
    pytest.param([think("Hm", "reasoning_text"), chunk({"reasoning_opaque": "sign"}), say("Hi")],
                 [Thinking("Hm", "sign", field="reasoning_text", extra_json='{"reasoning_opaque":"sign"}'), Text("Hi")],
                 id="reasoning_text and its signature"),
    pytest.param([think("Hm", "thinking", signature="si"), chunk({"signature": "gn"})],
                 [Thinking("Hm", "sign", field="thinking", extra_json='{"signature":"sign"}')],
                 id="a signature beside the thinking"),
    pytest.param([think("H", "reasoning", reasoning_details=[detail("text", index=0, text="H")]),
                  think("m", "reasoning", reasoning_details=[detail("text", index=0, text="m", signature="sign")])],
                 [Thinking("Hm", "sign", field="reasoning", extra_json='{"reasoning_details":[{"type":'
                           '"reasoning.text","index":0,"text":"Hm","signature":"sign"}]}')],
                 id="reasoning_details that repeat it"),
    pytest.param([chunk({"reasoning_details": [detail("text", index=0, text="Hm")]}), say("Hi")],
                 [Thinking("Hm", extra_json='{"reasoning_details":[{"type":"reasoning.text","index":0,"text":"Hm"}]}'),
                  Text("Hi")], id="reasoning_details alone"),
    pytest.param([chunk({"reasoning_details": [detail("encrypted")]})],
                 [Thinking("", redacted=True, extra_json='{"reasoning_details":[{"type":"reasoning.encrypted"}]}')],
                 id="encrypted reasoning"),
    pytest.param([chunk({"reasoning_details": [detail("encrypted")]}),
                  chunk({"reasoning_details": [detail("summary", summary="S")]})],
                 [Thinking("S", extra_json='{"reasoning_details":[{"type":"reasoning.encrypted"},'
                           '{"type":"reasoning.summary","summary":"S"}]}')], id="encrypted reasoning with a summary"),
    pytest.param([call(0, "c", "f", "{}"), tool(index=0, extra_content={"google": {"thought_signature": "s"}})],
                 [ToolCall("c", "f", "{}", extra_json='{"extra_content":{"google":{"thought_signature":"s"}}}')],
                 id="a later signature of a tool call"),
    pytest.param([tool(index=0, id="c", function={"name": "f", "arguments": "{}", "thought_signature": "s"})],
                 [ToolCall("c", "f", "{}", extra_json='{"function":{"thought_signature":"s"}}')],
                 id="a signature inside its function"),
    pytest.param([tool(index=0, id="c", custom={"name": "f", "input": "{}"}), tool(index=0, custom={"input": "{}"}),
                  tool(index=0, id="d", custom={"name": "f", "input": "g"})],
                 [ToolCall("c", "f", "{}{}", custom=True), ToolCall("d", "f", "g", custom=True)],
                 id="custom tools with one index"),
    pytest.param([say("a"), tool(id="w", type="web_search", web_search={"q": 1})],
                 [Text("a", extra_json='{"tool_calls":[{"id":"w","type":"web_search","web_search":{"q":1}}]}')],
                 id="a tool of the provider"),
    pytest.param([say("a"), chunk({"annotations": [{"n": 1}]}), chunk({"annotations": [{"n": 2}]})],
                 [Text("a", extra_json='{"annotations":[{"n":1},{"n":2}]}')], id="annotations"),
    pytest.param([chunk({"images": [{"url": "u"}]}), say("a")], [Text("a", extra_json='{"images":[{"url":"u"}]}')],
                 id="images before the text"),
    pytest.param([chunk({}, citations=["u"]), say("a")], [Text("a", extra_json='{"citations":["u"]}')],
                 id="citations beside the choices"),
    pytest.param([think("Hm", "reasoning", channel="analysis"), think(".", "reasoning", channel="analysis")],
                 [Thinking("Hm.", field="reasoning", extra_json='{"channel":"analysis"}')],
                 id="a field that every delta repeats"),
])
def test_fields_without_events_stay_on_their_block(payloads: list[Payload], content: list[Block]) -> None:
    assert done(events_of(*payloads, STOP, END)).message.content == tuple(content)
# fmt: on


def test_a_whole_answer_becomes_events() -> None:
    """Some servers send one although a stream was asked for; framed or not."""
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]
    answer = whole("tool_calls", reasoning_content="Hm", content="Hi", tool_calls=calls)
    events = events_of(answer | {"usage": {"prompt_tokens": 7}})
    assert trace(events) == '0<thinking 0+Hm 0> 1<text 1+Hi 1> 2<f#c 2+{"a":1} 2> toolUse'
    assert done(events).message.usage.input_tokens == 7


REASONS = {
    "stop": "stop", "length": "length", "max_tokens": "length", "tool_calls": "toolUse", "function_call": "toolUse",
    "content_filter": "refusal", "sensitive": "refusal", "a_new_one": "stop",
}  # fmt: skip


@pytest.mark.parametrize(("word", "reason"), REASONS.items(), ids=REASONS)
def test_a_reason_keeps_the_providers_word(word: str, reason: str) -> None:
    end = done(events_of(say("a"), chunk({}, word), END))
    assert (end.reason, end.message.stop_details) == (reason, word)


def test_a_tool_call_that_ends_with_stop_wants_a_result() -> None:
    end = done(events_of(call(0, "c", "f", "{}"), STOP, END))
    assert (end.reason, end.message.stop_details) == ("toolUse", "stop")


def test_a_refusal_keeps_its_words() -> None:
    events = events_of(chunk({"refusal": "I'm "}), say([{"type": "refusal", "refusal": "sorry."}]), STOP, END)
    assert (trace(events), done(events).message.stop_details) == ("refusal", "I'm sorry.")
    assert trace(events_of(chunk({"refusal": "Sorry."}), END)) == "refusal"


@pytest.mark.parametrize(
    ("payloads", "is_complete"),
    [
        pytest.param([say("a"), STOP, END], True, id="with both"),
        pytest.param([say("a"), STOP], True, id="no end mark"),
        pytest.param([say("a"), END], True, id="no reason"),
        pytest.param([say("a"), STOP, STOP, END], True, id="the reason twice"),
        pytest.param([chunk({"content": "a"}, "stop")], True, id="the reason beside content"),
        pytest.param([say("a"), STOP, END, say("b"), END, "garbage"], True, id="more after the end"),
        pytest.param([], False, id="nothing"),
        pytest.param([END], False, id="the end mark alone"),
        pytest.param([say("a")], False, id="neither"),
        pytest.param([call(0, "c", "f", "{")], False, id="half a tool call"),
        pytest.param([call(0, None, "f", "{")], False, id="a tool call without an id"),
    ],
)
def test_an_answer_is_complete_or_cut(payloads: list[Payload | str], is_complete: bool) -> None:
    events = events_of(*payloads)
    if is_complete:
        assert (text_of(events), done(events).reason) == ("a", "stop")
        return
    assert type(failed(events).cause) is StreamCut
    assert not any(isinstance(event, ToolCallEnd) for event in events), "half a tool call must not run"


# fmt: off
@pytest.mark.parametrize(("where", "usage"), [
    pytest.param([STOP, {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}],
                 Usage(input_tokens=7, output_tokens=5), id="in the last chunk"),
    pytest.param([STOP, {"usage": {"prompt_tokens": 7}}], Usage(input_tokens=7), id="in a chunk without choices"),
    pytest.param([{"choices": [{"delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 7}}]}],
                 Usage(input_tokens=7), id="inside the choice"),
    pytest.param([STOP | {"usage": {"prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1}}}],
                 Usage(cache_read_tokens=4, cache_write_tokens=1), id="with a cache"),
    pytest.param([STOP | {"usage": {"prompt_cache_hit_tokens": 4}}], Usage(cache_read_tokens=4), id="by another name"),
    pytest.param([STOP | {"usage": {"prompt_tokens": None, "prompt_tokens_details": None}}], Usage(), id="null"),
    pytest.param([STOP | {"usage": "many"}], Usage(), id="in words"),
    pytest.param([STOP | {"usage": {"prompt_tokens": -1, "completion_tokens": True}}], Usage(), id="below zero"),
])
def test_tokens_are_counted(where: list[Payload], usage: Usage) -> None:
    assert done(events_of(say("a"), *where, END)).message.usage == usage
# fmt: on


def test_the_message_has_id_model_and_api() -> None:
    first = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"content_filter_results": {}}]}
    message = done(events_of(first, say("a"), STOP, END)).message
    assert (message.id, message.model, message.api, message.text) == ("chat_1", "m-1", "openai-chat", "a")


def test_an_error_keeps_what_waited_for_its_end() -> None:
    end = failed(events_of(call(0, None, "f", '{"a'), chunk({"refusal": "Sor"}), {"error": {"message": "m"}}))
    assert (end.error.content, end.error.stop_details) == ((ToolCall("chat_1_0", "f", '{"a'),), "Sor")


@pytest.mark.parametrize("payload", [{"error": None}, {"error": {}}, {"error": ""}])
def test_an_empty_error_is_none(payload: Payload) -> None:
    assert trace(events_of(say("a") | payload, STOP, END)) == "0<text 0+a 0> stop"


def test_damaged_text_is_repaired() -> None:
    """Half a surrogate pair, NaN and invalid UTF-8 are no reason to lose an answer."""
    begin = b'data: {"choices":[{"index":0,"delta":{"content":"'
    body = begin + b'b"}}]}\n\n' + begin + rb"a\ud800" + b'\xff"},"logprobs":NaN,"finish_reason":"stop"}]}\n\n'
    assert text_of(read(OPENAI, body)) == "ba\ufffd\ufffd"
