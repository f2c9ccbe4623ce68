"""What it costs to go from an Observable to `async for`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxauth import to_async_iterable

from .contest import Contest, cpu_on_a_loop, row

BURST = 64


@row("to_async_iterable / asyncio.Queue, 64 events per loop turn", at_most=0.50, rounds=21)
def to_async_iterable_over_a_queue(scale: int) -> Generator[Contest]:
    bursts = 1600 // scale
    with asyncio.Runner() as runner:
        yield Contest(
            cpu_on_a_loop(runner, lambda: through_our_bridge(bursts)),
            cpu_on_a_loop(runner, lambda: through_a_queue(bursts)),
        )


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


async def through_our_bridge(bursts: int) -> None:
    async for _ in to_async_iterable(bursting(bursts)):
        pass


async def through_a_queue(bursts: int) -> None:
    async for _ in queued(bursting(bursts)):
        pass


async def queued(observable: Observable[int]) -> AsyncIterator[int]:
    """What one would write without it."""
    queue: asyncio.Queue[int | None] = asyncio.Queue()
    observable.subscribe(queue.put_nowait, on_completed=lambda: queue.put_nowait(None))
    while (element := await queue.get()) is not None:
        yield element
