"""Compare and refresh: which credential was rejected, and whether what is stored is adopted, exchanged or refused."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tenacity

from rxauth.credentials import Credential, CredentialSource, FileStore, MemoryStore, OAuthCredentials
from rxauth.credentials._single_flight import flights
from rxauth.errors import AccountChanged, LoginRequired, NeverLiveError, RefreshFailed
from rxauth.events import AssistantMessage, Error
from tests.credentials.oauth import OLDER, Time, background, rejected, renewed, source
from tests.credentials.token_server import TokenServer
from tests.credentials.tracebacks import with_variables

ELSEWHERE = {"token_url": "https://auth.example.com/token"}

# The stored credential decides ----------------------------------------------------------------------------------------


async def test_a_rejected_credential_is_exchanged_and_stored(server: TokenServer, now: Time) -> None:
    store = MemoryStore(old := server.credential(extra={"account_id": "ann"}))
    ours = source(server, store, now)
    assert isinstance(ours, CredentialSource)
    new = await renewed(ours, old)
    assert (new.access_token, new.refresh_token) == ("access-2", "refresh-2")
    assert (new.expires_at, new.account_id, new.token_url) == (now.wall + 900, "ann", server.url)
    assert await store.load() == new
    assert await ours.token() == "access-2"
    assert server.sent == ["refresh-1"]


@pytest.mark.parametrize(
    ("stored", "failure", "outcome"),
    [
        pytest.param({}, rejected(OLDER), "access-1", id="a newer one is adopted"),
        pytest.param({"expires_at": 1.0}, rejected(OLDER), "access-2", id="an expired one is exchanged"),
        pytest.param({}, "stored", "access-2", id="the rejected one is exchanged"),
        pytest.param({"extra": {"token_url": "here"}}, "stored", "access-2", id="its server is written otherwise"),
        pytest.param({"extra": ELSEWHERE}, "stored", "issued by another server", id="another server's is not sent"),
        pytest.param({"extra": ELSEWHERE}, rejected(OLDER), r"Log in at 127\.0\.0\.1.*or give", id="nor is it adopted"),
        pytest.param({"refresh_token": None}, "stored", "no refresh token", id="one that cannot be refreshed"),
        pytest.param(None, rejected(OLDER), "No credential is stored.*Log in", id="nothing is stored"),
        pytest.param(None, None, "No credential is stored.*Log in", id="nothing is stored, nothing was rejected"),
    ],
)
async def test_what_is_stored_decides(
    server: TokenServer, now: Time, stored: dict[str, Any] | None, failure: Any, outcome: str
) -> None:
    login = None if stored is None else server.credential()
    if login is not None and stored is not None:
        if (extra := stored.get("extra")) and extra["token_url"] == "here":
            stored = {"extra": {"token_url": server.url.replace("http://", "HTTP://")}}
        login = Credential(login.access_token, **{"refresh_token": login.refresh_token} | stored)
    store = MemoryStore(login)
    use = source(server, store, now).refresh(rejected(login) if failure == "stored" and login else failure)
    if outcome.startswith("access"):
        assert getattr(await use, "access_token", None) == outcome
    else:
        with pytest.raises(LoginRequired, match=outcome):
            await use
        assert await store.load() == login
    assert server.sent == (["refresh-1"] if outcome == "access-2" else [])


async def test_another_accounts_credential_is_not_used(server: TokenServer) -> None:
    store = MemoryStore(ann := server.credential(extra={"account_id": "ann"}))
    ours, anew = source(server, store), source(server, store)
    await ours.current()
    await store.save(bob := server.credential(extra={"account_id": "bob"}))
    for use in (ours.current(), ours.refresh(rejected(ann)), ours.refresh(None), anew.refresh(rejected(ann))):
        with pytest.raises(AccountChanged, match="another account"):
            await use
    assert server.requests == []
    assert await store.load() == bob


@pytest.mark.parametrize(("one", "other"), [(None, "bob"), ("ann", None), (None, None), ("ann", "ann")])
async def test_an_unknown_account_is_no_other_account(server: TokenServer, one: str | None, other: str | None) -> None:
    stored = server.credential(extra={"account_id": other})
    assert await renewed(source(server, stored), Credential("older", extra={"account_id": one})) == stored


async def test_the_same_token_again_is_none(server: TokenServer) -> None:
    old = server.credential()
    server.answers.append({"body": b'{"access_token": "access-1", "expires_in": 900}'})
    assert await source(server, old).refresh(rejected(old)) is None


async def test_a_spent_credential_that_comes_back_is_not_used(server: TokenServer) -> None:
    """A restored backup, or a program that writes without the lock."""
    store = MemoryStore(old := server.credential())
    ours = source(server, store)
    new = await renewed(ours, old)
    await store.save(old)
    assert await ours.current() == new
    assert (await renewed(ours, new)).access_token == "access-3"
    assert server.reused == []


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


@pytest.mark.parametrize(
    ("failure", "named"),
    [
        pytest.param(rejected(OLDER), True, id="rxauth's own"),
        pytest.param(Error(reason="error", error=AssistantMessage(), cause=rejected(OLDER)), True, id="in an event"),
        pytest.param(NeverLiveError((), rejected(OLDER)), True, id="held back"),
        pytest.param(sdk_failure(Authorization="Bearer older-access"), True, id="an SDK's bearer token"),
        pytest.param(NeverLiveError((), sdk_failure(**{"X-API-Key": "older-access"})), True, id="an SDK's API key"),
        pytest.param(None, False, id="no failure"),
        pytest.param(RuntimeError("401"), False, id="an exception"),
        pytest.param({"type": "error"}, False, id="an event"),
        pytest.param(sdk_failure(Authorization="Basic b2xkZXI="), False, id="basic authorization"),
        pytest.param(_Failure(credential="older-access"), False, id="a credential that is none"),
        pytest.param(_Hostile(), False, id="a property that raises"),
    ],
)
@pytest.mark.parametrize("given", [True, False], ids=["given out", "nothing given out"])
async def test_an_unnamed_token_is_the_last_one_given_out(
    server: TokenServer, failure: Any, named: bool, given: bool
) -> None:
    """With nothing given out it is the stored one. An older one that is named costs no request."""
    ours = source(server, server.credential())
    if given:
        await ours.current()
    assert (await renewed(ours, failure)).access_token == ("access-1" if named else "access-2")
    assert len(server.requests) == (0 if named else 1)


@pytest.mark.parametrize("first", [True, False], ids=["the first given out", "a later one"])
async def test_an_unnamed_token_is_not_one_that_is_new(server: TokenServer, now: Time, first: bool) -> None:
    store = MemoryStore(server.credential())
    ours = source(server, store, now)
    if not first:
        await ours.current()
    new = await renewed(ours, RuntimeError("401"))
    now.pass_by(9.9)
    assert await ours.refresh(RuntimeError("401")) == await ours.current() == new
    assert len(server.requests) == 1
    now.pass_by(0.1)
    assert (await renewed(ours, RuntimeError("401"))).access_token == "access-3"
    await store.save(server.rotate())
    theirs = await ours.current()
    assert await ours.refresh(RuntimeError("401")) == theirs, "another process's is new too"


# Many callers --------------------------------------------------------------------------------------------------------


def test_ten_thousand_refreshes_make_one_request(server: TokenServer) -> None:
    """On eight loops and threads."""
    ours = source(server, old := server.credential())
    together = threading.Barrier(8)

    async def ask() -> list[Credential | None]:
        tasks = [asyncio.create_task(ours.refresh(rejected(old))) for _ in range(1250)]
        await asyncio.to_thread(together.wait)
        return await asyncio.gather(*tasks)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(asyncio.run, ask()) for _ in range(8)]
        assert {each.access_token for one in asked for each in one.result() if each} == {"access-2"}
    assert len(server.requests) == 1


async def test_a_failure_is_shared_and_each_gets_a_copy(server: TokenServer, now: Time) -> None:
    server.answers += [{"status": 503}] * 3
    server.gate.clear()
    ours = source(server, old := server.credential(), now)
    tasks = [asyncio.create_task(ours.refresh(rejected(old))) for _ in range(50)]
    await asyncio.to_thread(server.asked.wait)
    tasks[0].cancel()  # alone
    server.gate.set()
    cancelled, *failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert len(server.requests) == 3
    timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    assert [timer for timer in timers if not timer.cancelled()] == [], "each would be kept for 45 s"
    assert {repr(failure) for failure in failures} == {repr(failures[0])}
    assert isinstance(failures[0], RefreshFailed)
    assert (failures[0].type, failures[0].status) == ("http_error", 503)
    assert len({id(failure) for failure in failures}) == 49
    lengths = {len(traceback.extract_tb(each.__traceback__)) for each in failures if isinstance(each, BaseException)}
    assert len(lengths) == 1, "a shared exception's traceback would grow"
    assert (await renewed(ours, old)).access_token == "access-2", "the next refresh asks anew"


def test_an_exchange_outlives_the_loop_that_asked(server: TokenServer, tmp_path: Path) -> None:
    store = FileStore(tmp_path / "auth.json", "key")
    server.gate.clear()

    async def ask() -> None:
        await store.save(old := server.credential())
        task = asyncio.create_task(source(server, store).refresh(rejected(old)))
        await asyncio.to_thread(server.asked.wait)
        assert not task.done()

    asyncio.run(ask())
    server.gate.set()
    background()
    assert getattr(asyncio.run(store.load()), "access_token", None) == "access-2"


async def test_a_refresh_that_had_not_begun_is_interrupted(server: TokenServer) -> None:
    """At the end of the program."""
    busy = threading.Event()

    async def keep_the_thread_busy() -> None:
        busy.wait()

    flights.run("in the way", keep_the_thread_busy)
    asker = asyncio.create_task(source(server, server.credential()).refresh(None))
    while len(flights._flights) < 2:
        await asyncio.sleep(0)
    assert flights._loop is not None
    flights._loop.call_soon_threadsafe(flights._cancel_all)
    busy.set()
    with pytest.raises(RefreshFailed) as caught:
        await asker
    assert caught.value.type == "Interrupted"
    assert server.requests == []


# Arguments and secrets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param({"store": None}, TypeError, id="no store"),
        pytest.param({"store": Credential("a")}, TypeError, id="a credential for a store"),
        pytest.param({"refresh_ahead": -1}, ValueError, id="a negative time"),
        pytest.param({"refresh_ahead": float("nan")}, ValueError, id="no number"),
        pytest.param({"request_timeout": 0}, ValueError, id="no time for a connection"),
        pytest.param({"timeout": float("inf")}, ValueError, id="an endless time"),
        pytest.param({"answer_timeout": 0}, ValueError, id="no time for an answer"),
        pytest.param({"lock_hold": "15"}, TypeError, id="a time as text"),
        pytest.param({"timeout": True}, TypeError, id="a time that is a flag"),
        pytest.param({"retrying": tenacity.AsyncRetrying()}, TypeError, id="an asynchronous policy"),
        pytest.param({"retrying": 3}, TypeError, id="a number for a policy"),
        pytest.param({"token_url": "http://example.com/token"}, ValueError, id="unencrypted"),
        pytest.param({"token_url": "https://ann:secret@example.com/token"}, ValueError, id="a password in the address"),
        pytest.param({"token_url": None}, ValueError, id="no address"),
        pytest.param({"client_id": ""}, ValueError, id="no client"),
        pytest.param({"client_secret": ""}, ValueError, id="an empty secret"),
        pytest.param({"client_auth": "header"}, ValueError, id="unknown client_auth"),
        pytest.param({"client_auth": "basic"}, ValueError, id="basic without a secret"),
        pytest.param({"scope": ["read"]}, TypeError, id="scope as a list"),
        pytest.param({"extra_params": {"n": 1}}, TypeError, id="a parameter that is no text"),
        pytest.param({"extra_params": {"grant_type": "x"}}, ValueError, id="a parameter with an argument of its own"),
        pytest.param({"headers": {"X-Device": "a\r\nX-Evil: 1"}}, ValueError, id="a header that is two"),
        pytest.param({"headers": {"X-Device": 7}}, ValueError, id="a header that is no text"),
        pytest.param({"body": "xml"}, ValueError, id="an unknown body"),
        pytest.param({"session": 7}, TypeError, id="a number for a session"),
    ],
)
def test_nonsense_is_refused_at_construction(arguments: dict[str, Any], error: type[Exception]) -> None:
    fine: dict[str, Any] = {"store": MemoryStore(), "token_url": "https://example.com/token", "client_id": "app"}
    with pytest.raises(error):
        OAuthCredentials(**(fine | arguments))


@pytest.mark.parametrize("trouble", [b"<refresh-1 access-1>", b'{"access_token": "access-2", "refresh_', None])
async def test_no_token_is_shown_logged_or_in_a_traceback(
    server: TokenServer, now: Time, trouble: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor in the local variables of its frames, which error reporters collect."""
    caplog.set_level(logging.DEBUG)
    old = server.credential(expires_at=now.wall - 1)
    ours = source(server, old, now, client_secret="client-secret", answer_timeout=120 if trouble else 0.02)
    uses: Any = (
        ours.current,
        lambda: ours.refresh(rejected(old)),
        lambda: ours.refresh(sdk_failure(Authorization="Bearer access-1")),
    )
    said = [repr(ours), str(ours)]
    for use in uses:
        if trouble is None:
            server.gate.clear()
        server.answers += [{"body": trouble}] * 3 if trouble else []
        with pytest.raises(RefreshFailed) as caught:
            await use()
        said += [shown := with_variables(caught.value), *traceback.format_exception(caught.value)]
        assert "rejected = Credential(" in shown
    server.gate.set()
    server.answers += [{"status": 400, "body": b'{"error": "invalid_grant", "error_description": "refresh-1"}'}]
    with pytest.raises(LoginRequired) as ended:
        await ours.current()
    said += [with_variables(ended.value), caplog.text]
    secrets = ("access-1", "access-2", "refresh-1", "client-secret")
    assert [each for each in secrets if each in "".join(said).replace("refresh-1.0", "")] == []
