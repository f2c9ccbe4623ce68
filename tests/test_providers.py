"""The presets: data that cannot be changed, and the facts that they state."""

from __future__ import annotations

import dataclasses
from typing import Any
from urllib.parse import urlsplit

import pytest

from rxauth.providers import ANTHROPIC, KIMI, KIMI_GLOBAL, OPENAI, PROVIDERS, OAuthApp, Provider

every_preset = pytest.mark.parametrize("preset", PROVIDERS.values(), ids=PROVIDERS)


def addresses(preset: Provider) -> list[str]:
    app = preset.oauth
    return [*preset.base_urls.values(), *([app.device_url, app.token_url] if app else [])]


def test_these_are_known() -> None:
    assert dict(PROVIDERS) == {"anthropic": ANTHROPIC, "kimi": KIMI, "kimi-global": KIMI_GLOBAL, "openai": OPENAI}


@every_preset
def test_each_is_found_by_its_name(preset: Provider) -> None:
    assert PROVIDERS[preset.name] is preset


@every_preset
def test_every_address_is_https_and_nothing_but_an_address(preset: Provider) -> None:
    for address in addresses(preset):
        parts = urlsplit(address)
        assert (parts.scheme, parts.query, parts.fragment, parts.username) == ("https", "", "", None)
        assert not address.endswith("/")


@every_preset
def test_base_urls_are_as_the_official_sdks_take_them(preset: Provider) -> None:
    for protocol, url in preset.base_urls.items():
        assert url.endswith("/v1") == (protocol == "openai-chat")


@every_preset
def test_nothing_of_it_can_be_changed(preset: Provider) -> None:
    for field in dataclasses.fields(preset):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(preset, field.name, None)
    for mapping in (PROVIDERS, preset.base_urls, preset.headers):
        changed: Any = mapping
        with pytest.raises(TypeError):
            changed["more"] = "more"


def test_a_key_for_anthropic_goes_where_anthropic_looks_for_it() -> None:
    assert (ANTHROPIC.auth_header, ANTHROPIC.key_env) == ("x-api-key", "ANTHROPIC_API_KEY")
    assert (OPENAI.auth_header, OPENAI.key_env) == ("authorization", "OPENAI_API_KEY")


def test_the_global_kimi_differs_in_its_hosts_alone() -> None:
    assert addresses(KIMI_GLOBAL) == [each.replace("kimi.com", "kimi.ai") for each in addresses(KIMI)]
    usual: dict[str, Any] = {"name": KIMI.name, "base_urls": KIMI.base_urls, "oauth": KIMI.oauth}
    assert dataclasses.replace(KIMI_GLOBAL, **usual) == KIMI
    assert set(KIMI.regions.values()) == {"kimi", "kimi-global"}


def test_kimi_is_this() -> None:
    assert dict(KIMI.base_urls) == {
        "anthropic-messages": "https://api.kimi.com/coding",
        "openai-chat": "https://api.kimi.com/coding/v1",
    }
    assert KIMI.oauth == OAuthApp(
        client_id="17e5f671-d194-4dfb-9706-5516cb48c098",
        device_url="https://auth.kimi.com/api/oauth/device_authorization",
        token_url="https://auth.kimi.com/api/oauth/token",
        host_envs=("KIMI_CODE_OAUTH_HOST", "KIMI_OAUTH_HOST"),
    )
    assert (KIMI.model, KIMI.key_env, KIMI.base_url_env) == ("kimi-for-coding", "KIMI_API_KEY", "KIMI_CODE_BASE_URL")
    assert (KIMI.wraps_empty, KIMI.shared_with_kimi, KIMI.device_header_prefix) == (True, True, "X-Msh-")
