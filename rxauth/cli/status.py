"""List the credentials: where they are, and how long they last. No token is shown."""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from rxauth.cli import DONE, USAGE, run, screen
from rxauth.cli.logins import Logins, oauth_app
from rxauth.cli.notes import has_ended, home
from rxauth.credentials import CredentialStore, FileStore
from rxauth.errors import StoreError
from rxauth.providers import PROVIDERS


def status(args: Namespace) -> int:
    """List the credentials that a stream would find."""
    found = run(_statuses(args))
    if args.json:
        screen.write(json.dumps({"credentials": [asdict(each) for each in found]}))
    elif not found:
        screen.write(
            "There are no credentials. Log in: `rxauth login kimi`, or set a provider's key: `rxauth stream --help`."
        )
    else:
        width = max(10, *(len(each.provider) for each in found))
        for each in found:
            if each.trouble is None:
                screen.write(f"{each.provider:<{width}} {_life(each)}; in {each.where}")
    troubles = dict.fromkeys(each.trouble for each in found if each.trouble is not None)
    for trouble in troubles:  # one broken file may be named for several providers
        screen.complain(trouble)
    return USAGE if troubles else DONE


@dataclass(frozen=True, kw_only=True)
class _Status:
    """Describe one credential.

    `valid_for` is in seconds, negative after the expiry, `None` if the lifetime is unknown. `ended`: the server has
    refused its refresh token. `trouble` says in a sentence why the credential cannot be read.
    """

    provider: str
    where: str
    valid_for: float | None = None
    refreshable: bool = False
    ended: bool = False
    trouble: str | None = None


async def _statuses(args: Namespace) -> list[_Status]:
    """Return every credential that a stream would find, and every file that cannot be read."""
    keys = {"any": "RXAUTH_TOKEN"} | {each.name: each.key_env for each in PROVIDERS.values() if each.key_env}
    found = [_Status(provider=name, where=f"${key}") for name, key in keys.items() if os.environ.get(key, "").strip()]
    stores: dict[str, tuple[str, CredentialStore]] = {}
    for provider in PROVIDERS.values():
        for store in Logins(args, provider).stores():
            stores.setdefault(store.describe(), (provider.name, store))
    for store, key in _own_stores():  # logins at a base URL, named accounts, logins at other hosts
        stores.setdefault(store.describe(), (key, store))
    found += [each for name, store in stores.values() if (each := await _status(name, store))]
    return sorted(found, key=lambda each: (each.provider != "any", each.provider))


def _own_stores() -> list[tuple[FileStore, str]]:
    """Return a store for each key of our own credential file; none if the file cannot be read."""
    path = home() / "credentials.json"
    try:
        entries = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    return [(FileStore(path, key), key) for key in entries if key] if isinstance(entries, dict) else []


async def _status(provider: str, store: CredentialStore) -> _Status | None:
    try:
        credential = await store.load()
    except StoreError as error:
        return _Status(provider=provider, where=store.describe(), trouble=str(error))
    if credential is None:
        return None
    ends, refresh_token = credential.expires_at, credential.refresh_token
    return _Status(
        provider=_at_its_server(provider, credential.token_url),
        where=store.describe(),
        valid_for=None if ends is None else round(ends - time.time(), 1),
        refreshable=refresh_token is not None,
        ended=refresh_token is not None and has_ended(refresh_token),
    )


def _at_its_server(provider: str, token_url: str | None) -> str:
    """Return the name under which a login is used: the files of one program may hold logins at several servers."""
    if token_url is None or provider not in PROVIDERS:
        return provider
    apps = {provider: oauth_app(PROVIDERS[provider])}  # at the host that the environment names
    apps |= {name: each.oauth for name, each in PROVIDERS.items() if name != provider}
    names = (name for name, app in apps.items() if app is not None and app.token_url == token_url)
    return next(names, f"{provider}@{urlsplit(token_url).netloc}")


def _life(status: _Status) -> str:
    expired = status.valid_for is not None and status.valid_for <= 0
    if status.ended:
        renewal = ", but the login has ended: log in again"
    elif status.refreshable:
        renewal = ", renews itself"
    else:
        renewal = ": log in again" if expired else ""
    if status.valid_for is None:
        return f"of unknown lifetime{renewal}"
    life = _duration(abs(status.valid_for))
    return f"expired {life} ago{renewal}" if expired else f"valid for {life}{renewal}"


def _duration(seconds: float) -> str:
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"
