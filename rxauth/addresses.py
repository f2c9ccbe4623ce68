"""Where tokens may be sent, and through which proxy."""

from __future__ import annotations

import ipaddress
import urllib.request
from urllib.parse import urlsplit

__all__ = ["checked_url", "is_loopback", "proxy_for"]


def checked_url(url: str, name: str) -> str:
    """The URL, if tokens may be sent there: https, or http to this very machine.

    What is refused is not shown: it may be a key, given in the wrong place.

    >>> checked_url("http://example.com/token", "token_url")
    Traceback (most recent call last):
    ValueError: token_url must be https: tokens do not travel unencrypted (loopback excepted).

    Raises:
        ValueError: it is not a URL, not encrypted, or has a user name or fragment in it.
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


def is_loopback(host: str) -> bool:
    """Whether what is sent there stays on this machine.

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
    """The proxy that the environment names for it; never one for loopback."""
    # Not aiohttp's trust_env: it would also take a password out of ~/.netrc, and send what is for loopback to a proxy.
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)
