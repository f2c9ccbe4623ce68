"""One login that is in several stores: pi's file, kimi-code's and rxauth's own may hold the same rotating token."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from rxauth.addresses import same_address
from rxauth.credentials._credential import Credential
from rxauth.credentials._store import CredentialStore
from rxauth.credentials._stores._entry import OF_ONE_LOGIN, with_extra
from rxauth.credentials._stores._held import held, holding, locked_once
from rxauth.credentials._stores._other_program import Notes
from rxauth.errors import StoreError

_log = logging.getLogger(__name__)


class LinkedStore:
    """Treats a login that is in several stores as one.

    `load` returns the newest living copy: of those that have not expired, the one that expires last. A copy whose
    refresh token was spent or refused hides no other copy; of several known accounts the first store's counts. `save`
    replaces every copy of the login that `load` returns, under all their locks; another login stays as it is. The
    locks are taken in one fixed order, whatever the order of `stores`, so that processes do not wait for each other in
    a circle. A lock that cannot be acquired in time costs that store alone: its copy is not replaced, and a warning is
    logged.

    Args:
        stores: at least one. The first is where a credential is saved if none holds one.
        token_url: the endpoint of the login. A copy that another endpoint issued is not used. `None`: all are used.
        lock_timeout: seconds to wait for all locks together.
        environ: environment variables, for the directory in which spent tokens are noted.
        clock: Unix time in seconds.

    Raises:
        ValueError: no store.

    >>> import asyncio
    >>> from rxauth.credentials import MemoryStore
    >>> asyncio.run(LinkedStore([MemoryStore(Credential("a", expires_at=1)), MemoryStore(Credential("b"))]).load())
    Credential()
    """

    def __init__(
        self,
        stores: Iterable[CredentialStore],
        *,
        token_url: str | None = None,
        lock_timeout: float = 10.0,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.stores: Sequence[CredentialStore] = tuple(stores)
        if not self.stores:
            raise ValueError("LinkedStore needs at least one store.")
        self._token_url = token_url
        self._lock_timeout = lock_timeout
        self._clock = clock
        self._notes = Notes(environ)
        self._dead: list[str] = []  # the names of refused logins

    async def load(self) -> Credential | None:
        """Return the newest living copy; `None` if nothing is stored.

        Raises:
            StoreError: nothing is stored that can be read.
        """
        found = await self._find()
        locked: _Locked | None = held(self)
        if locked is not None:
            locked.found = found
        return None if found.chosen is None else found.chosen.credential

    async def save(self, credential: Credential) -> None:
        """Replace every copy of the login that `load` returns, or store the first one.

        Raises:
            StoreError: not one copy could be written.
        """
        async with locked_once(self) as locked:
            chosen, same, _ = locked.found
            if chosen is None:
                await self.stores[0].save(credential)
                return
            spent = chosen.credential
            if len(same) > 1 and Notes.name_of(credential) != chosen.name:
                # Before any file: a process that is killed between two files leaves a copy that is known to be spent.
                self._notes.put(chosen.name, next=Notes.name_of(credential))
            await _one_at_least(
                (copy.store, copy.store.save(self._adapted(credential, spent, copy.credential)))
                for copy in locked.copies()
            )
            self._notes.forget_old()

    async def delete(self) -> bool:
        """Remove every copy of the login that `load` returns, and return whether there was any."""
        async with locked_once(self) as locked:
            return any([await copy.store.delete() for copy in locked.copies()])

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Exclude others from every store that holds the login.

        Raises:
            StoreError: no lock of the login can be had at all.
            TimeoutError: none could be had in time.
        """
        found = await self._find()
        holders = [copy.store for copy in (*found.same, *found.usable)]
        wanted = [store for store in self.stores if any(store is each for each in holders)]
        async with AsyncExitStack() as stack:
            stores, failure = await self._lock_all(wanted or self.stores[:1], stack)
            locked = _Locked(stores, await self._find())
            if locked.found.chosen is not None and not locked.copies():
                raise failure or StoreError("Another login was stored meanwhile. Try again.")
            with holding(self, locked):
                yield

    async def check_can_save(self) -> None:
        """Make sure that a copy of the login can be replaced, and log a warning for each that cannot.

        Raises:
            StoreError: none can.
        """
        async with locked_once(self) as locked:
            stores = [copy.store for copy in locked.copies()] or self.stores[:1]
            await _one_at_least((store, _call(store, "check_can_save")) for store in stores)

    async def load_retry_at(self) -> float | None:
        """Return the latest time that a copy of the login has; `None` if none has one."""
        times = [await _call(copy.store, "load_retry_at") for copy in (await self._find()).same]
        return max((at for at in times if at is not None), default=None)

    async def save_retry_at(self, unix_seconds: float | None) -> None:
        """Keep that time with every copy of the login."""
        locked: _Locked | None = held(self)
        for copy in (await self._find()).same if locked is None else locked.copies():
            await _call(copy.store, "save_retry_at", unix_seconds)

    def mark_dead(self, credential: Credential) -> None:
        """Leave out every copy with this refresh token from the next `load` on: the server refused it."""
        name = Notes.name_of(credential)
        if name not in self._dead:
            self._dead.append(name)

    def describe(self) -> str:
        """Return where the stores are."""
        return ", ".join(store.describe() for store in self.stores)

    def __repr__(self) -> str:
        return f"LinkedStore({self.describe()!r})"

    async def _find(self) -> _Found:
        copies, failure = [], None
        for store in self.stores:
            try:
                credential = await store.load()
            except StoreError as error:
                failure = failure or error  # one unreadable file does not hide the others
                continue
            if credential is not None:
                copies.append(_Copy(store, credential, Notes.name_of(credential)))
        usable = [copy for copy in copies if self._is_ours(copy.credential)]
        if not usable:
            if failure is not None:
                raise failure
            return _Found(None, [], [])
        names = {copy.name for copy in copies}
        lines = {name: self._line(name) if len(names) > 1 else [name] for name in names}
        living = [copy for copy in usable if len(lines[copy.name]) == 1 and copy.name not in self._dead]
        if living:
            account = next(filter(None, (copy.credential.account_id for copy in living)), None)
            living = [copy for copy in living if copy.credential.account_id in (None, account)]
            chosen = max(living, key=lambda copy: self._rank(copy.credential))
        else:
            # The one that was refused last: no refresh takes another dead one for a new credential.
            order = dict(zip(self._dead, itertools.count(), strict=False))
            chosen = max(usable, key=lambda copy: order.get(copy.name, -1))
        same = [copy for copy in copies if chosen.name in lines[copy.name]]
        return _Found(chosen, same, living or usable)

    def _is_ours(self, credential: Credential) -> bool:
        issuer = credential.token_url
        return self._token_url is None or issuer is None or same_address(issuer, self._token_url)

    def _rank(self, credential: Credential) -> tuple[int, float]:
        """Rank a copy: one that lives, one that can be refreshed, one that cannot; then by its expiry."""
        expires_at = credential.expires_at or 0.0
        if not credential.expired(self._clock()):
            return 2, expires_at
        return (0 if credential.refresh_token is None else 1), expires_at

    def _line(self, name: str) -> list[str]:
        """Return the names of the logins that followed a login, itself included."""
        line = [name]
        while (after := self._notes.of(line[-1]).get("next")) is not None and after not in line:
            line.append(after)
        return line

    async def _lock_all(
        self, stores: Sequence[CredentialStore], stack: AsyncExitStack
    ) -> tuple[list[CredentialStore], Exception | None]:
        """Return the stores whose locks could be had, and why the first of the others could not."""
        import asyncio  # not for a command that only reads a token

        deadline = asyncio.get_running_loop().time() + self._lock_timeout
        locked: list[CredentialStore] = []
        failure: Exception | None = None
        for _, group in itertools.groupby(sorted(stores, key=_lock_order), key=_lock_order):
            first, *others = group  # others are further keys of one file: they have the same lock
            try:
                async with asyncio.timeout_at(deadline):
                    await stack.enter_async_context(first.locked())
            except (TimeoutError, StoreError) as error:
                failure = failure or error
                _log.warning(
                    "The lock of %s could not be acquired (%s): it keeps its copy of the login.",
                    first.describe(),
                    str(error) or f"it was held by another program for {self._lock_timeout:g} s",
                )
                continue
            for other in others:
                stack.enter_context(holding(other, held(first)))
            locked += [first, *others]
        return locked, failure

    def _adapted(self, renewed: Credential, spent: Credential, copy: Credential) -> Credential:
        """Return the renewed credential with the fields of its own that the copy's store has."""
        kept = {name: value for name, value in copy.extra.items() if name not in OF_ONE_LOGIN}
        news = {
            name: value
            for name, value in renewed.extra.items()
            if name in OF_ONE_LOGIN or spent.extra.get(name) != value
        }
        issuer = {} if self._token_url is None else {"token_url": self._token_url}
        return with_extra(renewed, kept | news | issuer)


class _Copy(NamedTuple):
    store: CredentialStore
    credential: Credential
    name: str  # of its login


class _Found(NamedTuple):
    chosen: _Copy | None
    same: list[_Copy]  # every copy of the chosen one's login, itself included
    usable: list[_Copy]


@dataclass
class _Locked:
    """The stores whose locks this task holds, and the copies that were found at the last look."""

    stores: Sequence[CredentialStore]
    found: _Found

    def copies(self) -> list[_Copy]:
        """Return the copies of the login that this task may replace."""
        return [copy for copy in self.found.same if any(copy.store is store for store in self.stores)]


def _lock_order(store: CredentialStore) -> tuple[int, str]:
    order: tuple[int, str] | None = getattr(store, "lock_order", None)
    return (99, f"{store.describe()} {id(store)}") if order is None else order


async def _call(store: CredentialStore, method: str, *arguments: object) -> Any:
    """Call a method that a store may have."""
    function = getattr(store, method, None)
    return None if function is None else await function(*arguments)


async def _one_at_least(works: Iterable[tuple[CredentialStore, Awaitable[object]]]) -> None:
    failures, done = [], 0
    for store, work in works:
        try:
            await work
            done += 1
        except StoreError as error:
            failures.append((store, error))
    if not done:
        raise failures[0][1] if failures else StoreError("Another login was stored meanwhile; nothing was written.")
    for store, failure in failures:
        _log.warning("%s keeps a copy of the login that is spent: log in there again. %s", store.describe(), failure)
