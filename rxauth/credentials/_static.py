"""A key that was given explicitly: it is used as it is, whatever is stored anywhere."""

from __future__ import annotations

from rxauth.credentials._credential import Credential

__all__ = ["StaticCredentials"]


class StaticCredentials:
    """One token or API key that nothing replaces.

    Args:
        token: the token, or a `Credential` made from it.

    Raises:
        ValueError: the token is empty, or cannot stand in a header.

    >>> import asyncio
    >>> key = StaticCredentials("secret")
    >>> asyncio.run(key.current())
    Credential()
    >>> asyncio.run(key.refresh(RuntimeError("401"))) is None
    True
    """

    __slots__ = ("_credential",)

    def __init__(self, token: str | Credential) -> None:
        self._credential = token if isinstance(token, Credential) else Credential(token)

    async def current(self) -> Credential:
        """The token that was given."""
        return self._credential

    async def refresh(self, failure: object) -> None:
        """Always `None`: a key that somebody chose is not exchanged for one that they did not."""
        return

    def __repr__(self) -> str:
        return "StaticCredentials()"
