"""Messages that can be sent back, in both formats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rxauth import StaticCredentials, anthropic_messages, openai_chat, to_anthropic, to_async_iterable, to_openai
from rxauth.events import AssistantMessage, Block, Text, Thinking, ToolCall, message_from_json, to_json
from rxauth.testing import FakeProvider, Reply

CALL = ToolCall("call_1", "weather", '{"city": "Paris"}')
BROKEN = ToolCall("c", "f", '{"a')
SIGNED = Thinking("Hm.", "signature")
REDACTED = Thinking("", "encrypted", redacted=True)
SEARCH = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "rain"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []}

# The same as Anthropic writes them.
SIGNED_BLOCKS = [
    {"type": "thinking", "thinking": "Hm.", "signature": "signature"},
    {"type": "redacted_thinking", "data": "encrypted"},
]
CALL_BLOCK = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Paris"}}


def message(*content: Block, **fields: Any) -> AssistantMessage:
    return AssistantMessage(content=content, **fields)


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


@pytest.mark.parametrize(
    ("sent", "content"),
    [
        pytest.param(message(Text("Hi")), [text("Hi")], id="text"),
        pytest.param(message(Text(" \n"), Text("")), [], id="blank text, which the API refuses"),
        pytest.param(message(SIGNED, REDACTED), SIGNED_BLOCKS, id="signatures"),
        pytest.param(message(Thinking("Hm.")), [], id="unsigned thinking, which the API refuses"),
        pytest.param(message(CALL), [CALL_BLOCK], id="a tool call"),
        pytest.param(message(BROKEN), [{"type": "tool_use", "id": "c", "name": "f", "input": {"INVALID_JSON": '{"a'}}],
                     id="broken arguments"),
        pytest.param(message(Text("Let me look.", after_json=json.dumps([SEARCH, FOUND])),
                             Text("Rain.", extra_json='{"citations":[{}]}')),
                     [text("Let me look."), SEARCH, FOUND, text("Rain.", citations=[{}])],
                     id="the provider's own tools, and citations"),
        pytest.param(message(SIGNED, Text("Hi", extra_json='{"annotations":[{}]}'), api="openai-chat"), [text("Hi")],
                     id="what belongs to the other API stays there"),
    ],
)  # fmt: skip
def test_an_anthropic_message_has(sent: AssistantMessage, content: list[Any]) -> None:
    assert to_anthropic(sent) == {"role": "assistant", "content": content}


def test_unsigned_thinking_is_sent_on_request() -> None:
    sent = to_anthropic(message(Thinking("Hm.")), unsigned_thinking=True)
    assert sent["content"] == [{"type": "thinking", "thinking": "Hm.", "signature": ""}]


def call(more: dict[str, Any], **function: Any) -> dict[str, Any]:
    return {"tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", **function}, **more}]}


FIELD: Any = {"field": "reasoning_content"}
EXTRAS = '{"extra_content":{"s":1},"function":{"thought_signature":"t"}}'


@pytest.mark.parametrize(
    ("sent", "fields"),
    [
        pytest.param(message(Text("a"), Text("b")), {"content": "ab"}, id="text in pieces is one"),
        pytest.param(message(), {"content": ""}, id="no text at all"),
        pytest.param(message(stop_reason="refusal", stop_details="I'm sorry."),
                     {"content": None, "refusal": "I'm sorry."}, id="a refusal"),
        pytest.param(message(Thinking("Hm", **FIELD), Thinking(".", **FIELD)),
                     {"content": "", "reasoning_content": "Hm."}, id="thinking in the field that it came in"),
        pytest.param(message(Thinking("Hm", "sig", extra_json='{"reasoning_details":[{"index":0}]}'),
                             Thinking("", extra_json='{"reasoning_details":[{"index":1}]}')),
                     {"content": "", "reasoning_details": [{"index": 0}, {"index": 1}]},
                     id="reasoning details, in order"),
        pytest.param(message(ToolCall("c", "f", "{}", extra_json=EXTRAS)),
                     {"content": None, **call({"extra_content": {"s": 1}}, arguments="{}", thought_signature="t")},
                     id="further fields of a tool call, and no text beside it"),
        pytest.param(message(ToolCall("c", "shell", "ls -la", custom=True)),
                     {"content": None, "tool_calls": [
                         {"id": "c", "type": "custom", "custom": {"name": "shell", "input": "ls -la"}}]},
                     id="a custom tool"),
        pytest.param(message(Text("a"), BROKEN, Text("b")), {"content": "ab", **call({}, arguments='{"a')},
                     id="broken arguments, as they are, and text around a call as one"),
        pytest.param(message(Text("Hi", extra_json='{"audio":{"id":"a","data":"..."},"annotations":[{}]}')),
                     {"content": "Hi", "audio": {"id": "a"}}, id="the audio by its id, and no annotations"),
        pytest.param(message(SIGNED, REDACTED, Text("Hi", extra_json='{"citations":[]}',
                             after_json=json.dumps([SEARCH])), api="anthropic-messages"),
                     {"content": "Hi"}, id="nothing that is Anthropic's"),
    ],
)  # fmt: skip
def test_an_openai_message_has(sent: AssistantMessage, fields: dict[str, Any]) -> None:
    assert to_openai(sent) == {"role": "assistant", **fields}


def test_a_message_read_from_its_json_is_sent_back_alike() -> None:
    marked = Text("a", extra_json='{"b":1}', after_json=json.dumps([SEARCH]))
    sent = message(SIGNED, marked, CALL, ToolCall("d", "e", "{", True, extra_json='{"f":1}'))
    read = message_from_json(json.loads(to_json(sent)))
    assert read is not None
    assert to_anthropic(read) == to_anthropic(sent)
    assert to_openai(read)["tool_calls"][1] == to_openai(sent)["tool_calls"][1]


QUESTION = {"role": "user", "content": "Is it sunny in Paris?"}
SUNNY = "sunny in Paris"


@pytest.mark.parametrize(
    ("source", "path", "send_back", "tool", "result", "assistant"),
    [
        pytest.param(
            anthropic_messages, "", to_anthropic, {"name": "weather"},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": SUNNY}]},
            {"content": [*SIGNED_BLOCKS, text("Let me see."), CALL_BLOCK]},
            id="anthropic",
        ),
        pytest.param(
            openai_chat, "/v1", to_openai, {"type": "function", "function": {"name": "weather", "parameters": {}}},
            {"role": "tool", "tool_call_id": "call_1", "content": SUNNY},
            {
                "content": "Let me see.",
                "reasoning_content": "Hm.",
                "tool_calls": [{"id": "call_1", "type": "function",
                                "function": {"name": "weather", "arguments": CALL.arguments_json}}],
            },
            id="openai",
        ),
    ],
)  # fmt: skip
async def test_a_conversation_with_a_tool_goes_on(
    source: Any, path: str, send_back: Any, tool: Any, result: Any, assistant: Any
) -> None:
    """Two turns; the provider finds its own words, signatures included, in the second request."""
    thinking = [SIGNED, REDACTED] if send_back is to_anthropic else [Thinking("Hm.")]
    replies = [Reply(answer=[*thinking, Text("Let me see."), CALL]), Reply(answer="It is sunny.")]
    async with FakeProvider(replies=replies, api_keys=["k"]) as fake:

        async def ask(*messages: Any) -> AssistantMessage:
            request = {"model": "m", "max_tokens": 99, "messages": messages, "tools": [tool]}
            stream = source(request, base_url=fake.url + path, credentials=StaticCredentials("k"))
            *_, done = [event async for event in to_async_iterable(stream)]
            assert done.type == "done", done
            answer: AssistantMessage = done.message
            return answer

        turn = await ask(QUESTION)
        assert turn.stop_reason == "toolUse"
        assert (await ask(QUESTION, send_back(turn), result)).text == "It is sunny."
        assert fake.api_requests[1].json()["messages"] == [QUESTION, {"role": "assistant"} | assistant, result]
