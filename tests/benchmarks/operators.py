"""The cost of an event in the operators after the stream is live, in the bridge, and in the decoder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias

from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable

from rxauth import (
    buffer_until_live,
    flush_on_complete_or_error,
    is_auth_error,
    recover_auth,
    retry_on_first_auth_error,
    to_async_iterable,
)
from rxauth.sources._sse import EventStreamDecoder

from .rows import Cost, Row, Stage, cpu

Event: TypeAlias = dict[str, str]
START: Event = {"type": "start"}
DELTA: Event = {"type": "text_delta", "delta": "word"}

BURST = 64  # events in one turn of the loop
PIECE = 64 * 2**10  # bytes that the decoder gets at once


def rows(stage: Stage) -> Iterator[Row]:
    events = 100_000 // stage.scale
    ours = through(events, recover_auth(refresh))
    a_hop = through(events, hop)
    three = buffer_until_live(), retry_on_first_auth_error(refresh), flush_on_complete_or_error()
    maps = [ops.map(lambda event: event) for _ in range(3)]
    by_hand = stage.cpu(lambda: drained(events))
    yield Row("recover_auth after live / one hop that only passes on_next on", ours, a_hop, limit="≤ 1.25", rounds=31)
    yield Row("the three operators after live / one such hop", through(events, *three), a_hop, limit="≤ 2.4", rounds=31)
    yield Row("recover_auth / three ops.map(identity)", ours, through(events, *maps), limit="≤ 0.40", rounds=31)
    yield Row("recover_auth / the same logic as one async generator", ours, by_hand, limit="≤ 0.6", rounds=31)
    # The floor beneath the row before: what RxPY itself costs. On Python 3.11, where async generators are cheap, it is
    # over that row's limit.
    yield Row("one such hop / the same async generator", a_hop, by_hand, rounds=31)

    bursts = 1600 // stage.scale
    bridge = stage.cpu(lambda: read(to_async_iterable(bursting(bursts))))
    queue = stage.cpu(lambda: read(queued(bursting(bursts))))
    yield Row("to_async_iterable / asyncio.Queue, 64 events per loop turn", bridge, queue, limit="≤ 0.50", rounds=21)

    size = 8 * 2**20 // stage.scale
    event = b"data: %s\n\n" % (b"x" * 92)
    yield Row(
        "decoder: one line of 8 MB in 64 KiB chunks / the same bytes in 100-byte events",
        decoded(b"data: %s\n\n" % (b"x" * (size - 8))),
        decoded(event * (size // len(event))),
        limit="≤ 1.5",
    )


def through(events: int, *operators: Callable[[Observable[Event]], Observable[Event]]) -> Cost:
    pipeline = source(events).pipe(*operators)

    def consumer(event: Event) -> None:
        pass

    return cpu(lambda: pipeline.subscribe(consumer))


def source(events: int) -> Observable[Event]:
    def subscribe(observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None) -> abc.DisposableBase:
        on_next = observer.on_next
        on_next(START)
        for _ in range(events):
            on_next(DELTA)
        observer.on_completed()
        return Disposable()

    return Observable(subscribe)


def hop(source: Observable[Event]) -> Observable[Event]:
    def subscribe(observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        return source.subscribe(observer.on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

    return Observable(subscribe)


def refresh(failure: object) -> Any:
    raise AssertionError(failure)


async def drained(events: int) -> None:
    async def generated() -> AsyncIterator[Event]:
        yield START
        for _ in range(events):
            yield DELTA

    await read(recovered(generated, refresh))


async def recovered(
    attempt: Callable[[], AsyncIterator[Event]], refresh: Callable[[object], Awaitable[object]]
) -> AsyncIterator[Event]:
    """Do the same by hand, without Rx, backoff and a bound in time."""
    for final in (False, True):
        held: list[Event] = []
        live = False
        async for event in attempt():
            if live:
                yield event
            elif event["type"] == "error":
                if not final and is_auth_error(event) and await refresh(event):
                    break
                for each in held:
                    yield each
                yield event
                return
            elif event["type"] == "start":
                held.append(event)
            else:
                live = True
                for each in held:
                    yield each
                yield event
        else:
            if not live:
                for each in held:
                    yield each
            return


async def read(stream: AsyncIterator[object]) -> None:
    async for _ in stream:
        pass


def bursting(bursts: int) -> Observable[int]:
    def subscribe(observer: abc.ObserverBase[int], _: abc.SchedulerBase | None) -> abc.DisposableBase:
        async def run() -> None:
            for _ in range(bursts):
                for number in range(BURST):
                    observer.on_next(number)
                await asyncio.sleep(0)
            observer.on_completed()

        tasks.append(asyncio.get_running_loop().create_task(run()))
        return Disposable()

    tasks: list[asyncio.Task[None]] = []
    return Observable(subscribe)


async def queued(observable: Observable[int]) -> AsyncIterator[int]:
    """Do the same by hand, without the bridge."""
    queue: asyncio.Queue[int | None] = asyncio.Queue()
    observable.subscribe(queue.put_nowait, on_completed=lambda: queue.put_nowait(None))
    while (element := await queue.get()) is not None:
        yield element


def decoded(stream: bytes) -> Cost:
    pieces = [stream[at : at + PIECE] for at in range(0, len(stream), PIECE)]

    def feed() -> None:
        decoder = EventStreamDecoder(lambda name, data: None, max_event_bytes=16 * 2**20)
        for piece in pieces:
            decoder.feed(piece)

    return cpu(feed)
