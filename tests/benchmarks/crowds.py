"""What many streams cost: memory while they are idle, CPU while they run, one refresh for all."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

from reactivex import Observable
from reactivex import operators as ops
from reactivex.subject import Subject

from rxauth import (
    Credential,
    MemoryStore,
    OAuthCredentials,
    anthropic_messages,
    from_async_iterable,
    recover_auth,
)

from .contest import Contest, Cost, cpu, cpu_on_a_loop, row
from .operators import DELTA, START, Event, recovered, refresh
from .provider import FRESH, STALE, Provider, many_files, provider

WORDS = 200  # of an answer
AT_ONCE = 10  # that one read from a socket brings

_ROOT = Path(__file__).parents[2]


# 2.6 before each subscription kept its context variables for the refresh: 104 bytes.
@row("resident memory per idle recover_auth pipeline / per bare Rx source", at_most=2.75, rounds=5)
def memory_of_an_idle_pipeline(scale: int) -> Generator[Contest]:
    count = 10_000 // scale
    yield Contest(in_a_process("idle", "recover_auth", count), in_a_process("idle", "bare", count))


# The smallest object has 16 bytes. What is measured is the slack of the buffer that the text is in.
@row("bytes that an event of a stream of 1,000,000 leaves behind, its text not counted", at_most=4, rounds=3)
def memory_of_a_long_stream(scale: int) -> Generator[Contest]:
    with provider() as server:
        yield Contest(in_a_process("endless", server.url, 1_000_000 // scale))


@row("CPU per pipeline, 10,000 at once / 1,000 at once, gc off", at_most=1.1, rounds=5)
def many_over_fewer(scale: int) -> Generator[Contest]:
    fewer = 1_000 // scale

    def ten_times_fewer() -> None:
        for _ in range(10):
            together(fewer)

    yield Contest(cpu(lambda: without_gc(lambda: together(10 * fewer))), cpu(lambda: without_gc(ten_times_fewer)))


@row("10,000 in-memory streams that all get a 401 / the same without it", at_most=1.6, rounds=3)
def many_rejected_streams(scale: int) -> Generator[Contest]:
    count = 10_000 // scale
    with provider() as server, asyncio.Runner() as runner:
        yield Contest(
            cpu_on_a_loop(runner, lambda: in_memory(count, credentials(server, STALE))),
            cpu_on_a_loop(runner, lambda: in_memory(count, credentials(server, FRESH))),
        )


# The floor beneath the row before: a second subscription, without a judgement, a refresh or a wait.
@row("10,000 in-memory streams that ops.retry starts again / the same without it", rounds=3)
def many_streams_started_again(scale: int) -> Generator[Contest]:
    count = 10_000 // scale
    with asyncio.Runner() as runner:
        yield Contest(
            cpu_on_a_loop(runner, lambda: started_again(count, failures=1)),
            cpu_on_a_loop(runner, lambda: started_again(count, failures=0)),
        )


# What one would write without Rx, backoff and a bound in time.
@row("10,000 such async generators that all get a 401 / the same without it", rounds=3)
def many_rejected_generators(scale: int) -> Generator[Contest]:
    count = 10_000 // scale
    with provider() as server, asyncio.Runner() as runner:
        yield Contest(
            cpu_on_a_loop(runner, lambda: by_hand(count, credentials(server, STALE))),
            cpu_on_a_loop(runner, lambda: by_hand(count, credentials(server, FRESH))),
        )


@row("their token requests", exactly=1, rounds=3)
def token_requests_of_many_streams(scale: int) -> Generator[Contest]:
    with provider() as server, asyncio.Runner() as runner:
        yield Contest(requests_for(runner, server, lambda: in_memory(10_000 // scale, credentials(server, STALE))))


@row("2,000 streams over HTTP that all get a 401 / twice the cost of one request each", at_most=1.1, rounds=5)
def many_rejected_requests(scale: int) -> Generator[Contest]:
    count = 2_000 // scale
    with provider() as server, asyncio.Runner() as runner:
        many_files()
        accepted = cpu_on_a_loop(runner, lambda: over_http(server, count, credentials(server, FRESH)))
        yield Contest(
            cpu_on_a_loop(runner, lambda: over_http(server, count, credentials(server, STALE))),
            lambda: 2 * accepted(),
        )


@row("their token requests", exactly=1, rounds=3)
def token_requests_over_http(scale: int) -> Generator[Contest]:
    with provider() as server, asyncio.Runner() as runner:
        many_files()
        count = 2_000 // scale
        yield Contest(requests_for(runner, server, lambda: over_http(server, count, credentials(server, STALE))))


def in_a_process(module: str, *arguments: object) -> Cost:
    """What a fresh process prints."""
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *map(str, arguments)]
    return lambda: float(subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True).stdout)


def without_gc(function: Callable[[], object]) -> None:
    gc.disable()
    try:
        function()
    finally:
        gc.enable()


def together(count: int) -> None:
    """So many streams at once, each with an answer, in turns.

    A turn is a read of several events. Were it a single one, the size of the processor's cache would be measured: a hop
    that does nothing then costs half as much again in a crowd of 10,000.
    """
    subjects: list[Subject[Event]] = [Subject() for _ in range(count)]
    for subject in subjects:
        subject.pipe(recover_auth(refresh)).subscribe(lambda event: None)
        subject.on_next(START)
    for _ in range(WORDS // AT_ONCE):
        for subject in subjects:
            for _ in range(AT_ONCE):
                subject.on_next(DELTA)
    for subject in subjects:
        subject.on_completed()


def credentials(server: Provider, token: str) -> OAuthCredentials:
    store = MemoryStore(Credential(token, refresh_token="any"))
    return OAuthCredentials(store, token_url=server.token_url, client_id="benchmark")


def requests_for(runner: asyncio.Runner, server: Provider, function: Callable[[], Any]) -> Cost:
    def count() -> float:
        server.token_requests()
        runner.run(function())
        return server.token_requests()

    return count


async def in_memory(count: int, source: OAuthCredentials) -> None:
    answer = partial(answered, source)
    await all_consumed([from_async_iterable(answer).pipe(recover_auth(source.refresh)) for _ in range(count)])


async def by_hand(count: int, source: OAuthCredentials) -> None:
    answer = partial(answered, source)
    events = 0

    async def consumed() -> None:
        nonlocal events
        async for _ in recovered(answer, source.refresh):
            events += 1

    await asyncio.gather(*(consumed() for _ in range(count)))
    assert events > WORDS * count


async def answered(source: OAuthCredentials) -> AsyncIterator[Event]:
    yield START
    token = (await source.current()).access_token
    await asyncio.sleep(0)  # where the request is
    if token == STALE:
        yield {"type": "error", "code": "invalid_token"}
        return
    for _ in range(WORDS // AT_ONCE):
        await asyncio.sleep(0)
        for _ in range(AT_ONCE):
            yield DELTA


async def started_again(count: int, *, failures: int) -> None:
    left = [failures] * count

    def stream(number: int) -> Observable[Event]:
        async def answer() -> AsyncIterator[Event]:
            yield START
            await asyncio.sleep(0)
            if left[number]:
                left[number] -= 1
                raise ConnectionError
            for _ in range(WORDS // AT_ONCE):
                await asyncio.sleep(0)
                for _ in range(AT_ONCE):
                    yield DELTA

        return from_async_iterable(answer).pipe(ops.retry(2))

    await all_consumed([stream(number) for number in range(count)])


async def over_http(server: Provider, count: int, source: OAuthCredentials) -> None:
    base_url = server.answers(WORDS)
    request = {"model": "any", "max_tokens": 99, "messages": [{"role": "user", "content": "hello"}]}
    stream = anthropic_messages(request, base_url=base_url, credentials=source)
    await all_consumed([stream.pipe(recover_auth(source.refresh)) for _ in range(count)])


async def all_consumed(streams: list[Observable[Any]]) -> None:
    """Subscribe to all of them in one turn of the loop; each has to bring a whole answer."""
    ended = asyncio.get_running_loop().create_future()
    events = 0
    waiting = len(streams)

    def consumer(_: object) -> None:
        nonlocal events
        events += 1

    def completed() -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            ended.set_result(None)

    # Not `rx.merge`, which takes quadratic time.
    for stream in streams:
        stream.subscribe(consumer, ended.set_exception, completed)
    await ended
    assert events > WORDS * len(streams)
