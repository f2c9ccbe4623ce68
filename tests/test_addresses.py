from __future__ import annotations

from typing import Any

import pytest

from rxauth.addresses import checked_url, proxy_for


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com",
        "https://api.example.com:8443/path?query=1",
        "http://127.0.0.1:8080",
        "http://localhost/x",
        "http://api.localhost",
        "http://[::1]:1/x",
    ],
)
def test_tokens_may_go_there(url: str) -> None:
    assert checked_url(url, "url") == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://api.example.com", "https"),
        ("http://10.0.0.1", "https"),
        ("http://127.0.0.1.example.com", "https"),
        ("https://me:secret@api.example.com", "user name"),
        ("https://@api.example.com", "user name"),
        ("https://api.example.com/#part", "fragment"),
        ("ftp://api.example.com", "not an http"),
        ("api.example.com", "not an http"),
        ("https://", "not an http"),
        ("https://host:0", "not an http"),
        ("https://host:port", "not an http"),
        ("https://ho st", "not an http"),
        ("https://host/\n", "not an http"),
        ("sk-secret", "not an http"),
        (None, "not an http"),
        (b"https://host", "not an http"),
    ],
)
def test_tokens_may_not_go_there_and_what_was_given_is_not_shown(url: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        checked_url(url, "base_url")
    assert "secret" not in str(refused.value)
    assert str(refused.value).startswith("base_url ")


def test_loopback_never_goes_through_a_proxy() -> None:
    assert proxy_for("https://127.0.0.1:1/x") is None
    assert proxy_for("http://localhost/x") is None
