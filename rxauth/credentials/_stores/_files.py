"""Files that hold secrets: read without being fooled, replaced whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

__all__ = ["Files", "Found", "NotOurs", "read_private", "replace_private", "sentence"]


class Files(Protocol):
    """The operating system's calls that a store makes: the module `os`, or something that fails in its place."""

    def open(self, path: str, flags: int, mode: int = 0o777) -> int: ...
    def close(self, fd: int, /) -> None: ...
    def fstat(self, fd: int, /) -> os.stat_result: ...
    def fchmod(self, fd: int, mode: int, /) -> None: ...
    def read(self, fd: int, length: int, /) -> bytes: ...
    def write(self, fd: int, data: Any, /) -> int: ...
    def fsync(self, fd: int, /) -> None: ...
    def replace(self, src: str, dst: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def makedirs(self, name: str, mode: int = 0o777, exist_ok: bool = False) -> None: ...
    def geteuid(self) -> int: ...


class Found(NamedTuple):
    """A file's content, what it said of its own mode, and how many names it has."""

    content: bytes
    mode: int
    tightened: bool
    names: int

    def __repr__(self) -> str:
        return f"Found({len(self.content)} bytes)"  # whoever logs local variables gets no token


class NotOurs(Exception):
    """The file is no regular file, or belongs to somebody else; the text says which."""


def read_private(path: str, files: Files) -> Found | None:
    """The file at `path`; `None` if there is none. If others may read it, they no longer may.

    Raises:
        NotOurs: not a regular file, or another user's.
        OSError: it cannot be read.
    """
    try:
        # Non-blocking: a FIFO in that place would otherwise hang us.
        fd = files.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        status = files.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise NotOurs("is not a regular file")
        if status.st_uid != files.geteuid():
            raise NotOurs("belongs to another user")
        mode = stat.S_IMODE(status.st_mode)
        tightened = False
        if mode & 0o077:
            # On a read-only file system nothing can be done, and reading is no worse than before.
            with contextlib.suppress(PermissionError, OSError):
                files.fchmod(fd, mode & 0o700)
                tightened = True
        parts = []
        while part := files.read(fd, 1 << 20):
            parts.append(part)
        return Found(b"".join(parts), mode, tightened, status.st_nlink)
    finally:
        files.close(fd)


def replace_private(path: str, content: bytes, files: Files, *, last_check: Callable[[], None] = lambda: None) -> None:
    """Put `content` into the place of `path`, readable by its owner alone: whole, or not at all.

    Only whoever holds the lock of `path` may call it: the temporary file has a fixed name, so that what a killed
    process left behind is taken away by the next. `last_check` is called when only the renaming is left to do; if it
    raises, nothing is replaced.

    Raises:
        OSError: it was not replaced; there is no temporary file either.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.tmp")  # noqa: PTH118 - paths are str here, as os wants them
    with contextlib.suppress(FileNotFoundError):
        files.unlink(temporary)
    fd = files.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[files.write(fd, rest) :]
            files.fsync(fd)
        finally:
            files.close(fd)
        last_check()
        files.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            files.unlink(temporary)
        raise
    _settle(directory, files)


def _settle(directory: str, files: Files) -> None:
    """Make the new name survive a power cut. It is there already: a file system that cannot do this is no failure."""
    with contextlib.suppress(OSError):
        fd = files.open(directory or ".", os.O_RDONLY | os.O_CLOEXEC)
        try:
            files.fsync(fd)
        finally:
            files.close(fd)


def sentence(error: OSError) -> str:
    """What the operating system says of an error, without the path."""
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    if error.errno == errno.EROFS:
        return "the file system is read-only"
    return os.strerror(error.errno) if error.errno is not None else type(error).__name__
