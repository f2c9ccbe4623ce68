"""Exchange a refresh token at a token endpoint (RFC 6749 section 6), and decide what the answer means.

2xx with an access token                            the new credential (section 5.1)
an error code that ends a login, whatever the status,
or 401 with a code that is not about the client     the refresh token is dead
408, 425, 429, 5xx, no answer, an answer that is
neither a credential nor an error                   try again
403                                                 refused (region, account, firewall), with the server's text
another error code                                  the configuration is wrong
"""

from __future__ import annotations

import base64
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias
from urllib.parse import quote_plus, urlsplit

from rxauth.addresses import checked_url
from rxauth.credentials._credential import Credential
from rxauth.credentials._post import BodyFormat, EndpointUnavailable, Sender, SessionOption
from rxauth.credentials._token_answer import DEAD, Answer, error_code, granted, is_header_text, words
from rxauth.errors import RefreshFailed
from rxauth.failures import TRANSIENT_STATUS, seconds_to_wait

__all__ = ["ClientAuth", "DeadRefreshToken", "ExtraParams", "TokenEndpoint"]

ClientAuth: TypeAlias = Literal["body", "basic"]
ExtraParams: TypeAlias = (
    "Mapping[str, str] | Callable[[], Mapping[str, str]] | Callable[[], Awaitable[Mapping[str, str]]] | None"
)

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

_RESERVED = frozenset({"grant_type", "refresh_token", "client_id", "client_secret", "scope"})


class DeadRefreshToken(Exception):
    """The server has refused the refresh token for good, with this `code` and `status`."""

    def __init__(self, code: str, status: int) -> None:
        super().__init__(f"The refresh token is not accepted ({code}, status {status}).")
        self.code = code
        self.status = status


class TokenEndpoint:
    """Exchange refresh tokens. The arguments are those of `OAuthCredentials`.

    Raises:
        ValueError, TypeError: an argument cannot be used.
    """

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
        _check_client(client_id, client_secret, client_auth, scope)
        self._extra_params = extra_params if callable(extra_params) else _checked_params(extra_params or {})
        self._secrets = (client_secret,) if client_secret else ()
        all_headers = dict(headers or {})
        for name, value in all_headers.items():
            if not (is_header_text(name) and (value == "" or is_header_text(value))):
                raise ValueError("headers is a mapping of printable ASCII strings to such strings.")
        self._params: dict[str, str] = {} if scope is None else {"scope": scope}
        if client_auth == "basic":
            pair = f"{quote_plus(client_id)}:{quote_plus(client_secret or '')}"
            all_headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            self._params["client_id"] = client_id
            if client_secret is not None:
                self._params["client_secret"] = client_secret
        self._sender = Sender(headers=all_headers, body=body, session=session, connect_timeout=request_timeout)

    async def refresh(self, credential: Credential) -> Credential:
        """Exchange the refresh token of `credential`.

        Raises:
            EndpointUnavailable: there is no usable answer now.
            DeadRefreshToken: log in again.
            RefreshFailed: the configuration is wrong, or the server refuses this place or account.
        """
        if credential.refresh_token is None:
            raise ValueError("This credential has no refresh token.")
        more = await self._more_params()
        fields = {**more, **self._params, "grant_type": "refresh_token", "refresh_token": credential.refresh_token}
        # The lifetime counts from before the request: a slow answer must not prolong it.
        asked_at = self._clock()
        answer = await self._sender.post(self.url, fields, within=self._answer_timeout)
        renewed = granted(answer, now=asked_at, token_url=self.url, previous=credential)
        if renewed is None:
            tokens = (credential.access_token, credential.refresh_token)
            raise self._error(answer, (*self._secrets, *more.values(), *tokens))
        return renewed

    async def _more_params(self) -> Mapping[str, str]:
        """Return the extra parameters; call the function that computes them, if they are one."""
        if not callable(self._extra_params):
            return self._extra_params
        kind = ""
        try:
            params: Any = self._extra_params()
            return _checked_params(await params if inspect.isawaitable(params) else params)
        except Exception as error:
            kind = type(error).__name__
        # Outside of `except`: the frames of a function that signs an assertion hold its key.
        raise RefreshFailed(f"extra_params failed ({kind}); no request was made. Mend that function.", type=kind)

    def _error(self, answer: Answer, secrets: Iterable[str]) -> Exception:
        code = error_code(answer, secrets)
        status = answer.status
        named = f"{code}, status {status}" if code else f"status {status}"
        if code in DEAD:
            return DeadRefreshToken(str(code), status)
        if status in TRANSIENT_STATUS or code in _TRANSIENT_CODES:
            return EndpointUnavailable(
                f"The token endpoint {self.host} cannot answer now (status {status}).",
                type=code or "http_error",
                status=status,
                retry_after=seconds_to_wait(answer.headers, now=self._clock()),
            )
        if 300 <= status < 400:
            text = "redirects ({}); a token is not sent along a redirect. Check token_url."
            return RefreshFailed(f"The token endpoint {self.host} {text.format(named)}", type="redirect", status=status)
        if status == 403 and code not in _CLIENT_CODES:
            said = words(answer, secrets).rstrip(".")
            return RefreshFailed(
                f"The token endpoint {self.host} refuses to answer here ({named}){': ' + said if said else ''}. "
                "The login is intact: check network, region and account, and try again.",
                type=code or "http_error",
                status=status,
            )
        if code is None:
            return EndpointUnavailable(
                f"The token endpoint {self.host} answered, but not with a token response (status {status}). "
                "If this goes on, check token_url.",
                type="malformed_response",
                status=status,
                retry_after=seconds_to_wait(answer.headers, now=self._clock()),
            )
        if status == 401 and code not in _CLIENT_CODES:
            return DeadRefreshToken(code, status)
        return RefreshFailed(
            f"The token endpoint {self.host} refuses this client's request ({named}). "
            f"{_ADVICE.get(code, 'Check token_url, client_id and extra_params')}.",
            type=code,
            status=status,
        )


def _check_client(client_id: object, client_secret: object, client_auth: object, scope: object) -> None:
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


def _checked_params(params: Mapping[str, str]) -> Mapping[str, str]:
    params = dict(params)
    for name, value in params.items():
        if not all(isinstance(each, str) for each in (name, value)):
            raise TypeError("extra_params is a mapping of strings to strings, or a function that returns one.")
        if name in _RESERVED:
            raise ValueError(f"extra_params cannot set {name}: there is an argument for it.")
    return params
