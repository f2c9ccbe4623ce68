"""Read the answer of a token endpoint: the credential in it, its error code, its words.

A server may send back the tokens that it was sent. So nothing of an answer goes into a text unless it is an error code
or ordinary words.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeGuard
from urllib.parse import parse_qsl

from rxauth.credentials._credential import Credential, unix_seconds

__all__ = ["DEAD", "Answer", "error_code", "granted", "is_header_text", "words"]

# Error codes that end a login: RFC 6749 section 5.2, RFC 6750 section 3.1, OpenID Connect, GitHub, OpenAI, Supabase.
DEAD = frozenset(
    {
        "invalid_grant", "invalid_token", "token_expired", "token_revoked", "expired_token",
        "bad_refresh_token", "invalid_refresh_token", "expired_refresh_token", "refresh_token_expired",
        "refresh_token_reused", "refresh_token_revoked", "refresh_token_invalidated", "refresh_token_invalid",
        "refresh_token_not_found", "refresh_token_already_used",
        "login_required", "interaction_required", "consent_required",
    }
)  # fmt: skip

_STANDARD_CODES = DEAD | {
    "invalid_client", "unauthorized_client", "invalid_request", "unsupported_grant_type", "invalid_scope",
    "incorrect_client_credentials", "slow_down", "temporarily_unavailable", "server_error",
    "authorization_pending", "access_denied",
}  # fmt: skip

_NAMED = frozenset({"access_token", "refresh_token", "expires_at", "expires_in", "token_type", "scope", "token_url"})

_MOST_WORDS = 40


class Answer(NamedTuple):
    """Hold an HTTP answer that was read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Answer({self.status})"  # a traceback with local variables must not show the tokens in the body

    def fields(self) -> Mapping[str, Any] | None:
        """Return the fields of a JSON object, or of a form if the answer is labelled as one; `None` without either."""
        label = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        # By the label: a form that breaks off passes for a shorter one, a JSON object does not.
        if label == "application/x-www-form-urlencoded":
            return dict(parse_qsl(self.body.decode("utf-8", "replace")))
        try:
            value = json.loads(self.body.decode("utf-8-sig"), parse_int=_integer)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


def granted(answer: Answer, *, now: float, token_url: str, previous: Credential | None = None) -> Credential | None:
    """Return the credential in a token response (RFC 6749 section 5.1); `None` if the answer is no token response.

    Args:
        answer: of the token endpoint.
        now: Unix time that `expires_in` counts from.
        token_url: the endpoint, which the credential remembers.
        previous: the credential that was refreshed; a field that the response leaves out is kept from it.
    """
    body = answer.fields()
    if not 200 <= answer.status < 300 or body is None:
        return None
    access, refresh = body.get("access_token"), body.get("refresh_token")
    if not is_header_text(access) or not (refresh in (None, "") or is_header_text(refresh)):
        return None
    lifetime = _lifetime(body, now)
    kept = {name: value for name, value in (previous.extra if previous else {}).items() if name != "expires_in"}
    extra = kept | {name: value for name, value in body.items() if name not in _NAMED and _is_storable(value)}
    extra["token_url"] = token_url  # never the server's own field: the refresh token would be sent there
    if lifetime is not None:
        extra["expires_in"] = int(lifetime) if lifetime < 1e12 and lifetime.is_integer() else lifetime
    kind, scope = body.get("token_type"), body.get("scope")
    return Credential(
        access,
        refresh_token=refresh or (previous.refresh_token if previous else None),
        expires_at=None if lifetime is None else now + lifetime,
        token_type=kind if is_header_text(kind) else (previous.token_type if previous else "Bearer"),
        scope=scope if isinstance(scope, str) and _is_storable(scope) else (previous.scope if previous else None),
        extra=extra,
    )


def error_code(answer: Answer, secrets: Iterable[str] = ()) -> str | None:
    """Return the `error` of an answer (RFC 6749 section 5.2); `unknown_error` if it does not look like a code.

    Some servers send an object: its `code`, else its `type`, is taken.
    """
    error = (answer.fields() or {}).get("error")
    if not error:
        return None
    if isinstance(error, Mapping):
        error = next((error[name] for name in ("code", "type") if isinstance(error.get(name), str)), None)
    # A code is a few lower-case words. Anything else may be a token that the server sends back.
    if not isinstance(error, str) or not re.fullmatch(r"[a-z][a-z_.-]{0,48}", error.casefold()):
        return "unknown_error"
    code = error.casefold()
    return "unknown_error" if code not in _STANDARD_CODES and _overlaps(code, secrets) else code


def words(answer: Answer, secrets: Iterable[str] = ()) -> str:
    """Return the explanation in an answer, or the title of its page, without anything that may be a secret.

    >>> words(Answer(403, {}, b'{"error": {"message": "Not in your region: hX7/s2K0"}}'))
    'Not in your region: ...'
    """
    body = answer.fields() or {}
    error = body.get("error")
    nested = error if isinstance(error, Mapping) else {}
    said = (nested.get("message"), body.get("error_description"), body.get("message"), body.get("detail"))
    text = next((each for each in said if isinstance(each, str) and each.strip()), None)
    if text is None:
        title = re.search(rb"<title[^>]*>([^<]{1,500})", answer.body[:20_000], re.IGNORECASE)
        text = html.unescape(title[1].decode("utf-8", "replace")) if title else ""
    kept: list[str] = []
    for word in text.split()[:_MOST_WORDS]:
        # A word has letters only: in hex, Base64, a URL or an address there are digits or other signs.
        bare = word.strip("()[]\"'.,;:!?|-")
        plain = not bare or (len(bare) <= 30 and re.fullmatch(r"[^\W\d_]+(?:['-][^\W\d_]+)*", bare))
        kept.append(word if plain else "...")
    line = " ".join(kept).strip()
    return "" if _overlaps(line.casefold(), (each for each in secrets if len(each) > 3)) else line


def is_header_text(value: Any) -> TypeGuard[str]:
    """Return whether a value is text that a header allows, as a token must be."""
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable()


def _lifetime(body: Mapping[str, Any], now: float) -> float | None:
    """Return seconds; `None` for nonsense: a token that has "expired" at once would be exchanged at every call."""
    seconds = _number(body.get("expires_in"))
    if seconds is None and (expires_at := _number(body.get("expires_at"))) is not None:
        seconds = unix_seconds(expires_at) - now
    return seconds if seconds is not None and 0 < seconds < math.inf else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _overlaps(text: str, secrets: Iterable[str]) -> bool:
    return any(text in each.casefold() or each.casefold() in text for each in secrets if each and text)


def _integer(digits: str) -> int | float:
    # int() refuses more than 4300 digits, and a rotated token must not be lost for a number.
    return int(digits) if len(digits) <= 20 else float(digits)


def _is_storable(value: Any) -> bool:
    """Return whether a file takes the value: JSON allows lone surrogates and, in Python, infinities."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    return True
