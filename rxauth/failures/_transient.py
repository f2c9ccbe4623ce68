"""Say whether a failure may pass by itself, how long to wait for that, and how to name it without its text."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from rxauth.errors import CredentialError, NeverLiveError, RefreshFailed, TransientError
from rxauth.failures._rules import _get, status_of

TRANSIENT_STATUS = frozenset({408, 425, 429, *range(500, 600)})

# An exception of a library that was never imported cannot be here: no need to import it in order to ask.
_CONNECTION_ERRORS = (
    ("aiohttp", "ClientConnectionError"),
    ("aiohttp", "ClientPayloadError"),
    ("httpx", "TransportError"),
    ("httpx2", "TransportError"),
    ("anthropic", "APIConnectionError"),
    ("openai", "APIConnectionError"),
)


def is_transient(failure: Any) -> bool:
    """Whether the same call may succeed when it is made again.

    Yes: `OSError` (timeouts, connections), `rxauth.TransientError`, the connection errors of aiohttp, httpx, httpx2 and
    the official SDKs, a status of 408, 425, 429 or 5xx. No: what `OAuthCredentials` raises, which has tried again
    itself, and everything else.

    >>> is_transient(TimeoutError()), is_transient(ValueError()), is_transient({"type": "error", "status": 529})
    (True, False, True)
    """
    failure = failure.failure if isinstance(failure, NeverLiveError) else failure
    cause = failure if isinstance(failure, BaseException) else _get(failure, "cause")
    if isinstance(cause, CredentialError):
        return False
    return isinstance(cause, (OSError, TransientError, *_connection_errors())) or status_of(failure) in TRANSIENT_STATUS


def _connection_errors() -> tuple[type[BaseException], ...]:
    found = (getattr(sys.modules.get(module), name, None) for module, name in _CONNECTION_ERRORS)
    return tuple(each for each in found if isinstance(each, type))


def retry_after_of(failure: Any) -> float | None:
    """The seconds that the server asked to wait, where the failure carries them as `retry_after`.

    >>> retry_after_of({"type": "error", "cause": TransientError("busy", retry_after=2.0)})
    2.0
    """
    failure = failure.failure if isinstance(failure, NeverLiveError) else failure
    for part in (failure, _get(failure, "cause")):
        seconds = _get(part, "retry_after")
        if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < math.inf:
            return float(seconds)
    return None


def name_of(failure: Any) -> str:
    """The name of the failure's class, or of its cause's: a name from code, never a server's text.

    >>> name_of(ValueError("a secret")), name_of({"type": "error", "cause": TimeoutError()})
    ('ValueError', 'TimeoutError')
    """
    if isinstance(failure, RefreshFailed):
        return failure.type
    cause = failure if isinstance(failure, BaseException) else _get(failure, "cause")
    return type(cause if isinstance(cause, BaseException) else failure).__name__


def seconds_to_wait(headers: Mapping[str, str], *, now: float) -> float | None:
    """Read `Retry-After` as seconds or as a date (RFC 9110 section 10.2.3), or `retry-after-ms`.

    A date is compared with the response's own `Date` where it has one: the two clocks need not agree.

    Args:
        headers: of the response; names in any case.
        now: Unix seconds.

    >>> seconds_to_wait({"Retry-After": "7"}, now=0)
    7.0
    """
    for name, unit in (("retry-after-ms", 1000.0), ("Retry-After", 1.0)):
        value = headers.get(name, "").strip()
        # float() accepts what is no number of seconds: "inf", "1_000", "-1".
        if value and value.isascii() and value.replace(".", "", 1).isdigit() and len(value) < 16:
            return float(value) / unit
    until = _date(headers.get("Retry-After"))
    if until is None:
        return None
    sent = _date(headers.get("Date"))
    return max(0.0, until - (now if sent is None else sent))


def _date(value: str | None) -> float | None:
    from email.utils import parsedate_to_datetime  # most programs never meet such a date

    try:
        date = parsedate_to_datetime(value or "")
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
