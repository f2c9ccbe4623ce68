"""Real processes that share a login: how many requests they make, and what is left when one ends.

Run as a program, it is such a process:

python -m tests.credentials.test_oauth_processes URL FILE together    some refresh the stored credential at one time
python -m tests.credentials.test_oauth_processes URL FILE linked      the same, for a login in three files beside it
python -m tests.credentials.test_oauth_processes URL FILE leave       ends at the next line on stdin, while it refreshes
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials import Credential, FileStore, LinkedStore, OAuthCredentials
from tests.credentials.kinds import KIMI_CODE, OWN, PI, is_free
from tests.credentials.oauth import rejected, renewed
from tests.credentials.token_server import TokenServer

pytestmark = pytest.mark.slow

PROCESSES = 6


def copies(directory: Path) -> list[Any]:
    """Three stores that share a login."""
    return [kind.store(directory / kind.name) for kind in (OWN, PI, KIMI_CODE)]


class Process(subprocess.Popen[str]):
    """A process that runs this file, in the role `what`."""

    def __init__(self, url: str, path: Path, what: str) -> None:
        command = [sys.executable, "-m", __name__, url, str(path), what]
        super().__init__(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.communicate()

    def tell(self) -> None:
        assert self.stdin is not None
        self.stdin.write("go\n")
        self.stdin.flush()

    def said(self) -> str:
        assert self.stdout is not None
        return self.stdout.readline().strip()


@pytest.fixture
def store(server: TokenServer, tmp_path: Path) -> FileStore:
    """A login in the file."""
    store = FileStore(tmp_path / "auth.json", "key")
    asyncio.run(store.save(server.credential()))
    return store


@pytest.fixture
def start(server: TokenServer, store: FileStore, tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    """Starts processes, and ends them with the test."""
    with contextlib.ExitStack() as ended:
        yield lambda what: ended.enter_context(Process(server.url, tmp_path / "auth.json", what))


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
    stores = copies(tmp_path) if what == "linked" else [store]
    for each in stores:
        asyncio.run(each.save(old))
    group = start(what)
    assert {group.said() for _ in range(PROCESSES)} == {"asking"}
    for _ in range(PROCESSES):
        group.tell()
    assert {group.said() for _ in range(PROCESSES)} == {"access-2"}
    assert group.wait(30) == 0
    assert (len(server.requests), server.reused) == (1, [])
    assert {stored(each) for each in stores} == {"refresh-2"}


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
        leaver.send_signal(end)
    leaver.tell()
    with pytest.raises(subprocess.TimeoutExpired):
        leaver.wait(0.3)  # it waits for the answer
    server.gate.set()
    assert leaver.wait(30) in codes
    assert stored(store) == "refresh-2"
    assert asyncio.run(is_free(store))


def test_a_second_ctrl_c_waits_for_no_answer(store: FileStore, leaver: Process) -> None:
    begin = time.monotonic()
    leaver.send_signal(signal.SIGINT)
    leaver.tell()
    while leaver.poll() is None:
        leaver.send_signal(signal.SIGINT)
        os.sched_yield()
    assert time.monotonic() - begin < 9
    assert asyncio.run(is_free(store))


# The processes --------------------------------------------------------------------------------------------------------


class StoreOnAThread(FileStore):
    """Needs a thread in order to save, as a store on another machine does whose name must be resolved."""

    async def save(self, credential: Credential) -> None:
        await asyncio.to_thread(lambda: None)
        await super().save(credential)


def main(url: str, path: str, what: str) -> int:
    def source(store: Any) -> OAuthCredentials:
        return OAuthCredentials(store, token_url=url, client_id="app")

    if what == "leave":
        return asyncio.run(leave(source(StoreOnAThread(path, "key"))))
    orders = itertools.permutations(copies(Path(path).parent))
    stores = [LinkedStore(order, token_url=url) if what == "linked" else FileStore(path, "key") for order in orders]
    children = [fork(source(store)) for store in stores]
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


async def leave(source: OAuthCredentials) -> int:
    """Return, or die of a signal, while a refresh is under way."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    stored = await source.current()
    task = asyncio.create_task(source.refresh(rejected(stored)))
    say("asking")
    await asyncio.to_thread(sys.stdin.readline)
    assert not task.done()
    say("leaving")
    return 0


def fork(source: OAuthCredentials) -> int:
    """Start a process that refreshes at the next line on stdin."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        say("asking")
        os.read(0, len("go\n"))  # not through a buffer, which would take the others' lines too
        say(asyncio.run(renewed(source, Credential("access-1"))).access_token)
        code = 0
    finally:
        os._exit(code)


def say(word: str) -> None:
    # One write, so that processes do not interrupt each other.
    os.write(1, f"{word}\n".encode())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
