"""Share the parts that all refreshes of one `OAuthCredentials` use."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rxauth.addresses import same_address
from rxauth.credentials._credential import Credential
from rxauth.credentials._lifetime import Lifetimes
from rxauth.credentials._refresh_tokens import TokenMemory
from rxauth.credentials._single_flight import flights
from rxauth.credentials._stored import Stored
from rxauth.credentials._token_endpoint import TokenEndpoint
from rxauth.errors import AccountChanged, LoginRequired

if TYPE_CHECKING:
    from rxauth.backoff import BaseRetrying

__all__ = ["Shared"]

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Shared:
    """Hold what all refreshes of one `OAuthCredentials` share.

    In seconds: `timeout` for a refresh, of which `reserve` must be left to begin a request; `answer_timeout` for the
    answer, of which the store's lock is held for `lock_hold`.
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
