"""One login for aiohttp sessions and httpx clients: a stale token costs one refresh, whichever client meets it."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from rxauth import LoginRequired, MemoryStore, OAuthCredentials, aiohttp_middleware, httpx_auth
from rxauth.testing import FakeProvider, Gate, Reply
from tests.peers_needed import package

QUESTION = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
PLAN_LIMIT = Reply.unauthorized(message="Your current subscription does not have access to K3")

HTTPX = [pytest.param(name, marks=pytest.mark.peer) for name in ("httpx", "httpx2")]


async def at_once(seconds: float) -> None:
    """Take the place of a wait."""


def login(fake: FakeProvider) -> OAuthCredentials:
    store = MemoryStore(fake.credential())
    return OAuthCredentials(store, token_url=fake.token_url, client_id=fake.client_id, sleep=at_once)


class Client:
    """A client of one package, asked in the same way: the status of one question."""

    def __init__(self, name: str, credentials: OAuthCredentials, **options: Any) -> None:
        self.name = name
        if name == "aiohttp":
            self.client: Any = aiohttp.ClientSession(middlewares=[aiohttp_middleware(credentials, **options)])
        else:
            self.client = package(name).AsyncClient(auth=httpx_auth(credentials, **options), trust_env=False)

    async def post(self, url: str, **body: Any) -> int:
        body = body or {"json": QUESTION}
        if self.name == "aiohttp":
            async with self.client.post(url, **body) as response:
                await response.read()
                return int(response.status)
        return int((await self.client.post(url, **body)).status_code)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await (self.client.close() if self.name == "aiohttp" else self.client.aclose())


every_client = pytest.mark.parametrize("name", ["aiohttp", *HTTPX])


@every_client
async def test_stale_token_costs_one_refresh(name: str) -> None:
    """Of all clients together; the body is sent again."""
    async with FakeProvider() as fake, AsyncExitStack() as stack:
        credentials = login(fake)
        fake.invalidate()
        clients = [await stack.enter_async_context(Client(name, credentials)) for _ in range(10)]
        for _ in range(2):
            statuses = await asyncio.gather(*(each.post(f"{fake.url}/v1/messages") for each in clients))
            assert statuses == [200] * 10
            assert [each.status for each in fake.api_requests].count(401) == 10
        assert len(fake.token_requests) == 1
        assert all(each.json() == QUESTION for each in fake.api_requests)


@every_client
async def test_dead_login_passes_the_refusal_on(name: str, caplog: pytest.LogCaptureFixture) -> None:
    async with FakeProvider() as fake:
        credentials = login(fake)
        token = (await credentials.current()).access_token
        fake.revoke()
        async with Client(name, credentials) as client:
            assert await client.post(f"{fake.url}/v1/messages") == 401
        assert len(fake.api_requests) == 1
        (warning,) = [each for each in caplog.records if each.name == "rxauth.clients"]
        assert (warning.levelno, "Log in again" in warning.getMessage()) == (logging.WARNING, True)
        assert token not in caplog.text


@every_client
@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(PLAN_LIMIT, id="a 401 about the plan"),
        pytest.param(Reply(status=403), id="a 403 without a reason"),
        pytest.param(Reply(status=400), id="a request that is wrong"),
        pytest.param(Reply(status=503), id="an overload"),
        pytest.param(Reply(status=403, body="[" * 60_000), id="a body that is nested too deep"),
    ],
)
async def test_other_refusal_is_not_refreshed(name: str, refusal: Reply) -> None:
    async with FakeProvider(replies=[refusal]) as fake:
        async with Client(name, login(fake)) as client:
            assert await client.post(f"{fake.url}/v1/messages") in {400, 401, 403, 503}
        assert (len(fake.api_requests), len(fake.token_requests)) == (1, 0)


async def pieces() -> AsyncIterator[bytes]:
    yield b"{}"


@every_client
async def test_body_that_is_read_once_is_not_sent_again(name: str) -> None:
    async with FakeProvider() as fake:
        credentials = login(fake)
        fake.invalidate()
        async with Client(name, credentials) as client:
            body = {"data" if name == "aiohttp" else "content": pieces()}
            assert await client.post(f"{fake.url}/v1/messages", **body) == 401
        assert len(fake.api_requests) == 1


@every_client
@pytest.mark.parametrize("url", [None, "http://api.example.com/v1/messages"], ids=["nothing stored", "no TLS"])
async def test_request_without_a_safe_token_is_not_made(name: str, url: str | None) -> None:
    async with FakeProvider() as fake:
        credentials = login(fake)
        if url is None:
            credentials = OAuthCredentials(MemoryStore(), token_url=fake.token_url, client_id=fake.client_id)
        async with Client(name, credentials) as client:
            with pytest.raises(LoginRequired if url is None else ValueError, match=r"Log in|must be https"):
                await client.post(url or f"{fake.url}/v1/messages")
        assert fake.requests == []


@every_client
async def test_redirect_takes_no_token_to_another_origin(name: str) -> None:
    elsewhere: list[str | None] = []

    async def foreign(request: web.BaseRequest) -> web.Response:
        elsewhere.append(request.headers.get("Authorization"))
        return web.Response(status=401)

    runner = web.ServerRunner(web.Server(foreign))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    target = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    async with FakeProvider(replies=[Reply.redirect(target)]) as fake, Client(name, login(fake)) as client:
        if name != "aiohttp":
            client.client.follow_redirects = True
        assert await client.post(f"{fake.url}/v1/messages") == 401
    await runner.cleanup()
    assert elsewhere[0] is None


@pytest.mark.parametrize("name", HTTPX)
async def test_synchronous_client_on_a_loop_says_what_to_do(name: str) -> None:
    async with FakeProvider() as fake:
        with (
            package(name).Client(auth=httpx_auth(login(fake)), trust_env=False) as client,
            pytest.raises(RuntimeError, match="use an AsyncClient"),
        ):
            client.post(f"{fake.url}/v1/messages", json=QUESTION)


def generator() -> Iterator[bytes]:
    yield b"{}"


@pytest.mark.parametrize("name", HTTPX)
@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param({"content": b"{}"}, 200, id="bytes"),
        pytest.param({"data": {"a": "b"}}, 200, id="a form"),
        pytest.param({"files": {"file": io.BytesIO(b"contents")}}, 200, id="a form with a file"),
        pytest.param({"content": generator()}, 401, id="a generator"),
        pytest.param({"content": io.BytesIO(b"{}")}, 401, id="an open file"),
    ],
)
def test_httpx_body_is_sent_again_if_it_can_be(name: str, body: dict[str, Any], status: int) -> None:
    """By a synchronous client too."""
    with FakeProvider() as fake:
        credentials = login(fake)
        fake.invalidate()
        with package(name).Client(auth=httpx_auth(credentials), trust_env=False) as client:
            answer = client.post(f"{fake.url}/v1/messages", **body)
        assert (answer.status_code == 401) == (status == 401)
        assert len({each.body for each in fake.api_requests}) == 1


@pytest.mark.peer
@pytest.mark.parametrize("name", ["openai", "anthropic"])
async def test_official_client_survives_a_stale_token(name: str) -> None:
    sdk, httpx2 = package(name), package("httpx2")
    async with FakeProvider(answer="Hello") as fake:
        credentials = login(fake)
        fake.invalidate()
        common = {"http_client": httpx2.AsyncClient(auth=httpx_auth(credentials)), "max_retries": 0}
        if name == "openai":
            async with sdk.AsyncOpenAI(api_key="unused", base_url=f"{fake.url}/v1", **common) as client:
                answer = await client.chat.completions.create(model="m", messages=QUESTION["messages"])
            assert answer.choices[0].message.content == "Hello"
        else:
            async with sdk.AsyncAnthropic(auth_token="unused", base_url=fake.url, **common) as client:
                answer = await client.messages.create(**QUESTION)
            assert answer.content[0].text == "Hello"
        assert [each.status for each in fake.api_requests] == [401, 200]


async def test_cancelled_request_leaves_the_refresh_to_the_others() -> None:
    gate = Gate()
    async with FakeProvider(token_replies=[Reply(hold=gate)]) as fake:
        credentials = login(fake)
        fake.invalidate()
        async with Client("aiohttp", credentials) as one, Client("aiohttp", credentials) as other:
            leaves = asyncio.create_task(one.post(f"{fake.url}/v1/messages"))
            stays = asyncio.create_task(other.post(f"{fake.url}/v1/messages"))
            await gate.reached()
            leaves.cancel()
            gate.open()
            assert await stays == 200
            assert leaves.cancelled() or leaves.cancelling()
        assert len(fake.token_requests) == 1
