"""Say which credentials there are, where they are kept, and how long they last."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from rxauth.cli.logins import Logins, home, oauth_app, own_stores
from rxauth.cli.printed import Ended
from rxauth.credentials import CredentialStore
from rxauth.errors import StoreError
from rxauth.providers import PROVIDERS

__all__ = ["Status", "statuses"]


@dataclass(frozen=True, kw_only=True)
class Status:
    """What is known of one credential, without its tokens.

    `valid_for` is in seconds, negative after the expiry, `None` if the lifetime is unknown. `ended`: the server has
    refused its refresh token. `trouble` says in a sentence why the credential cannot be read.
    """

    provider: str
    where: str
    valid_for: float | None = None
    refreshable: bool = False
    ended: bool = False
    trouble: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)

    def sentence(self, width: int = 10) -> str:
        """Return it as a line for a person; the provider's name takes `width` columns."""
        return f"{self.provider:<{width}} {self.trouble or self._life()}"

    def _life(self) -> str:
        if self.valid_for is None:
            life = "of unknown lifetime"
        elif self.valid_for > 0:
            life = f"valid for {_duration(self.valid_for)}"
        else:
            life = f"expired {_duration(-self.valid_for)} ago"
        if self.ended:
            renewal = ", but the login has ended: log in again"
        elif self.refreshable:
            renewal = ", renews itself"
        else:
            renewal = "" if self.valid_for is None or self.valid_for > 0 else ": log in again"
        return f"{life}{renewal}; in {self.where}"


async def statuses(environ: Mapping[str, str], clock: Callable[[], float] = time.time) -> list[Status]:
    """Return every credential that a stream would find, and every file that cannot be read."""
    found: list[Status] = []
    if environ.get("RXAUTH_TOKEN", "").strip():
        found.append(Status(provider="any", where="$RXAUTH_TOKEN"))
    rows: dict[str, tuple[str, CredentialStore]] = {}
    for preset in PROVIDERS.values():
        if preset.key_env and environ.get(preset.key_env, "").strip():
            found.append(Status(provider=preset.name, where=f"${preset.key_env}"))
        for store in Logins(environ, preset).stores():
            rows.setdefault(store.describe(), (preset.name, store))
    for key, store in own_stores(environ).items():  # logins at a base URL, named accounts, logins at other hosts
        rows.setdefault(store.describe(), (key, store))
    found += [each for name, store in rows.values() if (each := await _status(environ, name, store, clock))]
    return sorted(found, key=lambda each: (each.provider != "any", each.provider))


async def _status(
    environ: Mapping[str, str], provider: str, store: CredentialStore, clock: Callable[[], float]
) -> Status | None:
    try:
        credential = await store.load()
    except StoreError as error:
        return Status(provider=provider, where=store.describe(), trouble=str(error))
    if credential is None:
        return None
    ends = credential.expires_at
    return Status(
        provider=_at_its_server(environ, provider, credential.token_url),
        where=store.describe(),
        valid_for=None if ends is None else round(ends - clock(), 1),
        refreshable=credential.refresh_token is not None,
        ended=credential.refresh_token in Ended(home(environ)),
    )


def _at_its_server(environ: Mapping[str, str], provider: str, token_url: str | None) -> str:
    """Return the name under which a login is used: the files of one program may hold logins at several servers."""
    if token_url is None or provider not in PROVIDERS:
        return provider
    for name in (provider, *PROVIDERS):
        app = oauth_app(environ if name == provider else {}, PROVIDERS[name])
        if app is not None and app.token_url == token_url:
            return name
    return f"{provider}@{urlsplit(token_url).netloc}"


def _duration(seconds: float) -> str:
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"
