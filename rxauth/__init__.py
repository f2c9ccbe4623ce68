"""Survive an expired token in a stream: composable ReactiveX operators for assistant events.

    stream.pipe(recover_auth(credentials.refresh))

or, one step each,

    stream.pipe(buffer_until_live(), retry_on_first_auth_error(credentials.refresh), flush_on_complete_or_error())

Every name is imported when it is first used: aiohttp with the first source, tenacity with the first recovery.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rxauth._version import __version__

if TYPE_CHECKING:
    from rxauth.bridge import from_async_iterable, to_async_iterable
    from rxauth.credentials import (
        Credential,
        CredentialSource,
        CredentialStore,
        FileStore,
        KimiCliStore,
        KimiCodeStore,
        MemoryStore,
        OAuthCredentials,
        PiStore,
        RedisStore,
        StaticCredentials,
    )
    from rxauth.errors import (
        AccountChanged,
        ConnectionFailed,
        ConsumerTooSlow,
        CredentialError,
        CredentialRejected,
        LoginRequired,
        NeverLiveError,
        ProtocolError,
        ProviderError,
        ProviderUnavailable,
        RefreshFailed,
        RequestRejected,
        RxAuthError,
        StoreError,
        StreamCut,
        TranscriptNotSaved,
        TransientError,
    )
    from rxauth.events import AssistantEvent, AssistantMessage
    from rxauth.failures import is_auth_error
    from rxauth.operators import (
        buffer_until_live,
        flush_on_complete_or_error,
        recover_auth,
        retry_on_first_auth_error,
        suppress_empty_response,
        switch_if_never_live,
    )
    from rxauth.recovery import AuthRejected, Refreshed, RefreshRetryScheduled, RefreshUnchanged, Resubscribed
    from rxauth.sources import anthropic_messages, openai_chat
    from rxauth.transcript import Transcript, collect_message

__all__ = [
    "__version__",
    # operators
    "buffer_until_live",
    "retry_on_first_auth_error",
    "flush_on_complete_or_error",
    "recover_auth",
    "switch_if_never_live",
    "suppress_empty_response",
    "is_auth_error",
    # bridge
    "from_async_iterable",
    "to_async_iterable",
    # events
    "AssistantEvent",
    "AssistantMessage",
    "Transcript",
    "collect_message",
    # sources
    "anthropic_messages",
    "openai_chat",
    # credentials
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
    "RedisStore",
    # what on_recovery is told
    "AuthRejected",
    "RefreshRetryScheduled",
    "Refreshed",
    "RefreshUnchanged",
    "RefreshFailed",
    "Resubscribed",
    # errors
    "RxAuthError",
    "NeverLiveError",
    "ConsumerTooSlow",
    "TransientError",
    "CredentialError",
    "LoginRequired",
    "AccountChanged",
    "StoreError",
    "ProviderError",
    "CredentialRejected",
    "RequestRejected",
    "ProviderUnavailable",
    "ConnectionFailed",
    "StreamCut",
    "ProtocolError",
    "TranscriptNotSaved",
]

# What a library logs is for whoever asks for it: without a handler Python would print the warnings.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOMES = {
    "rxauth.operators": (
        "buffer_until_live",
        "retry_on_first_auth_error",
        "flush_on_complete_or_error",
        "recover_auth",
        "switch_if_never_live",
        "suppress_empty_response",
    ),
    "rxauth.failures": ("is_auth_error",),
    "rxauth.bridge": ("from_async_iterable", "to_async_iterable"),
    "rxauth.events": ("AssistantEvent", "AssistantMessage"),
    "rxauth.transcript": ("Transcript", "collect_message"),
    "rxauth.sources": ("anthropic_messages", "openai_chat"),
    "rxauth.credentials": (
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
        "RedisStore",
    ),
    "rxauth.recovery": ("AuthRejected", "RefreshRetryScheduled", "Refreshed", "RefreshUnchanged", "Resubscribed"),
    "rxauth.errors": (
        "RxAuthError",
        "NeverLiveError",
        "ConsumerTooSlow",
        "TransientError",
        "CredentialError",
        "LoginRequired",
        "AccountChanged",
        "RefreshFailed",
        "StoreError",
        "ProviderError",
        "CredentialRejected",
        "RequestRejected",
        "ProviderUnavailable",
        "ConnectionFailed",
        "StreamCut",
        "ProtocolError",
        "TranscriptNotSaved",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
_MODULES = {
    "backoff",
    "bridge",
    "credentials",
    "errors",
    "events",
    "failures",
    "marbles",
    "operators",
    "providers",
    "recovery",
    "sources",
    "testing",
    "transcript",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = globals()[name] = getattr(import_module(_HOME[name]), name)
        return value
    if name in _MODULES:
        return import_module(f"rxauth.{name}")
    raise AttributeError(f"module 'rxauth' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
