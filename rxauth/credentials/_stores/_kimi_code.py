"""The credentials of Kimi Code CLI (https://github.com/MoonshotAI/kimi-code), shared with it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._entry import credential_from, entry_from
from rxauth.credentials._stores._files import Files
from rxauth.credentials._stores._json_file import Document, JsonFileStore, directory_from, plain, raw
from rxauth.credentials._stores._lock import Lock, ProcessLock
from rxauth.credentials._stores._lock_directory import LockDirectory

__all__ = ["KimiCodeStore", "KimiFileStore"]

# The stale time is kimi-code's own; a sign of life every second leaves room for four that come late.
_STALE = 5.0
_UPDATE = 1.0


class KimiFileStore(JsonFileStore):
    """A login as both Kimi programs keep it: a file of its own, with RFC 6749's names, `expires_at` and `expires_in`.

    An empty access token is no login: kimi-code leaves that behind when the server has rejected one. An empty string,
    or a 0 for a time, is their way to say that there is none.
    """

    def __init__(
        self, path: Path, *, clock: Callable[[], float], sleep: Callable[[float], Awaitable[object]], files: Files
    ) -> None:
        super().__init__(path, files=files, sleep=sleep)
        self._clock = clock

    def _credential(self, document: Document) -> Credential | None:
        told = {name: plain(value) for name, value in document.items()}
        if told.get("access_token") in (None, ""):
            return None
        for name in ("scope", "expires_at"):
            if told.get(name) in ("", 0):
                del told[name]
        return credential_from(told)

    def _with(self, document: Document, credential: Credential) -> Document:
        kept = {name: plain(value) for name, value in document.items()}
        nothing = {"access_token": "", "refresh_token": "", "expires_at": 0, "scope": "", "token_type": "Bearer"}
        told = nothing | entry_from(credential, kept)
        if "expires_in" not in told:
            # They refresh ahead of time, by half of it.
            left = 0 if credential.expires_at is None else credential.expires_at - self._clock()
            told["expires_in"] = max(0, round(left))
        return {name: raw(value) for name, value in told.items()}

    def _without(self, document: Document) -> None:
        """They remove the file."""


class KimiCodeStore(KimiFileStore):
    """Kimi Code CLI's login, under its own lock (read from its release 2.1.0).

    The lock is proper-lockfile's on `oauth/kimi-code`, so the directory `oauth/kimi-code.lock`; stale after 5 s. With
    `KIMI_DISABLE_OAUTH_LOCK=1` neither program locks: then only the threads and tasks of this process are excluded.

    Args:
        home: its directory, `~` is expanded; default: `$KIMI_CODE_HOME`, else `~/.kimi-code`.
        environ: environment variables; default: this process's.
        clock: Unix time in seconds.
        sleep: waits for the lock, and for a file that is being written.
        files: the operating system's calls.

    >>> KimiCodeStore(environ={"HOME": "/home/ann"})
    KimiCodeStore('/home/ann/.kimi-code/credentials/kimi-code.json')
    """

    def __init__(
        self,
        home: str | os.PathLike[str] | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        files: Files = os,
    ) -> None:
        root = Path(home).expanduser() if home is not None else directory_from(environ, "KIMI_CODE_HOME", ".kimi-code")
        super().__init__(root / "credentials" / "kimi-code.json", clock=clock, sleep=sleep, files=files)
        self._lock_path = root / "oauth" / "kimi-code.lock"
        self._lock_off = environ.get("KIMI_DISABLE_OAUTH_LOCK") == "1"

    def _lock(self) -> Lock:
        if self._lock_off:
            return ProcessLock(self._lock_path.absolute(), sleep=self._sleep)
        return LockDirectory(self._lock_path, stale=_STALE, update=_UPDATE, clock=self._clock, sleep=self._sleep)
