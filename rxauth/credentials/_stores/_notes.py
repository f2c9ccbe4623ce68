"""Facts about logins that other programs' files have no field for, in `$RXAUTH_HOME/notes.json`.

A login is named by a hash of its refresh token: `{"<hash>": {"token_url": ..., "retry_at": ..., "next": "<hash>"}}`.
The file is an aid: where it cannot be read or written, a refresh goes on without it.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from typing import Any

from rxauth.credentials._stores._files import rxauth_home
from rxauth.credentials._stores._json_file import Document, JsonFile, plain, raw
from rxauth.credentials._stores._lock import Flock
from rxauth.errors import StoreError

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
        self._path = None if home is None else str(home / "notes.json")

    async def of(self, refresh_token: str | None) -> dict[str, Any]:
        """Return what is known about that token."""
        return (await self.all()).get(name_of(refresh_token), {})

    async def all(self) -> dict[str, dict[str, Any]]:
        """Return what is known, by the tokens' hashes."""
        file = self._file()
        try:
            document = await file.read() if file is not None else None
        except StoreError as error:
            _log.debug("%s", error)
            return {}
        return {name: fact for name, fact in _plain(document).items() if isinstance(fact, dict)}

    async def put(self, refresh_token: str | None, **facts: object) -> None:
        """Add facts about that token; `None` removes one."""
        file = self._file()
        if file is None or refresh_token is None:
            return
        try:
            async with file.locked_once(self) as mine:
                known = _plain(await file.read())
                name = name_of(refresh_token)
                entry = {**(known.pop(name, None) or {}), **facts}
                known[name] = {key: value for key, value in entry.items() if value is not None}
                newest = [(key, value) for key, value in known.items() if value][-_KEPT:]
                await file.write(mine, {key: raw(value) for key, value in newest})
        except StoreError as error:
            _log.warning("A fact about a login could not be kept. %s", error)

    def _file(self) -> JsonFile | None:
        path = self._path
        return None if path is None else JsonFile(path, lambda: Flock(f"{path}.lock"), private=True)


def name_of(refresh_token: str | None) -> str:
    """Return the name of a login: a hash, which says nothing about the token."""
    return hashlib.sha256((refresh_token or "").encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _plain(document: Document | None) -> dict[str, Any]:
    return {} if document is None else {name: plain(value) for name, value in document.items()}
