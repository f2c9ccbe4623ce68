"""Give the marble helpers one virtual clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reactivex import Observable
from reactivex.testing import TestScheduler
from reactivex.testing.coldobservable import ColdObservable
from reactivex.testing.hotobservable import HotObservable

from rxauth.testing import marbles

__all__ = ["VirtualTime"]


class VirtualTime:
    """The helpers of `rxauth.testing.marbles` with one `TestScheduler` for all of them.

    >>> time = VirtualTime()
    >>> source = time.cold("s---a-----b--|")
    >>> time.see(source)
    's---a-----b--|'
    >>> time.subscriptions(source)
    ['^------------!']
    """

    def __init__(self) -> None:
        self.scheduler = TestScheduler()
        self._begun = self.scheduler.clock

    def cold(
        self, diagram: str, events: Mapping[str, Any] | None = None, error: Exception | None = None
    ) -> ColdObservable[Any]:
        """A source that begins anew for each subscriber."""
        return marbles.cold(self.scheduler, diagram, events, error)

    def hot(
        self, diagram: str, events: Mapping[str, Any] | None = None, error: Exception | None = None
    ) -> HotObservable[Any]:
        """A source that emits with or without subscribers."""
        return marbles.hot(self.scheduler, diagram, events, error)

    def attempts(
        self, *diagrams: str, events: Mapping[str, Any] | None = None, error: Exception | None = None
    ) -> marbles.Attempts:
        """A cold source with a diagram for each subscription."""
        return marbles.attempts(self.scheduler, *diagrams, events=events, error=error)

    def see(
        self,
        source: Observable[Any] | Callable[[], Observable[Any]],
        events: Mapping[str, Any] | None = None,
        *,
        until: float | None = None,
    ) -> str:
        """Subscribe now, run until nothing is left to do, and draw the result. Column 0 is now.

        Args:
            source: or a function that returns it.
            events: by letter, the events that are not `marbles.event(letter)`.
            until: ticks from now after which to dispose; `None`: never.
        """
        now = self._begun = self.scheduler.clock
        end = None if until is None else now + until
        return marbles.draw(marbles.observe(self.scheduler, source, at=now, until=end), events, start=now)

    def subscriptions(self, source: ColdObservable[Any] | HotObservable[Any] | marbles.Attempts) -> list[str]:
        """Return when a source was subscribed and disposed in the last `see`: diagrams in the same columns."""
        since = (each for each in source.subscriptions if each.subscribe >= self._begun)
        return [marbles.draw_subscription(each, self._begun) for each in since]
