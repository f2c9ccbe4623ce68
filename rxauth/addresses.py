"""Decide where tokens may be sent, and through which proxy."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

__all__ = ["checked_url", "is_loopback", "proxy_for", "same_address"]


def checked_url(url: str, name: str) -> str:
    """Return the URL, if tokens may be sent there: https, or http to this machine.

    The error does not show the URL: it may be a key that was given in the wrong place.

    >>> checked_url("http://example.com/token", "token_url")
    Traceback (most recent call last):
    ValueError: token_url must be https: tokens do not travel unencrypted (loopback excepted).

    Raises:
        ValueError: it is not a URL, not encrypted, or holds a user name or fragment.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        usable = parts.scheme in ("http", "https") and port != 0 and url.isprintable() and " " not in url
    except (ValueError, TypeError, AttributeError):
        usable = False
    if not usable or not host or not isinstance(url, str):
        raise ValueError(f"{name} is not an http(s) URL, such as https://api.example.com.")
    if "@" in parts.netloc:
        raise ValueError(f"{name} must not hold a user name or password.")
    if "#" in url:
        raise ValueError(f"{name} must not have a fragment.")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(f"{name} must be https: tokens do not travel unencrypted (loopback excepted).")
    return url


def same_address(one: str, other: str) -> bool:
    """Return whether two URLs name the same resource, however host and port are written.

    >>> same_address("https://Example.com:443/token", "https://example.com/token")
    True
    """
    try:
        return _parts(one) == _parts(other)
    except ValueError:
        return one == other


def _parts(url: str) -> tuple[object, ...]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme), *parts[2:]


def is_loopback(host: str) -> bool:
    """Return whether the host is this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("example.com")
    (True, True, True, False)
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for the URL; never one for loopback."""
    import urllib.request  # takes longer to import than the rest of what needs no network

    # Not aiohttp's trust_env: it would also take a password out of ~/.netrc, and send loopback requests to a proxy.
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)
