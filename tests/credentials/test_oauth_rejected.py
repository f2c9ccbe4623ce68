"""Which credential is spent: the rejected one, of the same account and server, with a living refresh token."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from rxauth.credentials import Credential, MemoryStore
from rxauth.errors import AccountChanged, LoginRequired, NeverLiveError
from rxauth.events import AssistantMessage, Error
from tests.credentials.oauth import OLDER, Time, rejected, source
from tests.credentials.token_server import TokenServer

# Which credential was rejected ---------------------------------------------------------------------------------------


class _Failure(Exception):
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class _Hostile(Exception):
    @property
    def response(self) -> Any:
        raise RuntimeError("no response")


def sdk_failure(**headers: Any) -> _Failure:
    return _Failure(response=SimpleNamespace(request=SimpleNamespace(headers=headers)))


NAMED: dict[str, Any] = {
    "rxauth's own": rejected(OLDER),
    "in an error event": Error(reason="error", error=AssistantMessage(), cause=rejected(OLDER)),
    "held back": NeverLiveError((), rejected(OLDER)),
    "an SDK's bearer token": sdk_failure(Authorization="Bearer older-access"),
    "an SDK's API key, held back": NeverLiveError((), sdk_failure(**{"X-API-Key": "older-access"})),
}


@pytest.mark.parametrize("failure", NAMED.values(), ids=NAMED)
async def test_a_named_older_token_adopts_the_stored_one(server: TokenServer, failure: Any) -> None:
    stored = server.credential()
    ours = source(server, MemoryStore(stored))
    assert await ours.current() == stored
    assert await ours.refresh(failure) == stored
    assert server.requests == []


ANONYMOUS: dict[str, Any] = {
    "no failure": None,
    "an exception": RuntimeError("401"),
    "an event": {"type": "error"},
    "basic authorization": sdk_failure(Authorization="Basic b2xkZXI="),
    "a credential that is none": _Failure(credential="older-access"),
    "a property that raises": _Hostile(),
}


@pytest.mark.parametrize("given", [True, False], ids=["given out", "nothing given out"])
@pytest.mark.parametrize("failure", ANONYMOUS.values(), ids=ANONYMOUS)
async def test_an_unnamed_token_is_the_last_one_given_out(server: TokenServer, failure: Any, given: bool) -> None:
    """With nothing given out it is the stored one."""
    old = server.credential()
    ours = source(server, MemoryStore(old))
    if given:
        assert await ours.current() == old
    new = await ours.refresh(failure)
    assert new is not None
    assert new.access_token == "access-2"


@pytest.mark.parametrize("first", [True, False], ids=["the first given out", "a later one"])
async def test_an_unnamed_token_is_not_one_that_is_new(server: TokenServer, now: Time, first: bool) -> None:
    ours = source(server, MemoryStore(server.credential()), now)
    if not first:
        await ours.current()
    new = await ours.refresh(RuntimeError("401"))
    now.pass_by(9.9)
    assert await ours.refresh(RuntimeError("401")) == new
    assert await ours.current() == new
    assert len(server.requests) == 1
    now.pass_by(0.1)
    newest = await ours.refresh(RuntimeError("401"))
    assert newest is not None
    assert newest.access_token == "access-3"


async def test_a_credential_of_another_process_is_new_too(server: TokenServer, now: Time) -> None:
    store = MemoryStore(server.credential())
    ours = source(server, store, now)
    await ours.current()
    await store.save(server.rotate())
    theirs = await ours.current()
    assert await ours.refresh(RuntimeError("401")) == theirs
    assert server.requests == []


# Whose credential it is ----------------------------------------------------------------------------------------------


async def test_another_accounts_credential_is_not_used(server: TokenServer) -> None:
    ann = server.credential(extra={"account_id": "ann"})
    store = MemoryStore(ann)
    ours, anew = source(server, store), source(server, store)
    await ours.current()
    bob = server.credential(extra={"account_id": "bob"})
    await store.save(bob)
    for use in (ours.current(), ours.refresh(rejected(ann)), ours.refresh(None), anew.refresh(rejected(ann))):
        with pytest.raises(AccountChanged, match="another account"):
            await use
    assert server.requests == []
    assert await store.load() == bob


@pytest.mark.parametrize(("one", "other"), [(None, "bob"), ("ann", None), (None, None), ("ann", "ann")])
async def test_an_unknown_account_is_no_other_account(server: TokenServer, one: str | None, other: str | None) -> None:
    old = Credential("older", extra={"account_id": one})
    stored = server.credential(extra={"account_id": other})
    assert await source(server, MemoryStore(stored)).refresh(rejected(old)) == stored


async def test_another_servers_credential_is_not_used(server: TokenServer) -> None:
    """Whatever address the environment gave to this program."""
    real = server.credential(extra={"token_url": "https://auth.example.com/token"})
    store = MemoryStore(real)
    ours = source(server, store)
    for use in (ours.current(), ours.token(), ours.refresh(rejected(real)), ours.refresh(rejected(OLDER))):
        with pytest.raises(LoginRequired, match=r"issued by another server.*Log in at 127\.0\.0\.1.*or give"):
            await use
    assert server.requests == []
    assert await store.load() == real


async def test_the_same_address_written_otherwise_is_used(server: TokenServer) -> None:
    old = server.credential(extra={"token_url": server.url.replace("http://", "HTTP://")})
    assert await source(server, MemoryStore(old)).refresh(rejected(old)) is not None


# Login required ------------------------------------------------------------------------------------------------------


async def test_nothing_stored_needs_a_login(server: TokenServer) -> None:
    ours = source(server, MemoryStore())
    for use in (ours.current(), ours.refresh(RuntimeError("401"))):
        with pytest.raises(LoginRequired, match="Log in"):
            await use


async def test_no_refresh_token_needs_a_login(server: TokenServer, now: Time) -> None:
    bare = Credential("bare", expires_at=now.wall)
    ours = source(server, MemoryStore(bare), now)
    for use in (ours.current(), ours.refresh(rejected(bare))):
        with pytest.raises(LoginRequired, match="no refresh token"):
            await use
    assert server.requests == []


async def test_a_dead_refresh_token_is_sent_once_in_300_s(server: TokenServer, now: Time) -> None:
    old = server.credential()
    server.revoked = True
    dead: list[Credential] = []

    class Marking(MemoryStore):
        def mark_dead(self, credential: Credential) -> None:
            dead.append(credential)

    store = Marking(old)
    ours = source(server, store, now)
    for seconds, requests in ((0, 1), (0, 1), (299, 1), (1, 2)):
        now.pass_by(seconds)
        with pytest.raises(LoginRequired, match=r"no longer accepts its refresh token\. Log in"):
            await ours.refresh(rejected(old))
        assert len(server.requests) == requests
    assert now.slept == [1.0, 1.0], "a second look at the store each time"
    assert dead == [old, old]
    assert await store.load() == old, "only a logout deletes"
    login = server.credential()
    await store.save(login)
    assert await ours.refresh(rejected(old)) == await ours.current() == login
    assert await ours.refresh(rejected(login)) is not None


async def test_a_login_of_which_every_copy_is_dead_has_ended(server: TokenServer, now: Time) -> None:
    class Copies(MemoryStore):
        def mark_dead(self, credential: Credential) -> None:
            self._credential = None

    server.credential()
    with pytest.raises(LoginRequired, match="no longer accepts"):
        await source(server, Copies(Credential("other", "revoked")), now).refresh(None)


async def test_the_second_look_is_within_the_bound(server: TokenServer, now: Time) -> None:
    old = server.credential()
    server.revoked = True
    with pytest.raises(LoginRequired):
        await source(server, MemoryStore(old), now, timeout=0.5).refresh(rejected(old))
    assert now.slept == [0.5]


SECOND_LOOK = [
    pytest.param({}, "access-2", ["refresh-1"], id="a new credential is adopted"),
    pytest.param({"expired": True}, "access-3", ["refresh-1", "refresh-2"], id="an expired one is exchanged"),
    pytest.param({"expired": True, "dead": True}, None, ["refresh-1", "refresh-2"], id="a dead one needs a login"),
    pytest.param({"gone": True}, None, ["refresh-1"], id="a logout needs a login"),
]


@pytest.mark.parametrize(("theirs", "token", "sent"), SECOND_LOOK)
async def test_a_token_that_was_used_elsewhere_is_looked_up(
    server: TokenServer, now: Time, theirs: dict[str, bool], token: str | None, sent: list[str]
) -> None:
    """Two machines without a common lock: the other one stores its answer a moment after we were refused."""
    old = server.credential()
    store = MemoryStore(old)
    rotated = server.rotate()
    end = now.wall - 1 if theirs.get("expired") else None
    server.answers += [{"status": 400, "body": b'{"error": "invalid_grant"}'}] * (2 if theirs.get("dead") else 1)

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
            assert (await ours.refresh(rejected(old)) or old).access_token == token
    assert [form["refresh_token"] for form in server.requests] == sent
