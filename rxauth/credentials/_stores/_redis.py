"""Credentials in Redis, shared by many machines."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, urlsplit
from weakref import WeakKeyDictionary

from rxauth.addresses import is_loopback
from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._entry import credential_from, entry_from
from rxauth.credentials._stores._held import holding, lock_held_here
from rxauth.errors import StoreError

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["RedisStore"]

log = logging.getLogger(__name__)

_POLL = 0.1  # s between two looks at the lock
_FAREWELL = 1.0  # s for taking back what may have been asked for

T = TypeVar("T")

# KEYS: the credential (a hash: credential, version, writer), the lock (a string: its holder's name, with a TTL).
# Each may run twice with the same effect, because a connection may break between the deed and the answer.

_TAKE = """
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) and redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return false
end
return redis.call('HGET', KEYS[1], 'version') or '0'
"""

_KEEP = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[2], ARGV[2])
"""

_LET_GO = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[2])
"""

# The lock's name guards against a lock that was lost. The version guards against a lock that Redis itself lost (a
# failover to a replica that had not heard of it), and against whoever writes without one.
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
return there
"""


class RedisStore:
    """Keeps a credential in Redis, so that many machines share it.

    The credential is JSON in the hash `key`, with a version; the lock is `key:lock`, which expires when its holder dies
    and is renewed while it lives. Whoever has lost the lock, whatever the reason, cannot write any more: Redis itself
    compares lock and version in the same step in which it writes. What cannot be reached or does not answer is a
    StoreError after `timeout`, never a hang.

    The tokens lie in Redis as they are: whoever can read the key can use them.

    Args:
        url: `rediss://...`, `redis://...` on loopback, or `unix://...`.
        key: under which the credential is kept.
        timeout: seconds for one question to Redis, connecting included.
        lock_ttl: seconds after which the lock of a holder that died is free.
        allow_plaintext: whether the tokens may travel to another machine unencrypted, over a network that is yours
            alone.
        sleep: waits, in seconds.

    Raises:
        ImportError: the package `redis` is missing: `pip install 'rxauth[redis]'`.
        ValueError: an argument makes no sense, or the tokens would travel unencrypted.

    >>> RedisStore("rediss://:password@redis.example.com/0", "kimi")
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
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        parts = _checked(url, allow_plaintext)
        if not key:
            raise ValueError("key is a string that is not empty.")
        if not (timeout > 0 and lock_ttl > 0):
            raise ValueError("timeout and lock_ttl are seconds, more than 0.")
        if importlib.util.find_spec("redis") is None:
            raise ImportError("RedisStore needs the package redis: pip install 'rxauth[redis]'.")
        self._url = url
        self._place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._key = key
        # In the slot of the credential, also in a cluster: one script works on both.
        self._lock_key = f"{key}:lock" if "{" in key else f"{{{key}}}:lock"
        self._timeout = timeout
        self._lock_ttl = lock_ttl
        self._sleep = sleep
        self._saves = 0
        self._loading: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[int, asyncio.Task[_Loaded]]]
        self._loading = WeakKeyDictionary()

    async def load(self) -> Credential | None:
        """What is stored; `None` if nothing is.

        Raises:
            StoreError: Redis cannot be asked, or what is there is not a credential.
        """
        lock: _Lock | None = lock_held_here(self)
        loaded = await (self._load_once() if lock is None else self._load(lock.connection))
        if isinstance(loaded, StoreError):
            raise loaded
        try:
            return None if loaded is None else credential_from(json.loads(loaded))
        except (ValueError, RecursionError):
            raise StoreError(f"What is kept in {self.describe()} is not a credential. Log in again.") from None

    async def save(self, credential: Credential) -> None:
        """Replace what is stored.

        Raises:
            StoreError: the lock was lost, or somebody else has written: nothing was written. Or Redis did not answer:
                then it is not known.
        """
        try:
            content = json.dumps(entry_from(credential), allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise StoreError("This credential's extra fields are not JSON; nothing was stored.") from None
        await self._put(content)

    async def delete(self) -> bool:
        """Remove what is stored; whether there was anything.

        Raises:
            StoreError: as for `save`.
        """
        return await self._put("")

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Excludes other machines, processes, threads and tasks.

        Raises:
            StoreError: Redis cannot be asked.
        """
        async with self._connected() as connection:
            lock = _Lock(connection)
            try:
                lock.version = await self._take(lock)
                lock.alive = asyncio.create_task(self._keep_alive(lock))
                with holding(self, lock):
                    yield
            finally:
                await _to_its_end(self._let_go(lock))

    def describe(self) -> str:
        """The address without user, password and options, and the key."""
        return f"{self._place} ({self._key})"

    def __repr__(self) -> str:
        return f"RedisStore({self._place!r}, {self._key!r})"

    # The lock --------------------------------------------------------------------------------------------------------

    async def _take(self, lock: _Lock) -> str:
        while True:
            lock.asked = True  # from here on Redis may hold it for us, whatever becomes of the answer
            version = await self._ask(lock.connection, _TAKE, lock.name, self._ttl())
            if version is not None:
                return str(version)
            lock.asked = False
            await self._sleep(_POLL)

    async def _keep_alive(self, lock: _Lock) -> None:
        while True:
            await self._sleep(self._lock_ttl / 3)
            try:
                kept = await self._ask(lock.connection, _KEEP, lock.name, self._ttl())
            except StoreError as error:
                log.debug("The lock could not be renewed just now. %s", error)
                continue
            if not kept:
                log.warning(
                    "The lock of %s was lost while it was held; nothing can be saved under it.", self.describe()
                )
                return

    async def _let_go(self, lock: _Lock) -> None:
        held = lock.alive is not None
        if lock.alive is not None:
            lock.alive.cancel()
            await asyncio.wait([lock.alive])
        if not lock.asked:
            return
        try:
            limit = self._timeout if held else min(self._timeout, _FAREWELL)
            await self._ask(lock.connection, _LET_GO, lock.name, limit=limit)
        except StoreError:
            if held:
                log.warning("The lock of %s is free in %g s: it cannot be given back now.", self._place, self._lock_ttl)

    def _ttl(self) -> int:
        return max(1, round(self._lock_ttl * 1000))

    # What is stored --------------------------------------------------------------------------------------------------

    async def _load_once(self) -> _Loaded:
        """One connection for all who ask at the same moment on this loop: ten thousand streams may."""
        loop = asyncio.get_running_loop()
        saves, task = self._loading.get(loop, (-1, None))
        # One that was begun before a save may miss it.
        if task is None or task.done() or saves != self._saves:
            task = loop.create_task(self._load(None))
            self._loading[loop] = self._saves, task
        return await asyncio.shield(task)

    async def _load(self, connection: Redis | None) -> _Loaded:
        """As a value, also the error: nobody may be left to retrieve an exception, and several to raise it."""
        try:
            if connection is not None:
                return await self._read(connection)
            async with self._connected() as opened:
                return await self._read(opened)
        except StoreError as error:
            return error

    async def _read(self, connection: Redis) -> str | None:
        script = "return redis.call('HGET', KEYS[1], 'credential')"
        content = await self._ask(connection, script)
        return None if content is None else str(content)

    async def _put(self, content: str) -> bool:
        async with self._locked_once() as lock:
            was_there = await self._ask(lock.connection, _PUT, lock.name, lock.version, content)
            self._saves += 1
            if was_there == "lost":
                raise StoreError(f"The lock of {self.describe()} was lost while it was held; nothing was written.")
            if was_there == "changed":
                raise StoreError(f"Somebody wrote to {self.describe()} without its lock; nothing was written.")
            return bool(was_there)

    @contextlib.asynccontextmanager
    async def _locked_once(self) -> AsyncIterator[_Lock]:
        lock: _Lock | None = lock_held_here(self)
        if lock is not None:
            yield lock
        else:
            async with self.locked():
                yield lock_held_here(self)

    # Redis -----------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Redis]:
        """A client for one use. One that is kept would belong to a loop, and this store to several."""
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        connection = Redis.from_url(
            self._url,
            decode_responses=True,
            socket_connect_timeout=self._timeout,
            socket_timeout=self._timeout,
            retry=Retry(NoBackoff(), 1),  # for a connection that was cut while nobody looked
        )
        try:
            yield connection
        finally:
            await _to_its_end(self._close(connection))

    async def _close(self, connection: Redis) -> None:
        with contextlib.suppress(Exception):  # gone is gone
            async with asyncio.timeout(self._timeout):
                await connection.aclose()

    async def _ask(self, connection: Redis, script: str, *arguments: str | int, limit: float | None = None) -> Any:
        # To its end: half a conversation would leave it open whether the lock is taken, or a rotated token stored. And
        # redis-py swallows about half of all cancellations (8.1, measured).
        return await _to_its_end(self._answer(connection, script, arguments, limit))

    async def _answer(
        self, connection: Redis, script: str, arguments: tuple[str | int, ...], limit: float | None
    ) -> Any:
        from redis.exceptions import RedisError

        trouble = ""
        try:
            async with asyncio.timeout(self._timeout if limit is None else limit):
                return await connection.eval(script, 2, self._key, self._lock_key, *arguments)
        except TimeoutError:
            trouble = "did not answer in time"
        except (RedisError, OSError) as error:
            trouble = f"cannot be used ({type(error).__name__})"
        # Outside of `except`: Redis may say back what it was sent, tokens and all.
        raise StoreError(f"{self._place} {trouble}. Try again later, or look after the server.")


class _Lock:
    """A lock that may be ours."""

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        self.name = secrets.token_hex(16)
        self.asked = False
        self.version = ""
        self.alive: asyncio.Task[None] | None = None


_Loaded = str | None | StoreError


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, which is short. A cancellation takes effect after it, not in the middle of it."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # retrieved: nobody will hear of it
        raise cancelled
    return task.result()


def _checked(url: str, allow_plaintext: bool) -> SplitResult:
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
    return parts
