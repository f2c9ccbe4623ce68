"""Read a file that holds secrets without being misled, and replace its content whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

__all__ = [
    "Files",
    "Found",
    "NotOurs",
    "Room",
    "backups_of",
    "directory_from",
    "explain",
    "pause",
    "read_whole",
    "remove_backups",
    "rxauth_home",
]

_CANNOT_RENAME = (errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS)


async def pause(seconds: float) -> None:
    """Wait as `asyncio.sleep` does. A command that only reads a token ends before asyncio would be imported."""
    import asyncio

    await asyncio.sleep(seconds)


class Files(Protocol):
    """The operating system's calls that a store makes: the module `os`, or a test's stand-in that fails."""

    def open(self, path: str, flags: int, mode: int = 0o777) -> int: ...
    def close(self, fd: int, /) -> None: ...
    def stat(self, path: str) -> os.stat_result: ...
    def fstat(self, fd: int, /) -> os.stat_result: ...
    def fchmod(self, fd: int, mode: int, /) -> None: ...
    def fchown(self, fd: int, uid: int, gid: int, /) -> None: ...
    def read(self, fd: int, length: int, /) -> bytes: ...
    def pwrite(self, fd: int, data: Any, offset: int, /) -> int: ...
    def ftruncate(self, fd: int, length: int, /) -> None: ...
    def fsync(self, fd: int, /) -> None: ...
    def replace(self, src: str, dst: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def makedirs(self, name: str, mode: int = 0o777, exist_ok: bool = False) -> None: ...
    def geteuid(self) -> int: ...


class Found(NamedTuple):
    """A file's content and status."""

    content: bytes
    status: os.stat_result

    def __repr__(self) -> str:
        return f"Found({len(self.content)} bytes)"  # a log of local variables gets no token


class NotOurs(Exception):
    """The file is no regular file, or belongs to another user; the text says which."""


def read_whole(path: str, files: Files, *, tighten: bool = False) -> Found | None:
    """Read the file at `path`; return `None` if there is none.

    Args:
        path: the file.
        files: the operating system's calls.
        tighten: remove other users' permissions. The returned status is the one from before.

    Raises:
        NotOurs: it is not a regular file, or another user's.
        OSError: it cannot be read.
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
        return Found(_read(fd, files), status)
    finally:
        files.close(fd)


def backups_of(path: str, content: bytes | None) -> list[str]:
    """Return where a complete copy may be if writing `path` in place was interrupted.

    Args:
        path: the file.
        content: its content now, which names the copy that was to replace it. `None` finds all copies, newest first.
    """
    if content is not None:
        return [f"{stem}.{_digest(content)}.bak" for stem in _stems(path)]
    found = []
    for stem in _stems(path):
        with contextlib.suppress(OSError):
            found += [
                each for each in Path(stem).parent.iterdir() if each.match(f"{glob.escape(Path(stem).name)}.*.bak")
            ]
    return [str(each) for each in sorted(found, key=lambda each: -each.stat().st_mtime_ns)]


def remove_backups(path: str, files: Files) -> None:
    """Remove those copies once `path` is whole, or is removed itself: they hold tokens."""
    for backup in backups_of(path, None):
        with contextlib.suppress(OSError):
            files.unlink(backup)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content.strip()).hexdigest()[:16]


def _stems(path: str) -> tuple[str, ...]:
    """Return the beginnings of the temporary files' names: beside the file, and in rxauth's own directory."""
    return _stems_with(path, os.environ.get("RXAUTH_HOME"), os.environ.get("HOME"))


@functools.lru_cache(maxsize=64)  # for each load of a credential
def _stems_with(path: str, *_environ: str | None) -> tuple[str, ...]:
    directory, name = os.path.split(path)
    beside = os.path.join(directory, f".{name}")  # noqa: PTH118 - paths are str here, as os wants them
    home = rxauth_home()
    if home is None:
        return (beside,)
    return beside, str(home / "backups" / hashlib.sha256(os.fsencode(path)).hexdigest()[:32])


def rxauth_home(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return `$RXAUTH_HOME`, else `~/.rxauth`; `None` for a user without a home directory."""
    try:
        return directory_from(environ, "RXAUTH_HOME", ".rxauth")
    except RuntimeError:
        return None


def directory_from(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """Return the directory that an environment variable names, `~` expanded; else `default` in the user's home."""
    # `$HOME` first, as Node does it.
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    named = environ.get(variable) or f"~/{default}"
    return home / named[2:] if named == "~" or named.startswith("~/") else Path(named)


class Room:
    """Room on the disk for the next content of a file, taken before that content is known.

    The file is replaced by renaming a complete temporary file. A file that cannot be replaced so (it is bind-mounted,
    its directory is read-only, its group cannot be kept) is written in place, after a complete copy was stored as its
    backup: a reader takes the backup if the file is not whole, or still has the content that was to be replaced. Only
    the holder of the file's lock may use this: the temporary file has a fixed name, so that the next holder removes a
    killed one's.

    Args:
        path: the file itself, no symlink.
        size: bytes to reserve.
        files: the operating system's calls.
        private: give the file the mode 0600; else it keeps its mode.

    Raises:
        OSError: there is no room, or the file can neither be replaced nor written. Nothing has changed.
    """

    def __init__(self, path: str, size: int, files: Files, *, private: bool) -> None:
        self._path = path
        self._files = files
        self._file = self._target = self._length = -1
        self._stem = self._backup = ""
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
        stems = _stems(self._path)
        try:
            self._create(stems[0])
        except OSError as error:
            if before is None or error.errno not in _CANNOT_RENAME or len(stems) == 1:
                raise
            self._create(stems[1])
        _write(self._file, os.urandom(size), files)  # no zeros: a file system may store those without room
        files.fsync(self._file)
        if before is None:
            return
        if self._stem != stems[0] or _is_mount_point(self._path) or not self._like(before, private):
            self._open_target(size)

    def _create(self, stem: str) -> None:
        files = self._files
        files.makedirs(os.path.dirname(stem), 0o700, True)  # noqa: PTH120
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
        self._backup = f"{self._stem}.{_digest(before)}.bak"
        self._length = len(before)
        if size > self._length:
            _write(self._target, b" " * (size - self._length), files, self._length)
            files.fsync(self._target)

    def write(self, content: bytes, last_check: Callable[[], None] = lambda: None) -> None:
        """Make `content` the content of the file. If `last_check` raises, nothing is changed.

        Raises:
            OSError: it was not written.
        """
        files = self._files
        _write(self._file, content, files)
        files.ftruncate(self._file, len(content))
        files.fsync(self._file)
        last_check()
        if self._target < 0:
            try:
                files.replace(f"{self._stem}.tmp", self._path)
            except OSError as error:
                if error.errno not in _CANNOT_RENAME:
                    raise
            else:
                self._stem = ""
                _settle(self._path, files)
                remove_backups(self._path, files)
                return
        if self._target < 0:
            self._open_target(0)
        files.replace(f"{self._stem}.tmp", self._backup)
        self._stem = ""
        _settle(self._backup, files)
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
        remove_backups(self._path, files)

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


def _write(fd: int, content: bytes, files: Files, offset: int = 0) -> None:
    rest = memoryview(content)
    while rest:
        written = files.pwrite(fd, rest, offset)
        rest, offset = rest[written:], offset + written


def _settle(path: str, files: Files) -> None:
    """Make a new name survive a power cut. A file system that cannot do this is no failure: the name is there."""
    with contextlib.suppress(OSError):
        fd = files.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_CLOEXEC)  # noqa: PTH120
        try:
            files.fsync(fd)
        finally:
            files.close(fd)


def _is_mount_point(path: str) -> bool:
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:  # not Linux
        return False
    escaped = os.fsencode(path)
    for sign in b"\\ \t\n":
        escaped = escaped.replace(bytes([sign]), b"\\%03o" % sign)
    return any(mount.split(b" ")[4] == escaped for mount in mounts)


def explain(error: OSError) -> str:
    """Return what the operating system reports, without the path, and what a person can do about it."""
    if error.errno == errno.ENOSPC:
        return "the disk is full. Free some space and try again"
    if error.errno == errno.EDQUOT:
        return "the disk quota is used up. Free some space and try again"
    if error.errno == errno.EROFS:
        return "the file system is read-only. Make it writable, or keep the login in another file"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "permission denied. Make the file and its directory writable for this user"
    return os.strerror(error.errno) if error.errno is not None else type(error).__name__
