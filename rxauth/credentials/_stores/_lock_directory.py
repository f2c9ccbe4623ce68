"""Lock as npm's proper-lockfile 4.1.2 does, and pi with it: by a directory that exists while the lock is held.

`mkdir` excludes others. The holder sets the directory's mtime again and again; a directory whose mtime is older than
the stale time belongs to a dead holder, and a process that finds it removes it and makes its own.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rxauth.credentials._stores._files import explain, pause
from rxauth.credentials._stores._lock import POLL_EVERY, Sleep
from rxauth.errors import StoreError

if TYPE_CHECKING:
    import asyncio

_SETTLE = 0.05  # s after which another process that took over the same lock has shown itself

_log = logging.getLogger(__name__)


class LockDirectory:
    """Take a lock at `path`, shared with every process that follows the protocol.

    Args:
        path: the directory that is the lock; its missing parents are made.
        stale: seconds without a sign of life after which the holder counts as dead. All programs must agree on it.
        update: seconds between two signs of life; far below `stale`.
        clock: returns the Unix time in seconds; mtimes are compared with it, by the other programs too.
        sleep: waits between two attempts, in seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        stale: float,
        update: float,
        clock: Callable[[], float] = time.time,
        sleep: Sleep = pause,
    ) -> None:
        self.path = path
        self.stale = stale
        self.update = update
        self.clock = clock
        self.sleep = sleep

    async def acquire(self) -> HeldDirectory:
        """Wait until it is free or its holder is dead.

        Raises:
            StoreError: the directory can neither be made nor taken over.
        """
        try:
            return await self._acquire()
        except OSError as error:
            raise StoreError(f"The lock {self.path} cannot be had: {explain(error)}.") from error

    async def _acquire(self) -> HeldDirectory:
        import asyncio

        loop = asyncio.get_running_loop()
        seen: tuple[int, ...] | None = None
        seen_since = loop.time()
        while True:
            held = self._make(loop)
            if held is not None:
                return held
            signature, age = self._look()
            if signature != seen:
                seen, seen_since = signature, loop.time()
            # After the clock was set back a dead holder looks young for ever: count the time of watching too.
            if signature is not None and max(age, loop.time() - seen_since) > self.stale:
                held = await self._take_over(loop)
                if held is not None:
                    return held
            await self.sleep(POLL_EVERY)

    def _make(self, loop: asyncio.AbstractEventLoop) -> HeldDirectory | None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            return None
        try:
            return HeldDirectory(self, loop)
        except FileNotFoundError:
            return None  # another process took it for a stale one and removed it at this moment
        except OSError:
            with suppress(OSError):
                self.path.rmdir()
            raise

    def _look(self) -> tuple[tuple[int, ...] | None, float]:
        """Return the identity and mtime of the directory that is there, and the seconds since that mtime."""
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return None, 0.0
        return (status.st_dev, status.st_ino, status.st_mtime_ns), self.clock() - status.st_mtime

    async def _take_over(self, loop: asyncio.AbstractEventLoop) -> HeldDirectory | None:
        with suppress(FileNotFoundError):
            self.path.rmdir()
        held = self._make(loop)
        if held is None:
            return None
        _log.info("Took over the lock %s, whose holder is dead.", self.path)
        try:
            # Of two that found the same dead holder, the slower one removes the directory that the faster one made.
            await self.sleep(_SETTLE)
            held.check()
        except StoreError:
            held.release()
            return None
        except BaseException:
            held.release()
            raise
        return held


class HeldDirectory:
    """Hold a lock directory that this process made, and touch it on the loop on which it was made.

    If that loop hangs for longer than the stale time the lock is lost: other processes cannot tell it from a dead one.
    """

    def __init__(self, lock: LockDirectory, loop: asyncio.AbstractEventLoop) -> None:
        self._lock = lock
        self._loop = loop
        # While it is open its inode number belongs to no other directory, and a touch cannot hit another's lock.
        self._descriptor = os.open(lock.path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            self._touch()
        except OSError:
            os.close(self._descriptor)
            raise
        self._beat: asyncio.TimerHandle | None = loop.call_later(lock.update, self._show_life)

    def check(self) -> None:
        """Raise StoreError if the directory is gone or belongs to another process."""
        if not self._is_held():
            raise StoreError(
                f"The lock {self._lock.path} was lost while it was held (the machine slept, or it was removed); "
                "nothing was written. Try again."
            )

    async def confirm(self) -> None:
        """Raise StoreError as `check` does; touch a directory that others may take for stale, and check again."""
        self.check()
        if self._lock.clock() - self._mtime_ns / 1e9 > self._lock.stale - self._lock.update:
            with suppress(OSError):
                self._touch()
            await self._lock.sleep(_SETTLE)
            self.check()

    def release(self) -> None:
        """Remove the directory, if it is still this process's."""
        if self._beat is None:
            return
        held = self._is_held()
        self._beat.cancel()
        self._beat = None
        try:
            if held:
                self._lock.path.rmdir()
        except OSError as error:
            _log.warning("The lock %s could not be removed: %s.", self._lock.path, explain(error))
        finally:
            os.close(self._descriptor)

    def _show_life(self) -> None:
        if self._beat is None or not self._is_held():
            return
        with suppress(OSError):  # the next touch may succeed; else check() raises
            self._touch()
        self._beat = self._loop.call_later(self._lock.update, self._show_life)

    def _touch(self) -> None:
        now = int(self._lock.clock() * 1e9)
        os.utime(self._descriptor, ns=(now, now))
        self._mtime_ns = os.fstat(self._descriptor).st_mtime_ns

    def _is_held(self) -> bool:
        """Return whether the directory is the same, and last touched by this process: a new holder touches it."""
        if self._beat is None:
            return False
        try:
            there, mine = self._lock.path.stat(), os.fstat(self._descriptor)
        except OSError:
            return False
        return (there.st_dev, there.st_ino, there.st_mtime_ns) == (mine.st_dev, mine.st_ino, self._mtime_ns)
