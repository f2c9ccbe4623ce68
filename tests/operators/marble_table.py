"""Runs one row of a marble table: the attempts of a source, a refresh, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import reactivex as rx
from reactivex import Observable, abc
from reactivex.testing import TestScheduler

from rxauth import NeverLiveError
from rxauth.errors import ProviderUnavailable
from rxauth.events import AssistantMessage, Error
from rxauth.testing import marbles

unavailable = ProviderUnavailable("503: busy", status=503)

EVENTS = {"x": Error("error", AssistantMessage(), unavailable)}
"""`e` and `#` are auth failures; `x` is an error event that is none."""


class Row:
    """Sources by attempt, on a virtual clock; further attempts are the last one again."""

    def __init__(self, *attempts: str, error: Exception | None = None, events: dict[str, Any] | None = None) -> None:
        self.scheduler = TestScheduler()
        self.events = EVENTS | (events or {})
        self.sources = [marbles.cold(self.scheduler, each, self.events, error) for each in attempts]
        self.attempts = 0
        self.failures: list[Any] = []

    @property
    def source(self) -> Observable[Any]:
        def attempt(_: abc.SchedulerBase) -> Observable[Any]:
            self.attempts += 1
            return self.sources[min(self.attempts, len(self.sources)) - 1]

        return rx.defer(attempt)

    def refresh(self, diagram: str, error: Exception | None = None) -> Callable[[Any], Any]:
        """A refresh that takes as long as the diagram says: `r` is a new credential, `n` none, `#` an exception."""

        def refreshed(failure: Any) -> Any:
            self.failures.append(failure)
            return marbles.cold(self.scheduler, diagram, {"r": "fresh", "n": None}, error or ValueError("no refresh"))

        return refreshed

    def run(self, *operators: Any, until: float | None = None) -> str:
        return marbles.draw(
            marbles.observe(self.scheduler, self.source.pipe(*operators), until=until),
            self.events,
        )

    def ends(self, *operators: Any) -> Exception:
        """The exception that the stream ends with."""
        recorded: Any = marbles.observe(self.scheduler, self.source.pipe(*operators))[-1].value
        error: Exception = recorded.exception
        return error

    def subscriptions(self) -> list[str]:
        """As diagrams, in the order of the attempts."""
        return [diagram_of(each) for source in self.sources for each in source.subscriptions]


def never_live(error: Exception) -> tuple[Sequence[str], str]:
    """The types of the events that a `NeverLiveError` holds, and its failure."""
    assert isinstance(error, NeverLiveError)
    failure = error.failure
    return [event.type for event in error.held], "None" if failure is None else getattr(failure, "type", None) or repr(
        failure
    )


def diagram_of(each: Any) -> str:
    """Of when a source was subscribed to, and until when."""
    ended = each.unsubscribe < 1e9
    return "-" * int(each.subscribe) + "^" + ("-" * int(each.unsubscribe - each.subscribe - 1) + "!" if ended else "")
