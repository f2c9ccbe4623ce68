from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from pydantic_ai import Agent
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers._oauth_provider import OAuthCredentialsProvider
from pydantic_ai.settings import ModelSettings

from rxauth.credentials import Credential

from ..running import Ask, Login, Screen

NAME = "pydantic-ai"
PACKAGES = ("pydantic-ai-slim", "openai")
WIRE = "chat"
SETUP = (
    "the OAuth provider that `OpenAICodexProvider` stands on, with a `credential_source`; `FallbackModel` of the same "
    "model twice; `first_event_timeout`"
)


@dataclass(frozen=True)
class Tokens:
    access_token: str
    refresh_token: str


class Loopback(httpx2.AsyncHTTPTransport):
    """Bring requests to https://provider.test, where the provider sends credentials, to the server on loopback."""

    def __init__(self, login: Login) -> None:
        super().__init__()
        self._url = httpx2.URL(login.base_url)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "provider.test":
            path = self._url.path + request.url.path.removeprefix("/v1")
            request.url = request.url.copy_with(scheme="http", host=self._url.host, port=self._url.port, path=path)
        return await super().handle_async_request(request)


class Source:
    """The stored login."""

    def __init__(self, login: Login) -> None:
        self._store = login.store

    async def load(self) -> Tokens:
        stored = await self._store.load()
        assert stored is not None
        return Tokens(stored.access_token, stored.refresh_token or "")

    async def save(self, credentials: Tokens) -> None:
        await self._store.save(Credential(credentials.access_token, credentials.refresh_token, time.time() + 900))


class Provider(OAuthCredentialsProvider[Tokens]):
    name = "fake"
    base_url = "https://provider.test/v1"

    def __init__(self, login: Login) -> None:
        self._login = login
        timeout = httpx2.Timeout(login.first, read=login.idle)
        client = httpx2.AsyncClient(transport=Loopback(login), timeout=timeout)
        super().__init__(None, credential_source=Source(login), openai_client=None, http_client=client)

    def _auth_headers(self, credentials: Tokens) -> dict[str, str]:
        return {"Authorization": f"Bearer {credentials.access_token}"}

    async def _refresh_grant(self, credentials: Tokens, http_client: httpx2.AsyncClient) -> Tokens:
        form = {"grant_type": "refresh_token", "refresh_token": credentials.refresh_token}
        response = await http_client.post(self._login.token_url, data=form | {"client_id": self._login.client_id})
        response.raise_for_status()
        answer = response.json()
        return Tokens(answer["access_token"], answer.get("refresh_token", credentials.refresh_token))


@asynccontextmanager
async def connect(login: Login) -> AsyncIterator[Ask]:
    provider = Provider(login)
    model: Any = OpenAIChatModel("m", provider=provider)
    settings = ModelSettings(first_event_timeout=login.first)
    agent = Agent(FallbackModel(model, model), model_settings=settings)

    async def ask(screen: Screen) -> None:
        async with agent.run_stream("Hi") as result:
            screen.start()
            async for delta in result.stream_text(delta=True, debounce_by=None):
                screen.text(delta)

    yield ask
