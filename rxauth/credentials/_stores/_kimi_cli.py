"""The credentials of kimi-cli (https://github.com/MoonshotAI/kimi-cli), shared with it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from rxauth.credentials._stores._files import Files
from rxauth.credentials._stores._json_file import directory_from
from rxauth.credentials._stores._kimi_code import KimiFileStore
from rxauth.credentials._stores._lock import POLL_EVERY
from rxauth.errors import StoreError

__all__ = ["KimiCliStore"]


class KimiCliStore(KimiFileStore):
    """kimi-cli's login, under its own lock: `flock` on `credentials/kimi-code.lock`.

    kimi-cli waits five to ten seconds for that lock and then refreshes without it; nothing here can stop it.

    Args:
        share_dir: its directory, `~` is expanded; default: `$KIMI_SHARE_DIR`, else `~/.kimi`.
        environ: environment variables; default: this process's.
        clock: Unix time in seconds.
        sleep: waits for the lock, and for a file that is being written.
        files: the operating system's calls.

    >>> KimiCliStore(environ={"HOME": "/home/ann"})
    KimiCliStore('/home/ann/.kimi/credentials/kimi-code.json')
    """

    def __init__(
        self,
        share_dir: str | os.PathLike[str] | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        files: Files = os,
    ) -> None:
        root = (
            Path(share_dir).expanduser()
            if share_dir is not None
            else directory_from(environ, "KIMI_SHARE_DIR", ".kimi")
        )
        super().__init__(root / "credentials" / "kimi-code.json", clock=clock, sleep=sleep, files=files)
        self._lock_path = root / "credentials" / "kimi-code.lock"

    def _lock(self) -> Flock:
        return Flock(self._lock_path, sleep=self._sleep)


class Flock:
    """`flock(2)` on a file that is never removed: a lock on a removed file would exclude nobody.

    It is bound to the open file, not to the process, so each acquisition opens the file again: that excludes threads
    and tasks too. The system frees it when its holder dies.
    """

    def __init__(self, path: Path, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._path = path
        self._sleep = sleep

    async def acquire(self) -> HeldFlock:
        """Wait until it is free.

        Raises:
            StoreError: the file cannot be opened or locked.
        """
        while True:
            try:
                held = self._try()
            except (OSError, ImportError) as error:
                reason = getattr(error, "strerror", None) or type(error).__name__
                raise StoreError(f"The lock {self._path} cannot be had: {reason}.") from error
            if held is not None:
                return held
            await self._sleep(POLL_EVERY)

    def _try(self) -> HeldFlock | None:
        import fcntl  # not on Windows

        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        held = HeldFlock(self._path, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if held.ours():
                return held
        except BlockingIOError:
            pass
        except BaseException:
            held.release()
            raise
        held.release()
        return None


class HeldFlock:
    """An open lock file."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def ours(self) -> bool:
        """Whether what we locked is still what others would lock."""
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except OSError:
            return False

    def check(self) -> None:
        """Raise StoreError if somebody removed the file, and with it the lock."""
        if not self.ours():
            raise StoreError(f"The lock {self._path} was lost: somebody removed it; nothing was written.")

    async def confirm(self) -> None:
        """The same: nobody can take it by waiting."""
        self.check()

    def release(self) -> None:
        """Close it, which unlocks it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
