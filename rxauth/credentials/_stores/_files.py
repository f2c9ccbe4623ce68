"""Read a file that holds secrets without being misled, and replace its content whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

from rxauth.directories import rxauth_home

Files: TypeAlias = Any  # the operating system's calls: the module `os`, or a test's stand-in that fails
Sleep: TypeAlias = Callable[[float], Awaitable[object]]

_CANNOT_RENAME = (errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS)

_NEXT_ACTIONS = {
    errno.ENOSPC: "the disk is full. Free some space and try again",
    errno.EDQUOT: "the disk quota is used up. Free some space and try again",
    errno.EROFS: "the file system is read-only. Make it writable, or keep the login in another file",
    errno.EACCES: "permission denied. Make the file and its directory writable for this user",
    errno.EPERM: "permission denied. Make the file and its directory writable for this user",
}


async def pause(seconds: float) -> None:
    """Wait as `asyncio.sleep` does. A command that only reads a token ends before asyncio would be imported."""
    import asyncio

    await asyncio.sleep(seconds)


def explain(error: OSError) -> str:
    """Return what the operating system reports, without the path, and what a person can do about it."""
    reported = type(error).__name__ if error.errno is None else os.strerror(error.errno)
    return _NEXT_ACTIONS.get(error.errno or 0, reported)


class NotOurs(Exception):
    """The file is no regular file, or belongs to another user; the text says which."""


def read_whole(path: str, files: Files, *, tighten: bool = False) -> tuple[bytes, os.stat_result] | None:
    """Return the content of a file and its status, `None` if there is none; `tighten` then removes others' permissions.

    Raises NotOurs, or OSError if it cannot be read.
    """
    try:
        # Non-blocking: a FIFO in that place would otherwise block for ever.
        fd = files.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        status = files.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise NotOurs("is not a regular file")
        if status.st_uid != files.geteuid():
            raise NotOurs("belongs to another user")
        if tighten and status.st_mode & 0o077:
            # On a read-only file system the mode stays, and reading is no worse than before.
            with contextlib.suppress(OSError):
                files.fchmod(fd, stat.S_IMODE(status.st_mode) & 0o700)
        return _read(fd, files), status
    finally:
        files.close(fd)


def read_backup(path: str, content: bytes | None, files: Files) -> bytes | None:
    """Return the complete copy that is to replace `content`, if writing `path` in place was interrupted.

    With `None`, which is content that is not whole, return the newest copy.
    """
    copies = []
    for stem in _stems(path):
        with contextlib.suppress(NotOurs, OSError):
            if found := read_whole(f"{stem}.bak", files):
                copy, _, replaced = found[0].rpartition(b"\n")
                if content is None or replaced == _digest(content):
                    copies.append((found[1].st_mtime_ns, copy))
    return max(copies)[1] if copies else None


def remove_backups(path: str, files: Files) -> None:
    """Remove those copies once `path` is whole, or is removed itself: they hold tokens."""
    for stem in _stems(path):
        with contextlib.suppress(OSError):
            files.unlink(f"{stem}.bak")


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content.strip()).hexdigest().encode()


def _stems(path: str) -> list[str]:
    """Return the beginnings of the temporary files' names: beside the file, and in rxauth's own directory."""
    beside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}")
    own = name_in_home(path, "backups")
    return [beside] if own is None else [beside, own]


def name_in_home(path: str, directory: str) -> str | None:
    """Return a name for `path` in a directory of rxauth's own; `None` for a user without a home directory."""
    with contextlib.suppress(RuntimeError):
        return str(rxauth_home() / directory / hashlib.sha256(os.fsencode(path)).hexdigest()[:32])
    return None


class Room:
    """Room on the disk for the next content of a file, taken before that content is known.

    The file is replaced by renaming a complete temporary file. A file that cannot be replaced so (it is bind-mounted,
    its directory is read-only, its group cannot be kept) is written in place, after a complete copy was stored as its
    backup: a reader takes the backup if the file is not whole, or still has the content that was to be replaced. Only
    the holder of the file's lock may use this: the temporary file has a fixed name, so that the next holder removes a
    killed one's. A private file gets the mode 0600; another keeps its mode. Each step raises OSError.
    """

    def __init__(self, path: str, size: int, files: Files, *, private: bool) -> None:
        self._path = path
        self._files = files
        self._file = self._target = self._length = -1
        self._stem = ""
        try:
            self._take(size, private)
        except BaseException:
            self.release()
            raise

    def _take(self, size: int, private: bool) -> None:
        files = self._files
        try:
            before = files.stat(self._path)
        except FileNotFoundError:
            before = None
        beside, *elsewhere = _stems(self._path)
        try:
            self._create(beside)
        except OSError as error:
            if before is None or error.errno not in _CANNOT_RENAME or not elsewhere:
                raise
            self._create(*elsewhere)
        _write(self._file, os.urandom(size), files)  # no zeros: a file system may store those without room
        files.fsync(self._file)
        if before and (self._stem != beside or _is_mount_point(self._path) or not self._like(before, private)):
            self._open_target(size)

    def _create(self, stem: str) -> None:
        files = self._files
        files.makedirs(os.path.dirname(stem), 0o700, True)
        with contextlib.suppress(FileNotFoundError):
            files.unlink(f"{stem}.tmp")
        self._file = files.open(f"{stem}.tmp", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._stem = stem

    def _like(self, before: os.stat_result, private: bool) -> bool:
        """Give the temporary file the group and mode of the file; return whether that was possible."""
        try:
            if self._files.fstat(self._file).st_gid != before.st_gid:
                self._files.fchown(self._file, -1, before.st_gid)
            self._files.fchmod(self._file, 0o600 if private else stat.S_IMODE(before.st_mode))
        except PermissionError:
            return False
        return True

    def _open_target(self, size: int) -> None:
        """Open the file for writing in place, and extend it with spaces, which JSON allows at its end."""
        files = self._files
        self._target = files.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        before = _read(self._target, files)
        self._replaced = _digest(before)
        self._length = len(before)
        if size > self._length:
            _write(self._target, b" " * (size - self._length), files, self._length)
            files.fsync(self._target)

    def write(self, content: memoryview, last_check: Callable[[], None]) -> None:
        """Make `content` the content of the file. If `last_check` raises, nothing is changed."""
        files = self._files
        _write(self._file, content, files)
        files.ftruncate(self._file, len(content))
        files.fsync(self._file)
        last_check()
        if self._target < 0:
            try:
                self._rename_to(self._path)
            except OSError as error:
                if error.errno not in _CANNOT_RENAME:
                    raise
                self._open_target(0)
        if self._target >= 0:
            self._write_in_place(content)
        remove_backups(self._path, files)

    def _rename_to(self, path: str) -> None:
        self._files.replace(f"{self._stem}.tmp", path)
        self._stem = ""
        # Make the name survive a power cut. A file system that cannot do this is no failure: the name is there.
        with contextlib.suppress(OSError):
            fd = self._files.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._files.fsync(fd)
            finally:
                self._files.close(fd)

    def _write_in_place(self, content: memoryview) -> None:
        files = self._files
        _write(self._file, b"\n" + self._replaced, files, len(content))
        files.fsync(self._file)
        self._rename_to(f"{self._stem}.bak")
        # From the first of these writes to the last, which is one byte, the file is no JSON: no reader takes a mixture
        # of old and new for the credential.
        self._length = -1
        _write(self._target, b"!", files)
        files.fsync(self._target)
        _write(self._target, content[1:], files, 1)
        files.ftruncate(self._target, len(content))
        files.fsync(self._target)
        _write(self._target, content[:1], files)
        files.fsync(self._target)

    def release(self) -> None:
        """Give the room back. Call it in any case; it raises nothing."""
        files = self._files
        with contextlib.suppress(OSError):
            if self._target >= 0 and self._length >= 0:
                files.ftruncate(self._target, self._length)
        for fd in (self._file, self._target):
            with contextlib.suppress(OSError):
                if fd >= 0:
                    files.close(fd)
        self._file = self._target = -1
        with contextlib.suppress(OSError):
            if self._stem:
                files.unlink(f"{self._stem}.tmp")
        self._stem = ""


def _read(fd: int, files: Files) -> bytes:
    parts = []
    while part := files.read(fd, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def _write(fd: int, content: bytes | memoryview, files: Files, offset: int = 0) -> None:
    rest = memoryview(content)
    while rest:
        written = files.pwrite(fd, rest, offset)
        rest, offset = rest[written:], offset + written


def _is_mount_point(path: str) -> bool:
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:  # not Linux
        return False
    escaped = os.fsencode(path)
    for sign in b"\\ \t\n":
        escaped = escaped.replace(bytes([sign]), b"\\%03o" % sign)
    return any(mount.split(b" ")[4] == escaped for mount in mounts)
