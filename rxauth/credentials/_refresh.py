"""Refresh a stored credential: under the store's lock, at most once, and so that no rotated token is lost.

take the lock, read the store
    another credential is stored      adopt it: no request
    the rejected one is stored        check that the store can save, send its refresh token, save the answer
no usable answer                      release the lock, wait, begin again
the answer is slow                    release the lock and leave a mark, so that no other process sends the same
                                      refresh token; take the lock again when the answer comes, and save it
the refresh token is dead             release the lock, wait, look whether another process has stored a new one
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rxauth import backoff
from rxauth.addresses import same_address
from rxauth.credentials._credential import Credential
from rxauth.credentials._lifetime import Lifetimes, same_tokens
from rxauth.credentials._post import EndpointUnavailable
from rxauth.credentials._refresh_tokens import TokenMemory
from rxauth.credentials._single_flight import flights
from rxauth.credentials._stored import Stored
from rxauth.credentials._token_endpoint import DeadRefreshToken, TokenEndpoint
from rxauth.errors import AccountChanged, CredentialError, LoginRequired, RefreshFailed, StoreError

if TYPE_CHECKING:
    from rxauth.backoff import BaseRetrying

__all__ = ["Refresh", "Refresher"]

log = logging.getLogger(__name__)

_SECOND_LOOK = 1.0  # s after which another process that used the refresh token first has stored its answer
_LOOK_EVERY = 1.0  # s between two looks at the store while another process awaits an answer
_CONTENDED = 1.0  # s of waiting for the lock, from which on another process must have been refreshing
_ON_TIME = 0.05  # s by which a sleep may end too early


@dataclass(kw_only=True)
class Refresher:
    """Hold what all refreshes of one `OAuthCredentials` share.

    `timeout`, `reserve`, `answer_timeout` and `lock_hold` are seconds: for a refresh; that must be left to begin a
    request; for one answer; for which the lock is held while an answer is awaited.
    """

    stored: Stored
    endpoint: TokenEndpoint
    retrying: BaseRetrying
    lifetimes: Lifetimes
    tokens: TokenMemory
    timeout: float
    reserve: float
    answer_timeout: float
    lock_hold: float
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    awaiting: int = 0  # requests that have been sent and not been answered

    async def load(self, account: str | None, *, within: float = math.inf) -> Credential:
        """Return the stored credential, or a newer one in memory.

        Raises:
            LoginRequired: there is none, or it was issued by another server.
            AccountChanged: it belongs to another account.
            StoreError: the store cannot be read.
        """
        stored = await self.stored.load(within=within)
        if stored is None:
            raise LoginRequired(f"No credential is stored in {self.stored.place}. Log in.")
        if stored.token_url is not None and not same_address(stored.token_url, self.endpoint.url):
            raise LoginRequired(
                f"The credential in {self.stored.place} was issued by another server than {self.endpoint.host}; it was "
                f"not used. Log in at {self.endpoint.host}, or give the token_url of the server that issued it."
            )
        if account is not None and stored.account_id not in (None, account):
            raise AccountChanged(
                f"The credential in {self.stored.place} is another account's now; it was not used. "
                "Start anew to use that account, or log in with the former one."
            )
        self.lifetimes.see(stored)
        return stored

    async def renew(self, rejected: Credential, account: str | None) -> Credential:
        """Return a credential newer than `rejected`.

        Raises:
            CredentialError: there is none.
        """
        return await Refresh(self, rejected, account).run()

    async def save_again(self, credential: Credential) -> None:
        """Store a credential that could not be stored before; inside the lock."""
        if not self.stored.is_unsaved(credential):
            return
        with flights.unbroken():
            failure = await self.stored.save(credential)
        if failure is not None:
            log.error("The refreshed credential still could not be stored. %s", failure)
        else:
            log.info("The refreshed credential is stored now.")


class _Dead(Exception):
    """The server refused a refresh token for good."""

    def __init__(self, credential: Credential, answer: DeadRefreshToken) -> None:
        super().__init__(str(answer))
        self.credential = credential
        self.answer = answer


class _NotYet(Exception):
    """The token endpoint is not to be called for so many seconds."""

    def __init__(self, seconds: float, *, contended: bool) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.contended = contended


class Refresh:
    """Make one refresh of one rejected credential."""

    def __init__(self, shared: Refresher, rejected: Credential, account: str | None) -> None:
        self._shared = shared
        self._stored = shared.stored
        self._rejected = rejected
        self._account = account
        self._deadline = shared.monotonic() + shared.timeout
        self._own_retry_at: float | None = None  # the policy decides when this refresh tries again

    async def run(self) -> Credential:
        """Refresh, with a second look at the store where the refresh token is dead."""
        shared = self._shared
        try:
            return await self._after_waiting()
        except _Dead as dead:
            spent, answer = dead.credential, dead.answer
        # Without the lock: another process that was first needs it in order to store its answer.
        self._stored.mark_dead(spent)
        await shared.sleep(min(_SECOND_LOOK, max(0.0, self._left())))
        try:
            if not same_tokens(await self._load(), spent):
                log.info("Another process used the refresh token first, and has stored a newer credential.")
                return await self._after_waiting()
        except LoginRequired:
            pass  # nothing is stored any more, or the other credential has no refresh token
        except _Dead as dead:
            spent, answer = dead.credential, dead.answer
            self._stored.mark_dead(spent)
        shared.tokens.mark_dead(spent.refresh_token or "")
        raise self._login_required() from answer

    def _left(self) -> float:
        return self._deadline - self._shared.monotonic()

    async def _load(self) -> Credential:
        return await self._shared.load(self._account, within=self._left())

    def _adoptable(self, stored: Credential) -> bool:
        return stored.access_token != self._rejected.access_token and not self._shared.lifetimes.expired(stored)

    def _login_required(self) -> LoginRequired:
        return LoginRequired(
            f"The login has ended: {self._shared.endpoint.host} no longer accepts its refresh token. Log in again."
        )

    # When to send ----------------------------------------------------------------------------------------------------

    async def _after_waiting(self) -> Credential:
        """Refresh; before that, wait for a time that the endpoint or another process has asked for, if it is short."""
        try:
            return await self._with_retries()
        except _NotYet as not_yet:
            wait = not_yet
        until = self._shared.monotonic() + wait.seconds
        if wait.contended or until + self._shared.reserve <= self._deadline:
            until = min(until, self._deadline - self._shared.reserve / 2)
            while (left := until - self._shared.monotonic()) > 0:
                await self._shared.sleep(min(_LOOK_EVERY, left))
                stored = await self._load()
                if self._adoptable(stored):
                    return stored
            try:
                return await self._with_retries()
            except _NotYet as not_yet:
                wait = not_yet
        raise RefreshFailed(
            f"The token endpoint {self._shared.endpoint.host} is not called for another {wait.seconds:.0f} s: it asked "
            "to wait, or has yet to answer another process. Try again after that; what is stored is intact.",
            type="retry_after",
        )

    async def _with_retries(self) -> Credential:
        last: EndpointUnavailable | None = None

        async def attempt() -> Credential | Exception:
            nonlocal last
            try:
                return await self._attempt()
            except EndpointUnavailable as error:
                last = error
                raise
            except (CredentialError, _Dead, _NotYet) as error:
                return error  # as a result, so that no policy repeats it

        def on_retry(number: int, delay: float, failure: BaseException | None) -> None:
            if failure is not None and self._left() < delay + self._shared.reserve:
                raise failure
            log.info("Try %d of the refresh failed; the next one is in %.1f s. %s", number, delay, failure)

        try:
            outcome: object = await backoff.call(
                self._shared.retrying, attempt, sleep=self._shared.sleep, on_retry=on_retry
            )
        except Exception:
            if last is None:
                raise
        else:
            if isinstance(outcome, Exception):
                raise outcome
            if isinstance(outcome, Credential):
                return outcome
            if last is None:
                raise RefreshFailed("The retry policy returned a value of its own for the refresh.", type="retrying")
        # The policy gave up: with the last failure, an error of its own, or a value that its callback made.
        wait = f" It asks to wait {last.retry_after:.0f} s." if last.retry_after is not None else ""
        raise RefreshFailed(
            f"The credential could not be refreshed. {last}{wait} Try again later; what is stored is intact.",
            type=last.type,
            status=last.status,
        ) from last

    async def _seconds_to_wait(self, refresh_token: str) -> float:
        stored = await self._stored.retry_at()
        if self._own_retry_at is not None and stored in (None, self._own_retry_at):
            return 0.0
        seconds = self._shared.tokens.seconds_to_wait(refresh_token, stored)
        return seconds if seconds > _ON_TIME else 0.0

    # Under the lock --------------------------------------------------------------------------------------------------

    async def _attempt(self) -> Credential:
        began = self._shared.monotonic()
        async with AsyncExitStack() as lock:
            try:
                await lock.enter_async_context(self._stored.locked(within=self._left() - self._shared.reserve))
            except TimeoutError:
                return await self._without_lock(
                    RefreshFailed(
                        f"Another process held the lock of {self._stored.place} all the time; no token was sent. "
                        "Try again later.",
                        type="LockTimeout",
                    )
                )
            except StoreError as error:
                return await self._without_lock(error)
            held_since = self._shared.monotonic()
            stored = await self._load()
            if self._adoptable(stored):
                await self._shared.save_again(stored)
                log.debug("A newer credential is stored already; adopted it.")
                return stored
            if stored.refresh_token is None:
                raise LoginRequired("The credential has no refresh token. Log in again.")
            if self._shared.tokens.is_dead(stored.refresh_token):
                raise self._login_required()
            if seconds := await self._seconds_to_wait(stored.refresh_token):
                raise _NotYet(seconds, contended=held_since - began > _CONTENDED)
            if self._left() < self._shared.reserve / 2:
                raise RefreshFailed("There was no time left for a token request. Try again later.", type="timeout")
            if not self._stored.is_unsaved(stored):  # else the stored one is spent, and nothing is saved by waiting
                await self._stored.check_can_save()
            # From the request until its answer is stored nothing cancels this: a rotated token must not be lost.
            with flights.unbroken():
                return await self._exchange(stored, lock)

    async def _without_lock(self, error: CredentialError) -> Credential:
        """Adopt a credential that another process may have stored; never go on without the lock."""
        stored = await self._load()
        if self._adoptable(stored):
            return stored
        raise error

    async def _exchange(self, spent: Credential, lock: AsyncExitStack) -> Credential:
        try:
            renewed, problem = await self._answer(spent, lock)
        except DeadRefreshToken as error:
            raise _Dead(spent, error) from error
        except EndpointUnavailable as error:
            if error.retry_after is not None:
                self._own_retry_at = self._shared.tokens.wait(spent.refresh_token or "", error.retry_after)
                await self._stored.set_retry_at(self._own_retry_at)
            raise
        self._shared.lifetimes.see(renewed)
        failure = problem or await self._stored.save(renewed)
        if failure is not None:
            return await self._not_saved(renewed, failure)
        left = self._shared.lifetimes.left(renewed)
        log.info("Refreshed the credential%s.", f"; it is valid for {left:.0f} s" if left < math.inf else "")
        return renewed

    async def _answer(self, spent: Credential, lock: AsyncExitStack) -> tuple[Credential, StoreError | None]:
        """Send the refresh token and wait for the answer, longer than the lock may be held if it must be.

        The lock is held afterwards, or there is a StoreError: the credential must not be stored now.
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
            # In memory first: whatever the store does now, this process can go on.
            self._stored.keep(spent, request.result())
        problem = await self._lock_again(lock) if slow else None
        return await request, problem

    async def _leave_mark(self) -> bool:
        """Keep other processes from sending the same refresh token while it may still be answered."""
        until = self._shared.clock() + self._shared.answer_timeout
        if not self._stored.keeps_retry_at or not await self._stored.set_retry_at(until):
            return False  # the lock is held on: a second use of the token would end the login
        self._own_retry_at = until
        return True

    async def _lock_again(self, lock: AsyncExitStack) -> StoreError | None:
        try:
            await lock.enter_async_context(self._stored.locked(within=self._shared.timeout))
        except StoreError as error:
            return error
        except TimeoutError:
            return StoreError(f"The lock of {self._stored.place} could not be had for {self._shared.timeout:g} s.")
        await self._stored.set_retry_at(None)
        replaced, _ = await self._stored.replaced()
        return StoreError(f"Another process has changed {self._stored.place} meanwhile.") if replaced else None

    async def _not_saved(self, renewed: Credential, failure: StoreError) -> Credential:
        """Go on with a credential that is in memory only, unless another process has stored one."""
        replaced, theirs = await self._stored.replaced()
        if not replaced:
            log.error(
                "The refreshed credential could not be stored. This program goes on with it and will try again to "
                "store it; if it ends before that, log in again. %s",
                failure,
            )
            self._stored.set_unsaved(failure)
            return renewed
        # The lock was lost, and another process has stored a credential, or removed it: its credential counts.
        self._stored.forget()
        usable = theirs is not None and theirs.account_id in (None, renewed.account_id)
        if theirs is None or not usable or self._shared.lifetimes.expired(theirs):
            raise failure
        log.warning("Another process stored a credential meanwhile; adopted it. %s", failure)
        return theirs
