"""Read how long a server asks to wait."""

from __future__ import annotations

import math
import time
from datetime import UTC
from typing import Any

from rxauth.errors import field
from rxauth.failures._reading import Reading, header, leaves


def retry_after_of(failure: Any, *, now: float | None = None) -> float | None:
    """Return the seconds that the server asks to wait: a `retry_after`, or the headers of an SDK exception's response.

    Args:
        failure: an error event, an exception or a NeverLiveError.
        now: Unix seconds; used for a date in `Retry-After` where the response has no `Date`.

    >>> from rxauth import TransientError
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
    asked = header(headers, "Retry-After")
    until = _date(asked) if asked else None
    if until is None:
        return None
    sent = _date(header(headers, "Date"))
    return max(0.0, until - (now if sent is None else sent))


def _date(value: str) -> float | None:
    from email.utils import parsedate_to_datetime  # here, because few servers send a date

    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
