"""Credentials in Redis, shared by many machines."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from rxauth.addresses import is_loopback
from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._entry import credential_from, entry_from, number
from rxauth.credentials._stores._held import held, holding, locked_once
from rxauth.errors import StoreError

log = logging.getLogger(__name__)

T = TypeVar("T")

_POLL = 0.1  # s between two attempts to take the lock
_RELEASE_TIMEOUT = 1.0  # s for releasing a lock that may have been taken

# KEYS: the credential (a hash: credential, version, writer, retry_at), and the lock (a string: its holder, with a TTL).
# A script may run twice with the same effect: a connection may break between the effect and the answer.

_TAKE = """
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) and redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return false
end
return redis.call('HGET', KEYS[1], 'version') or '0'
"""

_RENEW = "return redis.call('GET', KEYS[2]) == ARGV[1] and redis.call('PEXPIRE', KEYS[2], ARGV[2]) or 0"
_RELEASE = "return redis.call('GET', KEYS[2]) == ARGV[1] and redis.call('DEL', KEYS[2]) or 0"

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
local there = redis.call('HDEL', KEYS[1], 'credential')
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'credential', ARGV[3])
end
redis.call('HSET', KEYS[1], 'version', tonumber(version) + 1, 'writer', ARGV[1])
redis.call('HDEL', KEYS[1], 'retry_at')
return there
"""

_GET = "return redis.call('HGET', KEYS[1], ARGV[1])"
_PUT_RETRY_AT = "return redis.call(ARGV[1] == '' and 'HDEL' or 'HSET', KEYS[1], 'retry_at', ARGV[1])"


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
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        if not (timeout > 0 and lock_ttl > 0):
            raise ValueError("timeout and lock_ttl are seconds, more than 0.")
        if not key:
            raise ValueError("key is a string that is not empty.")
        self._place = _place(url, allow_plaintext=allow_plaintext)
        if importlib.util.find_spec("redis") is None:
            raise ImportError("RedisStore needs the package redis: pip install 'rxauth[redis]'.")
        self._url = url
        self._key = key
        self._lock_key = (key if "{" in key else f"{{{key}}}") + ":lock"  # in a cluster, in the slot of the credential
        self._timeout = timeout
        self._lock_ttl = max(1, round(lock_ttl * 1000))  # ms
        self._sleep = sleep
        self._loading: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[_Loaded]] = WeakKeyDictionary()

    async def load(self) -> Credential | None:
        """Return what is stored; `None` if nothing is.

        Raises:
            StoreError: Redis cannot be used, or what is there is not a credential.
        """
        loaded = await (self._load_once() if held(self) is None else self._load())
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
        return number(await self._run(_GET, "retry_at"))

    async def save_retry_at(self, unix_seconds: float | None) -> None:
        """Keep that time until another credential is stored; `None` removes it."""
        await self._run(_PUT_RETRY_AT, "" if unix_seconds is None else repr(unix_seconds))

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Exclude other machines, processes, threads and tasks.

        Raises:
            StoreError: Redis cannot be used.
        """
        name, renewal = secrets.token_hex(16), None
        try:
            while (version := await self._run(_TAKE, name, self._lock_ttl)) is None:
                await self._sleep(_POLL)
            renewal = asyncio.create_task(self._renew(name))
            with holding(self, (name, version)):
                yield
        finally:
            await _uninterrupted(self._release(name, renewal))

    def describe(self) -> str:
        """Return the address without user, password and options, and the key."""
        return f"{self._place} ({self._key})"

    def __repr__(self) -> str:
        return f"RedisStore({self._place!r}, {self._key!r})"

    async def _renew(self, name: str) -> None:
        while True:
            await self._sleep(self._lock_ttl / 3000)
            try:
                kept = await self._run(_RENEW, name, self._lock_ttl)
            except StoreError as error:
                log.debug("The lock could not be renewed just now. %s", error)
                continue
            if not kept:
                log.warning(
                    "The lock of %s was lost while it was held; nothing can be saved under it.", self.describe()
                )
                return

    async def _release(self, name: str, renewal: asyncio.Task[None] | None) -> None:
        """Release the lock. Without a renewal its answer has not arrived: Redis may hold it for us all the same."""
        if renewal is not None:
            renewal.cancel()
            await asyncio.wait([renewal])
        try:
            await self._run(_RELEASE, name, within=self._timeout if renewal else min(self._timeout, _RELEASE_TIMEOUT))
        except StoreError:
            if renewal is not None:
                log.warning(
                    "The lock of %s cannot be released now; it is free in %g s.", self._place, self._lock_ttl / 1000
                )

    async def _load_once(self) -> _Loaded:
        """Ask once for all callers of the same moment on this loop: there may be ten thousand."""
        loop = asyncio.get_running_loop()
        task = self._loading.get(loop)
        if task is None or task.done():
            task = self._loading[loop] = loop.create_task(self._load())
        return await asyncio.shield(task)

    async def _load(self) -> _Loaded:
        """Return an error as a value: a shared exception would grow a traceback with each caller, or be logged."""
        try:
            content: str | None = await self._run(_GET, "credential")
        except StoreError as error:
            return error
        return content

    async def _put(self, content: str) -> bool:
        async with locked_once(self) as lock:
            was_there = await self._run(_PUT, *lock, content)
            self._loading = WeakKeyDictionary()  # a load that was begun before may miss this
            if was_there == "lost":
                raise StoreError(f"The lock of {self.describe()} was lost while it was held; nothing was written.")
            if was_there == "changed":
                raise StoreError(f"Another client wrote to {self.describe()} without its lock; nothing was written.")
            return bool(was_there)

    async def _run(self, script: str, *arguments: str | int, within: float | None = None) -> Any:
        """Return what a script returns. Raises StoreError if the server cannot be used, or did not answer in time."""
        # Uninterrupted: after half a conversation it is not known whether the lock is taken or a token stored. And
        # redis-py swallows about half of all cancellations (8.1, measured).
        return await _uninterrupted(self._eval(script, arguments, within or self._timeout))

    async def _eval(self, script: str, arguments: tuple[str | int, ...], within: float) -> Any:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError

        # For one script: a connection that is kept belongs to one loop, but a store is used from several.
        connection = Redis.from_url(
            self._url,
            decode_responses=True,
            socket_connect_timeout=self._timeout,
            socket_timeout=self._timeout,
            retry=Retry(NoBackoff(), 1),  # an answer may be lost with its connection
        )
        try:
            async with asyncio.timeout(within):
                return await connection.eval(script, 2, self._key, self._lock_key, *arguments)
        except TimeoutError:
            trouble = "did not answer in time"
        except (RedisError, OSError) as error:
            trouble = f"cannot be used ({type(error).__name__})"
        finally:
            with contextlib.suppress(Exception):  # a connection that is broken is closed
                async with asyncio.timeout(within):
                    await connection.aclose()
        # Outside of `except`: an error of Redis may repeat the arguments, which are tokens.
        raise StoreError(f"{self._place} {trouble}. Try again later, or check the server.")


_Loaded = str | None | StoreError


def _place(url: str, *, allow_plaintext: bool) -> str:
    """Return the address without what is secret in it. Raises ValueError if tokens are not to travel there."""
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
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def _uninterrupted(work: Coroutine[Any, Any, T]) -> T:
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
