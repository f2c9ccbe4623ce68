"""The fake provider: its usual answers, its tokens, and scripted replies."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from rxauth.events import Block, Text, Thinking, ToolCall
from rxauth.testing import FakeProvider, Reply, SeenRequest
from tests.testing.client import CHAT, MESSAGES, REQUEST, Client

# The usual answers.


async def test_anthropic_messages_are_server_sent_events(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(answer="Hello, world.") as fake:
        seen = await Client(fake, session).ask()
    assert (seen.status, seen.error) == (200, None)
    assert seen.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert seen.headers["request-id"] == "req_000001"
    assert seen.events[0]["message"]["model"] == "fake-1"
    assert [event["type"] for event in seen.events] == [
        "message_start", "content_block_start", "ping", "content_block_delta", "content_block_delta",
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert [event["delta"]["text"] for event in seen.events[3:5]] == ["Hello,", " world."]


async def test_openai_chat_is_server_sent_chunks(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(answer="Hello, world.") as fake:
        client = Client(fake, session)
        seen = await client.ask(CHAT, REQUEST | {"stream_options": {"include_usage": True}})
        plain = await client.ask(CHAT)
    assert seen.headers["x-request-id"] == "req_000001"
    *chunks, done = seen.events
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    said = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
    assert said == ["", "Hello,", " world.", None]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    assert all(chunk.get("choices") for chunk in plain.events[:-1]), "usage comes only where it was asked for"


async def test_without_stream_an_answer_is_one_object(session: aiohttp.ClientSession) -> None:
    answer: list[Block] = [
        Thinking("Hm.", signature="sig"),
        Text("Hello."),
        ToolCall("call_1", "weather", '{"city": "Paris"}'),
    ]
    async with FakeProvider(answer=answer) as fake:
        client = Client(fake, session)
        message = json.loads((await client.ask(payload={"model": "m"})).body)
        completion = json.loads((await client.ask(CHAT, {"model": "m"})).body)
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]
    assert message["content"][2]["input"] == {"city": "Paris"}
    assert message["stop_reason"] == "tool_use"
    choice = completion["choices"][0]
    assert choice["message"]["content"] == "Hello."
    assert choice["message"]["reasoning_content"] == "Hm."
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Paris"}'}
    assert choice["finish_reason"] == "tool_calls"


# Who is let in.


async def test_a_dead_token_uses_up_no_reply(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(replies=[Reply(status=503)]) as fake:
        client = Client(fake, session)
        fake.invalidate()
        rejected = await client.ask()
        assert rejected.status == 401
        assert json.loads(rejected.body)["error"]["type"] == "authentication_error"
        openai = json.loads((await client.ask(CHAT)).body)
        assert openai["error"]["code"] == "invalid_api_key"
        client.credential = fake.credential()
        assert (await client.ask()).status == 503
        assert (await client.ask()).status == 200
        assert [each.status for each in fake.api_requests] == [401, 401, 503, 200]


async def test_a_key_counts_in_either_header(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(api_keys=["static"]) as fake:
        for headers in ({"x-api-key": "static"}, {"Authorization": "bearer static"}):
            async with session.post(fake.url + MESSAGES, json=REQUEST, headers=headers) as response:
                assert response.status == 200
        for headers in ({}, {"Authorization": "static"}, {"Authorization": "Bearer other"}):
            async with session.post(fake.url + MESSAGES, json=REQUEST, headers=headers) as response:
                assert response.status == 401


async def test_a_token_expires(session: aiohttp.ClientSession) -> None:
    now = 1000.0
    async with FakeProvider(expires_in=900, clock=lambda: now) as fake:
        client = Client(fake, session)
        assert client.credential.expires_at == 1900
        now = 1899.9
        assert (await client.ask()).status == 200
        now = 1900
        assert (await client.ask()).status == 401
        response = json.loads((await client.refresh(client.credential.refresh_token)).body)
        assert response["expires_in"] == 900
        assert (await client.ask(token=response["access_token"])).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", MESSAGES, 405), ("GET", "/elsewhere", 404), ("GET", "/oauth/token", 405), ("GET", "/device", 200)],
    ids=lambda value: str(value),
)
async def test_other_paths_and_methods_have_a_status(
    session: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    async with FakeProvider() as fake:
        assert (await Client(fake, session)._send(method, fake.url + path)).status == status


async def test_a_request_without_an_object_is_refused(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(api_keys=["k"]) as fake:
        for data in (b"{", b"[]", b""):
            async with session.post(fake.url + MESSAGES, data=data, headers={"x-api-key": "k"}) as response:
                assert response.status == 400


# Scripted replies.


async def test_replies_are_used_in_turn(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(replies=[Reply(status=529), None, Reply.unauthorized()]) as fake:
        client = Client(fake, session)
        assert [(await client.ask()).status for _ in range(4)] == [529, 200, 401, 200]


@pytest.mark.parametrize(
    ("status", "path", "type"),
    [
        (400, MESSAGES, "invalid_request_error"),
        (401, CHAT, "authentication_error"),
        (403, MESSAGES, "permission_error"),
        (429, CHAT, "rate_limit_error"),
        (502, MESSAGES, "api_error"),
        (529, MESSAGES, "overloaded_error"),
    ],
)
async def test_a_status_alone_brings_its_error(
    session: aiohttp.ClientSession, status: int, path: str, type: str
) -> None:
    async with FakeProvider(replies=[Reply(status=status)]) as fake:
        seen = await Client(fake, session).ask(path)
    assert (seen.status, seen.headers["Content-Type"]) == (status, "application/json")
    assert json.loads(seen.body)["error"]["type"] == type


async def test_a_reply_sets_error_and_message(session: aiohttp.ClientSession) -> None:
    reply = Reply(status=401, error="token_expired", message="Too late.", headers={"x-more": "1"})
    async with FakeProvider(replies=[reply]) as fake:
        seen = await Client(fake, session).ask()
    assert json.loads(seen.body)["error"] == {"type": "token_expired", "message": "Too late."}
    assert seen.headers["x-more"] == "1"


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
@pytest.mark.parametrize(("after", "events"), [(None, 2), (0, 1), (3, 4)])
async def test_an_in_band_error_ends_the_answer(
    session: aiohttp.ClientSession, path: str, after: int | None, events: int
) -> None:
    async with FakeProvider(replies=[Reply.in_band_error("authentication_error", after=after)]) as fake:
        seen = await Client(fake, session).ask(path)
    assert (seen.status, seen.error, len(seen.events)) == (200, None, events)
    assert seen.events[-1]["error"]["type"] == "authentication_error"
    assert ("type" in seen.events[-1]) == (path == MESSAGES)


async def test_a_reply_sets_answer_and_stop_reason(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(replies=[Reply(answer="Other", stop="length"), Reply(stop="refusal")]) as fake:
        client = Client(fake, session)
        first, second = await client.ask(), await client.ask(CHAT)
    assert [event["delta"]["text"] for event in first.events if event["type"] == "content_block_delta"] == ["Other"]
    assert first.events[-2]["delta"]["stop_reason"] == "max_tokens"
    assert second.events[-2]["choices"][0]["finish_reason"] == "content_filter"


async def test_a_body_is_sent_as_it_is(session: aiohttp.ClientSession) -> None:
    bodies: list[Any] = [
        b"\xff\xfe",
        "d\u00e9j\u00e0",
        {"any": "thing"},
        [{"type": "ping"}, "data: raw\n\n", b"\n"],
        [],
    ]
    async with FakeProvider(replies=[Reply(body=body) for body in bodies]) as fake:
        client = Client(fake, session)
        seen = [await client.ask() for _ in bodies]
    assert [each.body for each in seen] == [
        b"\xff\xfe",
        "d\u00e9j\u00e0".encode(),
        b'{"any":"thing"}',
        b'event: ping\ndata: {"type":"ping"}\n\ndata: raw\n\n\n',
        b"",
    ]
    assert [each.headers["Content-Type"].split(";")[0] for each in seen] == [
        "text/event-stream", "text/event-stream", "application/json", "text/event-stream", "text/event-stream",
    ]  # fmt: skip
    assert all(each.error is None for each in seen)


async def test_a_body_may_depend_on_the_request(session: aiohttp.ClientSession) -> None:
    def echo(request: SeenRequest) -> dict[str, str]:
        return {"error": f"{request.token} is dead"}

    async with FakeProvider(replies=[Reply(status=401, body=echo)]) as fake:
        client = Client(fake, session)
        assert json.loads((await client.ask()).body) == {"error": f"{client.credential.access_token} is dead"}
