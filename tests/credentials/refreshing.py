"""A process that refreshes: run by the tests of several processes, and of their ends.

python refreshing.py URL FILE N          N processes refresh the stored credential at the same time
python refreshing.py URL FILE leave      asks for a refresh, and ends at the next line on stdin
python refreshing.py URL FILE forever    refreshes again and again, in a new process for each line on stdin
python refreshing.py URL FILE patient    refreshes once for each line on stdin, and holds the lock for a moment only
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from rxauth.credentials import Credential, FileStore, OAuthCredentials
from rxauth.errors import CredentialError
from tests.credentials.oauth import rejected


class StoreOnAThread(FileStore):
    """Needs a thread in order to save, as a store on another machine does whose name must be resolved."""

    async def save(self, credential: Credential) -> None:
        await asyncio.to_thread(lambda: None)
        await super().save(credential)


def main(url: str, path: str, what: str) -> int:
    store = (StoreOnAThread if what == "leave" else FileStore)(path, "key")
    source = OAuthCredentials(store, token_url=url, client_id="app", lock_hold=0.02 if what == "patient" else 15.0)

    async def together() -> None:
        say("asking")
        os.read(0, len("go\n"))  # not through a buffer, which would take the others' lines too
        await once(source)

    async def forever() -> None:
        while True:
            await source.refresh(rejected(await source.current()))

    if what == "leave":
        return asyncio.run(leave(source))
    if what.isdigit():
        children = [fork(together) for _ in range(int(what))]
        return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    for _ in sys.stdin:
        if what == "patient":
            asyncio.run(once(source))
        else:
            child = fork(forever)
            say(child)
            os.waitpid(child, 0)
            say("ended")
    return 0


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


def fork(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        asyncio.run(work())
        code = 0
    finally:
        os._exit(code)


def say(word: object) -> None:
    # One write, so that processes do not interrupt each other.
    os.write(1, f"{word}\n".encode())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
