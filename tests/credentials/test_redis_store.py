"""The Redis store on a real server: what is stored, and its lock."""

from __future__ import annotations

import asyncio

import pytest

from rxauth.credentials import Credential, RedisStore
from rxauth.errors import StoreError
from tests import peers_needed
from tests.credentials.kinds import NEW, OLD, tokens, turns

pytestmark = pytest.mark.peer
peers_needed.package("redis")

from tests.credentials.redis_servers import Proxy, RedisServer, Signs, soon, store_on  # noqa: E402


async def test_another_key_holds_another_credential(redis: RedisServer) -> None:
    await store_on(redis).save(OLD)
    assert await RedisStore(redis.url, "other").load() is None


@pytest.mark.parametrize("content", ["hush{", "[]", "{}", '{"access_token": "hu\\nsh"}'])
async def test_a_value_that_is_no_credential_is_an_error(redis: RedisServer, content: str) -> None:
    redis.client.hset("kimi", "credential", content)
    with pytest.raises(StoreError, match="not a credential") as caught:
        await store_on(redis).load()
    assert "hush" not in repr(caught.value)


async def test_a_foreign_value_is_an_error_and_stays(redis: RedisServer) -> None:
    redis.client.set("kimi", "theirs")
    for attempt in (store_on(redis).load(), store_on(redis).save(OLD)):
        with pytest.raises(StoreError, match="cannot be used"):
            await attempt
    assert redis.client.get("kimi") == "theirs"
    assert redis.lock is None


async def test_loads_of_one_moment_share_a_connection(redis: RedisServer) -> None:
    """A caller that is cancelled leaves the others theirs."""
    store = store_on(redis)
    await store.save(OLD)
    before = int(redis.client.info("stats")["total_connections_received"])
    tasks = [asyncio.create_task(store.load()) for _ in range(10_000)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert {tokens(loaded) for loaded in await asyncio.gather(*tasks[1:])} == {tokens(OLD)}
    assert int(redis.client.info("stats")["total_connections_received"]) - before <= 2


async def test_a_load_takes_no_answer_from_before(redis: RedisServer) -> None:
    """One that is still under way may miss a save by this store, or by another before the lock was taken."""
    await store_on(redis).save(OLD)
    async with Proxy(redis) as proxy:
        store = RedisStore(proxy.url, "kimi")
        proxy.held = asyncio.Event()
        early = asyncio.create_task(store.load())
        await soon(lambda: len(redis.client.client_list()) > 1)
        held, proxy.held = proxy.held, None
        async with asyncio.timeout(5), store.locked():
            assert tokens(await store.load()) == tokens(OLD)
        await store.save(NEW)
        assert tokens(await store.load()) == tokens(NEW)
        held.set()
        await early


# The lock ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [False, True], ids=["kept", "taken by another"])
async def test_lock_is_renewed_while_it_is_held(
    redis: RedisServer, taken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    sleep = Signs()
    async with store_on(redis, sleep=sleep, lock_ttl=15.0).locked():
        for _ in range(1 if taken else 3):
            assert await sleep.called.get() == 5.0
            redis.client.set("{kimi}:lock", "another" if taken else str(redis.lock), px=4000)
            sleep.go.release()
            await soon(lambda: not sleep.called.empty() or "was lost while it was held" in caplog.text)
            assert (0 < redis.lock_ends_in() <= 4000) if taken else redis.lock_ends_in() > 14000
    assert redis.lock == ("another" if taken else None)


async def test_a_cancellation_gets_through(redis: RedisServer) -> None:
    """redis-py swallows about half of them."""
    store = store_on(redis)

    async def use() -> None:
        async with store.locked():
            while True:
                await store.load()

    for number in range(60):
        task = asyncio.create_task(use())
        await turns(number)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("thief", [None, "another"], ids=["expired", "expired and taken by another"])
async def test_a_lost_lock_lets_nothing_be_written(redis: RedisServer, thief: str | None) -> None:
    store = store_on(redis)
    await store.save(OLD)
    async with store.locked():
        redis.expire_lock()
        if thief:
            redis.client.set("{kimi}:lock", thief)
        for attempt in (store.save(NEW), store.delete()):
            with pytest.raises(StoreError, match="lost while it was held; nothing was written"):
                await attempt
    assert tokens(await store.load()) == tokens(OLD)
    assert redis.lock == thief


async def test_a_lock_that_redis_lost_overwrites_nothing(redis: RedisServer) -> None:
    """After a failover the old holder may find its own lock again, over a newer credential."""
    store = store_on(redis)
    await store.save(OLD)
    async with store.locked():
        mine = redis.lock
        redis.expire_lock()
        await store_on(redis).save(NEW)
        redis.client.set("{kimi}:lock", str(mine))
        with pytest.raises(StoreError, match="without its lock; nothing was written"):
            await store.save(Credential("mine"))
    assert tokens(await store.load()) == tokens(NEW)
