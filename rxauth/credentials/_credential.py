"""A credential as a value, the interface of a credential source, and the source of a chosen key. No I/O."""

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

    # An empty __dict__ beside the slot, so that vars() works and shows no secret.
    __slots__ = ("__dict__", "_fields")

    _fields: tuple[str, str | None, float | None, str, str | None, Mapping[str, Any]]

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
        try:
            end = None if expires_at is None else float(expires_at + 0)  # a string is refused
        except (TypeError, OverflowError):
            end = math.nan
        if end is not None and not math.isfinite(end):
            raise ValueError("expires_at is a Unix time in seconds; give None if it is unknown.")
        fields = (access_token, refresh_token or None, end, token_type, scope, MappingProxyType(dict(extra or {})))
        super().__setattr__("_fields", fields)  # this class's own refuses

    @property
    def access_token(self) -> str:
        """The token for the Authorization header."""
        return self._fields[0]

    @property
    def refresh_token(self) -> str | None:
        """The token that is exchanged for the next access token."""
        return self._fields[1]

    @property
    def expires_at(self) -> float | None:
        """Unix time in seconds; `None` if unknown."""
        return self._fields[2]

    @property
    def token_type(self) -> str:
        """`Bearer`, as a rule."""
        return self._fields[3]

    @property
    def scope(self) -> str | None:
        """Space separated, as the server sent it."""
        return self._fields[4]

    @property
    def extra(self) -> Mapping[str, Any]:
        """Every other field."""
        return self._fields[5]

    @property
    def account_id(self) -> str | None:
        """The account that the credential belongs to, where it is known."""
        account = self.extra.get("account_id")
        return None if account is None else str(account)

    @property
    def token_url(self) -> str | None:
        """The token endpoint that issued the credential, where it is known."""
        url = self.extra.get("token_url")
        return url if isinstance(url, str) and url else None

    def expired(self, now: float) -> bool:
        """Return whether the credential is known to have expired at the Unix time `now`."""
        return self.expires_at is not None and now >= self.expires_at

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Credential) and self._fields == other._fields

    def __hash__(self) -> int:
        return hash(self._fields[:3])

    def __repr__(self) -> str:
        # A credential that __init__ refused has no fields, but its repr stands in a traceback with local variables.
        _, refresh_token, expires_at, *_ = getattr(self, "_fields", (None, None, None))
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


def same_tokens(one: Credential, other: Credential) -> bool:
    """Return whether two credentials have the same tokens, whatever else is known of each."""
    return (one.access_token, one.refresh_token) == (other.access_token, other.refresh_token)


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


class StaticCredentials:
    """Use one token or API key, and never replace it, whatever is stored.

    Args:
        token: the token, or a `Credential` made from it.

    Raises:
        ValueError: the token is empty, or has characters that a header does not allow.

    >>> import asyncio
    >>> key = StaticCredentials("secret")
    >>> asyncio.run(key.token())
    'secret'
    >>> asyncio.run(key.refresh(RuntimeError("401"))) is None
    True
    """

    __slots__ = ("_credential",)

    def __init__(self, token: str | Credential) -> None:
        self._credential = token if isinstance(token, Credential) else Credential(token)

    async def current(self) -> Credential:
        """Return the token as a credential."""
        return self._credential

    async def token(self) -> str:
        """Return the token: for a client that takes a coroutine function as its `api_key`."""
        return self._credential.access_token

    async def refresh(self, failure: object) -> None:
        """Return `None`: a chosen key is not exchanged for a stored token."""
        return

    def __repr__(self) -> str:
        return "StaticCredentials()"
