"""Real processes on one file: how many requests they make, and what is left when they are killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rxauth.credentials import Credential, FileStore
from tests.credentials import refreshing
from tests.credentials.token_server import TokenServer

pytestmark = pytest.mark.slow

PROCESSES = 8
KILLS = 25


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "auth.json"


@pytest.fixture
def store(server: TokenServer, path: Path) -> FileStore:
    """A login in the file."""
    store = FileStore(path, "key")
    asyncio.run(store.save(server.credential()))
    return store


@contextlib.contextmanager
def process(server: TokenServer, path: Path, what: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", refreshing.__name__, server.url, str(path), what]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as started:
        try:
            yield started
        finally:
            started.kill()


def tell(process: subprocess.Popen[str], line: str = "go") -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def stored(store: FileStore) -> Credential:
    credential = asyncio.run(store.load())
    assert credential is not None
    return credential


def locked(path: Path) -> bool:
    async def look() -> bool:
        try:
            async with asyncio.timeout(0.2), FileStore(path, "key").locked():
                return False
        except TimeoutError:
            return True

    return asyncio.run(look())


def test_processes_with_one_401_make_one_request(server: TokenServer, store: FileStore, path: Path) -> None:
    with process(server, path, str(PROCESSES)) as group:
        assert {said(group) for _ in range(PROCESSES)} == {"asking"}
        for _ in range(PROCESSES):
            tell(group)
        assert {said(group) for _ in range(PROCESSES)} == {"access-2"}
        assert group.wait(30) == 0
    assert (len(server.requests), server.reused) == (1, [])
    assert stored(store).access_token == "access-2"


def test_processes_that_are_told_to_wait_make_one_request(server: TokenServer, store: FileStore, path: Path) -> None:
    server.answers.append({"status": 429, "headers": {"Retry-After": "300"}})
    for _ in range(6):
        with process(server, path, "patient") as prompt:
            tell(prompt)
            assert "wait" in said(prompt)
    assert len(server.requests) == 1


def test_a_slow_answer_is_awaited_by_one_process(server: TokenServer, store: FileStore, path: Path) -> None:
    """The lock is free meanwhile, for other programs; another process of ours does not send the refresh token."""
    server.gate.clear()
    with process(server, path, "patient") as first, process(server, path, "patient") as second:
        tell(first)
        assert server.asked.wait(30)
        while asyncio.run(store.load_retry_at()) is None:
            os.sched_yield()
        assert not locked(path)
        tell(second)
        assert "has yet to answer another process" in said(second)
        server.gate.set()
        assert said(first) == "access-2"
        tell(second)
        assert said(second) == "access-2"
    assert (len(server.requests), server.reused) == (1, [])
    assert stored(store).access_token == "access-2"


# The end of a process while an exchange is under way ------------------------------------------------------------------


def _until_asked(server: TokenServer, leaver: subprocess.Popen[str]) -> None:
    assert said(leaver) == "asking"
    assert server.asked.wait(30)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        pytest.param(None, 0, id="returning"),
        pytest.param(signal.SIGINT, 1, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, 7, id="SIGTERM with a handler that exits"),
    ],
)
def test_a_program_that_ends_stores_its_answer(
    server: TokenServer, store: FileStore, path: Path, end: signal.Signals | None, code: int
) -> None:
    server.gate.clear()
    with process(server, path, "leave") as leaver:
        _until_asked(server, leaver)
        if end is not None:
            leaver.send_signal(end)
        tell(leaver)
        with pytest.raises(subprocess.TimeoutExpired):
            leaver.wait(0.3)  # it waits for the answer
        server.gate.set()
        ended = leaver.wait(30)
    # Ctrl-C is reported as 130 or as the signal itself.
    assert ended == code or (end is signal.SIGINT and ended in (130, -signal.SIGINT))
    assert stored(store).access_token == "access-2"
    assert not locked(path)


def test_a_program_that_ends_makes_no_other_try(server: TokenServer, store: FileStore, path: Path) -> None:
    server.answers.append({"status": 503, "headers": {"Retry-After": "20"}})
    with process(server, path, "leave") as leaver:
        _until_asked(server, leaver)
        begin = time.monotonic()
        tell(leaver)
        assert leaver.wait(30) == 0
    assert time.monotonic() - begin < 10
    assert len(server.requests) == 1
    assert not locked(path)


def test_a_second_ctrl_c_waits_for_no_answer(server: TokenServer, store: FileStore, path: Path) -> None:
    server.gate.clear()
    with process(server, path, "leave") as leaver:
        _until_asked(server, leaver)
        begin = time.monotonic()
        leaver.send_signal(signal.SIGINT)
        tell(leaver)
        while leaver.poll() is None:
            leaver.send_signal(signal.SIGINT)
            os.sched_yield()
        assert time.monotonic() - begin < 9
    assert not locked(path)


def test_a_killed_process_leaves_a_whole_file(server: TokenServer, store: FileStore, path: Path) -> None:
    """And no lock. A rotated token is lost only between the answer and the write."""
    chance = random.Random(7)
    lost = 0

    def until_asked() -> None:
        assert server.asked.wait(30)
        server.asked.clear()

    with process(server, path, "forever") as mother:
        for _ in range(KILLS):
            server.asked.clear()
            tell(mother)
            child = int(said(mother))
            until_asked()
            # Anywhere in the next two refreshes, however long they take on a busy machine.
            begin = time.perf_counter()
            until_asked()
            until_asked()
            moment = time.perf_counter() + chance.uniform(0, time.perf_counter() - begin)
            while time.perf_counter() < moment:
                os.sched_yield()
            os.kill(child, signal.SIGKILL)
            assert said(mother) == "ended"
            assert not locked(path)
            assert set(json.loads(path.read_bytes())) == {"key"}
            known = stored(store)
            assert server.valid is not None
            if known.refresh_token != server.valid.refresh_token:
                lost += 1
                asyncio.run(store.save(server.credential()))
    asyncio.run(store.save(server.credential()))
    assert {each.name for each in path.parent.iterdir()} <= {path.name, f"{path.name}.lock"}
    assert len(server.requests) >= KILLS > lost
    assert server.reused == []
