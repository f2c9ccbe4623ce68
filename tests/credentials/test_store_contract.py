"""The promises of every store: the four in JSON files, several of those linked, one in memory, and Redis."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials import Credential, CredentialStore, LinkedStore, MemoryStore, RedisStore
from rxauth.errors import StoreError
from tests.credentials.kinds import KIMI_CODE, KINDS, NEW, OLD, OWN, PI, count, counted, no_time, tokens, turns
from tests.credentials.tracebacks import with_variables

Open = Callable[[], Any]


_FILES = {kind.name: kind for kind in KINDS}
_REDIS = pytest.param("redis", marks=pytest.mark.peer)


@pytest.fixture(params=[*_FILES, "linked", "memory", _REDIS])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same place again and again; one in memory is the same store each time."""
    if request.param in _FILES:
        return lambda: _FILES[request.param].store(tmp_path, sleep=no_time)
    if request.param == "linked":
        return lambda: LinkedStore(kind.store(tmp_path / kind.name, sleep=no_time) for kind in (OWN, PI, KIMI_CODE))
    if request.param == "memory":
        store = MemoryStore()
        return lambda: store
    url = request.getfixturevalue("redis").url
    return lambda: RedisStore(url, "kimi", sleep=no_time)


async def test_store_returns_what_was_saved(open_store: Open) -> None:
    store = open_store()
    assert isinstance(store, CredentialStore)
    assert store.describe()
    assert await store.load() is None
    rich = Credential("a", "r", 1_800_000_000.5, token_type="DPoP", scope="x y", extra={"account_id": "7"})
    for credential in (rich, Credential("alone")):
        await store.save(credential)
        loaded = await open_store().load()
        fields = ("access_token", "refresh_token", "expires_at", "token_type", "scope", "account_id")
        assert [getattr(loaded, name) for name in fields] == [getattr(credential, name) for name in fields]


async def test_delete_says_whether_there_was_a_login(open_store: Open) -> None:
    store = open_store()
    assert await store.delete() is False
    await store.save(OLD)
    assert await store.delete() is True
    assert await store.delete() is False
    assert await store.load() is None


@pytest.mark.parametrize("open_store", [*_FILES, _REDIS], indirect=True)
@pytest.mark.parametrize("odd", [object(), float("nan"), {1, 2}], ids=["an object", "no number", "a set"])
async def test_extra_fields_that_are_no_json_are_refused(open_store: Open, odd: object) -> None:
    await open_store().save(OLD)
    with pytest.raises(StoreError, match="not JSON; nothing was stored") as caught:
        await open_store().save(Credential("access-2", extra={"odd": odd}))
    assert "access-" not in with_variables(caught.value)
    assert tokens(await open_store().load()) == tokens(OLD)


async def test_retry_at_is_kept_for_the_stored_login_alone(open_store: Open) -> None:
    await open_store().save(OLD)
    assert await open_store().load_retry_at() is None
    async with (store := open_store()).locked():
        await store.save_retry_at(1234.5)
        assert await store.load_retry_at() == 1234.5
    assert await open_store().load_retry_at() == 1234.5
    assert tokens(await open_store().load()) == tokens(OLD)
    await open_store().save_retry_at(None)
    assert await open_store().load_retry_at() is None
    await open_store().save_retry_at(5)
    await open_store().save(NEW)
    assert await open_store().load_retry_at() is None, "a new login was not asked to wait"


# The lock ------------------------------------------------------------------------------------------------------------


async def test_lock_excludes_tasks_and_threads(open_store: Open) -> None:
    """Several objects for one place, one object in several loops."""
    shared = open_store()
    threads = [threading.Thread(target=lambda: asyncio.run(count(shared, 4))) for _ in range(3)]
    for thread in threads:
        thread.start()
    await asyncio.gather(count(shared, 4), count(open_store(), 4))
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert await counted(shared) == 20


async def test_a_holder_writes_without_waiting_for_itself(open_store: Open) -> None:
    store = open_store()
    async with asyncio.timeout(5), store.locked():
        await store.save(OLD)
        await store.save(NEW)
        assert tokens(await store.load()) == tokens(NEW)
    assert tokens(await store.load()) == tokens(NEW)
    async with asyncio.timeout(5), store.locked():
        assert await store.delete() is True
        assert await store.load() is None


async def test_a_second_lock_waits_for_the_first(open_store: Open) -> None:
    """Also a task that was started inside the first, once that is over: it has a copy of its context."""
    store, inside, left = open_store(), asyncio.Event(), asyncio.Event()

    async def waits_outside() -> None:
        await inside.wait()
        async with store.locked():
            await store.save(OLD)

    async def saves_later() -> None:
        await left.wait()
        await store.save(NEW)

    outside = asyncio.create_task(waits_outside())
    async with store.locked():
        inherits = asyncio.create_task(saves_later())
        inside.set()
        await turns(50)
        assert not outside.done()
    await outside
    async with open_store().locked():
        left.set()
        await turns(50)
        assert tokens(await store.load()) == tokens(OLD)
    await inherits
    assert tokens(await store.load()) == tokens(NEW)


async def test_a_cancelled_holder_leaves_no_lock(open_store: Open, tmp_path: Path) -> None:
    """Wherever it is cancelled: Redis takes most turns of the loop."""
    store = open_store()

    async def use() -> None:
        async with store.locked():
            await asyncio.sleep(0)
            if hasattr(store, "check_can_save"):
                await store.check_can_save()
            await store.save(NEW)
            await asyncio.sleep(0)

    for steps in (*range(9), *range(10, 200, 15)):
        task = asyncio.create_task(use())
        await turns(steps)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not [each for each in tmp_path.rglob("*") if each.suffix in (".tmp", ".bak")]
        async with asyncio.timeout(5), open_store().locked():
            pass


async def test_a_cancelled_waiter_takes_nothing(open_store: Open) -> None:
    holding = open_store()

    async def save(started: asyncio.Event) -> None:
        await started.wait()
        await open_store().save(NEW)

    for steps in range(6):
        started = asyncio.Event()
        waiters = [asyncio.create_task(save(started)) for _ in range(2)]
        async with holding.locked():
            started.set()
            await turns(steps)
            waiters[0].cancel()
            await asyncio.wait(waiters[:1])
            await turns(50)  # it must not have released the holder's lock either
            assert await holding.load() is None
        async with asyncio.timeout(5):
            await waiters[1]
            assert await open_store().delete() is True
