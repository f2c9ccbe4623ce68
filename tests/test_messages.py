"""Messages that can be sent back, in both formats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rxauth import StaticCredentials, anthropic_messages, openai_chat, to_anthropic, to_async_iterable, to_openai
from rxauth.events import AssistantMessage, Block, Done, Text, Thinking, ToolCall, message_from_json, to_json
from rxauth.testing import FakeProvider, Reply

CALL = ToolCall("call_1", "weather", '{"city": "Paris"}')
SIGNED = Thinking("Hm.", "signature")
REDACTED = Thinking("", "encrypted", redacted=True)
SEARCH = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "rain"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []}
AFTER = json.dumps([SEARCH, FOUND])

SIGNED_WIRE = {"type": "thinking", "thinking": "Hm.", "signature": "signature"}
REDACTED_WIRE = {"type": "redacted_thinking", "data": "encrypted"}
CALL_WIRE = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Paris"}}


def text(words: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **fields}


def message(*content: Block, **fields: Any) -> AssistantMessage:
    return AssistantMessage(content=content, **fields)


def function(arguments: str, **fields: Any) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments, **fields}}


# fmt: off
@pytest.mark.parametrize(("sent", "content"), [
    pytest.param(message(Text("Hi")), [text("Hi")], id="text"),
    pytest.param(message(Text(" \n"), Text("")), [], id="blank text, which the API refuses"),
    pytest.param(message(SIGNED, REDACTED), [SIGNED_WIRE, REDACTED_WIRE], id="signatures"),
    pytest.param(message(Thinking("Hm.")), [], id="unsigned thinking, which the API refuses"),
    pytest.param(message(CALL), [CALL_WIRE], id="a tool call"),
    pytest.param(message(ToolCall("c", "f", '{"a')),
                 [{"type": "tool_use", "id": "c", "name": "f", "input": {"INVALID_JSON": '{"a'}}],
                 id="broken arguments"),
    pytest.param(message(Text("Let me look.", after_json=AFTER), Text("Rain.", extra_json='{"citations":[{}]}')),
                 [text("Let me look."), SEARCH, FOUND, text("Rain.", citations=[{}])],
                 id="the provider's own tools, and citations"),
    pytest.param(message(SIGNED, Text("Hi", extra_json='{"annotations":[{}]}'), api="openai-chat"), [text("Hi")],
                 id="what belongs to the other API stays there"),
])
def test_an_anthropic_message_has(sent: AssistantMessage, content: list[Any]) -> None:
    assert to_anthropic(sent) == {"role": "assistant", "content": content}


def test_unsigned_thinking_is_sent_on_request() -> None:
    sent = to_anthropic(message(Thinking("Hm.")), unsigned_thinking=True)
    assert sent["content"] == [{"type": "thinking", "thinking": "Hm.", "signature": ""}]


@pytest.mark.parametrize(("sent", "fields"), [
    pytest.param(message(Text("a"), Text("b")), {"content": "ab"}, id="text blocks are one"),
    pytest.param(message(), {"content": ""}, id="no text at all"),
    pytest.param(message(stop_reason="refusal", stop_details="I'm sorry."), {"content": None, "refusal": "I'm sorry."},
                 id="a refusal"),
    pytest.param(message(Thinking("Hm", field="reasoning_content"), Thinking(".", field="reasoning_content")),
                 {"content": "", "reasoning_content": "Hm."}, id="thinking in the field that it came in"),
    pytest.param(message(Thinking("Hm", "sig", extra_json='{"reasoning_details":[{"index":0}]}'),
                         Thinking("", extra_json='{"reasoning_details":[{"index":1}]}')),
                 {"content": "", "reasoning_details": [{"index": 0}, {"index": 1}]}, id="reasoning details, in order"),
    pytest.param(message(ToolCall("c", "f", "{}", extra_json='{"x":{"s":1},"function":{"thought_signature":"t"}}')),
                 {"content": None, "tool_calls": [{**function("{}", thought_signature="t"), "x": {"s": 1}}]},
                 id="further fields of a tool call"),
    pytest.param(message(ToolCall("c", "shell", "ls -la", custom=True)),
                 {"content": None, "tool_calls": [{"id": "c", "type": "custom",
                                                   "custom": {"name": "shell", "input": "ls -la"}}]},
                 id="a custom tool"),
    pytest.param(message(Text("a"), ToolCall("c", "f", '{"a'), Text("b")),
                 {"content": "ab", "tool_calls": [function('{"a')]}, id="broken arguments, as they are"),
    pytest.param(message(Text("Hi", extra_json='{"audio":{"id":"a","data":"..."},"annotations":[{}]}')),
                 {"content": "Hi", "audio": {"id": "a"}}, id="the audio by its id, and no annotations"),
    pytest.param(message(SIGNED, REDACTED, Text("Hi", extra_json='{"citations":[]}', after_json=AFTER),
                         api="anthropic-messages"),
                 {"content": "Hi"}, id="what belongs to the other API stays there"),
])
def test_an_openai_message_has(sent: AssistantMessage, fields: dict[str, Any]) -> None:
    assert to_openai(sent) == {"role": "assistant", **fields}
# fmt: on


def test_a_message_read_from_its_json_is_sent_back_alike() -> None:
    broken = ToolCall("d", "e", "{", True, extra_json='{"f":1}')
    sent = message(SIGNED, Text("a", extra_json='{"b":1}', after_json=AFTER), CALL, broken)
    read = message_from_json(json.loads(to_json(sent)))
    assert read is not None
    assert to_anthropic(read) == to_anthropic(sent)
    assert to_openai(read)["tool_calls"][1] == to_openai(sent)["tool_calls"][1]


OPENAI_CALL = {"name": "weather", "arguments": '{"city": "Paris"}'}


@pytest.mark.parametrize(
    ("openai", "content", "assistant", "result"),
    [
        pytest.param(
            False,
            [SIGNED, REDACTED],
            {"content": [SIGNED_WIRE, REDACTED_WIRE, text("Let me see."), CALL_WIRE]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}]},
            id="anthropic",
        ),
        pytest.param(
            True,
            [Thinking("Hm.")],
            {
                "content": "Let me see.",
                "reasoning_content": "Hm.",
                "tool_calls": [{"id": "call_1", "type": "function", "function": OPENAI_CALL}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
            id="openai",
        ),
    ],
)
async def test_a_conversation_with_a_tool_goes_on(
    openai: bool, content: list[Block], assistant: dict[str, Any], result: dict[str, Any]
) -> None:
    """Two turns; the provider finds its own words, signatures included, in the second request."""
    replies = [Reply(answer=[*content, Text("Let me see."), CALL]), Reply(answer="It is sunny.")]
    async with FakeProvider(replies=replies, api_keys=["k"]) as fake:

        async def ask(*messages: Any) -> AssistantMessage:
            source, path = (openai_chat, "/v1") if openai else (anthropic_messages, "")
            tool = {"type": "function", "function": {"name": "weather"}} if openai else {"name": "weather"}
            request = {"model": "m", "max_tokens": 99, "messages": messages, "tools": [tool]}
            stream = source(request, base_url=fake.url + path, credentials=StaticCredentials("k"))
            end = [event async for event in to_async_iterable(stream)][-1]
            assert isinstance(end, Done), end
            return end.message

        question = {"role": "user", "content": "Is it sunny in Paris?"}
        turn = await ask(question)
        assert turn.stop_reason == "toolUse"
        answer = await ask(question, to_openai(turn) if openai else to_anthropic(turn), result)
        assert answer.text == "It is sunny."
        assert fake.api_requests[1].json()["messages"][1:] == [{"role": "assistant", **assistant}, result]
