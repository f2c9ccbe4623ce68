"""The presets are data that cannot be changed."""

from __future__ import annotations

import dataclasses
from typing import Any
from urllib.parse import urlsplit

import pytest

from rxauth.providers import ANTHROPIC, KIMI, KIMI_GLOBAL, OPENAI, PROVIDERS, Provider


def addresses(preset: Provider) -> list[str]:
    app = preset.oauth
    return [*preset.base_urls.values(), *([app.device_url, app.token_url] if app else [])]


def test_the_presets_are_four() -> None:
    assert dict(PROVIDERS) == {"anthropic": ANTHROPIC, "kimi": KIMI, "kimi-global": KIMI_GLOBAL, "openai": OPENAI}
    assert [each.name for each in PROVIDERS.values()] == list(PROVIDERS)
    assert [each.auth_header for each in PROVIDERS.values()] == ["x-api-key", *["authorization"] * 3]


@pytest.mark.parametrize("preset", PROVIDERS.values(), ids=PROVIDERS)
def test_a_preset_has_the_sdks_addresses_for_ever(preset: Provider) -> None:
    for address in addresses(preset):
        parts = urlsplit(address)
        assert (parts.scheme, parts.query, parts.fragment, parts.username) == ("https", "", "", None)
        assert not address.endswith("/")
    for protocol, url in preset.base_urls.items():
        assert url.endswith("/v1") == (protocol == "openai-chat")
    for field in dataclasses.fields(preset):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(preset, field.name, None)
    for mapping in (PROVIDERS, preset.base_urls, preset.regions):
        changed: Any = mapping
        with pytest.raises(TypeError):
            changed["more"] = "more"


def test_kimis_public_addresses_and_client_are_these() -> None:
    login = "https://auth.kimi.com/api/oauth"
    api = "https://api.kimi.com/coding"
    assert addresses(KIMI) == [api, f"{api}/v1", f"{login}/device_authorization", f"{login}/token"]
    assert KIMI.oauth is not None
    assert KIMI.oauth.client_id == "17e5f671-d194-4dfb-9706-5516cb48c098"
    assert addresses(KIMI_GLOBAL) == [each.replace("kimi.com", "kimi.ai") for each in addresses(KIMI)]
    usual: dict[str, Any] = {"name": KIMI.name, "base_urls": KIMI.base_urls, "oauth": KIMI.oauth}
    assert dataclasses.replace(KIMI_GLOBAL, **usual) == KIMI
    assert set(KIMI.regions.values()) == {"kimi", "kimi-global"}
