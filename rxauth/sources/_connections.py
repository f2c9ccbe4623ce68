"""Keep one session per event loop, for streams that were given none, as long as such streams run.

After a rejected credential a second attempt at the same host follows, as a rule. If the session were closed in between,
a person would wait for another connection and another TLS handshake.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from weakref import WeakKeyDictionary

import aiohttp

# Seconds that an idle connection waits for the second attempt. Common servers close theirs after 5: a request sent into
# a connection that is being closed would fail the second attempt, too.
KEPT_FOR = 4.0


class Pool:
    """Lend the session of one loop."""

    def __init__(self) -> None:
        self._users = 0
        self._expected = 0  # attempts that may follow a rejected one
        self._session: aiohttp.ClientSession | None = None
        self._sessions: AsyncGenerator[aiohttp.ClientSession] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def take(self) -> aiohttp.ClientSession:
        self._users += 1
        self._expected = max(0, self._expected - 1)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None  # it refers to the loop
        if self._session is None or self._session.closed:
            # A loop that ends (asyncio.run) closes the asynchronous generators that are open on it: this one.
            self._sessions = _session()
            self._session = await anext(self._sessions)
        return self._session

    async def give_back(self, *, comes_back: bool) -> None:
        """End a use. `comes_back`: another attempt is likely to follow, so the connections are kept a little longer."""
        self._users -= 1
        self._expected += comes_back
        if self._users:
            return
        if self._expected:
            self._timer = asyncio.get_running_loop().call_later(KEPT_FOR, self._expire)
        else:
            await self._close()

    def _expire(self) -> None:
        self._expected = 0
        self._task = asyncio.get_running_loop().create_task(self._close())

    async def _close(self) -> None:
        if self._users or self._sessions is None:
            return  # a stream came between the timer and this task
        sessions, self._sessions, self._session = self._sessions, None, None
        await sessions.aclose()


async def _session() -> AsyncGenerator[aiohttp.ClientSession]:
    # Streams last; the default limit of 100 connections would make the next one wait for the end of another.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_FOR)
    # The streams of different accounts share it: no cookies.
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()


def pool_of_running_loop() -> Pool:
    loop = asyncio.get_running_loop()
    if loop not in _pools:
        for old in [each for each in _pools if each.is_closed()]:
            del _pools[old]  # its session refers to the loop, so this dictionary would keep both
        _pools[loop] = Pool()
    return _pools[loop]
