"""Async iterables that note what happens to them, and ways to read and wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from reactivex import Observable

from rxauth import to_async_iterable


class Source:
    """An async iterable of numbers that notes what is asked of it and when it is closed."""

    def __init__(self, count: int = 10, gate: asyncio.Event | None = None) -> None:
        self.count = count
        self.gate = gate
        self.asked = 0
        self.closed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[int]:
        try:
            for number in range(self.count):
                self.asked += 1
                yield number
                if self.gate is not None:
                    await self.gate.wait()
        finally:
            self.closed.set()


class Managed(Source):
    entered = False

    async def __aenter__(self) -> Managed:
        self.entered = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.entered = False


async def collect(observable: Observable[Any]) -> list[Any]:
    return [each async for each in to_async_iterable(observable)]


async def until(condition: Callable[[], object]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail("it never came true")


def reports_of_the_loop() -> list[dict[str, Any]]:
    """Collect the contexts that the loop's exception handler receives."""
    contexts: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: contexts.append(context))
    return contexts
