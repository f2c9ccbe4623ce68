"""The operators on the streams of `anthropic`, `openai` and `pydantic-ai`: their own events, exceptions and clients.

source     o--#                       o: the stream's first event; #: an exception, or an error event
refresh       --r|
source          o--a--b--|
result     --------(oa)--b--|         one opening
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from anthropic import AsyncAnthropic, AuthenticationError
from anthropic.lib.credentials import AccessToken
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from reactivex import operators as ops

from rxauth import MemoryStore, OAuthCredentials, from_async_iterable, presets, recover_auth, to_async_iterable
from rxauth.testing import FakeProvider, Gate, Reply

pytestmark = pytest.mark.peer

ANSWER = "The whole answer, every word of it, once."
MESSAGES: Any = [{"role": "user", "content": "Hi"}]
QUESTION: Any = {"model": "m", "max_tokens": 99, "messages": MESSAGES}

REFUSALS = {
    "a 401": None,
    "an error after the headers": Reply.in_band_error("authentication_error", after=0, message="OAuth token expired"),
    "an error after the opening": Reply.in_band_error("authentication_error", after=1, message="OAuth token expired"),
}


async def at_once(seconds: float) -> None:
    """Take the place of a wait."""


@asynccontextmanager
async def provider(refusal: str) -> AsyncIterator[tuple[FakeProvider, OAuthCredentials]]:
    """Run a provider that refuses the first request in this way."""
    reply = REFUSALS[refusal]
    async with FakeProvider(answer=ANSWER, replies=[] if reply is None else [reply]) as fake:
        store = MemoryStore(fake.credential())
        credentials = OAuthCredentials(store, token_url=fake.token_url, client_id=fake.client_id, sleep=at_once)
        if reply is None:
            fake.invalidate()
        yield fake, credentials


def anthropic(fake: FakeProvider, credentials: OAuthCredentials) -> AsyncAnthropic:
    async def token(*, force_refresh: bool = False) -> AccessToken:
        return AccessToken(await credentials.token(), expires_at=0)  # which tells the client to keep none itself

    return AsyncAnthropic(credentials=token, base_url=fake.url, max_retries=0)


def openai(fake: FakeProvider, credentials: OAuthCredentials) -> AsyncOpenAI:
    return AsyncOpenAI(api_key=credentials.token, base_url=f"{fake.url}/v1", max_retries=0)


def agent(client: Any) -> Agent:
    if isinstance(client, AsyncAnthropic):
        return Agent(AnthropicModel("m", provider=AnthropicProvider(anthropic_client=client)))
    return Agent(OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client)))


def text_of_a_part(event: Any) -> str:
    if event.event_kind == "part_start":
        return str(event.part.content)
    return str(event.delta.content_delta) if event.event_kind == "part_delta" else ""


@dataclass(frozen=True)
class Recipe:
    """A call of an SDK, and the predicates that its stream needs beside the defaults."""

    client: Callable[[FakeProvider, OAuthCredentials], Any]
    ask: Callable[[Any], Any]
    opening: Callable[[Any], bool]
    text: Callable[[Any], str]
    options: dict[str, Any] = field(default_factory=dict)


RECIPES = {
    "anthropic, create": Recipe(
        anthropic,
        lambda client: client.messages.create(**QUESTION, stream=True),
        lambda event: event.type == "message_start",
        lambda event: event.delta.text if event.type == "content_block_delta" else "",
    ),
    "anthropic, stream": Recipe(
        anthropic,
        lambda client: client.messages.stream(**QUESTION),
        lambda event: event.type == "message_start",
        lambda event: event.text if event.type == "text" else "",
    ),
    "openai, Chat Completions": Recipe(
        openai,
        lambda client: client.chat.completions.create(model="m", messages=MESSAGES, stream=True),
        lambda chunk: bool(chunk.choices[0].delta.role),
        lambda chunk: chunk.choices[0].delta.content or "",
        dict(presets.OPENAI_CHAT),
    ),
    "openai, Responses": Recipe(
        openai,
        lambda client: client.responses.create(model="m", input="Hi", stream=True),
        lambda event: event.type == "response.created",
        lambda event: event.delta if event.type == "response.output_text.delta" else "",
        dict(presets.OPENAI_RESPONSES),
    ),
    "pydantic-ai, Anthropic": Recipe(
        anthropic,
        lambda client: agent(client).run_stream_events("Hi"),
        lambda event: event.event_kind == "part_start",
        text_of_a_part,
    ),
    "pydantic-ai, OpenAI": Recipe(
        openai,
        lambda client: agent(client).run_stream_events("Hi"),
        lambda event: event.event_kind == "part_start",
        text_of_a_part,
    ),
}

every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))


@every_recipe
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_stale_token_costs_one_refresh_and_shows_nothing(recipe: Recipe, refusal: str) -> None:
    async with provider(refusal) as (fake, credentials), recipe.client(fake, credentials) as client:
        source = from_async_iterable(lambda: recipe.ask(client))
        recovered = source.pipe(recover_auth(credentials.refresh, **recipe.options))
        events = [event async for event in to_async_iterable(recovered)]

        assert [recipe.opening(event) for event in events].count(True) == 1
        assert "".join(map(recipe.text, events)) == ANSWER
        assert len(fake.token_requests) == 1
        refused, accepted = fake.api_requests
        assert refused.token != accepted.token


@every_recipe
async def test_failed_refresh_raises_the_own_exception(recipe: Recipe) -> None:
    async with provider("a 401") as (fake, credentials), recipe.client(fake, credentials) as client:
        fake.revoke()
        source = from_async_iterable(lambda: recipe.ask(client))
        with pytest.raises(Exception, match="401") as raised:
            _ = [event async for event in to_async_iterable(source.pipe(recover_auth(credentials.refresh)))]
        assert not type(raised.value).__module__.startswith("rxauth")
        shown_with_it = [repr(raised.value.__cause__), *getattr(raised.value, "__notes__", ())]
        assert "LoginRequired" in "".join(shown_with_it)
        assert len(fake.api_requests) == 1


@every_recipe
async def test_consumer_that_leaves_closes_the_connection(recipe: Recipe) -> None:
    replies = [Reply.hang(Gate(), after=5)]
    async with FakeProvider(answer=ANSWER, replies=replies) as fake:
        store = MemoryStore(fake.credential())
        credentials = OAuthCredentials(store, token_url=fake.token_url, client_id=fake.client_id)
        async with recipe.client(fake, credentials) as client:
            source = from_async_iterable(lambda: recipe.ask(client))
            first = source.pipe(recover_auth(credentials.refresh, **recipe.options), ops.take(2))
            assert len([event async for event in to_async_iterable(first)]) == 2
            await fake.served()
        assert fake.api_requests[0].client_closed


async def test_refusal_after_content_is_not_asked_again() -> None:
    late = Reply.in_band_error("authentication_error", after=5)
    async with FakeProvider(answer=ANSWER, api_keys=["key"], replies=[late]) as fake:
        seen: list[Any] = []
        async with AsyncAnthropic(auth_token="key", base_url=fake.url, max_retries=0) as client:
            source = from_async_iterable(lambda: client.messages.create(**QUESTION, stream=True))
            recovered = source.pipe(recover_auth(lambda failure: True), ops.do_action(seen.append))
            with pytest.raises(Exception, match="authentication_error"):
                _ = [event async for event in to_async_iterable(recovered)]
        assert seen
        assert len(fake.api_requests) == 1


# How a client that exists gets the new token, beside a coroutine function


def through_an_attribute(client: Any, name: str, credentials: OAuthCredentials) -> Callable[[Any], Awaitable[Any]]:
    """Return a refresh that sets `auth_token` (anthropic) or `api_key` (openai), which are read for each request."""

    async def refresh(failure: Any) -> Any:
        fresh = await credentials.refresh(failure)
        if fresh is not None:
            setattr(client, name, fresh.access_token)
        return fresh

    return refresh


async def test_attribute_of_an_anthropic_client_takes_the_token() -> None:
    async with (
        provider("a 401") as (fake, credentials),
        AsyncAnthropic(auth_token=await credentials.token(), base_url=fake.url, max_retries=0) as client,
    ):
        source = from_async_iterable(lambda: client.messages.create(**QUESTION, stream=True))
        refresh = through_an_attribute(client, "auth_token", credentials)
        events = [event async for event in to_async_iterable(source.pipe(recover_auth(refresh)))]
        assert "".join(map(RECIPES["anthropic, create"].text, events)) == ANSWER


async def test_header_of_a_request_takes_the_token() -> None:
    async with (
        provider("a 401") as (fake, credentials),
        AsyncOpenAI(api_key="replaced", base_url=f"{fake.url}/v1", max_retries=0) as client,
    ):

        async def ask() -> Any:
            headers = {"Authorization": f"Bearer {await credentials.token()}"}
            return await client.chat.completions.create(
                model="m", messages=MESSAGES, stream=True, extra_headers=headers
            )

        recovered = from_async_iterable(ask).pipe(recover_auth(credentials.refresh))
        chunks = [chunk async for chunk in to_async_iterable(recovered)]
        assert "".join(map(RECIPES["openai, Chat Completions"].text, chunks)) == ANSWER


async def test_static_key_raises_the_refusal() -> None:
    async with (
        FakeProvider(api_keys=["key"]) as fake,
        AsyncAnthropic(auth_token="wrong", base_url=fake.url, max_retries=0) as client,
    ):
        source = from_async_iterable(lambda: client.messages.create(**QUESTION, stream=True))
        with pytest.raises(AuthenticationError):
            _ = [event async for event in to_async_iterable(source.pipe(recover_auth(lambda failure: None)))]
