"""The cost of a whole client: HTTP, decoder, events, recover_auth, consumer; and its wait for a stale token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import anthropic
import openai
from reactivex import Observable

from rxauth import (
    AssistantEvent,
    Credential,
    FileStore,
    MemoryStore,
    OAuthCredentials,
    StaticCredentials,
    anthropic_messages,
    openai_chat,
    recover_auth,
)

from .provider import FRESH, STALE
from .rows import Row, Stage

QUESTION: Any = {"model": "any", "max_tokens": 99, "messages": [{"role": "user", "content": "hello"}]}
CREDENTIALS = StaticCredentials(FRESH)
LATENCY = 50  # ms


def rows(stage: Stage) -> Iterator[Row]:
    server, scale = stage.server, stage.scale
    events = 10_000 // scale
    sizes = ((1, "one event per HTTP chunk"), (500, "500 events per HTTP chunk"))
    for per_chunk, words in sizes:
        url = server.answers(events, per_chunk)
        costs = stage.cpu(partial(by_anthropic, url, events)), stage.cpu(by_us(recovering(url), events))
        yield Row(f"anthropic SDK / anthropic_messages, {words}", *costs, limit="≥ 10", rounds=9)
    for per_chunk, words in sizes:
        url = f"{server.answers(events, per_chunk)}/v1"
        chat = openai_chat(QUESTION, base_url=url, credentials=CREDENTIALS).pipe(recover_auth(CREDENTIALS.refresh))
        costs = stage.cpu(partial(by_openai, url, events)), stage.cpu(by_us(chat, events))
        yield Row(f"openai SDK / openai_chat, {words}", *costs, limit="≥ 30", rounds=9)

    more = 20_000 // scale
    url = server.answers(more)
    ours = by_us(recovering(url), more)
    without = by_us(anthropic_messages(QUESTION, base_url=url, credentials=CREDENTIALS), more)
    name = "ours with recover_auth / ours without"
    yield Row(name, stage.cpu(ours), stage.cpu(without), limit="≤ 1.08", rounds=31)
    name = "ours / reading the same bytes with aiohttp and dropping them, one event per HTTP chunk"
    yield Row(name, stage.cpu(ours), stage.cpu(partial(read_and_dropped, url)), limit="≤ 2.2", rounds=31)

    count = max(40 // scale, 5)
    delays = [stage.median_of(count, partial(each, server.stamped)) for each in (delay_of_ours, delay_of_raw)]
    name = "first byte of the first live event to the consumer's call / to a raw aiohttp read (wall time)"
    yield Row(name, *delays, limit="≤ 1.5")
    yield from waits(stage)


async def by_anthropic(url: str, events: int) -> None:
    async with anthropic.AsyncAnthropic(base_url=url, auth_token=FRESH, api_key=None) as client:
        await counted(await client.messages.create(**QUESTION, stream=True), events)


async def by_openai(url: str, events: int) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key=FRESH) as client:
        await counted(await client.chat.completions.create(**QUESTION, stream=True), events)


async def counted(stream: AsyncIterator[object], at_least: int) -> None:
    count = 0
    async for _ in stream:
        count += 1
    assert count > at_least


def recovering(url: str) -> Observable[AssistantEvent]:
    stream = anthropic_messages(QUESTION, base_url=url, credentials=CREDENTIALS)
    return stream.pipe(recover_auth(CREDENTIALS.refresh))


def by_us(stream: Observable[AssistantEvent], at_least: int) -> Callable[[], Any]:
    """Subscribe, and wait for the end. `at_least`: so many events, or it was another answer."""

    async def answered() -> None:
        count = 0

        def consumer(event: AssistantEvent) -> None:
            nonlocal count
            count += 1

        await consumed(stream, consumer)
        assert count > at_least

    return answered


async def consumed(stream: Observable[AssistantEvent], consumer: Callable[[AssistantEvent], None]) -> None:
    ended = asyncio.get_running_loop().create_future()
    stream.subscribe(consumer, ended.set_exception, lambda: ended.set_result(None))
    await ended


@asynccontextmanager
async def raw(url: str) -> AsyncIterator[AsyncIterator[bytes]]:
    async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/messages", json={}) as response:
        yield response.content.iter_any()


async def read_and_dropped(url: str) -> None:
    async with raw(url) as pieces:
        async for _ in pieces:
            pass


async def delay_of_ours(url: str) -> float:
    """Seconds from the provider's write to the consumer's call."""
    sent = came = 0

    def consumer(event: AssistantEvent) -> None:
        nonlocal sent, came
        if event.type == "text_start":
            came = time.monotonic_ns()
        elif event.type == "text_delta":
            sent = int(event.delta)

    await consumed(recovering(url), consumer)
    return (came - sent) / 1e9


async def delay_of_raw(url: str) -> float:
    async with raw(url) as pieces:
        async for piece in pieces:
            came = time.monotonic_ns()
            _, _, stamped = piece.partition(b'"text_delta", "text": "')
            if stamped:
                return (came - int(stamped.partition(b'"')[0])) / 1e9
    raise AssertionError("The stream has no live event.")


# How long a consumer waits for the first event because the token was stale: the provider is 50 ms away.


def waits(stage: Stage) -> Iterator[Row]:
    url, token_url = stage.server.answers(10, delay=LATENCY), stage.server.token_url_after(LATENCY)
    file = FileStore(stage.home / "credentials.json", "benchmark")
    round_trip = LATENCY / 1000

    def login(store: Any) -> OAuthCredentials:
        return OAuthCredentials(store, token_url=token_url, client_id="benchmark")

    async def more_than_the_next(store: Any) -> float:
        """Return by how much the first answer comes later than one with the token that it brought."""
        credentials = login(store)
        return await time_to_the_first_event(url, credentials) - await time_to_the_first_event(url, credentials)

    async def with_a_fresh_one(seconds: float) -> float:
        return await time_to_the_first_event(url, login(MemoryStore(credential(FRESH, seconds))))

    async def in_a_file() -> float:
        await file.save(credential(STALE))
        return await more_than_the_next(file)

    wait = partial(stage.median_of, 3)
    stale = wait(lambda: more_than_the_next(MemoryStore(credential(STALE))))
    expired = wait(lambda: more_than_the_next(MemoryStore(credential(STALE, seconds=-1))))
    ends_soon, ends_later = (wait(partial(with_a_fresh_one, seconds)) for seconds in (60, 800))
    # The provider cannot do without two: the refresh, and the second request.
    two = "wait that a stale token causes / the provider's own two round trips (wall time)"
    yield Row(two, stale, lambda: 2 * round_trip, limit="≤ 1.25", rounds=9)
    yield Row("the same with a FileStore", wait(in_a_file), lambda: 2 * round_trip, limit="≤ 1.25", rounds=9)
    one = "the same for a token that is known to have expired / one round trip (wall time)"
    yield Row(one, expired, lambda: round_trip, limit="≤ 1.25", rounds=9)
    none = "first event with a token that is refreshed in the background / with a fresh one (wall time)"
    yield Row(none, ends_soon, ends_later, limit="≤ 1.1", rounds=9)


def credential(token: str, seconds: float | None = None) -> Credential:
    expires_at = None if seconds is None else time.time() + seconds
    return Credential(token, refresh_token="any", expires_at=expires_at, extra={"expires_in": 900})


async def time_to_the_first_event(url: str, credentials: OAuthCredentials) -> float:
    """Seconds from subscribe to the first event that the consumer gets; the answer is read to its end."""
    first = 0.0

    def consumer(event: AssistantEvent) -> None:
        nonlocal first
        first = first or time.perf_counter()
        assert event.type != "error", event

    stream = anthropic_messages(QUESTION, base_url=url, credentials=credentials)
    begun = time.perf_counter()
    await consumed(stream.pipe(recover_auth(credentials.refresh)), consumer)
    return first - begun
