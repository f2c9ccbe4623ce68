"""An authorization server without the HTTP: tokens, their families, and device logins.

Refresh tokens rotate. One that is used a second time revokes all tokens of its login (RFC 9700 section 4.14.2, RFC 7009
section 2.1).
"""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote_plus

from rxauth.credentials import Credential

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

_NAMED = frozenset({"access_token", "refresh_token", "token_type", "scope"})


class OAuthError(Exception):
    """The authorization server refuses a request: RFC 6749 section 5.2, RFC 8628 section 3.5."""

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object of the answer."""
        return {"error": self.error, "error_description": self.description}


@dataclass(eq=False)
class _Family:
    """One login, to which tokens belong."""

    scope: str | None
    revoked: bool = False


@dataclass(eq=False)
class _Access:
    family: _Family
    expires_at: float | None
    dead: bool = False


@dataclass(eq=False)
class _Refresh:
    family: _Family
    spent: bool = False


@dataclass(eq=False)
class _DeviceLogin:
    user_code: str
    scope: str | None
    expires_at: float
    interval: float
    state: Literal["pending", "approved", "denied", "used"] = "pending"
    polled_at: float | None = None


@dataclass(eq=False, kw_only=True)
class FakeOAuth:
    """Issue tokens, revoke them, and tell which are valid.

    Args:
        client_id: the only client there is.
        client_secret: `None` for a public client.
        expires_in: seconds an access token lives; `None`: for ever, and the response leaves it out.
        rotate: whether a refresh issues a new refresh token, and spends the old one.
        interval: seconds between two polls of a device login; `None`: 5, and the response leaves it out.
        extra: more fields for a token response.
        clock: Unix time in seconds, for access tokens.
    """

    client_id: str
    client_secret: str | None = field(repr=False)
    expires_in: float | None
    rotate: bool
    interval: float | None
    extra: Mapping[str, Any]
    clock: Callable[[], float]
    _access: dict[str, _Access] = field(default_factory=dict, repr=False)
    _refresh: dict[str, _Refresh] = field(default_factory=dict, repr=False)
    _devices: dict[str, _DeviceLogin] = field(default_factory=dict, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def credential(self, scope: str | None) -> Credential:
        """Log in, and return the client's credential."""
        response = self._issue(_Family(scope))
        expires_at = None if self.expires_in is None else self.clock() + self.expires_in
        # With the lifetime, as after a login: without it a short one counts as nearly over.
        extra = {name: value for name, value in response.items() if name not in _NAMED}
        return Credential(response["access_token"], response["refresh_token"], expires_at, scope=scope, extra=extra)

    def accepts(self, token: str | None) -> bool:
        """Return whether this access token is valid now."""
        with self._lock:
            access = self._access.get(token or "")
            if access is None or access.dead or access.family.revoked:
                return False
            return access.expires_at is None or self.clock() < access.expires_at

    def invalidate(self) -> None:
        """End every access token issued so far, but no refresh token."""
        with self._lock:
            for access in self._access.values():
                access.dead = True

    def revoke(self) -> None:
        """End every login so far: its access tokens and refresh tokens."""
        with self._lock:
            for refresh in self._refresh.values():
                refresh.family.revoked = True
            self.invalidate()

    def token(self, form: Mapping[str, list[str]], authorization: str | None, now: float) -> dict[str, Any]:
        """Answer a request to the token endpoint (RFC 6749 section 6, RFC 8628 section 3.4).

        Args:
            form: the body.
            authorization: the header.
            now: seconds, on the clock that device logins are measured with.

        Raises:
            OAuthError: it is refused.
        """
        with self._lock:
            values = self._checked(form, authorization)
            match values.get("grant_type"):
                case "refresh_token":
                    return self._refreshed(values)
                case grant if grant == DEVICE_GRANT:
                    return self._polled(values, now)
                case None:
                    raise OAuthError("invalid_request", "grant_type is missing.")
                case _:
                    raise OAuthError("unsupported_grant_type", "Only refresh_token and device_code are granted here.")

    def device(self, form: Mapping[str, list[str]], authorization: str | None, now: float, page: str) -> dict[str, Any]:
        """Answer a request to the device authorization endpoint (RFC 8628 section 3.1).

        Args:
            form: the body.
            authorization: the header.
            now: seconds, on the clock that device logins are measured with.
            page: where the person enters the code.

        Raises:
            OAuthError: it is refused.
        """
        with self._lock:
            values = self._checked(form, authorization)
            # No vowels, so that no code is a word: RFC 8628 section 6.1.
            letters = "".join(secrets.choice("BCDFGHJKLMNPQRSTVWXZ") for _ in range(8))
            user_code = f"{letters[:4]}-{letters[4:]}"
            device_code = f"device-{secrets.token_urlsafe(16)}"
            interval = 5 if self.interval is None else self.interval
            self._devices[device_code] = _DeviceLogin(user_code, values.get("scope"), now + 600, interval)
            more = {} if self.interval is None else {"interval": _whole(self.interval)}
            return {
                "device_code": device_code,
                "user_code": user_code,
                "verification_uri": page,
                "verification_uri_complete": f"{page}?user_code={user_code}",
                "expires_in": 600,
            } | more

    def decide(self, user_code: str | None, state: Literal["approved", "denied"]) -> None:
        """Allow or refuse a device login, as the person at the browser does.

        Raises:
            LookupError: no login is waiting, or none with this code.
        """
        with self._lock:
            waiting = [
                login
                for login in self._devices.values()
                if login.state == "pending" and user_code in (None, login.user_code)
            ]
            if not waiting:
                raise LookupError("No device login is waiting for a decision.")
            for login in waiting:
                login.state = state

    def expire_devices(self) -> None:
        """End the time of every device login that is waiting."""
        with self._lock:
            for login in self._devices.values():
                login.expires_at = float("-inf")

    def _refreshed(self, values: Mapping[str, str]) -> dict[str, Any]:
        presented = values.get("refresh_token")
        if presented is None:
            raise OAuthError("invalid_request", "refresh_token is missing.")
        refresh = self._refresh.get(presented)
        if refresh is None:
            raise OAuthError("invalid_grant", "The refresh token is unknown.")
        family = refresh.family
        if refresh.spent:
            family.revoked = True
        if family.revoked:
            reason = "The refresh token was used already" if refresh.spent else "The login was revoked"
            raise OAuthError("invalid_grant", f"{reason}: log in again.")
        wanted, granted = values.get("scope"), family.scope
        if wanted is not None and not set(wanted.split()) <= set((granted or "").split()):
            raise OAuthError("invalid_scope", "The scope exceeds what was granted.")
        refresh.spent = self.rotate
        return self._issue(family, with_refresh=self.rotate)

    def _polled(self, values: Mapping[str, str], now: float) -> dict[str, Any]:
        device_code = values.get("device_code")
        if device_code is None:
            raise OAuthError("invalid_request", "device_code is missing.")
        login = self._devices.get(device_code)
        if login is None or login.state == "used":
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
        login.state = "used"
        return self._issue(_Family(login.scope))

    def _issue(self, family: _Family, *, with_refresh: bool = True) -> dict[str, Any]:
        with self._lock:
            access, refresh = f"access-{secrets.token_urlsafe(16)}", f"refresh-{secrets.token_urlsafe(16)}"
            expires_at = None if self.expires_in is None else self.clock() + self.expires_in
            self._access[access] = _Access(family, expires_at)
            response: dict[str, Any] = {"access_token": access, "token_type": "Bearer"}
            if self.expires_in is not None:
                response["expires_in"] = _whole(self.expires_in)
            if with_refresh:
                self._refresh[refresh] = _Refresh(family)
                response["refresh_token"] = refresh
            if family.scope is not None:
                response["scope"] = family.scope
            return response | dict(self.extra)

    def _checked(self, form: Mapping[str, list[str]], authorization: str | None) -> dict[str, str]:
        """Return the parameters of an authenticated client (RFC 6749 sections 2.3.1 and 3.2)."""
        if any(len(values) > 1 for values in form.values()):
            raise OAuthError("invalid_request", "A parameter is there twice.")
        # A parameter without a value counts as left out: RFC 6749 section 3.2.
        values = {name: each[0] for name, each in form.items() if each[0]}
        client_id, client_secret = values.get("client_id"), values.get("client_secret")
        if authorization is not None:
            if client_secret is not None:
                raise OAuthError("invalid_request", "The client authenticates in two ways at once.")
            client_id, client_secret = _basic(authorization)
        if client_id != self.client_id or (client_secret or None) != self.client_secret:
            raise OAuthError("invalid_client", "The client is unknown, or its secret is wrong.", status=401)
        return values


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    refusal = OAuthError("invalid_client", "The Authorization header is not Basic.", status=401)
    if scheme.lower() != "basic":
        raise refusal
    try:
        name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        raise refusal from None
    return unquote_plus(name), unquote_plus(secret)


def _whole(seconds: float) -> float:
    """Return an integer where it is one: some clients fail on `900.0`."""
    return int(seconds) if float(seconds).is_integer() else seconds
