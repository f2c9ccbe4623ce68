"""Credentials in a JSON file, shared by processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import msgspec
from filelock import FileLock, Timeout

from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._entry import credential_from, entry_from
from rxauth.credentials._stores._files import Files, Found, NotOurs, read_private, replace_private, sentence
from rxauth.credentials._stores._held import held_here, holding
from rxauth.errors import StoreError

__all__ = ["FileStore"]

log = logging.getLogger(__name__)

_POLL = 0.05  # s between two looks at the lock


class FileStore:
    """Keeps a credential under one key of a JSON file that only its owner can read.

        {"kimi": {"access_token": "...", "refresh_token": "...", "expires_at": 1700000000.0, "token_type": "Bearer"}}

    A save replaces the file in one step, so a reader sees the old or the new one, whatever happens in between. Other
    keys, unknown fields and symbolic links stay as they are. The lock is `flock` on `<file>.lock`, which frees itself
    when its holder dies. All methods work on a local file and take a few milliseconds; they do so on the caller's loop.

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

    def __init__(
        self,
        path: str | os.PathLike[str],
        key: str,
        *,
        files: Files = os,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not key or not isinstance(key, str):
            raise ValueError("key is a string that is not empty.")
        text = os.fsdecode(path)
        if not text or "\0" in text:
            raise ValueError("path is the path of a file.")
        self._path = os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111 - os wants str
        self._key = key
        self._files = files
        self._sleep = sleep
        self._remarked = False

    async def load(self) -> Credential | None:
        """What is stored under the key; `None` if nothing is.

        Raises:
            StoreError: the file cannot be read, is another user's, is no JSON, or holds no credential there.
        """
        entry = self._read().get(self._key)
        if entry is None:
            return None
        try:
            return credential_from(_plain(entry))
        except (ValueError, RecursionError) as error:
            raise StoreError(
                f'What stands under "{self._key}" in {self._path} is no credential: {error}. '
                "Log in again, or mend the file."
            ) from None

    async def save(self, credential: Credential) -> None:
        """Put `credential` in the place of what is stored under the key.

        Raises:
            StoreError: it could not be written; the file is as it was.
        """
        async with self._locked_once():
            entries = self._read()
            try:
                entry = entry_from(credential, self._kept(entries))
                entries[self._key] = msgspec.Raw(json.dumps(entry, allow_nan=False).encode())
            except (TypeError, ValueError, RecursionError):
                raise StoreError("This credential's extra fields are not JSON; nothing was stored.") from None
            self._write(entries)

    async def delete(self) -> bool:
        """Remove what is stored under the key; whether there was anything. Other keys stay.

        Raises:
            StoreError: the file cannot be read or written; it is as it was.
        """
        async with self._locked_once():
            entries = self._read()
            if self._key not in entries:
                return False
            del entries[self._key]
            self._write(entries)
            return True

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Excludes other processes, threads and tasks.

        Raises:
            StoreError: there can be no lock here (a read-only directory, a file system without `flock`).
        """
        path = self._target() + ".lock"
        # One object per acquisition: a second acquisition of the same object would count as re-entry, and get in.
        lock = FileLock(path, mode=0o600, thread_local=False, fallback_to_soft=False)
        while True:
            try:
                self._files.makedirs(os.path.dirname(path), 0o700, True)  # noqa: PTH120
                # One look that does not wait, and the waiting outside: nothing here can be cancelled half-way.
                lock.acquire(blocking=False)
                break
            except Timeout:
                await self._sleep(_POLL)
            except OSError as error:
                self._fail("No lock beside the credential file", error)
        try:
            with holding(self):
                yield
        finally:
            lock.release()

    def describe(self) -> str:
        """The path of the file, and the key."""
        return f'{self._path} ("{self._key}")'

    def _locked_once(self) -> contextlib.AbstractAsyncContextManager[None]:
        return contextlib.nullcontext() if held_here(self) else self.locked()

    def _target(self) -> str:
        """The file itself, behind its symbolic links: it is what is locked and what is replaced."""
        try:
            return os.path.realpath(self._path)
        except OSError as error:
            self._fail("The credential file cannot be found", error)

    def _read(self) -> dict[str, msgspec.Raw]:
        """Every key with its JSON as it is written: what belongs to others is not even parsed."""
        try:
            found = read_private(self._target(), self._files)
        except NotOurs as error:
            raise StoreError(f"The credential file {self._path} {error}: it is neither read nor changed.") from None
        except OSError as error:
            self._fail("The credential file cannot be read", error)
        if found is None:
            return {}
        self._remark(found)
        try:
            return msgspec.json.decode(found.content, type=dict[str, msgspec.Raw])
        except (ValueError, RecursionError):
            # Not `from error`: a parser's exception may hold the whole file.
            raise StoreError(
                f"The credential file {self._path} is no JSON object: it is left as it is. "
                "Mend it, or move it away and log in again."
            ) from None

    def _remark(self, found: Found) -> None:
        """Say what is odd about the file: once, it is read for every request."""
        if found.mode & 0o077 and (found.tightened or not self._remarked):
            log.warning(
                "The credential file %s could be read by others (mode %04o)%s",
                self._path,
                found.mode,
                "; now it is its owner's alone." if found.tightened else ", and its mode cannot be changed.",
            )
            self._remarked = True
        if found.names > 1 and not self._remarked:
            log.warning(
                "The credential file %s has another name (a hard link), which will keep an old credential.", self._path
            )
            self._remarked = True

    def _kept(self, entries: dict[str, msgspec.Raw]) -> Any:
        """What stands under the key now; `None` if that is nothing worth keeping."""
        try:
            return _plain(entries[self._key])
        except (KeyError, ValueError, RecursionError):
            return None

    def _write(self, entries: dict[str, msgspec.Raw]) -> None:
        content = msgspec.json.format(msgspec.json.encode(entries), indent=2) + b"\n"
        try:
            replace_private(self._target(), content, self._files)
        except OSError as error:
            self._fail("The credential file cannot be written", error)

    def _fail(self, what: str, error: OSError) -> NoReturn:
        raise StoreError(f"{what} ({self._path}): {sentence(error)}. What was stored is as it was.") from error


def _plain(raw: msgspec.Raw) -> Any:
    return json.loads(bytes(raw))
