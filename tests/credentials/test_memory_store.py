"""The store in memory, and what a task knows of the locks that it holds."""

from __future__ import annotations

import asyncio
import weakref
from contextvars import Context

import pytest

from rxauth.credentials import MemoryStore
from rxauth.credentials._stores._held import holding
from tests.credentials.kinds import NEW, turns


async def test_store_returns_the_object_that_was_saved() -> None:
    assert await MemoryStore(NEW).load() is NEW
    with pytest.raises(TypeError):
        MemoryStore("token")  # type: ignore[arg-type]


async def test_lock_of_one_store_opens_no_other() -> None:
    one, other = MemoryStore(), MemoryStore()
    taken = asyncio.Event()

    async def save() -> None:
        await taken.wait()
        async with one.locked():
            await other.save(NEW)

    saving = asyncio.create_task(save())  # here, where it does not inherit the lock
    async with other.locked():
        taken.set()
        await turns(10)
        assert await other.load() is None
    await saving
    async with asyncio.timeout(5), one.locked(), other.locked():
        await one.save(NEW)
    assert await one.load() == await other.load() == NEW


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
