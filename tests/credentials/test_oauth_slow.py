"""A token endpoint that rotates at once and answers late: no answer is lost, no refresh token sent twice."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials import (
    Credential,
    CredentialStore,
    KimiCodeStore,
    LinkedStore,
    MemoryStore,
    PiStore,
    finish_refreshes,
    is_refreshing,
)
from rxauth.credentials._single_flight import flights
from rxauth.errors import RefreshFailed
from tests.credentials.kinds import is_free
from tests.credentials.oauth import Forgetful, LateLock, Time, rejected, renewed, settled, source
from tests.credentials.token_server import TokenServer


class BadMark(MemoryStore):
    """A store that cannot tell other processes to wait."""

    async def save_retry_at(self, unix_seconds: float | None) -> None:
        raise OSError("disk full")


@asynccontextmanager
async def slow(server: TokenServer, store: CredentialStore, **options: Any) -> AsyncIterator[asyncio.Task[Any]]:
    """A refresh whose request has been sent, and whose lock is free; afterwards it is answered, and has ended."""
    server.gate.clear()
    ours = source(server, store, **{"lock_hold": 0.02} | options)
    asker = asyncio.create_task(ours.refresh(None))
    await asyncio.to_thread(server.asked.wait)
    if not isinstance(store, Forgetful | BadMark):
        assert await is_free(store, within=10)
    yield asker
    server.gate.set()
    await asyncio.wait([asker])
    await settled()


async def retry_at(store: MemoryStore) -> float:
    marked = await store.load_retry_at()
    assert marked is not None
    return marked


@pytest.mark.parametrize("expired", [False, True], ids=["rejected", "expired"])
async def test_a_caller_leaves_and_the_answer_is_stored(server: TokenServer, now: Time, expired: bool) -> None:
    store = MemoryStore(old := server.credential(expires_at=now.wall - 1 if expired else None))
    ours = source(server, store, now, timeout=0.15)
    server.gate.clear()
    for _ in range(2):
        with pytest.raises(RefreshFailed, match=r"not answered for 0\.15 s\. Its answer is still awaited") as caught:
            async with asyncio.timeout(3):
                await (ours.current() if expired else ours.refresh(rejected(old)))
        assert caught.value.type == "timeout"
    server.gate.set()
    await settled()
    assert (await ours.current()).access_token == "access-2"
    assert await ours.refresh(rejected(old)) == await store.load()
    assert (len(server.requests), server.reused) == (1, [])


async def test_a_slow_answer_frees_the_lock_for_others(server: TokenServer) -> None:
    """pi gives up on a lock after 30 s."""
    store = MemoryStore(server.credential())
    async with slow(server, store) as asker:
        assert not asker.done()
    assert await store.load() == await asker
    assert (await store.load_retry_at(), server.reused) == (None, [])


@pytest.mark.parametrize("kind", [Forgetful, BadMark])
async def test_without_a_mark_the_lock_is_held_on(server: TokenServer, kind: type[MemoryStore]) -> None:
    """Another process would send the same refresh token."""
    store = kind(server.credential())
    async with slow(server, store, lock_hold=0.001):
        assert not await is_free(store)
    assert server.reused == []


async def test_a_slow_answer_is_stored_in_every_linked_file(server: TokenServer, tmp_path: Path) -> None:
    """Each program's lock is free meanwhile, and each of its files is marked."""
    environ = {"HOME": str(tmp_path), "RXAUTH_HOME": str(tmp_path / "rxauth")}
    old = server.credential(expires_at=time.time() + 800, extra={"token_url": server.url})
    copies = [PiStore(tmp_path / "auth.json", environ=environ), KimiCodeStore(tmp_path / "kimi", environ=environ)]
    for copy in copies:
        await copy.save(old)
    async with slow(server, LinkedStore(copies, environ=environ)):
        for copy in copies:
            assert await is_free(copy)
            assert await copy.load_retry_at() is not None
    for copy in copies:
        assert getattr(await copy.load(), "access_token", None) == "access-2"
        assert await copy.load_retry_at() is None
    assert server.reused == []


@pytest.mark.parametrize("waits", [False, True], ids=["and fails", "but waits for the lock, and adopts the answer"])
async def test_another_process_does_not_send_the_token(server: TokenServer, now: Time, waits: bool) -> None:
    async def sleep(seconds: float) -> None:
        now.pass_by(seconds)
        server.gate.set()
        while await store.load() == old:
            await asyncio.sleep(0.001)

    store = LateLock(old := server.credential(), now, 2 if waits else 0)
    async with slow(server, store) as asker:
        now.wall = await retry_at(store) - 100
        other = source(server, store, now, sleep=sleep)
        if not waits:
            with pytest.raises(RefreshFailed, match=r"is not called for another 100 s.*yet to answer another process"):
                await other.refresh(rejected(old))
            server.gate.set()
            await asker
        assert await renewed(other, old) == await asker
    assert len(server.requests) == 1


async def test_a_credential_stored_meanwhile_is_adopted(server: TokenServer, caplog: pytest.LogCaptureFixture) -> None:
    """By a program that does not know the mark."""
    store = MemoryStore(server.credential())
    async with slow(server, store) as asker:
        await store.save(theirs := Credential("theirs", "their-refresh"))
    assert await asker == await store.load() == theirs
    assert "adopted it" in caplog.text


@pytest.mark.parametrize("failures", [1, 3])
async def test_a_request_that_fails_late_is_tried_again(server: TokenServer, now: Time, failures: int) -> None:
    """The connection is lost, so that the refresh token can be sent again, by other processes too."""
    store = MemoryStore(server.credential())
    server.answers += [{"status": 503}] * failures
    async with slow(server, store, sleep=now.sleep) as asker:
        pass
    assert (await store.load_retry_at(), len(server.requests)) == (None, min(3, failures + 1))
    if failures == 1:
        assert await store.load() == await asker
    else:
        assert isinstance(asker.exception(), RefreshFailed)


async def test_an_answer_that_cannot_be_stored_is_kept(
    server: TokenServer, now: Time, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    store = MemoryStore(old := server.credential())
    ours = source(server, store, now, lock_hold=0.01, timeout=0.2)
    server.gate.clear()
    asker = asyncio.create_task(ours.refresh(rejected(old)))
    await asyncio.to_thread(server.asked.wait)
    async with store.locked():
        server.gate.set()
        await asyncio.wait([asker])
        await settled()
        assert await store.load() == old
    assert "lock" in str(ours.unsaved)
    assert "will try again to store it" in caplog.text
    now.pass_by(20)
    assert (await ours.current()).access_token == "access-2"
    await settled()
    assert getattr(await store.load(), "access_token", None) == "access-2"
    assert (ours.unsaved, server.reused) == (None, [])


@pytest.mark.parametrize("refused", [False, True], ids=["and stores it", "and makes no other try"])
async def test_the_end_of_the_program_waits_for_the_answer(
    server: TokenServer, refused: bool, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore(old := server.credential())
    server.answers += [{"status": 503}] * refused
    async with slow(server, store) as asker:
        assert is_refreshing()
        assert not flights.close(within=0.01)
        assert "has not answered a refresh. If the next one fails, log in again." in caplog.text
        ending = threading.Thread(target=finish_refreshes)
        ending.start()
        server.gate.set()
        await asyncio.to_thread(ending.join)
        assert not is_refreshing()
    assert finish_refreshes(), "there is nothing to wait for"
    assert len(server.requests) == 1
    if refused:
        assert getattr(asker.exception(), "type", None) == "Interrupted"
        assert await store.load() == old
    else:
        assert getattr(await store.load(), "access_token", None) == "access-2"
