"""The token endpoint of RFC 6749, as a client: one form POST, and what its answers mean.

    2xx with an access token                                 the new credential (section 5.1)
    invalid_grant, or another JSON error with 401 or 403     the refresh token is dead
    invalid_client, unauthorized_client, invalid_request,
    unsupported_grant_type, invalid_scope, another error     the configuration is wrong
    408, 425, 429, 5xx, no answer, an answer that is no JSON worth trying again

Nothing a server says goes into a text: it may echo the token. Of its errors only the code is told, and only if it looks
like one.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeGuard
from urllib.parse import quote_plus, urlencode, urlsplit

import aiohttp

from rxauth._version import __version__
from rxauth.addresses import checked_url, proxy_for
from rxauth.credentials._credential import Credential
from rxauth.errors import RefreshFailed, TransientError
from rxauth.failures import TRANSIENT_STATUS, seconds_to_wait

__all__ = [
    "Answer",
    "DeadRefreshToken",
    "EndpointUnavailable",
    "TokenEndpoint",
    "error_code",
    "granted",
    "post_form",
]

ClientAuth = Literal["body", "basic"]

_BODY_LIMIT = 1 << 20  # bytes; a token response has a few kilobytes

_TRANSIENT_CODES = frozenset({"slow_down", "temporarily_unavailable", "server_error"})

_CONFIGURATION = {
    "invalid_client": "Check client_id, client_secret and client_auth",
    "unauthorized_client": "Check that this client_id may use refresh tokens",
    "invalid_request": "Check token_url and extra_params",
    "unsupported_grant_type": "Check token_url: this server does not refresh tokens there",
    "invalid_scope": "Check scope: it may not be wider than what was granted at login",
}

_KNOWN_CODES = frozenset({"invalid_grant", *_CONFIGURATION, *_TRANSIENT_CODES})

_KNOWN = frozenset({"access_token", "refresh_token", "expires_at", "expires_in", "token_type", "scope"})
_RESERVED = frozenset({"grant_type", "refresh_token", "client_id", "client_secret", "scope"})


class EndpointUnavailable(TransientError):
    """The token endpoint gave no usable answer; the same request may get one later.

    `type` is the OAuth error code or the name of the exception's class, `status` the HTTP status, if there was one.
    """

    def __init__(self, message: str, *, type: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.type = type
        self.status = status


class DeadRefreshToken(Exception):
    """The server will never take this refresh token again; its `code` and `status`."""

    def __init__(self, code: str, status: int) -> None:
        super().__init__(f"The refresh token is not accepted ({code}, status {status}).")
        self.code = code
        self.status = status


class Answer(NamedTuple):
    """An HTTP answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Answer({self.status})"  # whoever logs local variables gets no body: there are tokens in it

    def json(self) -> Mapping[str, Any] | None:
        """The body, if it is a JSON object."""
        try:
            # Lenient where a client can afford it: 1e400 is no reason to lose a rotated token.
            value = json.loads(self.body.decode("utf-8-sig"), parse_int=_integer)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


class TokenEndpoint:
    """Spends refresh tokens.

    Args:
        url: https, or http on loopback.
        client_id: as registered with the server.
        client_secret: for a confidential client.
        client_auth: where the client's id and secret go: into the `"body"`, or a `"basic"` Authorization header
            (RFC 6749 section 2.3.1).
        scope: asked for with every request; `None` keeps what was granted.
        extra_params: more form parameters, e.g. `{"resource": "..."}`.
        headers: more headers of the request.
        request_timeout: seconds for one request, from the name's resolution to the last byte.
        clock: Unix time in seconds.

    Raises:
        ValueError, TypeError: an argument makes no sense.
    """

    def __init__(
        self,
        url: str,
        *,
        client_id: str,
        client_secret: str | None = None,
        client_auth: ClientAuth = "body",
        scope: str | None = None,
        extra_params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        request_timeout: float = 10.0,
        clock: Callable[[], float],
    ) -> None:
        self.url = checked_url(url, "token_url")
        self.host = urlsplit(url).netloc
        self.request_timeout = request_timeout
        self._clock = clock
        if not client_id or not isinstance(client_id, str):
            raise ValueError("client_id is a string that is not empty.")
        if client_secret is not None and (not client_secret or not isinstance(client_secret, str)):
            raise ValueError("client_secret is a string that is not empty, or None.")
        if scope is not None and not isinstance(scope, str):
            raise TypeError("scope is a string of names separated by spaces, or None.")
        if client_auth not in ("body", "basic"):
            raise ValueError('client_auth is "body" or "basic".')
        if client_auth == "basic" and client_secret is None:
            raise ValueError('client_auth="basic" needs a client_secret.')
        params = dict(extra_params or {})
        for name, value in params.items():
            if not all(isinstance(each, str) for each in (name, value)):
                raise TypeError("extra_params is a mapping of strings to strings.")
            if name in _RESERVED:
                raise ValueError(f"extra_params cannot set {name}: there is an argument for it.")
        self._secrets = (client_secret,) if client_secret else ()
        self._headers = dict(headers or {})
        for name, value in self._headers.items():
            if not (_is_token(name) and (value == "" or _is_token(value))):
                raise ValueError("headers is a mapping of printable ASCII strings to such strings.")
        if client_auth == "basic":
            pair = f"{quote_plus(client_id)}:{quote_plus(client_secret or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            params["client_id"] = client_id
            if client_secret is not None:
                params["client_secret"] = client_secret
        if scope is not None:
            params["scope"] = scope
        self._params = params

    async def refresh(self, credential: Credential, *, within: float | None = None) -> Credential:
        """Spend the refresh token of `credential` (RFC 6749 section 6).

        Args:
            credential: what it does not say anew is kept from it: the refresh token, the scope, `extra`.
            within: seconds, where less than `request_timeout` is left.

        Raises:
            EndpointUnavailable: no usable answer now.
            DeadRefreshToken: log in again.
            RefreshFailed: the configuration is wrong.
        """
        if credential.refresh_token is None:
            raise ValueError("This credential has no refresh token.")
        # The lifetime counts from before the request: an answer that took its time must not prolong it.
        asked_at = self._clock()
        limit = self.request_timeout if within is None else min(within, self.request_timeout)
        answer = await post_form(self.url, self._form(credential), headers=self._headers, within=limit)
        renewed = granted(answer, now=asked_at, previous=credential)
        if renewed is None:
            raise self._error(answer, credential)
        return renewed

    def _form(self, credential: Credential) -> dict[str, str]:
        return {**self._params, "grant_type": "refresh_token", "refresh_token": credential.refresh_token or ""}

    def _error(self, answer: Answer, credential: Credential) -> Exception:
        secrets = (*self._secrets, credential.access_token, credential.refresh_token or "")
        code = error_code(answer, secrets)
        status = answer.status
        if status in TRANSIENT_STATUS or code in _TRANSIENT_CODES:
            return EndpointUnavailable(
                f"The token endpoint {self.host} cannot answer now (status {status}).",
                type=code or "http_error",
                status=status,
                retry_after=seconds_to_wait(answer.headers, now=self._clock()),
            )
        if 300 <= status < 400:
            return RefreshFailed(
                f"The token endpoint {self.host} redirects (status {status}); a token is not sent along a redirect. "
                "Check token_url.",
                type="redirect",
                status=status,
            )
        if code is None:
            return EndpointUnavailable(
                f"The token endpoint {self.host} answered with something that is no token response (status {status}). "
                "If this goes on, check token_url.",
                type="malformed_response",
                status=status,
                retry_after=seconds_to_wait(answer.headers, now=self._clock()),
            )
        if code == "invalid_grant":
            return DeadRefreshToken(code, status)
        if code not in ("invalid_client", "unauthorized_client") and status in (401, 403):
            return DeadRefreshToken(code, status)
        return RefreshFailed(
            f"The token endpoint {self.host} refuses this client's request ({code}, status {status}). "
            f"{_CONFIGURATION.get(code, 'Check token_url, client_id and extra_params')}.",
            type=code,
            status=status,
        )


async def post_form(
    url: str, form: Mapping[str, str], *, headers: Mapping[str, str] | None = None, within: float
) -> Answer:
    """POST a form and read the answer whole. A redirect is an answer like any other: it is not followed.

    Args:
        url: as `checked_url` lets it pass.
        form: the parameters; they are sent as `application/x-www-form-urlencoded`.
        headers: more headers.
        within: seconds for all of it.

    Raises:
        EndpointUnavailable: there is no answer, or it broke off, or it is longer than a megabyte.
    """
    host = urlsplit(url).netloc
    try:
        async with (
            asyncio.timeout(within),
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
            ) as session,
            session.post(
                url,
                data=urlencode(form).encode(),
                headers={
                    "Content-Type": "application/x-www-form-urlencoded",
                    "Accept": "application/json",
                    "User-Agent": f"rxauth/{__version__}",
                    **(headers or {}),
                },
                allow_redirects=False,
                proxy=proxy_for(url),
            ) as response,
        ):
            return Answer(response.status, response.headers, await _read(response.content, host))
    except EndpointUnavailable:
        raise
    except TimeoutError:
        trouble, kind = f"The token endpoint {host} did not answer within {within:g} s.", "timeout"
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        kind = type(error).__name__
        trouble = (
            f"No secure connection to the token endpoint {host} ({kind}): "
            "its certificate is not one that this machine trusts."
        )
    except Exception as error:
        # Whatever aiohttp raises for a peer that misbehaves: not all of it is a ClientError.
        kind = type(error).__name__
        trouble = f"The token endpoint {host} cannot be reached, or broke off ({kind})."
    # Outside of `except`: aiohttp's exceptions hold the headers and what the server said, perhaps what it was sent.
    raise EndpointUnavailable(trouble, type=kind)


async def _read(content: aiohttp.StreamReader, host: str) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > _BODY_LIMIT:
            raise EndpointUnavailable(f"The answer of the token endpoint {host} does not end.", type="too_long")
    return bytes(body)


def granted(answer: Answer, *, now: float, previous: Credential | None = None) -> Credential | None:
    """The credential in a token response (RFC 6749 section 5.1); `None` if it is none.

    Args:
        answer: of the token endpoint.
        now: Unix time that `expires_in` counts from.
        previous: what was refreshed; what the response leaves out is kept from it.
    """
    body = answer.json()
    if not 200 <= answer.status < 300 or body is None:
        return None
    access, refresh = body.get("access_token"), body.get("refresh_token")
    if not _is_token(access) or not (refresh in (None, "") or _is_token(refresh)):
        return None
    lifetime = _lifetime(body.get("expires_in"))
    kept = dict(previous.extra) if previous is not None else {}
    kept.pop("expires_in", None)
    extra = kept | {name: value for name, value in body.items() if name not in _KNOWN and _is_storable(value)}
    if lifetime is not None:
        extra["expires_in"] = int(lifetime) if lifetime < 1e12 and lifetime.is_integer() else lifetime
    kind, scope = body.get("token_type"), body.get("scope")
    return Credential(
        access,
        refresh_token=refresh or (previous.refresh_token if previous is not None else None),
        expires_at=None if lifetime is None else now + lifetime,
        token_type=kind if _is_token(kind) else (previous.token_type if previous is not None else "Bearer"),
        scope=scope if isinstance(scope, str) and _is_storable(scope) else (previous.scope if previous else None),
        extra=extra,
    )


def error_code(answer: Answer, secrets: tuple[str, ...] = ()) -> str | None:
    """The `error` of a JSON answer (RFC 6749 section 5.2); `unknown_error` if it does not look like a code.

    Some servers put an object there: its `code`, else its `type`, is taken.
    """
    body = answer.json()
    error = body.get("error") if body is not None else None
    if not error:
        return None
    if isinstance(error, Mapping):
        error = next((error[name] for name in ("code", "type") if isinstance(error.get(name), str)), None)
    # A code is a few lower-case words. Anything else may be a token that the server sends back.
    if not isinstance(error, str) or not re.fullmatch(r"[a-z][a-z_.-]{0,48}", error.casefold()):
        return "unknown_error"
    code = error.casefold()
    if code not in _KNOWN_CODES and any(code in each.casefold() or each.casefold() in code for each in secrets if each):
        return "unknown_error"
    return code


def _lifetime(value: Any) -> float | None:
    """Seconds; `None` for what is no lifetime. A token that is "expired" at once would be exchanged at every call."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if 0 < seconds < math.inf else None


def _integer(digits: str) -> int | float:
    # int() refuses more than 4300 digits; a number that long is nobody's id.
    return int(digits) if len(digits) <= 20 else float(digits)


def _is_token(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable()


def _is_storable(value: Any) -> bool:
    """JSON allows lone surrogates and, in Python, infinities; a file does not. Dropped, or a rotated token is lost."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    return True
