"""A JSON file under a lock: read by one look, written whole, everything else in it kept as it is written."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn

import msgspec

from rxauth.credentials._stores._files import (
    Files,
    Found,
    NotOurs,
    Room,
    backups_of,
    explain,
    pause,
    read_whole,
    remove_backups,
)
from rxauth.credentials._stores._held import holding, lock_held_here
from rxauth.credentials._stores._lock import Held, Lock, Sleep
from rxauth.errors import StoreError

__all__ = ["Document", "JsonFile", "plain", "raw"]

# Every field with its JSON as it is written: foreign fields are not even parsed.
Document = dict[str, msgspec.Raw]

_READ_AGAIN_AFTER = 0.05
_READ_AGAIN = 20  # another program may be writing it
_READ_OWN_AGAIN = 3  # while its own is written in place there is a backup; it may be removed between two looks

_GROWTH = 4096  # bytes that a new credential may be longer than the one before

_log = logging.getLogger(__name__)


class JsonFile:
    """One JSON object in a file that other processes, or another program, read and write too.

    Args:
        path: the file; symlinks are followed and stay.
        lock: makes the lock to write it under.
        private: whether it is rxauth's own: then its mode becomes 0600, and an empty file is an error. Another
            program's file keeps its mode, group and indentation.
        files: the operating system's calls.
        sleep: waits for a file that is being written.
    """

    def __init__(
        self,
        path: str,
        lock: Callable[[], Lock],
        *,
        private: bool,
        files: Files = os,
        sleep: Sleep = pause,
    ) -> None:
        self.path = path
        self._lock = lock
        self._private = private
        self._files = files
        self._sleep = sleep
        self._warned = False
        self._indent: bytes | int = b"  "
        self._last_break = True

    def real_path(self) -> str:
        """Return where the file itself is, with every symlink followed, also one to a missing file."""
        try:
            return os.path.realpath(self.path)
        except OSError as error:
            self._fail("found", error)

    @asynccontextmanager
    async def locked(self, owner: object) -> AsyncIterator[None]:
        """Exclude other programs, processes, threads and tasks; inside, `owner` counts as the holder."""
        held = await self._lock().acquire()
        mine = _Mine(held)
        try:
            with holding(owner, mine):
                yield
        finally:
            if mine.room is not None:
                mine.room.release()
            held.release()

    @asynccontextmanager
    async def locked_once(self, owner: object) -> AsyncIterator[_Mine]:
        """Do the same, unless this task holds the lock already."""
        mine: _Mine | None = lock_held_here(owner)
        if mine is not None:
            yield mine
        else:
            async with self.locked(owner):
                yield lock_held_here(owner)

    async def read(self) -> Document | None:
        """Return the JSON object in the file; `None` if there is no file.

        Another program's file that is not whole is read again for about a second: it may be writing.

        Raises:
            StoreError: it cannot be read, or is no JSON object.
        """
        for _ in range(_READ_OWN_AGAIN if self._private else _READ_AGAIN):
            found, document = self._read()
            if document is not None or found is None:
                self._note_style(b"" if found is None else found.content)
                return document
            await self._sleep(_READ_AGAIN_AFTER)
        raise StoreError(
            f"The credential file {self.path} is no JSON object: it is left as it is. "
            "Mend it, or move it away and log in again."
        )

    async def reserve(self, mine: _Mine) -> None:
        """Make sure that the file can be written, and keep the room for it until the lock is released.

        Raises:
            StoreError: it cannot be written.
        """
        found, _ = self._read()
        if mine.room is not None:
            mine.room.release()
        mine.room = self._room(_GROWTH + (0 if found is None else len(found.content)))

    async def write(self, mine: _Mine, document: Document) -> None:
        """Replace the JSON object in the file.

        Raises:
            StoreError: it could not be written, or the lock was lost; what was stored is intact.
        """
        await mine.held.confirm()
        content = self._encode(document)
        room, mine.room = mine.room or self._room(len(content)), None
        try:
            room.write(content, mine.held.check)
        except OSError as error:
            self._fail("written", error)
        finally:
            room.release()

    async def remove(self, mine: _Mine) -> None:
        """Remove the file."""
        await mine.held.confirm()
        path = self.real_path()
        try:
            self._files.unlink(path)
        except OSError as error:
            self._fail("removed", error)
        remove_backups(path, self._files)

    def _room(self, size: int) -> Room:
        try:
            return Room(self.real_path(), size, self._files, private=self._private)
        except OSError as error:
            self._fail("written", error)

    def _read(self) -> tuple[Found | None, Document | None]:
        """Return the file, `None` if there is none, and the object in it, `None` if it is not whole."""
        path = self.real_path()
        try:
            found = read_whole(path, self._files, tighten=self._private)
            if found is None:
                return None, None
            self._warn(found)
        except NotOurs as error:
            raise StoreError(
                f"The credential file {self.path} {error}: it is neither read nor changed. Use another file."
            ) from None
        except OSError as error:
            self._fail("read", error)
        document = self._decode(found.content)
        for backup in backups_of(path, None if document is None else found.content):
            with suppress(NotOurs, OSError):
                copy = read_whole(backup, self._files)
                if copy is not None:
                    return copy, self._decode(copy.content)
        return found, document

    def _warn(self, found: Found) -> None:
        """Log a mode that was too open, and a hard link; once, because a file is read for every request."""
        if not self._private:
            return
        mode = stat.S_IMODE(found.status.st_mode)
        if mode & 0o077:
            now = stat.S_IMODE(self._files.stat(self.real_path()).st_mode)
            if now & 0o077 == 0 or not self._warned:
                _log.warning(
                    "The credential file %s could be read by others (mode %04o)%s",
                    self.path,
                    mode,
                    "; now it is its owner's alone." if now & 0o077 == 0 else ", and its mode cannot be changed.",
                )
            self._warned = True
        if found.status.st_nlink > 1 and not self._warned:
            _log.warning(
                "The credential file %s has another name (a hard link), which will keep an old credential.", self.path
            )
            self._warned = True

    def _decode(self, content: bytes) -> Document | None:
        content = content.removeprefix(b"\xef\xbb\xbf")
        if not self._private and not content.strip():
            return {}
        try:
            return msgspec.json.decode(content, type=Document)
        except (ValueError, RecursionError):
            return None

    def _note_style(self, content: bytes) -> None:
        first = re.search(rb"\{\r?\n([ \t]+)", content)
        one_line = b"\n" not in content.strip()
        self._indent = (0 if b'": ' in content else -1) if one_line else first[1] if first else b"  "
        self._last_break = content.endswith(b"\n") or not content

    def _encode(self, document: Document) -> bytes:
        """Write the document in the style in which it was read."""
        content = msgspec.json.encode(document)
        if isinstance(self._indent, int):
            content = msgspec.json.format(content, indent=self._indent)
        else:
            unit = self._indent
            content = msgspec.json.format(content, indent=2)
            # A string in JSON has no line break of its own, so each run of spaces at a line's start is indentation.
            content = re.sub(rb"(?m)^ +", lambda run: unit * (len(run[0]) // 2), content)
        return content + b"\n" * self._last_break

    def _fail(self, done: str, error: OSError) -> NoReturn:
        raise StoreError(
            f"The credential file {self.path} cannot be {done}: {explain(error)}. What was stored is as it was."
        ) from error


class _Mine:
    """The lock of a file while this task holds it, and the room that was reserved under it."""

    def __init__(self, held: Held) -> None:
        self.held = held
        self.room: Room | None = None


def raw(value: Any) -> msgspec.Raw:
    """Return the value as JSON. Raises ValueError or TypeError if it cannot be written as JSON."""
    return msgspec.Raw(json.dumps(value, allow_nan=False).encode())


def plain(value: msgspec.Raw) -> Any:
    """Return the value of a piece of JSON."""
    return json.loads(bytes(value))
