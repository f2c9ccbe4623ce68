"""The sources and refreshes of the recovery's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import reactivex as rx
from reactivex import operators as ops

from rxauth import to_async_iterable
from rxauth.errors import CredentialRejected
from rxauth.testing import marbles


def rejected() -> CredentialRejected:
    return CredentialRejected("no", status=401)


def sync_source(*attempts: str) -> rx.Observable[Any]:
    """Make a source that emits inside `subscribe`; the last attempt is used again when no other is left."""
    left = list(attempts)

    def attempt(_: Any) -> rx.Observable[Any]:
        return rx.of(*(left.pop(0) if len(left) > 1 else left[0])).pipe(ops.map(marbles.event))

    return rx.defer(attempt)


def one_after_the_other(*outcomes: Any) -> Callable[[Any], Any]:
    """Make a refresh that raises or returns each outcome in turn; the last one again and again."""
    left = list(outcomes)

    def refresh(_: Any) -> Any:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return refresh


async def types(stream: rx.Observable[Any]) -> list[str]:
    return [event.type async for event in to_async_iterable(stream)]


RECOVERED, REFUSED = ["start", "text_delta"], ["start", "error"]
