"""Facts about logins that other programs' files have no field for, in `$RXAUTH_HOME/logins`.

A login is named by a hash of its refresh token, and has a file of that name: `{"token_url": ..., "retry_at": ...,
"next": ...}`, where `next` is the name of the login that replaced it. They are written under that login's own locks, in
few steps: a new token is not stored yet. They are an aid: where they cannot be read or written a refresh goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rxauth.credentials._stores._files import explain, rxauth_home

__all__ = ["Notes", "name_of"]

_KEPT = 200  # logins; the oldest are forgotten

_log = logging.getLogger(__name__)


class Notes:
    """Reads and writes facts about a refresh token.

    Args:
        environ: environment variables.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        home = rxauth_home(environ)
        self._directory = None if home is None else home / "logins"

    def of(self, name: str) -> dict[str, Any]:
        """Return what is known about the login of that name."""
        if self._directory is None:
            return {}
        try:
            facts = json.loads((self._directory / name).read_bytes())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def put(self, name: str, **facts: object) -> None:
        """Add facts about the login of that name; `None` removes one."""
        if self._directory is None:
            return
        known = self.of(name) | facts
        temporary = self._directory / f"{name}.tmp"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_text(json.dumps({key: value for key, value in known.items() if value is not None}))
            temporary.replace(self._directory / name)
        except OSError as error:
            _log.warning("A fact about a login could not be kept in %s: %s.", self._directory, explain(error))

    def forget_old(self) -> None:
        """Remove what is known about all but the newest logins."""
        if self._directory is None:
            return
        try:
            files = sorted(self._directory.iterdir(), key=_age)
            for file in files[:-_KEPT]:
                file.unlink()
        except OSError as error:
            _log.debug("Old facts about logins stay: %s", explain(error))


def _age(file: Path) -> int:
    return file.stat().st_mtime_ns


def name_of(refresh_token: str | None) -> str:
    """Return the name of a login: a hash, which shows nothing of the token."""
    return hashlib.sha256((refresh_token or "").encode("utf-8", "surrogatepass")).hexdigest()[:32]
