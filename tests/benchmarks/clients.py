"""What a whole client costs: HTTP, decoder, events, recover_auth, consumer."""

from __future__ import annotations

import asyncio
import importlib
import statistics
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any

import aiohttp
from reactivex import Observable

from rxauth import AssistantEvent, StaticCredentials, anthropic_messages, openai_chat, recover_auth

from .contest import Contest, NotMeasured, cpu_on_a_loop, row
from .provider import FRESH, Provider, provider

EVENTS = 10_000
MESSAGES = [{"role": "user", "content": "hello"}]
CREDENTIALS = StaticCredentials(FRESH)


@row("anthropic SDK / anthropic_messages, one event per HTTP chunk", at_least=10, rounds=9)
def anthropic_sdk_event_by_event(scale: int) -> Generator[Contest]:
    yield from anthropic_sdk_over_ours(EVENTS // scale, per_chunk=1)


@row("anthropic SDK / anthropic_messages, 500 events per HTTP chunk", at_least=10, rounds=9)
def anthropic_sdk_in_lumps(scale: int) -> Generator[Contest]:
    yield from anthropic_sdk_over_ours(EVENTS // scale, per_chunk=500)


@row("openai SDK / openai_chat, one event per HTTP chunk", at_least=30, rounds=9)
def openai_sdk_event_by_event(scale: int) -> Generator[Contest]:
    yield from openai_sdk_over_ours(EVENTS // scale, per_chunk=1)


@row("openai SDK / openai_chat, 500 events per HTTP chunk", at_least=30, rounds=9)
def openai_sdk_in_lumps(scale: int) -> Generator[Contest]:
    yield from openai_sdk_over_ours(EVENTS // scale, per_chunk=500)


@row("ours with recover_auth / ours without", at_most=1.08, rounds=31)
def with_recover_auth_over_without(scale: int) -> Generator[Contest]:
    events = 2 * EVENTS // scale
    with clients() as (server, runner):
        base_url = server.answers(events)
        yield Contest(
            cpu_on_a_loop(runner, lambda: consumed(recovering(base_url), events)),
            cpu_on_a_loop(runner, lambda: consumed(messages(base_url), events)),
        )


@row("ours / reading the same bytes with aiohttp and dropping them, one event per HTTP chunk", at_most=2.2, rounds=31)
def ours_over_reading(scale: int) -> Generator[Contest]:
    events = 2 * EVENTS // scale
    with clients() as (server, runner):
        base_url = server.answers(events)
        yield Contest(
            cpu_on_a_loop(runner, lambda: consumed(recovering(base_url), events)),
            cpu_on_a_loop(runner, lambda: read_and_dropped(base_url)),
        )


@row("first byte of the first live event to the consumer's call / to a raw aiohttp read (wall time)", at_most=1.5)
def time_to_the_consumer(scale: int) -> Generator[Contest]:
    with clients() as (server, runner):

        def typical(delay: Callable[[str], Coroutine[Any, Any, float]]) -> Callable[[], float]:
            async def several() -> float:
                return statistics.median([await delay(server.stamped) for _ in range(max(40 // scale, 5))])

            return lambda: runner.run(several())

        yield Contest(typical(delay_until_consumed), typical(delay_until_read))


def anthropic_sdk_over_ours(events: int, *, per_chunk: int) -> Generator[Contest]:
    sdk = installed("anthropic")
    with clients() as (server, runner):
        base_url = server.answers(events, per_chunk=per_chunk)

        async def theirs() -> None:
            async with sdk.AsyncAnthropic(base_url=base_url, auth_token=FRESH, api_key=None) as client:
                stream = await client.messages.create(model="any", max_tokens=99, messages=MESSAGES, stream=True)
                await counted(stream, events)

        yield Contest(
            cpu_on_a_loop(runner, theirs),
            cpu_on_a_loop(runner, lambda: consumed(recovering(base_url), events)),
        )


def openai_sdk_over_ours(events: int, *, per_chunk: int) -> Generator[Contest]:
    sdk = installed("openai")
    with clients() as (server, runner):
        base_url = f"{server.answers(events, per_chunk=per_chunk)}/v1"

        async def theirs() -> None:
            async with sdk.AsyncOpenAI(base_url=base_url, api_key=FRESH) as client:
                stream = await client.chat.completions.create(model="any", messages=MESSAGES, stream=True)
                await counted(stream, events)

        def ours() -> Observable[AssistantEvent]:
            request = {"model": "any", "messages": MESSAGES}
            stream = openai_chat(request, base_url=base_url, credentials=CREDENTIALS)
            return stream.pipe(recover_auth(CREDENTIALS.refresh))

        yield Contest(cpu_on_a_loop(runner, theirs), cpu_on_a_loop(runner, lambda: consumed(ours(), events)))


def installed(sdk: str) -> Any:
    try:
        return importlib.import_module(sdk)
    except ImportError:
        raise NotMeasured(f"{sdk} is not installed: pip install '.[sdk]'") from None


@contextmanager
def clients() -> Generator[tuple[Provider, asyncio.Runner]]:
    with provider() as server, asyncio.Runner() as runner:
        yield server, runner


def messages(base_url: str) -> Observable[AssistantEvent]:
    request = {"model": "any", "max_tokens": 99, "messages": MESSAGES}
    return anthropic_messages(request, base_url=base_url, credentials=CREDENTIALS)


def recovering(base_url: str) -> Observable[AssistantEvent]:
    return messages(base_url).pipe(recover_auth(CREDENTIALS.refresh))


async def consumed(stream: Observable[AssistantEvent], at_least: int) -> None:
    """Subscribe, and wait for the end. `at_least`: so many events, or it was not the answer that we meant."""
    ended = asyncio.get_running_loop().create_future()
    count = 0

    def consumer(event: AssistantEvent) -> None:
        nonlocal count
        count += 1

    stream.subscribe(consumer, ended.set_exception, lambda: ended.set_result(None))
    await ended
    assert count > at_least


async def counted(stream: AsyncIterator[object], at_least: int) -> None:
    count = 0
    async for _ in stream:
        count += 1
    assert count > at_least


async def read_and_dropped(base_url: str) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{base_url}/v1/messages", json={}) as response:
        async for _ in response.content.iter_any():
            pass


async def delay_until_consumed(base_url: str) -> float:
    """Seconds from the provider's write to the consumer's call."""
    sent = came = 0

    def consumer(event: AssistantEvent) -> None:
        nonlocal sent, came
        if event.type == "text_start":
            came = time.monotonic_ns()
        elif event.type == "text_delta":
            sent = int(event.delta)

    ended = asyncio.get_running_loop().create_future()
    recovering(base_url).subscribe(consumer, ended.set_exception, lambda: ended.set_result(None))
    await ended
    return (came - sent) / 1e9


async def delay_until_read(base_url: str) -> float:
    async with aiohttp.ClientSession() as session, session.post(f"{base_url}/v1/messages", json={}) as response:
        async for piece in response.content.iter_any():
            came = time.monotonic_ns()
            _, _, stamped = piece.partition(b'"text_delta", "text": "')
            if stamped:
                return (came - int(stamped.partition(b'"')[0])) / 1e9
    raise AssertionError("The stream has no live event.")
