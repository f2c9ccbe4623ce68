"""Decide where a command asks, and with which credential: from its flags, the environment and the stored logins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rxauth.addresses import checked_url
from rxauth.cli.logins import Logins, preset_at, preset_named
from rxauth.providers import PROVIDERS, Protocol, Provider

if TYPE_CHECKING:
    from reactivex import Observable

    from rxauth.credentials import CredentialSource
    from rxauth.events import AssistantEvent

__all__ = ["Endpoint", "embedded_endpoint", "real_endpoint"]

EMBEDDED = "fake"
CHOICES = sorted([*PROVIDERS, EMBEDDED])


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """All that a stream needs except the prompt; `logins` is `None` for the embedded provider."""

    protocol: Protocol
    base_url: str
    model: str
    credentials: CredentialSource
    provider: Provider
    headers: Mapping[str, str]
    logins: Logins | None = None

    def stream(self, prompt: str, max_tokens: int) -> Observable[AssistantEvent]:
        """Return the answer to a prompt, without the block that some providers make up for an empty one.

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


@asynccontextmanager
async def embedded_endpoint(protocol: Protocol | None, model: str | None) -> AsyncIterator[Endpoint]:
    """Run the embedded provider on loopback, with a token that it has already invalidated."""
    from rxauth.credentials import MemoryStore, OAuthCredentials
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
        )


async def real_endpoint(
    environ: Mapping[str, str],
    *,
    provider: str | None,
    base_url: str | None = None,
    protocol: Protocol | None = None,
    model: str | None = None,
    credentials: Path | None = None,
    account: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Endpoint:
    """Find a provider by its name, or any compatible server by its base URL, and the credential for it.

    Raises:
        ValueError: the flags do not say where to ask.
        LoginRequired: there is no credential for it.
        StoreError: a credential file cannot be read.
    """
    if base_url:
        checked_url(base_url, "--base-url")
    preset, protocol = _preset(provider, base_url, protocol)
    logins = Logins(environ, preset, account=account, file=credentials, headers=headers)
    return Endpoint(
        protocol=protocol,
        base_url=base_url or _base_url(preset, protocol, environ),
        model=model or preset.model,
        credentials=await logins.credentials(),
        provider=preset,
        headers=logins.headers(),
        logins=logins,
    )


def _preset(provider: str | None, base_url: str | None, protocol: Protocol | None) -> tuple[Provider, Protocol]:
    if provider is None:
        if not base_url:
            raise ValueError(f"Say where to ask: --provider {'|'.join(CHOICES)}, or --base-url URL.")
        return preset_at(base_url, protocol)
    preset = preset_named(provider, (*CHOICES, "or give --base-url"))
    spoken: Protocol = next(iter(preset.base_urls)) if protocol is None else protocol
    if spoken not in preset.base_urls:
        raise ValueError(f"{preset.name} does not speak {spoken}; it speaks {' and '.join(preset.base_urls)}.")
    return preset, spoken


def _base_url(preset: Provider, protocol: Protocol, environ: Mapping[str, str]) -> str:
    usual = preset.base_urls[protocol]
    given = environ.get(preset.base_url_env or "", "").strip().rstrip("/")
    if not given:
        return usual
    # One variable for both protocols: by the SDKs' convention OpenAI's URL ends with /v1 and Anthropic's does not.
    bare = checked_url(given, str(preset.base_url_env)).removesuffix("/v1")
    return bare + "/v1" if protocol == "openai-chat" else bare
