"""The fake provider: pieces, cuts, time, the requests it saw, and running it."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import logging
from typing import Any

import aiohttp
import pytest
from reactivex import operators as ops

from rxauth import StaticCredentials, anthropic_messages, to_async_iterable
from rxauth.testing import FakeProvider, Gate, Pause, Reply, anthropic_events
from tests.testing.client import MESSAGES, REQUEST, Client

# Pieces, cuts and resets.


async def test_every_event_arrives_on_its_own(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(answer="one two three four") as fake:
        seen = await Client(fake, session).ask()
    assert len(seen.pieces) == len(seen.events) == 10
    assert all(piece.endswith(b"\n\n") for piece in seen.pieces)


async def test_a_chunk_size_splits_anywhere(session: aiohttp.ClientSession) -> None:
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
async def test_a_cut_is_exact_to_the_byte(session: aiohttp.ClientSession, at: int) -> None:
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


async def test_a_connection_may_end_before_its_status(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(replies=[Reply.cut(), Reply.reset()]) as fake:
        client = Client(fake, session)
        cut, reset = await client.ask(), await client.ask()
        assert [each.status for each in fake.requests] == [None, None]
        assert not any(each.client_closed for each in fake.requests)
    assert isinstance(cut.error, aiohttp.ServerDisconnectedError)
    assert isinstance(reset.error, aiohttp.ClientOSError)


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


async def test_a_gate_holds_a_response(session: aiohttp.ClientSession) -> None:
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


async def test_a_gate_in_a_body_holds_the_rest(session: aiohttp.ClientSession) -> None:
    gate = Gate()
    async with FakeProvider(replies=[Reply(body=["first", gate, "second"])]) as fake:
        headers = {"x-api-key": fake.credential().access_token}
        async with session.post(fake.url + MESSAGES, json=REQUEST, headers=headers) as response:
            assert await response.content.readany() == b"first"
            gate.open()
            assert await response.content.read() == b"second"


# The requests that it saw.


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


async def test_a_client_that_leaves_is_noticed_at_once(session: aiohttp.ClientSession) -> None:
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


async def test_a_client_that_leaves_before_a_status_is_noticed(session: aiohttp.ClientSession) -> None:
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


async def test_large_requests_and_bodies_are_whole(session: aiohttp.ClientSession) -> None:
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
async def test_a_hanging_response_does_not_block_the_end(session: aiohttp.ClientSession) -> None:
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


async def test_a_stopped_provider_has_no_address() -> None:
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


async def test_no_text_shows_a_token(session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture) -> None:
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
def test_a_script_of_other_things_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        FakeProvider(**{name: [401]})  # type: ignore[arg-type]


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


async def test_a_client_that_leaves_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeProvider(replies=[Reply.in_band_error()]) as fake:
        credentials = StaticCredentials(fake.credential().access_token)
        stream = anthropic_messages(REQUEST, base_url=fake.url, credentials=credentials)
        seen = [event.type async for event in to_async_iterable(stream.pipe(ops.take_while(not_an_error)))]
        assert seen == ["start"]
        await fake.served()
    assert [record for record in caplog.records if record.name == "aiohttp.server"] == []
