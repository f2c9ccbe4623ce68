"""The interface of a credential store.

A store may have more methods; `OAuthCredentials` calls those that are there:

    async check_can_save() -> None
        Raise StoreError, with the next action, if `save` would fail now (no room, no permission). Called inside
        `locked()`, before a refresh token is spent.
    async load_retry_at() -> float | None
        Return the Unix time before which the token endpoint asked not to be called for the stored credential.
    async save_retry_at(unix_seconds: float | None) -> None
        Keep that time for other processes, as long as the same credential is stored; `None` removes it.
    mark_dead(credential: Credential) -> None
        Leave out every copy with this refresh token from the next `load` on: the server refused it. Only a store over
        several stores has it.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from rxauth.credentials._credential import Credential


@runtime_checkable
class CredentialStore(Protocol):
    """Keep one account's credential, for all programs that open the same place.

    Every method may be called from any event loop and any thread, also from several at once.
    """

    async def load(self) -> Credential | None:
        """Return what is stored; `None` if nothing is. Takes no lock: a save is seen whole or not at all.

        Raises:
            StoreError: it cannot be read or is not a credential.
        """
        ...

    async def save(self, credential: Credential) -> None:
        """Replace what is stored. Takes the lock itself, unless called inside this task's own `locked()`.

        Raises:
            StoreError: it could not be written; what was stored is intact.
        """
        ...

    async def delete(self) -> bool:
        """Remove what is stored, under the lock; return whether there was anything. Only a logout calls it."""
        ...

    def locked(self) -> AbstractAsyncContextManager[None]:
        """Exclude other processes, threads and tasks. Waits; cancel it, or put a timeout around it.

        Not re-entrant: a second `locked()` inside the first waits like any other.

        Raises:
            StoreError: the lock cannot be had at all (an unreachable Redis, a directory that cannot be written).
        """
        ...

    def describe(self) -> str:
        """Return where this is, for a person: a path, or an address without its password."""
        ...
