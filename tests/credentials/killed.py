"""A process that refreshes a login in two files and is killed at a file operation: run by test_store_kills.py.

python killed.py URL DIRECTORY renamed|mounted     for each number on stdin: a new process, killed at that operation
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from rxauth.credentials import FileStore, LinkedStore, OAuthCredentials, PiStore
from rxauth.errors import CredentialRejected
from tests.credentials.faulty_files import BindMounted, FaultyFiles


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
    stored = await source.current()
    await source.refresh(CredentialRejected("401", status=401, credential=stored))


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
