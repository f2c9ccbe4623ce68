"""Compare and refresh, against a real token endpoint."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
import traceback
from pathlib import Path
from typing import Any

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
from rxauth.errors import LoginRequired, RefreshFailed
from tests.credentials.oauth import Time, background, rejected, source
from tests.credentials.test_oauth_rejected import sdk_failure
from tests.credentials.token_server import TokenServer
from tests.credentials.tracebacks import with_variables

# One exchange --------------------------------------------------------------------------------------------------------


async def test_a_rejected_credential_is_exchanged_and_stored(server: TokenServer, now: Time) -> None:
    old = server.credential(extra={"account_id": "ann"})
    store = MemoryStore(old)
    ours = source(server, store, now)
    assert isinstance(ours, CredentialSource)
    new = await ours.refresh(rejected(old))
    assert new is not None
    assert (new.access_token, new.refresh_token) == ("access-2", "refresh-2")
    assert (new.expires_at, new.account_id, new.token_url) == (now.wall + 900, "ann", server.url)
    assert await store.load() == new
    assert await ours.token() == "access-2"
    assert [form["refresh_token"] for form in server.requests] == ["refresh-1"]


async def test_a_newer_stored_credential_is_adopted(server: TokenServer) -> None:
    old = server.credential()
    store = MemoryStore(old)
    ours = source(server, store)
    assert await ours.current() == old
    theirs = server.rotate()
    await store.save(theirs)
    for _ in range(3):
        assert await ours.refresh(rejected(old)) == theirs
    assert server.requests == []


async def test_an_expired_stored_credential_is_exchanged(server: TokenServer, now: Time) -> None:
    old = server.credential()
    theirs = server.rotate()
    expired = Credential(theirs.access_token, theirs.refresh_token, expires_at=now.wall)
    new = await source(server, MemoryStore(expired), now).refresh(rejected(old))
    assert new is not None
    assert new.access_token == "access-3"


async def test_the_same_token_again_is_none(server: TokenServer) -> None:
    old = server.credential()
    server.answers.append({"body": b'{"access_token": "access-1", "expires_in": 900}'})
    assert await source(server, MemoryStore(old)).refresh(rejected(old)) is None


async def test_a_spent_credential_that_comes_back_is_not_used(server: TokenServer) -> None:
    """A restored backup, or a program that writes without the lock."""
    old = server.credential()
    store = MemoryStore(old)
    ours = source(server, store)
    new = await ours.refresh(rejected(old))
    await store.save(old)
    assert await ours.current() == new
    assert new is not None
    newest = await ours.refresh(rejected(new))
    assert newest is not None
    assert (newest.access_token, server.reused) == ("access-3", [])


@pytest.mark.parametrize("kind", ["memory", "file", "pi", "kimi-code", "kimi-cli"])
async def test_every_store_works(server: TokenServer, tmp_path: Path, kind: str) -> None:
    store: Any = {
        "memory": MemoryStore(),
        "file": FileStore(tmp_path / "file.json", "key"),
        "pi": PiStore(tmp_path / "auth.json"),
        "kimi-code": KimiCodeStore(tmp_path / "kimi-code", environ={}),
        "kimi-cli": KimiCliStore(tmp_path / "kimi"),
    }[kind]
    old = server.credential(expires_at=time.time() + 1000, extra={"token_url": server.url})
    async with asyncio.timeout(10):
        await store.save(old)
        ours = source(server, store)
        given = await ours.current()
        new = await ours.refresh(rejected(given))
        assert new is not None
        assert (new.access_token, (await store.load()).refresh_token) == ("access-2", "refresh-2")
        assert await ours.refresh(rejected(given)) is not None
    assert len(server.requests) == 1


# Many who ask --------------------------------------------------------------------------------------------------------


def test_ten_thousand_refreshes_make_one_request(server: TokenServer) -> None:
    """On eight loops and threads."""
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


async def test_a_failure_is_shared_and_each_gets_a_copy(server: TokenServer, now: Time) -> None:
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
    new = await ours.refresh(rejected(old))
    assert new is not None
    assert new.access_token == "access-2", "the next refresh asks anew"


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
    assert {each.access_token for each in await asyncio.gather(*tasks[1:]) if each} == {"access-2"}


def test_an_exchange_outlives_the_loop_that_asked(server: TokenServer, tmp_path: Path) -> None:
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


async def test_a_refresh_that_had_not_begun_is_interrupted(server: TokenServer) -> None:
    """At the end of the program."""
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


# Arguments and secrets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param({"store": None}, TypeError, id="no store"),
        pytest.param({"store": Credential("a")}, TypeError, id="a credential for a store"),
        pytest.param({"token_url": "http://example.com/token"}, ValueError, id="unencrypted"),
        pytest.param({"refresh_ahead": -1}, ValueError, id="a negative time"),
        pytest.param({"refresh_ahead": float("nan")}, ValueError, id="no number"),
        pytest.param({"request_timeout": 0}, ValueError, id="no time for a connection"),
        pytest.param({"timeout": float("inf")}, ValueError, id="an endless time"),
        pytest.param({"answer_timeout": 0}, ValueError, id="no time for an answer"),
        pytest.param({"lock_hold": "15"}, TypeError, id="a time as text"),
        pytest.param({"timeout": True}, TypeError, id="a time that is a flag"),
        pytest.param({"retrying": tenacity.AsyncRetrying()}, TypeError, id="an asynchronous policy"),
        pytest.param({"retrying": 3}, TypeError, id="a number for a policy"),
    ],
)
def test_nonsense_is_refused_at_construction(arguments: dict[str, Any], error: type[Exception]) -> None:
    fine: dict[str, Any] = {"store": MemoryStore(), "token_url": "https://example.com/token", "client_id": "app"}
    with pytest.raises(error):
        OAuthCredentials(**(fine | arguments))


async def test_no_token_is_shown_or_logged(server: TokenServer, now: Time, caplog: pytest.LogCaptureFixture) -> None:
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
    for use in (ours.current(), ours.refresh(RuntimeError("401"))):
        with pytest.raises(LoginRequired) as caught:
            await use
        said += traceback.format_exception(caught.value)
    shown = "".join(said) + caplog.text
    assert "Refreshed the credential" in caplog.text
    secrets = ("access-1", "access-2", "refresh-1", "refresh-2", "client-secret")
    assert [each for each in secrets if each in shown.replace("refresh-1.0", "")] == []


@pytest.mark.parametrize("trouble", [b"<refresh-1 access-1>", b'{"access_token": "access-2", "refresh_', None])
async def test_no_token_is_in_a_tracebacks_variables(server: TokenServer, now: Time, trouble: bytes | None) -> None:
    """As error reporters collect them."""
    old = server.credential(expires_at=now.wall - 1)
    ours = source(server, MemoryStore(old), now, client_secret="client-secret", answer_timeout=0.02)
    uses: Any = (
        ours.current,
        lambda: ours.refresh(rejected(old)),
        lambda: ours.refresh(sdk_failure(Authorization="Bearer access-1")),
    )
    for use in uses:
        if trouble is None:
            server.gate.clear()
        server.answers += [{"body": trouble}] * 3 if trouble else []
        with pytest.raises(RefreshFailed) as caught:
            await use()
        shown = with_variables(caught.value)
        assert "rejected = Credential(" in shown
        assert [each for each in ("access-1", "access-2", "refresh-1", "client-secret") if each in shown] == []
