"""The Redis store with a server in trouble, and its address."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials import RedisStore
from rxauth.errors import StoreError
from tests import peers_needed
from tests.credentials.kinds import OLD, tokens

pytestmark = pytest.mark.peer
peers_needed.package("redis")

from tests.credentials.redis_servers import Proxy, RedisServer, Signs, store_on  # noqa: E402


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


@pytest.mark.parametrize("whole", [False, True], ids=["empty", "whole"])
async def test_a_server_that_comes_back_knows_its_locks(redis: RedisServer, whole: bool) -> None:
    store = store_on(redis)
    async with store.locked():
        if whole:
            redis.client.save()
        redis.kill()
        redis.start()
        if not whole:
            with pytest.raises(StoreError, match="lost while it was held"):
                await store.save(OLD)
            return
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
