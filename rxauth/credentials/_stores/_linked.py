"""One login that is in several stores: pi's file, kimi-code's and rxauth's own may hold the same rotating token."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

from rxauth.addresses import same_address
from rxauth.credentials._credential import Credential
from rxauth.credentials._store import CredentialStore
from rxauth.credentials._stores._entry import OF_ONE_LOGIN, with_extra
from rxauth.credentials._stores._held import held_here, holding, lock_held_here
from rxauth.credentials._stores._notes import Notes, name_of
from rxauth.errors import StoreError

__all__ = ["LinkedStore"]

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
        self._dead: dict[str, int] = {}  # how many were known before it

    async def load(self) -> Credential | None:
        """Return the newest living copy; `None` if nothing is stored.

        Raises:
            StoreError: nothing is stored that can be read.
        """
        found = await self._find()
        held: _Held | None = lock_held_here(self)
        if held is not None:
            held.found = found
        return None if found.chosen is None else found.chosen.credential

    async def save(self, credential: Credential) -> None:
        """Replace every copy of the login that `load` returns, or store the first one.

        Raises:
            StoreError: not one copy could be written.
        """
        async with self._locked_once() as held:
            chosen, same = held.found.chosen, held.found.same
            if chosen is None:
                await self.stores[0].save(credential)
                return
            spent = chosen.credential
            if len(same) > 1 and _name(credential) != _name(spent):
                # Before any file: a process that is killed between two files leaves a copy that is known to be spent.
                self._notes.put(_name(spent), next=_name(credential))
            await _one_at_least(
                (copy.store, copy.store.save(self._adapted(credential, spent, copy.credential)))
                for copy in held.copies()
            )
            self._notes.forget_old()

    async def delete(self) -> bool:
        """Remove every copy of the login that `load` returns, and return whether there was any."""
        async with self._locked_once() as held:
            return any([await copy.store.delete() for copy in held.copies()])

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Exclude others from every store that holds the login.

        Raises:
            StoreError: no lock of the login can be had at all.
            TimeoutError: none could be had in time.
        """
        found = await self._find()
        wanted = [*found.same, *(copy for copy in found.usable if copy not in found.same)]
        async with AsyncExitStack() as stack:
            locked, failure = await self._lock_all([copy.store for copy in wanted] or self.stores[:1], stack)
            held = _Held(locked, await self._find())
            if held.found.chosen is not None and not held.copies():
                raise failure or StoreError("Another login was stored meanwhile. Try again.")
            with holding(self, held):
                yield

    async def check_can_save(self) -> None:
        """Make sure that a copy of the login can be replaced, and log a warning for each that cannot.

        Raises:
            StoreError: none can.
        """
        async with self._locked_once() as held:
            stores = [copy.store for copy in held.copies()] or self.stores[:1]
            await _one_at_least((store, _call(store, "check_can_save")) for store in stores)

    async def load_retry_at(self) -> float | None:
        """Return the latest time that a copy of the login has; `None` if none has one."""
        found = await self._find()
        times = [await _call(copy.store, "load_retry_at") for copy in found.same]
        return max((at for at in times if at is not None), default=None)

    async def save_retry_at(self, unix_seconds: float | None) -> None:
        """Keep that time with every copy of the login."""
        held: _Held | None = lock_held_here(self)
        copies = (await self._find()).same if held is None else held.copies()
        for copy in copies:
            await _call(copy.store, "save_retry_at", unix_seconds)

    def mark_dead(self, credential: Credential) -> None:
        """Leave out every copy with this refresh token from the next `load` on: the server refused it."""
        self._dead.setdefault(_name(credential), len(self._dead))

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
                copies.append(_Copy(store, credential))
        usable = [copy for copy in copies if self._is_ours(copy.credential)]
        if not usable:
            if failure is not None:
                raise failure
            return _Found(None, [], [])
        names = [_name(copy.credential) for copy in copies]
        lines = {name: self._line(name) if len(set(names)) > 1 else [name] for name in names}
        living = [copy for copy in usable if len(lines[name := _name(copy.credential)]) == 1 and name not in self._dead]
        if living:
            account = next(filter(None, (copy.credential.account_id for copy in living)), None)
            living = [copy for copy in living if copy.credential.account_id in (None, account)]
            chosen = max(living, key=lambda copy: self._age(copy.credential))
        else:
            # The one that was refused last: no refresh takes another dead one for a new credential.
            chosen = max(usable, key=lambda copy: self._dead.get(_name(copy.credential), -1))
        name = _name(chosen.credential)
        same = [copy for copy in copies if name in lines[_name(copy.credential)]]
        return _Found(chosen, same, living or usable)

    def _is_ours(self, credential: Credential) -> bool:
        issuer = credential.token_url
        return self._token_url is None or issuer is None or same_address(issuer, self._token_url)

    def _age(self, credential: Credential) -> tuple[int, float]:
        """Rank a copy: one that lives, one that can be refreshed, one that cannot; then by its expiry."""
        expires_at = credential.expires_at
        if not credential.expired(self._clock()):
            return 2, expires_at or 0.0
        return (0 if credential.refresh_token is None else 1), expires_at or 0.0

    def _line(self, name: str) -> list[str]:
        """Return the names of the logins that followed a login, itself included."""
        line = [name]
        while (after := self._notes.of(line[-1]).get("next")) is not None and after not in line:
            line.append(after)
        return line

    @asynccontextmanager
    async def _locked_once(self) -> AsyncIterator[_Held]:
        if held_here(self):
            yield lock_held_here(self)
        else:
            async with self.locked():
                yield lock_held_here(self)

    async def _lock_all(
        self, stores: Sequence[CredentialStore], stack: AsyncExitStack
    ) -> tuple[list[CredentialStore], Exception | None]:
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
                stack.enter_context(holding(other, lock_held_here(first)))
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


class _Found(NamedTuple):
    chosen: _Copy | None
    same: list[_Copy]  # every copy of the chosen one's login, itself included
    usable: list[_Copy]


class _Held:
    """The stores whose locks this task holds, and the copies that were found at the last look."""

    def __init__(self, stores: Sequence[CredentialStore], found: _Found) -> None:
        self.stores = stores
        self.found = found

    def copies(self) -> list[_Copy]:
        """Return the copies of the login that this task may replace."""
        return [copy for copy in self.found.same if any(copy.store is store for store in self.stores)]


def _name(credential: Credential) -> str:
    return name_of(credential.refresh_token or credential.access_token)


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
