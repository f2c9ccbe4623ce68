"""A credential in memory, for as long as the process runs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator

from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._held import holding, locked_once


class MemoryStore:
    """Keeps a credential in memory, for the threads and loops of one process.

    Args:
        credential: is stored at first.

    >>> import asyncio
    >>> store = MemoryStore(Credential("secret"))
    >>> asyncio.run(store.load())
    Credential()
    """

    def __init__(self, credential: Credential | None = None) -> None:
        if credential is not None and not isinstance(credential, Credential):
            raise TypeError("credential is a Credential, or None.")
        self._credential = credential
        self._retry_at: float | None = None
        self._lock = _Lock()

    async def load(self) -> Credential | None:
        """Return what is stored; `None` if nothing is."""
        return self._credential

    async def save(self, credential: Credential) -> None:
        """Replace what is stored."""
        async with locked_once(self):
            self._credential = credential
            self._retry_at = None

    async def delete(self) -> bool:
        """Remove what is stored, and return whether there was anything."""
        async with locked_once(self):
            was_there = self._credential is not None
            self._credential = None
            return was_there

    async def load_retry_at(self) -> float | None:
        """Return the Unix time before which the token endpoint is not to be asked; `None` if it may be now."""
        return self._retry_at

    async def save_retry_at(self, unix_seconds: float | None) -> None:
        """Keep that time until another credential is stored; `None` removes it."""
        self._retry_at = unix_seconds

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Exclude other threads and tasks. They enter in the order in which they asked."""
        await self._lock.acquire()
        try:
            with holding(self, self._lock):
                yield
        finally:
            self._lock.release()

    def describe(self) -> str:
        """Return where the credential is."""
        return "this process's memory"


class _Lock:
    """A lock for the tasks of several loops; an `asyncio.Lock` belongs to one loop."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = False
        self._turns: deque[concurrent.futures.Future[None]] = deque()

    async def acquire(self) -> None:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            turn: concurrent.futures.Future[None] = concurrent.futures.Future()
            self._turns.append(turn)
        try:
            await asyncio.wrap_future(turn)
        except BaseException:
            # Cancelled just when its turn came: without this the others wait for ever.
            if not turn.cancel():
                self.release()
            raise

    def release(self) -> None:
        with self._mutex:
            while self._turns:
                turn = self._turns.popleft()
                if turn.set_running_or_notify_cancel():
                    turn.set_result(None)
                    return
            self._taken = False
