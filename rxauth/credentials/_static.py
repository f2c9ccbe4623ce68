"""A token or API key that the caller chose."""

from __future__ import annotations

from rxauth.credentials._credential import Credential

__all__ = ["StaticCredentials"]


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
