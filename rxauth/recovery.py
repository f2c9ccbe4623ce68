"""The events that `on_recovery` receives while a stream recovers: frozen values, free of secrets.

    AuthRejected  RefreshRetryScheduled*  (Refreshed  Resubscribed | RefreshUnchanged | RefreshFailed)
    AuthFailedAfterLive

`RefreshFailed` is the exception of `rxauth.errors`, a fresh one that shows its type and status alone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, TypeAlias

from rxauth.errors import RefreshFailed

__all__ = [
    "AuthFailedAfterLive",
    "AuthRejected",
    "RefreshRetryScheduled",
    "Refreshed",
    "RefreshUnchanged",
    "RefreshFailed",
    "Resubscribed",
    "RecoveryEvent",
    "RetryScheduled",
    "notify",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuthRejected:
    """The stream failed with an auth failure before anything was shown; the credential is being refreshed."""

    type: str
    status: int | None = None


@dataclass(frozen=True, slots=True)
class RefreshRetryScheduled:
    """Try number `attempt` (from 1) of the refresh failed; the next one starts in `delay` seconds."""

    attempt: int
    delay: float


@dataclass(frozen=True, slots=True)
class Refreshed:
    """There is a new credential."""


@dataclass(frozen=True, slots=True)
class RefreshUnchanged:
    """The refresh returned no new credential; the stream fails with the failure that it had."""


@dataclass(frozen=True, slots=True)
class Resubscribed:
    """The stream is being subscribed to once more."""


@dataclass(frozen=True, slots=True)
class AuthFailedAfterLive:
    """The stream failed with an auth failure after an event was delivered, so it was not tried again.

    If the event of type `live_type` can come before the server accepts the token, it belongs to the prelude: name it in
    `is_prelude`.
    """

    type: str
    status: int | None
    live_type: str


RecoveryEvent: TypeAlias = (
    AuthRejected
    | RefreshRetryScheduled
    | Refreshed
    | RefreshUnchanged
    | RefreshFailed
    | Resubscribed
    | AuthFailedAfterLive
)


@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """Attempt number `attempt` (from 1) failed before it was live; the next one starts in `delay` seconds.

    `retry_never_live` gives it to `on_retry`. `type` is the name of the failure's class, `status` its HTTP status.
    """

    attempt: int
    delay: float
    type: str
    status: int | None = None


def notify(listener: Any, value: object) -> None:
    """Call a function, or an Observer's `on_next`, with a value; log its exception."""
    if listener is None:
        return
    try:
        (listener.on_next if hasattr(listener, "on_next") else listener)(value)
    except Exception:
        logger.exception("A listener failed at %s; the stream goes on", type(value).__name__)
