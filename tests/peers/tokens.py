"""A token provider as a careful application writes it, for clients that have no OAuth of their own."""

from __future__ import annotations

import asyncio
import time

import httpx2

from rxauth.credentials import Credential

from .running import Login


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
            credential = await self._login.store.load()
            assert credential is not None
            expired = credential.expires_at is not None and credential.expires_at < time.time() + 30
            if expired or credential.access_token == rejected:
                credential = await self._renewed(credential)
                await self._login.store.save(credential)
            self.given_out = credential.access_token
            return credential

    async def _renewed(self, stored: Credential) -> Credential:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": stored.refresh_token,
            "client_id": self._login.client_id,
        }
        async with httpx2.AsyncClient(timeout=self._login.first) as client:
            response = await client.post(self._login.token_url, data=form)
        response.raise_for_status()
        answer = response.json()
        expires_at = time.time() + answer["expires_in"]
        return Credential(answer["access_token"], answer.get("refresh_token", stored.refresh_token), expires_at)
