"""What a lock around a file of credentials promises, whatever it is made of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ClassVar, Protocol

POLL_EVERY = 0.1


class Held(Protocol):
    """A lock that was acquired."""

    def check(self) -> None:
        """Raise StoreError if somebody else may have it by now."""
        ...

    async def confirm(self) -> None:
        """The same, and make sure that it stays ours for the next moments."""
        ...

    def release(self) -> None:
        """Give it back, if it is still ours. No await, so that no cancellation can come between."""
        ...


class Lock(Protocol):
    """A lock that nobody has yet."""

    async def acquire(self) -> Held:
        """Wait for it.

        Raises:
            StoreError: it can never be had.
        """
        ...


class ProcessLock:
    """Excludes the threads and tasks of this process alone, for a place that several objects may name.

    Args:
        path: the place.
        sleep: waits between two looks, in seconds.
    """

    _held: ClassVar[set[Path]] = set()
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: Path, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._path = path
        self._sleep = sleep

    async def acquire(self) -> Held:
        while not self._taken():
            await self._sleep(POLL_EVERY)
        return self

    def _taken(self) -> bool:
        with self._guard:
            if self._path in self._held:
                return False
            self._held.add(self._path)
            return True

    def check(self) -> None:
        """Nobody can take it away."""

    async def confirm(self) -> None:
        self.check()

    def release(self) -> None:
        self._held.discard(self._path)
