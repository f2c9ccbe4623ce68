"""Messages that can be sent back, in both formats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rxauth import StaticCredentials, anthropic_messages, openai_chat, to_anthropic, to_async_iterable, to_openai
from rxauth.events import AssistantMessage, Block, Text, Thinking, ToolCall, message_from_json, to_json
from rxauth.testing import FakeProvider, Reply

CALL = ToolCall("call_1", "weather", '{"city": "Paris"}')
SIGNED = Thinking("Hm.", "signature")
REDACTED = Thinking("", "encrypted", redacted=True)
SEARCH = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "rain"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []}

QUESTION = {"role": "user", "content": "Is it sunny in Paris?"}
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}}


def message(*content: Block, **fields: Any) -> AssistantMessage:
    return AssistantMessage(content=content, **fields)


@pytest.mark.parametrize(
    ("sent", "content"),
    [
        pytest.param(message(Text("Hi")), [{"type": "text", "text": "Hi"}], id="text"),
        pytest.param(message(Text(" \n"), Text("")), [], id="blank text, which the API refuses"),
        pytest.param(
            message(SIGNED, REDACTED),
            [
                {"type": "thinking", "thinking": "Hm.", "signature": "signature"},
                {"type": "redacted_thinking", "data": "encrypted"},
            ],
            id="signatures",
        ),
        pytest.param(message(Thinking("Hm.")), [], id="unsigned thinking, which the API refuses"),
        pytest.param(
            message(CALL),
            [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Paris"}}],
            id="a tool call",
        ),
        pytest.param(
            message(ToolCall("c", "f", '{"a')),
            [{"type": "tool_use", "id": "c", "name": "f", "input": {"INVALID_JSON": '{"a'}}],
            id="broken arguments",
        ),
        pytest.param(
            message(
                Text("Let me look.", after_json=json.dumps([SEARCH, FOUND])),
                Text("Rain.", extra_json='{"citations":[{}]}'),
            ),
            [
                {"type": "text", "text": "Let me look."},
                SEARCH,
                FOUND,
                {"type": "text", "text": "Rain.", "citations": [{}]},
            ],
            id="the provider's own tools, and citations",
        ),
        pytest.param(
            message(SIGNED, Text("Hi", extra_json='{"annotations":[{}]}'), api="openai-chat"),
            [{"type": "text", "text": "Hi"}],
            id="what belongs to the other API stays there",
        ),
    ],
)
def test_an_anthropic_message_has(sent: AssistantMessage, content: list[Any]) -> None:
    assert to_anthropic(sent) == {"role": "assistant", "content": content}


def test_unsigned_thinking_is_sent_on_request() -> None:
    sent = to_anthropic(message(Thinking("Hm.")), unsigned_thinking=True)
    assert sent["content"] == [{"type": "thinking", "thinking": "Hm.", "signature": ""}]


@pytest.mark.parametrize(
    ("sent", "fields"),
    [
        pytest.param(message(Text("a"), CALL, Text("b")), {"content": "ab"}, id="text around a call is one"),
        pytest.param(message(CALL), {"content": None}, id="no text beside a call"),
        pytest.param(message(), {"content": ""}, id="no text at all"),
        pytest.param(
            message(stop_reason="refusal", stop_details="I'm sorry."),
            {"content": None, "refusal": "I'm sorry."},
            id="a refusal",
        ),
        pytest.param(
            message(Thinking("Hm", field="reasoning_content"), Thinking(".", field="reasoning_content")),
            {"reasoning_content": "Hm."},
            id="thinking in the field that it came in",
        ),
        pytest.param(
            message(
                Thinking("Hm", "sig", extra_json='{"reasoning_details":[{"index":0}]}'),
                Thinking("", extra_json='{"reasoning_details":[{"index":1}]}'),
            ),
            {"reasoning_details": [{"index": 0}, {"index": 1}]},
            id="reasoning details, in order",
        ),
        pytest.param(
            message(
                ToolCall("c", "f", "{}", extra_json='{"extra_content":{"s":1},"function":{"thought_signature":"t"}}')
            ),
            {
                "tool_calls": [
                    {
                        "id": "c",
                        "type": "function",
                        "function": {"name": "f", "arguments": "{}", "thought_signature": "t"},
                        "extra_content": {"s": 1},
                    }
                ]
            },
            id="further fields of a tool call",
        ),
        pytest.param(
            message(ToolCall("c", "shell", "ls -la", custom=True)),
            {"tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "shell", "input": "ls -la"}}]},
            id="a custom tool",
        ),
        pytest.param(
            message(ToolCall("c", "f", '{"a')),
            {"tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a'}}]},
            id="broken arguments, as they are",
        ),
        pytest.param(
            message(Text("Hi", extra_json='{"audio":{"id":"a","data":"..."},"annotations":[{}]}')),
            {"content": "Hi", "audio": {"id": "a"}},
            id="the audio by its id, and no annotations",
        ),
    ],
)
def test_an_openai_message_has(sent: AssistantMessage, fields: dict[str, Any]) -> None:
    built = to_openai(sent)
    assert {name: built[name] for name in fields} == fields
    assert set(built) <= {"role", "content", *fields, *(["tool_calls"] if "tool_calls" in built else [])}


def test_nothing_of_anthropic_goes_to_openai() -> None:
    sent = message(
        SIGNED,
        REDACTED,
        Text("Hi", extra_json='{"citations":[]}', after_json=json.dumps([SEARCH])),
        api="anthropic-messages",
    )
    assert to_openai(sent) == {"role": "assistant", "content": "Hi"}


def test_a_message_read_from_its_json_is_sent_back_alike() -> None:
    sent = message(
        SIGNED,
        Text("a", extra_json='{"b":1}', after_json=json.dumps([SEARCH])),
        CALL,
        ToolCall("d", "e", "{", True, extra_json='{"f":1}'),
    )
    read = message_from_json(json.loads(to_json(sent)))
    assert read is not None
    assert (to_anthropic(read), to_openai(read)["tool_calls"][1]) == (
        to_anthropic(sent),
        to_openai(sent)["tool_calls"][1],
    )


async def last(stream: Any) -> AssistantMessage:
    events = [event async for event in to_async_iterable(stream)]
    assert events[-1].type == "done", events[-1]
    answer: AssistantMessage = events[-1].message
    return answer


async def test_conversation_with_a_tool_goes_on_in_anthropic() -> None:
    """Two turns; the provider finds its own words, signatures included, in the second request."""
    replies = [Reply(answer=[SIGNED, REDACTED, Text("Let me see."), CALL]), Reply(answer="It is sunny.")]
    async with FakeProvider(replies=replies, api_keys=["k"]) as fake:

        def ask(messages: list[Any]) -> Any:
            request = {"model": "m", "max_tokens": 99, "messages": messages, "tools": [{"name": "weather"}]}
            return anthropic_messages(request, base_url=fake.url, credentials=StaticCredentials("k"))

        turn = await last(ask([QUESTION]))
        assert turn.stop_reason == "toolUse"
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": f"sunny in {block.arguments['city']}"}
            for block in turn.content
            if isinstance(block, ToolCall)
        ]
        answer = await last(ask([QUESTION, to_anthropic(turn), {"role": "user", "content": results}]))
        assert answer.text == "It is sunny."
        _, assistant, result = fake.api_requests[1].json()["messages"]
    assert assistant == {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "signature"},
            {"type": "redacted_thinking", "data": "encrypted"},
            {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Paris"}},
        ],
    }
    assert result["content"] == [{"type": "tool_result", "tool_use_id": "call_1", "content": "sunny in Paris"}]


async def test_a_conversation_with_a_tool_goes_on_in_openai_chat() -> None:
    """Two turns; the provider finds its own words in the second request."""
    replies = [Reply(answer=[Thinking("Hm."), Text("Let me see."), CALL]), Reply(answer="It is sunny.")]
    async with FakeProvider(replies=replies, api_keys=["k"]) as fake:

        def ask(messages: list[Any]) -> Any:
            tool = {"type": "function", "function": {"name": "weather", "parameters": TOOL}}
            request = {"model": "m", "messages": messages, "tools": [tool]}
            return openai_chat(request, base_url=f"{fake.url}/v1", credentials=StaticCredentials("k"))

        turn = await last(ask([QUESTION]))
        results = [
            {"role": "tool", "tool_call_id": block.id, "content": f"sunny in {block.arguments['city']}"}
            for block in turn.content
            if isinstance(block, ToolCall)
        ]
        answer = await last(ask([QUESTION, to_openai(turn), *results]))
        assert answer.text == "It is sunny."
        _, assistant, result = fake.api_requests[1].json()["messages"]
    assert assistant == {
        "role": "assistant",
        "content": "Let me see.",
        "reasoning_content": "Hm.",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
        ],
    }
    assert result == {"role": "tool", "tool_call_id": "call_1", "content": "sunny in Paris"}
