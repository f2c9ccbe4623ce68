"""Arguments and waits that the tests of OAuthCredentials share."""

from __future__ import annotations

from typing import Any

from rxauth.credentials import Credential, OAuthCredentials
from rxauth.credentials._single_flight import flights
from rxauth.errors import CredentialRejected
from tests.credentials.token_server import TokenServer

__all__ = ["OLDER", "Time", "background", "rejected", "source"]

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


def source(server: TokenServer, store: Any, now: Time | None = None, **options: Any) -> OAuthCredentials:
    arguments = {"token_url": server.url, "client_id": "app"} | (now.arguments if now else {}) | options
    return OAuthCredentials(store, **arguments)


def rejected(credential: Credential) -> CredentialRejected:
    return CredentialRejected("401", status=401, credential=credential)


def background() -> None:
    """Wait for the end of the refreshes that run in the background."""
    while (thread := flights._thread) is not None and thread.is_alive():
        thread.join(10)
