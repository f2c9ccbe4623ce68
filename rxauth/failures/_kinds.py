"""Sort failures by the caller's next action: refresh, try again, or change something."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Any

from rxauth.errors import (
    CredentialError,
    CredentialRejected,
    ProviderUnavailable,
    RequestRejected,
    TransientError,
    field,
)
from rxauth.failures import _words as known
from rxauth.failures._reading import Reading, leaves

TRANSIENT_STATUS = frozenset({408, 425, 429, *range(500, 600)})

# Looked up in sys.modules: no failure is an instance of a class that was never imported.
_CONNECTION_ERRORS = (
    ("aiohttp", "ClientConnectionError"),
    ("aiohttp", "ClientPayloadError"),
    ("httpx", "TransportError"),
    ("httpx2", "TransportError"),
    ("anthropic", "APIConnectionError"),
    ("openai", "APIConnectionError"),
    ("botocore.exceptions", "ConnectionError"),
    ("botocore.exceptions", "HTTPClientError"),
)


class Kind(Enum):
    """The caller's next action after a provider's failure."""

    AUTH = "refresh the credential"
    BUSY = "try again later"
    REFUSED = "change the request, the plan or the permissions"
    UNKNOWN = "read the message"


def kind_of(reading: Reading) -> Kind:
    """Return the caller's next action. The first question with an answer decides: the surest evidence comes first."""
    for cls, kind in _OWN_ERRORS:
        if isinstance(reading.own_error, cls):
            return kind
    texts = [text.lower() for text in reading.texts]
    code = reading.status or _status_in(texts)

    def has(words: frozenset[str]) -> bool:
        return not words.isdisjoint(reading.words)

    def says(pattern: str) -> bool:
        return any(known.search(pattern, text) for text in texts)

    if code not in (None, 400, 401, 403):
        return Kind.BUSY if code in TRANSIENT_STATUS and not has(known.USED_UP) else Kind.REFUSED
    if has(known.DENIED) or says(known.DENIED_TEXT):
        return Kind.REFUSED
    if has(known.REJECTED if code == 400 else known.AUTH):
        return Kind.AUTH
    if code is None and has(known.BUSY):
        return Kind.BUSY
    if says(known.CERTAIN_TEXT):
        return Kind.AUTH
    if has(known.FORBIDDEN) or says(known.FORBIDDEN_TEXT):
        return Kind.REFUSED
    if code is not None:
        return Kind.AUTH if code == 401 else Kind.REFUSED
    if has(known.UNAUTHORIZED):
        return Kind.AUTH
    if has(known.REQUEST):
        return Kind.REFUSED
    return Kind.AUTH if says(known.AUTH_TEXT) else Kind.UNKNOWN


def is_transient(failure: Any) -> bool:
    """Return whether the same call may succeed when it is made again.

    Yes: `rxauth.TransientError`; a status of 408, 425, 429 or 5xx, a code such as `overloaded_error`; where there is no
    status, `OSError` (timeouts, connections) and the connection errors of aiohttp, httpx, httpx2, botocore and the
    official SDKs. No: an auth failure, the errors of `OAuthCredentials`, which has retried already, and all else.

    >>> is_transient(TimeoutError()), is_transient(ValueError()), is_transient({"type": "error", "status": 529})
    (True, False, True)
    """
    return all(map(_is_transient, leaves(failure)))


def _is_transient(failure: Any) -> bool:
    reading = Reading(failure)
    cause = failure if isinstance(failure, BaseException) else field(failure, "cause")
    if isinstance(cause, CredentialError) or reading.refresh_failed:
        return False
    kind = kind_of(reading)
    if isinstance(cause, TransientError):
        # A status on it was judged where it was made: a token endpoint's 401 without a code is transient.
        return kind is not Kind.AUTH or field(cause, "status") is not None
    if kind is not Kind.AUTH and reading.status is None and isinstance(cause, (OSError, *_connection_errors())):
        return reading.words.isdisjoint(known.FORBIDDEN | known.REQUEST)  # databricks' PermissionDenied is an OSError
    return kind is Kind.BUSY


def _connection_errors() -> tuple[type[BaseException], ...]:
    found = (getattr(sys.modules.get(module), name, None) for module, name in _CONNECTION_ERRORS)
    return tuple(each for each in found if isinstance(each, type))


def _status_in(texts: list[str]) -> int | None:
    """Find a status in the text of a message: "HTTP 401", "403: ..."."""
    for each in texts:
        first = known.search(known.STATUS_AT_START, each)
        if first is not None:
            # "401 ms elapsed" has no status; "500 upstream gateway said 401" has 500.
            if first["code"] != "401" or first["follows"] is not None:
                return int(first["code"])
            continue
        found = known.search(known.STATUS_TEXT, each)
        if found is not None:
            return int(found["http"] or found["status"] or found["code"] or found["before"])
    return None


_OWN_ERRORS = ((CredentialRejected, Kind.AUTH), (RequestRejected, Kind.REFUSED), (ProviderUnavailable, Kind.BUSY))
