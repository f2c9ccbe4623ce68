"""Answers in the words of a provider, checked by reading them back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxauth.events import Block, Text, Thinking, ToolCall
from rxauth.testing import anthropic_events, openai_chunks, openai_response_events
from rxauth.testing._wires import speech, split_json, split_words

ANSWER: list[Block] = [
    Thinking("Let me see.", signature="sig"),
    Thinking("", signature="encrypted", redacted=True),
    Text("It is sunny."),
    ToolCall("call_1", "weather", '{"city": "Paris"}'),
    ToolCall("call_2", "time", ""),
]


def test_anthropic_blocks_open_and_close_in_turn() -> None:
    blocks: dict[int, Any] = {}
    for event in anthropic_events(ANSWER):
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks)
            blocks[event["index"]] = [event["content_block"], "", []]
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            blocks[event["index"]][2].append(delta["type"])
            blocks[event["index"]][1] += next(value for name, value in delta.items() if name != "type")
    assert [(block["type"], said) for block, said, _ in blocks.values()] == [
        ("thinking", "Let me see.sig"),
        ("redacted_thinking", ""),
        ("text", "It is sunny."),
        ("tool_use", '{"city": "Paris"}'),
        ("tool_use", ""),
    ]
    assert blocks[0][2] == ["thinking_delta"] * 3 + ["signature_delta"]
    assert blocks[1][0]["data"] == "encrypted"
    assert blocks[3][0] == {"type": "tool_use", "id": "call_1", "name": "weather", "input": {}}


def test_openai_numbers_tool_calls() -> None:
    deltas = [c["choices"][0]["delta"] for c in openai_chunks(ANSWER) if isinstance(c, dict) and c["choices"]]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert [(call["index"], call.get("id")) for call in calls if "id" in call] == [(0, "call_1"), (1, "call_2")]
    arguments = "".join(call["function"]["arguments"] for call in calls if call["index"] == 0)
    assert arguments == '{"city": "Paris"}'
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Let me see."
    assert "".join(delta.get("content") or "" for delta in deltas) == "It is sunny."


def test_responses_items_open_and_close_in_turn() -> None:
    items: list[dict[str, Any]] = []
    said: dict[int, str] = {}
    for event in openai_response_events(ANSWER):
        if event["type"] == "response.output_item.added":
            assert event["output_index"] == len(items)
            items.append(event["item"])
        elif event["type"].endswith(".delta"):
            assert event["item_id"] == items[-1]["id"]
            said[event["output_index"]] = said.get(event["output_index"], "") + event["delta"]
    assert [item["type"] for item in items] == ["reasoning", "reasoning", "message", "function_call", "function_call"]
    assert said == {0: "Let me see.", 2: "It is sunny.", 3: '{"city": "Paris"}'}
    assert items[3]["call_id"] == "call_1"


@pytest.mark.parametrize(
    ("answer", "anthropic", "openai"),
    [("Hi", "end_turn", "stop"), (ANSWER, "tool_use", "tool_calls"), ([], "end_turn", "stop")],
    ids=["text", "tool calls", "nothing"],
)
def test_the_stop_reason_fits_the_answer(answer: Any, anthropic: str, openai: str) -> None:
    assert anthropic_events(answer)[-2]["delta"]["stop_reason"] == anthropic
    reasons = [c["choices"][0]["finish_reason"] for c in openai_chunks(answer) if isinstance(c, dict) and c["choices"]]
    assert reasons[-1] == openai
    assert set(reasons[:-1]) <= {None}


def test_usage_comes_at_the_end() -> None:
    assert anthropic_events("one two three")[-2]["usage"]["output_tokens"] == 3
    last = openai_chunks("one two three")[-2]
    assert isinstance(last, dict)
    usage = last["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + 3


@given(st.text())
def test_pieces_join_to_the_whole(text: str) -> None:
    assert "".join(split_words(text)) == text
    assert "".join(split_json(text)) == text
    assert "" not in split_words(text)


def test_a_tool_call_sets_the_stop_reason() -> None:
    assert [speech([each], None, {}).stop for each in (Text("a"), ToolCall("1", "a"))] == ["stop", "toolUse"]
