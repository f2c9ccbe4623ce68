"""Refresh a stored credential: under the store's lock, at most once, and without losing a rotated token.

take the lock, read the store
    another credential is stored      adopt it: no request
    the rejected one is stored        check that the store can save, send its refresh token
the answer is slow                    release the lock and leave a mark, so that no other process sends the same token;
                                      take the lock again when the answer comes
the answer cannot be stored           keep the credential in memory, unless another process has stored one
no usable answer                      release the lock, wait, begin again
the refresh token is dead             release the lock, wait, look whether another process has stored a new one
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import AsyncExitStack

from rxauth import backoff
from rxauth.credentials._credential import Credential, same_tokens
from rxauth.credentials._post import EndpointUnavailable
from rxauth.credentials._refresh_state import RefreshState
from rxauth.credentials._single_flight import flights
from rxauth.credentials._token_endpoint import DeadRefreshToken
from rxauth.errors import CredentialError, LoginRequired, RefreshFailed, StoreError

log = logging.getLogger(__name__)

_SECOND_LOOK = 1.0  # s in which another process that used the refresh token first stores its answer
_LOOK_EVERY = 1.0  # s between two looks at the store while another process awaits an answer
_CONTENDED = 1.0  # s of waiting for the lock after which another process must have been refreshing


class _MustWait(Exception):
    """The token endpoint must not be called for `seconds`; `contended`: another process is refreshing."""

    def __init__(self, seconds: float, *, contended: bool) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.contended = contended


class Refresh:
    """Make one refresh of one rejected credential."""

    def __init__(self, state: RefreshState, rejected: Credential, account: str | None) -> None:
        self._state = state
        self._store = state.store
        self._rejected = rejected
        self._account = account
        self._deadline = state.monotonic() + state.timeout
        self._spent = rejected  # the credential whose refresh token was sent last
        self._retry_at: float | None = None  # Unix time until which this refresh has asked other processes to wait
        self._unavailable: EndpointUnavailable | None = None  # the last try's failure

    async def run(self) -> Credential:
        """Refresh; if the refresh token is dead, look once more for another process's credential in the store."""
        try:
            return await self._when_allowed()
        except DeadRefreshToken as error:
            answer = error
        # Without the lock: another process that was first needs it in order to store its answer.
        self._store.mark_dead(self._spent)
        await self._state.sleep(min(_SECOND_LOOK, max(0.0, self._left())))
        try:
            if not same_tokens(await self._load(), self._spent):
                log.info("Another process used the refresh token first, and has stored a newer credential.")
                return await self._when_allowed()
        except LoginRequired:
            pass  # nothing is stored any more, or the other credential has no refresh token
        except DeadRefreshToken as error:
            answer = error
            self._store.mark_dead(self._spent)
        self._state.mark_dead(self._spent)
        raise self._login_required() from answer

    def _left(self) -> float:
        return self._deadline - self._state.monotonic()

    async def _load(self) -> Credential:
        return await self._state.load(self._account, within=self._left())

    def _adoptable(self, stored: Credential) -> bool:
        return stored.access_token != self._rejected.access_token and self._state.left(stored) > 0

    def _login_required(self) -> LoginRequired:
        return LoginRequired(
            f"The login has ended: {self._state.endpoint.host} no longer accepts its refresh token. Log in again."
        )

    # When to send ----------------------------------------------------------------------------------------------------

    async def _when_allowed(self) -> Credential:
        """Refresh, after a wait if the endpoint or another process has asked for one and the time allows it."""
        state = self._state
        while True:
            try:
                return await self._with_retries()
            except _MustWait as must_wait:
                wait = must_wait
            seconds = min(wait.seconds, self._left() - state.reserve / 2)
            if seconds <= 0 or not (wait.contended or wait.seconds + state.reserve <= self._left()):
                raise RefreshFailed(
                    f"The token endpoint {state.endpoint.host} is not called for another {wait.seconds:.0f} s: it "
                    "asked to wait, or has yet to answer another process. Try again after that; what is stored is "
                    "intact.",
                    type="retry_after",
                )
            until = state.monotonic() + seconds
            while (left := until - state.monotonic()) > 0:
                await state.sleep(min(_LOOK_EVERY, left))
                stored = await self._load()
                if self._adoptable(stored):
                    return stored

    async def _with_retries(self) -> Credential:
        async def attempt() -> Credential | Exception:
            try:
                return await self._attempt()
            except EndpointUnavailable as error:
                self._unavailable = error
                raise
            except Exception as error:
                return error  # as a result, so that no policy repeats it

        def on_retry(number: int, delay: float, failure: BaseException | None) -> None:
            if failure is not None and self._left() < delay + self._state.reserve:
                raise failure
            log.info("Try %d of the refresh failed; the next one is in %.1f s. %s", number, delay, failure)

        outcome: object = None
        try:
            outcome = await backoff.call(self._state.retrying, attempt, sleep=self._state.sleep, on_retry=on_retry)
        except Exception:
            if self._unavailable is None:
                raise
        if isinstance(outcome, Credential):
            return outcome
        if isinstance(outcome, Exception):
            raise outcome
        # The policy gave up: with the last failure, an error of its own, or a value that its callback made.
        last = self._unavailable or EndpointUnavailable("The retry policy gave up.", type="retrying")
        wait = f" It asks to wait {last.retry_after:.0f} s." if last.retry_after is not None else ""
        raise RefreshFailed(
            f"The credential could not be refreshed. {last}{wait} Try again later; what is stored is intact.",
            type=last.type,
            status=last.status,
        ) from last

    async def _seconds_to_wait(self, stored: Credential) -> float:
        retry_at = await self._store.retry_at()
        if self._retry_at is not None and retry_at in (None, self._retry_at):
            return 0.0  # the policy decides when this refresh tries again
        return self._state.seconds_to_wait(stored, retry_at)

    # Under the lock --------------------------------------------------------------------------------------------------

    async def _attempt(self) -> Credential:
        state = self._state
        began = state.monotonic()
        async with AsyncExitStack() as lock:
            try:
                await lock.enter_async_context(self._store.locked(within=self._left() - state.reserve))
            except (TimeoutError, CredentialError) as error:
                return await self._without_lock(error)
            contended = state.monotonic() - began > _CONTENDED
            stored = await self._load()
            if self._adoptable(stored):
                await self._save_again(stored)
                log.debug("A newer credential is stored already; adopted it.")
                return stored
            if stored.refresh_token is None:
                raise LoginRequired("The credential has no refresh token. Log in again.")
            if state.is_dead(stored):
                raise self._login_required()
            if seconds := await self._seconds_to_wait(stored):
                raise _MustWait(seconds, contended=contended)
            if self._left() < state.reserve / 2:
                raise RefreshFailed("There was no time left for a token request. Try again later.", type="timeout")
            if not self._store.is_unsaved(stored):  # else the stored token is spent: a check would protect nothing
                await self._store.check_can_save()
            # Not to be cancelled from the request until its answer is stored: a rotated token would be lost.
            with flights.unbroken():
                return await self._exchange(stored, lock)

    async def _without_lock(self, error: TimeoutError | CredentialError) -> Credential:
        """Adopt a credential that another process may have stored; never go on without the lock."""
        stored = await self._load()
        if self._adoptable(stored):
            return stored
        if isinstance(error, CredentialError):
            raise error
        raise RefreshFailed(
            f"Another process held the lock of {self._store.place} all the time; no token was sent. Try again later.",
            type="LockTimeout",
        )

    async def _save_again(self, credential: Credential) -> None:
        """Store a credential that could not be stored before."""
        if not self._store.is_unsaved(credential):
            return
        with flights.unbroken():
            failure = await self._store.save(credential)
        if failure is not None:
            log.error("The refreshed credential still could not be stored. %s", failure)
        else:
            log.info("The refreshed credential is stored now.")

    async def _exchange(self, spent: Credential, lock: AsyncExitStack) -> Credential:
        """Return the credential that the refresh token of `spent` is exchanged for."""
        self._spent = spent
        try:
            renewed, problem = await self._answer(spent, lock)
        except EndpointUnavailable as error:
            if error.retry_after is not None:
                self._retry_at = self._state.remember_wait(spent, error.retry_after)
                await self._store.set_retry_at(self._retry_at)
            raise
        self._state.measure(renewed)
        failure = problem or await self._store.save(renewed)
        if failure is not None:
            return await self._not_saved(renewed, failure)
        left = self._state.left(renewed)
        log.info("Refreshed the credential%s.", f"; it is valid for {left:.0f} s" if left < math.inf else "")
        return renewed

    async def _answer(self, spent: Credential, lock: AsyncExitStack) -> tuple[Credential, StoreError | None]:
        """Send the refresh token and wait for the answer; release the lock while the answer is slow.

        Returns the credential, and `None` if the lock is held, or else why the credential must not be stored now.
        """
        request = asyncio.create_task(self._state.endpoint.refresh(spent))
        await asyncio.wait([request], timeout=self._state.lock_hold)
        slow = not request.done() and await self._leave_mark()
        if slow:
            await lock.aclose()
            log.info("The token endpoint %s is slow; the lock is free meanwhile.", self._state.endpoint.host)
        await asyncio.wait([request])
        if request.exception() is None:
            # In memory first, so that this process has it even if the store fails.
            self._store.keep(spent, request.result())
        problem = await self._lock_again(lock) if slow else None
        return await request, problem

    async def _leave_mark(self) -> bool:
        """Keep other processes from sending the same refresh token while it may still be answered."""
        until = self._state.clock() + self._state.answer_timeout
        if not await self._store.set_retry_at(until):
            return False  # the lock stays held: a second use of the token would end the login
        self._retry_at = until
        return True

    async def _lock_again(self, lock: AsyncExitStack) -> StoreError | None:
        try:
            await lock.enter_async_context(self._store.locked(within=self._state.timeout))
        except (TimeoutError, CredentialError) as error:
            return StoreError(f"The lock of {self._store.place} could not be taken again ({type(error).__name__}).")
        await self._store.set_retry_at(None)
        replaced, _ = await self._store.replaced()
        return StoreError(f"Another process has changed {self._store.place} meanwhile.") if replaced else None

    async def _not_saved(self, renewed: Credential, failure: StoreError) -> Credential:
        """Return the credential, which is in memory only, or the one that another process has stored meanwhile."""
        replaced, theirs = await self._store.replaced()
        if not replaced:
            log.error(
                "The refreshed credential could not be stored. This program goes on with it and will try again to "
                "store it; if it ends before that, log in again. %s",
                failure,
            )
            self._store.set_unsaved(failure)
            return renewed
        # The lock was lost, and another process has stored or removed a credential: what it left in the store is valid.
        self._store.forget()
        if theirs is None or theirs.account_id not in (None, renewed.account_id) or self._state.left(theirs) <= 0:
            raise failure
        log.warning("Another process stored a credential meanwhile; adopted it. %s", failure)
        return theirs
