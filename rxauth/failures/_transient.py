"""Decide whether a failure is transient (the statuses stand in `_kinds`), and how long to wait before the retry."""

from __future__ import annotations

import math
import sys
import time
from datetime import UTC
from typing import Any

from rxauth.errors import CredentialError, TransientError, field
from rxauth.failures._kinds import Kind, kind_of
from rxauth.failures._reading import Reading, header, leaves
from rxauth.failures._words import FORBIDDEN, REQUEST

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
    if kind is Kind.AUTH:
        return False
    if reading.status is None and isinstance(cause, (OSError, *_connection_errors())):
        return reading.words.isdisjoint(FORBIDDEN | REQUEST)  # databricks' PermissionDenied is an OSError
    return kind is Kind.BUSY


def _connection_errors() -> tuple[type[BaseException], ...]:
    found = (getattr(sys.modules.get(module), name, None) for module, name in _CONNECTION_ERRORS)
    return tuple(each for each in found if isinstance(each, type))


def retry_after_of(failure: Any, *, now: float | None = None) -> float | None:
    """Return the seconds that the server asks to wait: a `retry_after`, or the headers of an SDK exception's response.

    Args:
        failure: an error event, an exception or a NeverLiveError.
        now: Unix seconds; used for a date in `Retry-After` where the response has no `Date`.

    >>> retry_after_of({"type": "error", "cause": TransientError("busy", retry_after=2.0)})
    2.0
    """
    for leaf in leaves(failure):
        for part in Reading(leaf).parts:
            seconds = field(part, "retry_after")
            if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < math.inf:
                return float(seconds)
            asked = seconds_to_wait(field(part, "headers"), now=time.time() if now is None else now)
            if asked is not None:
                return asked
    return None


def seconds_to_wait(headers: Any, *, now: float) -> float | None:
    """Read `Retry-After` as seconds or as a date (RFC 9110 section 10.2.3), or `retry-after-ms`.

    A date is compared with the response's own `Date` where it has one: the two clocks need not agree.

    Args:
        headers: of the response; anything with `get`.
        now: Unix seconds.

    >>> seconds_to_wait({"Retry-After": "7"}, now=0)
    7.0
    """
    for name, unit in (("retry-after-ms", 1000.0), ("Retry-After", 1.0)):
        value = header(headers, name)
        # float() would also accept "inf", "1_000" and "-1".
        if value.isascii() and value.replace(".", "", 1).isdigit() and len(value) < 16:
            return float(value) / unit
    until = _date(header(headers, "Retry-After"))
    if until is None:
        return None
    sent = _date(header(headers, "Date"))
    return max(0.0, until - (now if sent is None else sent))


def _date(value: str) -> float | None:
    if not value:
        return None
    from email.utils import parsedate_to_datetime  # here, because few servers send a date

    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
