"""A credential in a JSON file under a lock: read by one look, written whole, everything else in it kept."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, TypedDict

import msgspec

from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._entry import credential_from, entry_from
from rxauth.credentials._stores._files import (
    Files,
    NotOurs,
    Room,
    Sleep,
    explain,
    pause,
    read_backup,
    read_whole,
    remove_backups,
)
from rxauth.credentials._stores._held import holding, locked_once
from rxauth.credentials._stores._locks import Lock
from rxauth.errors import StoreError

_READ_AGAIN_AFTER = 0.05  # s
_READ_AGAIN = 20  # times: another program may be writing its file
_READ_OWN_AGAIN = 3  # times: while our own is written in place there is a backup, which may go away between two looks

_GROWTH = 2048  # bytes that a new credential may be longer than the one before

_log = logging.getLogger(__name__)

# Every field with its JSON as it is written: foreign fields are not even parsed.
Document = dict[str, msgspec.Raw]


class System(TypedDict, total=False):
    """Replacements for the operating system in a test: the Unix time, waiting, and the module `os`."""

    clock: Callable[[], float]
    sleep: Sleep
    files: Files


class JsonFileStore(ABC):
    """A login inside a JSON object in a file: in the field `key`, or without one the whole object.

    A subclass gives the lock, and says how a login is written.
    """

    # Whether the file is rxauth's own: its mode becomes 0600, and an empty one is an error. Another program's file
    # keeps its mode and group.
    _private: ClassVar[bool] = False
    # Locks of several stores are taken in this order, then by path: the order in which other programs take them.
    _lock_rank: ClassVar[int] = 9

    def __init__(
        self,
        path: str,
        key: str | None = None,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Sleep = pause,
        files: Files = os,
    ) -> None:
        self._path = path
        self._key = key
        self._clock = clock
        self._sleep = sleep
        self._files = files
        self._remarks: set[str] = set()
        self._style = _Style()

    @abstractmethod
    def _lock(self) -> Lock:
        """Return a lock to write the file under."""

    def _is_login(self, entry: Any) -> bool:
        """Return whether the program means a login by what stands in its place."""
        return entry is not None

    def _decoded(self, entry: Any) -> Credential:
        """Return the credential in a login. Raises ValueError if there is none."""
        return credential_from(entry)

    def _encoded(self, credential: Credential, before: Any) -> dict[str, Any]:
        """Return the login to write for a credential in place of another. Raises StoreError if that is to stay."""
        return entry_from(credential, before)

    async def load(self) -> Credential | None:
        """Return what is stored; `None` if nothing is.

        Raises:
            StoreError: it cannot be read or is not a credential.
        """
        document = await self._read()
        try:
            return self._login(document)
        except (ValueError, RecursionError) as error:
            raise StoreError(
                f"What stands in {self.describe()} is no credential: {error}. Log in again, or mend the file."
            ) from None

    async def save(self, credential: Credential) -> None:
        """Replace what is stored; everything else in the file stays.

        Raises:
            StoreError: it could not be written, or the lock was lost; what was stored is intact.
        """
        async with locked_once(self) as mine:
            document = await self._read()
            try:
                document = self._with(document, self._encoded(credential, self._entry(document)))
            except (TypeError, ValueError, RecursionError):
                raise StoreError("This credential's extra fields are not JSON; nothing was stored.") from None
            await self._write(mine, document)

    async def delete(self) -> bool:
        """Remove what is stored, and return whether there was anything. Everything else in the file stays.

        Raises:
            StoreError: it could not be removed, or the lock was lost; what was stored is intact.
        """
        async with locked_once(self) as mine:
            document = await self._read()
            if document is None or not self._is_login(self._entry(document)):
                return False
            if self._key is not None:
                del document[self._key]
                await self._write(mine, document)
                return True
            await mine.lock.confirm()
            try:
                self._files.unlink(self._real_path())
            except OSError as error:
                self._fail("removed", error)
            remove_backups(self._real_path(), self._files)
            return True

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Exclude other programs, processes, threads and tasks.

        Raises:
            StoreError: the lock cannot be had at all.
        """
        mine = _Mine(self._lock())
        await mine.lock.acquire()
        try:
            with holding(self, mine):
                yield
        finally:
            if mine.room is not None:
                mine.room.release()
            mine.lock.release()

    async def check_can_save(self) -> None:
        """Make sure that `save` will succeed, and keep room for it on the disk while the lock is held.

        Raises:
            StoreError: the file could not be written; the text says what to do.
        """
        async with locked_once(self) as mine:
            size = len(self._style.encode(await self._read() or {})) + _GROWTH
            if mine.room is not None:
                mine.room.release()
            mine.room = self._room(size)

    @property
    def lock_order(self) -> tuple[int, str]:
        """Where this store's lock stands in the order in which several are taken; equal for one and the same lock."""
        return self._lock_rank, self._real_path()

    def describe(self) -> str:
        """Return the path of the file."""
        return self._path

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()!r})"

    def _entry(self, document: Document | None) -> Any:
        """Return what stands in the login's place; `None` if nothing does."""
        if document is None or self._key is None:
            return document and {name: json.loads(bytes(value)) for name, value in document.items()}
        return json.loads(bytes(document[self._key])) if self._key in document else None

    def _login(self, document: Document | None) -> Credential | None:
        # In a frame of its own: a traceback with local variables gets no token.
        entry = self._entry(document)
        return self._decoded(entry) if self._is_login(entry) else None

    def _with(self, document: Document | None, login: Mapping[str, Any]) -> Document:
        """Return the document with that login in it."""
        if self._key is None:
            return {name: _raw(value) for name, value in login.items()}
        return {**(document or {}), self._key: _raw(login)}

    def _real_path(self) -> str:
        """Return where the file itself is, with every symlink followed, also one to a missing file."""
        return os.path.realpath(self._path)

    async def _read(self) -> Document | None:
        """Return the JSON object in the file; `None` if there is no file. One that is not whole is read again."""
        for _ in range(_READ_OWN_AGAIN if self._private else _READ_AGAIN):
            with suppress(ValueError):
                return self._look()
            await self._sleep(_READ_AGAIN_AFTER)
        raise StoreError(
            f"The credential file {self._path} is no JSON object: it is left as it is. "
            "Mend it, or move it away and log in again."
        )

    def _look(self) -> Document | None:
        """Return the object in the file. Raises ValueError if it is not whole."""
        path = self._real_path()
        try:
            found = read_whole(path, self._files, tighten=self._private)
        except NotOurs as error:
            raise StoreError(
                f"The credential file {self._path} {error}: it is neither read nor changed. Use another file."
            ) from None
        except OSError as error:
            self._fail("read", error)
        if found is None:
            return None
        content, status = found
        if self._private:
            self._warn(status)
        elif not content.strip():
            return {}
        document = _decode(content)
        backup = read_backup(path, None if document is None else content, self._files)
        if backup is not None:
            document = _decode(backup)
        if document is None:
            raise ValueError("It is not whole.")
        self._style = _Style.of(content)
        return document

    def _warn(self, status: os.stat_result) -> None:
        """Log what is odd about the file; once, because it is read for every request."""
        remarks = set()
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            tight = self._files.stat(self._real_path()).st_mode & 0o077 == 0
            now = "; now it is its owner's alone" if tight else ", and its mode cannot be changed"
            remarks.add(f"could be read by others (mode {mode:04o}){now}.")
        if status.st_nlink > 1:
            remarks.add("has another name (a hard link), which will keep an old credential.")
        for remark in remarks - self._remarks:
            _log.warning("The credential file %s %s", self._path, remark)
        self._remarks |= remarks

    async def _write(self, mine: _Mine, document: Document) -> None:
        await mine.lock.confirm()
        content = memoryview(self._style.encode(document))  # which a traceback with local variables does not show
        room, mine.room = mine.room or self._room(len(content)), None
        try:
            room.write(content, mine.lock.check)
        except OSError as error:
            self._fail("written", error)
        finally:
            room.release()

    def _room(self, size: int) -> Room:
        try:
            return Room(self._real_path(), size, self._files, private=self._private)
        except OSError as error:
            self._fail("written", error)

    def _fail(self, done: str, error: OSError) -> NoReturn:
        # Without the frames of the error, whose local variables are the file's content.
        raise StoreError(
            f"The credential file {self._path} cannot be {done}: {explain(error)}. What was stored is as it was."
        ) from error.with_traceback(None)


@dataclass
class _Mine:
    """The lock of a file while this task holds it, and the room that was reserved under it."""

    lock: Lock
    room: Room | None = None


def _decode(content: bytes) -> Document | None:
    """Return the object that the text is; `None` if it is none."""
    try:
        return msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"), type=Document)
    except (ValueError, RecursionError):
        return None


@dataclass(frozen=True)
class _Style:
    """The layout of a JSON file, which its program or a person chose: a diff shows the new values alone.

    Attributes:
        indent: of one level; `None` for a file of one line.
        spaced: whether a space follows a colon in that line.
        end: what follows the object.
    """

    indent: bytes | None = b"  "
    spaced: bool = True
    end: bytes = b"\n"

    @classmethod
    def of(cls, content: bytes) -> _Style:
        """Return the style of a file."""
        end = b"\n" if content.endswith(b"\n") else b""
        indent = re.search(rb"\{\r?\n([ \t]+)", content)
        if indent is None:
            is_one_line = b":" in content and b"\n" not in content.strip()
            return cls(None if is_one_line else cls.indent, b'": ' in content, end)
        return cls(indent[1], end=end)

    def encode(self, document: Document) -> bytes:
        """Write a document in this style."""
        content = msgspec.json.encode(document)
        if self.indent is None:
            return msgspec.json.format(content, indent=0 if self.spaced else -1) + self.end
        # A string in JSON has no line break of its own, so the spaces at a line's start are indentation.
        unit = self.indent
        spread = msgspec.json.format(content, indent=1)
        return re.sub(rb"(?m)^ +", lambda spaces: unit * len(spaces[0]), spread) + self.end


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value, allow_nan=False).encode())
