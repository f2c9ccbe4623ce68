"""Which credential is given out, and when it is refreshed ahead of time; two clocks that may be wrong."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from rxauth.credentials import Credential, MemoryStore
from rxauth.errors import LoginRequired, RefreshFailed
from tests.credentials.oauth import Time, renewed, settled, source
from tests.credentials.token_server import TokenServer


async def test_a_valid_credential_is_given_out(server: TokenServer, now: Time) -> None:
    for expires_at in (None, now.wall + 1000, 1e300):
        stored = server.credential(expires_at=expires_at)
        assert await source(server, stored, now).current() == stored
    await settled()
    assert server.requests == []


async def test_an_expired_credential_is_waited_for(server: TokenServer, now: Time) -> None:
    server.answers += [{"status": 503}] * 3
    ours = source(server, server.credential(expires_at=now.wall), now)
    with pytest.raises(RefreshFailed):
        await ours.current()
    given = await asyncio.gather(*(ours.current() for _ in range(100)))
    assert {each.access_token for each in given} == {"access-2"}
    assert len(server.requests) == 4


async def test_the_same_token_with_a_new_lifetime_is_good(server: TokenServer, now: Time) -> None:
    server.answers.append({"body": b'{"access_token": "access-1", "expires_in": 900}'})
    ours = source(server, server.credential(expires_at=now.wall - 1), now)
    for _ in range(2):
        assert (await ours.current()).expires_at == now.wall + 900
    assert len(server.requests) == 1


async def test_a_credential_of_another_process_is_given_out(server: TokenServer) -> None:
    store = MemoryStore(server.credential())
    ours = source(server, store)
    await ours.current()
    await store.save(theirs := server.rotate())
    assert await ours.current() == theirs
    await store.delete()
    with pytest.raises(LoginRequired):
        await ours.current()


@pytest.mark.parametrize(
    ("wall", "monotonic"),
    [
        pytest.param(3600, 0, id="a laptop that slept"),
        pytest.param(901, 901, id="both clocks"),
        pytest.param(-7200, 901, id="a clock that was set back"),
    ],
)
@pytest.mark.parametrize("fresh", [True, False], ids=["of this process", "of the store"])
async def test_a_credential_has_expired_by_either_clock(
    server: TokenServer, now: Time, wall: float, monotonic: float, fresh: bool
) -> None:
    ours = source(server, server.credential(expires_at=now.wall + (-1 if fresh else 900)), now)
    assert (await ours.current()).access_token == ("access-2" if fresh else "access-1")
    now.wall += wall
    now.elapsed += monotonic
    assert (await ours.current()).access_token == ("access-3" if fresh else "access-2")


@pytest.mark.parametrize("odd", [0, -5, "soon", True, [], None])
async def test_a_nonsense_lifetime_is_never_waited_for(server: TokenServer, now: Time, odd: Any) -> None:
    server.expires_in = odd
    ours = source(server, server.credential(expires_at=now.wall - 1), now)
    for _ in range(3):
        assert (await ours.current()).expires_at is None
        now.pass_by(100_000)
    assert len(server.requests) == 1


# Refreshing ahead ----------------------------------------------------------------------------------------------------


async def test_a_credential_that_ends_soon_is_refreshed_ahead(server: TokenServer, now: Time) -> None:
    """It is given out at once meanwhile; who reports it as rejected joins that refresh."""
    store = MemoryStore(old := server.credential(expires_at=now.wall + 1000))
    ours = source(server, store, now)
    assert await ours.current() == old
    now.pass_by(881)
    server.gate.clear()
    for _ in range(10):
        assert await ours.current() == old
    waiting = asyncio.create_task(renewed(ours, old))
    await asyncio.to_thread(server.asked.wait)
    assert await store.load() == old
    server.gate.set()
    await settled()
    assert await waiting == await ours.current() != old
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("extra", "options", "after", "requests"),
    [
        pytest.param({}, {}, 0, 1, id="of unknown lifetime, under 120 s"),
        pytest.param({"expires_in": 180}, {}, 0, 0, id="above half of its lifetime"),
        pytest.param({"expires_in": 180}, {}, 30, 1, id="below half of its lifetime"),
        pytest.param({}, {"refresh_ahead": 0}, 118, 0, id="turned off"),
        pytest.param({"expires_in": 0}, {}, 0, 1, id="a lifetime of 0 is unknown"),
        pytest.param({"expires_in": -900}, {}, 0, 1, id="a negative lifetime is unknown"),
        pytest.param({"expires_in": True}, {}, 0, 1, id="a flag for a lifetime is unknown"),
        pytest.param({"expires_in": float("nan")}, {}, 0, 1, id="no number for a lifetime is unknown"),
        pytest.param({"expires_in": "900"}, {}, 0, 1, id="text for a lifetime is unknown"),
    ],
)
async def test_a_refresh_ahead_begins_in_time(
    server: TokenServer, now: Time, extra: dict[str, Any], options: Any, after: float, requests: int
) -> None:
    ours = source(server, server.credential(expires_at=now.wall + 119, extra=extra), now, **options)
    await ours.current()
    now.pass_by(after)
    await ours.current()
    await settled()
    assert len(server.requests) == requests


async def test_a_later_credential_has_just_been_issued(server: TokenServer, now: Time) -> None:
    """Or two programs that do not store the lifetime would refresh each other's credentials for ever."""
    store = MemoryStore(server.credential())
    ours = source(server, store, now)
    await ours.current()
    theirs = server.rotate()
    await store.save(Credential(theirs.access_token, theirs.refresh_token, expires_at=now.wall + 60))
    for seconds, requests in ((0, 0), (10, 0), (10, 0), (11, 1)):
        now.pass_by(seconds)
        await ours.current()
        await settled()
        assert len(server.requests) == requests


@pytest.mark.parametrize(
    ("answers", "requests"),
    [
        pytest.param([{"status": 503}] * 3, [3, 3, 3, 4], id="15 s"),
        pytest.param([{"status": 503, "headers": {"Retry-After": "900"}}], [1, 1, 1, 1], id="as long as it was asked"),
        pytest.param([{"status": 400, "body": b'{"error": "invalid_grant"}'}], [1, 1, 1, 1], id="for good when dead"),
        pytest.param(None, [0, 0, 0, 0], id="for good without a refresh token, as an API key"),
    ],
)
async def test_a_refresh_ahead_that_fails_rests_a_while(
    server: TokenServer, now: Time, caplog: pytest.LogCaptureFixture, answers: Any, requests: list[int]
) -> None:
    """And warns once."""
    caplog.set_level(logging.WARNING)
    old = server.credential(expires_at=now.wall + 100, extra={"expires_in": 1000})
    if answers is None:
        old = Credential(old.access_token, expires_at=old.expires_at)
    server.answers += answers or []
    ours = source(server, old, now)
    for seconds, count in zip((0, 7, 6, 15), requests, strict=True):
        now.pass_by(seconds)
        assert await ours.current() == old
        await settled()
        assert len(server.requests) == count
    assert [each.levelname for each in caplog.records] == ["WARNING"] * (answers is not None)
