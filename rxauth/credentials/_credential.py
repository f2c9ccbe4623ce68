"""A credential as a value, and the interface of a credential source. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable


class Credential:
    """Hold an access token and the other fields of a token response (RFC 6749 section 5.1).

    Immutable and hashable. The tokens are plain `str` properties; `repr`, `str`, `vars` and pickle do not show them.

    Args:
        access_token: goes into the Authorization header.
        refresh_token: is exchanged for the next access token; `None` if there is none.
        expires_at: Unix time in seconds; `None` if unknown.
        token_type: RFC 6749 section 7.1.
        scope: space separated, as the server sent it.
        extra: every other field, e.g. `account_id`.

    Raises:
        ValueError: there is no access token, it has characters that a header does not allow, or the expiry is no time.

    >>> credential = Credential("secret", refresh_token="secret too", expires_at=1700000000)
    >>> credential
    Credential(expires_at=1700000000.0, refreshable)
    >>> credential.access_token
    'secret'
    """

    # An empty __dict__ beside the slots, so that vars() works and shows no secret.
    __slots__ = ("__dict__", "_access_token", "_expires_at", "_extra", "_refresh_token", "_scope", "_token_type")

    _access_token: str
    _expires_at: float | None
    _extra: Mapping[str, Any]
    _refresh_token: str | None
    _scope: str | None
    _token_type: str

    def __init__(
        self,
        access_token: str,
        refresh_token: str | None = None,
        expires_at: float | None = None,
        token_type: str = "Bearer",  # noqa: S107 - a type, not a token
        scope: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        if not access_token or not isinstance(access_token, str):
            raise ValueError("access_token is empty; give the token.")
        if not (access_token.isascii() and access_token.isprintable()):
            raise ValueError("access_token has characters that a header does not allow (RFC 6750 section 2.1).")
        if refresh_token is not None and not isinstance(refresh_token, str):
            raise ValueError("refresh_token is a string, or None.")
        if expires_at is not None and not _is_time(expires_at):
            raise ValueError("expires_at is a Unix time in seconds; give None if it is unknown.")
        put = super().__setattr__  # this class's own refuses
        put("_access_token", access_token)
        put("_refresh_token", refresh_token or None)
        put("_expires_at", None if expires_at is None else float(expires_at))
        put("_token_type", token_type)
        put("_scope", scope)
        put("_extra", MappingProxyType(dict(extra or {})))

    @property
    def access_token(self) -> str:
        """The token for the Authorization header."""
        return self._access_token

    @property
    def refresh_token(self) -> str | None:
        """The token that is exchanged for the next access token."""
        return self._refresh_token

    @property
    def expires_at(self) -> float | None:
        """Unix time in seconds; `None` if unknown."""
        return self._expires_at

    @property
    def token_type(self) -> str:
        """`Bearer`, as a rule."""
        return self._token_type

    @property
    def scope(self) -> str | None:
        """Space separated, as the server sent it."""
        return self._scope

    @property
    def extra(self) -> Mapping[str, Any]:
        """Every other field."""
        return self._extra

    @property
    def account_id(self) -> str | None:
        """The account that the credential belongs to, where it is known."""
        account = self._extra.get("account_id")
        return None if account is None else str(account)

    @property
    def token_url(self) -> str | None:
        """The token endpoint that issued the credential, where it is known."""
        url = self._extra.get("token_url")
        return url if isinstance(url, str) and url else None

    def expired(self, now: float) -> bool:
        """Return whether the credential is known to have expired at the Unix time `now`."""
        return self._expires_at is not None and now >= self._expires_at

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Credential) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((self._access_token, self._refresh_token, self._expires_at))

    def _values(self) -> tuple[Any, ...]:
        return (
            self._access_token,
            self._refresh_token,
            self._expires_at,
            self._token_type,
            self._scope,
            dict(self._extra),
        )

    def __repr__(self) -> str:
        # A credential that __init__ refused has no fields, but its repr stands in a traceback with local variables.
        expires_at, refresh_token = getattr(self, "_expires_at", None), getattr(self, "_refresh_token", None)
        known = [] if expires_at is None else [f"expires_at={expires_at}"]
        if refresh_token:
            known.append("refreshable")
        return f"Credential({', '.join(known)})"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("A Credential is immutable.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("A Credential is immutable.")

    def __copy__(self) -> Credential:
        return self

    def __deepcopy__(self, memo: object) -> Credential:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("A Credential cannot be pickled. Keep it in a store, and load it where it is needed.")


def _is_time(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, OverflowError):
        return False


_LATEST = 1e11  # Unix seconds: the year 5138. A larger number counts milliseconds, or smaller units.


def unix_seconds(value: float) -> float:
    """Return a Unix time in seconds, whatever unit a file or a server writes it in.

    >>> unix_seconds(1_700_000_000), unix_seconds(1_700_000_000_000)
    (1700000000, 1700000000.0)
    """
    while _LATEST < value < math.inf:
        value /= 1000
    return value


@runtime_checkable
class CredentialSource(Protocol):
    """Give a stream the credential to use now, and a newer one after a failure."""

    async def current(self) -> Credential:
        """Return the credential to make a request with.

        Raises:
            LoginRequired: there is none.
        """
        ...

    async def refresh(self, failure: object) -> Credential | None:
        """Return a credential newer than the one that `failure` rejected; `None` if there is no newer one."""
        ...
