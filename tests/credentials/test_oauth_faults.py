"""A refresh in which one thing goes wrong: each wait cancelled once, each file operation failing once."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from rxauth.credentials import Credential, FileStore, MemoryStore, OAuthCredentials
from rxauth.credentials._single_flight import flights
from rxauth.errors import CredentialRejected, RefreshFailed, StoreError
from tests.credentials.faulty_files import FaultyFiles
from tests.credentials.token_server import TokenServer, running


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with running(TokenServer()) as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "auth.json"


def source(server: TokenServer, store: Any, **options: Any) -> OAuthCredentials:
    return OAuthCredentials(store, token_url=server.url, client_id="app", **options)


def rejected(credential: Credential) -> CredentialRejected:
    return CredentialRejected("401", status=401, credential=credential)


def background() -> None:
    thread = flights._thread
    if thread is not None:
        thread.join(10)


async def nothing_is_left_behind(path: Path) -> None:
    assert {each.name for each in path.parent.iterdir()} == {path.name, f"{path.name}.lock"}
    async with asyncio.timeout(5), FileStore(path, "key").locked():
        pass


# Cancellation --------------------------------------------------------------------------------------------------------


class Steps:
    """Runs a coroutine and does `what` when it waits for the `at`-th time (from 0): as a rule, end the program."""

    def __init__(self, at: int, work: Coroutine[Any, Any, Any]) -> None:
        self.at = at
        self.work = work
        self.what: Callable[[], object] = lambda: asyncio.get_running_loop().call_soon(flights._cancel_all)
        self.taken = 0

    async def run(self) -> Any:
        return await _Each(self)


class _Each:
    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.steps
        try:
            waits = steps.work.send(None)
            while True:
                if steps.taken == steps.at:
                    steps.what()
                steps.taken += 1
                try:
                    value = yield waits
                except BaseException as error:
                    waits = steps.work.throw(error)
                else:
                    waits = steps.work.send(value)
        except StopIteration as stop:
            return stop.value


async def test_whichever_wait_of_an_asker_is_cancelled_the_refresh_is_finished_and_stored(
    server: TokenServer, path: Path
) -> None:
    at = 0
    while True:
        store = FileStore(path, "key")
        old = server.credential()
        await store.save(old)
        ours = source(server, store)
        steps = Steps(at, ours.refresh(rejected(old)))
        asker = asyncio.create_task(steps.run())
        steps.what = asker.cancel
        await asyncio.wait([asker])
        await asyncio.to_thread(background)
        if not asker.cancelled():
            break
        assert server.valid is not None
        stored = await store.load()
        assert stored is not None
        assert stored.access_token == server.valid.access_token != old.access_token
        at += 1
    assert at >= 1
    assert server.reused == []
    await nothing_is_left_behind(path)


@pytest.mark.parametrize("kind", ["file", "memory"])
async def test_at_whichever_wait_the_program_ends_no_rotated_token_is_lost(
    server: TokenServer, path: Path, kind: str
) -> None:
    """What happens at the end of a program: all work is cancelled, except between a request and its stored answer."""
    at = finished = 0
    while True:
        store = FileStore(path, "key") if kind == "file" else MemoryStore()
        old = server.credential()
        await store.save(old)
        ours = source(server, store)
        steps = Steps(at, ours._outcome(old, None))
        flight = flights.run((ours, at), steps.run)
        await asyncio.wrap_future(flight)
        await asyncio.to_thread(background)
        stored = await store.load()
        assert stored is not None
        assert server.valid is not None
        assert stored.refresh_token == server.valid.refresh_token, f"lost at wait {at}"
        if steps.taken <= at:
            break
        finished += stored != old
        at += 1
    assert finished >= 2, "the waits of the exchange itself"
    assert server.reused == []
    if kind == "file":
        await nothing_is_left_behind(path)


async def test_at_whichever_wait_a_refresh_with_trouble_ends_no_rotated_token_is_lost(
    server: TokenServer, path: Path
) -> None:
    """The same with a lock that is taken at first, and a server that is busy at first."""

    other = FileLock(f"{path}.lock", thread_local=False)
    looks = 0

    async def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            other.release()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    at = broken_off = finished = 0
    while True:
        looks = 0
        store = FileStore(path, "key", sleep=sleep)
        old = server.credential()
        await store.save(old)
        server.answers[:] = [{"status": 503}, {"body": b"<html>"}]
        ours = source(server, store, sleep=sleep)
        other.acquire()
        steps = Steps(at, ours._outcome(old, None))
        flight = flights.run((ours, at), steps.run)
        outcome = await asyncio.wrap_future(flight)
        await asyncio.to_thread(background)
        other.release(force=True)
        stored = await store.load()
        assert stored is not None
        assert server.valid is not None
        assert stored.refresh_token == server.valid.refresh_token, f"lost at wait {at}"
        if isinstance(outcome, RefreshFailed):
            assert outcome.type == "Interrupted"
            broken_off += 1
        finished += stored != old
        await nothing_is_left_behind(path)
        if steps.taken <= at:
            break
        at += 1
    assert broken_off > 10
    assert finished >= 2
    assert server.reused == []


# Files ---------------------------------------------------------------------------------------------------------------


async def _calls_of_a_refresh(server: TokenServer, path: Path) -> list[str]:
    old = server.credential()
    await FileStore(path, "key").save(old)
    files = FaultyFiles()
    await source(server, FileStore(path, "key", files=files)).refresh(rejected(old))
    return files.calls


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO])
async def test_whichever_file_operation_fails_no_rotated_token_is_lost(
    server: TokenServer, path: Path, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="rxauth")
    calls = await _calls_of_a_refresh(server, path)
    outcomes: dict[str, int] = {"before the exchange": 0, "after it": 0, "no harm": 0}
    for number, name in enumerate(calls):
        caplog.clear()
        old = server.credential()
        await FileStore(path, "key").save(old)
        before = path.read_bytes()
        files = FaultyFiles(number, code)
        ours = source(server, FileStore(path, "key", files=files))
        outcome = (await asyncio.gather(ours.refresh(rejected(old)), return_exceptions=True))[0]
        assert files.failed == name
        await nothing_is_left_behind(path)
        assert server.valid is not None
        if isinstance(outcome, StoreError):
            # Nothing was spent: the same refresh works when the disk does.
            assert server.valid == old
            assert path.read_bytes() == before
            outcomes["before the exchange"] += 1
        else:
            assert isinstance(outcome, Credential)
            assert outcome.access_token == server.valid.access_token
            outcomes["after it" if caplog.records else "no harm"] += 1
        # Whatever it was: the next refresh spends the newest token, and stores what comes.
        known = outcome if isinstance(outcome, Credential) else old
        new = await ours.refresh(rejected(known))
        stored = await FileStore(path, "key").load()
        assert new is not None
        assert stored is not None
        assert stored.access_token == new.access_token == server.valid.access_token
    assert server.reused == []
    assert min(outcomes.values()) >= 1, outcomes


async def test_with_a_file_that_breaks_after_the_request_this_program_goes_on(server: TokenServer, path: Path) -> None:
    old = server.credential()
    await FileStore(path, "key").save(old)

    class FullDisk(FaultyFiles):
        def __getattr__(self, name: str) -> Any:
            if name == "fsync" and server.requests:
                self.fails_at, self.code = len(self.calls), errno.ENOSPC
            return super().__getattr__(name)

    ours = source(server, FileStore(path, "key", files=FullDisk()))
    known = old
    for _ in range(4):
        new = await ours.refresh(rejected(known))
        assert new is not None
        assert await ours.current() == new
        known = new
    await asyncio.to_thread(background)
    assert (server.reused, len(server.requests)) == ([], 4)
    assert await FileStore(path, "key").load() == old
