from __future__ import annotations

from typing import Any

import pytest

from rxauth.addresses import checked_url, proxy_for


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://api.example.com", None),
        ("https://api.example.com:8443/path?query=1", None),
        ("http://127.0.0.1:8080", None),
        ("http://localhost/x", None),
        ("http://api.localhost", None),
        ("http://[::1]:1/x", None),
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
        ("https://[::1", "not an http"),
        ("https://ho st", "not an http"),
        ("https://host/\n", "not an http"),
        ("sk-secret", "not an http"),
        (None, "not an http"),
        (b"https://host", "not an http"),
    ],
)
def test_tokens_go_only_where_they_are_safe(url: Any, why: str | None) -> None:
    if why is None:
        assert checked_url(url, "url") == url
        return
    with pytest.raises(ValueError, match=why) as refused:
        checked_url(url, "base_url")
    assert "secret" not in str(refused.value)
    assert str(refused.value).startswith("base_url ")


def test_loopback_never_goes_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:1")
    monkeypatch.setenv("http_proxy", "http://proxy:2")
    assert proxy_for("https://127.0.0.1:1/x") is None
    assert proxy_for("http://localhost/x") is None
    assert proxy_for("https://example.com") == "http://proxy:1"
