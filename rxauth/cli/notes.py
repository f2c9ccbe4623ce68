"""The files of the command line itself: a device id, and notes that hold hashes of tokens, never tokens.

A caller is a parent process of `rxauth token`. A note that cannot be written is missing: then `--rejected` goes by the
token's age, and `status` does not say that a login has ended.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from contextlib import suppress
from pathlib import Path

from rxauth.directories import rxauth_home
from rxauth.errors import StoreError

_KEPT = 200  # notes; the oldest are removed


def home() -> Path:
    """Return `$RXAUTH_HOME`, else `~/.rxauth`."""
    try:
        return rxauth_home(os.environ)
    except RuntimeError:
        raise StoreError("There is no home directory for rxauth. Set RXAUTH_HOME to a directory.") from None


def device_id() -> str:
    """Return the same id each time; a new one each time where it cannot be kept."""
    path = home() / "device_id"
    with suppress(OSError, UnicodeDecodeError):
        known = path.read_text().strip()
        if known.isascii() and known.isalnum() and len(known) <= 64:
            return known
    made = uuid.uuid4().hex
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(made + "\n")
    return made


def has_printed(login: str, caller: int, token: str, *, before: float) -> bool | None:
    """Return whether the caller got this token last, and before that Unix time; `None` if it got none yet."""
    note = _note(login, caller)
    try:
        return note.read_text() == _hash(token) and note.stat().st_mtime <= before
    except OSError:
        return None


def note_printed(login: str, caller: int, token: str) -> None:
    """Note that the caller gets this token; the time stays that of the first time."""
    if not has_printed(login, caller, token, before=float("inf")):
        _write(_note(login, caller), _hash(token))


def has_ended(refresh_token: str) -> bool:
    """Return whether a server has refused this refresh token."""
    return _note(refresh_token).exists()


def note_ended(refresh_token: str) -> None:
    """Note that a server has refused this refresh token."""
    _write(_note(refresh_token), "")


def _note(subject: str, *more: int) -> Path:
    return home() / "notes" / "-".join([_hash(subject), *map(str, more)])


def _write(note: Path, content: str) -> None:
    with suppress(OSError):
        note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        note.write_text(content)
        for old in sorted(note.parent.iterdir(), key=lambda each: each.stat().st_mtime)[:-_KEPT]:
            old.unlink(missing_ok=True)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
