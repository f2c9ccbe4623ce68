"""The presets are data that cannot be changed."""

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


def test_the_presets_are_four() -> None:
    assert dict(PROVIDERS) == {"anthropic": ANTHROPIC, "kimi": KIMI, "kimi-global": KIMI_GLOBAL, "openai": OPENAI}


@every_preset
def test_a_preset_has_the_name_it_is_found_by(preset: Provider) -> None:
    assert PROVIDERS[preset.name] is preset


@every_preset
def test_an_address_is_https_without_a_query(preset: Provider) -> None:
    for address in addresses(preset):
        parts = urlsplit(address)
        assert (parts.scheme, parts.query, parts.fragment, parts.username) == ("https", "", "", None)
        assert not address.endswith("/")


@every_preset
def test_a_base_url_has_the_form_of_the_official_sdks(preset: Provider) -> None:
    for protocol, url in preset.base_urls.items():
        assert url.endswith("/v1") == (protocol == "openai-chat")


@every_preset
def test_a_preset_cannot_be_changed(preset: Provider) -> None:
    for field in dataclasses.fields(preset):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(preset, field.name, None)
    for mapping in (PROVIDERS, preset.base_urls, preset.headers):
        changed: Any = mapping
        with pytest.raises(TypeError):
            changed["more"] = "more"


def test_a_key_goes_into_the_header_of_its_provider() -> None:
    assert (ANTHROPIC.auth_header, ANTHROPIC.key_env) == ("x-api-key", "ANTHROPIC_API_KEY")
    assert (OPENAI.auth_header, OPENAI.key_env) == ("authorization", "OPENAI_API_KEY")


def test_the_global_kimi_differs_in_its_hosts_alone() -> None:
    assert addresses(KIMI_GLOBAL) == [each.replace("kimi.com", "kimi.ai") for each in addresses(KIMI)]
    usual: dict[str, Any] = {"name": KIMI.name, "base_urls": KIMI.base_urls, "oauth": KIMI.oauth}
    assert dataclasses.replace(KIMI_GLOBAL, **usual) == KIMI
    assert set(KIMI.regions.values()) == {"kimi", "kimi-global"}


def test_kimi_has_these_facts() -> None:
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
