"""Find the login of a provider: in the environment, in our own file, in the files of other programs."""

from __future__ import annotations

import os
import platform
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rxauth import __version__
from rxauth.addresses import checked_url, same_address
from rxauth.cli.notes import device_id, home, note_ended
from rxauth.credentials import FileStore, StaticCredentials
from rxauth.errors import LoginRequired, StoreError
from rxauth.providers import PROVIDERS, OAuthApp, Protocol, Provider

if TYPE_CHECKING:
    from rxauth.credentials import Credential, CredentialSource, CredentialStore


class Logins:
    """The places that may hold a login for one provider.

    `args.account` tells several logins at one provider apart; only our own file has those. `args.credentials` is a
    file that is used instead of all others. `args.header` goes with every request.
    """

    def __init__(self, args: Namespace, provider: Provider) -> None:
        self.provider = provider
        self.file = args.credentials
        self.name = provider.name if args.account is None else f"{provider.name}/{args.account}"
        self.app = oauth_app(provider)
        self.pace = args.pace
        self._headers = dict(args.header or ())
        self._login_command = f"rxauth login {provider.name}" + (f" --account {args.account}" if args.account else "")
        self._only_own = args.account is not None or self.file is not None
        self._renewing: CredentialSource | None = None

    async def sleep(self, seconds: float) -> None:
        """Wait, at the pace of the command."""
        import asyncio

        await asyncio.sleep(seconds * self.pace)

    def key(self) -> StaticCredentials | None:
        """Return the key in the environment, if there is one."""
        variable = self._key_variable()
        try:
            return StaticCredentials(os.environ[variable].strip()) if variable else None
        except ValueError:
            raise ValueError(f"{variable} does not hold a token: it has characters that no header takes.") from None

    def _key_variable(self) -> str | None:
        variables = () if self._only_own else ("RXAUTH_TOKEN", self.provider.key_env)
        return next((each for each in variables if each and os.environ.get(each, "").strip()), None)

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
        raise LoginRequired(await self._nothing_found())

    def renewing(self, credential: Credential) -> CredentialSource:
        """Return a source of the stored login's tokens, which renews them where that is possible."""
        # A login at a server that is unknown to us says itself how to renew it.
        token_url = self.app.token_url if self.app else credential.token_url
        client_id = self.app.client_id if self.app else credential.extra.get("client_id")
        if credential.refresh_token is None or token_url is None or not isinstance(client_id, str):
            return StaticCredentials(credential)
        from rxauth.credentials import OAuthCredentials

        self._renewing = OAuthCredentials(
            self.store, token_url=token_url, client_id=client_id, headers=self.headers(), sleep=self.sleep
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
        credential = await self.store.load()
        if credential and credential.refresh_token:
            note_ended(credential.refresh_token)

    def headers(self) -> dict[str, str]:
        """Return the headers of every request: those that tell the provider who asks, and those that were given."""
        prefix = self.provider.device_header_prefix
        if prefix is None:
            return self._headers
        device = {
            "Platform": "rxauth",
            "Version": __version__,
            "Device-Name": platform.node(),
            "Device-Model": f"{platform.system()} {platform.release()} {platform.machine()}",
            "Os-Version": platform.version(),
            "Device-Id": device_id(),
        }
        return {prefix + name: _header_text(value) for name, value in device.items()} | self._headers

    @cached_property
    def store(self) -> CredentialStore:
        """The place of the login; several places are one."""
        stores = self.stores()
        if len(stores) == 1:
            return stores[0]
        from rxauth.credentials import LinkedStore

        return LinkedStore(stores, token_url=None if self.app is None else self.app.token_url)

    def stores(self) -> Sequence[CredentialStore]:
        """Return the places that may hold a login: ours first, then those of other programs."""
        own = self._own_stores()
        if self._only_own or not self.provider.shared_with_kimi:
            return own
        from rxauth.credentials import KimiCliStore, KimiCodeStore, PiStore

        try:
            return [*own, PiStore(), *KimiCodeStore.of_all_regions(), KimiCliStore()]
        except RuntimeError:  # a user without a home directory, as in containers
            return own

    async def own_store(self, *, new: bool = False) -> FileStore:
        """Return the entry of our file that holds this login, or that takes a new one.

        A new login replaces none of another host, nor one that may be of another host.
        """
        first, last = self._own_stores()[0], self._own_stores()[-1]
        if not new and await last.load() is not None:
            return last
        credential = await first.load()
        unknown = not new or self.at_usual_host()
        return first if credential is None or self._is_ours(credential, unknown=unknown) else last

    def _own_stores(self) -> list[FileStore]:
        """Return one entry of our file, and a second where a login at another host may stand under the first key."""
        keys = [self.name]
        if self.file is None and self.app is not None:
            keys.append(f"{self.name}@{urlsplit(self.app.token_url).netloc}")
        return [FileStore(self.file or home() / "credentials.json", key, sleep=self.sleep) for key in keys]

    def at_usual_host(self) -> bool:
        """Return whether the environment names no other login host."""
        return self.app == self.provider.oauth

    def _is_ours(self, credential: Credential, *, unknown: bool = True) -> bool:
        """Return whether this server issued the credential; `unknown` if the credential does not say who did."""
        if self.app is None or credential.token_url is None:
            return unknown
        return same_address(credential.token_url, self.app.token_url)

    async def _nothing_found(self) -> str:
        if self.file is not None:
            action = f"Put one into {self.file} under the key {self.name!r}."
        else:
            variable = self.provider.key_env or "RXAUTH_TOKEN"
            action = f"Run `{self._login_command}`, or set {variable}." if self.app else f"Set {variable}."
        for store in self.stores():
            with suppress(StoreError):
                credential = await store.load()
                if credential is not None and not self._is_ours(credential):
                    host, where = urlsplit(credential.token_url or "").netloc, store.describe()
                    return f"The login in {where} belongs to {host}, which is not the server you ask now. {action}"
        return f"There is no credential for {self.name}. {action}"

    def next_action(self) -> str:
        """Return the sentence that says how a person replaces a credential that the provider refuses."""
        if variable := self._key_variable():
            return f"Check {variable}."
        if self.app is not None:
            return f"Run `{self._login_command}`."
        return f"Check the credential in {self.file or home()}."


def logins_of(args: Namespace, provider: Provider | None = None) -> Logins:
    """Return the places for the login that the arguments name, and keep them in `args.logins`."""
    if provider is None:
        provider = provider_at(args.provider) if "://" in args.provider else provider_named(args.provider)
    logins = args.logins = Logins(args, provider)
    return logins


def provider_named(name: str, choices: Sequence[str] = (*PROVIDERS, "or give a base URL")) -> Provider:
    """Return the provider of that name; if there is none, the error lists `choices`."""
    if name not in PROVIDERS:
        raise ValueError(f"There is no provider named {name!r} here: choose {', '.join(choices)}.")
    return PROVIDERS[name]


def provider_at(base_url: str, protocol: Protocol | None = None) -> Provider:
    """Return the known provider with this address, which says where a key goes; else an unknown one."""
    for provider in PROVIDERS.values():
        for spoken, url in provider.base_urls.items():
            if url == base_url.rstrip("/") and protocol in (None, spoken):
                return replace(provider, base_urls={spoken: base_url})
    spoken = protocol or "anthropic-messages"
    usual = next(each for each in PROVIDERS.values() if spoken in each.base_urls)
    return Provider(name=base_url, base_urls={spoken: base_url}, model=usual.model)


def oauth_app(provider: Provider) -> OAuthApp | None:
    """Return how to log in at a provider, at the host that the environment names."""
    app = provider.oauth
    name = next((each for each in app.host_envs if os.environ.get(each, "").strip()), None) if app else None
    if app is None or name is None:
        return app
    host = checked_url(os.environ[name].strip().rstrip("/"), name)
    return replace(app, device_url=host + urlsplit(app.device_url).path, token_url=host + urlsplit(app.token_url).path)


def _header_text(text: str) -> str:
    return "".join(each for each in text if each.isascii() and each.isprintable()).strip() or "unknown"
