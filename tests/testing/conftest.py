"""A client of the fake provider that keeps every piece as it arrives."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import aiohttp
import pytest
from multidict import CIMultiDict

from rxauth.testing import FakeProvider

REQUEST = {"model": "fake-1", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
MESSAGES, CHAT = "/v1/messages", "/v1/chat/completions"


class Seen(NamedTuple):
    """Hold the pieces that a client received, as they arrived, and the exception that ended it."""

    status: int | None
    headers: CIMultiDict[str]
    pieces: list[bytes]
    error: Exception | None

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

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
        return await self.send(path, json=payload, headers=headers)

    async def refresh(self, refresh_token: str | None = None, **more: str) -> Seen:
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token or self.credential.refresh_token or ""}
        return await self.send("/oauth/token", data=form | {"client_id": self.fake.client_id} | more)

    async def send(self, path: str, method: str = "POST", **how: Any) -> Seen:
        pieces: list[bytes] = []
        status, headers = None, CIMultiDict[str]()
        try:
            async with self.session.request(method, self.fake.url + path, allow_redirects=False, **how) as response:
                status, headers = response.status, CIMultiDict(response.headers)
                async for piece in response.content.iter_any():
                    pieces.append(piece)
        except aiohttp.ClientError as error:
            return Seen(status, headers, pieces, error)
        return Seen(status, headers, pieces, None)


Serve = Callable[..., Awaitable[Client]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a fake provider with the options given, and return a client of it."""
    async with AsyncExitStack() as stack:

        async def started(**options: Any) -> Client:
            fake = await stack.enter_async_context(FakeProvider(**options))
            timeout = aiohttp.ClientTimeout()  # none: a virtual clock may run for hours
            return Client(fake, await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout)))

        yield started
