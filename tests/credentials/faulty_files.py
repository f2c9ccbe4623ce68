"""The operating system's calls, with some that fail."""

from __future__ import annotations

import errno
import os
from typing import Any


class FaultyFiles:
    """The module `os`, but call number `fails_at` (from 0) raises `code`. Without it, calls are only counted.

    With `for_good` every later call fails too, as if the process were killed there: it cleans nothing up.
    """

    def __init__(self, fails_at: int | None = None, code: int = errno.EIO, *, for_good: bool = False) -> None:
        self.fails_at = fails_at
        self.code = code
        self.for_good = for_good
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        call = getattr(os, name)

        def counted(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            number = len(self.calls) - 1
            if self.fails_at is not None and (number == self.fails_at or (self.for_good and number > self.fails_at)):
                if name == "close":
                    call(*args)  # the descriptor is gone all the same
                if name == "pwrite" and number == self.fails_at:
                    fd, data, offset = args
                    call(fd, bytes(data)[: len(data) // 2], offset)  # half of it was written
                raise OSError(self.code, os.strerror(self.code))
            # No power is cut here, and each sync of a disk takes milliseconds.
            return None if name == "fsync" else call(*args, **options)

        return counted if name != "geteuid" else call

    @property
    def failed(self) -> str | None:
        """The name of the call that failed."""
        return self.calls[self.fails_at] if self.fails_at is not None and self.fails_at < len(self.calls) else None


class BindMounted(FaultyFiles):
    """A system on which the file cannot be renamed over, as one that is bind-mounted."""

    def replace(self, source: str, target: str) -> None:
        replace = self.__getattr__("replace")  # before it fails: a process may be killed here
        if not target.endswith(".bak"):
            self.calls.append("replace")
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        replace(source, target)


class Full(FaultyFiles):
    """A system on which nothing more can be written."""

    def __init__(self, code: int = errno.ENOSPC) -> None:
        super().__init__(code=code)

    def pwrite(self, fd: int, data: Any, offset: int) -> int:
        raise OSError(self.code, os.strerror(self.code))


class ShortWrites(FaultyFiles):
    """A system that reads and writes one byte at a time."""

    def pwrite(self, fd: int, data: Any, offset: int) -> int:
        return os.pwrite(fd, bytes(data[:1]), offset)

    def read(self, fd: int, length: int) -> bytes:
        return os.read(fd, 1)


class AnotherUser(FaultyFiles):
    """A system on which the files belong to someone else."""

    def geteuid(self) -> int:
        return os.geteuid() + 1
