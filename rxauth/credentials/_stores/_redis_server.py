"""Run a script on a Redis server, in bounded time and once in effect."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from rxauth.addresses import is_loopback
from rxauth.errors import StoreError

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["RedisServer", "uninterrupted"]

T = TypeVar("T")


class RedisServer:
    """A Redis server, and the keys that its scripts use.

    Args:
        url: `rediss://...`, `redis://...` on loopback, or `unix://...`.
        keys: of one slot, so that a script may use all of them in a cluster.
        timeout: seconds for one answer, connecting included.
        allow_plaintext: whether the tokens may travel to another machine unencrypted.

    Raises:
        ValueError: the URL is none, or the tokens would travel unencrypted.
    """

    def __init__(self, url: str, keys: tuple[str, ...], *, timeout: float, allow_plaintext: bool) -> None:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "localhost", parts.port
        except ValueError:
            raise ValueError("url is not a URL.") from None
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError("url is a redis://, rediss:// or unix:// URL.")
        if parts.scheme == "redis" and not allow_plaintext and not is_loopback(host):
            raise ValueError(
                f"Tokens do not travel unencrypted to {host}: use rediss://, "
                "or allow_plaintext=True on a network that is yours alone."
            )
        self.place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._url = url
        self._keys = keys
        self._timeout = timeout

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Redis]:
        """Connect for one use. A connection that is kept belongs to one loop, but a store is used from several."""
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        connection = Redis.from_url(
            self._url,
            decode_responses=True,
            socket_connect_timeout=self._timeout,
            socket_timeout=self._timeout,
            retry=Retry(NoBackoff(), 1),  # a connection may have been cut since it was last used
        )
        try:
            yield connection
        finally:
            await uninterrupted(self._close(connection))

    async def _close(self, connection: Redis) -> None:
        with contextlib.suppress(Exception):  # a connection that is broken is closed
            async with asyncio.timeout(self._timeout):
                await connection.aclose()

    async def run(self, connection: Redis, script: str, *arguments: str | int, within: float | None = None) -> Any:
        """Return what the script returns.

        Raises:
            StoreError: the server cannot be used, or did not answer in time.
        """
        # Uninterrupted: after half a conversation it is not known whether the lock is taken or a token stored. And
        # redis-py swallows about half of all cancellations (8.1, measured).
        return await uninterrupted(self._run(connection, script, arguments, within or self._timeout))

    async def _run(self, connection: Redis, script: str, arguments: tuple[str | int, ...], within: float) -> Any:
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(within):
                return await connection.eval(script, len(self._keys), *self._keys, *arguments)
        except TimeoutError:
            trouble = "did not answer in time"
        except (RedisError, OSError) as error:
            trouble = f"cannot be used ({type(error).__name__})"
        # Outside of `except`: an error of Redis may repeat the arguments, which are tokens.
        raise StoreError(f"{self.place} {trouble}. Try again later, or check the server.")


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, which is short. A cancellation takes effect after it."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio logs it
        raise cancelled
    return task.result()
