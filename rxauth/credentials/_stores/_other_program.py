"""A login in another program's file. The facts that its file has no field for are noted in rxauth's own directory."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._entry import number, with_extra
from rxauth.credentials._stores._files import explain
from rxauth.credentials._stores._json_store import JsonFileStore, System
from rxauth.directories import rxauth_home

_KEPT = 200  # notes; the oldest are forgotten

_log = logging.getLogger(__name__)


class Notes:
    """Facts about logins, in `$RXAUTH_HOME/logins`.

    A login is named by a hash of its refresh token, and has a file of that name: `{"token_url": ..., "retry_at": ...,
    "next": ...}`, where `next` is the name of the login that replaced it. They are written under that login's own
    locks, in few steps: a new token is not stored yet. They are an aid: where they cannot be read or written a refresh
    goes on.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._directory: Path | None = None
        try:
            self._directory = rxauth_home(environ) / "logins"
        except RuntimeError:
            _log.debug("Without a home directory nothing is noted about logins.")

    @staticmethod
    def name_of(credential: Credential) -> str:
        """Return the name of a login, which shows nothing of its tokens."""
        token = credential.refresh_token or credential.access_token
        return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()[:32]

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
        known = {fact: value for fact, value in (self.of(name) | facts).items() if value is not None}
        temporary = self._directory / f"{name}.tmp"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_text(json.dumps(known))
            temporary.replace(self._directory / name)
        except OSError as error:
            _log.warning("A fact about a login could not be kept in %s: %s.", self._directory, explain(error))

    def forget_old(self) -> None:
        """Remove what is known about all but the newest logins."""
        try:
            notes = self._directory.iterdir() if self._directory else ()
            for note in sorted(notes, key=lambda note: note.stat().st_mtime_ns)[:-_KEPT]:
                note.unlink()
        except OSError as error:
            _log.debug("Old facts about logins stay: %s", explain(error))


class OtherProgramStore(JsonFileStore):
    """A login in another program's file, which has no field for the token endpoint and for its Retry-After.

    `token_url` is the endpoint whose logins the program keeps there; `None` if it may be any.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        key: str | None = None,
        *,
        token_url: str | None,
        environ: Mapping[str, str],
        **system: Unpack[System],
    ) -> None:
        super().__init__(str(path), key, **system)
        self._token_url = token_url
        self._notes = Notes(environ)

    async def load(self) -> Credential | None:
        """Return what is stored, with the endpoint that issued it in `extra["token_url"]` where that is known.

        Raises:
            StoreError: it cannot be read or is not a credential.
        """
        stored = await super().load()
        if stored is None:
            return None
        token_url = self._notes.of(Notes.name_of(stored)).get("token_url", self._token_url)
        return with_extra(stored, {**stored.extra, "token_url": token_url}) if token_url else stored

    async def save(self, credential: Credential) -> None:
        """Replace what is stored; everything else in the file stays.

        Raises:
            StoreError: it could not be written, or the lock was lost; what was stored is intact.
        """
        extra = dict(credential.extra)
        token_url = extra.pop("token_url", None)
        if token_url != self._token_url:
            self._notes.put(Notes.name_of(credential), token_url=token_url or "")
        await super().save(with_extra(credential, extra))

    async def load_retry_at(self) -> float | None:
        """Return the Unix time before which the token endpoint is not to be asked for this login."""
        stored = await super().load()
        return None if stored is None else number(self._notes.of(Notes.name_of(stored)).get("retry_at"))

    async def save_retry_at(self, unix_seconds: float | None) -> None:
        """Keep that time as long as this login's refresh token is stored; `None` removes it."""
        stored = await super().load()
        if stored is not None:
            self._notes.put(Notes.name_of(stored), retry_at=unix_seconds)
