"""What the stores that live in another program's JSON file have in common."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._files import Files, Found, NotOurs, read_private, replace_private, sentence
from rxauth.credentials._stores._held import holding, lock_held_here
from rxauth.credentials._stores._lock import Held, Lock
from rxauth.errors import StoreError

# Every field with its JSON as it is written: what belongs to others is not even parsed.
Document = dict[str, msgspec.Raw]

_READ_AGAIN_AFTER = 0.05
_READ_AGAIN = 20


class JsonFileStore(ABC):
    """A credential inside a JSON file that another program reads and writes too.

    The file is replaced as a whole by a rename. A subclass says where it is, what it means and how it is locked.
    """

    def __init__(self, path: Path, *, files: Files, sleep: Callable[[float], Awaitable[object]]) -> None:
        self._path = path
        self._files = files
        self._sleep = sleep

    @abstractmethod
    def _lock(self) -> Lock:
        """The other program's lock."""

    @abstractmethod
    def _credential(self, document: Document) -> Credential | None:
        """What the document says. Raises ValueError, with words that fit behind a colon, if that is no credential."""

    @abstractmethod
    def _with(self, document: Document, credential: Credential) -> Document:
        """The document with that credential in it, and everything else as it was."""

    @abstractmethod
    def _without(self, document: Document) -> Document | None:
        """The document without a credential; `None` if nothing is left worth a file."""

    async def load(self) -> Credential | None:
        """What is stored; `None` if nothing is.

        Raises:
            StoreError: it cannot be read or is not a credential.
        """
        return self._decoded(await self._read())

    async def save(self, credential: Credential) -> None:
        """Replace what is stored; what the file holds besides stays.

        Raises:
            StoreError: it could not be written, or the lock was lost; what was there is intact.
        """
        async with self._locked_once() as held:
            try:
                document = self._with(await self._read() or {}, credential)
            except (TypeError, ValueError, RecursionError):
                raise StoreError("This credential's extra fields are not JSON; nothing was stored.") from None
            await held.confirm()
            self._write(document, held)

    async def delete(self) -> bool:
        """Remove what is stored; whether there was anything. Everything else in the file stays.

        Raises:
            StoreError: it could not be removed, or the lock was lost; what was there is intact.
        """
        async with self._locked_once() as held:
            document = await self._read()
            if document is None or self._decoded(document) is None:
                return False
            rest = self._without(document)
            await held.confirm()
            if rest is not None:
                self._write(rest, held)
                return True
            try:
                self._files.unlink(str(real_path(self._path)))
            except OSError as error:
                self._fail("removed", error)
            return True

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Excludes the other program, and the processes, threads and tasks of this one.

        Raises:
            StoreError: the lock cannot be had at all.
        """
        held = await self._lock().acquire()
        try:
            with holding(self, held):
                yield
        finally:
            held.release()

    def describe(self) -> str:
        """The path of the file."""
        return str(self._path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()!r})"

    @asynccontextmanager
    async def _locked_once(self) -> AsyncIterator[Held]:
        held: Held | None = lock_held_here(self)
        if held is not None:
            yield held
        else:
            async with self.locked():
                yield lock_held_here(self)

    async def _read(self) -> Document | None:
        """The JSON object in the file; `None` if there is no file. Half a file is read again, for about a second."""
        for _ in range(_READ_AGAIN):
            found = self._found()
            document = _object(found.content) if found is not None else {}
            if document is not None:
                return None if found is None else document
            await self._sleep(_READ_AGAIN_AFTER)
        raise StoreError(
            f"{self._path} is no JSON object: it is left as it is. Mend it, or move it away and log in again."
        )

    def _found(self) -> Found | None:
        try:
            return read_private(str(self._path), self._files)
        except NotOurs as error:
            raise StoreError(f"{self._path} {error}: it is neither read nor changed.") from None
        except OSError as error:
            self._fail("read", error)

    def _decoded(self, document: Document | None) -> Credential | None:
        try:
            return None if document is None else self._credential(document)
        except ValueError as error:
            raise StoreError(f"What stands in {self._path} is no credential: {error}. Log in again.") from None

    def _write(self, document: Document, held: Held) -> None:
        content = msgspec.json.format(msgspec.json.encode(document), indent=2)
        target = real_path(self._path)
        try:
            self._files.makedirs(str(target.parent), 0o700, True)
            replace_private(str(target), content, self._files, last_check=held.check)
        except OSError as error:
            self._fail("written", error)

    def _fail(self, done: str, error: OSError) -> NoReturn:
        raise StoreError(f"{self._path} cannot be {done}: {sentence(error)}. What was stored is as it was.") from error


def real_path(path: Path) -> Path:
    """Where the file is, with every symlink followed, also one whose target is not there yet."""
    return Path(os.path.realpath(path))


def directory_from(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """The directory that an environment variable names, `~` expanded; else `default` in the user's home."""
    # `$HOME` first, as Node does it.
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    named = environ.get(variable) or f"~/{default}"
    return home / named[2:] if named == "~" or named.startswith("~/") else Path(named)


def raw(value: Any) -> msgspec.Raw:
    """The value as JSON. Raises ValueError or TypeError for what is none."""
    return msgspec.Raw(json.dumps(value, allow_nan=False).encode())


def plain(value: msgspec.Raw) -> Any:
    """What the JSON says."""
    return json.loads(bytes(value))


def _object(content: bytes) -> Document | None:
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        return msgspec.json.decode(content, type=Document) if content.strip() else {}
    except (ValueError, RecursionError):
        return None
