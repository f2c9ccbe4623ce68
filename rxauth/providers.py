"""Providers by name: their addresses, protocols and logins. Data, no behaviour.

>>> from rxauth import OAuthCredentials, PiStore, anthropic_messages
>>> kimi = PROVIDERS["kimi"]
>>> credentials = OAuthCredentials(PiStore(), token_url=kimi.oauth.token_url, client_id=kimi.oauth.client_id)
>>> request = {"model": kimi.model, "max_tokens": 99, "messages": [{"role": "user", "content": "hello"}]}
>>> answer = anthropic_messages(request, base_url=kimi.base_urls["anthropic-messages"], credentials=credentials)

Another provider needs no preset: every source takes a base URL, `OAuthCredentials` a token URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

__all__ = ["ANTHROPIC", "KIMI", "KIMI_GLOBAL", "OPENAI", "PROVIDERS", "OAuthApp", "Protocol", "Provider"]

Protocol: TypeAlias = Literal["anthropic-messages", "openai-chat"]


@dataclass(frozen=True, kw_only=True)
class OAuthApp:
    """Name a public OAuth client that a provider knows (RFC 6749 section 2.1, RFC 8628).

    Args:
        client_id: as registered.
        device_url: the device authorization endpoint.
        token_url: the token endpoint.
        scope: requested at login; `None` requests none.
        host_envs: environment variables that name another host for both endpoints; the first that is set counts.
    """

    client_id: str
    device_url: str
    token_url: str
    scope: str | None = None
    host_envs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Provider:
    """Describe a provider.

    Args:
        name: its name on the command line.
        base_urls: by protocol, in the form that the official SDKs take; the first is the usual one.
        model: the usual model.
        auth_header: the header that carries a key.
        key_env: the environment variable that holds a key.
        base_url_env: the environment variable that names another base URL, with `/v1` at its end or without.
        oauth: how to log in; `None` if there are only keys.
        wraps_empty: whether it wraps an answer without text into a marker (see `suppress_empty_response`).
        shared_with_kimi: whether the credential files of pi, kimi-code and kimi-cli may hold a login for it.
        device_header_prefix: the prefix of the headers by which it tells programs and devices apart.
        regions: the names of its other deployments, by region.
    """

    name: str
    base_urls: Mapping[Protocol, str]
    model: str
    auth_header: Literal["authorization", "x-api-key"] = "authorization"
    key_env: str | None = None
    base_url_env: str | None = None
    oauth: OAuthApp | None = None
    wraps_empty: bool = False
    shared_with_kimi: bool = False
    device_header_prefix: str | None = None
    regions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def _kimi(name: str, domain: str) -> Provider:
    """Describe one of Kimi's deployments, which differ in their domain alone."""
    login, api = f"https://auth.{domain}/api/oauth", f"https://api.{domain}/coding"
    return Provider(
        name=name,
        base_urls=MappingProxyType({"anthropic-messages": api, "openai-chat": f"{api}/v1"}),
        model="kimi-for-coding",
        key_env="KIMI_API_KEY",
        base_url_env="KIMI_CODE_BASE_URL",
        oauth=OAuthApp(
            client_id="17e5f671-d194-4dfb-9706-5516cb48c098",
            device_url=f"{login}/device_authorization",
            token_url=f"{login}/token",
            host_envs=("KIMI_CODE_OAUTH_HOST", "KIMI_OAUTH_HOST"),
        ),
        wraps_empty=True,
        shared_with_kimi=True,
        device_header_prefix="X-Msh-",
        regions=MappingProxyType({"mainland-cn": "kimi", "global": "kimi-global"}),
    )


KIMI = _kimi("kimi", "kimi.com")

KIMI_GLOBAL = _kimi("kimi-global", "kimi.ai")

ANTHROPIC = Provider(
    name="anthropic",
    base_urls=MappingProxyType({"anthropic-messages": "https://api.anthropic.com"}),
    model="claude-sonnet-4-5",
    auth_header="x-api-key",
    key_env="ANTHROPIC_API_KEY",
)

OPENAI = Provider(
    name="openai",
    base_urls=MappingProxyType({"openai-chat": "https://api.openai.com/v1"}),
    model="gpt-5-mini",
    key_env="OPENAI_API_KEY",
)

PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {each.name: each for each in (ANTHROPIC, KIMI, KIMI_GLOBAL, OPENAI)}
)
