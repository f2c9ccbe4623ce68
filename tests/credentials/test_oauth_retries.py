"""When a token request is sent again, and when it is not: backoff, Retry-After, dead tokens, a caller's policy."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import tenacity

from rxauth.credentials import Credential, MemoryStore
from rxauth.errors import LoginRequired, RefreshFailed
from tests.credentials.oauth import Forgetful, LateLock, Time, rejected, renewed, source
from tests.credentials.token_server import TokenServer

REGION = {"status": 403, "body": b'{"error": {"code": "unsupported_country_region_territory"}}'}


def busy(seconds: object, status: int = 429) -> dict[str, Any]:
    return {"status": status, "headers": {"Retry-After": str(seconds)}}


def refusal(code: str) -> dict[str, Any]:
    return {"status": 400, "body": f'{{"error": "{code}"}}'.encode()}


@pytest.mark.parametrize(
    ("answers", "outcome", "slept"),
    [
        pytest.param([{"status": 500}, {"body": b"<html>"}], None, 2, id="a transient failure is tried three times"),
        pytest.param([busy(7)] * 3, r"asks to wait 7 s.*what is stored is intact", [7.0, 7.0], id="Retry-After"),
        pytest.param([busy(30)] * 2, "asks to wait 30 s", [30.0], id="Retry-After while the time lasts"),
        pytest.param([busy(36)], "asks to wait 36 s", [], id="Retry-After beyond the bound"),
        pytest.param([REGION], r"network, region and account", [], id="a place that is refused"),
        pytest.param([refusal("invalid_client")], "client_id", [], id="a wrong client"),
        pytest.param([refusal("unauthorized_client")], "client_id", [], id="a client without the right"),
        pytest.param([refusal("invalid_scope")], "scope", [], id="a wrong scope"),
    ],
)
async def test_an_answer_is_asked_for_again_or_not(
    server: TokenServer, now: Time, answers: list[Any], outcome: str | None, slept: list[float] | int
) -> None:
    server.answers += answers
    begin = now.elapsed
    ours = source(server, old := server.credential(), now)
    if outcome is None:
        await renewed(ours, old)
        assert len(server.requests) == 3
        assert now.slept[0] <= 0.5 >= now.slept[1] / 2
        return
    with pytest.raises(RefreshFailed, match=outcome):
        await ours.refresh(rejected(old))
    assert (now.slept, len(server.requests)) == (slept, len(answers))
    assert now.elapsed - begin <= 35
    now.pass_by(60)
    await renewed(ours, old)  # none of them is remembered longer


@pytest.mark.parametrize("kind", [MemoryStore, Forgetful])
@pytest.mark.parametrize("status", [429, 503, 400])
async def test_retry_after_holds_for_later_refreshes(
    server: TokenServer, now: Time, kind: type[MemoryStore], status: int
) -> None:
    """Six prompts are one request. A 400 is one whose answer is no token response."""
    store = kind(old := server.credential())
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
    server.answers.append(busy(300))
    with pytest.raises(RefreshFailed):
        await ours.refresh(rejected(old))
    await store.save(login := server.credential())
    await renewed(ours, login)  # a new login does not wait


@pytest.mark.parametrize(
    ("asked", "passes"),
    [
        pytest.param(300, [(301, 0)], id="the laptop slept"),
        pytest.param(300, [(-7200, 301)], id="the clock was set back"),
        pytest.param(999_999_999, [(86_000, 86_000), (400, 400)], id="a wait of years is one day"),
        pytest.param("Tue, 14 Nov 2223 22:13:20 GMT", [(86_000, 86_000), (400, 400)], id="a date in two centuries too"),
    ],
)
async def test_a_wait_is_over_when_one_clock_says_so(
    server: TokenServer, now: Time, asked: object, passes: list[tuple[float, float]]
) -> None:
    ours = source(server, old := server.credential(), now)
    server.answers.append(busy(asked))
    for wall, elapsed in passes:
        with pytest.raises(RefreshFailed):
            await ours.refresh(rejected(old))
        now.wall += wall
        now.elapsed += elapsed
    await renewed(ours, old)


async def test_a_short_wait_is_waited_in_a_later_refresh(server: TokenServer, now: Time) -> None:
    ours = source(server, old := server.credential(), now)
    server.answers.append(busy(40))
    with pytest.raises(RefreshFailed):
        await ours.refresh(rejected(old))
    now.pass_by(20.5)
    await renewed(ours, old)
    assert now.slept == [1.0] * 19 + [0.5]
    assert len(server.requests) == 2


async def test_the_store_is_read_again_before_each_try(server: TokenServer, now: Time) -> None:
    """A request that timed out may have rotated; or another process was first."""
    store = MemoryStore(old := server.credential())
    server.answers.append({"status": 500})

    async def sleep(seconds: float) -> None:
        async with asyncio.timeout(1), store.locked():  # the lock is not held between two tries
            pass
        await store.save(server.rotate())

    assert await renewed(source(server, store, now, sleep=sleep), old) == await store.load()
    assert len(server.requests) == 1


@pytest.mark.parametrize(("late", "requests"), [(39, 1), (41, 0)])
async def test_no_request_is_begun_at_the_end_of_the_time(
    server: TokenServer, now: Time, late: float, requests: int
) -> None:
    ours = source(server, LateLock(old := server.credential(), now, late), now)
    outcome = (await asyncio.gather(ours.refresh(rejected(old)), return_exceptions=True))[0]
    assert isinstance(outcome, Credential) if requests else "no time left" in str(outcome)
    assert len(server.requests) == requests


# A dead refresh token ------------------------------------------------------------------------------------------------


class Marking(MemoryStore):
    """A store that is informed of refresh tokens that were refused."""

    def __init__(self, credential: Credential) -> None:
        super().__init__(credential)
        self.dead: list[str | None] = []

    def mark_dead(self, credential: Credential) -> None:
        self.dead.append(credential.refresh_token)


async def test_a_dead_refresh_token_is_sent_once_in_300_s(server: TokenServer, now: Time) -> None:
    store = Marking(old := server.credential())
    server.revoked = True
    ours = source(server, store, now)
    for seconds, requests in ((0, 1), (0, 1), (299, 1), (1, 2)):
        now.pass_by(seconds)
        with pytest.raises(LoginRequired, match=r"no longer accepts its refresh token\. Log in"):
            await ours.refresh(rejected(old))
        assert len(server.requests) == requests
    assert now.slept == [1.0, 1.0], "a second look at the store each time"
    assert store.dead == server.sent == ["refresh-1"] * 2
    assert await store.load() == old, "only a logout deletes"
    await store.save(login := server.credential())
    assert await ours.refresh(rejected(old)) == await ours.current() == login
    await renewed(ours, login)


async def test_a_login_of_which_every_copy_is_dead_has_ended(server: TokenServer, now: Time) -> None:
    class Copies(MemoryStore):
        def mark_dead(self, credential: Credential) -> None:
            self._credential = None

    server.credential()
    with pytest.raises(LoginRequired, match="no longer accepts"):
        await source(server, Copies(Credential("other", "revoked")), now, timeout=0.5).refresh(None)
    assert now.slept == [0.5], "the second look is within the bound"


@pytest.mark.parametrize(
    ("theirs", "token", "sent"),
    [
        pytest.param({}, "access-2", ["refresh-1"], id="a new credential is adopted"),
        pytest.param({"expired": True}, "access-3", ["refresh-1", "refresh-2"], id="an expired one is exchanged"),
        pytest.param({"expired": True, "dead": True}, None, ["refresh-1", "refresh-2"], id="a dead one needs a login"),
        pytest.param({"gone": True}, None, ["refresh-1"], id="a logout needs a login"),
    ],
)
async def test_a_token_that_was_used_elsewhere_is_looked_up(
    server: TokenServer, now: Time, theirs: dict[str, bool], token: str | None, sent: list[str]
) -> None:
    """Two machines without a common lock: the other one stores its answer a moment after we were refused."""
    store = Marking(old := server.credential())
    rotated = server.rotate()
    end = now.wall - 1 if theirs.get("expired") else None
    server.answers += [refusal("invalid_grant")] * (2 if theirs.get("dead") else 1)

    async def sleep(seconds: float) -> None:
        async with asyncio.timeout(1):  # the lock is free during the wait, or they could not store it
            await store.save(Credential(rotated.access_token, rotated.refresh_token, expires_at=end))
        if theirs.get("gone"):
            await store.delete()

    ours = source(server, store, now, sleep=sleep)
    for _ in range(3):
        if token is None:
            with pytest.raises(LoginRequired):
                await ours.refresh(rejected(old))
        else:
            assert (await renewed(ours, old)).access_token == token
    assert server.sent == sent
    assert store.dead == (sent if theirs.get("dead") else sent[:1])


# A policy of the caller's --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "answers", "outcome"),
    [
        pytest.param({}, [{"status": 500}, busy(300), {"status": 500}, {"status": 500}], None, id="alone decides"),
        pytest.param({}, [{"status": 500}] * 5, RefreshFailed, id="gives up with an error"),
        pytest.param({"retry_error_callback": lambda _: 7}, [{"status": 500}] * 5, RefreshFailed, id="with a value"),
        pytest.param({"reraise": True}, [{"status": 500}] * 5, RefreshFailed, id="with the last failure"),
        pytest.param({}, [refusal("invalid_grant")], LoginRequired, id="does not repeat a dead token"),
        pytest.param({}, [refusal("invalid_client")], RefreshFailed, id="does not repeat a wrong configuration"),
    ],
)
async def test_a_given_policy_decides_about_transient_failures(
    server: TokenServer, now: Time, options: dict[str, Any], answers: list[Any], outcome: type[Exception] | None
) -> None:
    server.answers += answers
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_fixed(2), **options)
    ours = source(server, old := server.credential(), now, retrying=policy)
    if outcome is None:
        await renewed(ours, old)
        assert (len(server.requests), now.slept) == (5, [2.0] * 4)
        return
    with pytest.raises(outcome) as caught:
        await ours.refresh(rejected(old))
    assert len(server.requests) == len(answers)
    assert getattr(caught.value, "status", None) == (None if outcome is LoginRequired else answers[-1]["status"])
