"""Credentials in a JSON file of rxauth's own, shared by processes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable
from typing import Any

from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._entry import credential_from, entry_from, number
from rxauth.credentials._stores._files import Files, pause, rxauth_home
from rxauth.credentials._stores._json_store import JsonFileStore
from rxauth.credentials._stores._json_text import Document, plain, raw
from rxauth.credentials._stores._lock import Flock

__all__ = ["FileStore"]


class FileStore(JsonFileStore):
    """Keeps a credential under one key of a JSON file that only its owner can read.

        {"kimi": {"access_token": "...", "refresh_token": "...", "expires_at": 1700000000.0, "token_type": "Bearer"}}

    A save replaces the file in one step, so a reader sees the old or the new one, whatever happens in between. Where
    the file cannot be replaced (it is bind-mounted) it is written in place, after a complete copy was stored. Other
    keys, unknown fields and symbolic links stay as they are. The lock is `flock` on `<file>.lock`, which is released
    when its holder dies; in a read-only directory, on a file in `$RXAUTH_HOME/locks`. All methods work on a local file
    and take a few milliseconds; they do so on the caller's loop.

    Args:
        path: the file; `~` is expanded. It and its directory need not exist.
        key: the name under which this credential stands in it.

    Raises:
        ValueError: no path or no key.

    >>> import asyncio, tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     store = FileStore(home + "/auth.json", "kimi")
    ...     asyncio.run(store.save(Credential("secret")))
    ...     asyncio.run(store.load())
    Credential()
    """

    _private = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        key: str,
        *,
        files: Files = os,
        sleep: Callable[[float], Awaitable[object]] = pause,
    ) -> None:
        if not key or not isinstance(key, str):
            raise ValueError("key is a string that is not empty.")
        text = os.fsdecode(path)
        if not text or "\0" in text:
            raise ValueError("path is the path of a file.")
        text = os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111 - os wants str
        super().__init__(text, files=files, sleep=sleep)
        self._key = key

    async def load_retry_at(self) -> float | None:
        """Return the Unix time before which the token endpoint is not to be asked for this credential."""
        return number(self._entry(await self._read() or {}).get("retry_at"))

    async def save_retry_at(self, unix_seconds: float | None) -> None:
        """Keep that time until another credential is stored; `None` removes it."""
        async with self._locked_once() as mine:
            document = await self._read() or {}
            entry = self._entry(document)
            if not entry or entry.get("retry_at") == unix_seconds:
                return
            entry.pop("retry_at", None)
            if unix_seconds is not None:
                entry["retry_at"] = unix_seconds
            await self._write(mine, document | {self._key: raw(entry)})

    def describe(self) -> str:
        """Return the path of the file, and the key."""
        return f'{self._path} ("{self._key}")'

    def _lock(self) -> Flock:
        path = self._real_path()
        paths, home = [f"{path}.lock"], rxauth_home()
        if home is not None and os.path.exists(path):  # noqa: PTH110
            paths.append(str(home / "locks" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.lock"))
        return Flock(*paths, sleep=self._sleep)

    def _entry(self, document: Document) -> dict[str, Any]:
        """Return what stands under the key; nothing if that is not worth keeping."""
        try:
            entry = plain(document[self._key])
        except (KeyError, ValueError, RecursionError):
            return {}
        return entry if isinstance(entry, dict) else {}

    def _has_login(self, document: Document) -> bool:
        return self._key in document

    def _credential(self, document: Document) -> Credential | None:
        entry = plain(document[self._key]) if self._key in document else None
        return None if entry is None else credential_from(entry)

    def _with(self, document: Document, credential: Credential) -> Document:
        return document | {self._key: raw(entry_from(credential, self._entry(document)))}

    def _without(self, document: Document) -> Document:
        return {name: value for name, value in document.items() if name != self._key}
