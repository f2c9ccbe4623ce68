"""Keep one session per event loop, for streams that were given none, as long as such streams run.

After a rejected credential a second attempt at the same host follows, as a rule. If the session were closed in between,
a person would wait for another connection and another TLS handshake.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import aiohttp

# Seconds that an idle connection waits for the second attempt. Common servers close theirs after 5: a request sent into
# a connection that is being closed would fail the second attempt, too.
KEPT_FOR = 4.0


class Lease:
    """Lend the session of the running loop for the time of one stream.

    Set `comes_back` if another attempt is likely to follow: the connections are kept a little longer then.
    """

    def __init__(self) -> None:
        self.comes_back = False

    async def __aenter__(self) -> aiohttp.ClientSession:
        self._pool = _pool_of(asyncio.get_running_loop())
        return await self._pool.take()

    async def __aexit__(self, *_: object) -> None:
        await self._pool.give_back(self.comes_back)


class _Pool:
    def __init__(self) -> None:
        self._users = 0
        self._expected = 0  # attempts that may follow a rejected one
        self._session: aiohttp.ClientSession | None = None
        self._closing: AsyncGenerator[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def take(self) -> aiohttp.ClientSession:
        self._users += 1
        self._expected = max(0, self._expected - 1)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None  # it refers to the loop
        if self._session is None or self._session.closed:
            import aiohttp

            # Streams last; the default limit of 100 connections would make the next one wait for the end of another.
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_FOR)
            # The streams of different accounts share it: no cookies.
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
            # A loop that ends (asyncio.run) closes the asynchronous generators that are open on it: this one.
            self._closing = _close_at_the_end(self._session)
            await anext(self._closing)
        return self._session

    async def give_back(self, comes_back: bool) -> None:
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
        if self._users:
            return  # a stream came between the timer and this task
        closing, self._closing, self._session = self._closing, None, None
        if closing is not None:
            await closing.aclose()


async def _close_at_the_end(session: aiohttp.ClientSession) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await session.close()


_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool] = WeakKeyDictionary()


def _pool_of(loop: asyncio.AbstractEventLoop) -> _Pool:
    pool = _pools.get(loop)
    if pool is None:
        for old in [each for each in _pools if each.is_closed()]:
            del _pools[old]  # its session refers to the loop, so this dictionary would keep both
        pool = _pools[loop] = _Pool()
    return pool
