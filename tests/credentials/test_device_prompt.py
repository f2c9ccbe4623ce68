"""Reading the answer of a device authorization endpoint, without a network."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rxauth.credentials import DevicePrompt
from rxauth.credentials._device_login import _prompt as read_prompt
from rxauth.credentials._post import Answer
from rxauth.errors import ProtocolError

PROMPT = {
    "device_code": "hush-device-code",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://example.com/device",
    "verification_uri_complete": "https://example.com/device?user_code=WDJB-MJHT",
    "expires_in": 1800,
    "interval": 7,
}


def read(**fields: Any) -> DevicePrompt:
    device_code, prompt = read_prompt(Answer(200, {}, json.dumps(PROMPT | fields).encode()), "example.com")
    assert device_code == "hush-device-code"
    return prompt


def test_an_answer_becomes_a_prompt() -> None:
    assert read() == DevicePrompt(
        user_code="WDJB-MJHT",
        verification_uri="https://example.com/device",
        verification_uri_complete="https://example.com/device?user_code=WDJB-MJHT",
        expires_in=1800,
        interval=7,
    )


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [(None, 5), ("9", 9), (2.5, 2.5), (0.01, 1), (0, 5), (-3, 5), (True, 5), ("soon", 5)],
)
def test_an_interval_is_the_servers_or_five_seconds(interval: object, seconds: float) -> None:
    """And one second at least, or it would be a flood."""
    assert read(interval=interval).interval == seconds


def test_a_code_without_a_lifetime_lives_15_minutes() -> None:
    assert read(expires_in="never").expires_in == 900


@pytest.mark.parametrize(
    ("fields", "uri", "complete"),
    [
        pytest.param(
            {"verification_uri": "", "verification_uri_complete": "https://example.com/?c=1"},
            "https://example.com/?c=1",
            "https://example.com/?c=1",
            id="only the complete address",
        ),
        pytest.param(
            {"verification_uri": None, "verification_url": "https://example.com/old", "verification_uri_complete": ""},
            "https://example.com/old",
            None,
            id="the name from the drafts",
        ),
    ],
)
def test_an_address_may_have_another_name(fields: dict[str, Any], uri: str, complete: str | None) -> None:
    prompt = read(**fields)
    assert (prompt.verification_uri, prompt.verification_uri_complete) == (uri, complete)


@pytest.mark.parametrize("field", ["verification_uri", "verification_uri_complete"])
@pytest.mark.parametrize(
    "uri",
    [
        "javascript:alert(1)",
        "javascript://example.com/%0aalert(1)",
        "file:///etc/passwd",
        "file://example.com/etc/passwd",
        "example.com/device",
        "https://",
        "https://ann@example.com/",
        "https://example.com/\x1b[2J",
        "https://[",
        7,
    ],
)
def test_an_address_that_is_no_web_page_is_refused(field: str, uri: object) -> None:
    with pytest.raises(ProtocolError, match="no http"):
        read(**{field: uri})


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        *[({"user_code": code}, "user_code") for code in ("", None, 7, "AB\x1b]0;owned\x07", "A\nB")],
        *[({"device_code": code}, "device_code") for code in ("", None, 7)],
        ({"interval": 1e9}, "interval"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_refused(fields: dict[str, Any], wrong: str) -> None:
    """No terminal obeys a code; a code that expires before the first poll is no code."""
    with pytest.raises(ProtocolError, match=wrong) as caught:
        read(**fields)
    assert "hush" not in str(caught.value)
