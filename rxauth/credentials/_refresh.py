"""Refresh a stored credential: under the store's lock, at most once, and without losing a rotated token.

take the lock, read the store
    another credential is stored      adopt it: no request
    the rejected one is stored        check that the store can save, exchange its refresh token (see `_exchange`)
no usable answer                      release the lock, wait, begin again
the refresh token is dead             release the lock, wait, look whether another process has stored a new one
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack

from rxauth import backoff
from rxauth.credentials._credential import Credential
from rxauth.credentials._exchange import Exchange
from rxauth.credentials._lifetime import same_tokens
from rxauth.credentials._post import EndpointUnavailable
from rxauth.credentials._shared import Shared
from rxauth.credentials._single_flight import flights
from rxauth.credentials._token_endpoint import DeadRefreshToken
from rxauth.errors import CredentialError, LoginRequired, RefreshFailed

__all__ = ["Refresh"]

log = logging.getLogger(__name__)

_SECOND_LOOK = 1.0  # s in which another process that used the refresh token first stores its answer
_LOOK_EVERY = 1.0  # s between two looks at the store while another process awaits an answer
_CONTENDED = 1.0  # s of waiting for the lock after which another process must have been refreshing
_ON_TIME = 0.05  # s by which a sleep may end too early


class _Dead(Exception):
    """The server refused a refresh token for good."""

    def __init__(self, credential: Credential, answer: DeadRefreshToken) -> None:
        super().__init__(str(answer))
        self.credential = credential
        self.answer = answer


class _NotYet(Exception):
    """The token endpoint must not be called for `seconds`; `contended`: another process is refreshing."""

    def __init__(self, seconds: float, *, contended: bool) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.contended = contended


class Refresh:
    """Make one refresh of one rejected credential."""

    def __init__(self, shared: Shared, rejected: Credential, account: str | None) -> None:
        self._shared = shared
        self._stored = shared.stored
        self._rejected = rejected
        self._account = account
        self._deadline = shared.monotonic() + shared.timeout
        self._exchange = Exchange(shared)

    async def run(self) -> Credential:
        """Refresh; if the refresh token is dead, look once more for another process's credential in the store."""
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
        """Refresh, after a short wait if the endpoint or another process has asked for one."""
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
        if self._exchange.retry_at is not None and stored in (None, self._exchange.retry_at):
            return 0.0  # the policy decides when this refresh tries again
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
            except CredentialError as error:
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
            if not self._stored.is_unsaved(stored):  # else the stored token is spent: a check would protect nothing
                await self._stored.check_can_save()
            # Not to be cancelled from the request until its answer is stored: a rotated token would be lost.
            try:
                with flights.unbroken():
                    return await self._exchange.run(stored, lock)
            except DeadRefreshToken as error:
                raise _Dead(stored, error) from error

    async def _without_lock(self, error: CredentialError) -> Credential:
        """Adopt a credential that another process may have stored; never go on without the lock."""
        stored = await self._load()
        if self._adoptable(stored):
            return stored
        raise error
