"""Wait for something to change, from any event loop and any thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress


class Signal:
    """Wake the waiters for a condition when it may have become true."""

    def __init__(self) -> None:
        self._waiting: set[Future[None]] = set()

    def notify(self) -> None:
        """Make every waiter check its condition again."""
        for woken in self._waiting.copy():
            with suppress(InvalidStateError):  # another thread has woken it already, or it has left
                woken.set_result(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return as soon as `condition()` is true."""
        while not condition():
            woken: Future[None] = Future()
            self._waiting.add(woken)
            try:
                # Another thread may have notified between the check above and the registration.
                if condition():
                    return
                await asyncio.wrap_future(woken)
            finally:
                self._waiting.discard(woken)


class Gate:
    """Hold a response back until a test opens it.

    Works from any event loop and any thread. Once open, it stays open.

    >>> gate = Gate()
    >>> gate
    Gate(closed, 0 reached)
    >>> gate.open()
    >>> gate.is_open
    True
    """

    def __init__(self) -> None:
        self._open = False
        self._reached = 0
        self._changed = Signal()

    @property
    def is_open(self) -> bool:
        """Whether responses pass."""
        return self._open

    def open(self) -> None:
        """Pass everything that is held, and everything that comes."""
        self._open = True
        self._changed.notify()

    async def reached(self, count: int = 1) -> None:
        """Return as soon as `count` responses have come to the gate."""
        await self._changed.until(lambda: self._reached >= count)

    async def hold(self) -> None:
        """Wait at the gate, as a response does."""
        self._reached += 1
        self._changed.notify()
        await self._changed.until(lambda: self._open)

    def __repr__(self) -> str:
        return f"Gate({'open' if self._open else 'closed'}, {self._reached} reached)"
