"""The lock of npm's proper-lockfile 4.1.2, by its protocol: a directory that exists while it is held.

`mkdir` is what excludes. The holder sets the directory's mtime again and again; a directory whose mtime is older than
the stale time belongs to a dead holder, and whoever finds it removes it and makes its own.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rxauth.credentials._stores._files import explain, pause
from rxauth.credentials._stores._lock import POLL_EVERY
from rxauth.errors import StoreError

if TYPE_CHECKING:
    import asyncio

_SETTLE = 0.05

_log = logging.getLogger("rxauth")


class LockDirectory:
    """A lock at `path`, shared with every process that follows the protocol.

    Args:
        path: the directory that is the lock; what is missing above it is made.
        stale: seconds without a sign of life after which the holder counts as dead. All programs must agree on it.
        update: seconds between two signs of life; far below `stale`.
        clock: Unix time in seconds; mtimes are compared with it, by the other programs too.
        sleep: waits between two looks, in seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        stale: float,
        update: float,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = pause,
    ) -> None:
        self._path = path
        self._stale = stale
        self._update = update
        self._clock = clock
        self._sleep = sleep

    async def acquire(self) -> HeldDirectory:
        """Wait until it is free or its holder is dead.

        Raises:
            StoreError: the directory can neither be made nor taken over.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        seen: tuple[int, ...] | None = None
        seen_since = loop.time()
        while True:
            held = self._make()
            if held is not None:
                return held
            signature, age = self._look()
            if signature != seen:
                seen, seen_since = signature, loop.time()
            # A holder in the future of this clock (it was set back) looks young for ever: go by what was watched too.
            if signature is not None and max(age, loop.time() - seen_since) > self._stale:
                held = await self._take_over(signature)
                if held is not None:
                    return held
            await self._sleep(POLL_EVERY)

    def _make(self) -> HeldDirectory | None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unavailable(error) from error
        try:
            self._path.mkdir(mode=0o700)
        except FileExistsError:
            return None
        except OSError as error:
            raise self._unavailable(error) from error
        try:
            return HeldDirectory(
                self._path, stale=self._stale, update=self._update, clock=self._clock, sleep=self._sleep
            )
        except FileNotFoundError:
            return None  # taken for a stale one and removed, this very moment
        except OSError as error:
            with suppress(OSError):
                self._path.rmdir()
            raise self._unavailable(error) from error

    def _look(self) -> tuple[tuple[int, ...] | None, float]:
        """Which directory is there, as of which sign of life, and how old that is in seconds."""
        try:
            status = self._path.lstat()
        except FileNotFoundError:
            return None, 0.0
        except OSError as error:
            raise self._unavailable(error) from error
        return (status.st_dev, status.st_ino, status.st_mtime_ns), self._clock() - status.st_mtime

    async def _take_over(self, signature: tuple[int, ...]) -> HeldDirectory | None:
        if self._look()[0] != signature:
            return None
        try:
            self._path.rmdir()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unavailable(error) from error
        held = self._make()
        if held is None:
            return None
        _log.info("took over the lock %s, whose holder is dead", self._path)
        try:
            # Two that found the same dead holder: the slower one removes what the faster one has just made.
            await self._sleep(_SETTLE)
            held.check()
        except StoreError:
            held.release()
            return None
        except BaseException:
            held.release()
            raise
        return held

    def _unavailable(self, error: OSError) -> StoreError:
        return StoreError(f"The lock {self._path} cannot be had: {explain(error)}.")


class HeldDirectory:
    """A lock directory that we made, kept alive by the loop it was made on.

    If that loop hangs for longer than the stale time, the lock is lost, as it should be: nobody can tell it from a
    dead one.
    """

    def __init__(
        self,
        path: Path,
        *,
        stale: float,
        update: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._path = path
        self._stale = stale
        self._update = update
        self._clock = clock
        self._sleep = sleep
        # While it is open its inode number belongs to no other directory, and a touch cannot hit another's lock.
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            self._touch()
        except OSError:
            os.close(self._descriptor)
            raise
        import asyncio

        self._beat: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(update, self._live)

    def check(self) -> None:
        """Raise StoreError if the directory is gone or another's."""
        if not self._ours():
            raise StoreError(
                f"The lock {self._path} was lost while it was held (the machine slept, or somebody removed it); "
                "nothing was written."
            )

    async def confirm(self) -> None:
        """The same; one that others might call stale is renewed first, and looked at again."""
        self.check()
        if self._clock() - self._mtime_ns / 1e9 > self._stale - self._update:
            with suppress(OSError):
                self._touch()
            await self._sleep(_SETTLE)
            self.check()

    def release(self) -> None:
        """Remove the directory, if it is still ours."""
        if self._beat is None:
            return
        ours = self._ours()
        self._beat.cancel()
        self._beat = None
        try:
            if ours:
                self._path.rmdir()
        except OSError as error:
            _log.warning("the lock %s could not be removed: %s", self._path, error.strerror)
        finally:
            os.close(self._descriptor)

    def _live(self) -> None:
        if self._beat is None or not self._ours():
            return
        with suppress(OSError):  # the next time may do; if not, `check` says so
            self._touch()
        import asyncio

        self._beat = asyncio.get_running_loop().call_later(self._update, self._live)

    def _touch(self) -> None:
        now = int(self._clock() * 1e9)
        os.utime(self._descriptor, ns=(now, now))
        self._mtime_ns = os.fstat(self._descriptor).st_mtime_ns

    def _ours(self) -> bool:
        """The same directory, and nobody else has touched it: one that two took for theirs is the last toucher's."""
        if self._beat is None:
            return False
        try:
            there, mine = self._path.stat(), os.fstat(self._descriptor)
        except OSError:
            return False
        return (there.st_dev, there.st_ino, there.st_mtime_ns) == (mine.st_dev, mine.st_ino, self._mtime_ns)
