"""A refresh in which one thing goes wrong: each wait cancelled once, each file operation failing once."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from rxauth.credentials import Credential, FileStore, MemoryStore
from rxauth.credentials._single_flight import flights
from rxauth.errors import RefreshFailed, StoreError
from tests.credentials.faulty_files import FaultyFiles
from tests.credentials.kinds import KINDS, Kind
from tests.credentials.oauth import background, rejected, source
from tests.credentials.token_server import TokenServer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "auth.json"


async def nothing_is_left_behind(path: Path) -> None:
    assert {each.name for each in path.parent.iterdir()} <= {path.name, f"{path.name}.lock"}
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
        return await self

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            waits = self.work.send(None)
            while True:
                if self.taken == self.at:
                    self.what()
                self.taken += 1
                try:
                    value = yield waits
                except BaseException as error:
                    waits = self.work.throw(error)
                else:
                    waits = self.work.send(value)
        except StopIteration as stop:
            return stop.value


async def test_a_cancelled_asker_does_not_stop_the_refresh(server: TokenServer, path: Path) -> None:
    """At each of its waits."""
    at = 0
    while True:
        store = FileStore(path, "key")
        old = server.credential()
        await store.save(old)
        steps = Steps(at, source(server, store).refresh(rejected(old)))
        asker = asyncio.create_task(steps.run())
        steps.what = asker.cancel
        await asyncio.wait([asker])
        await asyncio.to_thread(background)
        if not asker.cancelled():
            break
        stored = await store.load()
        assert server.valid is not None
        assert stored is not None
        assert stored.access_token == server.valid.access_token != old.access_token
        at += 1
    assert at >= 1
    assert server.reused == []
    await nothing_is_left_behind(path)


@pytest.mark.parametrize("kind", ["file", "memory", "file, a lock that is taken and a server that is busy"])
async def test_the_end_of_the_program_loses_no_token(server: TokenServer, path: Path, kind: str) -> None:
    """At each wait of a refresh: all work is cancelled, except between a request and its stored answer."""
    trouble = "busy" in kind
    other = FileLock(f"{path}.lock", thread_local=False)
    at = looks = broken_off = finished = 0
    options: dict[str, Any] = {}

    async def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            other.release()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    if trouble:
        options["sleep"] = sleep
    while True:
        looks = 0
        store = MemoryStore() if kind == "memory" else FileStore(path, "key", **options)
        old = server.credential()
        await store.save(old)
        server.answers[:] = [{"status": 503}, {"body": b"<html>"}] if trouble else []
        ours = source(server, store, **options)
        if trouble:
            other.acquire()
        steps = Steps(at, ours._outcome(old, None))
        outcome = await asyncio.wrap_future(flights.run((ours, at), steps.run))
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
        if kind != "memory":
            await nothing_is_left_behind(path)
        if steps.taken <= at:
            break
        at += 1
    assert finished >= 2, "the waits of the exchange itself"
    assert broken_off > (10 if trouble else 0) - 1
    assert server.reused == []


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
async def test_a_failing_file_operation_loses_no_token(
    server: TokenServer, tmp_path: Path, kind: Kind, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of them: before the request nothing is spent; after it the credential is used, and `unsaved` says so."""
    caplog.set_level(logging.ERROR, logger="rxauth")
    environment: dict[str, Any] = {} if kind.name == "own" else {"environ": {"RXAUTH_HOME": str(tmp_path / "notes")}}
    extra = {"token_url": server.url}
    outcomes = {"before the request": 0, "after it": 0, "no harm": 0}
    number = 0
    while True:
        files = FaultyFiles(number, code)
        directory = tmp_path / str(number)
        good = kind.store(directory, **environment)
        old = server.credential(extra=extra)
        await good.save(old)
        before = kind.path(directory).read_bytes()
        ours = source(server, kind.store(directory, files=files, **environment))
        caplog.clear()
        outcome = (await asyncio.gather(ours.refresh(rejected(old)), return_exceptions=True))[0]
        if files.failed is None:
            break
        assert server.valid is not None
        if isinstance(outcome, StoreError):
            assert server.valid is old, "nothing was spent"
            assert kind.path(directory).read_bytes() == before
            outcomes["before the request"] += 1
        else:
            assert isinstance(outcome, Credential)
            assert outcome.access_token == server.valid.access_token
            stored = await good.load()
            saved = stored is not None and stored.access_token == outcome.access_token
            assert saved or ours.unsaved is not None, f"{files.failed} failed silently"
            assert bool(caplog.records) == (ours.unsaved is not None)
            outcomes["no harm" if saved else "after it"] += 1
        # The next refresh spends the newest token, and stores the answer.
        new = await ours.refresh(rejected(outcome if isinstance(outcome, Credential) else old))
        stored = await good.load()
        assert new is not None
        assert stored is not None
        assert stored.access_token == new.access_token == server.valid.access_token
        assert ours.unsaved is None
        number += 1
    assert server.reused == []
    assert outcomes["before the request"] >= 1, outcomes
    assert outcomes["after it"] >= 1, outcomes


async def test_a_full_disk_is_noticed_before_the_request(server: TokenServer, path: Path) -> None:
    old = server.credential()
    await FileStore(path, "key").save(old)

    class FullDisk(FaultyFiles):
        def __getattr__(self, name: str) -> Any:
            if "write" in name:
                self.fails_at, self.code = len(self.calls), errno.ENOSPC
            return super().__getattr__(name)

    ours = source(server, FileStore(path, "key", files=FullDisk()))
    with pytest.raises(StoreError, match="full"):
        await ours.refresh(rejected(old))
    assert (server.requests, await FileStore(path, "key").load()) == ([], old)
