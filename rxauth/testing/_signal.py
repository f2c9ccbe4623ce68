"""Waiting for something to change, from any event loop and any thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress


class Signal:
    """Wakes whoever waits for a condition when it may have become true."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Let every waiter look at its condition again."""
        with self._lock:
            waiting, self._waiting = self._waiting, set()
        for future in waiting:
            # The loop of a waiter may have ended, and the waiter with it.
            with suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(_wake, future)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return as soon as `condition()` is true."""
        while not condition():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            with self._lock:
                self._waiting.add(future)
            try:
                # Another thread may have notified between the look above and the registration.
                if condition():
                    return
                await future
            finally:
                with self._lock:
                    self._waiting.discard(future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
