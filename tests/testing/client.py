"""A client of the fake provider that keeps every piece as it arrives."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import aiohttp
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
