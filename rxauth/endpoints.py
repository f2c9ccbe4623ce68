"""Where a command asks, and with which credential: from its flags, the environment and what is stored."""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from reactivex import Observable

from rxauth import __version__
from rxauth.addresses import checked_url
from rxauth.credentials import (
    Credential,
    CredentialSource,
    CredentialStore,
    FileStore,
    KimiCliStore,
    KimiCodeStore,
    MemoryStore,
    OAuthCredentials,
    PiStore,
    StaticCredentials,
)
from rxauth.errors import LoginRequired, StoreError
from rxauth.providers import PROVIDERS, OAuthApp, Protocol, Provider

if TYPE_CHECKING:
    from rxauth.events import AssistantEvent

EMBEDDED = "fake"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Everything a stream needs but the prompt.

    `next_action` is what a person does when the provider refuses the credential.
    """

    protocol: Protocol
    base_url: str
    model: str
    credentials: CredentialSource
    provider: Provider
    headers: Mapping[str, str]
    next_action: str

    def stream(self, prompt: str, max_tokens: int) -> Observable[AssistantEvent]:
        """The answer to a prompt, without the block that some providers make up for one that has no text.

        Raises:
            ValueError: the base URL is not one.
        """
        from rxauth.operators import suppress_empty_response
        from rxauth.sources import anthropic_messages, openai_chat

        request: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": prompt}]}
        if self.protocol == "anthropic-messages":
            source, request["max_tokens"] = anthropic_messages, max_tokens
        else:
            source = openai_chat
        answer = source(
            request,
            base_url=self.base_url,
            credentials=self.credentials,
            headers=self.headers,
            auth_header=self.provider.auth_header,
        )
        return answer.pipe(suppress_empty_response()) if self.provider.wraps_empty else answer


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A credential and where it is kept."""

    store: CredentialStore
    credential: Credential


@asynccontextmanager
async def embedded_endpoint(protocol: Protocol | None, model: str | None) -> AsyncIterator[Endpoint]:
    """The embedded provider on loopback, with a token that it has already invalidated."""
    from rxauth.testing import FakeProvider, Reply

    answer = "I am the embedded provider. Your token was dead when you asked; it was refreshed before you noticed."
    async with FakeProvider(answer=answer, replies=[Reply(pause=0.03)]) as fake:
        store = MemoryStore(fake.credential())
        fake.invalidate()
        protocol = protocol or "anthropic-messages"
        yield Endpoint(
            protocol=protocol,
            base_url=fake.url + ("/v1" if protocol == "openai-chat" else ""),
            model=model or "fake-model",
            credentials=OAuthCredentials(store, token_url=fake.token_url, client_id=fake.client_id),
            provider=Provider(name=EMBEDDED, base_urls={protocol: fake.url}, model="fake-model"),
            headers={},
            next_action="",
        )


async def real_endpoint(
    environ: Mapping[str, str],
    *,
    provider: str | None,
    base_url: str | None,
    protocol: Protocol | None,
    model: str | None,
    credentials: Path | None,
) -> Endpoint:
    """A provider by name, or any compatible server by its base URL.

    Raises:
        ValueError: the flags do not say where to ask.
        LoginRequired: there is no credential for it.
        StoreError: there is one that cannot be read.
    """
    if base_url:
        checked_url(base_url, "--base-url")
    preset, protocol = _preset(provider, base_url, protocol)
    return Endpoint(
        protocol=protocol,
        base_url=base_url or _base_url(preset, protocol, environ),
        model=model or preset.model,
        credentials=await _credentials(environ, preset, credentials),
        provider=preset,
        headers=identity(environ, preset),
        next_action=_next_action(environ, preset, credentials),
    )


def _preset(provider: str | None, base_url: str | None, protocol: Protocol | None) -> tuple[Provider, Protocol]:
    if provider is None:
        if not base_url:
            raise ValueError(f"Say where to ask: --provider {'|'.join(names())}, or --base-url URL.")
        for known in PROVIDERS.values():
            for spoken_there, url in known.base_urls.items():
                # Where a key goes, and which one, is known of an address that is a preset's.
                if url == base_url.rstrip("/") and protocol in (None, spoken_there):
                    return known, spoken_there
        protocol = protocol or "anthropic-messages"
        usual = next(each for each in PROVIDERS.values() if protocol in each.base_urls)
        return Provider(name=base_url, base_urls={protocol: base_url}, model=usual.model), protocol
    preset = preset_named(provider, (*names(), "or give --base-url"))
    usual_protocol = next(iter(preset.base_urls))
    protocol = protocol or usual_protocol
    if protocol not in preset.base_urls:
        spoken = " and ".join(preset.base_urls)
        raise ValueError(f"{preset.name} does not speak {protocol}; it speaks {spoken}.")
    return preset, protocol


def names() -> Sequence[str]:
    """The providers a person can name."""
    return sorted([*PROVIDERS, EMBEDDED])


def preset_named(name: str, choices: Sequence[str] = tuple(PROVIDERS)) -> Provider:
    """The provider of that name.

    Raises:
        ValueError: there is none; says which `choices` there are.
    """
    try:
        return PROVIDERS[name]
    except KeyError:
        raise ValueError(f"There is no provider named {name!r} here: choose {', '.join(choices)}.") from None


def _base_url(preset: Provider, protocol: Protocol, environ: Mapping[str, str]) -> str:
    usual = preset.base_urls[protocol]
    given = environ.get(preset.base_url_env or "", "").strip().rstrip("/")
    if not given:
        return usual
    # One variable for both formats: by the SDKs' convention OpenAI's URL ends with /v1 and Anthropic's does not.
    bare = checked_url(given, str(preset.base_url_env)).removesuffix("/v1")
    return bare + "/v1" if protocol == "openai-chat" else bare


async def _credentials(environ: Mapping[str, str], preset: Provider, file: Path | None) -> CredentialSource:
    if file is None:
        for variable in ("RXAUTH_TOKEN", preset.key_env):
            token = environ.get(variable or "", "").strip()
            if token:
                # A key that was given is never replaced by a stored one.
                try:
                    return StaticCredentials(token)
                except ValueError:
                    raise ValueError(
                        f"{variable} does not hold a token: it has characters that no header takes."
                    ) from None
    kept = await find_credential(environ, preset, file)
    if kept is None:
        raise LoginRequired(f"There is no credential for {preset.name}: {_how_to_get_one(preset, file)}.")
    app = oauth_app(environ, preset) or _app_of(kept.credential)
    if app is None or kept.credential.refresh_token is None:
        return StaticCredentials(kept.credential)
    return OAuthCredentials(
        kept.store, token_url=app.token_url, client_id=app.client_id, headers=identity(environ, preset)
    )


async def find_credential(environ: Mapping[str, str], preset: Provider, file: Path | None) -> Kept | None:
    """What is stored for a provider, in the first place that has something.

    Raises:
        StoreError: a file that was named does not exist, or one cannot be read.
    """
    own, *others = [FileStore(file, preset.name)] if file is not None else stores(environ, preset)
    credential = await own.load()
    if credential is not None:
        return Kept(store=own, credential=credential)
    if file is not None and not os.path.exists(os.path.expanduser(file)):  # noqa: ASYNC240, PTH110, PTH111 - as the store
        raise StoreError(f"There is no credential file {file}. Check --credentials.")
    trouble: StoreError | None = None
    for store in others:
        try:
            credential = await store.load()
        except StoreError as error:
            # What another program keeps badly does not hide what the next one keeps well.
            trouble = trouble or error
            continue
        if credential is not None:
            return Kept(store=store, credential=credential)
    if trouble is not None:
        raise trouble
    return None


def stores(environ: Mapping[str, str], preset: Provider) -> Sequence[CredentialStore]:
    """Where a provider's credential may be: ours first, then those of other programs."""
    own = own_store(environ, preset)
    if not preset.shared_with_kimi:
        return [own]
    try:
        return [own, PiStore(environ=environ), KimiCodeStore(environ=environ), KimiCliStore(environ=environ)]
    except RuntimeError:  # a user without a home directory, as containers have them, has no files of theirs
        return [own]


def own_store(environ: Mapping[str, str], preset: Provider) -> FileStore:
    """Where a login is kept; the only place that a logout clears."""
    return FileStore(home(environ) / "credentials.json", preset.name)


def home(environ: Mapping[str, str]) -> Path:
    """`$RXAUTH_HOME`, else `~/.rxauth`.

    Raises:
        StoreError: nobody knows where that is.
    """
    named = environ.get("RXAUTH_HOME") or "~/.rxauth"
    try:
        return Path(named).expanduser()
    except RuntimeError:
        raise StoreError(f"There is no home directory for {named}. Set RXAUTH_HOME to a directory.") from None


@dataclass(frozen=True, kw_only=True)
class Status:
    """What is known of one credential: never a token.

    `valid_for` is in seconds, negative for one that has expired; `None` if nobody said how long it lives.
    """

    provider: str
    where: str
    valid_for: float | None = None
    refreshable: bool = False
    trouble: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)

    def sentence(self) -> str:
        """For a person."""
        if self.trouble is not None:
            return f"{self.provider:<10} {self.trouble}"
        if self.valid_for is None:
            life = "of unknown lifetime"
        elif self.valid_for > 0:
            life = f"valid for {_duration(self.valid_for)}"
        else:
            life = f"expired {_duration(-self.valid_for)} ago"
        renewed = ", renews itself" if self.refreshable else ""
        return f"{self.provider:<10} {life}{renewed}; in {self.where}"


async def statuses(environ: Mapping[str, str], clock: Callable[[], float] = time.time) -> list[Status]:
    """Every credential that a stream would find, and every place that cannot be read."""
    found: list[Status] = []
    if environ.get("RXAUTH_TOKEN", "").strip():
        found.append(Status(provider="any", where="$RXAUTH_TOKEN"))
    for preset in PROVIDERS.values():
        if preset.key_env and environ.get(preset.key_env, "").strip():
            found.append(Status(provider=preset.name, where=f"${preset.key_env}"))
        for store in stores(environ, preset):
            try:
                credential = await store.load()
            except StoreError as error:
                found.append(Status(provider=preset.name, where=store.describe(), trouble=str(error)))
                continue
            if credential is not None:
                ends = credential.expires_at
                found.append(
                    Status(
                        provider=preset.name,
                        where=store.describe(),
                        valid_for=None if ends is None else round(ends - clock(), 1),
                        refreshable=credential.refresh_token is not None,
                    )
                )
    return found


def _duration(seconds: float) -> str:
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def oauth_app(environ: Mapping[str, str], preset: Provider) -> OAuthApp | None:
    """How one logs in there, with the environment's overrides.

    Raises:
        ValueError: a variable holds what is no host that tokens can go to; it is named.
    """
    app = preset.oauth
    if app is None:
        return None
    name = next((each for each in app.host_envs if environ.get(each, "").strip()), None)
    if name is None:
        return app
    host = checked_url(environ[name].strip().rstrip("/"), name)
    return replace(app, device_url=host + urlsplit(app.device_url).path, token_url=host + urlsplit(app.token_url).path)


def identity(environ: Mapping[str, str], preset: Provider) -> Mapping[str, str]:
    """The headers by which a provider tells programs and devices apart. Ours say who we are."""
    if preset.device_header_prefix is None:
        return preset.headers
    prefix = preset.device_header_prefix
    return {
        **preset.headers,
        f"{prefix}Platform": "rxauth",
        f"{prefix}Version": __version__,
        f"{prefix}Device-Name": _ascii(platform.node()),
        f"{prefix}Device-Model": _ascii(f"{platform.system()} {platform.release()} {platform.machine()}"),
        f"{prefix}Os-Version": _ascii(platform.version()),
        f"{prefix}Device-Id": _device_id(home(environ)),
    }


def _device_id(directory: Path) -> str:
    """The same each time, where it can be kept."""
    path = directory / "device_id"
    try:
        known = path.read_text().strip()
        if known.isascii() and known.isalnum() and len(known) <= 64:
            return known
    except (OSError, UnicodeDecodeError):
        pass
    made = uuid.uuid4().hex
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(made + "\n")
    except OSError:
        pass  # a home that cannot be written: another device each time, which is no reason to fail
    return made


def _ascii(text: str) -> str:
    return "".join(each for each in text if each.isascii() and each.isprintable()).strip() or "unknown"


def _app_of(credential: Credential) -> OAuthApp | None:
    """A login at a server that is no preset keeps with the credential what a refresh needs."""
    token_url, client_id = credential.extra.get("token_url"), credential.extra.get("client_id")
    if isinstance(token_url, str) and isinstance(client_id, str):
        return OAuthApp(client_id=client_id, device_url="", token_url=token_url)
    return None


def _how_to_get_one(preset: Provider, file: Path | None) -> str:
    if file is not None:
        return f"put one into {file} under the key {preset.name!r}"
    ways = [f"`rxauth login {preset.name}`"] if preset.oauth else []
    ways.append(f"set {preset.key_env or 'RXAUTH_TOKEN'}")
    return ", or ".join(ways)


def _next_action(environ: Mapping[str, str], preset: Provider, file: Path | None) -> str:
    if file is None:
        for variable in ("RXAUTH_TOKEN", preset.key_env):
            if variable and environ.get(variable, "").strip():
                return f"Check {variable}."
    return f"Run `rxauth login {preset.name}`." if preset.oauth else f"Check the credential in {file or home(environ)}."
