"""What the operators cost an event after the stream is live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
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
)

from .contest import Contest, Cost, cpu, cpu_on_a_loop, row

Event: TypeAlias = dict[str, str]
START: Event = {"type": "start"}
DELTA: Event = {"type": "text_delta", "delta": "word"}

EVENTS = 100_000


@row("recover_auth after live / one hop that only passes on_next on", at_most=1.25, rounds=31)
def recover_auth_over_a_hop(scale: int) -> Generator[Contest]:
    events = EVENTS // scale
    yield Contest(through(events, recover_auth(refresh)), through(events, hop))


@row("the three operators after live / one such hop", at_most=2.4, rounds=31)
def the_three_over_a_hop(scale: int) -> Generator[Contest]:
    events = EVENTS // scale
    yield Contest(
        through(events, buffer_until_live(), retry_on_first_auth_error(refresh), flush_on_complete_or_error()),
        through(events, hop),
    )


@row("recover_auth / three ops.map(identity)", at_most=0.40, rounds=31)
def recover_auth_over_three_maps(scale: int) -> Generator[Contest]:
    events = EVENTS // scale
    maps = [ops.map(lambda event: event) for _ in range(3)]
    yield Contest(through(events, recover_auth(refresh)), through(events, *maps))


@row("recover_auth / the same logic as one async generator", at_most=0.6, rounds=31)
def recover_auth_over_an_async_generator(scale: int) -> Generator[Contest]:
    events = EVENTS // scale
    with asyncio.Runner() as runner:
        yield Contest(through(events, recover_auth(refresh)), cpu_on_a_loop(runner, lambda: drained(events)))


# The floor beneath the row before: what RxPY itself costs. On Python 3.11, where async generators are cheap, it is over
# that row's limit.
@row("one such hop / the same async generator", rounds=31)
def hop_over_an_async_generator(scale: int) -> Generator[Contest]:
    events = EVENTS // scale
    with asyncio.Runner() as runner:
        yield Contest(through(events, hop), cpu_on_a_loop(runner, lambda: drained(events)))


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
    async for _ in recovered(lambda: generated(events), refresh):
        pass


async def generated(events: int) -> AsyncIterator[Event]:
    yield START
    for _ in range(events):
        yield DELTA


async def recovered(
    attempt: Callable[[], AsyncIterator[Event]], refresh: Callable[[object], Awaitable[object]]
) -> AsyncIterator[Event]:
    """What one would write without Rx."""
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
