"""Read the answer of a device authorization endpoint: what a person is shown (RFC 8628 section 3.2)."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlsplit

import msgspec

from rxauth.credentials._token_answer import Answer
from rxauth.errors import ProtocolError

__all__ = ["DEFAULT_INTERVAL", "DevicePrompt", "DeviceWaiting", "read_prompt"]

DEFAULT_INTERVAL = 5.0  # s; RFC 8628 section 3.2
_DEFAULT_LIFETIME = 900.0  # s, for a server that does not send how long its code lives, although it must


class DevicePrompt(msgspec.Struct, frozen=True, kw_only=True):
    """Show this to the person: open `verification_uri` on any device and enter `user_code` (RFC 8628 section 3.3).

    `verification_uri_complete` has the code in it already, for a browser or a QR code. `expires_in` and `interval` are
    seconds. All texts are printable, and the addresses are http(s): a server cannot make a terminal or a browser do
    more.
    """

    user_code: str
    verification_uri: str
    verification_uri_complete: str | None = None
    expires_in: float
    interval: float


class DeviceWaiting(msgspec.Struct, frozen=True, kw_only=True):
    """Report that the person has not finished: seconds since the prompt, seconds until it expires.

    `trouble` explains in a sentence why the server could not be reached the last time; `None` if it could.
    """

    elapsed: float
    remaining: float
    trouble: str | None = None


def read_prompt(answer: Answer, host: str) -> tuple[str, DevicePrompt]:
    """Return the device code, which is a secret, and the prompt.

    Raises:
        ProtocolError: the answer is not RFC 8628.
    """
    body = answer.fields() or {}
    complete = body.get("verification_uri_complete") or None
    # `verification_url` is its name in the drafts of the RFC, and some servers still send that.
    uri = body.get("verification_uri") or body.get("verification_url") or complete
    device_code, user_code = body.get("device_code"), body.get("user_code")
    lifetime = _seconds(body.get("expires_in"), _DEFAULT_LIFETIME)
    interval = max(1.0, _seconds(body.get("interval"), DEFAULT_INTERVAL))
    wrong = None
    if not isinstance(device_code, str) or not device_code:
        wrong = "it has no device_code"
    elif not isinstance(user_code, str) or not user_code or not user_code.isprintable():
        wrong = "it has no user_code that can be shown"
    elif not _is_web_address(uri) or not (complete is None or _is_web_address(complete)):
        wrong = "its verification_uri is no http(s) address"
    elif interval > lifetime:
        wrong = "its interval is longer than the code lives"
    if wrong is not None:
        raise ProtocolError(f"The answer of the login server {host} is not RFC 8628: {wrong}.", status=answer.status)
    return str(device_code), DevicePrompt(
        user_code=str(user_code),
        verification_uri=str(uri),
        verification_uri_complete=complete,
        expires_in=lifetime,
        interval=interval,
    )


def _is_web_address(value: Any) -> bool:
    """Return whether a browser opens it as a page: a server must not send a `file:` or `javascript:` address."""
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    except ValueError:
        return False


def _seconds(value: Any, default: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return default
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return default
    return seconds if 0 < seconds < math.inf else default
