"""A login in another program's file: facts that its file has no field for are kept elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._entry import with_extra
from rxauth.credentials._stores._files import Files
from rxauth.credentials._stores._json_store import JsonFileStore
from rxauth.credentials._stores._lock import Sleep
from rxauth.credentials._stores._notes import Notes, name_of

__all__ = ["OtherProgramStore"]


class OtherProgramStore(JsonFileStore):
    """A login in another program's file.

    Its file has no field for the token endpoint and for its Retry-After: both are kept in rxauth's own directory.

    Args:
        path: the file.
        environ: environment variables, for rxauth's own directory.
        token_url: the endpoint whose logins the program keeps there; `None` if it may be any.
        files: the operating system's calls.
        sleep: waits for the lock, and for a file that is being written.
    """

    def __init__(
        self, path: str, environ: Mapping[str, str], token_url: str | None = None, *, files: Files, sleep: Sleep
    ) -> None:
        super().__init__(path, files=files, sleep=sleep)
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
        token_url = self._notes.of(name_of(stored.refresh_token)).get("token_url", self._token_url)
        return with_extra(stored, {**stored.extra, "token_url": token_url}) if token_url else stored

    async def save(self, credential: Credential) -> None:
        """Replace what is stored; everything else in the file stays.

        Raises:
            StoreError: it could not be written, or the lock was lost; what was stored is intact.
        """
        extra = dict(credential.extra)
        token_url = extra.pop("token_url", None)
        if token_url != self._token_url:
            self._notes.put(name_of(credential.refresh_token), token_url=token_url or "")
        await super().save(with_extra(credential, extra))

    async def load_retry_at(self) -> float | None:
        """Return the Unix time before which the token endpoint is not to be asked for this login."""
        stored = await super().load()
        at = None if stored is None else self._notes.of(name_of(stored.refresh_token)).get("retry_at")
        return at if isinstance(at, int | float) else None

    async def save_retry_at(self, unix_seconds: float | None) -> None:
        """Keep that time as long as this login's refresh token is stored; `None` removes it."""
        stored = await super().load()
        if stored is not None:
            self._notes.put(name_of(stored.refresh_token), retry_at=unix_seconds)
