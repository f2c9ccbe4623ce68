"""Arguments and waits that the tests of OAuthCredentials share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from rxauth.credentials import Credential, MemoryStore, OAuthCredentials
from rxauth.credentials._single_flight import flights
from rxauth.errors import CredentialRejected
from tests.credentials.token_server import TokenServer

OLDER = Credential("older-access")


class Time:
    """Both clocks, and a sleep that moves them."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.elapsed = 1000.0
        self.slept: list[float] = []

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.pass_by(seconds)

    @property
    def arguments(self) -> dict[str, Any]:
        return {"clock": lambda: self.wall, "monotonic": lambda: self.elapsed, "sleep": self.sleep}


class Faulty(MemoryStore):
    """A store whose methods named in `fails` raise `error`, or never return without one."""

    def __init__(self, credential: Credential, *fails: str, error: Exception | None = None) -> None:
        super().__init__(credential)
        self.fails = set(fails)
        self.error = error

    async def load(self) -> Credential | None:
        await self.fail("load")
        return await super().load()

    async def save(self, credential: Credential) -> None:
        await self.fail("save")
        await super().save(credential)

    async def check_can_save(self) -> None:
        await self.fail("check")

    async def load_retry_at(self) -> float | None:
        await self.fail("retry_at")
        return await super().load_retry_at()

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        await self.fail("locked")
        async with super().locked():
            yield
        await self.fail("unlock")

    async def fail(self, name: str) -> None:
        if name in self.fails and self.error is None:
            await asyncio.Event().wait()
        elif name in self.fails and self.error is not None:
            raise self.error


class Forgetful(MemoryStore):
    """A store that keeps no time to retry at."""

    save_retry_at = load_retry_at = None  # type: ignore[assignment]


class LateLock(MemoryStore):
    """A store whose lock is had after some seconds."""

    def __init__(self, credential: Credential, now: Time, seconds: float) -> None:
        super().__init__(credential)
        self.now, self.seconds = now, seconds

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        self.now.pass_by(self.seconds)
        async with super().locked():
            yield


def source(server: TokenServer, store: Any, now: Time | None = None, **options: Any) -> OAuthCredentials:
    """A source for a store, or for one in memory that holds the credential."""
    store = MemoryStore(store) if isinstance(store, Credential) else store
    arguments = {"token_url": server.url, "client_id": "app"} | (now.arguments if now else {}) | options
    return OAuthCredentials(store, **arguments)


def rejected(credential: Credential) -> CredentialRejected:
    return CredentialRejected("401", status=401, credential=credential)


async def renewed(ours: OAuthCredentials, failure: Any) -> Credential:
    """Refresh after a failure, or after the rejection of a credential; return the new credential."""
    new = await ours.refresh(rejected(failure) if isinstance(failure, Credential) else failure)
    assert new is not None
    return new


def background() -> None:
    """Wait for the end of the refreshes that run in the background."""
    while (thread := flights._thread) is not None and thread.is_alive():
        thread.join(10)


async def settled() -> None:
    """The same, in a coroutine."""
    await asyncio.to_thread(background)
