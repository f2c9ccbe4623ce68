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
from tests.credentials.oauth import OLDER, Faulty, Time, background, rejected, renewed, settled, source
from tests.credentials.token_server import TokenServer


@pytest.mark.parametrize("fails", ["load", "locked", "check"])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        pytest.param(StoreError("odd"), StoreError, id="StoreError"),
        pytest.param(OSError("odd"), StoreError, id="OSError"),
        pytest.param(RuntimeError("odd"), StoreError, id="RuntimeError"),
        pytest.param(LoginRequired("Run `mytool login`."), LoginRequired, id="a credential error of its own"),
    ],
)
async def test_a_broken_store_spends_nothing(
    server: TokenServer, fails: str, error: Exception, raised: type[Exception]
) -> None:
    old = server.credential()
    ours = source(server, Faulty(old, fails, error=error))
    with pytest.raises(raised):
        await ours.refresh(rejected(old))
    assert (server.requests, ours.unsaved) == ([], None)


@pytest.mark.parametrize("fails", ["load", "locked", "check", "retry_at", "save", "unlock"])
async def test_a_store_that_hangs_hangs_no_caller(server: TokenServer, fails: str) -> None:
    """A lock that cannot be had is a failed refresh; a renewed credential counts whatever the store does."""
    old = server.credential()
    use = source(server, Faulty(old, fails), timeout=0.6, request_timeout=0.2).refresh(rejected(old))
    async with asyncio.timeout(10):
        if fails in ("load", "check"):
            with pytest.raises(StoreError, match="TimeoutError"):
                await use
        elif fails == "locked":
            with pytest.raises(RefreshFailed, match="held the lock") as caught:
                await use
            assert caught.value.type == "LockTimeout"
        else:
            assert await use is not None
    assert len(server.requests) == (1 if fails in ("retry_at", "save", "unlock") else 0)


@pytest.mark.parametrize("error", [None, StoreError("no lock")], ids=["held", "broken"])
async def test_without_the_lock_a_newer_credential_is_adopted(server: TokenServer, error: Exception | None) -> None:
    ours = source(server, Faulty(server.credential(), "locked", error=error), request_timeout=0.1, timeout=0.2)
    assert await ours.refresh(rejected(OLDER)) is not None
    assert server.requests == []


@pytest.mark.parametrize(("late", "options"), [(0, {"timeout": 10}), (44.99, {})], ids=["a short bound", "a late lock"])
async def test_lock_and_reading_are_within_the_bound(
    server: TokenServer, now: Time, late: float, options: dict[str, Any]
) -> None:
    """A bound as short as a request leaves time to lock a store that is elsewhere; a late lock leaves none to read."""

    class Elsewhere(Faulty):
        @asynccontextmanager
        async def locked(self) -> AsyncIterator[None]:
            await asyncio.to_thread(lambda: None)
            now.pass_by(late)
            self.fails = {"load"} if late else set()
            async with MemoryStore.locked(self):
                yield

    ours = source(server, Elsewhere(old := server.credential()), now, request_timeout=10, **options)
    async with asyncio.timeout(5):
        if late:
            with pytest.raises(StoreError, match="TimeoutError"):
                await ours.refresh(rejected(old))
        else:
            await renewed(ours, old)


async def test_a_lock_that_cannot_be_released_harms_nothing(
    server: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = Faulty(old := server.credential(), "unlock", error=ConnectionError("gone"))
    assert await renewed(source(server, store), old) == await store.load()
    assert "could not be released (ConnectionError)" in caplog.text


# A renewed credential that cannot be stored --------------------------------------------------------------------------


async def test_an_unsaved_credential_is_used_and_stored_later(
    server: TokenServer, now: Time, caplog: pytest.LogCaptureFixture
) -> None:
    store = Faulty(old := server.credential(), "save", error=OSError("disk full"))
    ours = source(server, store, now)
    new = await renewed(ours, old)
    assert "cannot be written (OSError)" in str(ours.unsaved)
    assert [each.levelname for each in caplog.records] == ["ERROR"]
    assert "log in again" in caplog.text
    assert await ours.current() == await ours.refresh(rejected(old)) == new
    store.fails.clear()
    for _ in range(2):
        now.pass_by(20)
        assert await ours.current() == new
        await settled()
        assert await MemoryStore.load(store) == new
        assert ours.unsaved is None
        store.fails.add("save")  # it is stored once
    store.fails.clear()
    assert (await renewed(ours, new)).access_token == "access-3"
    assert (len(server.requests), server.reused) == (2, [])


async def test_an_unsaved_credential_is_refreshed_unsaved(server: TokenServer, now: Time) -> None:
    """Its refresh token is not in the store: to check the store first would only stop this program."""
    store = Faulty(known := server.credential(), "save", error=OSError("disk full"))
    ours = source(server, store, now)
    for _ in range(3):
        known = await renewed(ours, known)
        assert await ours.current() == known
        store.fails.add("check")
    assert (server.reused, len(server.requests)) == ([], 3)


async def test_a_store_that_was_unplugged_loses_nothing(server: TokenServer, now: Time) -> None:
    class Unplugged(Faulty):
        async def save(self, credential: Credential) -> None:
            self.fails.add("load")
            raise OSError("unplugged")

    store = Unplugged(old := server.credential(), error=OSError("unplugged"))
    ours = source(server, store, now)
    new = await renewed(ours, old)
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

    store = Full(old := server.credential(), "save", error=OSError("disk full"))
    ours = source(server, store, now)
    new = asyncio.run(renewed(ours, old))
    store.fails.clear()
    now.pass_by(20)
    assert asyncio.run(ours.current()) == new
    assert saving.wait(10)
    assert flights._loop is not None
    flights._loop.call_soon_threadsafe(flights._cancel_all)
    flights._loop.call_soon_threadsafe(room.set)
    background()
    assert asyncio.run(MemoryStore.load(store)) == new


@pytest.mark.parametrize(
    ("fields", "adopted"),
    [
        pytest.param({"extra": {"expires_in": 900, "account_id": "ann"}}, True, id="a new credential"),
        pytest.param({"extra": {"account_id": "bob"}}, False, id="another account"),
        pytest.param({"expires_at": 1.0}, False, id="an expired one"),
        pytest.param(None, False, id="a logout"),
    ],
)
async def test_a_credential_stored_by_others_meanwhile_counts(
    server: TokenServer, now: Time, fields: dict[str, Any] | None, adopted: bool
) -> None:
    """The lock was lost while the answer was awaited."""
    usual = {"expires_at": now.wall + 100}
    theirs = None if fields is None else Credential("theirs", "their-refresh", **usual | fields)

    class Lost(MemoryStore):
        async def save(self, credential: Credential) -> None:
            self._credential = theirs
            raise StoreError("the lock was lost")

    ours = source(server, Lost(old := server.credential(extra={"account_id": "ann"})), now)
    if adopted:
        assert await ours.refresh(rejected(old)) == theirs == await ours.current()
        await settled()
        assert server.sent[-1] == "their-refresh", "and is refreshed ahead, as any other"
        return
    with pytest.raises(StoreError, match="lost"):
        await ours.refresh(rejected(old))
    assert ours.unsaved is None
    if theirs is None:
        with pytest.raises(LoginRequired):
            await ours.current()
