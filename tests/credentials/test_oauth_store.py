"""A store that cannot be locked, read or written, or that answers late: nothing is spent, lost or waited for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rxauth.credentials import Credential, MemoryStore
from rxauth.credentials._single_flight import flights
from rxauth.errors import LoginRequired, RefreshFailed, StoreError
from tests.credentials.oauth import OLDER, Time, background, rejected, source
from tests.credentials.token_server import TokenServer


class Faulty(MemoryStore):
    """A store whose methods named in `fails` raise `error`, or never return without one."""

    def __init__(self, credential: Credential, *fails: str, error: Exception | None = None) -> None:
        super().__init__(credential)
        self.fails = set(fails)
        self.error = error

    async def load(self) -> Credential | None:
        await self.fail("load")
        return await super().load()

    async def save(self, credential: Credential) -> None:
        await self.fail("save")
        await super().save(credential)

    async def check_can_save(self) -> None:
        await self.fail("check")

    async def load_retry_at(self) -> float | None:
        await self.fail("retry_at")
        return await super().load_retry_at()

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        await self.fail("locked")
        async with super().locked():
            yield
        await self.fail("unlock")

    async def fail(self, name: str) -> None:
        if name in self.fails and self.error is None:
            await asyncio.Event().wait()
        elif name in self.fails and self.error is not None:
            raise self.error


async def test_a_stores_own_credential_error_is_raised(server: TokenServer) -> None:
    ours = source(server, Faulty(server.credential(), "load", error=LoginRequired("Run `mytool login`.")))
    for use in (ours.current(), ours.refresh(None)):
        with pytest.raises(LoginRequired, match="mytool login"):
            await use


# Before the exchange -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", ["load", "locked", "check"])
@pytest.mark.parametrize(
    "error", [StoreError("odd"), OSError("odd"), RuntimeError("odd")], ids=lambda e: type(e).__name__
)
async def test_a_broken_store_spends_nothing(server: TokenServer, fails: str, error: Exception) -> None:
    old = server.credential()
    ours = source(server, Faulty(old, fails, error=error))
    with pytest.raises(StoreError):
        await ours.refresh(rejected(old))
    assert (server.requests, ours.unsaved) == ([], None)


@pytest.mark.parametrize("fails", ["load", "locked", "check", "retry_at", "save", "unlock"])
async def test_a_store_that_hangs_hangs_no_caller(server: TokenServer, fails: str) -> None:
    """A lock that cannot be had is a failed refresh; a renewed credential counts whatever the store does."""
    old = server.credential()
    ours = source(server, Faulty(old, fails), timeout=0.6, request_timeout=0.2)
    async with asyncio.timeout(10):
        if fails in ("load", "check"):
            with pytest.raises(StoreError, match="TimeoutError"):
                await ours.refresh(rejected(old))
        elif fails == "locked":
            with pytest.raises(RefreshFailed, match="held the lock") as caught:
                await ours.refresh(rejected(old))
            assert caught.value.type == "LockTimeout"
        else:
            assert await ours.refresh(rejected(old)) is not None
    assert len(server.requests) == (1 if fails in ("retry_at", "save", "unlock") else 0)


@pytest.mark.parametrize("error", [None, StoreError("no lock")], ids=["held", "broken"])
async def test_without_the_lock_a_newer_credential_is_adopted(server: TokenServer, error: Exception | None) -> None:
    ours = source(server, Faulty(server.credential(), "locked", error=error), request_timeout=0.1, timeout=0.2)
    assert await ours.refresh(rejected(OLDER)) is not None
    assert server.requests == []


async def test_a_bound_as_short_as_a_request_leaves_time_to_lock(server: TokenServer) -> None:
    class Elsewhere(MemoryStore):
        @asynccontextmanager
        async def locked(self) -> AsyncIterator[None]:
            await asyncio.to_thread(lambda: None)
            async with super().locked():
                yield

    old = server.credential()
    assert await source(server, Elsewhere(old), request_timeout=10, timeout=10).refresh(rejected(old)) is not None


async def test_reading_the_store_is_within_the_bound_too(server: TokenServer, now: Time) -> None:
    class Late(Faulty):
        @asynccontextmanager
        async def locked(self) -> AsyncIterator[None]:
            now.pass_by(44.99)
            self.fails.add("load")
            yield

    old = server.credential()
    async with asyncio.timeout(5):
        with pytest.raises(StoreError, match="TimeoutError"):
            await source(server, Late(old), now).refresh(rejected(old))


async def test_a_lock_that_cannot_be_released_harms_nothing(
    server: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    old = server.credential()
    store = Faulty(old, "unlock", error=ConnectionError("gone"))
    new = await source(server, store).refresh(rejected(old))
    assert new is not None
    assert await store.load() == new
    assert "could not be released (ConnectionError)" in caplog.text


# A renewed credential that cannot be stored --------------------------------------------------------------------------


async def test_an_unsaved_credential_is_used_and_stored_later(
    server: TokenServer, now: Time, caplog: pytest.LogCaptureFixture
) -> None:
    old = server.credential()
    store = Faulty(old, "save", error=OSError("disk full"))
    ours = source(server, store, now)
    new = await ours.refresh(rejected(old))
    assert new is not None
    assert "cannot be written (OSError)" in str(ours.unsaved)
    assert [each.levelname for each in caplog.records] == ["ERROR"]
    assert "log in again" in caplog.text
    assert await ours.current() == await ours.refresh(rejected(old)) == new
    store.fails.clear()
    for _ in range(2):
        now.pass_by(20)
        assert await ours.current() == new
        await asyncio.to_thread(background)
        assert await MemoryStore.load(store) == new
        assert ours.unsaved is None
        store.fails.add("save")  # it is stored once
    store.fails.clear()
    newest = await ours.refresh(rejected(new))
    assert newest is not None
    assert (newest.access_token, len(server.requests), server.reused) == ("access-3", 2, [])


async def test_an_unsaved_credential_is_refreshed_unsaved(server: TokenServer, now: Time) -> None:
    """Its refresh token is not in the store: to check the store first would only stop this program."""
    old = server.credential()
    store = Faulty(old, "save", error=OSError("disk full"))
    ours = source(server, store, now)
    known = old
    for _ in range(3):
        new = await ours.refresh(rejected(known))
        assert new is not None
        assert await ours.current() == new
        known = new
        store.fails.add("check")
    assert (server.reused, len(server.requests)) == ([], 3)
    assert await MemoryStore.load(store) == old


async def test_a_store_that_was_unplugged_loses_nothing(server: TokenServer, now: Time) -> None:
    class Unplugged(Faulty):
        async def save(self, credential: Credential) -> None:
            self.fails.add("load")
            raise OSError("unplugged")

    old = server.credential()
    store = Unplugged(old, error=OSError("unplugged"))
    ours = source(server, store, now)
    new = await ours.refresh(rejected(old))
    assert new is not None
    store.fails.clear()
    assert await ours.current() == new


def test_the_end_of_the_program_finishes_a_late_save(server: TokenServer, now: Time) -> None:
    saving, room = threading.Event(), threading.Event()

    class Full(Faulty):
        async def save(self, credential: Credential) -> None:
            if not self.fails:
                saving.set()
                await asyncio.to_thread(room.wait)
            await super().save(credential)

    old = server.credential()
    store = Full(old, "save", error=OSError("disk full"))
    ours = source(server, store, now)
    new = asyncio.run(ours.refresh(rejected(old)))
    store.fails.clear()
    now.pass_by(20)
    assert asyncio.run(ours.current()) == new
    assert saving.wait(10)
    assert flights._loop is not None
    flights._loop.call_soon_threadsafe(flights._cancel_all)
    flights._loop.call_soon_threadsafe(room.set)
    background()
    assert asyncio.run(MemoryStore.load(store)) == new


THEIRS: dict[str, tuple[dict[str, Any] | None, type[Exception] | None]] = {
    "a new credential": ({"extra": {"expires_in": 900, "account_id": "ann"}}, None),
    "another account": ({"extra": {"account_id": "bob"}}, StoreError),
    "an expired one": ({"expires_at": 1.0}, StoreError),
    "a logout": (None, StoreError),
}


@pytest.mark.parametrize(("fields", "error"), THEIRS.values(), ids=THEIRS)
async def test_a_credential_stored_by_others_meanwhile_counts(
    server: TokenServer, now: Time, fields: dict[str, Any] | None, error: type[Exception] | None
) -> None:
    """The lock was lost while the answer was awaited."""
    theirs = (
        None if fields is None else Credential("theirs", "their-refresh", **{"expires_at": now.wall + 100} | fields)
    )

    class Lost(MemoryStore):
        async def save(self, credential: Credential) -> None:
            self._credential = theirs
            raise StoreError("the lock was lost")

    old = server.credential(extra={"account_id": "ann"})
    ours = source(server, Lost(old), now)
    if error is None:
        assert await ours.refresh(rejected(old)) == theirs == await ours.current()
        await asyncio.to_thread(background)
        assert server.requests[-1]["refresh_token"] == "their-refresh", "and is refreshed ahead, as any other"
        return
    with pytest.raises(error, match="lost"):
        await ours.refresh(rejected(old))
    assert ours.unsaved is None
    if theirs is None:
        with pytest.raises(LoginRequired):
            await ours.current()
