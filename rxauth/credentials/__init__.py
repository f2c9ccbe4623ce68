"""Credentials that streams, processes and machines can share.

    a value       Credential
    a source      StaticCredentials, OAuthCredentials        (anything with `current()` and `refresh(failure)`)
    a store       MemoryStore, FileStore, RedisStore         (anything with `load()`, `save()`, `delete()`, `locked()`)
                  PiStore, KimiCodeStore, KimiCliStore       other programs' own files, under their own locks
    a login       device_login                               RFC 8628

A refresh token that rotates can be used once. So a refresh holds the store's lock, looks again at the stored
credential, and asks the server only if no other process has done so.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rxauth.credentials._credential import Credential as Credential
    from rxauth.credentials._credential import CredentialSource as CredentialSource
    from rxauth.credentials._credential import StaticCredentials as StaticCredentials
    from rxauth.credentials._device_login import DevicePrompt as DevicePrompt
    from rxauth.credentials._device_login import DeviceWaiting as DeviceWaiting
    from rxauth.credentials._device_login import device_login as device_login
    from rxauth.credentials._oauth import OAuthCredentials as OAuthCredentials
    from rxauth.credentials._single_flight import SingleFlight
    from rxauth.credentials._store import CredentialStore as CredentialStore
    from rxauth.credentials._stores._file import FileStore as FileStore
    from rxauth.credentials._stores._kimi import KimiCliStore as KimiCliStore
    from rxauth.credentials._stores._kimi import KimiCodeStore as KimiCodeStore
    from rxauth.credentials._stores._linked import LinkedStore as LinkedStore
    from rxauth.credentials._stores._memory import MemoryStore as MemoryStore
    from rxauth.credentials._stores._pi import PiStore as PiStore
    from rxauth.credentials._stores._redis import RedisStore as RedisStore
    from rxauth.failures import rejected_credential as rejected_credential

# Imported at their first use: aiohttp, filelock and redis cost more than all of rxauth.
_MODULES = {
    "Credential": "_credential",
    "CredentialSource": "_credential",
    "CredentialStore": "_store",
    "StaticCredentials": "_credential",
    "OAuthCredentials": "_oauth",
    "MemoryStore": "_stores._memory",
    "FileStore": "_stores._file",
    "PiStore": "_stores._pi",
    "KimiCodeStore": "_stores._kimi",
    "KimiCliStore": "_stores._kimi",
    "LinkedStore": "_stores._linked",
    "RedisStore": "_stores._redis",
    "device_login": "_device_login",
    "DevicePrompt": "_device_login",
    "DeviceWaiting": "_device_login",
    "rejected_credential": ".failures",
}

__all__ = [*_MODULES, "finish_refreshes", "is_refreshing"]


def finish_refreshes() -> bool:
    """End every refresh under way in this process, and return whether they ended in time.

    One whose token request was sent is waited for, so that its answer is stored; after 20 s that is given up, with an
    error in the log. The others are cancelled.
    """
    flights = _flights()
    return flights is None or flights.close()


def is_refreshing() -> bool:
    """Return whether a token request was sent whose answer is not stored yet."""
    flights = _flights()
    return flights is not None and flights.unbreakable


def _flights() -> SingleFlight | None:
    module = sys.modules.get(f"{__name__}._single_flight")
    return None if module is None else module.flights  # not imported: no refresh was begun


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
