"""A process that holds the lock of a file and does nothing else: python denying.py LOCK."""

from __future__ import annotations

import fcntl
import os
import sys


def hold(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(1, b"held\n")
    sys.stdin.read()


if __name__ == "__main__":
    hold(sys.argv[1])
