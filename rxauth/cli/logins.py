"""Find the login of a provider: in the environment, in our own file, in the files of other programs."""

from __future__ import annotations

import json
import os
import platform
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rxauth import __version__
from rxauth.addresses import checked_url, same_address
from rxauth.cli.home import Notes, device_id, home
from rxauth.credentials import FileStore, StaticCredentials
from rxauth.errors import LoginRequired, StoreError
from rxauth.providers import PROVIDERS, OAuthApp, Protocol, Provider

if TYPE_CHECKING:
    from rxauth.credentials import Credential, CredentialSource, CredentialStore


@dataclass(eq=False, repr=False)  # a repr would show the keys in the environment
class Logins:
    """The places that may hold a login for one provider.

    `account` tells several logins at one provider apart; only our own file has those. `file` is a credential file that
    is used instead of all others. `more_headers` go with every request.
    """

    environ: Mapping[str, str]
    preset: Provider
    account: str | None = None
    file: Path | None = None
    more_headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = self.preset.name if self.account is None else f"{self.preset.name}/{self.account}"
        self.app = oauth_app(self.environ, self.preset)
        self._only_own = self.account is not None or self.file is not None
        self._renewing: CredentialSource | None = None

    # A key in the environment -----------------------------------------------------------------------------------------

    def key(self) -> StaticCredentials | None:
        """Return the key in the environment, if there is one."""
        variable = self._key_variable()
        if variable is None:
            return None
        try:
            return StaticCredentials(self.environ[variable].strip())
        except ValueError:
            raise ValueError(f"{variable} does not hold a token: it has characters that no header takes.") from None

    def _key_variable(self) -> str | None:
        variables = () if self._only_own else ("RXAUTH_TOKEN", self.preset.key_env)
        return next((each for each in variables if each and self.environ.get(each, "").strip()), None)

    # A stored login ---------------------------------------------------------------------------------------------------

    async def credentials(self) -> CredentialSource:
        """Return the key in the environment, else the stored login."""
        return self.key() or self.renewing(await self.load())

    async def load(self) -> Credential:
        """Return the stored credential."""
        for each in self._own_stores():
            await each.load()  # a broken file of ours is reported, whatever other programs have stored
        if credential := await self.store.load():
            return credential
        if self.file is not None and not os.path.exists(os.path.expanduser(self.file)):  # noqa: ASYNC240, PTH110, PTH111 - as the store does
            raise StoreError(f"There is no credential file {self.file}. Check --credentials.")
        raise LoginRequired(f"{await self._nothing_found()}. {self._how_to_get_one()}")

    def renewing(self, credential: Credential) -> CredentialSource:
        """Return a source of the stored login's tokens, which renews them where that is possible."""
        app = self.app or _app_of(credential)
        if app is None or credential.refresh_token is None:
            return StaticCredentials(credential)
        from rxauth.credentials import OAuthCredentials

        self._renewing = OAuthCredentials(
            self.store, token_url=app.token_url, client_id=app.client_id, headers=self.headers()
        )
        return self._renewing

    def lost_login(self) -> str | None:
        """Return a sentence if the login was renewed, but the new one could not be stored."""
        unsaved = getattr(self._renewing, "unsaved", None)
        if unsaved is None:
            return None
        return f"The renewed login is lost, because it could not be stored. {unsaved} {self.next_action()}"

    async def note_end(self) -> None:
        """Note that the server has refused the refresh token of the login, for `status`."""
        if credential := await self.store.load():
            Notes(home(self.environ)).add_ended(credential.refresh_token)

    def headers(self) -> dict[str, str]:
        """Return the headers of every request: those that tell the provider who asks, and those that were given."""
        prefix = self.preset.device_header_prefix
        if prefix is None:
            return dict(self.more_headers)
        return {
            f"{prefix}Platform": "rxauth",
            f"{prefix}Version": __version__,
            f"{prefix}Device-Name": _ascii(platform.node()),
            f"{prefix}Device-Model": _ascii(f"{platform.system()} {platform.release()} {platform.machine()}"),
            f"{prefix}Os-Version": _ascii(platform.version()),
            f"{prefix}Device-Id": device_id(home(self.environ)),
            **self.more_headers,
        }

    # Its places -------------------------------------------------------------------------------------------------------

    @cached_property
    def store(self) -> CredentialStore:
        """The place of the login; several places are one."""
        stores = self.stores()
        if len(stores) == 1:
            return stores[0]
        from rxauth.credentials import LinkedStore

        return LinkedStore(stores, token_url=None if self.app is None else self.app.token_url, environ=self.environ)

    def stores(self) -> Sequence[CredentialStore]:
        """Return the places that may hold a login: ours first, then those of other programs."""
        own = self._own_stores()
        if self._only_own or not self.preset.shared_with_kimi:
            return own
        from rxauth.credentials import KimiCliStore, KimiCodeStore, PiStore

        environ = self.environ
        try:
            others = [*KimiCodeStore.of_all_regions(environ=environ), KimiCliStore(environ=environ)]
            return [*own, PiStore(environ=environ), *others]
        except RuntimeError:  # a user without a home directory, as in containers
            return own

    async def own_store(self, *, new: bool = False) -> FileStore:
        """Return the entry of our file that holds this login, or that takes a new one.

        A new login replaces none of another host, nor one that may be of another host.
        """
        first, *at_host = self._own_stores()
        if at_host and not new and await at_host[0].load() is not None:
            return at_host[0]
        credential = await first.load()
        unknown = not new or self.at_usual_host()
        return first if not at_host or credential is None or self._is_ours(credential, unknown=unknown) else at_host[0]

    def _own_stores(self) -> list[FileStore]:
        """Return one entry of our file, and a second where a login at another host may stand under the first key."""
        if self.file is not None:
            return [FileStore(self.file, self.name)]
        at_host = [] if self.app is None else [f"{self.name}@{urlsplit(self.app.token_url).netloc}"]
        return [FileStore(home(self.environ) / "credentials.json", key) for key in (self.name, *at_host)]

    def at_usual_host(self) -> bool:
        """Return whether the environment names no other login host."""
        return self.app == self.preset.oauth

    def _is_ours(self, credential: Credential, *, unknown: bool = True) -> bool:
        """Return whether this server issued the credential; `unknown` if the credential does not say who did."""
        if self.app is None or credential.token_url is None:
            return unknown
        return same_address(credential.token_url, self.app.token_url)

    # Sentences --------------------------------------------------------------------------------------------------------

    async def _nothing_found(self) -> str:
        for store in self.stores():
            with suppress(StoreError):
                credential = await store.load()
                if credential is not None and not self._is_ours(credential):
                    host = urlsplit(credential.token_url or "").netloc
                    return f"The login in {store.describe()} belongs to {host}, which is not the server you ask now"
        return f"There is no credential for {self.name}"

    def _how_to_get_one(self) -> str:
        if self.file is not None:
            return f"Put one into {self.file} under the key {self.name!r}."
        variable = self.preset.key_env or "RXAUTH_TOKEN"
        return f"Run `{self._login_command()}`, or set {variable}." if self.app else f"Set {variable}."

    def next_action(self) -> str:
        """Return the sentence that says how a person replaces a credential that the provider refuses."""
        if variable := self._key_variable():
            return f"Check {variable}."
        if self.app is not None:
            return f"Run `{self._login_command()}`."
        return f"Check the credential in {self.file or home(self.environ)}."

    def _login_command(self) -> str:
        return f"rxauth login {self.preset.name}" + (f" --account {self.account}" if self.account else "")


def logins_of(args: Namespace, preset: Provider | None = None) -> Logins:
    """Return the places for the login that the arguments name, and note them in `args.logins`."""
    if preset is None:
        preset = preset_at(args.provider)[0] if "://" in args.provider else preset_named(args.provider)
    headers = dict(getattr(args, "header", None) or {})
    logins = Logins(os.environ, preset, args.account, args.credentials, headers)
    args.logins = logins
    return logins


def preset_named(name: str, choices: Sequence[str] = (*PROVIDERS, "or give a base URL")) -> Provider:
    """Return the provider of that name; if there is none, the error lists `choices`."""
    try:
        return PROVIDERS[name]
    except KeyError:
        raise ValueError(f"There is no provider named {name!r} here: choose {', '.join(choices)}.") from None


def preset_at(base_url: str, protocol: Protocol | None = None) -> tuple[Provider, Protocol]:
    """Return the preset with this address, which knows where a key goes; else a provider without a preset."""
    for known in PROVIDERS.values():
        for spoken_there, url in known.base_urls.items():
            if url == base_url.rstrip("/") and protocol in (None, spoken_there):
                return known, spoken_there
    spoken: Protocol = protocol or "anthropic-messages"
    usual = next(each for each in PROVIDERS.values() if spoken in each.base_urls)
    return Provider(name=base_url, base_urls={spoken: base_url}, model=usual.model), spoken


def oauth_app(environ: Mapping[str, str], preset: Provider) -> OAuthApp | None:
    """Return how to log in at a provider, at the host that the environment names."""
    app = preset.oauth
    if app is None:
        return None
    name = next((each for each in app.host_envs if environ.get(each, "").strip()), None)
    if name is None:
        return app
    host = checked_url(environ[name].strip().rstrip("/"), name)
    return replace(app, device_url=host + urlsplit(app.device_url).path, token_url=host + urlsplit(app.token_url).path)


def own_stores(environ: Mapping[str, str]) -> dict[str, FileStore]:
    """Return a store for each key of our own credential file; none if the file cannot be read."""
    path = home(environ) / "credentials.json"
    try:
        entries = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return {key: FileStore(path, key) for key in entries if key} if isinstance(entries, dict) else {}


def _app_of(credential: Credential) -> OAuthApp | None:
    """Return how to renew a login at a server that is no preset, from what is stored with it."""
    client_id = credential.extra.get("client_id")
    if credential.token_url is None or not isinstance(client_id, str):
        return None
    return OAuthApp(client_id=client_id, device_url="", token_url=credential.token_url)


def _ascii(text: str) -> str:
    return "".join(each for each in text if each.isascii() and each.isprintable()).strip() or "unknown"
