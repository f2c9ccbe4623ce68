"""When a token request is sent again, and when it is not: backoff, Retry-After, other people's policies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import tenacity

from rxauth.credentials import Credential, MemoryStore
from rxauth.errors import LoginRequired, RefreshFailed
from tests.credentials.oauth import Time, rejected, source
from tests.credentials.token_server import TokenServer


def busy(seconds: float | None, status: int = 429) -> dict[str, Any]:
    return {"status": status} if seconds is None else {"status": status, "headers": {"Retry-After": str(seconds)}}


async def test_a_transient_failure_is_tried_three_times(server: TokenServer, now: Time) -> None:
    server.answers += [{"status": 500}, {"body": b"<html>"}]
    old = server.credential()
    assert await source(server, MemoryStore(old), now).refresh(rejected(old)) is not None
    assert len(server.requests) == 3
    first, second = now.slept
    assert 0 <= first <= 0.5
    assert 0 <= second <= 1.0


@pytest.mark.parametrize(
    ("asked", "slept", "requests"),
    [
        pytest.param(7, [7.0, 7.0], 3, id="obeyed"),
        pytest.param(30, [30.0], 2, id="obeyed while the time lasts"),
        pytest.param(36, [], 1, id="not waited for beyond the bound"),
    ],
)
async def test_retry_after_is_waited_for(
    server: TokenServer, now: Time, asked: int, slept: list[float], requests: int
) -> None:
    server.answers += [busy(asked)] * 9
    old = server.credential()
    begin = now.elapsed
    with pytest.raises(RefreshFailed, match=rf"asks to wait {asked} s.*what is stored is intact"):
        await source(server, MemoryStore(old), now).refresh(rejected(old))
    assert (now.slept, len(server.requests)) == (slept, requests)
    assert now.elapsed - begin <= 35


class Forgetful(MemoryStore):
    """A store that keeps no time to retry at."""

    save_retry_at = load_retry_at = None  # type: ignore[assignment]


@pytest.mark.parametrize("kind", [MemoryStore, Forgetful])
@pytest.mark.parametrize("status", [429, 503, 400])
async def test_retry_after_holds_for_later_refreshes(
    server: TokenServer, now: Time, kind: type[MemoryStore], status: int
) -> None:
    """Six prompts are one request. A 400 is one whose answer is no token response."""
    old = server.credential()
    store = kind(old)
    ours = source(server, store, now)
    server.answers.append(busy(300, status))
    for left in (None, 300, 299):
        with pytest.raises(RefreshFailed, match=f"another {left} s" if left else "asks to wait 300 s"):
            await ours.refresh(rejected(old))
        now.pass_by(left is not None)
    if kind is MemoryStore:  # another process
        with pytest.raises(RefreshFailed, match="another 298 s"):
            await source(server, store, now).refresh(rejected(old))
    assert len(server.requests) == 1
    now.pass_by(298)
    assert await ours.refresh(rejected(old)) is not None


async def test_a_short_wait_is_waited_in_a_later_refresh(server: TokenServer, now: Time) -> None:
    old = server.credential()
    ours = source(server, MemoryStore(old), now)
    server.answers.append(busy(40))
    with pytest.raises(RefreshFailed):
        await ours.refresh(rejected(old))
    now.pass_by(20.5)
    assert await ours.refresh(rejected(old)) is not None
    assert now.slept == [1.0] * 19 + [0.5]
    assert len(server.requests) == 2


@pytest.mark.parametrize("clock", ["the wall clock", "the monotonic clock"])
async def test_a_wait_is_over_when_one_clock_says_so(server: TokenServer, now: Time, clock: str) -> None:
    """The wall clock is set back, or the laptop slept."""
    old = server.credential()
    ours = source(server, MemoryStore(old), now)
    server.answers.append(busy(300))
    with pytest.raises(RefreshFailed):
        await ours.refresh(rejected(old))
    if clock == "the wall clock":
        now.wall += 301
    else:
        now.wall -= 7200
        now.elapsed += 301
    assert await ours.refresh(rejected(old)) is not None


async def test_a_wait_ends_with_a_new_login(server: TokenServer, now: Time) -> None:
    old = server.credential()
    store = MemoryStore(old)
    ours = source(server, store, now)
    server.answers.append(busy(300))
    with pytest.raises(RefreshFailed):
        await ours.refresh(rejected(old))
    login = server.credential()
    await store.save(login)
    assert await ours.refresh(rejected(login)) is not None


@pytest.mark.parametrize("asked", ["999999999", "Tue, 14 Nov 2223 22:13:20 GMT"])
async def test_a_wait_of_years_is_one_day(server: TokenServer, now: Time, asked: str) -> None:
    old = server.credential()
    ours = source(server, MemoryStore(old), now)
    server.answers.append({"status": 429, "headers": {"Retry-After": asked}})
    for seconds in (0, 86_000):
        now.pass_by(seconds)
        with pytest.raises(RefreshFailed):
            await ours.refresh(rejected(old))
    now.pass_by(400)
    assert await ours.refresh(rejected(old)) is not None


async def test_a_refusal_of_this_place_is_not_remembered(server: TokenServer, now: Time) -> None:
    """The VPN is off, and on again."""
    old = server.credential()
    ours = source(server, MemoryStore(old), now)
    server.answers.append({"status": 403, "body": b'{"error": {"code": "unsupported_country_region_territory"}}'})
    with pytest.raises(RefreshFailed, match="network, region and account") as caught:
        await ours.refresh(rejected(old))
    assert (caught.value.status, len(server.requests), now.slept) == (403, 1, [])
    assert await ours.refresh(rejected(old)) is not None


@pytest.mark.parametrize(
    ("code", "advice"),
    [("invalid_client", "client_id"), ("unauthorized_client", "client_id"), ("invalid_scope", "scope")],
)
async def test_a_wrong_configuration_is_not_tried_again(server: TokenServer, now: Time, code: str, advice: str) -> None:
    server.answers.append({"status": 400, "body": f'{{"error": "{code}"}}'.encode()})
    old = server.credential()
    with pytest.raises(RefreshFailed, match=advice) as caught:
        await source(server, MemoryStore(old), now).refresh(rejected(old))
    assert (caught.value.type, len(server.requests)) == (code, 1)


async def test_the_store_is_read_again_before_each_try(server: TokenServer, now: Time) -> None:
    """A request that timed out may have rotated; or another process was first."""
    old = server.credential()
    store = MemoryStore(old)
    server.answers.append({"status": 500})
    free: list[bool] = []

    async def sleep(seconds: float) -> None:
        async with asyncio.timeout(1), store.locked():
            free.append(True)
        await store.save(server.rotate())

    assert await source(server, store, now, sleep=sleep).refresh(rejected(old)) == await store.load()
    assert (len(server.requests), free) == (1, [True]), "the lock is not held between two tries"


@pytest.mark.parametrize(("late", "requests"), [(39, 1), (41, 0)])
async def test_no_request_is_begun_at_the_end_of_the_time(
    server: TokenServer, now: Time, late: float, requests: int
) -> None:
    class Late(MemoryStore):
        @asynccontextmanager
        async def locked(self) -> AsyncIterator[None]:
            now.pass_by(late)
            async with super().locked():
                yield

    old = server.credential()
    ours = source(server, Late(old), now)
    if requests:
        assert await ours.refresh(rejected(old)) is not None
    else:
        with pytest.raises(RefreshFailed, match="no time left"):
            await ours.refresh(rejected(old))
    assert len(server.requests) == requests


# A policy of the caller's --------------------------------------------------------------------------------------------


async def test_a_given_policy_alone_decides(server: TokenServer, now: Time) -> None:
    server.answers += [{"status": 500}, busy(300), {"status": 500}, {"status": 500}]
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_fixed(2))
    old = server.credential()
    assert await source(server, MemoryStore(old), now, retrying=policy).refresh(rejected(old))
    assert (len(server.requests), now.slept) == (5, [2.0] * 4)


@pytest.mark.parametrize(
    "options", [{}, {"retry_error_callback": lambda state: None}, {"reraise": True}], ids=["error", "value", "reraise"]
)
async def test_a_policy_that_gives_up_is_a_failed_refresh(
    server: TokenServer, now: Time, options: dict[str, Any]
) -> None:
    server.answers += [{"status": 500}] * 2
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(2), **options)
    old = server.credential()
    with pytest.raises(RefreshFailed) as caught:
        await source(server, MemoryStore(old), now, retrying=policy).refresh(rejected(old))
    assert caught.value.status == 500


@pytest.mark.parametrize(
    ("code", "error"), [(b"invalid_grant", LoginRequired), (b"invalid_client", RefreshFailed)], ids=["dead", "wrong"]
)
async def test_no_policy_repeats_a_final_failure(
    server: TokenServer, now: Time, code: bytes, error: type[Exception]
) -> None:
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(5))
    old: Credential = server.credential()
    server.answers.append({"status": 400, "body": b'{"error": "%s"}' % code})
    with pytest.raises(error):
        await source(server, MemoryStore(old), now, retrying=policy).refresh(rejected(old))
    assert len(server.requests) == 1
