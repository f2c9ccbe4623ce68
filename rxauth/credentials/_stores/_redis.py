"""Credentials in Redis, shared by many machines."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._entry import credential_from, entry_from, number
from rxauth.credentials._stores._held import holding, lock_held_here
from rxauth.credentials._stores._redis_server import RedisServer, uninterrupted
from rxauth.errors import StoreError

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["RedisStore"]

log = logging.getLogger(__name__)

_POLL = 0.1  # s between two attempts to take the lock
_RELEASE_TIMEOUT = 1.0  # s for releasing a lock that may have been taken

# KEYS: the credential (a hash: credential, version, writer), the lock (a string: its holder's name, with a TTL), the
# time of Retry-After (a string, with a TTL). Each script may run twice with the same effect, because a connection may
# break between the effect and the answer.

_TAKE = """
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) and redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return false
end
return redis.call('HGET', KEYS[1], 'version') or '0'
"""

_RENEW = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[2], ARGV[2])
"""

_RELEASE = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[2])
"""

# The lock's name protects against a lock that was lost. The version protects against a lock that Redis itself lost (a
# failover to a replica that did not have it), and against a writer without one.
_PUT = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 'lost'
end
local version = redis.call('HGET', KEYS[1], 'version') or '0'
if version ~= ARGV[2] and redis.call('HGET', KEYS[1], 'writer') ~= ARGV[1] then
  return 'changed'
end
local there = redis.call('HEXISTS', KEYS[1], 'credential')
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], 'credential')
else
  redis.call('HSET', KEYS[1], 'credential', ARGV[3])
end
redis.call('HSET', KEYS[1], 'version', tonumber(version) + 1, 'writer', ARGV[1])
redis.call('DEL', KEYS[3])
return there
"""

_GET = "return redis.call('HGET', KEYS[1], 'credential')"
_GET_RETRY_AT = "return redis.call('GET', KEYS[3])"
_PUT_RETRY_AT = """
if ARGV[1] == '' then
  return redis.call('DEL', KEYS[3])
end
return redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
"""


class RedisStore:
    """Keeps a credential in Redis, so that many machines share it.

    The credential is JSON in the hash `key`, with a version; the lock is `key:lock`, which expires when its holder dies
    and is renewed while it lives. A holder that has lost the lock cannot write any more: Redis itself compares lock and
    version in the same step in which it writes. A server that cannot be reached or does not answer is a StoreError
    after `timeout`, never a hang.

    The tokens are in Redis as they are: every client that can read the key can use them.

    Args:
        url: `rediss://...`, `redis://...` on loopback, or `unix://...`.
        key: under which the credential is kept.
        timeout: seconds for one answer of Redis, connecting included.
        lock_ttl: seconds after which the lock of a holder that died is free.
        allow_plaintext: whether the tokens may travel to another machine unencrypted, over a network that is yours
            alone.
        clock: Unix time in seconds.
        sleep: waits, in seconds.

    Raises:
        ImportError: the package `redis` is missing: `pip install 'rxauth[redis]'`.
        ValueError: an argument makes no sense, or the tokens would travel unencrypted.

    >>> RedisStore("rediss://:password@redis.example.com/0", "kimi")  # doctest: +SKIP
    RedisStore('rediss://redis.example.com/0', 'kimi')
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout: float = 5.0,
        lock_ttl: float = 15.0,
        allow_plaintext: bool = False,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        if not (timeout > 0 and lock_ttl > 0):
            raise ValueError("timeout and lock_ttl are seconds, more than 0.")
        tag = key if "{" in key else f"{{{key}}}"  # the slot of the credential, also in a cluster
        keys = (key, f"{tag}:lock", f"{tag}:retry_at")
        self._server = RedisServer(url, keys, timeout=timeout, allow_plaintext=allow_plaintext)
        if not key:
            raise ValueError("key is a string that is not empty.")
        if importlib.util.find_spec("redis") is None:
            raise ImportError("RedisStore needs the package redis: pip install 'rxauth[redis]'.")
        self._key = key
        self._timeout = timeout
        self._lock_ttl = lock_ttl
        self._clock = clock
        self._sleep = sleep
        self._saves = 0
        self._loading: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[int, asyncio.Task[_Loaded]]]
        self._loading = WeakKeyDictionary()

    async def load(self) -> Credential | None:
        """Return what is stored; `None` if nothing is.

        Raises:
            StoreError: Redis cannot be used, or what is there is not a credential.
        """
        lock: _Lock | None = lock_held_here(self)
        loaded = await (self._load_once() if lock is None else self._load(lock.connection))
        if isinstance(loaded, StoreError):
            raise loaded
        try:
            return None if loaded is None else credential_from(json.loads(loaded))
        except (ValueError, RecursionError):
            raise StoreError(f"What is stored in {self.describe()} is not a credential. Log in again.") from None

    async def save(self, credential: Credential) -> None:
        """Replace what is stored.

        Raises:
            StoreError: the lock was lost, or another client has written: nothing was written. Or Redis did not answer:
                then it is not known.
        """
        try:
            content = json.dumps(entry_from(credential), allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise StoreError("This credential's extra fields are not JSON; nothing was stored.") from None
        await self._put(content)

    async def delete(self) -> bool:
        """Remove what is stored, and return whether there was anything.

        Raises:
            StoreError: as for `save`.
        """
        return await self._put("")

    async def load_retry_at(self) -> float | None:
        """Return the Unix time before which the token endpoint is not to be asked for this credential."""
        async with self._connection() as connection:
            return number(await self._server.run(connection, _GET_RETRY_AT))

    async def save_retry_at(self, unix_seconds: float | None) -> None:
        """Keep that time until it has passed or another credential is stored; `None` removes it."""
        left = 0.0 if unix_seconds is None else unix_seconds - self._clock()
        value = "" if left <= 0 else repr(unix_seconds)
        async with self._connection() as connection:
            await self._server.run(connection, _PUT_RETRY_AT, value, _milliseconds(left))

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Exclude other machines, processes, threads and tasks.

        Raises:
            StoreError: Redis cannot be used.
        """
        async with self._server.connected() as connection:
            lock = _Lock(connection)
            try:
                lock.version = await self._take(lock)
                lock.renewal = asyncio.create_task(self._renew(lock))
                with holding(self, lock):
                    yield
            finally:
                await uninterrupted(self._release(lock))

    def describe(self) -> str:
        """Return the address without user, password and options, and the key."""
        return f"{self._server.place} ({self._key})"

    def __repr__(self) -> str:
        return f"RedisStore({self._server.place!r}, {self._key!r})"

    # The lock --------------------------------------------------------------------------------------------------------

    async def _take(self, lock: _Lock) -> str:
        while True:
            lock.maybe_taken = True  # from here on Redis may hold it for us, whether its answer arrives or not
            version = await self._server.run(lock.connection, _TAKE, lock.name, _milliseconds(self._lock_ttl))
            if version is not None:
                return str(version)
            lock.maybe_taken = False
            await self._sleep(_POLL)

    async def _renew(self, lock: _Lock) -> None:
        while True:
            await self._sleep(self._lock_ttl / 3)
            try:
                kept = await self._server.run(lock.connection, _RENEW, lock.name, _milliseconds(self._lock_ttl))
            except StoreError as error:
                log.debug("The lock could not be renewed just now. %s", error)
                continue
            if not kept:
                log.warning(
                    "The lock of %s was lost while it was held; nothing can be saved under it.", self.describe()
                )
                return

    async def _release(self, lock: _Lock) -> None:
        held = lock.renewal is not None
        if lock.renewal is not None:
            lock.renewal.cancel()
            await asyncio.wait([lock.renewal])
        if not lock.maybe_taken:
            return
        try:
            within = self._timeout if held else min(self._timeout, _RELEASE_TIMEOUT)
            await self._server.run(lock.connection, _RELEASE, lock.name, within=within)
        except StoreError:
            if held:
                log.warning(
                    "The lock of %s cannot be released now; it is free in %g s.", self._server.place, self._lock_ttl
                )

    # The credential --------------------------------------------------------------------------------------------------

    async def _load_once(self) -> _Loaded:
        """Use one connection for all callers of the same moment on this loop: there may be ten thousand."""
        loop = asyncio.get_running_loop()
        saves, task = self._loading.get(loop, (-1, None))
        # One that was begun before a save may miss it.
        if task is None or task.done() or saves != self._saves:
            task = loop.create_task(self._load(None))
            self._loading[loop] = self._saves, task
        return await asyncio.shield(task)

    async def _load(self, connection: Redis | None) -> _Loaded:
        """Return an error as a value: a shared exception would grow a traceback with each caller, or be logged."""
        try:
            if connection is not None:
                content = await self._server.run(connection, _GET)
            else:
                async with self._server.connected() as opened:
                    content = await self._server.run(opened, _GET)
        except StoreError as error:
            return error
        return None if content is None else str(content)

    async def _put(self, content: str) -> bool:
        async with contextlib.AsyncExitStack() as stack:
            if lock_held_here(self) is None:
                await stack.enter_async_context(self.locked())
            lock: _Lock = lock_held_here(self)
            was_there = await self._server.run(lock.connection, _PUT, lock.name, lock.version, content)
            self._saves += 1
            if was_there == "lost":
                raise StoreError(f"The lock of {self.describe()} was lost while it was held; nothing was written.")
            if was_there == "changed":
                raise StoreError(f"Another client wrote to {self.describe()} without its lock; nothing was written.")
            return bool(was_there)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Redis]:
        lock: _Lock | None = lock_held_here(self)
        if lock is not None:
            yield lock.connection
        else:
            async with self._server.connected() as connection:
                yield connection


class _Lock:
    """A lock that this client may hold."""

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        self.name = secrets.token_hex(16)
        self.maybe_taken = False
        self.version = ""
        self.renewal: asyncio.Task[None] | None = None


_Loaded = str | None | StoreError


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
