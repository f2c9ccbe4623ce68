"""Say whether a failure may pass by itself, how long to wait for that, and how to name it without its text."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from rxauth.errors import CredentialError, NeverLiveError, RefreshFailed, TransientError
from rxauth.failures._rules import _get, _words, is_auth_error, judge_known, status_of, vocabulary

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


# Codes of error events, which have no status of their own: SDKs report 200 for them.
_TRANSIENT_WORDS = vocabulary(
    "api_error",
    "engine_overloaded_error",
    "internal_error",
    "internal_server_error",
    "overloaded",
    "overloaded_error",
    "rate_limit_error",
    "rate_limit_exceeded",
    "rate_limit_reached_error",
    "resource_exhausted",
    "server_error",
    "service_unavailable",
    "timeout_error",
    "too_many_requests",
    "unavailable",
)

# A limit that time does not lift soon; providers send it with 429.
_USED_UP = vocabulary(
    "billing_error",
    "billing_hard_limit_reached",
    "exceeded_current_quota_error",
    "insufficient_quota",
    "quota_exceeded",
    "usage_limit_reached",
)


def is_transient(failure: Any) -> bool:
    """Whether the same call may succeed when it is made again.

    Yes: `OSError` (timeouts, connections), `rxauth.TransientError`, the connection errors of aiohttp, httpx, httpx2 and
    the official SDKs, a status of 408, 425, 429 or 5xx, or without a status a code such as `overloaded_error`. No: an
    auth failure, a quota that is used up, an exception of `OAuthCredentials`, which has tried again itself, and
    everything else.

    >>> is_transient(TimeoutError()), is_transient(ValueError()), is_transient({"type": "error", "status": 529})
    (True, False, True)
    """
    failure = failure.failure if isinstance(failure, NeverLiveError) else failure
    cause = failure if isinstance(failure, BaseException) else _get(failure, "cause")
    if isinstance(cause, CredentialError):
        return False
    words = _words(failure)
    if not words.isdisjoint(_USED_UP) or judge_known(is_auth_error, failure):
        return False
    if isinstance(cause, (OSError, TransientError, *_connection_errors())):
        return True
    status = status_of(failure)
    return status in TRANSIENT_STATUS if status is not None else not words.isdisjoint(_TRANSIENT_WORDS)


def _connection_errors() -> tuple[type[BaseException], ...]:
    found = (getattr(sys.modules.get(module), name, None) for module, name in _CONNECTION_ERRORS)
    return tuple(each for each in found if isinstance(each, type))


def retry_after_of(failure: Any) -> float | None:
    """The seconds that the server asked to wait: `retry_after` of the failure, or its response's header.

    >>> retry_after_of({"type": "error", "cause": TransientError("busy", retry_after=2.0)})
    2.0
    """
    failure = failure.failure if isinstance(failure, NeverLiveError) else failure
    for part in (failure, _get(failure, "cause")):
        seconds = _get(part, "retry_after")
        if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < math.inf:
            return float(seconds)
        headers = _get(_get(part, "response"), "headers")
        if isinstance(headers, Mapping) and (told := seconds_to_wait(headers, now=time.time())) is not None:
            return told
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
