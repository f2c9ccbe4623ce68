"""An authorization server without the HTTP: logins, their tokens, and device logins."""

from __future__ import annotations

import base64
import math
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote_plus

from rxauth.credentials import Credential
from rxauth.testing._requests import SeenRequest

_NAMED = frozenset({"access_token", "refresh_token", "token_type", "scope"})


class OAuthError(Exception):
    """The authorization server refuses a request: RFC 6749 section 5.2, RFC 8628 section 3.5."""

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(error)
        self.body = {"error": error, "error_description": description}
        self.status = status


@dataclass(eq=False)
class _Login:
    """Tokens that end together. Only the newest refresh token is not spent."""

    scope: str | None
    refresh_token: str = ""
    revoked: bool = False


@dataclass(eq=False)
class _DeviceLogin:
    user_code: str
    scope: str | None
    expires_at: float
    interval: float
    state: Literal["pending", "approved", "denied"] = "pending"
    polled_at: float | None = None


@dataclass(kw_only=True, eq=False, repr=False)
class AuthorizationServer:
    """Issue tokens, revoke them, and say which are valid; the arguments are described at `FakeProvider`.

    Refresh tokens rotate. One that is used a second time revokes its login (RFC 9700 section 4.14.2).

    A test may call from another thread than the server's: each call reads or changes one thing in a single step.
    """

    expires_in: float | None = 900
    rotate: bool = True
    interval: float | None = 5
    client_id: str = "fake-client"
    client_secret: str | None = None
    api_keys: Collection[str] = ()
    extra: Mapping[str, Any] | None = None
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self._access: dict[str, tuple[_Login, float]] = {}
        self._logins: dict[str, _Login] = {}
        self._devices: dict[str, _DeviceLogin] = {}

    def credential(self, *, scope: str | None = None) -> Credential:
        """Log in, and return the new credential."""
        response = self._issue(_Login(scope))
        expires_at = None if self.expires_in is None else self.clock() + self.expires_in
        # With the lifetime, as after a login: without it a short one counts as nearly over.
        extra = {name: value for name, value in response.items() if name not in _NAMED}
        return Credential(response["access_token"], response["refresh_token"], expires_at, scope=scope, extra=extra)

    def accepts(self, token: str | None) -> bool:
        """Return whether an API request with this token would be accepted now."""
        login, expires_at = self._access.get(token or "", (None, 0.0))
        return token in self.api_keys or (login is not None and not login.revoked and self.clock() < expires_at)

    def invalidate(self) -> None:
        """Revoke every access token issued so far, while the client's clock says that it is valid."""
        self._access.clear()

    def revoke(self) -> None:
        """End every login so far: revoke its refresh token too."""
        for login in list(self._logins.values()):
            login.revoked = True

    def approve(self, user_code: str | None = None) -> None:
        """Approve the device login with this code, or all that wait.

        Raises:
            LookupError: none is waiting.
        """
        self._decide(user_code, "approved")

    def deny(self, user_code: str | None = None) -> None:
        """Deny the device login with this code, or all that wait.

        Raises:
            LookupError: none is waiting.
        """
        self._decide(user_code, "denied")

    def expire_devices(self) -> None:
        """Expire every device login that waits."""
        for login in list(self._devices.values()):
            login.expires_at = -math.inf

    def _decide(self, user_code: str | None, state: Literal["approved", "denied"]) -> None:
        logins = [each for each in list(self._devices.values()) if user_code in (None, each.user_code)]
        waiting = [each for each in logins if each.state == "pending"]
        if not waiting:
            raise LookupError("No device login is waiting for a decision.")
        for login in waiting:
            login.state = state

    def _grant_token(self, seen: SeenRequest) -> dict[str, Any]:
        """Answer a request to the token endpoint (RFC 6749 section 6, RFC 8628 section 3.4), or raise OAuthError."""
        values = self._authenticated(seen)
        match values.get("grant_type"):
            case "refresh_token":
                return self._refreshed(values)
            case "urn:ietf:params:oauth:grant-type:device_code":
                return self._polled(values, seen.at)
            case None:
                raise OAuthError("invalid_request", "grant_type is missing.")
        raise OAuthError("unsupported_grant_type", "Only refresh_token and device_code are granted here.")

    def _start_device_login(self, seen: SeenRequest) -> dict[str, Any]:
        """Answer a request to the device authorization endpoint (RFC 8628 section 3.1), or raise OAuthError."""
        values = self._authenticated(seen)
        page = f"http://{seen.headers['Host']}/device"
        # No vowels, so that no code is a word: RFC 8628 section 6.1.
        letters = "".join(secrets.choice("BCDFGHJKLMNPQRSTVWXZ") for _ in range(8))
        user_code = f"{letters[:4]}-{letters[4:]}"
        device_code = f"device-{secrets.token_urlsafe(16)}"
        interval = 5 if self.interval is None else self.interval
        self._devices[device_code] = _DeviceLogin(user_code, values.get("scope"), seen.at + 600, interval)
        more = {} if self.interval is None else {"interval": _whole(self.interval)}
        return {
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={user_code}",
            "expires_in": 600,
        } | more

    def _authenticated(self, seen: SeenRequest) -> dict[str, str]:
        """Return the parameters of an authenticated client (RFC 6749 sections 2.3.1 and 3.2)."""
        if seen.method != "POST":
            raise OAuthError("invalid_request", "Only POST is allowed here.", status=405)
        form, authorization = seen.form(), seen.headers.get("Authorization")
        if any(len(values) > 1 for values in form.values()):
            raise OAuthError("invalid_request", "A parameter is there twice.")
        # A parameter without a value counts as left out: RFC 6749 section 3.2.
        values = {name: each[0] for name, each in form.items() if each[0]}
        client_id, client_secret = values.get("client_id"), values.get("client_secret")
        if authorization is not None:
            if client_secret is not None:
                raise OAuthError("invalid_request", "The client authenticates in two ways at once.")
            client_id = client_secret = None
            scheme, _, encoded = authorization.partition(" ")
            with suppress(ValueError):  # no base64, or no text in it
                name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
                if scheme.lower() == "basic":
                    client_id, client_secret = unquote_plus(name), unquote_plus(secret)
        if client_id != self.client_id or (client_secret or None) != self.client_secret:
            raise OAuthError(
                "invalid_client", "The client is unknown, its secret is wrong, or its header is not Basic.", status=401
            )
        return values

    def _refreshed(self, values: Mapping[str, str]) -> dict[str, Any]:
        presented = values.get("refresh_token")
        if presented is None:
            raise OAuthError("invalid_request", "refresh_token is missing.")
        login = self._logins.get(presented)
        if login is None:
            raise OAuthError("invalid_grant", "The refresh token is unknown.")
        if presented != login.refresh_token:
            login.revoked = True
            raise OAuthError("invalid_grant", "The refresh token was used already: log in again.")
        if login.revoked:
            raise OAuthError("invalid_grant", "The login was revoked: log in again.")
        if not set(values.get("scope", "").split()) <= set((login.scope or "").split()):
            raise OAuthError("invalid_scope", "The scope exceeds what was granted.")
        return self._issue(login, with_refresh=self.rotate)

    def _polled(self, values: Mapping[str, str], now: float) -> dict[str, Any]:
        device_code = values.get("device_code")
        if device_code is None:
            raise OAuthError("invalid_request", "device_code is missing.")
        login = self._devices.get(device_code)
        if login is None:
            raise OAuthError("invalid_grant", "The device code is unknown, or was used already.")
        if login.state == "denied":
            raise OAuthError("access_denied", "The person said no.")
        if now >= login.expires_at:
            raise OAuthError("expired_token", "The device code has expired: start over.")
        last, login.polled_at = login.polled_at, now
        # A timer may fire a clock tick early.
        if last is not None and now - last < login.interval - 0.01:
            login.interval += 5
            raise OAuthError("slow_down", "Wait 5 seconds longer between two polls.")
        if login.state == "pending":
            raise OAuthError("authorization_pending", "The person has not decided yet.")
        del self._devices[device_code]
        return self._issue(_Login(login.scope))

    def _issue(self, login: _Login, *, with_refresh: bool = True) -> dict[str, Any]:
        access = f"access-{secrets.token_urlsafe(16)}"
        response: dict[str, Any] = {"access_token": access, "token_type": "Bearer"}
        expires_at = math.inf
        if self.expires_in is not None:
            expires_at = self.clock() + self.expires_in
            response["expires_in"] = _whole(self.expires_in)
        self._access[access] = login, expires_at
        if with_refresh:
            login.refresh_token = response["refresh_token"] = f"refresh-{secrets.token_urlsafe(16)}"
            self._logins[login.refresh_token] = login
        if login.scope is not None:
            response["scope"] = login.scope
        return response | dict(self.extra or {})


def _whole(seconds: float) -> float:
    """Return an integer where it is one: some clients fail on `900.0`."""
    return int(seconds) if float(seconds).is_integer() else seconds
