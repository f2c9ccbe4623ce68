"""A process that refreshes: run by the tests of several processes, and of their ends.

python refreshing.py URL FILE together   processes refresh the stored credential at the same time
python refreshing.py URL FILE linked     the same, for a login in three files beside it, in any order
python refreshing.py URL FILE leave      asks for a refresh, and ends at the next line on stdin
python refreshing.py URL FILE patient    refreshes once for each line on stdin, and holds the lock for a moment only
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from rxauth.credentials import Credential, FileStore, LinkedStore, OAuthCredentials
from rxauth.errors import CredentialError
from tests.credentials.kinds import KIMI_CODE, OWN, PI
from tests.credentials.oauth import rejected

PROCESSES = 6


def copies(directory: Path) -> list[Any]:
    """Three stores that share a login."""
    return [kind.store(directory / kind.name) for kind in (OWN, PI, KIMI_CODE)]


class StoreOnAThread(FileStore):
    """Needs a thread in order to save, as a store on another machine does whose name must be resolved."""

    async def save(self, credential: Credential) -> None:
        await asyncio.to_thread(lambda: None)
        await super().save(credential)


def main(url: str, path: str, what: str) -> int:
    def source(store: Any) -> OAuthCredentials:
        return OAuthCredentials(store, token_url=url, client_id="app", lock_hold=0.02 if what == "patient" else 15.0)

    if what == "leave":
        return asyncio.run(leave(source(StoreOnAThread(path, "key"))))
    if what == "patient":
        for _ in sys.stdin:
            asyncio.run(once(source(FileStore(path, "key"))))
        return 0
    orders = itertools.permutations(copies(Path(path).parent))
    stores = [LinkedStore(order, token_url=url) if what == "linked" else FileStore(path, "key") for order in orders]
    children = [fork(source(store)) for store in stores]
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


async def once(source: OAuthCredentials) -> None:
    try:
        new = await source.refresh(rejected(Credential("access-1")))
        say(new.access_token if new is not None else "nothing new")
    except CredentialError as error:
        say(error)


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
        asyncio.run(once(source))
        code = 0
    finally:
        os._exit(code)


def say(word: object) -> None:
    # One write, so that processes do not interrupt each other.
    os.write(1, f"{word}\n".encode())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
