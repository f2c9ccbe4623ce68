"""Answers in the words of a provider."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxauth.events import Block, Text, Thinking, ToolCall
from rxauth.testing import FakeProvider, Reply, anthropic_events, openai_chunks, openai_response_events
from tests.peers_needed import package
from tests.testing.conftest import CHAT, MESSAGES, REQUEST, Serve

ANSWER: list[Block] = [
    Thinking("Let me see.", signature="sig"),
    Thinking("", signature="encrypted", redacted=True),
    Text("It is sunny."),
    ToolCall("call_1", "weather", '{"city": "Paris"}'),
    ToolCall("call_2", "time", ""),
]


def test_anthropic_blocks_open_and_close_in_turn() -> None:
    start, *events, end, stop = anthropic_events(ANSWER)
    assert (start["type"], stop) == ("message_start", {"type": "message_stop"})
    assert end["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert [event.get("index") for event in events] == [0, None, *[0] * 5, 1, 1, *[2] * 5, *[3] * 6, *[4] * 3]
    assert [event["content_block"] for event in events if event["type"] == "content_block_start"] == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "redacted_thinking", "data": "encrypted"},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {}},
        {"type": "tool_use", "id": "call_2", "name": "time", "input": {}},
    ]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert [delta.popitem()[1] for delta in deltas] == [
        "Let", " me", " see.", "sig", "It", " is", " sunny.", "", '{"city"', ': "Pari', 's"}', "",
    ]  # fmt: skip
    assert sum(event["type"] == "content_block_stop" for event in events) == 5


def test_openai_numbers_tool_calls() -> None:
    *chunks, usage, done = openai_chunks(ANSWER)
    assert done == "data: [DONE]\n\n"
    assert isinstance(usage, dict)
    assert usage["usage"]["completion_tokens"] == 9
    (*choices, last) = (chunk["choices"][0] for chunk in chunks if isinstance(chunk, dict))
    assert {choice["finish_reason"] for choice in choices} == {None}
    assert last["finish_reason"] == "tool_calls"
    calls = [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}},
        {"index": 0, "type": "function", "function": {"arguments": '{"city"'}},
        {"index": 0, "type": "function", "function": {"arguments": ': "Pari'}},
        {"index": 0, "type": "function", "function": {"arguments": 's"}'}},
        {"index": 1, "id": "call_2", "type": "function", "function": {"name": "time", "arguments": ""}},
    ]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": ""},
        *({"reasoning_content": each} for each in ("Let", " me", " see.")),
        *({"content": each} for each in ("It", " is", " sunny.")),
        *({"tool_calls": [each]} for each in calls),
    ]


def test_responses_items_open_and_close_in_turn() -> None:
    items: list[dict[str, Any]] = []
    said: dict[int, str] = {}
    for at, event in enumerate(openai_response_events(ANSWER)):
        assert event["sequence_number"] == at
        if event["type"] == "response.output_item.added":
            assert event["output_index"] == len(items)
            items.append(event["item"])
        elif event["type"].endswith(".delta"):
            assert event["item_id"] == items[-1]["id"]
            said[event["output_index"]] = said.get(event["output_index"], "") + event["delta"]
    assert [item["type"] for item in items] == ["reasoning", "reasoning", "message", "function_call", "function_call"]
    assert said == {0: "Let me see.", 2: "It is sunny.", 3: '{"city": "Paris"}'}
    assert items[3]["call_id"] == "call_1"


@given(st.text())
def test_pieces_join_to_the_whole(text: str) -> None:
    for answer in ([Text(text)], [ToolCall("c", "f", text)]):
        deltas = [each["delta"] for each in openai_response_events(answer) if each["type"].endswith(".delta")]
        assert "".join(deltas) == text
        assert "" not in deltas


async def test_a_request_gets_the_events_of_its_format(serve: Serve) -> None:
    client = await serve()
    for path, payload, expected, request_id in (
        (MESSAGES, REQUEST, anthropic_events("Hello, world.", model="fake-1"), "request-id"),
        (CHAT, REQUEST | {"stream_options": {"include_usage": True}}, openai_chunks("Hello, world."), "x-request-id"),
        ("/v1/responses", REQUEST, openai_response_events("Hello, world."), "x-request-id"),
    ):
        seen = await client.ask(path, payload)
        assert (seen.status, seen.error) == (200, None)
        assert seen.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        number = len(client.fake.requests)
        assert seen.headers[request_id] == f"req_{number:06}"
        assert len(seen.events) == len(expected)
        assert "fake-1" in str(seen.events[0])
    plain = await client.ask(CHAT)
    assert all(chunk.get("choices") for chunk in plain.events[:-1]), "usage comes only where it was asked for"


async def test_without_stream_an_answer_is_one_object(serve: Serve) -> None:
    replies = [Reply(whole=True), None, None, Reply(error="overloaded_error")]
    client = await serve(answer=[ANSWER[0], *ANSWER[2:4]], replies=replies)
    whole, message = (await client.ask()).json, (await client.ask(payload={"model": "m"})).json
    assert whole["content"] == message["content"]
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]
    assert message["content"][2]["input"] == {"city": "Paris"}
    assert message["stop_reason"] == "tool_use"
    (choice,) = (await client.ask(CHAT, {"model": "m"})).json["choices"]
    assert (choice["message"]["content"], choice["message"]["reasoning_content"]) == ("It is sunny.", "Let me see.")
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Paris"}'}
    assert choice["finish_reason"] == "tool_calls"
    failed = await client.ask(CHAT, {"model": "m"})
    assert (failed.status, failed.json["error"]["type"]) == (200, "overloaded_error")


@pytest.mark.parametrize(
    ("reply", "anthropic", "openai"),
    [
        pytest.param(Reply(), "end_turn", "stop", id="text"),
        pytest.param(Reply(answer=ANSWER), "tool_use", "tool_calls", id="tool calls"),
        pytest.param(Reply(answer=[]), "end_turn", "stop", id="nothing"),
        pytest.param(Reply(answer="Other", stop="length"), "max_tokens", "length", id="a reason of its own"),
        pytest.param(Reply(stop="refusal"), "refusal", "content_filter", id="a refusal"),
    ],
)
async def test_the_stop_reason_fits_the_answer(serve: Serve, reply: Reply, anthropic: str, openai: str) -> None:
    client = await serve(replies=[reply, reply])
    assert (await client.ask()).events[-2]["delta"]["stop_reason"] == anthropic
    assert (await client.ask(CHAT)).events[-2]["choices"][0]["finish_reason"] == openai


@pytest.mark.peer
async def test_responses_have_the_sdks_types() -> None:
    openai, responses, pydantic = (package(name) for name in ("openai", "openai.types.responses", "pydantic"))
    model = pydantic.TypeAdapter(responses.ResponseStreamEvent)
    for events in (
        openai_response_events(ANSWER),
        openai_response_events([]),
        openai_response_events("cut", stop="length"),
        openai_response_events("no", failed="server_error"),
    ):
        for at, event in enumerate(events):
            assert model.validate_python(event).type == event["type"]
            assert event["sequence_number"] == at
    async with (
        FakeProvider(answer=ANSWER, api_keys=["key"], replies=[None, Reply.in_band_error("server_error")]) as fake,
        openai.AsyncOpenAI(api_key="key", base_url=fake.url + "/v1", max_retries=0) as client,
    ):
        response = await client.responses.create(model="m", input="Hi")
        assert (response.output_text, response.status) == ("It is sunny.", "completed")
        stream = await client.responses.create(model="m", input="Hi", stream=True)
        in_stream = [(event.type, event.sequence_number) async for event in stream]
        assert in_stream == [("response.created", 0), ("error", 1)]
