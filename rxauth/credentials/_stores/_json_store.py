"""A credential in a JSON file under a lock: read by one look, written whole, everything else in it kept."""

from __future__ import annotations

import logging
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import ClassVar, NoReturn

from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._files import (
    Files,
    Found,
    NotOurs,
    Room,
    backups_of,
    explain,
    read_whole,
    remove_backups,
)
from rxauth.credentials._stores._held import holding, lock_held_here
from rxauth.credentials._stores._json_text import Document, Style, decode
from rxauth.credentials._stores._lock import Held, Lock, Sleep
from rxauth.errors import StoreError

__all__ = ["JsonFileStore"]

_READ_AGAIN_AFTER = 0.05  # s
_READ_AGAIN = 20  # times: another program may be writing its file
_READ_OWN_AGAIN = 3  # times: while our own is written in place there is a backup, which may go away between two looks

_GROWTH = 2048  # bytes that a new credential may be longer than the one before

_log = logging.getLogger(__name__)


class JsonFileStore(ABC):
    """A credential inside a JSON object in a file. A subclass gives the lock and the names of the fields.

    Args:
        path: the file; symlinks are followed and stay.
        files: the operating system's calls.
        sleep: waits for a file that is being written.
    """

    # Whether the file is rxauth's own: its mode becomes 0600, and an empty one is an error. Another program's file
    # keeps its mode and group.
    _private: ClassVar[bool] = False
    # Locks of several stores are taken in this order, then by path: the order in which other programs take them.
    _lock_rank: ClassVar[int] = 9

    def __init__(self, path: str, *, files: Files, sleep: Sleep) -> None:
        self._path = path
        self._files = files
        self._sleep = sleep
        self._warned = False
        self._style = Style(b"")

    @abstractmethod
    def _lock(self) -> Lock:
        """Return the lock to write the file under."""

    @abstractmethod
    def _credential(self, document: Document) -> Credential | None:
        """Return the credential in the document. Raises ValueError if that is none."""

    @abstractmethod
    def _with(self, document: Document, credential: Credential) -> Document:
        """Return the document with that credential in it, and everything else as it was."""

    @abstractmethod
    def _without(self, document: Document) -> Document | None:
        """Return the document without a credential; `None` if the file is to be removed."""

    async def load(self) -> Credential | None:
        """Return what is stored; `None` if nothing is.

        Raises:
            StoreError: it cannot be read or is not a credential.
        """
        return self._decoded(await self._read())

    async def save(self, credential: Credential) -> None:
        """Replace what is stored; everything else in the file stays.

        Raises:
            StoreError: it could not be written, or the lock was lost; what was stored is intact.
        """
        async with self._locked_once() as mine:
            try:
                document = self._with(await self._read() or {}, credential)
            except (TypeError, ValueError, RecursionError):
                raise StoreError("This credential's extra fields are not JSON; nothing was stored.") from None
            await self._write(mine, document)

    async def delete(self) -> bool:
        """Remove what is stored, and return whether there was anything. Everything else in the file stays.

        Raises:
            StoreError: it could not be removed, or the lock was lost; what was stored is intact.
        """
        async with self._locked_once() as mine:
            document = await self._read()
            if document is None or not self._has_login(document):
                return False
            rest = self._without(document)
            if rest is not None:
                await self._write(mine, rest)
                return True
            await mine.held.confirm()
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
        held = await self._lock().acquire()
        mine = _Mine(held)
        try:
            with holding(self, mine):
                yield
        finally:
            if mine.room is not None:
                mine.room.release()
            held.release()

    async def check_can_save(self) -> None:
        """Make sure that `save` will succeed, and keep room for it on the disk while the lock is held.

        Raises:
            StoreError: the file could not be written; the text says what to do.
        """
        async with self._locked_once() as mine:
            found, _ = self._look()
            if mine.room is not None:
                mine.room.release()
            mine.room = self._room(_GROWTH + (0 if found is None else len(found.content)))

    @property
    def lock_order(self) -> tuple[int, str]:
        """Where this store's lock stands in the order in which several are taken; equal for one and the same lock."""
        return self._lock_rank, self._real_path()

    def describe(self) -> str:
        """Return the path of the file."""
        return self._path

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()!r})"

    def _has_login(self, document: Document) -> bool:
        return self._decoded(document) is not None

    def _decoded(self, document: Document | None) -> Credential | None:
        try:
            return None if document is None else self._credential(document)
        except (ValueError, RecursionError) as error:
            raise StoreError(
                f"What stands in {self.describe()} is no credential: {error}. Log in again, or mend the file."
            ) from None

    @asynccontextmanager
    async def _locked_once(self) -> AsyncIterator[_Mine]:
        mine: _Mine | None = lock_held_here(self)
        if mine is not None:
            yield mine
        else:
            async with self.locked():
                yield lock_held_here(self)

    def _real_path(self) -> str:
        """Return where the file itself is, with every symlink followed, also one to a missing file."""
        try:
            return os.path.realpath(self._path)
        except OSError as error:
            self._fail("found", error)

    async def _read(self) -> Document | None:
        """Return the JSON object in the file; `None` if there is no file. One that is not whole is read again."""
        for _ in range(_READ_OWN_AGAIN if self._private else _READ_AGAIN):
            found, document = self._look()
            if document is not None or found is None:
                self._style = Style(b"" if found is None else found.content)
                return document
            await self._sleep(_READ_AGAIN_AFTER)
        raise StoreError(
            f"The credential file {self._path} is no JSON object: it is left as it is. "
            "Mend it, or move it away and log in again."
        )

    def _look(self) -> tuple[Found | None, Document | None]:
        """Return the file, `None` if there is none, and the object in it, `None` if it is not whole."""
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
            return None, None
        if self._private:
            self._warn(found)
        elif not found.content.strip():
            return found, {}
        document = decode(found.content)
        for backup in backups_of(path, None if document is None else found.content):
            with suppress(NotOurs, OSError):
                copy = read_whole(backup, self._files)
                if copy is not None:
                    return copy, decode(copy.content)
        return found, document

    def _warn(self, found: Found) -> None:
        """Log a mode that was too open, and a hard link; once, because a file is read for every request."""
        mode = stat.S_IMODE(found.status.st_mode)
        if mode & 0o077:
            with suppress(OSError):
                tight = self._files.stat(self._real_path()).st_mode & 0o077 == 0
                if tight or not self._warned:
                    _log.warning(
                        "The credential file %s could be read by others (mode %04o)%s",
                        self._path,
                        mode,
                        "; now it is its owner's alone." if tight else ", and its mode cannot be changed.",
                    )
                self._warned = True
        if found.status.st_nlink > 1 and not self._warned:
            _log.warning(
                "The credential file %s has another name (a hard link), which will keep an old credential.", self._path
            )
            self._warned = True

    async def _write(self, mine: _Mine, document: Document) -> None:
        await mine.held.confirm()
        content = self._style.encode(document)
        room, mine.room = mine.room or self._room(len(content)), None
        try:
            room.write(content, mine.held.check)
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
        raise StoreError(
            f"The credential file {self._path} cannot be {done}: {explain(error)}. What was stored is as it was."
        ) from error


class _Mine:
    """The lock of a file while this task holds it, and the room that was reserved under it."""

    def __init__(self, held: Held) -> None:
        self.held = held
        self.room: Room | None = None
