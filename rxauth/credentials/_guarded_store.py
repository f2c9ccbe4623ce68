"""Call a credential store within time limits, and keep a renewed credential in memory until it is stored."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple, TypeVar

from rxauth.credentials._credential import Credential, same_tokens
from rxauth.credentials._store import CredentialStore
from rxauth.errors import CredentialError, StoreError

log = logging.getLogger(__name__)

T = TypeVar("T")


class _Renewed(NamedTuple):
    """Hold a credential that a refresh returned; it replaces `spent` where the store still has that."""

    spent: Credential
    credential: Credential
    failure: StoreError | None  # why it is not stored


class GuardedStore:
    """Read and write a store. Each of its failures becomes a StoreError, and each call has a time limit.

    Args:
        store: may be of any origin, and may lack the optional methods.
        timeout: seconds for one call of the store, the wait for its lock excepted.

    Raises:
        TypeError: the store lacks a method that is not optional.
    """

    def __init__(self, store: CredentialStore, *, timeout: float) -> None:
        for method in ("load", "save", "locked"):
            if not callable(getattr(store, method, None)):
                raise TypeError(f"store has no {method}(): give a credential store, such as FileStore.")
        self._store = store
        self._timeout = timeout
        self._renewed: _Renewed | None = None

    @property
    def place(self) -> str:
        """The place of the store, for messages."""
        try:
            return self._store.describe()
        except Exception:  # a caller's own store may lack it
            return type(self._store).__name__

    @property
    def unsaved(self) -> StoreError | None:
        """Why the newest credential is in memory only; `None` if it is stored."""
        return self._renewed.failure if self._renewed is not None else None

    @property
    def spent(self) -> Credential | None:
        """The credential that the newest one replaced."""
        return self._renewed.spent if self._renewed is not None else None

    def is_unsaved(self, credential: Credential) -> bool:
        """Return whether this credential is in memory only."""
        renewed = self._renewed
        return renewed is not None and renewed.failure is not None and renewed.credential is credential

    async def load(self, *, within: float = math.inf) -> Credential | None:
        """Return the stored credential, or a newer one in memory that replaces it."""
        stored = await self._call("read", lambda: self._store.load(), within)
        renewed = self._renewed
        return renewed.credential if stored and renewed and same_tokens(stored, renewed.spent) else stored

    @asynccontextmanager
    async def locked(self, *, within: float) -> AsyncIterator[None]:
        """Hold the store's lock.

        Raises:
            TimeoutError: it cannot be had in that time.
            StoreError: it cannot be had at all.
        """
        lock = AsyncExitStack()
        try:
            async with asyncio.timeout(max(0.0, within)):
                await lock.enter_async_context(self._store.locked())
        except (TimeoutError, CredentialError):
            raise
        except Exception as error:
            raise StoreError(f"{self.place} cannot be locked ({type(error).__name__}).") from error
        try:
            yield
        finally:
            try:
                async with asyncio.timeout(self._timeout):
                    await lock.aclose()
            except Exception as error:
                # Not raised: the credential is stored, even if the lock is not released.
                log.warning("The lock of %s could not be released (%s).", self.place, type(error).__name__)

    def keep(self, spent: Credential, renewed: Credential) -> None:
        """Make `load` return `renewed` where the store still has `spent`, even if it is never stored."""
        held = self._renewed.spent if self._renewed is not None and self.is_unsaved(spent) else spent
        self._renewed = _Renewed(held, renewed, StoreError(f"It is not stored in {self.place} yet."))

    async def save(self, credential: Credential) -> StoreError | None:
        """Store the credential that was given to `keep`; return why it could not be stored, else `None`."""
        failure: StoreError | None = None
        try:
            await self._call("written", lambda: self._store.save(credential))
        except CredentialError as error:
            failure = error if isinstance(error, StoreError) else StoreError(str(error))
        self.set_unsaved(failure)
        return failure

    def set_unsaved(self, failure: StoreError | None) -> None:
        """Remember why the kept credential is not stored; `None` if it is."""
        if self._renewed is not None:
            self._renewed = self._renewed._replace(failure=failure)

    async def replaced(self) -> tuple[bool, Credential | None]:
        """Return whether another process has replaced the spent credential, and with which one (`None`: a logout)."""
        try:
            there = await self._call("read", lambda: self._store.load())
        except CredentialError:
            return False, None
        renewed = self._renewed
        return renewed is not None and not (there and same_tokens(there, renewed.spent)), there

    def forget(self) -> None:
        """Drop the kept credential, so that `load` returns what is stored."""
        self._renewed = None

    # Optional methods of a store -------------------------------------------------------------------------------------

    async def check_can_save(self) -> None:
        """Raise StoreError if a save would fail now, as far as the store can tell."""
        await self._optional("check_can_save", "written")

    async def retry_at(self) -> float | None:
        """Return the Unix time before which the token endpoint is not to be called."""
        try:
            value = await self._optional("load_retry_at", "read")
        except CredentialError as error:
            log.debug("The time to retry at cannot be read. %s", error)
            return None
        return float(value) if isinstance(value, int | float) else None

    async def set_retry_at(self, unix_seconds: float | None) -> bool:
        """Store that time for other processes; return whether the store keeps it."""
        try:
            await self._optional("save_retry_at", "written", unix_seconds)
        except CredentialError as error:
            log.debug("The time to retry at cannot be stored. %s", error)
            return False
        return callable(getattr(self._store, "save_retry_at", None))

    def mark_dead(self, credential: Credential) -> None:
        """Report a refused refresh token, so that a store of several files skips the copies of it."""
        mark = getattr(self._store, "mark_dead", None)
        if callable(mark):
            mark(credential)

    async def _optional(self, name: str, verb: str, *arguments: Any) -> Any:
        method = getattr(self._store, name, None)
        return await self._call(verb, lambda: method(*arguments)) if callable(method) else None

    async def _call(self, verb: str, method: Callable[[], Awaitable[T]], within: float = math.inf) -> T:
        try:
            async with asyncio.timeout(min(within, self._timeout)):
                return await method()
        except CredentialError:
            raise
        except Exception as error:
            raise StoreError(f"{self.place} cannot be {verb} ({type(error).__name__}).") from error
