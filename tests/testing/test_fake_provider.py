"""The fake provider over real sockets: what a client sees, and what the provider says it saw."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import itertools
import json
import logging
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest
from multidict import CIMultiDict
from reactivex import operators as ops

from rxauth import StaticCredentials, anthropic_messages, to_async_iterable
from rxauth.events import Block, Text, Thinking, ToolCall
from rxauth.testing import FakeProvider, Gate, Pause, Reply, SeenRequest, anthropic_events, openai_chunks

REQUEST = {"model": "fake-1", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
MESSAGES, CHAT = "/v1/messages", "/v1/chat/completions"


class Seen(NamedTuple):
    """What a client got: the pieces as they arrived, and the exception that ended it."""

    status: int | None
    headers: CIMultiDict[str]
    pieces: list[bytes]
    error: Exception | None

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def events(self) -> list[Any]:
        """The data of every event; what is no JSON as text."""
        data = [line[6:] for line in self.body.decode().splitlines() if line.startswith("data: ")]
        return [each if each == "[DONE]" else json.loads(each) for each in data]


class Client:
    def __init__(self, fake: FakeProvider, session: aiohttp.ClientSession) -> None:
        self.fake = fake
        self.session = session
        self.credential = fake.credential()

    async def ask(self, path: str = MESSAGES, payload: Any = REQUEST, *, token: str | None = None) -> Seen:
        headers = {"Authorization": f"Bearer {token or self.credential.access_token}"}
        return await self._send("POST", self.fake.url + path, json=payload, headers=headers)

    async def get(self, path: str) -> Seen:
        return await self._send("GET", self.fake.url + path)

    async def refresh(self, refresh_token: str | None, **more: str) -> Seen:
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token or "", "client_id": self.fake.client_id}
        return await self._send("POST", self.fake.token_url, data=form | more)

    async def _send(self, method: str, url: str, **how: Any) -> Seen:
        pieces: list[bytes] = []
        status, headers = None, CIMultiDict[str]()
        try:
            async with self.session.request(method, url, allow_redirects=False, **how) as response:
                status, headers = response.status, CIMultiDict(response.headers)
                async for piece in response.content.iter_any():
                    pieces.append(piece)
        except aiohttp.ClientError as error:
            return Seen(status, headers, pieces, error)
        return Seen(status, headers, pieces, None)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


# The usual answers.


async def test_it_answers_in_the_events_of_anthropic_messages(session: aiohttp.ClientSession) -> None:
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


async def test_it_answers_in_the_chunks_of_openai_chat(session: aiohttp.ClientSession) -> None:
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


async def test_a_prefix_of_the_path_does_not_matter(session: aiohttp.ClientSession) -> None:
    async with FakeProvider() as fake:
        client = Client(fake, session)
        assert (await client.ask("/coding/v1/messages")).status == 200
        assert (await client.ask("/coding/v1/chat/completions")).status == 200
        assert len(fake.api_requests) == 2


async def test_without_stream_the_answer_is_one_json_object(session: aiohttp.ClientSession) -> None:
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


async def test_a_dead_token_gets_a_401_and_uses_up_no_reply(session: aiohttp.ClientSession) -> None:
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


async def test_a_key_is_taken_from_either_header(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(api_keys=["static"]) as fake:
        for headers in ({"x-api-key": "static"}, {"Authorization": "bearer static"}):
            async with session.post(fake.url + MESSAGES, json=REQUEST, headers=headers) as response:
                assert response.status == 200
        for headers in ({}, {"Authorization": "static"}, {"Authorization": "Bearer other"}):
            async with session.post(fake.url + MESSAGES, json=REQUEST, headers=headers) as response:
                assert response.status == 401


async def test_a_token_dies_when_its_time_is_up(session: aiohttp.ClientSession) -> None:
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


async def test_tokens_of_one_provider_mean_nothing_to_another(session: aiohttp.ClientSession) -> None:
    async with FakeProvider() as one, FakeProvider() as other:
        assert (await Client(one, session).ask(token=other.credential().access_token)).status == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", MESSAGES, 405), ("GET", "/elsewhere", 404), ("GET", "/oauth/token", 405), ("GET", "/device", 200)],
    ids=lambda value: str(value),
)
async def test_other_paths_and_methods_are_answered_as_a_server_does(
    session: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    async with FakeProvider() as fake:
        assert (await Client(fake, session)._send(method, fake.url + path)).status == status


async def test_a_request_that_is_no_json_object_is_refused(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(api_keys=["k"]) as fake:
        for data in (b"{", b"[]", b""):
            async with session.post(fake.url + MESSAGES, data=data, headers={"x-api-key": "k"}) as response:
                assert response.status == 400


# Scripted replies.


async def test_replies_are_used_in_turn_and_none_is_the_usual_answer(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(replies=[Reply(status=529), None, Reply.unauthorized()]) as fake:
        client = Client(fake, session)
        assert [(await client.ask()).status for _ in range(4)] == [529, 200, 401, 200]


async def test_a_script_may_be_endless(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(replies=itertools.repeat(Reply(status=500))) as fake:
        client = Client(fake, session)
        assert [(await client.ask()).status for _ in range(3)] == [500, 500, 500]


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
async def test_a_status_alone_brings_the_error_a_provider_sends_with_it(
    session: aiohttp.ClientSession, status: int, path: str, type: str
) -> None:
    async with FakeProvider(replies=[Reply(status=status)]) as fake:
        seen = await Client(fake, session).ask(path)
    assert (seen.status, seen.headers["Content-Type"]) == (status, "application/json")
    assert json.loads(seen.body)["error"]["type"] == type


async def test_error_and_message_of_a_reply_are_told(session: aiohttp.ClientSession) -> None:
    reply = Reply(status=401, error="token_expired", message="Too late.", headers={"x-more": "1"})
    async with FakeProvider(replies=[reply]) as fake:
        seen = await Client(fake, session).ask()
    assert json.loads(seen.body)["error"] == {"type": "token_expired", "message": "Too late."}
    assert seen.headers["x-more"] == "1"


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
@pytest.mark.parametrize(("after", "events"), [(None, 2), (0, 1), (3, 4)])
async def test_an_in_band_error_ends_the_answer_after_so_many_events(
    session: aiohttp.ClientSession, path: str, after: int | None, events: int
) -> None:
    async with FakeProvider(replies=[Reply.in_band_error("authentication_error", after=after)]) as fake:
        seen = await Client(fake, session).ask(path)
    assert (seen.status, seen.error, len(seen.events)) == (200, None, events)
    assert seen.events[-1]["error"]["type"] == "authentication_error"
    assert ("type" in seen.events[-1]) == (path == MESSAGES)


async def test_one_request_may_get_another_answer_and_another_end(session: aiohttp.ClientSession) -> None:
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


async def test_html_and_redirects_look_like_a_proxys(session: aiohttp.ClientSession) -> None:
    replies = [Reply.html(), Reply.html("<p>down", status=502), Reply.redirect("https://example.org/login")]
    async with FakeProvider(replies=replies) as fake:
        client = Client(fake, session)
        page, down, moved = [await client.ask() for _ in range(3)]
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert (down.status, down.body) == (502, b"<p>down")
    assert (moved.status, moved.headers["Location"], moved.body) == (307, "https://example.org/login", b"")


async def test_retry_after_is_a_header(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(replies=[Reply.rate_limited(2), Reply.rate_limited()]) as fake:
        client = Client(fake, session)
        assert (await client.ask()).headers["Retry-After"] == "2"
        assert "Retry-After" not in (await client.ask()).headers


# Pieces, cuts and resets.


async def test_every_event_arrives_on_its_own(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(answer="one two three four") as fake:
        seen = await Client(fake, session).ask()
    assert len(seen.pieces) == len(seen.events) == 10
    assert all(piece.endswith(b"\n\n") for piece in seen.pieces)


async def test_a_chunk_size_splits_anywhere_and_loses_nothing(session: aiohttp.ClientSession) -> None:
    whole = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in anthropic_events("h\u00e9llo")).encode()
    async with FakeProvider(replies=[Reply(body=whole, chunk_size=n) for n in (1, 7, 10**6)]) as fake:
        client = Client(fake, session)
        for size in (1, 7, 10**6):
            seen = await client.ask()
            assert seen.body == whole
            assert {len(piece) for piece in seen.pieces[:-1]} <= {size}


async def test_several_events_come_in_one_write(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(answer="one two three four", replies=[Reply(events_per_write=4)]) as fake:
        seen = await Client(fake, session).ask()
    assert [piece.count(b"\n\n") for piece in seen.pieces] == [4, 4, 2]


@pytest.mark.parametrize("at", [0, 1, 100, 400])
async def test_a_cut_ends_the_body_after_exactly_so_many_bytes(session: aiohttp.ClientSession, at: int) -> None:
    async with FakeProvider(replies=[None, Reply.cut(at=at), Reply.reset(at=at)]) as fake:
        client = Client(fake, session)
        whole, cut, reset = [await client.ask() for _ in range(3)]
        assert [each.status for each in fake.requests] == [200, 200, 200]
        assert not any(each.client_closed for each in fake.requests)
    for seen in (cut, reset):
        assert seen.status == 200
        assert len(seen.body) == at
        assert seen.body[:10] == whole.body[:10][:at]
        assert isinstance(seen.error, aiohttp.ClientPayloadError)
    assert "ConnectionResetError" not in str(cut.error)
    assert "ConnectionResetError" in str(reset.error)


async def test_a_cut_behind_the_whole_body_leaves_out_the_terminal_chunk(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(replies=[Reply.cut(at=10**6)]) as fake:
        seen = await Client(fake, session).ask()
    assert seen.events[-1] == {"type": "message_stop"}
    assert isinstance(seen.error, aiohttp.ClientPayloadError)


async def test_a_connection_may_end_before_there_is_a_status(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(replies=[Reply.cut(), Reply.reset()]) as fake:
        client = Client(fake, session)
        cut, reset = await client.ask(), await client.ask()
        assert [each.status for each in fake.requests] == [None, None]
        assert not any(each.client_closed for each in fake.requests)
    assert isinstance(cut.error, aiohttp.ServerDisconnectedError)
    assert isinstance(reset.error, aiohttp.ClientOSError)


async def test_a_body_with_a_length_can_be_cut_too(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(replies=[Reply(status=401, cut_at=20)]) as fake:
        seen = await Client(fake, session).ask()
    assert int(seen.headers["Content-Length"]) > 20
    assert (len(seen.body), type(seen.error)) == (20, aiohttp.ClientPayloadError)


# Time.


@pytest.mark.looptime
async def test_delays_and_pauses_run_on_the_loops_clock(session: aiohttp.ClientSession) -> None:
    body: list[Any] = ["a", Pause(1000), "b", "c"]
    async with FakeProvider(replies=[Reply(delay=30, pause=5, body=body)]) as fake:
        clock = asyncio.get_running_loop()
        begin = clock.time()
        headers = {"x-api-key": fake.credential().access_token}
        async with session.post(
            fake.url + MESSAGES, json=REQUEST, headers=headers, timeout=aiohttp.ClientTimeout()
        ) as response:
            assert clock.time() - begin == pytest.approx(30)
            times = [clock.time() - begin async for _ in response.content.iter_any()]
    assert times == pytest.approx([30, 1035, 1040])


async def test_a_gate_holds_a_response_until_it_is_opened(session: aiohttp.ClientSession) -> None:
    before, within = Gate(), Gate()
    async with FakeProvider(replies=[Reply(hold=before), Reply(hold=within, hold_after=2)]) as fake:
        client = Client(fake, session)
        asking = asyncio.create_task(client.ask())
        await before.reached()
        assert fake.requests[0].status is None
        before.open()
        assert (await asking).error is None

        asking = asyncio.create_task(client.ask())
        await within.reached()
        assert fake.requests[1].status == 200
        assert not asking.done()
        within.open()
        assert len((await asking).events) == 8
        assert repr(within) == "Gate(open, 1 reached)"


async def test_a_gate_in_a_body_holds_what_is_behind_it(session: aiohttp.ClientSession) -> None:
    gate = Gate()
    async with FakeProvider(replies=[Reply(body=["first", gate, "second"])]) as fake:
        headers = {"x-api-key": fake.credential().access_token}
        async with session.post(fake.url + MESSAGES, json=REQUEST, headers=headers) as response:
            assert await response.content.readany() == b"first"
            gate.open()
            assert await response.content.read() == b"second"


# What it saw.


async def test_a_request_is_recorded_as_it_came(session: aiohttp.ClientSession) -> None:
    async with FakeProvider() as fake:
        client = Client(fake, session)
        await client.ask(MESSAGES + "?beta=true")
        await client.refresh("none", scope="a b")
        api, token = fake.requests
        assert (api.method, api.path, api.query, api.number) == ("POST", MESSAGES, "beta=true", 1)
        assert api.json() == REQUEST
        assert json.loads(api.body) == REQUEST
        assert api.headers["AUTHORIZATION"] == f"Bearer {client.credential.access_token}"
        assert api.token == client.credential.access_token
        assert token.form()["scope"] == ["a b"]
        assert (fake.api_requests, fake.token_requests, fake.device_requests) == ([api], [token], [])
        await fake.served(2)
        assert repr(fake.requests) == "[SeenRequest(POST /v1/messages, 200), SeenRequest(POST /oauth/token, 400)]"


async def test_requests_are_a_copy(session: aiohttp.ClientSession) -> None:
    async with FakeProvider() as fake:
        before = fake.requests
        await Client(fake, session).ask()
        assert (before, len(fake.requests)) == ([], 1)


async def test_a_client_that_leaves_early_is_noticed_at_once(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(replies=[Reply.hang(after=3), None]) as fake:
        headers = {"x-api-key": fake.credential().access_token}
        async with session.post(fake.url + MESSAGES, json=REQUEST, headers=headers) as response:
            await response.content.readany()
            assert fake.open_connections == 1
            assert repr(fake.requests[0]) == "SeenRequest(POST /v1/messages, 200, under way)"
            response.close()
            await fake.served(1)
        await fake.until(lambda fake: fake.open_connections == 0)
        assert repr(fake.requests[0]) == "SeenRequest(POST /v1/messages, 200, client closed)"
        await Client(fake, session).ask()
        await fake.served(2)
        assert not fake.requests[1].client_closed


async def test_a_client_that_leaves_before_the_status_is_noticed(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(token_replies=[Reply.hang()]) as fake:
        refreshing = asyncio.create_task(Client(fake, session).refresh("any"))
        await fake.seen(1)
        refreshing.cancel()
        await fake.served(1)
        assert (fake.requests[0].status, fake.requests[0].client_closed) == (None, True)


async def test_an_idle_connection_counts_as_open(session: aiohttp.ClientSession) -> None:
    async with FakeProvider() as fake:
        client = Client(fake, session)
        await asyncio.gather(*(client.ask() for _ in range(20)))
        assert fake.open_connections == 20
        await session.close()
        await fake.until(lambda fake: fake.open_connections == 0)


async def test_a_connection_that_says_nothing_is_counted_as_well() -> None:
    async with FakeProvider() as fake:
        _, writer = await asyncio.open_connection("127.0.0.1", int(fake.url.rpartition(":")[2]))
        await fake.until(lambda fake: fake.open_connections == 1)
        writer.close()
        await fake.until(lambda fake: fake.open_connections == 0)


async def test_large_requests_and_large_bodies_are_no_trouble(session: aiohttp.ClientSession) -> None:
    size = 3_000_000
    replies = [Reply(body=b"x" * size), Reply.cut(at=size - 1, body=b"x" * size)]
    async with FakeProvider(replies=replies) as fake:
        client = Client(fake, session)
        request = json.dumps({"stream": True, "x": "y" * size}).encode()
        headers = {"x-api-key": client.credential.access_token}
        whole, cut = [
            await client._send("POST", fake.url + MESSAGES, data=io.BytesIO(request), headers=headers) for _ in range(2)
        ]
        assert all(len(each.body) > size for each in fake.requests)
    assert (len(whole.body), len(cut.body)) == (size, size - 1)


async def test_hundreds_of_streams_at_once_are_served() -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with FakeProvider(answer="hi") as fake, aiohttp.ClientSession(connector=connector) as session:
        client = Client(fake, session)
        seen = await asyncio.gather(*(client.ask() for _ in range(300)))
        assert {(each.status, each.error, len(each.events)) for each in seen} == {(200, None, 7)}
        assert len(fake.requests) == 300


# The authorization server.


async def test_a_refresh_token_buys_one_token_and_a_second_use_ends_the_login(session: aiohttp.ClientSession) -> None:
    async with FakeProvider() as fake:
        client = Client(fake, session)
        first = client.credential.refresh_token
        response = await client.refresh(first)
        assert response.status == 200
        assert response.headers["Cache-Control"] == "no-store"
        granted = json.loads(response.body)
        assert granted["token_type"] == "Bearer"
        assert granted["refresh_token"] != first
        assert (await client.ask(token=granted["access_token"])).status == 200

        reused = await client.refresh(first)
        assert (reused.status, json.loads(reused.body)["error"]) == (400, "invalid_grant")
        descendant = await client.refresh(granted["refresh_token"])
        assert (descendant.status, json.loads(descendant.body)["error"]) == (400, "invalid_grant")
        assert (await client.ask(token=granted["access_token"])).status == 401


async def test_a_rotation_stays_however_its_response_is_lost(session: aiohttp.ClientSession) -> None:
    replies = [Reply.cut(at=10), Reply.reset(), Reply(status=503), Reply(body="not JSON"), Reply.hang()]
    for reply, spent in zip(replies, (True, True, False, False, True), strict=True):
        async with FakeProvider(token_replies=[reply]) as fake:
            client = Client(fake, session)
            lost = asyncio.create_task(client.refresh(client.credential.refresh_token))
            await fake.seen(1)
            if reply.hold is not None:
                await reply.hold.reached()
                lost.cancel()
            await asyncio.wait([lost])
            again = await client.refresh(client.credential.refresh_token)
            assert again.status == (400 if spent else 200), reply


@pytest.mark.parametrize(
    ("reply", "status", "body"),
    [
        (Reply(status=400), 400, "invalid_grant"),
        (Reply(status=401), 401, "invalid_client"),
        (Reply(status=500), 500, "server_error"),
        (Reply(status=400, error="unauthorized_client"), 400, "unauthorized_client"),
        (Reply(error="bad_refresh_token"), 200, "bad_refresh_token"),
    ],
)
async def test_a_scripted_oauth_error_has_the_shape_of_rfc_6749(
    session: aiohttp.ClientSession, reply: Reply, status: int, body: str
) -> None:
    async with FakeProvider(token_replies=[reply]) as fake:
        seen = await Client(fake, session).refresh("any")
    assert (seen.status, json.loads(seen.body)["error"]) == (status, body)


async def test_the_secret_of_a_client_is_asked_for_in_either_place(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(client_secret="s/e+c") as fake:
        client = Client(fake, session)
        refused = await client.refresh(client.credential.refresh_token)
        assert (refused.status, json.loads(refused.body)["error"]) == (401, "invalid_client")
        assert refused.headers["WWW-Authenticate"].startswith("Basic")
        in_body = await client.refresh(client.credential.refresh_token, client_secret="s/e+c")
        assert in_body.status == 200
        form = {"grant_type": "refresh_token", "refresh_token": json.loads(in_body.body)["refresh_token"]}
        basic = "Basic " + base64.b64encode(f"{fake.client_id}:s%2Fe%2Bc".encode()).decode()
        async with session.post(fake.token_url, data=form, headers={"Authorization": basic}) as response:
            assert response.status == 200


@pytest.mark.looptime
async def test_a_device_login_waits_for_the_person_at_the_pace_it_was_told(session: aiohttp.ClientSession) -> None:
    async with FakeProvider() as fake:
        client = Client(fake, session)
        who = {"client_id": fake.client_id}
        started = json.loads((await client._send("POST", fake.device_url, data=who | {"scope": "all"})).body)
        assert started["interval"] == 5
        assert started["verification_uri_complete"].endswith(started["user_code"])
        poll = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": started["device_code"]}

        async def polled() -> Any:
            return json.loads((await client._send("POST", fake.token_url, data=who | poll)).body)

        assert (await polled())["error"] == "authorization_pending"
        await asyncio.sleep(5)
        assert (await polled())["error"] == "authorization_pending"
        await asyncio.sleep(3)
        assert (await polled())["error"] == "slow_down"
        fake.approve(started["user_code"])
        await asyncio.sleep(5)
        assert (await polled())["error"] == "slow_down", "the interval is 10 s after the first slow_down"
        await asyncio.sleep(15)
        granted = await polled()
        assert granted["scope"] == "all"
        assert (await client.ask(token=granted["access_token"])).status == 200
        await asyncio.sleep(30)
        assert (await polled())["error"] == "invalid_grant"
        assert len(fake.device_requests) == 1


# Running.


def test_it_runs_on_a_thread_of_its_own() -> None:
    gate = Gate()
    with FakeProvider(replies=[Reply(hold=gate, hold_after=1)]) as fake:
        host = fake.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=10)
        headers = {"x-api-key": fake.credential().access_token}
        connection.request("POST", MESSAGES, json.dumps(REQUEST), headers)
        response = connection.getresponse()
        assert response.readline() == b"event: message_start\n"
        gate.open()
        assert response.read().endswith(b'data: {"type":"message_stop"}\n\n')
        connection.close()
        asyncio.run(fake.until(lambda fake: fake.open_connections == 0))
        assert [each.status for each in fake.requests] == [200]
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(host, timeout=10).connect()


@pytest.mark.looptime
async def test_a_response_that_hangs_does_not_keep_it_from_ending(session: aiohttp.ClientSession) -> None:
    clock = asyncio.get_running_loop()
    async with FakeProvider(replies=[Reply.hang(), Reply.hang(after=1)]) as fake:
        client = Client(fake, session)
        asking = [asyncio.create_task(client.ask()) for _ in range(2)]
        await fake.seen(2)
        seen, begin = fake.requests, clock.time()
    assert clock.time() == begin
    ended = await asyncio.gather(*asking)
    assert all(each.error is not None for each in ended)
    assert not any(each.client_closed for each in seen)


async def test_it_has_no_address_while_it_does_not_run() -> None:
    fake = FakeProvider()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="async with"):
            fake.url  # noqa: B018
        async with fake:
            assert fake.url.startswith("http://127.0.0.1:")
            with pytest.raises(RuntimeError, match="already"):
                await fake.__aenter__()


async def test_a_port_that_is_taken_is_an_error() -> None:
    async with FakeProvider() as fake:
        other = FakeProvider(port=int(fake.url.rpartition(":")[2]))
        with pytest.raises(OSError, match="address"):
            await other.__aenter__()
        with pytest.raises(OSError, match="address"), other:
            pass


async def test_nothing_it_says_tells_a_token(session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with FakeProvider(client_secret="client-secret", api_keys=["api-key"]) as fake:
        client = Client(fake, session)
        await client.ask()
        await client.refresh(client.credential.refresh_token, client_secret="client-secret")
        reply = Reply(body={"access_token": "scripted-token"})
        told = [repr(x) + str(x) for x in (fake, fake.requests, fake._oauth, reply, fake.requests[0].headers)]
        secrets = [client.credential.access_token, client.credential.refresh_token or "-", "scripted-token"]
        for secret in [*secrets, "client-secret", "api-key"]:
            assert not any(secret in each for each in [*told, caplog.text]), secret


@pytest.mark.parametrize("name", ["replies", "token_replies", "device_replies"])
def test_a_script_of_anything_else_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        FakeProvider(**{name: [401]})  # type: ignore[arg-type]


def test_wire_events_are_there_to_be_broken() -> None:
    assert [event for event in openai_chunks("Hi") if isinstance(event, str)] == ["data: [DONE]\n\n"]
    assert anthropic_events("Hi", stop="length")[-2]["delta"]["stop_reason"] == "max_tokens"


@pytest.mark.looptime
async def test_latency_is_before_every_response() -> None:
    async with FakeProvider(latency=7, replies=[Reply(status=503)]) as fake:
        began = asyncio.get_running_loop().time()
        async with aiohttp.ClientSession() as session, session.post(fake.url + "/v1/messages") as response:
            assert response.status == 401
        assert asyncio.get_running_loop().time() - began == pytest.approx(7, abs=0.5)


def test_a_negative_latency_is_refused() -> None:
    with pytest.raises(ValueError, match="latency"):
        FakeProvider(latency=-1)


def not_an_error(event: Any) -> bool:
    return bool(event.type != "error")


async def test_a_client_that_leaves_before_the_end_is_nothing_to_log(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeProvider(replies=[Reply.in_band_error()]) as fake:
        credentials = StaticCredentials(fake.credential().access_token)
        stream = anthropic_messages(REQUEST, base_url=fake.url, credentials=credentials)
        seen = [event.type async for event in to_async_iterable(stream.pipe(ops.take_while(not_an_error)))]
        assert seen == ["start"]
        await fake.served()
    assert [record for record in caplog.records if record.name == "aiohttp.server"] == []
