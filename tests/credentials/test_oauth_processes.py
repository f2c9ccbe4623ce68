"""Real processes on one file: how many requests they make, and what is left when they are killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rxauth.credentials import FileStore
from tests.credentials import refreshing
from tests.credentials.token_server import TokenServer

pytestmark = pytest.mark.slow

PROCESSES = 8
KILLS = 25


class Process:
    """A process that runs `refreshing`, in the role `what`."""

    def __init__(self, url: str, path: Path, what: str) -> None:
        command = [sys.executable, "-m", refreshing.__name__, url, str(path), what]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def tell(self) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write("go\n")
        self.popen.stdin.flush()

    def said(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "auth.json"


@pytest.fixture
def store(server: TokenServer, path: Path) -> FileStore:
    """A login in the file."""
    store = FileStore(path, "key")
    asyncio.run(store.save(server.credential()))
    return store


@pytest.fixture
def start(server: TokenServer, store: FileStore, path: Path) -> Iterator[Callable[[str], Process]]:
    """Starts processes, and ends them with the test."""
    started: list[Process] = []

    def start(what: str) -> Process:
        started.append(Process(server.url, path, what))
        return started[-1]

    yield start
    for each in started:
        each.popen.kill()
        each.popen.communicate()


@pytest.fixture
def leaver(server: TokenServer, start: Callable[[str], Process]) -> Process:
    """A process that ends while an exchange is under way."""
    server.gate.clear()
    leaver = start("leave")
    assert leaver.said() == "asking"
    assert server.asked.wait(30)
    return leaver


def stored(store: FileStore) -> str | None:
    return getattr(asyncio.run(store.load()), "refresh_token", None)


def locked(path: Path) -> bool:
    async def look() -> bool:
        try:
            async with asyncio.timeout(0.2), FileStore(path, "key").locked():
                return False
        except TimeoutError:
            return True

    return asyncio.run(look())


def test_processes_with_one_401_make_one_request(
    server: TokenServer, store: FileStore, start: Callable[[str], Process]
) -> None:
    group = start(str(PROCESSES))
    assert {group.said() for _ in range(PROCESSES)} == {"asking"}
    for _ in range(PROCESSES):
        group.tell()
    assert {group.said() for _ in range(PROCESSES)} == {"access-2"}
    assert group.popen.wait(30) == 0
    assert (len(server.requests), server.reused, stored(store)) == (1, [], "refresh-2")


def test_processes_wait_as_asked_and_make_one_request(server: TokenServer, start: Callable[[str], Process]) -> None:
    server.answers.append({"status": 429, "headers": {"Retry-After": "300"}})
    for _ in range(6):
        prompt = start("patient")
        prompt.tell()
        assert "wait" in prompt.said()
    assert len(server.requests) == 1


def test_a_slow_answer_is_awaited_by_one_process(
    server: TokenServer, store: FileStore, path: Path, start: Callable[[str], Process]
) -> None:
    """The lock is free meanwhile, for other programs; another process of ours does not send the refresh token."""
    server.gate.clear()
    first, second = start("patient"), start("patient")
    first.tell()
    assert server.asked.wait(30)
    while asyncio.run(store.load_retry_at()) is None:
        os.sched_yield()
    assert not locked(path)
    second.tell()
    assert "has yet to answer another process" in second.said()
    server.gate.set()
    assert first.said() == "access-2"
    second.tell()
    assert second.said() == "access-2"
    assert (len(server.requests), server.reused, stored(store)) == (1, [], "refresh-2")


# The end of a process while an exchange is under way ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "codes"),
    [
        pytest.param(None, {0}, id="returning"),
        pytest.param(signal.SIGINT, {1, 130, -signal.SIGINT}, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, {7}, id="SIGTERM with a handler that exits"),
    ],
)
def test_a_program_that_ends_stores_its_answer(
    server: TokenServer, store: FileStore, path: Path, leaver: Process, end: signal.Signals | None, codes: set[int]
) -> None:
    if end is not None:
        leaver.popen.send_signal(end)
    leaver.tell()
    with pytest.raises(subprocess.TimeoutExpired):
        leaver.popen.wait(0.3)  # it waits for the answer
    server.gate.set()
    assert leaver.popen.wait(30) in codes
    assert stored(store) == "refresh-2"
    assert not locked(path)


def test_a_program_that_ends_makes_no_other_try(
    server: TokenServer, path: Path, start: Callable[[str], Process]
) -> None:
    server.answers.append({"status": 503, "headers": {"Retry-After": "20"}})
    leaver = start("leave")
    assert leaver.said() == "asking"
    assert server.asked.wait(30)
    begin = time.monotonic()
    leaver.tell()
    assert leaver.popen.wait(30) == 0
    assert time.monotonic() - begin < 10
    assert len(server.requests) == 1
    assert not locked(path)


def test_a_second_ctrl_c_waits_for_no_answer(path: Path, leaver: Process) -> None:
    begin = time.monotonic()
    leaver.popen.send_signal(signal.SIGINT)
    leaver.tell()
    while leaver.popen.poll() is None:
        leaver.popen.send_signal(signal.SIGINT)
        os.sched_yield()
    assert time.monotonic() - begin < 9
    assert not locked(path)


def test_a_killed_process_leaves_a_whole_file(
    server: TokenServer, store: FileStore, path: Path, start: Callable[[str], Process]
) -> None:
    """And no lock. A rotated token is lost only between the answer and the write."""
    chance = random.Random(7)
    lost = 0

    def until_asked() -> None:
        assert server.asked.wait(30)
        server.asked.clear()

    mother = start("forever")
    for _ in range(KILLS):
        server.asked.clear()
        mother.tell()
        child = int(mother.said())
        until_asked()
        # Anywhere in the next two refreshes, however long they take on a busy machine.
        begin = time.perf_counter()
        until_asked()
        until_asked()
        moment = time.perf_counter() + chance.uniform(0, time.perf_counter() - begin)
        while time.perf_counter() < moment:
            os.sched_yield()
        os.kill(child, signal.SIGKILL)
        assert mother.said() == "ended"
        server.settle()
        assert not locked(path)
        assert set(json.loads(path.read_bytes())) == {"key"}
        assert server.valid is not None
        if stored(store) != server.valid.refresh_token:
            lost += 1
            asyncio.run(store.save(server.credential()))
    asyncio.run(store.save(server.credential()))
    assert {each.name for each in path.parent.iterdir()} <= {path.name, f"{path.name}.lock"}
    assert len(server.requests) >= KILLS > lost
    assert server.reused == []
