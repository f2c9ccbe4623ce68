"""What the operators promise, written as plainly as possible: lists in, lists out, no Rx.

A stream is a list of `(time, item)`: an item is an event (a one letter string or a longer label) or an `End`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Event:
    type: str
    label: str = ""
    status: int | None = None

    def __repr__(self) -> str:
        return self.label or self.type


@dataclass(frozen=True)
class End:
    """`error` is None for a completion."""

    error: Exception | None = None


Script: TypeAlias = Sequence[tuple[int, Event | End]]


@dataclass(frozen=True)
class RefreshOutcome:
    """After `delay` ticks: a value, or an exception."""

    delay: int
    value: Any = None
    error: Exception | None = None


@dataclass
class Expected:
    notifications: list[tuple[int, Any]] = field(default_factory=list)
    subscriptions: list[tuple[int, int]] = field(default_factory=list)
    refreshes: int = 0


def is_auth(failure: Any) -> bool:
    return getattr(failure, "status", None) == 401


def recovered(
    attempts: Sequence[Script], refresh: RefreshOutcome, *, start: int, disposed: int, max_held: int = 64
) -> Expected:
    """What the consumer of a recovered stream sees, and what the source sees."""
    expected = Expected()
    _attempt(expected, attempts, 0, refresh, start, disposed, max_held)
    expected.notifications = [each for each in expected.notifications if each[0] < disposed]
    return expected


def _attempt(
    expected: Expected,
    attempts: Sequence[Script],
    number: int,
    refresh: RefreshOutcome,
    start: int,
    disposed: int,
    max_held: int,
) -> None:
    if start >= disposed:
        return
    held: list[Event] = []
    live = False

    def emit(at: int, *items: Any) -> None:
        expected.notifications += [(at, item) for item in items]

    def failed(at: int, failure: Any, *last: Any) -> None:
        if number == 0 and failure is not None and is_auth(failure) and at < disposed:
            expected.refreshes += 1
            after = at + refresh.delay
            if refresh.error is None and refresh.value:
                _attempt(expected, attempts, 1, refresh, after, disposed, max_held)
                return
            at = after
        emit(at, *held, *last)

    for time, item in attempts[number]:
        at = start + time
        if at >= disposed:
            break
        if isinstance(item, End):
            expected.subscriptions.append((start, at))
            if live:
                emit(at, item)
            else:
                failed(at, item.error, item)
            return
        if live:
            emit(at, item)
        elif item.type == "error":
            expected.subscriptions.append((start, at))
            failed(at, item, item, End())
            return
        elif item.type == "start" and len(held) < max_held:
            held.append(item)
        else:
            live = True
            emit(at, *held, item)
    expected.subscriptions.append((start, disposed))
