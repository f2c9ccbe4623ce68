"""Credentials that streams, processes and machines can share.

    a value       Credential
    a source      StaticCredentials, OAuthCredentials        (anything with `current()` and `refresh(failure)`)
    a store       MemoryStore, FileStore, RedisStore         (anything with `load()`, `save()`, `delete()`, `locked()`)
                  PiStore, KimiCodeStore, KimiCliStore       other programs' own files, under their own locks
                  LinkedStore                                one login that is in several of these
    a login       device_login                               RFC 8628

A refresh token that rotates can be used once. So whoever refreshes holds the store's lock, looks again at what is
stored, and asks the server only if nobody else has done it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rxauth.credentials._credential import Credential, CredentialSource
    from rxauth.credentials._device_login import device_login
    from rxauth.credentials._device_prompt import DevicePrompt, DeviceWaiting
    from rxauth.credentials._oauth import OAuthCredentials
    from rxauth.credentials._single_flight import SingleFlight
    from rxauth.credentials._static import StaticCredentials
    from rxauth.credentials._store import CredentialStore
    from rxauth.credentials._stores._file import FileStore
    from rxauth.credentials._stores._kimi import KimiCliStore, KimiCodeStore
    from rxauth.credentials._stores._linked import LinkedStore
    from rxauth.credentials._stores._memory import MemoryStore
    from rxauth.credentials._stores._pi import PiStore
    from rxauth.credentials._stores._redis import RedisStore
    from rxauth.failures import rejected_credential

__all__ = [
    "Credential",
    "CredentialSource",
    "CredentialStore",
    "StaticCredentials",
    "OAuthCredentials",
    "MemoryStore",
    "FileStore",
    "PiStore",
    "KimiCodeStore",
    "KimiCliStore",
    "LinkedStore",
    "RedisStore",
    "device_login",
    "DevicePrompt",
    "DeviceWaiting",
    "rejected_credential",
    "finish_refreshes",
    "is_refreshing",
]

# Imported when they are asked for: aiohttp, filelock and redis cost more than all of rxauth.
_HOMES = {
    "Credential": "_credential",
    "CredentialSource": "_credential",
    "CredentialStore": "_store",
    "StaticCredentials": "_static",
    "OAuthCredentials": "_oauth",
    "MemoryStore": "_stores._memory",
    "FileStore": "_stores._file",
    "PiStore": "_stores._pi",
    "KimiCodeStore": "_stores._kimi",
    "KimiCliStore": "_stores._kimi",
    "LinkedStore": "_stores._linked",
    "RedisStore": "_stores._redis",
    "device_login": "_device_login",
    "DevicePrompt": "_device_prompt",
    "DeviceWaiting": "_device_prompt",
    "rejected_credential": ".failures",
}


def finish_refreshes() -> None:
    """End every refresh under way in this process. One whose token request was sent is finished and stored first."""
    if flights := _flights():
        flights.close()


def is_refreshing() -> bool:
    """Return whether a token request was sent whose outcome is not stored yet."""
    flights = _flights()
    return flights is not None and flights.unbreakable


def _flights() -> SingleFlight | None:
    module = sys.modules.get(f"{__name__}._single_flight")
    return None if module is None else module.flights  # not imported: no refresh was begun


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
