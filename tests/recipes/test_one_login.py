"""One rotating login for ten processes with five clients each, while the server revokes the access token early.

The fake provider detects reuse: a refresh token that is presented twice ends the login for all of them.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from pathlib import Path

import pytest

from rxauth import Credential, FileStore
from rxauth.testing import FakeProvider

from .test_mcp import mcp_server

pytestmark = pytest.mark.peer

CLIENTS = {"aiohttp", "openai", "anthropic", "mcp", "rxauth token"}
PROCESSES = 10
ROUNDS = 8  # revocations
CALLS_A_ROUND = 40  # that succeed before the next revocation
KILL_EVERY = 2  # rounds


class Workers:
    """The processes, and what each client printed."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._readers: dict[Process, asyncio.Task[None]] = {}
        # For each process that has begun, the clients that have ended a call since the last revocation.
        self._called: dict[Process, set[str]] = {}
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self._printed = asyncio.Condition()

    async def start(self) -> None:
        command = [sys.executable, "-m", "tests.recipes.one_login_worker", *self._arguments]
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        self._readers[process] = asyncio.create_task(self._read(process))

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            name, _, outcome = line.decode().strip().partition("\t")
            async with self._printed:
                called = self._called.setdefault(process, set())
                if name != "ready":
                    self.outcomes[name, outcome] += 1
                    called.add(name)
                self._printed.notify_all()

    async def all_ready(self) -> None:
        """Wait until every process has imported the packages, which takes seconds while others are busy."""
        async with self._printed:
            await self._printed.wait_for(lambda: self._called.keys() == self._readers.keys())

    async def more_calls(self, count: int) -> None:
        """Wait until so many more calls have ended, and one of each client of each process that has begun.

        So no call is under way for longer than from one revocation to the next: one that is refused twice has failed,
        since a client refreshes once.
        """
        wanted = self.outcomes.total() + count
        for called in self._called.values():
            called.clear()

        def enough() -> bool:
            all_called = all(called == CLIENTS for called in self._called.values())
            return bool(self.failures()) or (all_called and self.outcomes.total() >= wanted)

        async with self._printed:
            await self._printed.wait_for(enough)
        assert self.failures() == {}

    def failures(self) -> dict[tuple[str, str], int]:
        return {key: count for key, count in self.outcomes.items() if key[1] != "ok"}

    async def kill_one(self, store: FileStore) -> None:
        """Kill a process anywhere but between a token response and the saved file, where the login would be lost."""
        async with store.locked():
            process = random.choice(list(self._readers))
            process.kill()
            await process.wait()
        await self._readers.pop(process)
        self._called.pop(process, None)

    async def stop(self) -> None:
        for process, reader in self._readers.items():
            assert process.stdin is not None
            process.stdin.write(b"stop\n")
            await reader
            assert await process.wait() == 0

    async def __aenter__(self) -> Workers:
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._readers:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.timeout(300)
async def test_one_login_survives_early_revocations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "auth.json"
    killed = 0
    with FakeProvider() as fake, mcp_server(fake) as mcp_url:
        first, store = fake.credential(), FileStore(path, fake.url)
        extra = {"token_url": fake.token_url, "client_id": fake.client_id}
        await store.save(Credential(first.access_token, refresh_token=first.refresh_token, extra=extra))
        async with Workers(str(path), fake.url, fake.token_url, fake.client_id, mcp_url) as workers:
            for _ in range(PROCESSES):
                await workers.start()
            await workers.all_ready()
            for number in range(ROUNDS):
                await workers.more_calls(CALLS_A_ROUND)
                fake.invalidate()
                if number % KILL_EVERY == KILL_EVERY - 1:
                    await workers.kill_one(store)
                    await workers.start()
                    killed += 1
            await workers.all_ready()
            await workers.more_calls(CALLS_A_ROUND)
            await workers.stop()

        presented = Counter(each.form()["refresh_token"][0] for each in fake.token_requests)
        with capsys.disabled():
            print(
                f"\n{PROCESSES} processes, {killed} killed, {ROUNDS} revocations: {workers.outcomes.total()} calls, "
                f"{len(workers.failures())} failed, {len(fake.token_requests)} token requests, "
                f"{len(fake.api_requests)} requests to the provider"
            )
        assert workers.failures() == {}
        assert set(presented.values()) == {1}, "a refresh token was presented twice"
        assert {each.status for each in fake.token_requests} == {200}
        assert json.loads(path.read_text())[fake.url]["token_url"] == fake.token_url
