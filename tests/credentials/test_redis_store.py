"""The Redis store on a real server: what is stored, and its lock."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest

from rxauth.credentials import Credential, CredentialStore, RedisStore
from rxauth.errors import StoreError
from tests import peers_needed

pytestmark = pytest.mark.peer
peers_needed.package("redis")

from tests.credentials.redis_servers import CREDENTIAL, Proxy, RedisServer, Signs, count, soon, store_on  # noqa: E402


async def test_store_returns_what_was_saved(redis: RedisServer) -> None:
    store = store_on(redis)
    assert isinstance(store, CredentialStore)
    assert await store.load() is None
    await store.save(CREDENTIAL)
    assert await store.load() == CREDENTIAL
    assert await store_on(redis).load() == CREDENTIAL


async def test_delete_removes_the_credential_and_keeps_its_version(redis: RedisServer) -> None:
    store = store_on(redis)
    assert await store.delete() is False
    await store.save(CREDENTIAL)
    assert await store.delete() is True
    assert await store.load() is None
    assert redis.client.hget("kimi", "version") == "3"


async def test_another_key_holds_another_credential(redis: RedisServer) -> None:
    await store_on(redis).save(CREDENTIAL)
    assert await RedisStore(redis.url, "other").load() is None


async def test_other_loops_and_threads_see_a_save(redis: RedisServer) -> None:
    store = store_on(redis)
    await asyncio.to_thread(lambda: asyncio.run(store.save(CREDENTIAL)))
    assert await store.load() == CREDENTIAL
    assert await asyncio.to_thread(lambda: asyncio.run(store.load())) == CREDENTIAL


@pytest.mark.parametrize("content", ["hush{", "[]", "{}", '{"access_token": "hu\\nsh"}'])
async def test_a_value_that_is_no_credential_is_an_error(redis: RedisServer, content: str) -> None:
    redis.client.hset("kimi", "credential", content)
    with pytest.raises(StoreError, match="not a credential") as caught:
        await store_on(redis).load()
    assert "hush" not in repr(caught.value)


async def test_a_foreign_value_is_an_error_and_stays(redis: RedisServer) -> None:
    redis.client.set("kimi", "theirs")
    for attempt in (store_on(redis).load(), store_on(redis).save(CREDENTIAL)):
        with pytest.raises(StoreError, match="cannot be used"):
            await attempt
    assert redis.client.get("kimi") == "theirs"
    assert redis.lock is None


@pytest.mark.parametrize("value", [float("inf"), object()], ids=["a number without end", "an object"])
async def test_extra_fields_that_are_no_json_are_refused(redis: RedisServer, value: object) -> None:
    with pytest.raises(StoreError, match="not JSON"):
        await store_on(redis).save(Credential("a", extra={"of": value}))
    assert redis.client.keys() == []


async def test_loads_of_one_moment_share_a_connection(redis: RedisServer) -> None:
    store = store_on(redis)
    await store.save(CREDENTIAL)
    before = int(redis.client.info("stats")["total_connections_received"])
    loaded = await asyncio.gather(*(store.load() for _ in range(10_000)))
    assert set(loaded) == {CREDENTIAL}
    assert int(redis.client.info("stats")["total_connections_received"]) - before <= 2


async def test_a_load_after_a_save_sees_it(redis: RedisServer) -> None:
    await store_on(redis).save(CREDENTIAL)
    async with Proxy(redis) as proxy:
        store = RedisStore(proxy.url, "kimi")
        proxy.held = asyncio.Event()
        early = asyncio.create_task(store.load())
        await asyncio.sleep(0)
        before = redis.client.hget("kimi", "version")
        await soon(lambda: len(redis.client.client_list()) > 1)
        held, proxy.held = proxy.held, None
        await store.save(Credential("access-2"))
        assert redis.client.hget("kimi", "version") != before
        late = asyncio.create_task(store.load())
        assert await late == Credential("access-2")
        held.set()
        await early


async def test_a_cancelled_load_leaves_the_others_theirs(redis: RedisServer) -> None:
    store = store_on(redis)
    await store.save(CREDENTIAL)
    tasks = [asyncio.create_task(store.load()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert await asyncio.gather(*tasks[1:]) == [CREDENTIAL, CREDENTIAL]


async def test_lock_excludes_tasks_threads_and_processes(redis: RedisServer) -> None:
    """Each reads a number and writes the next one, under the lock; every lost update would be missing."""
    await store_on(redis).save(Credential("a", extra={"n": 0}))
    script = "import asyncio, sys; from tests.credentials.redis_servers import count; asyncio.run(count(sys.argv[1]))"
    processes = [
        subprocess.Popen([sys.executable, "-c", script, redis.url], cwd=Path(__file__).parents[2]) for _ in range(2)
    ]
    threads = [asyncio.to_thread(lambda: asyncio.run(count(redis.url))) for _ in range(2)]
    await asyncio.gather(count(redis.url), *threads)
    for process in processes:
        assert await asyncio.to_thread(process.wait) == 0
    loaded = await store_on(redis).load()
    assert loaded is not None
    assert loaded.extra["n"] == 5 * 2 * 8
    assert redis.lock is None


async def test_lock_is_renewed_while_it_is_held(redis: RedisServer) -> None:
    sleep = Signs()
    async with store_on(redis, sleep=sleep, lock_ttl=15.0).locked():
        for _ in range(3):
            assert await sleep.called.get() == 5.0
            redis.client.pexpire("{kimi}:lock", 4000)
            sleep.go.release()
            await soon(lambda: not sleep.called.empty())
            assert int(redis.client.pttl("{kimi}:lock")) > 14000
    assert redis.lock is None


async def test_another_clients_lock_is_not_renewed(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    sleep = Signs()
    async with store_on(redis, sleep=sleep).locked():
        await sleep.called.get()
        redis.client.set("{kimi}:lock", "another", px=4000)
        sleep.go.release()
        await soon(lambda: "was lost while it was held" in caplog.text)
        assert 0 < int(redis.client.pttl("{kimi}:lock")) <= 4000
    assert redis.lock == "another"


async def test_lock_is_waited_for(redis: RedisServer) -> None:
    redis.client.set("{kimi}:lock", "another")
    looks = 0

    async def look(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 5:
            redis.expire_lock()

    async with store_on(redis, sleep=look).locked():
        assert looks == 5


async def test_a_killed_processs_lock_expires(redis: RedisServer) -> None:
    script = f"""
import asyncio
from rxauth.credentials._stores._redis import RedisStore
async def main():
    async with RedisStore({redis.url!r}, "kimi", lock_ttl=0.3).locked():
        print("held", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout
    assert await asyncio.to_thread(process.stdout.readline) == b"held\n"
    process.kill()
    process.communicate()
    assert 0 < int(redis.client.pttl("{kimi}:lock")) <= 300
    await store_on(redis).save(CREDENTIAL)
    assert await store_on(redis).load() == CREDENTIAL


async def test_a_cancelled_holder_leaves_no_lock(redis: RedisServer) -> None:
    """At 150 random places: in the question, in its answer, in the wait, in the save, in the farewell."""
    chance = random.Random(7)
    store = store_on(redis, sleep=lambda seconds: asyncio.sleep(0))
    done = 0

    async def use() -> None:
        async with store.locked():
            await store.load()
            await store.save(CREDENTIAL)

    turns = 0
    for number in range(200):
        task = asyncio.create_task(use())
        if number % 4 == 0:  # left alone: so many turns of the loop does one take, here and now
            turns = 0
            while not task.done():
                await asyncio.sleep(0)
                turns += 1
        else:
            for _ in range(chance.randrange(turns)):
                await asyncio.sleep(0)
            task.cancel()
        done += (await asyncio.gather(task, return_exceptions=True))[0] is None
        assert redis.lock is None
    assert 50 <= done < 150, "the cancellations must hit something"
    await store.save(CREDENTIAL)


async def test_a_cancellation_gets_through(redis: RedisServer) -> None:
    """redis-py swallows about half of them."""
    store = store_on(redis)
    await store.save(CREDENTIAL)

    async def use() -> None:
        async with store.locked():
            while True:
                await store.load()

    for turns in range(60):
        task = asyncio.create_task(use())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_cancelled_waiter_leaves_the_holder_its_lock(redis: RedisServer) -> None:
    redis.client.set("{kimi}:lock", "another")
    waiter = asyncio.create_task(store_on(redis, sleep=lambda seconds: asyncio.sleep(0)).save(CREDENTIAL))
    for _ in range(200):
        await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert redis.lock == "another"


@pytest.mark.parametrize("thief", [None, "another"], ids=["expired", "expired and taken by another"])
async def test_a_lost_lock_lets_nothing_be_written(redis: RedisServer, thief: str | None) -> None:
    store = store_on(redis)
    await store.save(CREDENTIAL)
    async with store.locked():
        redis.expire_lock()
        if thief:
            redis.client.set("{kimi}:lock", thief)
        for attempt in (store.save(Credential("access-2")), store.delete()):
            with pytest.raises(StoreError, match="lost while it was held; nothing was written"):
                await attempt
    assert await store.load() == CREDENTIAL
    assert redis.lock == thief


async def test_a_lock_that_redis_lost_overwrites_nothing(redis: RedisServer) -> None:
    """After a failover the old holder may find its own lock again, over a newer credential."""
    store = store_on(redis)
    await store.save(CREDENTIAL)
    async with store.locked():
        mine = redis.lock
        redis.expire_lock()
        await store_on(redis).save(Credential("theirs"))
        redis.client.set("{kimi}:lock", str(mine))
        with pytest.raises(StoreError, match="without its lock; nothing was written"):
            await store.save(Credential("mine"))
    assert await store.load() == Credential("theirs")


async def test_a_holder_writes_more_than_once(redis: RedisServer) -> None:
    store = store_on(redis)
    async with store.locked():
        for number in range(3):
            await store.save(Credential(f"access-{number}"))
        assert await store.load() == Credential("access-2")
        assert await store.delete() is True
        await store.save(CREDENTIAL)
    assert await store.load() == CREDENTIAL


async def test_a_lock_lost_again_and_again_loses_no_save(redis: RedisServer) -> None:
    """Every save that did not raise is in the number that is stored: none was written over."""
    chance = random.Random(11)
    store = store_on(redis, sleep=lambda seconds: asyncio.sleep(0))
    await store.save(Credential("a", extra={"n": 0}))
    won = lost = 0

    async def count() -> None:
        nonlocal won, lost
        for _ in range(15):
            try:
                async with store.locked():
                    loaded = await store.load()
                    assert loaded is not None
                    for _ in range(chance.randrange(30)):
                        await asyncio.sleep(0)
                    await store.save(Credential("a", extra={"n": loaded.extra["n"] + 1}))
                    won += 1
            except StoreError:
                lost += 1

    async def steal(counting: asyncio.Future[list[None]]) -> None:
        while not counting.done():
            for _ in range(chance.randrange(60)):
                await asyncio.sleep(0)
            redis.expire_lock()

    counting = asyncio.gather(*(count() for _ in range(5)))
    await steal(counting)
    await counting
    assert won > 5
    assert lost > 5
    loaded = await store.load()
    assert loaded is not None
    assert loaded.extra["n"] == won


async def test_retry_at_is_kept_for_other_clients(redis: RedisServer) -> None:
    store = store_on(redis)
    await store.save(CREDENTIAL)
    assert await store.load_retry_at() is None
    async with store.locked():
        await store.save_retry_at(1060.5)
        assert await store_on(redis).load_retry_at() == await store.load_retry_at() == 1060.5
    await store.save_retry_at(None)
    assert await store.load_retry_at() is None


async def test_retry_at_goes_with_the_next_credential(redis: RedisServer) -> None:
    store = store_on(redis)
    await store.save_retry_at(9e9)
    await store.save(CREDENTIAL)
    assert await store.load_retry_at() is None
