"""Remember which token `rxauth token` printed for whom, and which logins have ended: as hashes, not as tokens."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["Ended", "Printed", "process_start"]

_KEPT = 86400.0  # s for which the record of a caller is kept
_LOGINS = 50


class Printed:
    """The token that a caller got last. A caller is a parent process: the program that runs `rxauth token`.

    Args:
        home: the directory of rxauth's files.
        name: the login.
        caller: the id of the parent process.
        started: the Unix time at which the caller started this process.
    """

    def __init__(self, home: Path, name: str, caller: int, started: float) -> None:
        self._record = home / "printed" / f"{_hash(name)}-{caller}"
        self._started = started

    def is_last(self, token: str) -> bool | None:
        """Return whether the caller got that token before this call; `None` if it got none yet.

        A caller that starts several processes at once means an older token than the one that the first of them prints.
        """
        try:
            return self._record.read_text() == _hash(token) and self._record.stat().st_mtime <= self._started
        except OSError:
            return None

    def remember(self, token: str) -> None:
        """Note that the caller gets the token; where that is impossible, `--rejected` renews more than it has to."""
        with suppress(OSError):
            if _read(self._record) == _hash(token):
                return
            self._record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            for each in self._record.parent.iterdir():
                if each.stat().st_mtime < time.time() - _KEPT:
                    each.unlink(missing_ok=True)
            self._record.write_text(_hash(token))


class Ended:
    """The logins whose refresh token a server has refused.

    Args:
        home: the directory of rxauth's files.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / "ended"

    def __contains__(self, refresh_token: str | None) -> bool:
        return refresh_token is not None and _hash(refresh_token) in _read(self._path).split()

    def add(self, refresh_token: str | None) -> None:
        """Note that a server has refused this refresh token; where that is impossible, `status` does not say so."""
        if refresh_token is None or refresh_token in self:
            return
        with suppress(OSError):
            known = [*_read(self._path).split(), _hash(refresh_token)][-_LOGINS:]
            self._path.write_text("\n".join(known) + "\n")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def process_start() -> float:
    """Return the Unix time at which this process was started, or a little later."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)  # first: a pause here must not make the start earlier
        return time.time() - since_boot + (ticks + 1) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):  # not on Linux
        return time.time()
