"""Runs one row of a marble table: the attempts of a source, a refresh, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import reactivex as rx
from reactivex import operators as ops
from reactivex.testing import TestScheduler

from rxauth import to_async_iterable
from rxauth.errors import ProviderUnavailable
from rxauth.events import AssistantMessage, Error
from rxauth.testing import marbles

unavailable = ProviderUnavailable("503: busy", status=503)

EVENTS = {"x": Error("error", AssistantMessage(), unavailable)}
"""`e` and `#` are auth failures; `x` is an error event that is none."""

RECOVERED, REFUSED = ["start", "text_delta"], ["start", "error"]


class Row:
    """Sources by attempt, on a virtual clock; further attempts are the last one again."""

    def __init__(self, *attempts: str, error: Exception | None = None, events: dict[str, Any] | None = None) -> None:
        self.scheduler = TestScheduler()
        self.events = EVENTS | (events or {})
        self.source = marbles.attempts(self.scheduler, *attempts, events=self.events, error=error)
        self.failures: list[Any] = []

    @property
    def attempts(self) -> int:
        return len(self.source.subscriptions)

    def refresh(self, diagram: str, error: Exception | None = None) -> Callable[[Any], Any]:
        """A refresh that takes as long as the diagram says: `r` is a new credential, `n` none, `#` an exception."""

        def refreshed(failure: Any) -> Any:
            self.failures.append(failure)
            return marbles.cold(self.scheduler, diagram, {"r": "fresh", "n": None}, error or ValueError("no refresh"))

        return refreshed

    def run(self, *operators: Any, until: float | None = None) -> str:
        stream = self.source.pipe(*operators)
        return marbles.draw(marbles.observe(self.scheduler, stream, until=until), self.events)

    def ends(self, *operators: Any) -> Any:
        """The exception that the stream ends with."""
        recorded: Any = marbles.observe(self.scheduler, self.source.pipe(*operators))[-1].value
        return recorded.exception

    def subscriptions(self) -> list[str]:
        """As diagrams, in the order of the attempts."""
        return [marbles.draw_subscription(each) for each in self.source.subscriptions]


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


def emitting(letters: str) -> rx.Observable[Any]:
    """Make a source that emits inside `subscribe` and does not end, as a callback does."""

    def emit(observer: Any, _: Any) -> Any:
        for each in letters:
            observer.on_next(marbles.event(each))

    return rx.create(emit)


async def types(stream: rx.Observable[Any]) -> list[str]:
    return [event.type async for event in to_async_iterable(stream)]
