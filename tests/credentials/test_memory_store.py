"""The store in memory: for the threads and loops of one process."""

from __future__ import annotations

import asyncio
import threading
import weakref
from contextvars import Context

import pytest

from rxauth.credentials import Credential, CredentialStore, MemoryStore
from rxauth.credentials._stores._held import holding

SECRET = Credential("access", refresh_token="refresh")


async def test_store_returns_what_was_saved() -> None:
    store = MemoryStore()
    assert isinstance(store, CredentialStore)
    assert await store.load() is None
    assert await store.delete() is False
    await store.save(SECRET)
    assert await store.load() is SECRET
    async with store.locked():
        await store.save(Credential("inside"))
        assert await store.delete() is True
    assert await store.load() is None
    with pytest.raises(TypeError):
        MemoryStore("token")  # type: ignore[arg-type]


async def test_retry_at_is_kept_until_another_login() -> None:
    store = MemoryStore(SECRET)
    assert await store.load_retry_at() is None
    await store.save_retry_at(5.0)
    assert await store.load_retry_at() == 5.0
    await store.save(Credential("new"))
    assert await store.load_retry_at() is None


async def test_lock_of_one_store_opens_no_other() -> None:
    one, other = MemoryStore(), MemoryStore()
    taken = asyncio.Event()

    async def save() -> None:
        await taken.wait()
        async with one.locked():
            await other.save(SECRET)

    saving = asyncio.create_task(save())  # here, where it does not inherit the lock
    async with other.locked():
        taken.set()
        for _ in range(10):
            await asyncio.sleep(0)
        assert await other.load() is None
    await saving
    assert await other.load() == SECRET
    async with asyncio.timeout(5), one.locked(), other.locked():
        await one.save(SECRET)
    assert await one.load() == SECRET


async def test_a_waiter_that_has_gone_is_passed_over() -> None:
    store = MemoryStore()
    async with asyncio.timeout(5):
        async with store.locked():
            waiting = [asyncio.create_task(store.locked().__aenter__(), context=Context()) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            await asyncio.wait(waiting[:1])
            waiting[1].cancel()  # in the moment in which it is its turn
        await waiting[2]


def test_a_released_lock_is_forgotten() -> None:
    """Or a task that refreshes for weeks would remember them all, and look through them each time."""

    class Lock:
        pass

    lock = Lock()
    forgotten = weakref.ref(lock)
    with holding(MemoryStore(), lock):
        del lock
        assert forgotten() is not None
    assert forgotten() is None


async def test_lock_is_given_in_the_order_of_asking() -> None:
    store = MemoryStore()
    order: list[int] = []

    async def enter(number: int) -> None:
        async with store.locked():
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(enter(number) for number in range(20)))
    assert order == list(range(20))


def test_lock_excludes_loops_on_other_threads() -> None:
    store = MemoryStore()
    inside = most = 0

    async def enter() -> None:
        nonlocal inside, most
        for _ in range(50):
            async with store.locked():
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

    threads = [threading.Thread(target=lambda: asyncio.run(enter())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == 1
    asyncio.run(enter())


@pytest.mark.parametrize("steps", range(6))
async def test_a_cancelled_waiter_keeps_no_lock(steps: int) -> None:
    store = MemoryStore()

    async def enter() -> None:
        async with store.locked():
            await asyncio.sleep(0)

    async with store.locked():
        waiters = [asyncio.create_task(enter()) for _ in range(3)]
        await asyncio.sleep(0)
    for _ in range(steps):
        await asyncio.sleep(0)
    waiters[0].cancel()
    async with asyncio.timeout(5):
        await asyncio.wait(waiters)
        async with store.locked():
            pass
