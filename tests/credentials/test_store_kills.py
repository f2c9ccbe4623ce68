"""kill -9 at each file operation of a refresh that writes two files.

Run as a program, it makes a new process for each number on stdin, which refreshes and is killed at that operation:

python -m tests.credentials.test_store_kills URL DIRECTORY renamed|mounted
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials import FileStore, LinkedStore, OAuthCredentials, PiStore
from tests.credentials.faulty_files import BindMounted, FaultyFiles
from tests.credentials.kinds import no_time, tokens
from tests.credentials.oauth import rejected
from tests.credentials.token_server import TokenServer

pytestmark = pytest.mark.slow


def linked(directory: Path, url: str, **options: Any) -> LinkedStore:
    """The login in our file and pi's, in a directory."""
    stores = [FileStore(directory / "own.json", "kimi", **options), PiStore(directory / "auth.json", **options)]
    return LinkedStore(stores, token_url=url)


def killing(system: type[FaultyFiles], number: int) -> FaultyFiles:
    class Killing(system):  # type: ignore[valid-type, misc]
        def __getattr__(self, name: str) -> Any:
            if len(self.calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getattr__(name)

    return Killing()


async def refresh(url: str, directory: Path, **options: Any) -> None:
    source = OAuthCredentials(linked(directory, url, **options), token_url=url, client_id="app", refresh_ahead=0)
    await source.refresh(rejected(await source.current()))


@pytest.fixture
def kill(server: TokenServer, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[int], str]]:
    """Runs a refresh that is killed at a file operation; returns "killed", or "done" if there are fewer."""
    command = [sys.executable, "-m", __name__, server.url, str(tmp_path), request.param]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as mother:

        def run(number: int) -> str:
            assert mother.stdin
            assert mother.stdout
            mother.stdin.write(f"{number}\n")
            mother.stdin.flush()
            return mother.stdout.readline().strip()

        yield run
        mother.kill()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kill", ["renamed", "mounted"], indirect=True)
async def test_killed_between_two_files_no_login_is_lost(
    server: TokenServer, tmp_path: Path, kill: Callable[[int], str]
) -> None:
    """Afterwards each file is whole, and the next refresh, in another process, writes both again.

    Only between the answer and the first file is the new token in the memory of the dead process alone.
    """
    lost: list[int] = []
    kept: list[int] = []
    number = 0
    while True:
        # Two minutes on: the lock of the process that was killed is stale, the tokens are not.
        late: dict[str, Any] = {"clock": lambda: time.time() + 120, "sleep": no_time}
        both = linked(tmp_path, server.url, **late).stores
        old = server.credential(expires_at=time.time() + 600, extra={"token_url": server.url})
        for store in both:
            await store.save(old)
        asked = len(server.requests)
        if await asyncio.to_thread(kill, number) == "done":
            break
        number += 1
        copies = [tokens(await store.load()) for store in both]
        assert set(copies) <= {tokens(old), tokens(server.valid)}, "whole: the old one or the new one"
        found = tokens(await linked(tmp_path, server.url, **late).load())
        if found != tokens(server.valid):
            lost.append(number)
            continue
        if len(server.requests) > asked:
            kept.append(number)
        await refresh(server.url, tmp_path, **late)
        assert [tokens(await store.load()) for store in both] == [tokens(server.valid)] * 2
    assert server.reused == []
    assert number > 40
    assert len(kept) > 10
    assert not lost or max(lost) < min(kept)
    assert len(lost) < 18, "the steps of writing one file until it is complete"
    # At the end nothing is left of all that.
    left = {each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*") if each.is_file()}
    assert left == {"own.json", "own.json.lock", "auth.json"}


def main(url: str, directory: str, system: str) -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            files = killing(BindMounted if system == "mounted" else FaultyFiles, int(line))
            asyncio.run(refresh(url, Path(directory), files=files))
            os._exit(0)
        print("done" if os.waitpid(child, 0)[1] == 0 else "killed", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
