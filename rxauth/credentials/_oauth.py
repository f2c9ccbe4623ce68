"""OAuth credentials that refresh themselves: compare and refresh, once for everybody who asks.

    refresh(failure)
        which credential was rejected?
        a refresh of it is under way               join it
        take the store's lock, look again
            another credential is stored           adopt it: no request
            the one that was rejected              spend its refresh token, store what comes, return it

All of it runs on a private thread (see `_single_flight`): it outlives the loop of whoever asked.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from rxauth import backoff
from rxauth.credentials._credential import Credential
from rxauth.credentials._single_flight import Interrupted, flights
from rxauth.credentials._token_endpoint import ClientAuth, DeadRefreshToken, EndpointUnavailable, TokenEndpoint
from rxauth.errors import (
    AccountChanged,
    CredentialError,
    LoginRequired,
    RefreshFailed,
    RxAuthError,
    StoreError,
    causes,
)
from rxauth.failures import rejected_credential

if TYPE_CHECKING:
    import tenacity

    from rxauth.credentials._store import CredentialStore

__all__ = ["OAuthCredentials"]

log = logging.getLogger(__name__)

_FRESH = 10.0  # s for which a new credential is not taken for the rejected one that a failure does not name
_DEAD = 300.0  # s for which a dead refresh token is not tried again
_SECOND_LOOK = 1.0  # s after which whoever rotated a token that is dead for us has stored the new one
_AHEAD_PAUSE = 15.0  # s between two attempts to refresh ahead of time

_LOG_IN = "Log in again."  # how, is known to the program that asks

Outcome: TypeAlias = "Credential | CredentialError"


class OAuthCredentials:
    """A credential source that refreshes what is in a store (RFC 6749 section 6).

    However many streams get a 401 together, on whatever loops and threads, they cause one token request and share its
    outcome, a failure too; processes that share the store adopt what the first of them stored. A cancelled waiter
    cancels itself alone: a refresh under way is finished and stored even when the asker's loop ends.

    Args:
        store: where the credential is kept.
        token_url: the token endpoint; https, or http on loopback.
        client_id: as registered with the server.
        client_secret: for a confidential client.
        scope: asked for at each refresh; `None` keeps what was granted.
        client_auth: `"body"`, or `"basic"` for the Authorization header (RFC 6749 section 2.3.1).
        extra_params: more form parameters of the token request.
        headers: more headers of it.
        refresh_ahead: seconds before its end at which a credential is refreshed in the background; at most half its
            lifetime, where that is known. 0 turns it off.
        request_timeout: seconds for one token request.
        timeout: seconds for a whole refresh: waiting for the lock, tries, and the waits between them.
        retrying: a `tenacity.Retrying` that alone decides what is tried again. Default: 3 tries of what is transient,
            random waits up to 0.5 s, 1 s; `Retry-After` is obeyed while the time lasts.
        clock: Unix time in seconds.
        monotonic: seconds that only grow.
        sleep: waits for so many seconds.

    Raises:
        ValueError, TypeError: an argument makes no sense.

    >>> from rxauth.credentials import Credential, MemoryStore
    >>> store = MemoryStore(Credential("secret", refresh_token="secret too"))
    >>> source = OAuthCredentials(store, token_url="https://example.com/token", client_id="app")
    >>> asyncio.run(source.current())
    Credential(refreshable)
    """

    def __init__(
        self,
        store: CredentialStore,
        *,
        token_url: str,
        client_id: str,
        client_secret: str | None = None,
        scope: str | None = None,
        client_auth: ClientAuth = "body",
        extra_params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        refresh_ahead: float = 120.0,
        request_timeout: float = 10.0,
        timeout: float = 45.0,
        retrying: tenacity.Retrying | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        for method in ("load", "save", "locked"):
            if not callable(getattr(store, method, None)):
                raise TypeError(f"store has no {method}(): give a credential store, such as FileStore.")
        _seconds("refresh_ahead", refresh_ahead, at_least_zero=True)
        _seconds("request_timeout", request_timeout)
        _seconds("timeout", timeout)
        self._store = store
        self._endpoint = TokenEndpoint(
            token_url,
            client_id=client_id,
            client_secret=client_secret,
            client_auth=client_auth,
            scope=scope,
            extra_params=extra_params,
            headers=headers,
            request_timeout=request_timeout,
            clock=clock,
        )
        self._retrying = backoff.default_retrying() if retrying is None else backoff.checked(retrying)
        self._refresh_ahead = refresh_ahead
        self._timeout = timeout
        # A request is begun only while it has this much time: one that the deadline cuts off loses a rotated token.
        self._reserve = min(request_timeout, timeout / 2)
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep

        self._given: _Given | None = None
        self._renewed: _Renewed | None = None
        self._sighting: _Sighting | None = None
        self._dead: dict[str, float] = {}
        self._ahead_not_before = -math.inf

    async def current(self) -> Credential:
        """The credential to make a request with.

        Answers at once while the stored credential has not expired, and refreshes it in the background when it soon
        will. Waits for a refresh when it has expired. One whose lifetime is unknown is given out as it is.

        Raises:
            LoginRequired: nothing is stored, or what is stored cannot be refreshed.
            AccountChanged: what is stored is another account's than what was given out before.
            RefreshFailed: it has expired, and cannot be refreshed now.
            StoreError: the store cannot be read.
        """
        account = self._account(None)
        stored = await self._load(account)
        if self._expired(stored):
            log.debug("The stored credential has expired; refreshing it.")
            credential = await self._share(stored, account)
        else:
            credential = stored
            if self._renewed is not None and not self._renewed.stored:
                self._store_later(stored, account)
            elif self._ends_soon(stored):
                self._refresh_in_background(stored, account)
        self._give(credential)
        return credential

    async def refresh(self, failure: object) -> Credential | None:
        """A credential newer than the one that `failure` rejected.

        Args:
            failure: an exception or an error event. The rejected credential is the one in it (rxauth's sources put it
                there), else the one in `failure.response.request.headers`, else the one last given out; if that one
                is not ten seconds old, it is returned as it is.

        Returns:
            The new credential; `None` if the server gave the same token again.

        Raises:
            LoginRequired: the refresh token is dead, or there is none.
            AccountChanged: another account's credential is stored now; it was neither adopted nor spent.
            RefreshFailed: it cannot be refreshed now.
            StoreError: the store cannot be read, or not be locked.
        """
        rejected = rejected_credential(failure)
        given = self._given
        if rejected is None and given is not None:
            if given.since is not None and self._monotonic() - given.since < _FRESH:
                log.debug("The failure names no credential, and the last one is new: it is given out once more.")
                return given.credential
            rejected = given.credential
        account = self._account(rejected)
        if rejected is None:
            rejected = await self._load(account)
        credential = await self._share(rejected, account)
        self._give(credential, new=True)
        return None if credential.access_token == rejected.access_token else credential

    def __repr__(self) -> str:
        return f"OAuthCredentials({self._store!r}, token_url={self._endpoint.url!r})"

    # What is given out ---------------------------------------------------------------------------------------------

    def _give(self, credential: Credential, *, new: bool = False) -> None:
        given = self._given
        if given is not None and given.credential.access_token == credential.access_token:
            return
        # The first one may be of any age, unless a refresh has just brought it.
        since = self._monotonic() if new or given is not None else None
        self._given = _Given(credential, since)

    def _account(self, rejected: Credential | None) -> str | None:
        """Whose credential may be used; `None` if that is not known."""
        if rejected is not None and rejected.account_id is not None:
            return rejected.account_id
        return self._given.credential.account_id if self._given is not None else None

    # What is stored ------------------------------------------------------------------------------------------------

    async def _load(self, account: str | None, *, within: float = math.inf) -> Credential:
        """What is stored, or what is newer than that: ours, if it could not be stored yet."""
        stored = await self._load_stored(within)
        if stored is None:
            raise LoginRequired(f"No credential is stored in {_place(self._store)}. Log in.")
        renewed = self._renewed
        if renewed is not None and _same(stored, renewed.spent):
            stored = renewed.credential
        if account is not None and stored.account_id not in (None, account):
            raise AccountChanged(
                f"The credential in {_place(self._store)} is another account's now; it was not used. "
                "Start anew to use that account, or log in with the former one."
            )
        self._see(stored)
        return stored

    async def _load_stored(self, within: float = math.inf) -> Credential | None:
        try:
            async with asyncio.timeout(min(within, self._timeout)):
                return await self._store.load()
        except CredentialError:
            raise
        except Exception as error:
            raise StoreError(f"{_place(self._store)} cannot be read ({type(error).__name__}).") from error

    async def _save(self, credential: Credential) -> None:
        try:
            async with asyncio.timeout(self._reserve):
                await self._store.save(credential)
        except CredentialError:
            raise
        except Exception as error:
            raise StoreError(f"{_place(self._store)} cannot be written ({type(error).__name__}).") from error

    # Time ----------------------------------------------------------------------------------------------------------

    def _see(self, credential: Credential) -> None:
        if self._sighting_of(credential) is None:
            left = math.inf if credential.expires_at is None else credential.expires_at - self._clock()
            lifetime = credential.extra.get("expires_in")
            if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or not lifetime > 0:
                # The first one may be of any age; one that comes later has just been issued.
                lifetime = math.inf if self._sighting is None else left
            self._sighting = _Sighting(credential, self._monotonic(), left, lifetime)

    def _sighting_of(self, credential: Credential) -> _Sighting | None:
        sighting = self._sighting
        if sighting is None:
            return None
        if sighting.credential is credential:  # a store in memory gives the same object each time
            return sighting
        if not _same(sighting.credential, credential):
            return None
        return sighting if sighting.credential.expires_at == credential.expires_at else None

    def _left(self, credential: Credential) -> float:
        """Seconds until it expires, by the wall clock, which knows of a sleeping laptop, and by the other one, which
        nobody sets back: the shorter of the two."""
        left = math.inf if credential.expires_at is None else credential.expires_at - self._clock()
        sighting = self._sighting_of(credential)
        if sighting is not None:
            left = min(left, sighting.left - (self._monotonic() - sighting.at))
        return left

    def _expired(self, credential: Credential) -> bool:
        return self._left(credential) <= 0

    def _ends_soon(self, credential: Credential) -> bool:
        sighting = self._sighting_of(credential)
        # Without one another credential is stored by now, and the refresh will find it.
        lifetime = math.inf if sighting is None else sighting.lifetime
        return self._left(credential) < min(self._refresh_ahead, lifetime / 2)

    # Once for everybody --------------------------------------------------------------------------------------------

    async def _share(self, rejected: Credential, account: str | None) -> Credential:
        try:
            outcome = await flights.join(self._flight(rejected), functools.partial(self._outcome, rejected, account))
        except Interrupted:
            outcome = _interrupted()
        except RuntimeError as error:
            raise RefreshFailed(
                "The credential cannot be refreshed: no thread can be started.", type="RuntimeError"
            ) from error
        if isinstance(outcome, CredentialError):
            # A fresh one for each: the traceback of a shared one grows with every waiter that raises it.
            raise _copy(outcome)
        return outcome

    def _flight(self, rejected: Credential) -> tuple[object, str]:
        """What they have in common who wait for the same refresh."""
        return self, _mark(rejected.access_token)

    async def _outcome(self, rejected: Credential, account: str | None) -> Outcome:
        try:
            return await self._renew(rejected, account)
        except CredentialError as error:
            return _without_frames(error)
        except asyncio.CancelledError:
            return _interrupted()
        except Exception as error:
            log.error("A refresh failed unexpectedly (%s).", type(error).__name__)  # noqa: TRY400 - a text may hold a token
            return _caused(
                RefreshFailed(f"The refresh failed unexpectedly ({type(error).__name__}).", type=type(error).__name__),
                error,
            )

    def _refresh_in_background(self, stored: Credential, account: str | None) -> None:
        if stored.refresh_token is None or self._is_dead(stored.refresh_token):
            return
        if self._monotonic() < self._ahead_not_before:
            return
        self._in_background(stored, lambda: self._ahead(stored, account))

    def _store_later(self, stored: Credential, account: str | None) -> None:
        if self._monotonic() >= self._ahead_not_before:
            self._ahead_not_before = self._monotonic() + _AHEAD_PAUSE
            spent = self._renewed.spent if self._renewed is not None else stored
            self._in_background(spent, lambda: self._outcome(spent, account))

    def _in_background(self, stored: Credential, work: Callable[[], Any]) -> None:
        try:
            flights.run(self._flight(stored), work)
        except RuntimeError as error:
            log.warning("The credential cannot be refreshed in the background (%s).", error)

    async def _ahead(self, stored: Credential, account: str | None) -> Outcome:
        outcome = await self._outcome(stored, account)
        if isinstance(outcome, CredentialError):
            asked = getattr(outcome.__cause__, "retry_after", None)
            self._ahead_not_before = self._monotonic() + max(_AHEAD_PAUSE, asked or 0.0)
            log.warning(
                "The credential could not be refreshed ahead of time; it is valid for another %.0f s. %s",
                max(0.0, self._left(stored)),
                outcome,
            )
        return outcome

    # The refresh itself, on the private thread -----------------------------------------------------------------------

    async def _renew(self, rejected: Credential, account: str | None) -> Credential:
        deadline = self._monotonic() + self._timeout
        try:
            return await self._renew_locked(rejected, account, deadline)
        except _Spent as dead:
            spent, answer = dead.credential, dead.answer
        # Without the lock: whoever has rotated this token needs it in order to store the new one.
        await self._sleep(min(_SECOND_LOOK, max(0.0, deadline - self._monotonic())))
        if not _same(await self._load(account, within=deadline - self._monotonic()), spent):
            log.info("The refresh token was spent by somebody else, who has stored a newer credential.")
            return await self._renew_locked(rejected, account, deadline, second=True)
        self._bury(spent)
        raise self._login_required() from answer

    async def _renew_locked(
        self, rejected: Credential, account: str | None, deadline: float, *, second: bool = False
    ) -> Credential:
        lock = AsyncExitStack()
        try:
            async with asyncio.timeout(max(0.0, deadline - self._reserve - self._monotonic())):
                await lock.enter_async_context(self._store.locked())
        except TimeoutError as error:
            return await self._without_lock(rejected, account, deadline, self._lock_not_had(error))
        except CredentialError as error:
            return await self._without_lock(rejected, account, deadline, error)
        except Exception as error:
            unlockable = StoreError(f"{_place(self._store)} cannot be locked ({type(error).__name__}).")
            return await self._without_lock(rejected, account, deadline, _caused(unlockable, error))
        try:
            return await self._exchange(rejected, account, deadline)
        except _Spent as dead:
            if second:
                self._bury(dead.credential)
                raise self._login_required() from dead.answer
            raise
        finally:
            await self._give_back(lock)

    async def _give_back(self, lock: AsyncExitStack) -> None:
        try:
            async with asyncio.timeout(self._reserve):
                await lock.aclose()
        except Exception as error:
            # What was refreshed and stored is good, whatever becomes of the lock.
            log.warning("The lock of %s could not be given back (%s).", _place(self._store), type(error).__name__)

    async def _without_lock(
        self, rejected: Credential, account: str | None, deadline: float, error: CredentialError
    ) -> Credential:
        """Somebody else is at it, or nobody can be: never go on unlocked, but take what they may have stored."""
        stored = await self._load(account, within=deadline - self._monotonic())
        if self._adoptable(stored, rejected):
            return stored
        raise error

    def _lock_not_had(self, error: BaseException) -> CredentialError:
        return _caused(
            RefreshFailed(
                f"Somebody else has held the lock of {_place(self._store)} all the time; no token was spent. "
                "Try again later.",
                type="LockTimeout",
            ),
            error,
        )

    def _adoptable(self, stored: Credential, rejected: Credential) -> bool:
        return stored.access_token != rejected.access_token and not self._expired(stored)

    async def _exchange(self, rejected: Credential, account: str | None, deadline: float) -> Credential:
        last: EndpointUnavailable | None = None

        async def attempt() -> Credential | Exception:
            nonlocal last
            try:
                return await self._try(rejected, account, deadline)
            except EndpointUnavailable as error:
                last = error
                raise
            except (CredentialError, _Spent) as error:
                return error  # as a result: whatever the policy repeats, it is not this

        def on_retry(number: int, delay: float, failure: BaseException | None) -> None:
            if failure is not None and self._monotonic() + delay + self._reserve > deadline:
                raise failure
            log.info("Try %d of the refresh failed; the next one is in %.1f s. %s", number, delay, failure)

        try:
            outcome: object = await backoff.call(self._retrying, attempt, sleep=self._sleep, on_retry=on_retry)
        except Exception:
            if last is None:
                raise
        else:
            if isinstance(outcome, Exception):
                raise outcome
            if isinstance(outcome, Credential):
                return outcome
            if last is None:
                raise RefreshFailed("The retry policy put something of its own in place of a result.", type="retrying")
        # The policy gave up, with the last failure, with an error of its own, or with a value made up by its callback.
        wait = f" It asks to wait {last.retry_after:.0f} s." if last.retry_after is not None else ""
        raise RefreshFailed(
            f"The credential could not be refreshed. {last}{wait} Try again later; what is stored is intact.",
            type=last.type,
            status=last.status,
        ) from last

    async def _try(self, rejected: Credential, account: str | None, deadline: float) -> Credential:
        # Before each try: one that timed out may have rotated, and somebody may have stored a newer credential.
        stored = await self._load(account, within=deadline - self._monotonic())
        if self._adoptable(stored, rejected):
            await self._store_if_not_yet(stored)
            log.debug("A newer credential is stored already; adopted it.")
            return stored
        if stored.refresh_token is None:
            raise LoginRequired(f"The credential has no refresh token. {_LOG_IN}")
        if self._is_dead(stored.refresh_token):
            raise self._login_required()
        left = deadline - self._monotonic()
        if left < self._reserve / 2:
            raise RefreshFailed("There was no time left for a token request. Try again later.", type="timeout")
        # From the request until the answer is stored there is no way out: a token that was rotated is kept.
        with flights.unbroken():
            return await self._spend(stored, left)

    async def _spend(self, stored: Credential, left: float) -> Credential:
        try:
            renewed = await self._endpoint.refresh(stored, within=left)
        except DeadRefreshToken as error:
            raise _Spent(stored, error) from error
        self._see(renewed)
        # In memory first: whatever happens to the store now, this process can go on.
        before = self._renewed
        ours = before is not None and before.credential is stored and not before.stored
        in_store = before.spent if before is not None and ours else stored
        self._renewed = _Renewed(in_store, renewed, stored=False)
        self._ahead_not_before = -math.inf
        try:
            await self._save(renewed)
        except CredentialError as error:
            return await self._not_stored(in_store, renewed, error)
        self._renewed = _Renewed(stored, renewed, stored=True)
        left = self._left(renewed)
        log.info("Refreshed the credential%s.", f"; it is valid for {left:.0f} s" if left < math.inf else "")
        return renewed

    async def _not_stored(self, in_store: Credential, renewed: Credential, error: CredentialError) -> Credential:
        try:
            there = await self._load_stored(self._reserve)
        except CredentialError:
            there = in_store
        if there is None or not _same(there, in_store):
            # The lock was lost and somebody else has stored, or removed, a credential: theirs counts, not ours.
            self._renewed = None
            if there is not None and there.account_id in (None, renewed.account_id) and not self._expired(there):
                log.warning("Somebody else stored a credential in the meantime; adopted it. %s", error)
                return there
            raise error
        log.error(
            "The refreshed credential could not be stored. This program goes on with it and will try again to store "
            "it; if it ends before that, log in again. %s",
            error,
        )
        self._ahead_not_before = self._monotonic() + _AHEAD_PAUSE
        return renewed

    async def _store_if_not_yet(self, credential: Credential) -> None:
        renewed = self._renewed
        if renewed is None or renewed.stored or renewed.credential is not credential:
            return
        try:
            with flights.unbroken():
                await self._save(credential)
        except CredentialError as error:
            log.error("The refreshed credential still could not be stored. %s", error)  # noqa: TRY400 - no stack
        else:
            self._renewed = renewed._replace(stored=True)
            log.info("The refreshed credential is stored now.")

    # Dead refresh tokens ---------------------------------------------------------------------------------------------

    def _bury(self, credential: Credential) -> None:
        now = self._monotonic()
        self._dead = {mark: until for mark, until in self._dead.items() if until > now}
        if credential.refresh_token is not None:
            self._dead[_mark(credential.refresh_token)] = now + _DEAD

    def _is_dead(self, refresh_token: str) -> bool:
        return self._dead.get(_mark(refresh_token), -math.inf) > self._monotonic()

    def _login_required(self) -> LoginRequired:
        return LoginRequired(
            f"The login has ended: {self._endpoint.host} no longer accepts its refresh token. {_LOG_IN}"
        )


class _Given(NamedTuple):
    credential: Credential
    since: float | None  # monotonic; None if it may be of any age


class _Renewed(NamedTuple):
    """What a refresh brought: `credential` counts wherever `spent` is found in the store."""

    spent: Credential
    credential: Credential
    stored: bool


class _Sighting(NamedTuple):
    """When a credential was first seen here, how long it had then, and how long it had when it was issued."""

    credential: Credential
    at: float  # monotonic
    left: float  # s
    lifetime: float  # s; infinite if nobody knows


class _Spent(Exception):
    """A refresh token turned out to be dead."""

    def __init__(self, credential: Credential, answer: DeadRefreshToken) -> None:
        super().__init__(str(answer))
        self.credential = credential
        self.answer = answer


def _same(one: Credential, other: Credential) -> bool:
    return (one.access_token, one.refresh_token) == (other.access_token, other.refresh_token)


def _mark(token: str) -> str:
    """What to remember of a token: not the token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _interrupted() -> RefreshFailed:
    return RefreshFailed("The program ended before the credential was refreshed.", type="Interrupted")


def _caused(error: CredentialError, cause: BaseException) -> CredentialError:
    error.__cause__ = cause
    return error


def _without_frames(error: CredentialError) -> CredentialError:
    """The frames of a token request, or of a file that is written, hold the tokens for as long as somebody keeps the
    error, and for whoever reports it with the variables of its frames."""
    for each in causes(error):
        if isinstance(each, RxAuthError | DeadRefreshToken | OSError):
            each.__traceback__ = None
    return error


def _copy(error: CredentialError) -> CredentialError:
    fresh = type(error).__new__(type(error), *error.args)
    fresh.__dict__.update(error.__dict__)
    fresh.args = error.args
    fresh.__cause__ = error.__cause__
    return fresh


def _place(store: CredentialStore) -> str:
    try:
        return store.describe()
    except Exception:  # a store of somebody else's, without it
        return type(store).__name__


def _seconds(name: str, value: float, *, at_least_zero: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number of seconds.")
    if not (math.isfinite(value) and (value > 0 or (at_least_zero and value == 0))):
        raise ValueError(f"{name} is a finite number of seconds, {'at least' if at_least_zero else 'more than'} 0.")
