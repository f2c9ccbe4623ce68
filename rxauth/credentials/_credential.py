"""A credential as a value, and what it takes to be a source of them. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable


class Credential:
    """An access token, and what came with it (RFC 6749 section 5.1).

    Immutable and hashable. The tokens are plain `str` properties; `repr`, `str`, `vars` and pickle do not give them
    away.

    Args:
        access_token: goes into the Authorization header.
        refresh_token: what buys the next access token; `None` if there is none.
        expires_at: Unix time in seconds; `None` if unknown.
        token_type: RFC 6749 section 7.1.
        scope: space separated, as the server told it.
        extra: everything else the server or the store keeps, e.g. `account_id`.

    Raises:
        ValueError: no access token, or one that cannot stand in a header; an expiry that is no time.

    >>> credential = Credential("secret", refresh_token="secret too", expires_at=1700000000)
    >>> credential
    Credential(expires_at=1700000000.0, refreshable)
    >>> credential.access_token
    'secret'
    """

    # An empty __dict__ beside the slots, so that `vars` has an answer, and no secret in it.
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
            raise ValueError("A credential needs an access token that is not empty.")
        if not (access_token.isascii() and access_token.isprintable()):
            raise ValueError("An access token is printable ASCII (RFC 6750 section 2.1): it has to stand in a header.")
        if refresh_token is not None and not isinstance(refresh_token, str):
            raise ValueError("A refresh token is text.")
        if expires_at is not None and not _is_time(expires_at):
            raise ValueError("expires_at is a time; give None if it is unknown.")
        put = super().__setattr__
        put("_access_token", access_token)
        put("_refresh_token", refresh_token or None)
        put("_expires_at", None if expires_at is None else float(expires_at))
        put("_token_type", token_type)
        put("_scope", scope)
        put("_extra", MappingProxyType(dict(extra or {})))

    @property
    def access_token(self) -> str:
        """What goes into the Authorization header."""
        return self._access_token

    @property
    def refresh_token(self) -> str | None:
        """What buys the next access token."""
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
        """Space separated, as the server told it."""
        return self._scope

    @property
    def extra(self) -> Mapping[str, Any]:
        """Everything else the server or the store keeps."""
        return self._extra

    @property
    def account_id(self) -> str | None:
        """Whose credential it is, where that is known."""
        account = self._extra.get("account_id")
        return None if account is None else str(account)

    def expired(self, now: float) -> bool:
        """Whether it is known to have expired at the Unix time `now`."""
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
        # One that `__init__` refused is seen too: by whoever logs the local variables of a traceback.
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
        raise TypeError("A Credential does not pickle: keep it in a store and load it where it is needed.")


def _is_time(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, OverflowError):
        return False


@runtime_checkable
class CredentialSource(Protocol):
    """What a stream needs: the credential to use now, and a newer one after a failure."""

    async def current(self) -> Credential:
        """The credential to make a request with.

        Raises:
            LoginRequired: there is none.
        """
        ...

    async def refresh(self, failure: object) -> Credential | None:
        """A credential newer than the one that `failure` rejected; `None` if there is no newer one."""
        ...
