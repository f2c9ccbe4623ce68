"""Keep the state that all refreshes of one login share: dead refresh tokens, lifetimes, and the server's waits."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from rxauth.addresses import same_address
from rxauth.credentials._credential import Credential, same_tokens
from rxauth.credentials._guarded_store import GuardedStore
from rxauth.credentials._token_endpoint import TokenEndpoint
from rxauth.errors import AccountChanged, LoginRequired

if TYPE_CHECKING:
    from rxauth.backoff import BaseRetrying

_DEAD_FOR = 300.0  # s for which a dead refresh token is not sent again
_LONGEST_WAIT = 86_400.0  # s; a server that asks for years would lock its users out for ever
_ON_TIME = 0.05  # s by which a sleep may end too early


class _Known(NamedTuple):
    credential: Credential
    ends_at: float  # monotonic
    lifetime: float  # s that it had when it was issued; infinite if unknown


class _Wait(NamedTuple):
    token: str  # a fingerprint
    unix_time: float
    monotonic: float  # the same moment on the other clock


@dataclass(kw_only=True)
class RefreshState:
    """Hold what all refreshes of one `OAuthCredentials` share.

    In seconds: `timeout` for a refresh, of which `reserve` must be left to begin a try, and half of that to send the
    request; `answer_timeout` for the answer, of which the store's lock is held for `lock_hold`. Either clock may be
    wrong: `clock` (Unix time) can be set back, and goes on while a laptop sleeps; `monotonic` stands still then.
    """

    store: GuardedStore
    endpoint: TokenEndpoint
    retrying: BaseRetrying
    timeout: float
    reserve: float
    answer_timeout: float
    lock_hold: float
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    _last: _Known | None = None
    _dead: dict[str, float] = field(default_factory=dict)  # until when, by fingerprint
    _wait: _Wait | None = None

    async def load(self, account: str | None, *, within: float = math.inf) -> Credential:
        """Return the stored credential, or a newer one in memory.

        Raises:
            LoginRequired: there is none, or it was issued by another server.
            AccountChanged: it belongs to another account.
            StoreError: the store cannot be read.
        """
        stored = await self.store.load(within=within)
        if stored is None:
            raise LoginRequired(f"No credential is stored in {self.store.place}. Log in.")
        if stored.token_url is not None and not same_address(stored.token_url, self.endpoint.url):
            raise LoginRequired(
                f"The credential in {self.store.place} was issued by another server than {self.endpoint.host}; it was "
                f"not used. Log in at {self.endpoint.host}, or give the token_url of the server that issued it."
            )
        if account is not None and stored.account_id not in (None, account):
            raise AccountChanged(
                f"The credential in {self.store.place} is another account's now; it was not used. "
                "Start anew to use that account, or log in with the former one."
            )
        self.measure(stored)
        return stored

    # How long a credential is valid ----------------------------------------------------------------------------------

    def measure(self, credential: Credential) -> None:
        """Start to measure a credential by the monotonic clock, unless it is measured already."""
        if self._is_last(credential):
            return
        left = self._left_by_unix_time(credential)
        lifetime = credential.extra.get("expires_in")
        if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or not lifetime > 0:
            # The first one may be of any age; a later one has just been issued.
            lifetime = math.inf if self._last is None else left
        self._last = _Known(credential, self.monotonic() + left, lifetime)

    def left(self, credential: Credential) -> float:
        """Return the seconds until it expires: the shorter time of the two clocks."""
        left = self._left_by_unix_time(credential)
        last = self._is_last(credential)
        return min(left, last.ends_at - self.monotonic()) if last else left

    def ends_within(self, credential: Credential, ahead: float) -> bool:
        """Return whether it ends within `ahead` seconds, or within half its lifetime where that is shorter."""
        last = self._is_last(credential)
        return self.left(credential) < min(ahead, last.lifetime / 2 if last else math.inf)

    def _left_by_unix_time(self, credential: Credential) -> float:
        return math.inf if credential.expires_at is None else credential.expires_at - self.clock()

    def _is_last(self, credential: Credential) -> _Known | None:
        last = self._last
        if last is None or last.credential is credential:
            return last
        same = same_tokens(last.credential, credential) and last.credential.expires_at == credential.expires_at
        return last if same else None

    # When a refresh token may be sent --------------------------------------------------------------------------------

    def mark_dead(self, credential: Credential) -> None:
        """Remember that the server refused its refresh token."""
        self._dead[fingerprint(credential.refresh_token)] = self.monotonic() + _DEAD_FOR

    def is_dead(self, credential: Credential) -> bool:
        """Return whether the server refused its refresh token in the last five minutes."""
        return self._dead.get(fingerprint(credential.refresh_token), -math.inf) > self.monotonic()

    def may_send(self, credential: Credential) -> bool:
        """Return whether there is a refresh token that is not known to be dead."""
        return credential.refresh_token is not None and not self.is_dead(credential)

    def remember_wait(self, credential: Credential, seconds: float) -> float:
        """Remember that the server asked to wait; return the Unix time until when."""
        seconds = min(seconds, _LONGEST_WAIT)
        until = self.clock() + seconds
        self._wait = _Wait(fingerprint(credential.refresh_token), until, self.monotonic() + seconds)
        return until

    def seconds_to_wait(self, credential: Credential, stored: float | None) -> float:
        """Return how long not to send its token: as this process remembers, or until the Unix time `stored`."""
        wait, token = self._wait, fingerprint(credential.refresh_token)
        if wait is not None and wait.token == token and stored in (None, wait.unix_time):
            # The shorter of the two: a clock may be set back, a laptop may sleep.
            left = min(wait.unix_time - self.clock(), wait.monotonic - self.monotonic())
        else:
            left = 0.0 if stored is None else stored - self.clock()
        return left if _ON_TIME < left <= _LONGEST_WAIT else 0.0


def fingerprint(token: str | None) -> str:
    """Return the hash that stands for a token in memory."""
    return hashlib.sha256((token or "").encode("utf-8", "surrogatepass")).hexdigest()
