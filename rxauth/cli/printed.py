"""Remember which token `rxauth token` printed for whom, and which logins have ended: as hashes, not as tokens."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["Ended", "Printed"]

_KEPT = 86400.0  # s for which a record of a caller is kept
_LOGINS = 50


class Printed:
    """The token that each caller got last. A caller is a parent process: the program that runs `rxauth token`.

    Args:
        home: the directory of rxauth's files.
        name: the login.
        caller: the id of the parent process.
    """

    def __init__(self, home: Path, name: str, caller: int) -> None:
        self._directory = home / "printed"
        self._login = _hash(name)
        self._caller = caller

    def is_last(self, token: str) -> bool | None:
        """Return whether this caller got that token last; `None` if it is unknown and another caller got it."""
        try:
            return self._record().read_text() == _hash(token)
        except OSError:
            others = self._directory.glob(f"{self._login}-*")
            return None if any(_read(each) == _hash(token) for each in others) else False

    def remember(self, token: str) -> None:
        """Note that this caller gets the token; where that is impossible, `--rejected` cannot tell tokens apart."""
        with suppress(OSError):
            if self.is_last(token) is True:
                return
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for each in self._directory.iterdir():
                if each.stat().st_mtime < time.time() - _KEPT:
                    each.unlink(missing_ok=True)
            self._record().write_text(_hash(token))

    def _record(self) -> Path:
        return self._directory / f"{self._login}-{self._caller}"


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
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write("\n".join(known) + "\n")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
