"""The operating system, with one call that fails."""

from __future__ import annotations

import os
from typing import Any


class FaultyFiles:
    """The module `os`, but call number `fails_at` (from 0) raises `errno`. Without it, it only counts."""

    def __init__(self, fails_at: int | None = None, errno: int = 0) -> None:
        self.fails_at = fails_at
        self.errno = errno
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        call = getattr(os, name)

        def counted(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) - 1 == self.fails_at:
                if name == "close":
                    call(*args)  # the descriptor is gone all the same
                raise OSError(self.errno, os.strerror(self.errno))
            return call(*args, **options)

        return counted if name != "geteuid" else call

    @property
    def failed(self) -> str | None:
        """The name of the call that failed."""
        return self.calls[self.fails_at] if self.fails_at is not None and self.fails_at < len(self.calls) else None


class ShortWrites:
    """The module `os`, on a system that reads and writes one byte at a time."""

    def __getattr__(self, name: str) -> Any:
        if name == "pwrite":
            return lambda fd, data, offset: os.pwrite(fd, bytes(data[:1]), offset)
        if name == "read":
            return lambda fd, length: os.read(fd, 1)
        return getattr(os, name)


class AnotherUser:
    """The module `os`, for somebody who does not own the files."""

    def __getattr__(self, name: str) -> Any:
        return (lambda: os.geteuid() + 1) if name == "geteuid" else getattr(os, name)
