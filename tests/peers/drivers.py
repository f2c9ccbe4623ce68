"""The clients of the table, each with the set-up that its own documentation recommends.

A driver is given a `Login` and yields a function that asks once: an async iterator of the pieces of the answer, with
`None` where a message opens. It imports its packages itself, so that no client pays for the modules of another.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from inspect import isawaitable
from types import SimpleNamespace
from typing import Any, TypeAlias

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops

from rxauth import (
    Credential,
    OAuthCredentials,
    anthropic_messages,
    buffer_until_live,
    flush_on_complete_or_error,
    from_async_iterable,
    limit_silence,
    openai_chat,
    retry_never_live,
    retry_on_first_auth_error,
    to_async_iterable,
)

from .login import Login, Tokens

QUESTION: Any = [{"role": "user", "content": "Hi"}]
CHAT: Any = {"model": "m", "messages": QUESTION}
MESSAGES: Any = CHAT | {"max_tokens": 999}

Pieces: TypeAlias = AsyncIterator[str | None]
Ask: TypeAlias = Callable[[], Pieces]


@dataclass(frozen=True)
class Driver:
    """A client: its name in the table, the packages whose versions are shown, its wire and set-up."""

    name: str
    packages: tuple[str, ...]
    wire: str
    setup: str
    connect: Callable[[Login], AbstractAsyncContextManager[Ask]]

    @property
    def versions(self) -> str:
        return ", ".join(f"{package} {version(package)}" for package in self.packages)

    def base_url(self, url: str) -> str:
        return url if self.wire == "messages" else f"{url}/v1"


DRIVERS: dict[str, Driver] = {}


def driver(name: str, wire: str, *packages: str) -> Callable[[Callable[[Login], AsyncIterator[Ask]]], None]:
    """Add a client to the table, under the name of its function; the docstring is the set-up."""

    def add(connect: Callable[[Login], AsyncIterator[Ask]]) -> None:
        setup = " ".join((connect.__doc__ or "").split()).removesuffix(".")
        DRIVERS[connect.__name__] = Driver(name, packages, wire, setup, asynccontextmanager(connect))

    return add


async def of_events(events: AsyncIterator[Any] | Awaitable[AsyncIterator[Any]]) -> Pieces:
    """Read a stream of the Messages API."""
    async for event in await events if isawaitable(events) else events:
        if event.type == "message_start":
            yield None
        elif event.type == "content_block_delta" and event.delta.type == "text_delta":
            yield event.delta.text


async def of_chunks(chunks: Awaitable[AsyncIterator[Any]]) -> Pieces:
    """Read a stream of Chat Completions, whose first chunk opens the message."""
    opened = False
    async for chunk in await chunks:
        if not opened:
            opened = True
            yield None
        for choice in chunk.choices:
            yield choice.delta.content or ""


def recovered(source: Callable[..., Observable[Any]], request: Any, login: Login) -> Ask:
    credentials = OAuthCredentials(login.store, token_url=login.token_url, client_id=login.client_id)
    stream = source(request, base_url=login.base_url, credentials=credentials, pings=True).pipe(
        limit_silence(first=login.first, idle=login.idle),
        buffer_until_live(),
        retry_on_first_auth_error(credentials.refresh, timeout=login.first),
        retry_never_live(),
        flush_on_complete_or_error(),
    )

    async def ask() -> Pieces:
        async for event in to_async_iterable(stream):
            if event.type == "start":
                yield None
            elif event.type == "text_delta":
                yield event.delta
            elif event.type == "error":
                raise event.cause

    return ask


@driver("rxauth", "messages", "rxauth")
async def rxauth_messages(login: Login) -> AsyncIterator[Ask]:
    """`anthropic_messages(pings=True)` with `OAuthCredentials`; its operators in the documented order."""
    yield recovered(anthropic_messages, MESSAGES, login)


@driver("rxauth (chat)", "chat", "rxauth")
async def rxauth_chat(login: Login) -> AsyncIterator[Ask]:
    """`openai_chat(pings=True)`, otherwise the same."""
    yield recovered(openai_chat, CHAT, login)


@driver("anthropic", "messages", "anthropic")
async def anthropic_sdk(login: Login) -> AsyncIterator[Ask]:
    """`AsyncAnthropic(credentials=provider)`, which asks for a new token after a 401; `read` timeout; 2 retries."""
    from anthropic import AccessToken, AsyncAnthropic

    tokens = Tokens(login)

    async def provider(*, force_refresh: bool = False) -> AccessToken:
        credential = await tokens.credential(rejected=tokens.given_out if force_refresh else None)
        return AccessToken(credential.access_token, int(credential.expires_at or 0) or None)

    async with AsyncAnthropic(credentials=provider, base_url=login.base_url, timeout=login.timeout) as client:
        yield lambda: of_events(client.messages.create(**MESSAGES, stream=True))


def openai_client(login: Login) -> Any:
    from openai import AsyncOpenAI

    return AsyncOpenAI(api_key=Tokens(login).get, base_url=login.base_url, timeout=login.timeout)


@driver("openai", "chat", "openai")
async def openai_sdk(login: Login) -> AsyncIterator[Ask]:
    """`AsyncOpenAI(api_key=provider)`, which is asked before each request (its retry after a 401 is for workload
    identities); `read` timeout; 2 retries."""
    async with openai_client(login) as client:
        yield lambda: of_chunks(client.chat.completions.create(**CHAT, stream=True))


@driver("pydantic-ai", "chat", "pydantic-ai-slim", "openai")
async def pydantic_ai_oauth(login: Login) -> AsyncIterator[Ask]:
    """the OAuth provider that `OpenAICodexProvider` stands on, with a `credential_source`; `FallbackModel` of the
    same model twice; `first_event_timeout`."""
    import httpx2
    from pydantic_ai import Agent
    from pydantic_ai.models.fallback import FallbackModel
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers._oauth_provider import OAuthCredentialsProvider
    from pydantic_ai.settings import ModelSettings

    server = httpx2.URL(login.base_url)

    class Loopback(httpx2.AsyncHTTPTransport):
        """Bring requests to https://provider.test, where the provider sends credentials, to the server on loopback."""

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.url.host == "provider.test":
                path = server.path + request.url.path.removeprefix("/v1")
                request.url = request.url.copy_with(scheme="http", host=server.host, port=server.port, path=path)
            return await super().handle_async_request(request)

    class Provider(OAuthCredentialsProvider[Credential]):
        name = "fake"
        base_url = "https://provider.test/v1"

        def _auth_headers(self, credentials: Credential) -> dict[str, str]:
            return {"Authorization": f"Bearer {credentials.access_token}"}

        async def _refresh_grant(self, credentials: Credential, http_client: httpx2.AsyncClient) -> Credential:
            return await login.granted(http_client, credentials)

    http_client = httpx2.AsyncClient(transport=Loopback(), timeout=login.timeout)
    source: Any = SimpleNamespace(load=login.credential, save=login.store.save)
    provider = Provider(None, credential_source=source, openai_client=None, http_client=http_client)
    model: Any = OpenAIChatModel("m", provider=provider)
    agent = Agent(FallbackModel(model, model), model_settings=ModelSettings(first_event_timeout=login.first))

    async def ask() -> Pieces:
        async with agent.run_stream("Hi") as result:
            yield None
            async for delta in result.stream_text(delta=True, debounce_by=None):
                yield delta

    yield ask


@driver("litellm Router", "chat", "litellm")
async def litellm_router(login: Login) -> AsyncIterator[Ask]:
    """`Router(num_retries=2)` with the token given for each call; `timeout`, `stream_timeout`."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch prices from the network
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    litellm.REPEATED_STREAMING_CHUNK_LIMIT = 10**9  # the answer of the speed test is one word, many times
    tokens = Tokens(login)
    deployment = {"model": "openai/m", "api_base": login.base_url, "api_key": "given for each call"}
    models = [{"model_name": "m", "litellm_params": deployment}]
    router = litellm.Router(model_list=models, num_retries=2, timeout=login.first, stream_timeout=login.idle)

    async def answer() -> Any:
        return await router.acompletion("m", QUESTION, stream=True, api_key=await tokens.get())

    yield lambda: of_chunks(answer())


@driver("langchain-openai", "chat", "langchain-openai", "openai")
async def langchain(login: Login) -> AsyncIterator[Ask]:
    """`ChatOpenAI(api_key=provider).astream()`; `read` timeout; 2 retries."""
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="m", base_url=login.base_url, api_key=Tokens(login).get, timeout=login.timeout)

    async def ask() -> Pieces:
        opened = False
        async for chunk in model.astream("Hi"):
            if not opened:
                opened = True
                yield None
            yield str(chunk.content)

    yield ask


@driver("openai-agents", "chat", "openai-agents", "openai")
async def agents_sdk(login: Login) -> AsyncIterator[Ask]:
    """`Runner.run_streamed` over the `AsyncOpenAI` of the column openai."""
    from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled

    set_tracing_disabled(True)
    async with openai_client(login) as client:
        agent = Agent(name="a", model=OpenAIChatCompletionsModel("m", client))

        async def ask() -> Pieces:
            async for event in Runner.run_streamed(agent, "Hi").stream_events():
                if event.type != "raw_response_event":
                    continue
                if event.data.type == "response.created":
                    yield None
                elif event.data.type == "response.output_text.delta":
                    yield event.data.delta

        yield ask


def anthropic_client(login: Login) -> Any:
    """Return a client without retries, to which each call gives a token."""
    from anthropic import AsyncAnthropic

    return AsyncAnthropic(auth_token="", base_url=login.base_url, timeout=login.timeout, max_retries=0)


async def events_of(client: Any, token: str) -> AsyncIterator[Any]:
    header = {"Authorization": f"Bearer {token}"}
    events: AsyncIterator[Any] = await client.messages.create(**MESSAGES, stream=True, extra_headers=header)
    return events


@driver("ops.catch, ops.retry", "messages", "reactivex", "anthropic")
async def rx_retry(login: Login) -> AsyncIterator[Ask]:
    """RxPY over `AsyncAnthropic(max_retries=0)`: `ops.catch` refreshes after a 401 and starts again,
    `ops.retry(3)`."""
    from anthropic import AuthenticationError

    tokens = Tokens(login)
    async with anthropic_client(login) as client:

        async def events() -> Any:
            return await events_of(client, await tokens.get())

        async def events_after_a_refresh() -> Any:
            await tokens.credential(rejected=tokens.given_out)
            return await events()

        def refreshed(error: Exception, _: Observable[Any]) -> Observable[Any]:
            is_auth_error = isinstance(error, AuthenticationError)
            return from_async_iterable(events_after_a_refresh) if is_auth_error else rx.throw(error)

        stream = from_async_iterable(events).pipe(ops.catch(refreshed), ops.retry(3))
        yield lambda: of_events(to_async_iterable(stream))


@driver("async generator", "messages", "anthropic")
async def generator(login: Login) -> AsyncIterator[Ask]:
    """by hand over `AsyncAnthropic(max_retries=0)`: one refresh after a 401, 3 tries on 429, 5xx, lost
    connections."""
    from anthropic import APIConnectionError, AuthenticationError, InternalServerError, RateLimitError

    tokens = Tokens(login)
    async with anthropic_client(login) as client:

        async def answer() -> AsyncIterator[Any]:
            refreshed = False
            tries = 0
            while True:
                token = await tokens.get()
                try:
                    async for event in await events_of(client, token):
                        yield event
                    return
                except AuthenticationError:
                    if refreshed:
                        raise
                    refreshed = True
                    await tokens.credential(rejected=token)
                except (APIConnectionError, InternalServerError, RateLimitError):
                    tries += 1
                    if tries == 3:
                        raise

        yield lambda: of_events(answer())
