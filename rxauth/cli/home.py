"""The files of the command line itself: a device id, and notes that hold hashes of tokens, never tokens."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rxauth.directories import rxauth_home
from rxauth.errors import StoreError

_KEPT = 200  # notes; the oldest are removed


def home(environ: Mapping[str, str]) -> Path:
    """Return `$RXAUTH_HOME`, else `~/.rxauth`."""
    try:
        return rxauth_home(environ)
    except RuntimeError:
        raise StoreError("There is no home directory for rxauth. Set RXAUTH_HOME to a directory.") from None


def device_id(directory: Path) -> str:
    """Return the same id each time; a new one each time where it cannot be kept."""
    path = directory / "device_id"
    with suppress(OSError, UnicodeDecodeError):
        known = path.read_text().strip()
        if known.isascii() and known.isalnum() and len(known) <= 64:
            return known
    made = uuid.uuid4().hex
    with suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(made + "\n")
    return made


class Notes:
    """Note which token each caller of `rxauth token` got last, and which refresh tokens a server has refused.

    A caller is a parent process. A note that cannot be written is missing: then `--rejected` goes by the token's age,
    and `status` does not say that a login has ended.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "notes"

    def has_printed(self, login: str, caller: int, token: str, *, before: float) -> bool | None:
        """Return whether the caller got this token last, and before that Unix time; `None` if it got none yet."""
        note = self._directory / f"{_hash(login)}-{caller}"
        try:
            return note.read_text() == _hash(token) and note.stat().st_mtime <= before
        except OSError:
            return None

    def add_printed(self, login: str, caller: int, token: str) -> None:
        """Note that the caller gets this token; the time stays that of the first time."""
        if not self.has_printed(login, caller, token, before=float("inf")):
            self._write(f"{_hash(login)}-{caller}", _hash(token))

    def has_ended(self, refresh_token: str | None) -> bool:
        """Return whether a server has refused this refresh token."""
        return refresh_token is not None and (self._directory / _hash(refresh_token)).exists()

    def add_ended(self, refresh_token: str | None) -> None:
        """Note that a server has refused this refresh token."""
        if refresh_token is not None:
            self._write(_hash(refresh_token), "")

    def _write(self, name: str, content: str) -> None:
        with suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._directory / name).write_text(content)
            for old in sorted(self._directory.iterdir(), key=lambda note: note.stat().st_mtime)[:-_KEPT]:
                old.unlink(missing_ok=True)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
