"""Credentials in a JSON file of rxauth's own, shared by processes."""

from __future__ import annotations

import os
from typing import Unpack

from rxauth.credentials._stores._entry import number
from rxauth.credentials._stores._files import name_in_home
from rxauth.credentials._stores._held import locked_once
from rxauth.credentials._stores._json_store import Document, JsonFileStore, System
from rxauth.credentials._stores._locks import Flock


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
        system: `clock`, `sleep` and `files` stand in for the time, waiting, and the file calls.

    Raises:
        ValueError: no path or no key.

    >>> import asyncio, tempfile
    >>> from rxauth import Credential
    >>> with tempfile.TemporaryDirectory() as home:
    ...     store = FileStore(home + "/auth.json", "kimi")
    ...     asyncio.run(store.save(Credential("secret")))
    ...     asyncio.run(store.load())
    Credential()
    """

    _private = True

    def __init__(self, path: str | os.PathLike[str], key: str, **system: Unpack[System]) -> None:
        if not key or not isinstance(key, str):
            raise ValueError("key is a string that is not empty.")
        text = os.fsdecode(path)
        if not text or "\0" in text:
            raise ValueError("path is the path of a file.")
        super().__init__(os.path.abspath(os.path.expanduser(text)), key, **system)

    async def load_retry_at(self) -> float | None:
        """Return the Unix time before which the token endpoint is not to be asked for this credential."""
        entry = self._entry(await self._read())
        return number(entry.get("retry_at")) if isinstance(entry, dict) else None

    async def save_retry_at(self, unix_seconds: float | None) -> None:
        """Keep that time until another credential is stored; `None` removes it."""
        async with locked_once(self) as mine:
            changed = self._with_retry_at(await self._read(), unix_seconds)
            if changed is not None:
                await self._write(mine, changed)

    def _with_retry_at(self, document: Document | None, unix_seconds: float | None) -> Document | None:
        """Return the document with that time in the login; `None` if that is no change."""
        entry = self._entry(document)
        if isinstance(entry, dict) and entry.get("retry_at") != unix_seconds:
            return self._with(document, entry | {"retry_at": unix_seconds})
        return None

    def describe(self) -> str:
        """Return the path of the file, and the key."""
        return f'{self._path} ("{self._key}")'

    def _lock(self) -> Flock:
        path = self._real_path()
        elsewhere = name_in_home(path, "locks") if os.path.exists(path) else None
        return Flock(f"{path}.lock", *([f"{elsewhere}.lock"] if elsewhere else []), sleep=self._sleep)
