"""The credentials of Kimi Code CLI and of its predecessor kimi-cli, shared with them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._entry import credential_from, entry_from, in_order
from rxauth.credentials._stores._files import name_in_home
from rxauth.credentials._stores._json_store import System
from rxauth.credentials._stores._locks import Flock, Lock, LockDirectory
from rxauth.credentials._stores._other_program import OtherProgramStore
from rxauth.directories import directory_from

# The stale time is kimi-code's own; a sign of life every second leaves room for four that come late.
_STALE = 5.0
_UPDATE = 1.0

_OAUTH_HOST = "https://auth.kimi.com"
_BASE_URL = "https://api.kimi.com/coding/v1"
_REGIONS = {
    "mainland-cn": (_OAUTH_HOST, _BASE_URL),
    "global": ("https://auth.kimi.ai", "https://api.kimi.ai/coding/v1"),
}

# The fields that both programs read, with the value of one that is not known.
_UNKNOWN = {"access_token": "", "refresh_token": "", "expires_at": 0, "scope": "", "token_type": "Bearer"}


class _KimiStore(OtherProgramStore):
    """A login as both Kimi programs keep it: a file of its own, with RFC 6749's names, `expires_at` and `expires_in`.

    An empty access token is no login: kimi-code leaves that when the server has rejected one.
    """

    def _is_login(self, entry: Any) -> bool:
        return bool(entry) and entry.get("access_token") not in (None, "")

    def _decoded(self, entry: Any) -> Credential:
        return credential_from({name: value for name, value in entry.items() if value != _UNKNOWN.get(name, ...)})

    def _encoded(self, credential: Credential, before: Any) -> dict[str, Any]:
        # They refresh ahead of time, by half of `expires_in`.
        left = 0 if credential.expires_at is None else credential.expires_at - self._clock()
        lifetime = {"expires_in": max(0, round(left))}
        return in_order(before or {}, _UNKNOWN | lifetime | entry_from(credential, before))


class KimiCodeStore(_KimiStore):
    """Kimi Code CLI's login, under its own lock (read from its release 2.1.0).

    A login at the default hosts is in `credentials/kimi-code.json`. One at other hosts is in a file and under a lock of
    its own, named after both hosts: `credentials/kimi-code-env-<hash>.json`.

    The lock is proper-lockfile's on `oauth/<name of the file>`, so the directory `oauth/kimi-code.lock`; stale after
    5 s. With `KIMI_DISABLE_OAUTH_LOCK=1` kimi-code takes no lock, and this store `flock` on a file of rxauth's own.

    Args:
        home: its directory, `~` is expanded; default: `$KIMI_CODE_HOME`, else `~/.kimi-code`.
        oauth_host: where the login was made, as in `KIMI_CODE_OAUTH_HOST`.
        base_url: where its token is used, as in `KIMI_CODE_BASE_URL`, with `/v1` at its end if it is there.
        environ: stands in for the process's environment.
        system: `clock`, `sleep` and `files` stand in for the time, waiting, and the file calls.

    >>> KimiCodeStore(environ={"HOME": "/home/ann"})
    KimiCodeStore('/home/ann/.kimi-code/credentials/kimi-code.json')
    """

    _lock_rank = 1

    def __init__(
        self,
        home: str | os.PathLike[str] | None = None,
        *,
        oauth_host: str = _OAUTH_HOST,
        base_url: str = _BASE_URL,
        environ: Mapping[str, str] = os.environ,
        **system: Unpack[System],
    ) -> None:
        root = _root(home, environ)
        oauth_host, base_url = oauth_host.strip().rstrip("/"), base_url.rstrip("/")
        name = "kimi-code"
        if (oauth_host, base_url) != (_OAUTH_HOST, _BASE_URL):
            hosts = {"oauthHost": oauth_host, "baseUrl": base_url}
            text = json.dumps(hosts, separators=(",", ":"), ensure_ascii=False)  # as JSON.stringify writes it
            name = f"kimi-code-env-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        token_url = f"{oauth_host}/api/oauth/token"
        super().__init__(root / "credentials" / f"{name}.json", token_url=token_url, environ=environ, **system)
        self._lock_path = root / "oauth" / f"{name}.lock"
        self._lock_off = environ.get("KIMI_DISABLE_OAUTH_LOCK") == "1"
        self.base_url = base_url

    @classmethod
    def of_all_regions(
        cls, home: str | os.PathLike[str] | None = None, *, environ: Mapping[str, str] = os.environ
    ) -> list[KimiCodeStore]:
        """Return a store for each place where a login may be: both regions, and the hosts in the environment."""
        oauth_host = environ.get("KIMI_CODE_OAUTH_HOST") or environ.get("KIMI_OAUTH_HOST") or _OAUTH_HOST
        hosts = [*_REGIONS.values(), (oauth_host, environ.get("KIMI_CODE_BASE_URL") or _BASE_URL)]
        stores = [cls(home, oauth_host=host, base_url=url, environ=environ) for host, url in hosts]
        return list({store.describe(): store for store in stores}.values())

    @staticmethod
    def region(home: str | os.PathLike[str] | None = None, *, environ: Mapping[str, str] = os.environ) -> str | None:
        """Return the region that its installer noted for the first login, "mainland-cn" or "global"; else `None`."""
        try:
            noted = (_root(home, environ) / "region").read_text("utf-8").strip()
        except (OSError, ValueError):
            return None
        return noted if noted in _REGIONS else None

    def _lock(self) -> Lock:
        if self._lock_off:
            path = self._real_path()
            return Flock(f"{name_in_home(path, 'locks') or path}.lock", sleep=self._sleep)
        return LockDirectory(self._lock_path, _STALE, _UPDATE, self._clock, self._sleep)


class KimiCliStore(_KimiStore):
    """kimi-cli's login, under its own lock: `flock` on `credentials/kimi-code.lock`.

    kimi-cli waits five to ten seconds for that lock and then refreshes without it; nothing here can stop it.

    Args:
        share_dir: its directory, `~` is expanded; default: `$KIMI_SHARE_DIR`, else `~/.kimi`.
        environ: stands in for the process's environment.
        system: `clock`, `sleep` and `files` stand in for the time, waiting, and the file calls.

    >>> KimiCliStore(environ={"HOME": "/home/ann"})
    KimiCliStore('/home/ann/.kimi/credentials/kimi-code.json')
    """

    _lock_rank = 2

    def __init__(
        self,
        share_dir: str | os.PathLike[str] | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        **system: Unpack[System],
    ) -> None:
        root = Path(share_dir).expanduser() if share_dir else directory_from(environ, "KIMI_SHARE_DIR", ".kimi")
        path = root / "credentials" / "kimi-code.json"
        super().__init__(path, token_url=f"{_OAUTH_HOST}/api/oauth/token", environ=environ, **system)
        self._lock_path = path.with_suffix(".lock")

    def _lock(self) -> Lock:
        return Flock(str(self._lock_path), sleep=self._sleep)


def _root(home: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Path:
    return Path(home).expanduser() if home is not None else directory_from(environ, "KIMI_CODE_HOME", ".kimi-code")
