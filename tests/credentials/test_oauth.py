"""Compare and refresh, against a real token endpoint."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
import tenacity

from rxauth.credentials import (
    Credential,
    CredentialSource,
    FileStore,
    KimiCliStore,
    KimiCodeStore,
    MemoryStore,
    OAuthCredentials,
    PiStore,
)
from rxauth.credentials._single_flight import flights
from rxauth.errors import (
    AccountChanged,
    CredentialRejected,
    LoginRequired,
    NeverLiveError,
    RefreshFailed,
    StoreError,
)
from rxauth.events import AssistantMessage, Error
from tests.credentials.token_server import TokenServer, running
from tests.credentials.tracebacks import told_with_variables

Use: TypeAlias = Callable[[], Awaitable[Credential | None]]


class Time:
    """Both clocks, and a sleep that moves them."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.elapsed = 1000.0
        self.slept: list[float] = []

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.pass_by(seconds)

    @property
    def arguments(self) -> dict[str, Any]:
        return {"clock": lambda: self.wall, "monotonic": lambda: self.elapsed, "sleep": self.sleep}


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with running(TokenServer()) as server:
        yield server


@pytest.fixture
def now() -> Time:
    return Time()


def source(server: TokenServer, store: Any, now: Time | None = None, **options: Any) -> OAuthCredentials:
    arguments = {"token_url": server.url, "client_id": "app"} | (now.arguments if now else {}) | options
    return OAuthCredentials(store, **arguments)


def rejected(credential: Credential) -> CredentialRejected:
    return CredentialRejected("401", status=401, credential=credential)


def background() -> None:
    """Wait for what runs in the background."""
    thread = flights._thread
    if thread is not None:
        thread.join(10)
        assert not thread.is_alive()


async def test_it_is_a_credential_source(server: TokenServer) -> None:
    assert isinstance(source(server, MemoryStore()), CredentialSource)


# A refresh -----------------------------------------------------------------------------------------------------------


async def test_a_rejected_credential_is_exchanged_stored_and_returned(server: TokenServer, now: Time) -> None:
    old = server.credential(extra={"account_id": "ann"})
    store = MemoryStore(old)
    new = await source(server, store, now).refresh(rejected(old))
    assert new is not None
    assert (new.access_token, new.refresh_token) == ("access-2", "refresh-2")
    assert new.expires_at == now.wall + 900
    assert new.account_id == "ann"
    assert await store.load() == new
    assert [form["refresh_token"] for form in server.requests] == ["refresh-1"]


async def test_a_late_failure_of_an_old_token_adopts_the_newer_one(server: TokenServer) -> None:
    old = server.credential()
    ours = source(server, MemoryStore(old))
    new = await ours.refresh(rejected(old))
    for _ in range(3):
        assert await ours.refresh(rejected(old)) == new
    assert len(server.requests) == 1


async def test_a_stored_credential_that_is_newer_is_adopted_without_a_request(server: TokenServer) -> None:
    old = server.credential()
    store = MemoryStore(old)
    ours = source(server, store)
    assert await ours.current() == old
    theirs = server.rotate()
    await store.save(theirs)
    assert await ours.refresh(rejected(old)) == theirs
    assert server.requests == []


async def test_a_stored_credential_that_has_expired_is_exchanged_and_not_adopted(
    server: TokenServer, now: Time
) -> None:
    old = server.credential()
    theirs = server.rotate()
    expired = Credential(theirs.access_token, theirs.refresh_token, expires_at=now.wall)
    new = await source(server, MemoryStore(expired), now).refresh(rejected(old))
    assert new is not None
    assert new.access_token == "access-3"


async def test_the_same_token_again_is_no_news(server: TokenServer) -> None:
    old = server.credential()
    server.answers.append({"body": b'{"access_token": "access-1", "expires_in": 900}'})
    assert await source(server, MemoryStore(old)).refresh(rejected(old)) is None


async def test_ten_thousand_refreshes_at_once_cost_one_request(server: TokenServer) -> None:
    old = server.credential()
    ours = source(server, MemoryStore(old))
    server.gate.clear()
    tasks = [asyncio.create_task(ours.refresh(rejected(old))) for _ in range(10_000)]
    await asyncio.to_thread(server.asked.wait)
    server.gate.set()
    results = set(await asyncio.gather(*tasks))
    assert {each.access_token for each in results if each} == {"access-2"}
    assert len(server.requests) == 1


def test_on_many_loops_and_threads_too(server: TokenServer) -> None:
    old = server.credential()
    ours = source(server, MemoryStore(old))
    threads = 8
    together = threading.Barrier(threads)

    async def ask() -> list[Credential | None]:
        tasks = [asyncio.create_task(ours.refresh(rejected(old))) for _ in range(1250)]
        await asyncio.to_thread(together.wait)
        return await asyncio.gather(*tasks)

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        asked = [pool.submit(asyncio.run, ask()) for _ in range(threads)]
        assert {each.access_token for one in asked for each in one.result() if each} == {"access-2"}
    assert len(server.requests) == 1


async def test_a_failure_is_shared_by_those_who_wait_and_each_gets_its_own(server: TokenServer, now: Time) -> None:
    old = server.credential()
    server.answers += [{"status": 503}] * 3
    server.gate.clear()
    ours = source(server, MemoryStore(old), now)
    tasks = [asyncio.create_task(ours.refresh(rejected(old))) for _ in range(50)]
    await asyncio.to_thread(server.asked.wait)
    server.gate.set()
    failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert len(server.requests) == 3
    assert {repr(failure) for failure in failures} == {repr(failures[0])}
    assert isinstance(failures[0], RefreshFailed)
    assert (failures[0].type, failures[0].status) == ("http_error", 503)
    assert len({id(failure) for failure in failures}) == 50
    lengths = {len(traceback.extract_tb(each.__traceback__)) for each in failures if isinstance(each, BaseException)}
    assert len(lengths) == 1, "a shared exception's traceback would grow"


async def test_after_a_failure_the_next_one_asks_anew(server: TokenServer, now: Time) -> None:
    old = server.credential()
    server.answers += [{"status": 503}] * 3
    ours = source(server, MemoryStore(old), now)
    with pytest.raises(RefreshFailed):
        await ours.refresh(rejected(old))
    new = await ours.refresh(rejected(old))
    assert new is not None
    assert new.access_token == "access-2"


# Which credential was rejected ---------------------------------------------------------------------------------------


def _request(**headers: Any) -> Any:
    return SimpleNamespace(headers=headers)


def _sdk(**headers: Any) -> _Failure:
    return _Failure(response=SimpleNamespace(request=_request(**headers)))


class _Failure(Exception):
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def _caused(cause: BaseException) -> BaseException:
    error = RuntimeError("outer")
    error.__cause__ = cause
    return error


OLDER = Credential("older-access")

BEARER = "Bearer older-access"

NAMED: dict[str, Any] = {
    "rxauth's own": rejected(OLDER),
    "in an error event": Error(reason="error", error=AssistantMessage(), cause=rejected(OLDER)),
    "in a mapping": {"type": "error", "cause": rejected(OLDER)},
    "held back": NeverLiveError((), rejected(OLDER)),
    "held back, as an event": NeverLiveError((), {"type": "error", "cause": rejected(OLDER)}),
    "as a cause": _caused(rejected(OLDER)),
    "somebody else's exception": _Failure(credential=OLDER),
    "somebody else's event": {"type": "error", "credential": OLDER},
    "an SDK's bearer token": _sdk(Authorization=BEARER),
    "in lower case": _sdk(authorization="bearer  older-access "),
    "in bytes": _Failure(
        response=SimpleNamespace(request=SimpleNamespace(headers={b"Authorization": BEARER.encode()}))
    ),
    "an SDK's API key": _sdk(**{"X-API-Key": "older-access"}),
    "the bearer token before the key": _sdk(**{"x-api-key": "k", "Authorization": BEARER}),
    "httpx's, without an answer": _Failure(request=_request(Authorization=BEARER)),
    "aiohttp's": _Failure(request_info=_request(Authorization=BEARER)),
    "an SDK's, held back": NeverLiveError((), _sdk(Authorization=BEARER)),
}


@pytest.mark.parametrize("failure", NAMED.values(), ids=NAMED)
async def test_a_failure_that_names_an_older_token_adopts_what_is_stored(server: TokenServer, failure: Any) -> None:
    stored = server.credential()
    ours = source(server, MemoryStore(stored))
    assert await ours.current() == stored
    assert await ours.refresh(failure) == stored
    assert server.requests == []


class _Hostile(Exception):
    @property
    def response(self) -> Any:
        raise RuntimeError("no response")


ANONYMOUS: dict[str, Any] = {
    "no failure": None,
    "some exception": RuntimeError("401"),
    "an event": {"type": "error"},
    "basic authorization": _sdk(Authorization="Basic b2xkZXI="),
    "an empty token": _sdk(Authorization="Bearer "),
    "a token that is none": _sdk(Authorization="Bearer \N{BULLET}\N{BULLET}"),
    "a credential that is none": _Failure(credential="older-access"),
    "headers that are none": _Failure(response=SimpleNamespace(request=SimpleNamespace(headers=7))),
    "a property that raises": _Hostile(),
}


@pytest.mark.parametrize("failure", ANONYMOUS.values(), ids=ANONYMOUS)
async def test_a_failure_that_names_none_means_the_one_last_given_out(server: TokenServer, failure: Any) -> None:
    old = server.credential()
    store = MemoryStore(old)
    ours = source(server, store)
    assert await ours.current() == old
    new = await ours.refresh(failure)
    assert new is not None
    assert new.access_token == "access-2"


async def test_a_failure_that_names_none_does_not_mean_one_that_is_new(server: TokenServer, now: Time) -> None:
    old = server.credential()
    ours = source(server, MemoryStore(old), now)
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


async def test_one_that_a_refresh_has_just_brought_is_new_also_if_it_is_the_first(server: TokenServer) -> None:
    ours = source(server, MemoryStore(server.credential()))
    new = await ours.refresh(None)
    assert await ours.refresh(RuntimeError("401")) == new
    assert len(server.requests) == 1


async def test_one_that_another_process_has_just_stored_is_new_too(server: TokenServer, now: Time) -> None:
    store = MemoryStore(server.credential())
    ours = source(server, store, now)
    await ours.current()
    await store.save(server.rotate())
    theirs = await ours.current()
    assert await ours.refresh(RuntimeError("401")) == theirs
    assert server.requests == []


async def test_with_nothing_given_out_it_means_what_is_stored(server: TokenServer) -> None:
    new = await source(server, MemoryStore(server.credential())).refresh(None)
    assert new is not None
    assert new.access_token == "access-2"


# Accounts ------------------------------------------------------------------------------------------------------------


async def test_another_accounts_credential_is_neither_adopted_nor_spent(server: TokenServer) -> None:
    ann = server.credential(extra={"account_id": "ann"})
    store = MemoryStore(ann)
    ours = source(server, store)
    await ours.current()
    bob = server.credential(extra={"account_id": "bob"})
    await store.save(bob)
    uses: list[Use] = [ours.current, lambda: ours.refresh(rejected(ann)), lambda: ours.refresh(RuntimeError("401"))]
    for use in uses:
        with pytest.raises(AccountChanged, match="another account"):
            await use()
    assert server.requests == []
    assert await store.load() == bob


async def test_a_rejected_credential_of_another_account_than_the_stored_one_is_noticed_first(
    server: TokenServer,
) -> None:
    ann = Credential("ann's", extra={"account_id": "ann"})
    with pytest.raises(AccountChanged):
        await source(server, MemoryStore(server.credential(extra={"account_id": "bob"}))).refresh(rejected(ann))
    assert server.requests == []


@pytest.mark.parametrize(("one", "other"), [(None, "bob"), ("ann", None), (None, None), ("ann", "ann")])
async def test_an_account_that_is_unknown_is_no_other_account(
    server: TokenServer, one: str | None, other: str | None
) -> None:
    def extra(account: str | None) -> dict[str, str]:
        return {} if account is None else {"account_id": account}

    old = Credential("older", extra=extra(one))
    stored = server.credential(extra=extra(other))
    assert await source(server, MemoryStore(stored)).refresh(rejected(old)) == stored


# Login required ------------------------------------------------------------------------------------------------------


async def test_nothing_stored_is_a_login_to_make(server: TokenServer) -> None:
    ours = source(server, MemoryStore())
    uses: list[Use] = [ours.current, lambda: ours.refresh(RuntimeError("401"))]
    for use in uses:
        with pytest.raises(LoginRequired, match="Log in"):
            await use()


async def test_no_refresh_token_is_a_login_to_make(server: TokenServer, now: Time) -> None:
    bare = Credential("bare", expires_at=now.wall)
    ours = source(server, MemoryStore(bare), now)
    uses: list[Use] = [ours.current, lambda: ours.refresh(rejected(bare))]
    for use in uses:
        with pytest.raises(LoginRequired, match="no refresh token"):
            await use()
    assert server.requests == []


async def test_a_dead_refresh_token_is_looked_after_once_and_not_tried_again_for_300_s(
    server: TokenServer, now: Time
) -> None:
    old = server.credential()
    server.revoked = True
    store = MemoryStore(old)
    ours = source(server, store, now)
    with pytest.raises(LoginRequired, match="Log in"):
        await ours.refresh(rejected(old))
    assert (len(server.requests), now.slept) == (1, [1.0])
    for _ in range(5):
        with pytest.raises(LoginRequired):
            await ours.refresh(rejected(old))
    now.pass_by(299)
    with pytest.raises(LoginRequired):
        await ours.refresh(rejected(old))
    assert len(server.requests) == 1
    now.pass_by(1)
    with pytest.raises(LoginRequired):
        await ours.refresh(rejected(old))
    assert len(server.requests) == 2
    assert await store.load() == old, "only a logout deletes"


async def test_the_second_look_is_within_the_bound_too(server: TokenServer, now: Time) -> None:
    old = server.credential()
    server.revoked = True
    with pytest.raises(LoginRequired):
        await source(server, MemoryStore(old), now, timeout=0.5).refresh(rejected(old))
    assert now.slept == [0.5]


async def test_a_new_login_is_used_at_once_after_a_dead_refresh_token(server: TokenServer, now: Time) -> None:
    old = server.credential()
    server.revoked = True
    store = MemoryStore(old)
    ours = source(server, store, now)
    with pytest.raises(LoginRequired):
        await ours.refresh(rejected(old))
    login = server.credential()
    await store.save(login)
    assert await ours.current() == login
    assert await ours.refresh(rejected(old)) == login
    new = await ours.refresh(rejected(login))
    assert new is not None
    assert server.valid is not None
    assert new.access_token == server.valid.access_token


async def test_a_dead_refresh_token_that_somebody_rotated_is_no_harm(server: TokenServer, now: Time) -> None:
    """Two machines without a common lock: the other one stores what it got a moment after we were refused."""
    old = server.credential()
    store = MemoryStore(old)
    theirs = server.rotate()
    server.answers.append({"status": 400, "body": b'{"error": "invalid_grant"}'})
    free: list[bool] = []

    async def sleep(seconds: float) -> None:
        async with asyncio.timeout(1):
            async with store.locked():  # given back before the wait, or they could not store it
                free.append(True)
            await store.save(theirs)

    ours = source(server, store, now, sleep=sleep)
    assert await ours.refresh(rejected(old)) == theirs
    assert (len(server.requests), free) == (1, [True])


async def test_what_somebody_rotated_and_let_expire_is_exchanged(server: TokenServer, now: Time) -> None:
    old = server.credential()
    store = MemoryStore(old)
    theirs = server.rotate()
    expired = Credential(theirs.access_token, theirs.refresh_token, expires_at=now.wall - 1)
    server.answers.append({"status": 400, "body": b'{"error": "invalid_grant"}'})

    async def sleep(seconds: float) -> None:
        await store.save(expired)

    new = await source(server, store, now, sleep=sleep).refresh(rejected(old))
    assert new is not None
    assert new.access_token == "access-3"
    assert [form["refresh_token"] for form in server.requests] == ["refresh-1", "refresh-2"]


async def test_what_somebody_rotated_and_is_dead_too_is_a_login_to_make(server: TokenServer, now: Time) -> None:
    old = server.credential()
    store = MemoryStore(old)
    dead = Credential("theirs", "their-refresh", expires_at=now.wall - 1)
    server.answers += [{"status": 400, "body": b'{"error": "invalid_grant"}'}] * 2

    async def sleep(seconds: float) -> None:
        await store.save(dead)

    ours = source(server, store, now, sleep=sleep)
    for _ in range(3):
        with pytest.raises(LoginRequired):
            await ours.refresh(rejected(old))
    assert [form["refresh_token"] for form in server.requests] == ["refresh-1", "their-refresh"]


# Backoff -------------------------------------------------------------------------------------------------------------


async def test_what_is_transient_is_tried_three_times(server: TokenServer, now: Time) -> None:
    server.answers += [{"status": 500}, {"body": b"<html>"}]
    old = server.credential()
    new = await source(server, MemoryStore(old), now).refresh(rejected(old))
    assert new is not None
    assert len(server.requests) == 3
    assert len(now.slept) == 2
    assert 0 <= now.slept[0] <= 0.5
    assert 0 <= now.slept[1] <= 1.0


async def test_retry_after_is_obeyed(server: TokenServer, now: Time) -> None:
    server.answers.append({"status": 429, "headers": {"Retry-After": "7"}})
    old = server.credential()
    assert await source(server, MemoryStore(old), now).refresh(rejected(old))
    assert now.slept == [7.0]


async def test_a_retry_after_beyond_the_bound_is_not_waited_for(server: TokenServer, now: Time) -> None:
    server.answers += [{"status": 429, "headers": {"Retry-After": "36"}}] * 9
    old = server.credential()
    with pytest.raises(RefreshFailed, match=r"asks to wait 36 s.*what is stored is intact"):
        await source(server, MemoryStore(old), now).refresh(rejected(old))
    assert (now.slept, len(server.requests)) == ([], 1)


async def test_no_request_is_begun_that_the_bound_would_cut_off(server: TokenServer, now: Time) -> None:
    server.answers += [{"status": 429, "headers": {"Retry-After": "30"}}] * 9
    old = server.credential()
    begin = now.elapsed
    with pytest.raises(RefreshFailed):
        await source(server, MemoryStore(old), now).refresh(rejected(old))
    assert (now.slept, len(server.requests)) == ([30.0], 2)
    assert now.elapsed - begin <= 35


@pytest.mark.parametrize(
    ("code", "advice"),
    [("invalid_client", "client_id"), ("unauthorized_client", "client_id"), ("invalid_scope", "scope")],
)
async def test_a_wrong_configuration_is_not_tried_again_and_says_what_to_check(
    server: TokenServer, now: Time, code: str, advice: str
) -> None:
    server.answers += [{"status": 401, "body": f'{{"error": "{code}"}}'.encode()}] * 3
    if code == "invalid_scope":
        server.answers[0] = {"status": 400, "body": b'{"error": "invalid_scope"}'}
    old = server.credential()
    with pytest.raises(RefreshFailed, match=advice) as caught:
        await source(server, MemoryStore(old), now).refresh(rejected(old))
    assert caught.value.type == code
    assert len(server.requests) == 1


async def test_a_policy_that_was_given_alone_decides(server: TokenServer, now: Time) -> None:
    server.answers += [{"status": 500}] * 4
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_fixed(2))
    old = server.credential()
    assert await source(server, MemoryStore(old), now, retrying=policy).refresh(rejected(old))
    assert (len(server.requests), now.slept) == (5, [2.0] * 4)


@pytest.mark.parametrize("options", [{}, {"retry_error_callback": lambda state: None}, {"reraise": True}])
async def test_however_a_policy_gives_up_it_is_a_failed_refresh(
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
async def test_no_policy_repeats_what_is_final(
    server: TokenServer, now: Time, code: bytes, error: type[Exception]
) -> None:
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(5))
    old = server.credential()
    server.answers.append({"status": 400, "body": b'{"error": "%s"}' % code})
    with pytest.raises(error):
        await source(server, MemoryStore(old), now, retrying=policy).refresh(rejected(old))
    assert len(server.requests) == 1


async def test_before_each_try_the_store_is_read_again(server: TokenServer, now: Time) -> None:
    old = server.credential()
    store = MemoryStore(old)
    server.answers.append({"status": 500})

    async def sleep(seconds: float) -> None:
        store._credential = server.rotate()  # by somebody who does not care for locks

    new = await source(server, store, now, sleep=sleep).refresh(rejected(old))
    assert new == await store.load()
    assert len(server.requests) == 1


# Every store -------------------------------------------------------------------------------------------------------


def _stores(home: Path) -> dict[str, Any]:
    return {
        "memory": MemoryStore(),
        "file": FileStore(home / "file.json", "key"),
        "pi": PiStore(home / "auth.json"),
        "kimi-code": KimiCodeStore(home / "kimi-code", environ={}),
        "kimi-cli": KimiCliStore(home / "kimi"),
    }


@pytest.mark.parametrize("kind", ["memory", "file", "pi", "kimi-code", "kimi-cli"])
async def test_it_works_with_every_store(server: TokenServer, tmp_path: Path, kind: str) -> None:
    store = _stores(tmp_path)[kind]
    old = server.credential(expires_at=time.time() + 1000)
    async with asyncio.timeout(10):
        await store.save(old)
        ours = source(server, store)
        given = await ours.current()
        new = await ours.refresh(rejected(given))
        assert new is not None
        assert (new.access_token, (await store.load()).refresh_token) == ("access-2", "refresh-2")
        assert await ours.refresh(rejected(given)) is not None
        assert (await ours.current()).access_token == "access-2"
    assert len(server.requests) == 1


# The store's lock ----------------------------------------------------------------------------------------------------


class Locked(MemoryStore):
    """A store whose lock somebody holds for ever."""

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield


async def test_a_lock_that_cannot_be_had_is_a_failed_refresh(server: TokenServer) -> None:
    old = server.credential()
    ours = source(server, Locked(old), request_timeout=0.02, timeout=0.04)
    with pytest.raises(RefreshFailed, match="held the lock") as caught:
        await ours.refresh(rejected(old))
    assert caught.value.type == "LockTimeout"
    assert server.requests == []


async def test_a_bound_no_longer_than_a_request_leaves_time_to_get_the_lock(server: TokenServer) -> None:
    class Elsewhere(MemoryStore):
        @asynccontextmanager
        async def locked(self) -> AsyncIterator[None]:
            await asyncio.to_thread(lambda: None)
            async with super().locked():
                yield

    old = server.credential()
    ours = source(server, Elsewhere(old), request_timeout=10, timeout=10)
    assert await ours.refresh(rejected(old)) is not None


async def test_what_is_stored_is_adopted_without_the_lock(server: TokenServer) -> None:
    class Elsewhere(Locked):
        async def load(self) -> Credential | None:
            await asyncio.sleep(0)  # it takes time, which waiting for the lock has to leave
            return await super().load()

    ours = source(server, Elsewhere(server.credential()), request_timeout=0.1, timeout=0.2)
    assert await ours.refresh(rejected(OLDER)) is not None
    assert server.requests == []


class Late(MemoryStore):
    """A store whose lock is had after `seconds`."""

    def __init__(self, credential: Credential, now: Time, seconds: float) -> None:
        super().__init__(credential)
        self.now = now
        self.seconds = seconds

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        self.now.pass_by(self.seconds)
        async with super().locked():
            yield


async def test_with_a_lock_that_comes_too_late_no_request_is_begun(server: TokenServer, now: Time) -> None:
    old = server.credential()
    with pytest.raises(RefreshFailed, match="no time left"):
        await source(server, Late(old, now, 41), now).refresh(rejected(old))
    assert server.requests == []


class Broken(MemoryStore):
    """A store of somebody else's that fails with what comes to its hand."""

    def __init__(self, credential: Credential, *, breaks: str, error: Exception) -> None:
        super().__init__(credential)
        self.breaks = breaks
        self.error = error

    async def load(self) -> Credential | None:
        if self.breaks == "load":
            raise self.error
        return await super().load()

    async def save(self, credential: Credential) -> None:
        if self.breaks == "save":
            raise self.error
        await super().save(credential)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        if self.breaks == "locked":
            raise self.error
        async with super().locked():
            yield


@pytest.mark.parametrize("breaks", ["load", "locked"])
@pytest.mark.parametrize(
    "error", [StoreError("odd"), OSError("odd"), RuntimeError("odd")], ids=lambda e: type(e).__name__
)
async def test_a_broken_store_is_a_store_error_and_nothing_is_spent(
    server: TokenServer, breaks: str, error: Exception
) -> None:
    old = server.credential()
    with pytest.raises(StoreError):
        await source(server, Broken(old, breaks=breaks, error=error)).refresh(rejected(old))
    assert server.requests == []


async def test_a_lock_that_cannot_be_given_back_harms_nobody(
    server: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    class Sticky(MemoryStore):
        @asynccontextmanager
        async def locked(self) -> AsyncIterator[None]:
            async with super().locked():
                yield
            raise ConnectionError("gone")

    old = server.credential()
    store = Sticky(old)
    new = await source(server, store).refresh(rejected(old))
    assert new is not None
    assert await store.load() == new
    assert "could not be released (ConnectionError)" in caplog.text


class Hanging(MemoryStore):
    """A store that does not come back from one of its methods."""

    def __init__(self, credential: Credential, *, hangs: str) -> None:
        super().__init__(credential)
        self.hangs = hangs

    async def load(self) -> Credential | None:
        if self.hangs == "load":
            await asyncio.Event().wait()
        return await super().load()

    async def save(self, credential: Credential) -> None:
        if self.hangs == "save":
            await asyncio.Event().wait()
        await super().save(credential)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        async with super().locked():
            yield
            if self.hangs == "unlock":
                await asyncio.Event().wait()


@pytest.mark.parametrize("hangs", ["load", "save", "unlock"])
async def test_a_store_that_hangs_hangs_nobody(server: TokenServer, hangs: str) -> None:
    old = server.credential()
    ours = source(server, Hanging(old, hangs=hangs), timeout=0.2, request_timeout=0.1)
    async with asyncio.timeout(10):
        if hangs == "load":
            with pytest.raises(StoreError, match="TimeoutError"):
                await ours.refresh(rejected(old))
        else:
            new = await ours.refresh(rejected(old))
            assert new is not None
            assert new.access_token == "access-2"


@pytest.mark.parametrize("lock", ["had", "not had"])
async def test_the_bound_of_a_refresh_is_that_of_reading_the_store_too(
    server: TokenServer, now: Time, lock: str
) -> None:
    class Slow(MemoryStore):
        late = False

        async def load(self) -> Credential | None:
            if self.late:
                await asyncio.Event().wait()
            return await super().load()

        @asynccontextmanager
        async def locked(self) -> AsyncIterator[None]:
            now.pass_by(44.99)
            self.late = True
            if lock == "not had":
                raise StoreError("no lock")
            yield

    old = server.credential()
    async with asyncio.timeout(10):
        with pytest.raises(StoreError, match="TimeoutError"):
            await source(server, Slow(old), now).refresh(rejected(old))


# A credential that cannot be stored ----------------------------------------------------------------------------------


async def test_a_rotated_credential_that_cannot_be_stored_is_not_lost(
    server: TokenServer, now: Time, caplog: pytest.LogCaptureFixture
) -> None:
    old = server.credential()
    store = Broken(old, breaks="save", error=OSError("disk full"))
    ours = source(server, store, now)
    new = await ours.refresh(rejected(old))
    assert new is not None
    assert [each.levelname for each in caplog.records] == ["ERROR"]
    assert "log in again" in caplog.text
    assert await ours.current() == new
    assert await ours.refresh(rejected(old)) == new
    assert server.reused == []
    # The disk has room again.
    store.breaks = ""
    now.pass_by(20)
    assert await ours.current() == new
    await asyncio.to_thread(background)
    assert await MemoryStore.load(store) == new
    store.breaks = "save"
    caplog.clear()
    now.pass_by(20)
    assert await ours.current() == new
    await asyncio.to_thread(background)
    assert caplog.records == [], "it is stored once"
    store.breaks = ""
    newest = await ours.refresh(rejected(new))
    assert newest is not None
    assert (newest.access_token, len(server.requests), server.reused) == ("access-3", 2, [])


async def test_a_store_that_can_be_neither_written_nor_read_loses_nothing_either(
    server: TokenServer, now: Time
) -> None:
    class Gone(Broken):
        async def save(self, credential: Credential) -> None:
            self.breaks = "load"
            raise self.error

    old = server.credential()
    store = Gone(old, breaks="", error=OSError("unplugged"))
    ours = source(server, store, now)
    new = await ours.refresh(rejected(old))
    assert new is not None
    store.breaks = ""
    assert await ours.current() == new


def test_a_program_that_ends_while_it_stores_one_at_last_finishes_that(server: TokenServer, now: Time) -> None:
    saving, room = threading.Event(), threading.Event()

    class Full(Broken):
        async def save(self, credential: Credential) -> None:
            if self.breaks != "save":
                saving.set()
                await asyncio.to_thread(room.wait)
            await super().save(credential)

    old = server.credential()
    store = Full(old, breaks="save", error=OSError("disk full"))
    ours = source(server, store, now)
    new = asyncio.run(ours.refresh(rejected(old)))
    store.breaks = ""
    now.pass_by(20)
    assert asyncio.run(ours.current()) == new
    assert saving.wait(10)
    assert flights._loop is not None
    flights._loop.call_soon_threadsafe(flights._cancel_all)
    flights._loop.call_soon_threadsafe(room.set)
    background()
    assert asyncio.run(MemoryStore.load(store)) == new


class Lost(MemoryStore):
    """A store whose lock was lost: it refuses our save, because `theirs` is there by now."""

    def __init__(self, credential: Credential, theirs: Credential | None) -> None:
        super().__init__(credential)
        self.theirs = theirs

    async def save(self, credential: Credential) -> None:
        self._credential = self.theirs
        raise StoreError("the lock was lost")


async def test_if_somebody_else_stored_one_in_the_meantime_theirs_counts(server: TokenServer, now: Time) -> None:
    old = server.credential()
    theirs = Credential("theirs", "their-refresh", expires_at=now.wall + 100, extra={"expires_in": 900})
    ours = source(server, Lost(old, theirs), now)
    assert await ours.refresh(rejected(old)) == theirs
    assert await ours.current() == theirs
    await asyncio.to_thread(background)
    assert server.requests[-1]["refresh_token"] == "their-refresh", "and is refreshed ahead, as any other"


@pytest.mark.parametrize("fields", [{"extra": {"account_id": "bob"}}, {"expires_at": 1.0}], ids=["account", "expired"])
async def test_if_theirs_cannot_be_used_the_refresh_has_failed(
    server: TokenServer, now: Time, fields: dict[str, Any]
) -> None:
    old = server.credential(extra={"account_id": "ann"})
    ours = source(server, Lost(old, Credential("theirs", "their-refresh", **fields)), now)
    with pytest.raises(StoreError, match="lost"):
        await ours.refresh(rejected(old))


async def test_if_somebody_logged_out_in_the_meantime_that_counts(server: TokenServer) -> None:
    old = server.credential()
    ours = source(server, Lost(old, None))
    with pytest.raises(StoreError):
        await ours.refresh(rejected(old))
    with pytest.raises(LoginRequired):
        await ours.current()


# current() and time --------------------------------------------------------------------------------------------------


async def test_a_credential_that_is_valid_is_given_out_without_a_request(server: TokenServer, now: Time) -> None:
    for expires_at in (None, now.wall + 1000, 1e300):
        stored = server.credential(expires_at=expires_at)
        assert await source(server, MemoryStore(stored), now).current() == stored
    background()
    assert server.requests == []


async def test_one_that_has_expired_is_waited_for_by_all_together(server: TokenServer, now: Time) -> None:
    old = server.credential(expires_at=now.wall)
    ours = source(server, MemoryStore(old), now)
    given = await asyncio.gather(*(ours.current() for _ in range(100)))
    assert {each.access_token for each in given} == {"access-2"}
    assert len(server.requests) == 1


async def test_one_that_has_expired_and_cannot_be_refreshed_is_not_given_out(server: TokenServer, now: Time) -> None:
    server.answers += [{"status": 503}] * 3
    ours = source(server, MemoryStore(server.credential(expires_at=now.wall - 1)), now)
    with pytest.raises(RefreshFailed):
        await ours.current()


async def test_the_same_token_with_a_new_lifetime_is_good_again(server: TokenServer, now: Time) -> None:
    server.answers.append({"body": b'{"access_token": "access-1", "expires_in": 900}'})
    ours = source(server, MemoryStore(server.credential(expires_at=now.wall - 1)), now)
    for _ in range(2):
        assert (await ours.current()).expires_at == now.wall + 900
    assert len(server.requests) == 1


async def test_one_that_soon_ends_is_given_out_at_once_and_refreshed_behind(server: TokenServer, now: Time) -> None:
    old = server.credential(expires_at=now.wall + 1000)
    store = MemoryStore(old)
    ours = source(server, store, now)
    assert await ours.current() == old
    now.pass_by(881)
    server.gate.clear()
    for _ in range(10):
        assert await ours.current() == old
    await asyncio.to_thread(server.asked.wait)
    assert await store.load() == old
    server.gate.set()
    await asyncio.to_thread(background)
    assert (await ours.current()).access_token == "access-2"
    assert len(server.requests) == 1


async def test_with_a_short_lifetime_it_is_refreshed_at_half_of_it(server: TokenServer, now: Time) -> None:
    server.expires_in = 60
    ours = source(server, MemoryStore(server.credential(expires_at=now.wall - 1)), now)
    assert (await ours.current()).access_token == "access-2"
    now.pass_by(29)
    assert (await ours.current()).access_token == "access-2"
    background()
    assert len(server.requests) == 1
    now.pass_by(2)
    assert (await ours.current()).access_token == "access-2"
    await asyncio.to_thread(background)
    assert (await ours.current()).access_token == "access-3"


async def test_one_of_unknown_age_that_soon_ends_is_refreshed_behind(server: TokenServer, now: Time) -> None:
    """A program that has just begun, and a store that does not know how long the credential was good for."""
    old = server.credential(expires_at=now.wall + 119)
    ours = source(server, MemoryStore(old), now)
    assert await ours.current() == old
    await asyncio.to_thread(background)
    assert (await ours.current()).access_token == "access-2"
    assert len(server.requests) == 1


async def test_one_that_comes_later_has_just_been_issued(server: TokenServer, now: Time) -> None:
    """Or two programs that do not tell each other the lifetime would refresh each other's credentials for ever."""
    store = MemoryStore(server.credential())
    ours = source(server, store, now)
    await ours.current()
    theirs = server.rotate()
    await store.save(Credential(theirs.access_token, theirs.refresh_token, expires_at=now.wall + 60))
    for _ in range(3):
        assert (await ours.current()).access_token == "access-2"
        now.pass_by(10)
    background()
    assert server.requests == []
    now.pass_by(1)
    await ours.current()
    await asyncio.to_thread(background)
    assert len(server.requests) == 1


@pytest.mark.parametrize("told", [0, -900, True, float("nan"), "900"])
async def test_a_lifetime_that_is_told_and_is_none_is_unknown(server: TokenServer, now: Time, told: Any) -> None:
    old = server.credential(expires_at=now.wall + 119, extra={"expires_in": told})
    ours = source(server, MemoryStore(old), now)
    assert await ours.current() == old
    await asyncio.to_thread(background)
    assert len(server.requests) == 1


async def test_refresh_ahead_of_zero_turns_it_off(server: TokenServer, now: Time) -> None:
    old = server.credential(expires_at=now.wall + 1)
    assert await source(server, MemoryStore(old), now, refresh_ahead=0).current() == old
    background()
    assert server.requests == []


async def test_a_refresh_ahead_that_fails_is_a_warning_and_rests_a_while(
    server: TokenServer, now: Time, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers += [{"status": 503}] * 3
    old = server.credential(expires_at=now.wall + 1000, extra={"expires_in": 1000})
    ours = source(server, MemoryStore(old), now)
    now.pass_by(900)
    for _ in range(5):
        assert await ours.current() == old
        await asyncio.to_thread(background)
    assert len(server.requests) == 3
    assert [each.levelname for each in caplog.records if each.levelno >= logging.WARNING] == ["WARNING"]
    now.pass_by(15)
    await ours.current()
    await asyncio.to_thread(background)
    assert len(server.requests) == 4


async def test_a_refresh_ahead_rests_as_long_as_the_server_asks(server: TokenServer, now: Time) -> None:
    old = server.credential(expires_at=now.wall + 100, extra={"expires_in": 900})
    ours = source(server, MemoryStore(old), now)
    server.answers.append({"status": 503, "headers": {"Retry-After": "900"}})
    for seconds in (0, 89):
        now.pass_by(seconds)
        assert await ours.current() == old
        await asyncio.to_thread(background)
        assert len(server.requests) == 1


async def test_one_that_soon_ends_and_cannot_be_refreshed_is_given_out_in_silence(
    server: TokenServer, now: Time, caplog: pytest.LogCaptureFixture
) -> None:
    bare = Credential("bare", expires_at=now.wall + 100)
    assert await source(server, MemoryStore(bare), now).current() == bare
    await asyncio.to_thread(background)
    assert caplog.records == []


async def test_a_dead_refresh_token_is_told_once_while_the_credential_is_good(
    server: TokenServer, now: Time, caplog: pytest.LogCaptureFixture
) -> None:
    old = server.credential(expires_at=now.wall + 100, extra={"expires_in": 900})
    server.revoked = True
    ours = source(server, MemoryStore(old), now)
    for _ in range(4):
        assert await ours.current() == old
        await asyncio.to_thread(background)
        now.pass_by(20)
    assert [each.levelname for each in caplog.records if each.levelno >= logging.WARNING] == ["WARNING"]
    assert len(server.requests) == 1


async def test_a_rejection_joins_the_refresh_ahead(server: TokenServer, now: Time) -> None:
    old = server.credential(expires_at=now.wall + 100, extra={"expires_in": 900})
    ours = source(server, MemoryStore(old), now)
    server.gate.clear()
    await ours.current()
    waiting = asyncio.create_task(ours.refresh(rejected(old)))
    await asyncio.to_thread(server.asked.wait)
    server.gate.set()
    new = await waiting
    assert new is not None
    assert len(server.requests) == 1


async def test_a_laptop_that_slept_finds_its_credential_expired(server: TokenServer, now: Time) -> None:
    ours = source(server, MemoryStore(server.credential(expires_at=now.wall + 900)), now)
    await ours.current()
    now.wall += 3600  # and the other clock stood still
    assert (await ours.current()).access_token == "access-2"


async def test_a_clock_that_is_set_back_prolongs_no_lifetime(server: TokenServer, now: Time) -> None:
    ours = source(server, MemoryStore(server.credential(expires_at=now.wall + 900)), now)
    await ours.current()
    now.pass_by(899)
    now.wall -= 7200
    await ours.current()
    await asyncio.to_thread(background)
    assert (await ours.current()).access_token == "access-2"


async def test_a_clock_that_is_set_back_prolongs_not_even_what_was_not_read_again(
    server: TokenServer, now: Time
) -> None:
    ours = source(server, MemoryStore(server.credential(expires_at=now.wall - 1)), now)
    assert (await ours.current()).access_token == "access-2"
    now.wall -= 7200
    now.pass_by(901)
    assert (await ours.current()).access_token == "access-3"


async def test_a_lifetime_that_is_nonsense_is_unknown_and_never_waited_for(server: TokenServer, now: Time) -> None:
    nonsense: list[Any] = [0, -5, "soon", True, [], None]
    for odd in nonsense:
        server.expires_in = odd
        old = server.credential(expires_at=now.wall - 1)
        ours = source(server, MemoryStore(old), now)
        server.requests.clear()
        for _ in range(3):
            given = await ours.current()
            now.pass_by(100_000)
        assert given.expires_at is None
        assert len(server.requests) == 1


async def test_what_another_process_stores_is_given_out_at_once(server: TokenServer) -> None:
    store = MemoryStore(server.credential())
    ours = source(server, store)
    await ours.current()
    theirs = server.rotate()
    await store.save(theirs)
    assert await ours.current() == theirs
    await store.delete()
    with pytest.raises(LoginRequired):
        await ours.current()


async def test_a_spent_credential_that_comes_back_is_not_given_out(server: TokenServer) -> None:
    """Somebody restored an old file, or writes without the lock."""
    old = server.credential()
    store = MemoryStore(old)
    ours = source(server, store)
    new = await ours.refresh(rejected(old))
    await store.save(old)
    assert await ours.current() == new
    newest = await ours.refresh(new and rejected(new))
    assert newest is not None
    assert (newest.access_token, server.reused) == ("access-3", [])


# Cancellation and the ends of loops ----------------------------------------------------------------------------------


async def test_a_cancelled_waiter_cancels_itself_alone(server: TokenServer) -> None:
    old = server.credential()
    store = MemoryStore(old)
    ours = source(server, store)
    server.gate.clear()
    tasks = [asyncio.create_task(ours.refresh(rejected(old))) for _ in range(3)]
    await asyncio.to_thread(server.asked.wait)
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    server.gate.set()
    for new in await asyncio.gather(*tasks[1:]):
        assert new is not None
        assert new.access_token == "access-2"


async def test_a_program_that_ends_before_a_refresh_has_begun_is_told(server: TokenServer) -> None:
    old = server.credential()
    busy = threading.Event()

    async def keep_the_thread_busy() -> None:
        busy.wait()

    flights.run("in the way", keep_the_thread_busy)
    asker = asyncio.create_task(source(server, MemoryStore(old)).refresh(rejected(old)))
    while len(flights._flights) < 2:
        await asyncio.sleep(0)
    assert flights._loop is not None
    flights._loop.call_soon_threadsafe(flights._cancel_all)
    busy.set()
    with pytest.raises(RefreshFailed) as caught:
        await asker
    assert caught.value.type == "Interrupted"
    assert server.requests == []


async def test_if_every_waiter_is_cancelled_the_answer_is_stored_all_the_same(server: TokenServer) -> None:
    old = server.credential()
    store = MemoryStore(old)
    server.gate.clear()
    task = asyncio.create_task(source(server, store).refresh(rejected(old)))
    await asyncio.to_thread(server.asked.wait)
    task.cancel()
    await asyncio.wait([task])
    server.gate.set()
    await asyncio.to_thread(background)
    stored = await store.load()
    assert stored is not None
    assert stored.access_token == "access-2"


def test_an_exchange_outlives_the_loop_that_asked_for_it(server: TokenServer, tmp_path: Path) -> None:
    old = server.credential()
    store = FileStore(tmp_path / "auth.json", "key")
    server.gate.clear()

    async def ask() -> None:
        await store.save(old)
        task = asyncio.create_task(source(server, store).refresh(rejected(old)))
        await asyncio.to_thread(server.asked.wait)
        assert not task.done()

    asyncio.run(ask())
    server.gate.set()
    background()
    stored = asyncio.run(store.load())
    assert stored is not None
    assert stored.access_token == "access-2"


# At the door ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param({"store": None}, TypeError, id="no store"),
        pytest.param({"store": Credential("a")}, TypeError, id="a credential for a store"),
        pytest.param({"token_url": "http://example.com/token"}, ValueError, id="unencrypted"),
        pytest.param({"client_id": ""}, ValueError, id="no client"),
        pytest.param({"client_auth": "mtls"}, ValueError, id="an unknown client_auth"),
        pytest.param({"refresh_ahead": -1}, ValueError, id="a negative time"),
        pytest.param({"refresh_ahead": float("nan")}, ValueError, id="no number"),
        pytest.param({"request_timeout": 0}, ValueError, id="no time for a request"),
        pytest.param({"timeout": float("inf")}, ValueError, id="an endless time"),
        pytest.param({"timeout": "45"}, TypeError, id="a time as text"),
        pytest.param({"timeout": True}, TypeError, id="a time that is a flag"),
        pytest.param({"retrying": tenacity.AsyncRetrying()}, TypeError, id="an asynchronous policy"),
        pytest.param({"retrying": 3}, TypeError, id="a number for a policy"),
    ],
)
def test_nonsense_is_refused_at_construction(arguments: dict[str, Any], error: type[Exception]) -> None:
    fine: dict[str, Any] = {"store": MemoryStore(), "token_url": "https://example.com/token", "client_id": "app"}
    with pytest.raises(error):
        OAuthCredentials(**(fine | arguments))


async def test_no_token_is_ever_told(server: TokenServer, now: Time, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    old = server.credential(expires_at=now.wall + 1)
    ours = source(server, MemoryStore(old), now, client_secret="client-secret")
    said = [repr(ours), str(ours)]
    server.answers += [{"status": 500, "body": b"refresh-1"}, {"status": 200, "body": b"refresh-1 access-1"}]
    await ours.current()
    await asyncio.to_thread(background)
    await ours.refresh(rejected(old))
    server.revoked = True
    now.pass_by(10_000)
    uses: list[Use] = [ours.current, lambda: ours.refresh(RuntimeError("401"))]
    for use in uses:
        with pytest.raises(LoginRequired) as caught:
            await use()
        said += traceback.format_exception(caught.value)
    told = "".join(said) + caplog.text
    assert "Refreshed the credential" in caplog.text
    for number in (1, 2):
        assert f"access-{number}" not in told
        assert f"refresh-{number}" not in told.replace("refresh-1.0", "")
    assert "client-secret" not in repr(ours)


@pytest.mark.parametrize("trouble", ["it is echoed", "half a token response", "no answer"])
async def test_not_even_with_the_local_variables_of_a_traceback(server: TokenServer, now: Time, trouble: str) -> None:
    """As error reporters collect them."""
    old = server.credential(expires_at=now.wall - 1)
    ours = source(server, MemoryStore(old), now, client_secret="client-secret", answer_timeout=0.02)
    bodies = {
        "it is echoed": b"<refresh-1 access-1>",
        "half a token response": b'{"access_token": "access-2", "refresh_',
    }
    uses: list[Use] = [
        ours.current,
        lambda: ours.refresh(rejected(old)),
        lambda: ours.refresh(_sdk(Authorization="Bearer access-1")),
    ]
    for use in uses:
        if trouble in bodies:
            server.answers += [{"body": bodies[trouble]}] * 3
        else:
            server.gate.clear()
        with pytest.raises(RefreshFailed) as caught:
            await use()
        told = told_with_variables(caught.value)
        assert "rejected = Credential(" in told
        assert [each for each in ("access-1", "access-2", "refresh-1", "client-secret") if each in told] == []
