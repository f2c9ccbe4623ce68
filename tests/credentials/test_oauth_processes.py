"""Real processes that share a login: how many requests they make, and what is left when one ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rxauth.credentials import Credential, FileStore
from tests.credentials import refreshing
from tests.credentials.kinds import is_free
from tests.credentials.token_server import TokenServer

pytestmark = pytest.mark.slow


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
def store(server: TokenServer, tmp_path: Path) -> FileStore:
    """A login in the file."""
    store = FileStore(tmp_path / "auth.json", "key")
    asyncio.run(store.save(server.credential()))
    return store


@pytest.fixture
def start(server: TokenServer, store: FileStore, tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    """Starts processes, and ends them with the test."""
    started: list[Process] = []

    def start(what: str) -> Process:
        started.append(Process(server.url, tmp_path / "auth.json", what))
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


@pytest.mark.parametrize("what", ["together", "linked"], ids=["of one file", "of three files, in any order"])
def test_processes_with_one_401_make_one_request(
    server: TokenServer, store: FileStore, tmp_path: Path, start: Callable[[str], Process], what: str
) -> None:
    """None waits for another in a circle."""
    old = Credential("access-1", "refresh-1", time.time() + 600, extra={"token_url": server.url})
    stores = refreshing.copies(tmp_path) if what == "linked" else [store]
    for each in stores:
        asyncio.run(each.save(old))
    group = start(what)
    assert {group.said() for _ in range(refreshing.PROCESSES)} == {"asking"}
    for _ in range(refreshing.PROCESSES):
        group.tell()
    assert {group.said() for _ in range(refreshing.PROCESSES)} == {"access-2"}
    assert group.popen.wait(30) == 0
    assert (len(server.requests), server.reused) == (1, [])
    assert {stored(each) for each in stores} == {"refresh-2"}


def test_a_slow_answer_is_awaited_by_one_process(
    server: TokenServer, store: FileStore, start: Callable[[str], Process]
) -> None:
    """The lock is free meanwhile, for other programs; another process of ours does not send the refresh token."""
    server.gate.clear()
    first, second = start("patient"), start("patient")
    first.tell()
    assert server.asked.wait(30)
    while asyncio.run(store.load_retry_at()) is None:
        os.sched_yield()
    assert asyncio.run(is_free(store))
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
    server: TokenServer, store: FileStore, leaver: Process, end: signal.Signals | None, codes: set[int]
) -> None:
    if end is not None:
        leaver.popen.send_signal(end)
    leaver.tell()
    with pytest.raises(subprocess.TimeoutExpired):
        leaver.popen.wait(0.3)  # it waits for the answer
    server.gate.set()
    assert leaver.popen.wait(30) in codes
    assert stored(store) == "refresh-2"
    assert asyncio.run(is_free(store))


def test_a_program_that_ends_makes_no_other_try(
    server: TokenServer, store: FileStore, start: Callable[[str], Process]
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
    assert asyncio.run(is_free(store))


def test_a_second_ctrl_c_waits_for_no_answer(store: FileStore, leaver: Process) -> None:
    begin = time.monotonic()
    leaver.popen.send_signal(signal.SIGINT)
    leaver.tell()
    while leaver.popen.poll() is None:
        leaver.popen.send_signal(signal.SIGINT)
        os.sched_yield()
    assert time.monotonic() - begin < 9
    assert asyncio.run(is_free(store))
