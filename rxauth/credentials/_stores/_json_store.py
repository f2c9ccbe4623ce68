"""Stores whose credential is in a JSON file: rxauth's own, and other programs' files."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping

from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._entry import with_extra
from rxauth.credentials._stores._json_file import Document, JsonFile
from rxauth.credentials._stores._notes import Notes, name_of
from rxauth.errors import StoreError

__all__ = ["JsonFileStore", "OtherProgramStore"]


class JsonFileStore(ABC):
    """A credential inside a JSON file. A subclass gives the file, its lock, and how the fields are named."""

    # Locks of several stores are taken in this order, then by path: the order in which other programs take them.
    _lock_rank = 9

    def __init__(self, file: JsonFile) -> None:
        self._file = file

    @abstractmethod
    def _credential(self, document: Document) -> Credential | None:
        """Return the credential in the document. Raises ValueError if what is there is none."""

    @abstractmethod
    def _with(self, document: Document, credential: Credential) -> Document:
        """Return the document with that credential in it, and everything else as it was."""

    @abstractmethod
    def _without(self, document: Document) -> Document | None:
        """Return the document without a credential; `None` if the file is to be removed."""

    async def load(self) -> Credential | None:
        """Return what is stored; `None` if nothing is.

        Raises:
            StoreError: it cannot be read or is not a credential.
        """
        return self._decoded(await self._file.read())

    async def save(self, credential: Credential) -> None:
        """Replace what is stored; everything else in the file stays.

        Raises:
            StoreError: it could not be written, or the lock was lost; what was stored is intact.
        """
        async with self._file.locked_once(self) as mine:
            try:
                document = self._with(await self._file.read() or {}, credential)
            except (TypeError, ValueError, RecursionError):
                raise StoreError("This credential's extra fields are not JSON; nothing was stored.") from None
            await self._file.write(mine, document)

    async def delete(self) -> bool:
        """Remove what is stored, and return whether there was anything. Everything else in the file stays.

        Raises:
            StoreError: it could not be removed, or the lock was lost; what was stored is intact.
        """
        async with self._file.locked_once(self) as mine:
            document = await self._file.read()
            if document is None or not self._has_login(document):
                return False
            rest = self._without(document)
            await (self._file.remove(mine) if rest is None else self._file.write(mine, rest))
            return True

    def locked(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Exclude other programs, processes, threads and tasks.

        Raises:
            StoreError: the lock cannot be had at all.
        """
        return self._file.locked(self)

    async def check_can_save(self) -> None:
        """Make sure that `save` will succeed, and keep room for it on the disk while the lock is held.

        Raises:
            StoreError: the file could not be written; the text says what to do.
        """
        async with self._file.locked_once(self) as mine:
            await self._file.reserve(mine)

    @property
    def lock_order(self) -> tuple[int, str]:
        """Where this store's lock stands in the order in which several are taken; equal for one and the same lock."""
        return self._lock_rank, self._file.real_path()

    def describe(self) -> str:
        """Return the path of the file."""
        return self._file.path

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()!r})"

    def _has_login(self, document: Document) -> bool:
        return self._decoded(document) is not None

    def _decoded(self, document: Document | None) -> Credential | None:
        try:
            return None if document is None else self._credential(document)
        except (ValueError, RecursionError) as error:
            raise StoreError(
                f"What stands in {self.describe()} is no credential: {error}. Log in again, or mend the file."
            ) from None


class OtherProgramStore(JsonFileStore):
    """A login in another program's file.

    Its file has no field for the token endpoint and for its Retry-After: both are kept in rxauth's own directory.

    Args:
        file: the file.
        environ: environment variables, for rxauth's own directory.
        token_url: the endpoint whose logins the program keeps there; `None` if it may be any.
    """

    def __init__(self, file: JsonFile, environ: Mapping[str, str], token_url: str | None = None) -> None:
        super().__init__(file)
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
