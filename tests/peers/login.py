"""The login that every client of the table is given, and a careful application's own way to keep it fresh."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rxauth import Credential, MemoryStore

if TYPE_CHECKING:
    import httpx2

FIRST, IDLE = 3.0, 1.0
"""Limits in seconds for all clients: until the first word, and without a byte."""


@dataclass(frozen=True)
class Login:
    """All that a client needs: a base URL, a stored login, and where to refresh it."""

    base_url: str
    store: MemoryStore
    token_url: str
    client_id: str
    first: float = FIRST
    idle: float = IDLE

    @property
    def timeout(self) -> httpx2.Timeout:
        import httpx2

        return httpx2.Timeout(self.first, read=self.idle)

    async def credential(self) -> Credential:
        stored = await self.store.load()
        assert stored is not None
        return stored

    async def granted(self, client: httpx2.AsyncClient, spent: Credential) -> Credential:
        """Ask for a new credential as an application does that writes this itself; it is not stored yet."""
        form = {"grant_type": "refresh_token", "refresh_token": spent.refresh_token, "client_id": self.client_id}
        response = await client.post(self.token_url, data=form)
        response.raise_for_status()
        answer = response.json()
        refresh_token = answer.get("refresh_token", spent.refresh_token)
        return Credential(answer["access_token"], refresh_token, time.time() + answer["expires_in"])

    async def renewed(self) -> Credential:
        import httpx2

        async with httpx2.AsyncClient(timeout=self.first) as client:
            credential = await self.granted(client, await self.credential())
        await self.store.save(credential)
        return credential


class Tokens:
    """Give out the stored token; refresh it when its time is over or when it was refused, one at a time."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._lock = asyncio.Lock()
        self.given_out = ""

    async def get(self) -> str:
        return (await self.credential()).access_token

    async def credential(self, *, rejected: str | None = None) -> Credential:
        """Return the stored credential if it is not the rejected one and is still valid, else a renewed one."""
        async with self._lock:
            credential = await self._login.credential()
            expired = credential.expires_at is not None and credential.expires_at < time.time() + 30
            if expired or credential.access_token == rejected:
                credential = await self._login.renewed()
            self.given_out = credential.access_token
            return credential
