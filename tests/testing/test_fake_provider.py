"""The fake provider: who is let in, what it saw, how long it holds, and running it."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
from typing import Any

import aiohttp
import pytest

from rxauth.testing import FakeProvider, Gate, Reply
from tests.testing.conftest import CHAT, MESSAGES, REQUEST, Serve

# Who is let in.


async def test_a_dead_token_uses_up_no_reply(serve: Serve) -> None:
    client = await serve(replies=[Reply(status=503)])
    client.fake.invalidate()
    assert (await client.ask()).json["error"]["type"] == "authentication_error"
    assert (await client.ask(CHAT)).json["error"]["code"] == "invalid_api_key"
    client.credential = client.fake.credential()
    assert [(await client.ask()).status for _ in range(2)] == [503, 200]
    assert [each.status for each in client.fake.api_requests] == [401, 401, 503, 200]


@pytest.mark.parametrize(
    ("request_line", "headers", "body", "status"),
    [
        (f"POST {MESSAGES}", {"x-api-key": "static"}, "{}", 200),
        (f"POST {MESSAGES}", {"Authorization": "bearer static"}, "{}", 200),
        (f"POST {MESSAGES}", {}, "{}", 401),
        (f"POST {MESSAGES}", {"Authorization": "static"}, "{}", 401),
        (f"POST {MESSAGES}", {"Authorization": "Bearer other"}, "{}", 401),
        (f"POST {MESSAGES}", {"x-api-key": "static"}, "{", 400),
        (f"POST {MESSAGES}", {"x-api-key": "static"}, "[]", 400),
        (f"POST {MESSAGES}", {"x-api-key": "static"}, "", 400),
        (f"GET {MESSAGES}", {}, "", 405),
        ("GET /oauth/token", {}, "", 405),
        ("GET /device", {}, "", 200),
        ("GET /elsewhere", {}, "", 404),
    ],
    ids=str,
)
async def test_a_request_has_its_status(
    serve: Serve, request_line: str, headers: dict[str, str], body: str, status: int
) -> None:
    method, path = request_line.split()
    assert (await (await serve(api_keys=["static"])).send(path, method, data=body, headers=headers)).status == status


# The requests that it saw.


async def test_a_request_is_recorded_as_it_came(serve: Serve) -> None:
    client = await serve()
    await client.ask(MESSAGES + "?beta=true")
    await client.refresh("none", scope="a b")
    await client.fake.served(2)
    api, token = client.fake.requests
    assert (api.method, api.path, api.query, api.number) == ("POST", MESSAGES, "beta=true", 1)
    assert api.json() == json.loads(api.body) == REQUEST
    assert api.headers["AUTHORIZATION"] == f"Bearer {api.token}" == f"Bearer {client.credential.access_token}"
    assert token.form()["scope"] == ["a b"]
    assert (client.fake.api_requests, client.fake.token_requests, client.fake.device_requests) == ([api], [token], [])
    assert repr([api, token]) == "[SeenRequest(POST /v1/messages, 200), SeenRequest(POST /oauth/token, 400)]"


async def test_a_client_that_leaves_is_noticed_at_once(serve: Serve) -> None:
    client = await serve(replies=[Reply.hang(after=3), None])
    fake, headers = client.fake, {"x-api-key": client.credential.access_token}
    async with client.session.post(fake.url + MESSAGES, json=REQUEST, headers=headers) as response:
        await response.content.readany()
        assert fake.open_connections == 1
        assert repr(fake.requests[0]) == "SeenRequest(POST /v1/messages, 200, under way)"
        response.close()
        await fake.served(1)
    await fake.until(lambda fake: fake.open_connections == 0)
    assert repr(fake.requests[0]) == "SeenRequest(POST /v1/messages, 200, client closed)"
    await client.ask()
    await fake.served(2)
    assert not fake.requests[1].client_closed


async def test_a_client_that_leaves_before_a_status_is_noticed(serve: Serve) -> None:
    client = await serve(token_replies=[Reply.hang()])
    refreshing = asyncio.create_task(client.refresh())
    await client.fake.seen(1)
    refreshing.cancel()
    await client.fake.served(1)
    assert repr(client.fake.requests) == "[SeenRequest(POST /oauth/token, no answer, client closed)]"


def test_clients_that_leave_in_the_middle_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with FakeProvider(answer="word " * 100, api_keys=["k"]) as fake:

        async def leave(session: aiohttp.ClientSession, pieces: int) -> None:
            async with session.post(fake.url + MESSAGES, json=REQUEST, headers={"x-api-key": "k"}) as response:
                for _ in range(pieces):
                    await response.content.readany()
                response.close()

        async def main() -> None:
            async with aiohttp.ClientSession() as session:
                await asyncio.gather(*(leave(session, each % 30) for each in range(300)))
            await fake.served(300)

        asyncio.run(main())
    assert [record for record in caplog.records if record.name == "aiohttp.server"] == []


async def test_an_idle_connection_counts_as_open(serve: Serve) -> None:
    client = await serve()
    await asyncio.gather(*(client.ask() for _ in range(20)))
    assert client.fake.open_connections == 20
    await client.session.close()
    await client.fake.until(lambda fake: fake.open_connections == 0)


async def test_no_text_shows_a_token(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = await serve(client_secret="client-secret", api_keys=["api-key"])
    await client.ask()
    await client.refresh(client_secret="client-secret")
    reply = Reply(body={"access_token": "scripted-token"})
    printed = [repr(x) + str(x) for x in (client.fake, client.fake.requests, reply, client.fake.requests[0].headers)]
    secrets = [client.credential.access_token, client.credential.refresh_token or "-", "scripted-token"]
    for secret in [*secrets, "client-secret", "api-key"]:
        assert not any(secret in each for each in [*printed, caplog.text]), secret


# Gates.


async def test_a_gate_holds_a_response(serve: Serve) -> None:
    before, within, in_body = Gate(), Gate(), Gate()
    replies = [Reply(hold=before), Reply(hold=within, hold_after=2), Reply(body=["first", in_body, "second"])]
    client = await serve(replies=replies)
    for gate, status, events in ((before, None, 8), (within, 200, 8), (in_body, 200, 0)):
        asking = asyncio.create_task(client.ask())
        await gate.reached()
        assert client.fake.requests[-1].status == status
        assert (asking.done(), gate.is_open) == (False, False)
        gate.open()
        assert len((await asking).events) == events
        assert repr(gate) == "Gate(open, 1 reached)"


async def test_waiters_that_leave_are_no_error() -> None:
    trouble: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: trouble.append(context))
    gate = Gate()
    leaves_before, leaves_when_woken, stays = (asyncio.create_task(gate.hold()) for _ in range(3))
    await gate.reached(3)
    leaves_before.cancel()
    await asyncio.wait([leaves_before])
    gate.open()
    leaves_when_woken.cancel()
    await asyncio.wait([leaves_when_woken, stays])
    assert (stays.cancelled(), trouble) == (False, [])


async def test_a_change_between_checks_is_not_missed() -> None:
    async with FakeProvider() as fake, asyncio.timeout(5):
        checks = iter([False, True])
        await fake.until(lambda _: next(checks))


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
async def test_a_hanging_response_does_not_block_the_end(serve: Serve) -> None:
    clock = asyncio.get_running_loop()
    client = await serve()
    async with FakeProvider(replies=[Reply.hang(), Reply.hang(after=1)]) as client.fake:
        client.credential = client.fake.credential()
        asking = [asyncio.create_task(client.ask()) for _ in range(2)]
        await client.fake.seen(2)
        begin = clock.time()
    assert clock.time() == begin
    ended = await asyncio.gather(*asking)
    assert all(each.error is not None for each in ended)
    assert not any(each.client_closed for each in client.fake.requests)


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
