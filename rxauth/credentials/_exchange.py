"""Send a refresh token once, and store the answer: at once, or when it comes late.

the answer is slow      release the lock and leave a mark, so that no other process sends the same refresh token;
                        take the lock again when the answer comes
it cannot be stored     keep the credential in memory, unless another process has stored one
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import AsyncExitStack

from rxauth.credentials._credential import Credential
from rxauth.credentials._post import EndpointUnavailable
from rxauth.credentials._shared import Shared
from rxauth.errors import CredentialError, StoreError

__all__ = ["Exchange"]

log = logging.getLogger(__name__)


class Exchange:
    """Exchange refresh tokens under the store's lock, for one refresh.

    `retry_at` is the Unix time until which this refresh has asked other processes to wait.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._stored = shared.stored
        self.retry_at: float | None = None

    async def run(self, spent: Credential, lock: AsyncExitStack) -> Credential:
        """Return the credential that the refresh token of `spent` is exchanged for.

        Args:
            spent: the stored credential.
            lock: the store's lock, held.

        Raises:
            DeadRefreshToken, EndpointUnavailable, RefreshFailed: as `TokenEndpoint.refresh`.
            StoreError: another process has stored a credential meanwhile that cannot be used here.
        """
        try:
            renewed, problem = await self._answer(spent, lock)
        except EndpointUnavailable as error:
            if error.retry_after is not None:
                self.retry_at = self._shared.tokens.wait(spent.refresh_token or "", error.retry_after)
                await self._stored.set_retry_at(self.retry_at)
            raise
        self._shared.lifetimes.see(renewed)
        failure = problem or await self._stored.save(renewed)
        if failure is not None:
            return await self._not_saved(renewed, failure)
        left = self._shared.lifetimes.left(renewed)
        log.info("Refreshed the credential%s.", f"; it is valid for {left:.0f} s" if left < math.inf else "")
        return renewed

    async def _answer(self, spent: Credential, lock: AsyncExitStack) -> tuple[Credential, StoreError | None]:
        """Send the refresh token and wait for the answer; release the lock while the answer is slow.

        Returns the credential, and `None` if the lock is held, or else why the credential must not be stored now.
        """
        request = asyncio.create_task(self._shared.endpoint.refresh(spent))
        self._shared.awaiting += 1
        try:
            await asyncio.wait([request], timeout=self._shared.lock_hold)
            slow = not request.done() and await self._leave_mark()
            if slow:
                await lock.aclose()
                log.info("The token endpoint %s is slow; the lock is free meanwhile.", self._shared.endpoint.host)
            await asyncio.wait([request])
        finally:
            self._shared.awaiting -= 1
        if request.exception() is None:
            # In memory first, so that this process has it even if the store fails.
            self._stored.keep(spent, request.result())
        problem = await self._lock_again(lock) if slow else None
        return await request, problem

    async def _leave_mark(self) -> bool:
        """Keep other processes from sending the same refresh token while it may still be answered."""
        until = self._shared.clock() + self._shared.answer_timeout
        if not self._stored.keeps_retry_at or not await self._stored.set_retry_at(until):
            return False  # the lock stays held: a second use of the token would end the login
        self.retry_at = until
        return True

    async def _lock_again(self, lock: AsyncExitStack) -> StoreError | None:
        try:
            await lock.enter_async_context(self._stored.locked(within=self._shared.timeout))
        except (TimeoutError, CredentialError) as error:
            return StoreError(f"The lock of {self._stored.place} could not be taken again ({type(error).__name__}).")
        await self._stored.set_retry_at(None)
        replaced, _ = await self._stored.replaced()
        return StoreError(f"Another process has changed {self._stored.place} meanwhile.") if replaced else None

    async def _not_saved(self, renewed: Credential, failure: StoreError) -> Credential:
        """Return the credential, which is in memory only, or the one that another process has stored meanwhile."""
        replaced, theirs = await self._stored.replaced()
        if not replaced:
            log.error(
                "The refreshed credential could not be stored. This program goes on with it and will try again to "
                "store it; if it ends before that, log in again. %s",
                failure,
            )
            self._stored.set_unsaved(failure)
            return renewed
        # The lock was lost, and another process has stored or removed a credential: what it left in the store is valid.
        self._stored.forget()
        usable = theirs is not None and theirs.account_id in (None, renewed.account_id)
        if theirs is None or not usable or self._shared.lifetimes.expired(theirs):
            raise failure
        log.warning("Another process stored a credential meanwhile; adopted it. %s", failure)
        return theirs
