"""Exchange a refresh token at a token endpoint (RFC 6749 section 6), and decide what the answer means.

2xx with an access token                            the new credential (section 5.1)
an error code that ends a login, whatever the status,
or 401 with a code that is not about the client     the refresh token is dead
408, 425, 429, 5xx, no answer, an answer that is
neither a credential nor an error                   try again
403                                                 refused (region, account, firewall), with the server's text
another error code                                  the configuration is wrong

A server may send back the tokens that it was sent. So nothing of an answer goes into a text unless it is an error code
or ordinary words.
"""

from __future__ import annotations

import base64
import html
import inspect
import json
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypeGuard
from urllib.parse import quote_plus, urlsplit

from rxauth.addresses import checked_url
from rxauth.credentials._credential import Credential, unix_seconds
from rxauth.credentials._post import Answer, BodyFormat, Sender, SessionOption
from rxauth.errors import RefreshFailed
from rxauth.failures import TRANSIENT_STATUS

ClientAuth: TypeAlias = Literal["body", "basic"]
ExtraParams: TypeAlias = (
    "Mapping[str, str] | Callable[[], Mapping[str, str]] | Callable[[], Awaitable[Mapping[str, str]]] | None"
)

# Error codes that end a login: RFC 6749 section 5.2, RFC 6750 section 3.1, OpenID Connect, GitHub, OpenAI, Supabase.
_DEAD = frozenset(
    {
        "invalid_grant", "invalid_token", "token_expired", "token_revoked", "expired_token",
        "bad_refresh_token", "invalid_refresh_token", "expired_refresh_token", "refresh_token_expired",
        "refresh_token_reused", "refresh_token_revoked", "refresh_token_invalidated", "refresh_token_invalid",
        "refresh_token_not_found", "refresh_token_already_used",
        "login_required", "interaction_required", "consent_required",
    }
)  # fmt: skip
_TRANSIENT_CODES = frozenset({"slow_down", "temporarily_unavailable", "server_error"})
_CLIENT_CODES = frozenset({"invalid_client", "unauthorized_client", "incorrect_client_credentials"})

_ADVICE = {
    "invalid_client": "Check client_id, client_secret and client_auth",
    "incorrect_client_credentials": "Check client_id, client_secret and client_auth",
    "unauthorized_client": "Check that this client_id may use refresh tokens",
    "invalid_request": "Check token_url, body and extra_params",
    "unsupported_grant_type": "Check token_url: this server does not refresh tokens there",
    "invalid_scope": "Check scope: it may not be wider than what was granted at login",
}

_STANDARD_CODES = {*_DEAD, *_TRANSIENT_CODES, *_ADVICE, "authorization_pending", "access_denied"}

_NAMED = frozenset({"access_token", "refresh_token", "expires_at", "expires_in", "token_type", "scope", "token_url"})
_RESERVED = frozenset({"grant_type", "refresh_token", "device_code", "client_id", "client_secret", "scope"})


class DeadRefreshToken(Exception):
    """The server has refused the refresh token for good, with this `code` and `status`."""

    def __init__(self, code: str, status: int) -> None:
        super().__init__(f"The refresh token is not accepted ({code}, status {status}).")
        self.code = code
        self.status = status


class TokenEndpoint:
    """Exchange refresh tokens. The arguments are those of `OAuthCredentials`."""

    def __init__(
        self,
        url: str,
        *,
        client_id: str,
        client_secret: str | None = None,
        client_auth: ClientAuth = "body",
        scope: str | None = None,
        extra_params: ExtraParams = None,
        headers: Mapping[str, str] | None = None,
        body: BodyFormat = "form",
        session: SessionOption = None,
        request_timeout: float = 10.0,
        answer_timeout: float = 120.0,
        clock: Callable[[], float],
    ) -> None:
        self.url = checked_url(url, "token_url")
        self.host = urlsplit(url).netloc
        self._answer_timeout = answer_timeout
        self._clock = clock
        if scope is not None and not isinstance(scope, str):
            raise TypeError("scope is a string of names separated by spaces, or None.")
        if client_auth not in ("body", "basic"):
            raise ValueError('client_auth is "body" or "basic".')
        if client_auth == "basic" and client_secret is None:
            raise ValueError('client_auth="basic" needs a client_secret.')
        all_headers = dict(headers or {})
        for name, value in all_headers.items():
            if not (_is_header_text(name) and (value == "" or _is_header_text(value))):
                raise ValueError("headers is a mapping of printable ASCII strings to such strings.")
        self._extra_params = extra_params if callable(extra_params) else _checked_params(extra_params or {})
        self._secrets = (client_secret,) if client_secret else ()
        self._params = client_params(client_id, client_secret)
        if client_auth == "basic":
            self._params.clear()
            pair = f"{quote_plus(client_id)}:{quote_plus(client_secret or '')}"
            all_headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        if scope is not None:
            self._params["scope"] = scope
        self._sender = Sender(headers=all_headers, body=body, session=session, connect_timeout=request_timeout)

    async def refresh(self, credential: Credential) -> Credential:
        """Exchange the refresh token of `credential`, which has one.

        Raises:
            EndpointUnavailable: there is no usable answer now.
            DeadRefreshToken: log in again.
            RefreshFailed: the configuration is wrong, or the server refuses this place or account.
        """
        spent = str(credential.refresh_token)
        more = await self._more_params()
        # The lifetime counts from before the request: a slow answer must not prolong it.
        asked_at = self._clock()
        fields = {**more, **self._params, "grant_type": "refresh_token", "refresh_token": spent}
        answer = await self._sender.post(self.url, fields, within=self._answer_timeout)
        renewed = granted(answer, now=asked_at, token_url=self.url, previous=credential)
        if renewed is None:
            raise self._error(answer, (*self._secrets, *more.values(), credential.access_token, spent))
        return renewed

    async def _more_params(self) -> Mapping[str, str]:
        if not callable(self._extra_params):
            return self._extra_params
        try:
            params: Any = self._extra_params()
            return _checked_params(await params if inspect.isawaitable(params) else params)
        except Exception as error:
            kind = type(error).__name__
        # Outside of `except`: the frames of a function that signs an assertion hold its key.
        raise RefreshFailed(f"extra_params failed ({kind}); no request was made. Mend that function.", type=kind)

    def _error(self, answer: Answer, secrets: Iterable[str]) -> Exception:
        code, status = error_code(answer, secrets), answer.status
        named = f"{code}, status {status}" if code else f"status {status}"
        if code in _DEAD or (status == 401 and code not in {None, *_CLIENT_CODES, *_TRANSIENT_CODES}):
            return DeadRefreshToken(str(code), status)
        here = f"The token endpoint {self.host}"
        kind = code or "http_error"
        if status in TRANSIENT_STATUS or code in _TRANSIENT_CODES:
            return answer.unavailable(f"{here} cannot answer now (status {status}).", type=kind, now=self._clock())
        if 300 <= status < 400:
            kind = "redirect"
            text = f"redirects ({named}); a token is not sent along a redirect. Check token_url."
        elif status == 403 and code not in _CLIENT_CODES:
            said = _words(answer, secrets).rstrip(".")
            text = (
                f"refuses to answer here ({named}){': ' + said if said else ''}. "
                "The login is intact: check network, region and account, and try again."
            )
        elif code is None:
            text = f"answered, but not with a token response ({named}). If this goes on, check token_url."
            return answer.unavailable(f"{here} {text}", type="malformed_response", now=self._clock())
        else:
            advice = _ADVICE.get(code, "Check token_url, client_id and extra_params")
            text = f"refuses this client's request ({named}). {advice}."
        return RefreshFailed(f"{here} {text}", type=kind, status=status)


def client_params(client_id: str, client_secret: str | None, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the parameters that name a client, and `more`; ValueError or TypeError if one cannot be used."""
    if not client_id or not isinstance(client_id, str):
        raise ValueError("client_id is a string that is not empty.")
    if client_secret is not None and (not client_secret or not isinstance(client_secret, str)):
        raise ValueError("client_secret is a string that is not empty, or None.")
    secret = {} if client_secret is None else {"client_secret": client_secret}
    return {**_checked_params(more or {}), "client_id": client_id, **secret}


def _checked_params(params: Mapping[str, str]) -> Mapping[str, str]:
    params = dict(params)
    for name, value in params.items():
        if not all(isinstance(each, str) for each in (name, value)):
            raise TypeError("extra_params is a mapping of strings to strings, or a function that returns one.")
        if name in _RESERVED:
            raise ValueError(f"extra_params cannot set {name}: there is an argument for it.")
    return params


# Reading an answer ----------------------------------------------------------------------------------------------------


def granted(answer: Answer, *, now: float, token_url: str, previous: Credential | None = None) -> Credential | None:
    """Return the credential in a token response (RFC 6749 section 5.1); `None` if the answer is no token response.

    `expires_in` counts from the Unix time `now`. A field that the response leaves out is kept from `previous`.
    """
    body = answer.fields()
    access, refresh = body.get("access_token"), body.get("refresh_token")
    if not 200 <= answer.status < 300 or not _is_header_text(access):
        return None
    if not (refresh in (None, "") or _is_header_text(refresh)):
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
        token_type=kind if _is_header_text(kind) else (previous.token_type if previous else "Bearer"),
        scope=scope if isinstance(scope, str) and _is_storable(scope) else (previous.scope if previous else None),
        extra=extra,
    )


def error_code(answer: Answer, secrets: Iterable[str] = ()) -> str | None:
    """Return the `error` of an answer (RFC 6749 section 5.2); `unknown_error` if it does not look like a code.

    Some servers send an object: its `code`, else its `type`, is taken.
    """
    error = answer.fields().get("error")
    if not error:
        return None
    if isinstance(error, Mapping):
        error = next((error[name] for name in ("code", "type") if isinstance(error.get(name), str)), None)
    # A code is a few lower-case words. Anything else may be a token that the server sends back.
    if not isinstance(error, str) or not re.fullmatch(r"[a-z][a-z_.-]{0,48}", error.casefold()):
        return "unknown_error"
    code = error.casefold()
    return "unknown_error" if code not in _STANDARD_CODES and _overlaps(code, secrets) else code


def _words(answer: Answer, secrets: Iterable[str]) -> str:
    """Return the explanation in an answer, or the title of its page, without anything that may be a secret."""
    body = answer.fields()
    error = body.get("error")
    nested = error if isinstance(error, Mapping) else {}
    said = (nested.get("message"), body.get("error_description"), body.get("message"), body.get("detail"))
    text = next((each for each in said if isinstance(each, str) and each.strip()), None)
    if text is None:
        title = re.search(rb"<title[^>]*>([^<]{1,500})", answer.body[:20_000], re.IGNORECASE)
        text = html.unescape(title[1].decode("utf-8", "replace")) if title else ""
    kept: list[str] = []
    for word in text.split()[:40]:
        # A word has letters only: in hex, Base64, a URL or an address there are digits or other signs.
        bare = word.strip("()[]\"'.,;:!?|-")
        plain = not bare or (len(bare) <= 30 and re.fullmatch(r"[^\W\d_]+(?:['-][^\W\d_]+)*", bare))
        kept.append(word if plain else "...")
    line = " ".join(kept).strip()
    return "" if _overlaps(line.casefold(), (each for each in secrets if len(each) > 3)) else line


def _is_header_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable()


def _lifetime(body: Mapping[str, Any], now: float) -> float | None:
    """Return seconds; `None` for nonsense: a token that has "expired" at once would be exchanged at every call."""
    seconds = number(body.get("expires_in"))
    if seconds is None and (expires_at := number(body.get("expires_at"))) is not None:
        seconds = unix_seconds(expires_at) - now
    return seconds if seconds is not None and 0 < seconds < math.inf else None


def number(value: Any) -> float | None:
    """Return the number that a JSON value is or, as text, holds."""
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _overlaps(text: str, secrets: Iterable[str]) -> bool:
    return any(text in each.casefold() or each.casefold() in text for each in secrets if each and text)


def _is_storable(value: Any) -> bool:
    """Return whether a file takes the value: JSON allows lone surrogates and, in Python, infinities."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    return True
