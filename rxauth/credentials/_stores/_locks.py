"""Locks around a credential file: `flock`, and a directory as npm's proper-lockfile makes it."""

from __future__ import annotations

import errno
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rxauth.credentials._stores._files import Sleep, explain
from rxauth.errors import StoreError

if TYPE_CHECKING:
    from filelock import FileLock

_POLL_EVERY = 0.1  # s between two attempts
_SETTLE = 0.05  # s after which another process that took over the same lock has shown itself

_log = logging.getLogger(__name__)


class Lock(ABC):
    """A lock that is acquired once; the next acquisition takes another object."""

    path: str | Path

    @abstractmethod
    async def acquire(self) -> None:
        """Wait for it. Raises StoreError if it can never be acquired."""

    @abstractmethod
    def is_held(self) -> bool:
        """Return whether it was acquired and no other process can hold it by now."""

    def check(self) -> None:
        """Raise StoreError if another process may hold it by now."""
        if not self.is_held():
            raise StoreError(
                f"The lock {self.path} was lost while it was held (the machine slept, or it was removed); "
                "nothing was written. Try again."
            )

    async def confirm(self) -> None:
        """Do the same, and renew it for the next moments."""
        self.check()

    @abstractmethod
    def release(self) -> None:
        """Release it, unless it was lost. It does not await, so that no cancellation can come between."""


class Flock(Lock):
    """`flock(2)` on a file that is never removed, by the package filelock.

    It belongs to the open file, so each acquisition opens the file again: that excludes threads and tasks too. The
    system releases it when its holder dies. The second path is for a directory in which no file can be made.
    """

    def __init__(self, *paths: str, sleep: Sleep) -> None:
        self._paths = paths
        self._sleep = sleep

    async def acquire(self) -> None:
        for path in self._paths:
            try:
                await self._acquire(path)
            except OSError as error:
                # Only where no process can make the first: two processes must not lock two files.
                if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or path == self._paths[-1]:
                    raise StoreError(f"The lock {self._paths[0]} cannot be had: {explain(error)}.") from error
            else:
                return

    async def _acquire(self, path: str) -> None:
        from filelock import FileLock, Timeout

        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        while True:
            # One object per attempt: a second acquisition of the same one would count as re-entry.
            self._lock: FileLock = FileLock(path, mode=0o600, thread_local=False, fallback_to_soft=False)
            try:
                # One attempt that does not wait, and the waiting outside: no cancellation can come in between.
                self._lock.acquire(blocking=False)
                self.path, self._file = path, _identity(path)
            except (Timeout, FileNotFoundError):
                self._lock.release()
                await self._sleep(_POLL_EVERY)
            else:
                return

    def is_held(self) -> bool:
        """Return whether the file is still there: else other processes lock another one."""
        with suppress(OSError):
            return _identity(self.path) == self._file
        return False

    def release(self) -> None:
        self._lock.release()


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


@dataclass(eq=False)
class LockDirectory(Lock):
    """Lock as npm's proper-lockfile 4.1.2 does, and pi with it: by a directory that exists while the lock is held.

    `mkdir` excludes others. The holder sets the directory's mtime again and again; a directory whose mtime is older
    than the stale time belongs to a dead holder, and a process that finds it removes it and makes its own. So the lock
    is lost if the holder's loop hangs for longer than that.
    """

    path: Path
    stale: float  # s, the same in all programs
    update: float  # s between two signs of life
    clock: Callable[[], float]
    sleep: Sleep

    async def acquire(self) -> None:
        """Wait until it is free or its holder is dead."""
        import asyncio

        self._loop = asyncio.get_running_loop()
        seen: tuple[int, ...] | None = None
        seen_since = self._loop.time()
        try:
            while not self._make():
                there, age = self._look()
                if there != seen:
                    seen, seen_since = there, self._loop.time()
                # After the clock was set back a dead holder looks young for ever: count the time of watching too.
                dead = there is not None and max(age, self._loop.time() - seen_since) > self.stale
                if dead and await self._take_over():
                    return
                await self.sleep(_POLL_EVERY)
        except OSError as error:
            raise StoreError(f"The lock {self.path} cannot be had: {explain(error)}.") from error

    def _make(self) -> bool:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            return False
        try:
            # While it is open its inode number belongs to no other directory, and a touch cannot hit another's lock.
            self._descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        except FileNotFoundError:
            return False  # another process took it for a stale one and removed it at this moment
        except OSError:
            self.path.rmdir()
            raise
        self._touch()
        self._beat = self._loop.call_later(self.update, self._show_life)
        return True

    def _look(self) -> tuple[tuple[int, ...] | None, float]:
        """Return the identity and mtime of the directory that is there, and the seconds since that mtime."""
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return None, 0.0
        return (status.st_dev, status.st_ino, status.st_mtime_ns), self.clock() - status.st_mtime

    async def _take_over(self) -> bool:
        """Replace a dead holder's directory; return whether it is this process's, and not another's that did so too."""
        with suppress(FileNotFoundError):
            self.path.rmdir()
        if not self._make():
            return False
        _log.info("Took over the lock %s, whose holder is dead.", self.path)
        taken = False
        try:
            # Of two that found the same dead holder, the slower one removes the directory that the faster one made.
            await self.sleep(_SETTLE)
            taken = self.is_held()
        finally:
            if not taken:
                self.release()
        return taken

    def is_held(self) -> bool:
        """Return whether the directory is the same, and last touched by this process: a new holder touches it."""
        try:
            there, mine = self.path.stat(), os.fstat(self._descriptor)
        except OSError:
            return False
        return (there.st_dev, there.st_ino, there.st_mtime_ns) == (mine.st_dev, mine.st_ino, self._touched_ns)

    async def confirm(self) -> None:
        """Raise StoreError as `check` does; touch a directory that others may take for stale, and check again."""
        self.check()
        if self.clock() - self._touched_ns / 1e9 > self.stale - self.update:
            with suppress(OSError):
                self._touch()
            await self.sleep(_SETTLE)
            self.check()

    def release(self) -> None:
        self._beat.cancel()
        try:
            if self.is_held():
                self.path.rmdir()
        except OSError as error:
            _log.warning("The lock %s could not be removed: %s.", self.path, explain(error))
        finally:
            os.close(self._descriptor)

    def _show_life(self) -> None:
        if self.is_held():
            with suppress(OSError):  # the next touch may succeed; else check() raises
                self._touch()
            self._beat = self._loop.call_later(self.update, self._show_life)

    def _touch(self) -> None:
        now = int(self.clock() * 1e9)
        os.utime(self._descriptor, ns=(now, now))
        self._touched_ns = os.fstat(self._descriptor).st_mtime_ns
