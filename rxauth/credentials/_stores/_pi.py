"""The credentials of the coding agent pi (https://github.com/earendil-works/pi), shared with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._entry import credential_from, entry_from, in_order
from rxauth.credentials._stores._json_store import System
from rxauth.credentials._stores._locks import LockDirectory
from rxauth.credentials._stores._other_program import OtherProgramStore
from rxauth.directories import directory_from
from rxauth.errors import StoreError

# pi's asynchronous calls take a holder for dead after 30 s, its synchronous ones after 10 s: a sign of life every 2 s
# suits both.
_STALE = 30.0
_UPDATE = 2.0

_NAMES = {"access_token": "access", "refresh_token": "refresh", "expires_at": "expires"}  # the last in milliseconds


class PiStore(OtherProgramStore):
    """One provider's OAuth login in pi's `auth.json`, under pi's own lock (read from its release 1.5.2).

    The file is `{provider: {"type": "oauth", "access", "refresh", "expires": milliseconds, ...}}`; unknown fields and
    the other providers stay as they are. pi writes in place, so a reader may meet half a file and reads again. This
    store replaces the file by a rename instead: a process that is killed, or a disk that is full, in the middle of
    writing in place would cost the user the logins of all providers. pi opens the path anew for every access, so it
    finds the new file; and its lock is beside the path, not on the inode.

    pi asks the host in `KIMI_CODE_OAUTH_HOST` with whatever login is in its file, so the endpoint of a login is not
    known here, unless rxauth wrote it.

    Args:
        path: `auth.json`, `~` is expanded; default: in `$PI_CODING_AGENT_DIR`, else in `~/.pi/agent`.
        provider: pi's name of the provider.
        environ: stands in for the process's environment.
        system: `clock`, `sleep` and `files` stand in for the time, waiting, and the file calls.

    >>> PiStore(environ={"HOME": "/home/ann"})
    PiStore('/home/ann/.pi/agent/auth.json', provider='kimi-coding')
    """

    _lock_rank = 0  # the extension pi-provider-kimi-code takes pi's lock, then kimi-code's

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        provider: str = "kimi-coding",
        *,
        environ: Mapping[str, str] = os.environ,
        **system: Unpack[System],
    ) -> None:
        if path is None:
            path = directory_from(environ, "PI_CODING_AGENT_DIR", ".pi/agent") / "auth.json"
        super().__init__(Path(path).expanduser(), provider, token_url=None, environ=environ, **system)

    def __repr__(self) -> str:
        return f"PiStore({self.describe()!r}, provider={self._key!r})"

    def _lock(self) -> LockDirectory:
        path = Path(f"{self._real_path()}.lock")
        return LockDirectory(path, _STALE, _UPDATE, self._clock, self._sleep)

    def _is_login(self, entry: Any) -> bool:
        return isinstance(entry, dict) and entry.get("type") == "oauth"

    def _decoded(self, entry: Any) -> Credential:
        fields = {ours: entry[theirs] for ours, theirs in _NAMES.items() if entry.get(theirs)}
        return credential_from(_rest(entry) | fields)

    def _encoded(self, credential: Credential, before: Any) -> dict[str, Any]:
        if before is not None and not self._is_login(before):
            del before  # a traceback with local variables gets no key
            raise StoreError(
                f"{self.describe()} holds something else than a login for {self._key} (an API key?); "
                "it is left as it is. Remove it in pi to log in here."
            )
        before = before or {}
        fields = entry_from(credential, _rest(before))
        if fields["token_type"] == "Bearer":  # noqa: S105 - a type, not a token
            del fields["token_type"]  # pi means it, and does not write it
        written = {
            "type": "oauth",
            "access": fields.pop("access_token"),
            # pi refuses the whole file if one of these is missing. With 0 it refreshes before it uses the token.
            "refresh": fields.pop("refresh_token", ""),
            "expires": round(fields.pop("expires_at", 0) * 1000),
        }
        return in_order(before, written | _rest(fields))


def _rest(login: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in login.items() if name not in ("type", *_NAMES.values())}
