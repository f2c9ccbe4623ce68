"""Give out OAuth credentials, and refresh them with one token request for all callers.

    refresh(failure)
        find the credential that was rejected
        a refresh of it is under way               join it (see `_single_flight`)
        take the store's lock, read the store      (see `_refresh`)
            another credential is stored           adopt it: no request
            the rejected one is stored             exchange its refresh token, store the answer, return it

The refresh runs on a private thread, so that it goes on when the loop of its caller ends.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from rxauth import backoff
from rxauth.credentials._credential import Credential
from rxauth.credentials._guarded_store import GuardedStore
from rxauth.credentials._post import BodyFormat, SessionOption
from rxauth.credentials._refresh import Refresh
from rxauth.credentials._refresh_state import RefreshState, fingerprint
from rxauth.credentials._single_flight import Interrupted, flights
from rxauth.credentials._token_endpoint import ClientAuth, DeadRefreshToken, ExtraParams, TokenEndpoint
from rxauth.errors import CredentialError, RefreshFailed, RxAuthError, StoreError, causes
from rxauth.failures import rejected_credential

if TYPE_CHECKING:
    from rxauth.backoff import Retrying
    from rxauth.credentials._store import CredentialStore

log = logging.getLogger(__name__)

_NEW_FOR = 10.0  # s for which a new credential is not the rejected one, if the failure names none
_PAUSE = 15.0  # s between two attempts to refresh ahead of time, or to store an unsaved credential


class _Given(NamedTuple):
    """The credential that was returned last. In one tuple, because several threads read it."""

    credential: Credential
    since: float  # monotonic; endlessly long ago if it may be of any age


class OAuthCredentials:
    """Give out a stored credential, and refresh it (RFC 6749 section 6).

    Any number of streams that get a 401 together, on any loops and threads, cause one token request and share its
    outcome, a failure too; other processes with the same store adopt the credential that the first of them stored. To
    cancel a caller does not cancel the refresh: it is finished and stored, even when the caller's loop ends.

    Args:
        store: where the credential is kept.
        token_url: the token endpoint; https, or http on loopback. A credential that another endpoint issued is refused.
        client_id: as registered with the server.
        client_secret: for a confidential client.
        scope: the scope to request at each refresh; `None` keeps the granted one.
        client_auth: `"body"`, or `"basic"` for the Authorization header (RFC 6749 section 2.3.1).
        extra_params: more parameters of the token request: a mapping, or a function (a coroutine function too) that
            is called for each request and returns one, e.g. with a client assertion (RFC 7523). It runs on another
            thread.
        headers: more headers of the token request.
        body: the encoding of the parameters, `"form"` or `"json"`.
        session: an `aiohttp.ClientSession` whose proxy and TLS settings are used, or a function that returns a session
            for each request. Only its settings are used, because the refresh may outlive the session's loop. Default:
            the proxies of the environment.
        refresh_ahead: seconds before its end at which a credential is refreshed in the background; at most half its
            lifetime, where that is known. 0 turns it off.
        request_timeout: seconds to connect to the token endpoint.
        timeout: seconds that a caller waits for a refresh: lock, tries, and the waits between them.
        answer_timeout: seconds to wait for the answer to a token request, in the background once the callers have
            timed out. Until then its refresh token is not sent again.
        lock_hold: seconds to hold the store's lock while waiting for an answer, if the store can keep other processes
            from sending the same refresh token meanwhile.
        retrying: a `tenacity.Retrying` that decides when a refresh tries again, within `timeout`. Default: 3 tries of
            transient failures, random waits up to 0.5 s, 1 s; `Retry-After` is obeyed while the time lasts.
        clock: returns the Unix time in seconds.
        monotonic: returns seconds that never go back, such as `time.monotonic`.
        sleep: a coroutine function that waits for so many seconds.

    Raises:
        ValueError, TypeError: an argument cannot be used.

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
        extra_params: ExtraParams = None,
        headers: Mapping[str, str] | None = None,
        body: BodyFormat = "form",
        session: SessionOption = None,
        refresh_ahead: float = 120.0,
        request_timeout: float = 10.0,
        timeout: float = 45.0,
        answer_timeout: float = 120.0,
        lock_hold: float = 15.0,
        retrying: Retrying | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        for name, seconds in {
            "refresh_ahead": refresh_ahead,
            "request_timeout": request_timeout,
            "timeout": timeout,
            "answer_timeout": answer_timeout,
            "lock_hold": lock_hold,
        }.items():
            if isinstance(seconds, bool) or not isinstance(seconds, int | float):
                raise TypeError(f"{name} is a number of seconds.")
            if not (math.isfinite(seconds) and (seconds > 0 or (name == "refresh_ahead" and seconds == 0))):
                raise ValueError(f"{name} is a finite number of seconds, more than 0.")
        reserve = min(request_timeout, timeout / 2)
        self._store = store
        self._refresh_ahead = refresh_ahead
        self._state = RefreshState(
            store=GuardedStore(store, timeout=reserve),
            endpoint=TokenEndpoint(
                token_url,
                client_id=client_id,
                client_secret=client_secret,
                client_auth=client_auth,
                scope=scope,
                extra_params=extra_params,
                headers=headers,
                body=body,
                session=session,
                request_timeout=request_timeout,
                answer_timeout=answer_timeout,
                clock=clock,
            ),
            retrying=backoff.default_retrying() if retrying is None else backoff.checked(retrying),
            timeout=timeout,
            reserve=reserve,
            answer_timeout=answer_timeout,
            lock_hold=lock_hold,
            clock=clock,
            monotonic=monotonic,
            sleep=sleep,
        )
        self._given: _Given | None = None
        self._ahead_not_before = -math.inf

    async def current(self) -> Credential:
        """Return the credential to make a request with.

        Returns at once while the stored credential has not expired, and refreshes it in the background shortly before
        it does. Waits for a refresh when it has expired. One of unknown lifetime is returned as it is.

        Raises:
            LoginRequired: nothing is stored, or what is stored cannot be refreshed, or another server issued it.
            AccountChanged: the stored credential is another account's than the one returned before.
            RefreshFailed: it has expired, and cannot be refreshed now.
            StoreError: the store cannot be read, or not be written before a refresh.
        """
        state = self._state
        account = self._account(None)
        credential = await state.load(account)
        if state.left(credential) <= 0:
            log.debug("The stored credential has expired; refreshing it.")
            credential = await self._join_refresh(credential, account)
        elif state.store.is_unsaved(credential):
            self._in_background(state.store.spent or credential, account)
        elif state.ends_within(credential, self._refresh_ahead) and state.may_send(credential):
            self._in_background(credential, account)
        self._remember_given(credential, new=self._given is not None)
        return credential

    async def token(self) -> str:
        """Return the access token of `current()`: for a client that takes a coroutine function as its `api_key`."""
        return (await self.current()).access_token

    async def refresh(self, failure: object) -> Credential | None:
        """Return a credential newer than the one that `failure` rejected.

        Args:
            failure: an exception or an error event. The rejected credential is the one in it (rxauth's sources put it
                there), else the one in `failure.response.request.headers`, else the one last returned; if that one
                is less than ten seconds old, it is returned again without a refresh.

        Returns:
            The new credential; `None` if the server gave the same token again.

        Raises:
            LoginRequired: the refresh token is dead, or there is none, or another server issued it.
            AccountChanged: another account's credential is stored now; it was neither adopted nor spent.
            RefreshFailed: it cannot be refreshed now, or the answer is still awaited.
            StoreError: the store cannot be read, written or locked.
        """
        rejected = rejected_credential(failure)
        given = self._given
        if rejected is None and given is not None:
            if self._state.monotonic() - given.since < _NEW_FOR:
                log.debug("The failure names no credential, and the last one is new: it is returned once more.")
                return given.credential
            rejected = given.credential
        account = self._account(rejected)
        if rejected is None:
            rejected = await self._state.load(account)
        credential = await self._join_refresh(rejected, account)
        self._remember_given(credential, new=True)
        return None if credential.access_token == rejected.access_token else credential

    @property
    def unsaved(self) -> StoreError | None:
        """Why the newest credential is in this process's memory only; `None` if it is stored.

        Its refresh token is the only one that still works: a program that ends now must log in again.
        """
        return self._state.store.unsaved

    def __repr__(self) -> str:
        return f"OAuthCredentials({self._store!r}, token_url={self._state.endpoint.url!r})"

    def _remember_given(self, credential: Credential, *, new: bool) -> None:
        if self._given is None or self._given.credential.access_token != credential.access_token:
            # The first one was stored before, so it may be of any age, unless it comes from a refresh.
            self._given = _Given(credential, self._state.monotonic() if new else -math.inf)

    def _account(self, rejected: Credential | None) -> str | None:
        """Return the account whose credential may be used; `None` if it is not known."""
        if rejected is not None and rejected.account_id is not None:
            return rejected.account_id
        return self._given.credential.account_id if self._given is not None else None

    # One refresh for all callers -------------------------------------------------------------------------------------

    async def _join_refresh(self, rejected: Credential, account: str | None) -> Credential:
        work = functools.partial(self._outcome, rejected, account)
        try:
            outcome = await flights.join(self._flight(rejected), work, within=self._state.timeout)
        except Interrupted:
            raise RefreshFailed("The program ended before the credential was refreshed.", type="Interrupted") from None
        except TimeoutError:
            raise RefreshFailed(
                f"The token endpoint {self._state.endpoint.host} or the store has not answered for "
                f"{self._state.timeout:g} s. Its answer is still awaited, and will be stored: try again in a minute.",
                type="timeout",
            ) from None
        except RuntimeError as error:
            text = "The credential cannot be refreshed: no thread can be started."
            raise RefreshFailed(text, type="RuntimeError") from error
        if isinstance(outcome, CredentialError):
            raise _copy(outcome)
        return outcome

    def _flight(self, rejected: Credential) -> tuple[object, str]:
        """Return the key of a refresh: callers with the same key share it."""
        return self, fingerprint(rejected.access_token)

    async def _outcome(self, rejected: Credential, account: str | None) -> Credential | CredentialError:
        try:
            credential = await Refresh(self._state, rejected, account).run()
        except CredentialError as error:
            return error
        except Exception as error:
            kind = type(error).__name__
            log.error("A refresh failed unexpectedly (%s).", kind)  # noqa: TRY400 - a text may hold a token
            failed = RefreshFailed(f"The refresh failed unexpectedly ({kind}).", type=kind)
            failed.__cause__ = error
            return failed
        self._ahead_not_before = self._state.monotonic() + _PAUSE if self.unsaved else -math.inf
        return credential

    def _in_background(self, rejected: Credential, account: str | None) -> None:
        if self._state.monotonic() >= self._ahead_not_before:
            try:
                flights.run(self._flight(rejected), functools.partial(self._ahead, rejected, account))
            except RuntimeError as error:
                log.warning("The credential cannot be refreshed in the background (%s).", error)

    async def _ahead(self, rejected: Credential, account: str | None) -> Credential | CredentialError:
        outcome = await self._outcome(rejected, account)
        if isinstance(outcome, CredentialError):
            asked = getattr(outcome.__cause__, "retry_after", None)
            self._ahead_not_before = self._state.monotonic() + max(_PAUSE, asked or 0.0)
            left = max(0.0, self._state.left(rejected))
            log.warning(
                "The credential could not be refreshed ahead of time; it is valid for another %.0f s. %s", left, outcome
            )
        return outcome


def _copy(error: CredentialError) -> CredentialError:
    """Copy a failure for one caller: the traceback of a shared one grows with every caller that raises it."""
    for each in causes(error):
        if isinstance(each, RxAuthError | DeadRefreshToken | OSError):
            each.__traceback__ = None  # the frames of a token request, or of a file that is written, hold the tokens
    fresh = type(error).__new__(type(error), *error.args)
    fresh.__dict__.update(error.__dict__)
    fresh.args = error.args
    fresh.__cause__ = error.__cause__
    return fresh
