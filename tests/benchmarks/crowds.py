"""The cost of many streams at once: CPU while they run, one refresh for all."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
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

from .clients import QUESTION
from .operators import DELTA, START, Event, recovered, refresh
from .provider import FRESH, STALE
from .rows import Cost, Row, Stage, cpu

WORDS = 200  # of an answer
AT_ONCE = 10  # that one read from a socket brings


def rows(stage: Stage) -> Iterator[Row]:
    server = stage.server

    def login(token: str) -> OAuthCredentials:
        store = MemoryStore(Credential(token, refresh_token="any"))
        return OAuthCredentials(store, token_url=server.token_url, client_id="benchmark")

    def requests_for(function: Callable[[], Any]) -> Cost:
        def count() -> float:
            server.token_requests()
            stage.runner.run(function())
            return server.token_requests()

        return count

    fewer = 1_000 // stage.scale
    many, few = cpu(lambda: without_gc([10 * fewer])), cpu(lambda: without_gc([fewer] * 10))
    yield Row("CPU per pipeline, 10,000 at once / 1,000 at once, gc off", many, few, limit="≤ 1.1", rounds=5)

    count = 10_000 // stage.scale
    stale, fresh = (partial(lambda token: in_memory(count, login(token)), token) for token in (STALE, FRESH))
    name = "10,000 in-memory streams that all get a 401 / the same without it"
    yield Row(name, stage.cpu(stale), stage.cpu(fresh), limit="≤ 1.6", rounds=3)
    # The floor beneath the row before: a second subscription, without a judgement, a refresh or a wait.
    again, once = (stage.cpu(partial(started_again, count, failures=failures)) for failures in (1, 0))
    yield Row("10,000 in-memory streams that ops.retry starts again / the same without it", again, once, rounds=3)
    # The same by hand, without Rx, backoff and a bound in time.
    by_hand = (stage.cpu(partial(lambda token: generators(count, login(token)), token)) for token in (STALE, FRESH))
    yield Row("10,000 such async generators that all get a 401 / the same without it", *by_hand, rounds=3)
    yield Row("their token requests", requests_for(stale), limit="= 1", rounds=3)

    clients = 2_000 // stage.scale
    url = server.answers(WORDS)
    refused, accepted = (
        partial(lambda token: over_http(url, clients, login(token)), token) for token in (STALE, FRESH)
    )
    accepted_cost = stage.cpu(accepted)
    name = "2,000 streams over HTTP that all get a 401 / twice the cost of one request each"
    yield Row(name, stage.cpu(refused), lambda: 2 * accepted_cost(), limit="≤ 1.1", rounds=5)
    yield Row("their token requests", requests_for(refused), limit="= 1", rounds=3)


def without_gc(crowds: list[int]) -> None:
    """Run crowds one after the other: so many streams at once, each with an answer, in turns.

    A turn is a read of several events. Were it a single one, the size of the processor's cache would be measured: a hop
    that does nothing then costs half as much again in a crowd of 10,000.
    """
    gc.disable()
    for count in crowds:
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
    gc.enable()


async def words() -> AsyncIterator[Event]:
    for _ in range(WORDS // AT_ONCE):
        await asyncio.sleep(0)
        for _ in range(AT_ONCE):
            yield DELTA


async def answered(source: OAuthCredentials) -> AsyncIterator[Event]:
    yield START
    token = (await source.current()).access_token
    await asyncio.sleep(0)  # where the request is
    if token == STALE:
        yield {"type": "error", "code": "invalid_token"}
        return
    async for word in words():
        yield word


async def in_memory(count: int, source: OAuthCredentials) -> None:
    answer = partial(answered, source)
    await all_consumed([from_async_iterable(answer).pipe(recover_auth(source.refresh)) for _ in range(count)])


async def generators(count: int, source: OAuthCredentials) -> None:
    answer = partial(answered, source)
    events = 0

    async def consumed() -> None:
        nonlocal events
        async for _ in recovered(answer, source.refresh):
            events += 1

    await asyncio.gather(*(consumed() for _ in range(count)))
    assert events > WORDS * count


async def started_again(count: int, *, failures: int) -> None:
    left = [failures] * count

    def stream(number: int) -> Observable[Event]:
        async def answer() -> AsyncIterator[Event]:
            yield START
            await asyncio.sleep(0)
            if left[number]:
                left[number] -= 1
                raise ConnectionError
            async for word in words():
                yield word

        return from_async_iterable(answer).pipe(ops.retry(2))

    await all_consumed([stream(number) for number in range(count)])


async def over_http(url: str, count: int, source: OAuthCredentials) -> None:
    stream = anthropic_messages(QUESTION, base_url=url, credentials=source)
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
