"""Locks around a file of credentials: their interface, and the two kinds that are not a directory."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from rxauth.credentials._stores._files import explain, pause
from rxauth.errors import StoreError

if TYPE_CHECKING:
    from filelock import FileLock

POLL_EVERY = 0.1  # s between two attempts

Sleep = Callable[[float], Awaitable[object]]


class Held(Protocol):
    """A lock that was acquired."""

    def check(self) -> None:
        """Raise StoreError if another process may hold it by now."""
        ...

    async def confirm(self) -> None:
        """Do the same, and renew it for the next moments."""
        ...

    def release(self) -> None:
        """Release it, unless it was lost. It does not await, so that no cancellation can come between."""
        ...


class Lock(Protocol):
    """A lock that can be acquired."""

    async def acquire(self) -> Held:
        """Wait for it.

        Raises:
            StoreError: it can never be acquired.
        """
        ...


class Flock:
    """`flock(2)` on a file that is never removed, by the package filelock.

    It belongs to the open file, so each acquisition opens the file again: that excludes threads and tasks too. The
    system releases it when its holder dies.

    Args:
        paths: the lock file, and another for a directory in which none can be made.
        sleep: waits between two attempts, in seconds.
    """

    def __init__(self, *paths: str, sleep: Sleep = pause) -> None:
        self._paths = paths
        self._sleep = sleep

    async def acquire(self) -> HeldFlock:
        for number, path in enumerate(self._paths, 1):
            try:
                return await self._acquire(path)
            except OSError as error:
                # Only where no process can make the first: two processes must not lock two files.
                if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or number == len(self._paths):
                    raise StoreError(f"The lock {self._paths[0]} cannot be had: {explain(error)}.") from error
        raise ValueError("Flock needs a path.")

    async def _acquire(self, path: str) -> HeldFlock:
        from filelock import FileLock, Timeout

        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)  # noqa: PTH103, PTH120
        while True:
            # One object per acquisition: a second acquisition of the same one would count as re-entry.
            lock = FileLock(path, mode=0o600, thread_local=False, fallback_to_soft=False)
            try:
                # One attempt that does not wait, and the waiting outside: no cancellation can come in between.
                lock.acquire(blocking=False)
                return HeldFlock(path, lock)
            except (Timeout, FileNotFoundError):
                lock.release()
            await self._sleep(POLL_EVERY)


class HeldFlock:
    """A lock file that is open and locked."""

    def __init__(self, path: str, lock: FileLock) -> None:
        self._path = path
        self._lock = lock
        self._file = _identity(path)

    def check(self) -> None:
        """Raise StoreError if the file was removed: other processes then lock another one."""
        try:
            if _identity(self._path) == self._file:
                return
        except OSError:
            pass
        raise StoreError(f"The lock {self._path} was lost: its file was removed. Nothing was written; try again.")

    async def confirm(self) -> None:
        self.check()

    def release(self) -> None:
        self._lock.release()


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116
    return status.st_dev, status.st_ino


class ProcessLock:
    """A lock for the threads and tasks of this process alone, by the name of a place.

    Args:
        path: the place.
        sleep: waits between two attempts, in seconds.
    """

    _taken: ClassVar[set[Path]] = set()
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: Path, *, sleep: Sleep = pause) -> None:
        self._path = path
        self._sleep = sleep

    async def acquire(self) -> Held:
        while not self._take():
            await self._sleep(POLL_EVERY)
        return self

    def _take(self) -> bool:
        with self._guard:
            if self._path in self._taken:
                return False
            self._taken.add(self._path)
            return True

    def check(self) -> None:
        """Do nothing: it cannot be lost."""

    async def confirm(self) -> None:
        """Do nothing: it cannot be lost."""

    def release(self) -> None:
        with self._guard:
            self._taken.discard(self._path)
