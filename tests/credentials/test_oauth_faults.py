"""A refresh in which one thing goes wrong: each wait cancelled once, each file operation failing once."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from rxauth.credentials import Credential, FileStore
from rxauth.credentials._single_flight import Interrupted, flights
from rxauth.errors import StoreError
from tests.credentials.faulty_files import FaultyFiles
from tests.credentials.kinds import Kind
from tests.credentials.oauth import rejected, renewed, settled, source
from tests.credentials.token_server import TokenServer


class Steps:
    """Awaits a coroutine, and ends the program when it waits for the `at`-th time (from 0)."""

    def __init__(self, at: int, work: Coroutine[Any, Any, Any]) -> None:
        self.at = at
        self.work = work
        self.taken = 0

    async def run(self) -> Any:
        return await self

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            waits = self.work.send(None)
            while True:
                if self.taken == self.at:
                    asyncio.get_running_loop().call_soon(flights._cancel_all)
                self.taken += 1
                try:
                    value = yield waits
                except BaseException as error:
                    waits = self.work.throw(error)
                else:
                    waits = self.work.send(value)
        except StopIteration as stop:
            return stop.value


@pytest.mark.parametrize("trouble", [False, True], ids=["", "a lock that is taken, and a server that is busy"])
async def test_the_end_of_the_program_loses_no_token(server: TokenServer, tmp_path: Path, trouble: bool) -> None:
    """At each wait of a refresh: all work is cancelled, except between a request and its stored answer."""
    path = tmp_path / "auth.json"
    other = FileLock(f"{path}.lock", thread_local=False)
    looks = broken_off = finished = 0
    options: dict[str, Any] = {}

    async def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            other.release()
        for _ in range(2):
            await asyncio.sleep(0)

    if trouble:
        options["sleep"] = sleep
    for at in range(1000):
        looks = 0
        store = FileStore(path, "key", **options)
        await store.save(old := server.credential())
        server.answers[:] = [{"status": 503}, {"body": b"<html>"}] if trouble else []
        ours = source(server, store, **options)
        if trouble:
            other.acquire()
        steps = Steps(at, ours._outcome(old, None))
        flight = flights.run((ours, at), steps.run)
        await asyncio.wait([asyncio.wrap_future(flight)])
        await settled()
        other.release(force=True)
        stored = await store.load()
        assert stored is not None
        assert server.valid is not None
        assert stored.refresh_token == server.valid.refresh_token, f"lost at wait {at}"
        broken_off += isinstance(flight.exception(), Interrupted)
        finished += stored != old
        async with asyncio.timeout(5), store.locked():
            pass
        assert {each.name for each in tmp_path.iterdir()} <= {path.name, f"{path.name}.lock"}
        if steps.taken <= at:
            break
    assert finished >= 2, "the waits of the exchange itself"
    assert broken_off >= (10 if trouble else 0)
    assert server.reused == []


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO], ids=errno.errorcode.get)
async def test_a_failing_file_operation_loses_no_token(
    server: TokenServer, tmp_path: Path, kind: Kind, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of them: before the request nothing is spent; after it the credential is used, and `unsaved` says so."""
    caplog.set_level(logging.ERROR, logger="rxauth")
    outcomes = {"before the request": 0, "after it": 0, "no harm": 0}
    for number in range(1000):
        files = FaultyFiles(number, code)
        directory = tmp_path / str(number)
        good = kind.store(directory)
        await good.save(old := server.credential(extra={"token_url": server.url}))
        before = kind.path(directory).read_bytes()
        ours = source(server, kind.store(directory, files=files))
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
        new = await renewed(ours, outcome if isinstance(outcome, Credential) else old)
        assert getattr(await good.load(), "access_token", None) == new.access_token == server.valid.access_token
        assert ours.unsaved is None
    assert server.reused == []
    assert min(outcomes["before the request"], outcomes["after it"]) >= 1, outcomes
