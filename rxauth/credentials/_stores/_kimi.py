"""The credentials of Kimi Code CLI and of its predecessor kimi-cli, shared with them."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._entry import credential_from, entry_from, in_order
from rxauth.credentials._stores._files import Files, directory_from, pause
from rxauth.credentials._stores._json_text import Document, plain, raw
from rxauth.credentials._stores._lock import Flock, Lock, ProcessLock
from rxauth.credentials._stores._lock_directory import LockDirectory
from rxauth.credentials._stores._other_program import OtherProgramStore

__all__ = ["KimiCliStore", "KimiCodeStore"]

# The stale time is kimi-code's own; a sign of life every second leaves room for four that come late.
_STALE = 5.0
_UPDATE = 1.0

_OAUTH_HOST = "https://auth.kimi.com"
_BASE_URL = "https://api.kimi.com/coding/v1"
_REGIONS = {
    "mainland-cn": (_OAUTH_HOST, _BASE_URL),
    "global": ("https://auth.kimi.ai", "https://api.kimi.ai/coding/v1"),
}


class _KimiStore(OtherProgramStore):
    """A login as both Kimi programs keep it: a file of its own, with RFC 6749's names, `expires_at` and `expires_in`.

    An empty access token is no login: kimi-code leaves that when the server has rejected one. An empty string, or a 0
    for a time, stands for a value that is not known.
    """

    def __init__(
        self,
        path: Path,
        oauth_host: str,
        *,
        environ: Mapping[str, str],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
        files: Files,
    ) -> None:
        super().__init__(str(path), environ, f"{oauth_host}/api/oauth/token", files=files, sleep=sleep)
        self._clock = clock

    def _credential(self, document: Document) -> Credential | None:
        fields = {name: plain(value) for name, value in document.items()}
        if fields.get("access_token") in (None, ""):
            return None
        for name in ("scope", "expires_at"):
            if fields.get(name) in ("", 0):
                del fields[name]
        return credential_from(fields)

    def _with(self, document: Document, credential: Credential) -> Document:
        before = {name: plain(value) for name, value in document.items()}
        unknown = {"access_token": "", "refresh_token": "", "expires_at": 0, "scope": "", "token_type": "Bearer"}
        fields = unknown | entry_from(credential, before)
        if "expires_in" not in fields:
            # They refresh ahead of time, by half of it.
            left = 0 if credential.expires_at is None else credential.expires_at - self._clock()
            fields["expires_in"] = max(0, round(left))
        return {name: raw(value) for name, value in in_order(before, fields).items()}

    def _without(self, document: Document) -> None:
        """Return `None`: both programs remove the file."""


class KimiCodeStore(_KimiStore):
    """Kimi Code CLI's login, under its own lock (read from its release 2.1.0).

    A login at the default hosts is in `credentials/kimi-code.json`. One at other hosts is in a file and under a lock of
    its own, named after both hosts: `credentials/kimi-code-env-<hash>.json`.

    The lock is proper-lockfile's on `oauth/<name of the file>`, so the directory `oauth/kimi-code.lock`; stale after
    5 s. With `KIMI_DISABLE_OAUTH_LOCK=1` neither program locks: then only the threads and tasks of this process are
    excluded.

    Args:
        home: its directory, `~` is expanded; default: `$KIMI_CODE_HOME`, else `~/.kimi-code`.
        oauth_host: where the login was made, as in `KIMI_CODE_OAUTH_HOST`.
        base_url: where its token is used, as in `KIMI_CODE_BASE_URL`, with `/v1` at its end if it is there.
        environ, clock, sleep, files: stand in for the process's environment, the time, waiting, and the file calls.

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
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = pause,
        files: Files = os,
    ) -> None:
        root = _home(home, environ)
        oauth_host, base_url = oauth_host.strip().rstrip("/"), base_url.rstrip("/")
        name = "kimi-code"
        if (oauth_host, base_url) != (_OAUTH_HOST, _BASE_URL):
            hosts = {"oauthHost": oauth_host, "baseUrl": base_url}
            text = json.dumps(hosts, separators=(",", ":"), ensure_ascii=False)  # as JSON.stringify writes it
            name = f"kimi-code-env-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        path = root / "credentials" / f"{name}.json"
        super().__init__(path, oauth_host, environ=environ, clock=clock, sleep=sleep, files=files)
        self._lock_path = root / "oauth" / f"{name}.lock"
        self._lock_off = environ.get("KIMI_DISABLE_OAUTH_LOCK") == "1"
        self.base_url = base_url

    @classmethod
    def of_all_regions(
        cls, home: str | os.PathLike[str] | None = None, *, environ: Mapping[str, str] = os.environ
    ) -> list[KimiCodeStore]:
        """Return a store for each place where a login may be: both regions, and the hosts in the environment."""
        hosts = dict.fromkeys(_REGIONS.values())
        oauth_host = environ.get("KIMI_CODE_OAUTH_HOST") or environ.get("KIMI_OAUTH_HOST")
        base_url = environ.get("KIMI_CODE_BASE_URL")
        if oauth_host or base_url:
            hosts[(oauth_host or _OAUTH_HOST, base_url or _BASE_URL)] = None
        stores = [cls(home, oauth_host=host, base_url=url, environ=environ) for host, url in hosts]
        return list({store.describe(): store for store in stores}.values())

    @staticmethod
    def region(home: str | os.PathLike[str] | None = None, *, environ: Mapping[str, str] = os.environ) -> str | None:
        """Return the region that its installer noted for the first login, "mainland-cn" or "global"; else `None`."""
        try:
            noted = (_home(home, environ) / "region").read_text("utf-8").strip()
        except (OSError, ValueError):
            return None
        return noted if noted in _REGIONS else None

    def _lock(self) -> Lock:
        if self._lock_off:
            return ProcessLock(self._lock_path.absolute(), sleep=self._sleep)
        return LockDirectory(self._lock_path, stale=_STALE, update=_UPDATE, clock=self._clock, sleep=self._sleep)


class KimiCliStore(_KimiStore):
    """kimi-cli's login, under its own lock: `flock` on `credentials/kimi-code.lock`.

    kimi-cli waits five to ten seconds for that lock and then refreshes without it; nothing here can stop it.

    Args:
        share_dir: its directory, `~` is expanded; default: `$KIMI_SHARE_DIR`, else `~/.kimi`.
        environ, clock, sleep, files: stand in for the process's environment, the time, waiting, and the file calls.

    >>> KimiCliStore(environ={"HOME": "/home/ann"})
    KimiCliStore('/home/ann/.kimi/credentials/kimi-code.json')
    """

    _lock_rank = 2

    def __init__(
        self,
        share_dir: str | os.PathLike[str] | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = pause,
        files: Files = os,
    ) -> None:
        root = Path(share_dir).expanduser() if share_dir else directory_from(environ, "KIMI_SHARE_DIR", ".kimi")
        path = root / "credentials" / "kimi-code.json"
        super().__init__(path, _OAUTH_HOST, environ=environ, clock=clock, sleep=sleep, files=files)
        self._lock_path = path.with_suffix(".lock")

    def _lock(self) -> Lock:
        return Flock(str(self._lock_path), sleep=self._sleep)


def _home(home: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Path:
    return Path(home).expanduser() if home is not None else directory_from(environ, "KIMI_CODE_HOME", ".kimi-code")
