"""The Redis store on a real server: what is stored, its lock, troubles, and its address."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

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


# A server in trouble ------------------------------------------------------------------------------------------------


async def test_an_unreachable_server_is_an_error(tmp_path: Path) -> None:
    store = RedisStore(f"unix://:hush@{tmp_path}/none", "kimi")
    for attempt in (store.load(), store.save(OLD), store.delete()):
        with pytest.raises(StoreError, match=r"unix:///\S+/none cannot be used") as caught:
            await attempt
        assert "hush" not in repr(caught.value)


async def test_a_server_that_hangs_is_an_error_in_time(redis: RedisServer) -> None:
    store = store_on(redis, timeout=0.2)
    redis.pause()
    loop = asyncio.get_running_loop()
    before = loop.time()
    for attempt in (store.load(), store.save(OLD)):
        with pytest.raises(StoreError, match="did not answer in time"):
            await attempt
    assert loop.time() - before < 2
    redis.go_on()
    assert await store.load() is None
    assert redis.lock is None or redis.lock_ends_in() > 0


async def test_a_server_that_dies_lets_nothing_be_written(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    store = store_on(redis)
    async with store.locked():
        redis.kill()
        with pytest.raises(StoreError, match="cannot be used"):
            await store.save(OLD)
    assert "cannot be released now; it is free in 15 s" in caplog.text


async def test_a_server_that_comes_back_knows_its_locks(redis: RedisServer) -> None:
    store = store_on(redis)
    async with store.locked():
        redis.client.save()
        redis.kill()
        redis.start()
        await store.save(OLD)
    assert tokens(await store.load()) == tokens(OLD)
    assert redis.lock is None
    (redis.directory / "dump.rdb").unlink()


@pytest.mark.parametrize(
    "deed", [b"'NX'", b"'lost'", b"'DEL'", b"'PEXPIRE'"], ids=["the lock", "the save", "the release", "the renewal"]
)
async def test_a_lost_answer_is_asked_for_again(redis: RedisServer, deed: bytes) -> None:
    async with Proxy(redis) as proxy:
        sleep = Signs()
        store = RedisStore(proxy.url, "kimi", sleep=sleep)
        proxy.lose = deed
        async with store.locked():
            await sleep.called.get()
            sleep.go.release()
            await sleep.called.get()
            await store.save(OLD)
        assert proxy.lost == 1
        assert tokens(await store.load()) == tokens(OLD)
    assert redis.lock is None


# Its address ---------------------------------------------------------------------------------------------------------


def test_describe_omits_the_password() -> None:
    store = RedisStore("rediss://user:hush@redis.example.com:6380/2?password=hush&ssl_ca_certs=/x", "kimi")
    assert store.describe() == "rediss://redis.example.com:6380/2 (kimi)"
    assert repr(store) == "RedisStore('rediss://redis.example.com:6380/2', 'kimi')"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        *((f"redis://{host}", {}) for host in ("127.0.0.1", "localhost", "[::1]:6379", "")),
        ("redis://redis.example.com", {"allow_plaintext": True}),
    ],
)
def test_plain_text_is_allowed_on_loopback(url: str, options: Any) -> None:
    RedisStore(url, "kimi", **options)


@pytest.mark.parametrize(
    ("url", "options", "error"),
    [
        ("redis://:hush@redis.example.com", {}, r"do not travel unencrypted to redis\.example\.com"),
        *((url, {}, "url is") for url in ("", "http://localhost", "redis://[", "redis://localhost:port", "/socket")),
        *(("redis://", options, "more than 0") for options in ({"timeout": 0}, {"lock_ttl": 0}, {"lock_ttl": -1})),
        ("redis://", {"key": ""}, "key"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(url: str, options: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error) as caught:
        RedisStore(url, **{"key": "kimi"} | options)
    assert "hush" not in str(caught.value)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match=r"RedisStore needs the package redis: pip install 'rxauth\[redis\]'\."):
        RedisStore("redis://", "kimi")
