"""One subscription to a source, from its first event to its end: the state that the operators have in common."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from rxauth.errors import NeverLiveError

E = TypeVar("E")


class Attempt(SingleAssignmentDisposable, Generic[E]):
    """Judge events until one is live; then pass everything straight to the observer.

    A subclass decides in `judge` and `ended`, and perhaps in `failed` and `completed`. The state is that of one
    subscription: a synchronous source goes on emitting after it was disposed, and must not feed the next attempt.

    Attributes:
        live: an event was delivered, or is being delivered.
        live_event: the event that made it live.
        last: the last event, while no more than `watched` have come since then: it may be the error event that ends the
            stream. To remember it for ever would cost every event a tenth more.
        over: the attempt has left the source before its end; the rest is ignored.
        thrown: the observer's last exception. A source that raises inside its own `subscribe` brings it back as an
            error, and it must not be taken for the stream's failure.
    """

    live = False
    live_event: E | None = None
    last: E | None = None
    watched = 0
    over = False
    thrown: Exception | None = None
    _flushing = False
    _end: Callable[[], object] | None = None  # a terminal that came during the flush

    def __init__(self, observer: abc.ObserverBase[E]) -> None:
        super().__init__()
        self.observer = observer
        self.become: Callable[[Callable[[E], None]], None]  # sets how the next events are handled

    def judge(self, event: E) -> None:
        """Handle an event before live."""
        self.go_live(event)

    def ended(self, error: Exception | None) -> None:
        """Handle the end of a source that was never live: an exception, or `None` for a completion."""
        raise NotImplementedError

    def failed(self, error: Exception) -> None:
        """Handle the exception of a source that was live."""
        self.observer.on_error(error)

    def completed(self) -> None:
        """Handle the completion of a source that was live."""
        self.observer.on_completed()

    def connect(self, source: Observable[E], scheduler: abc.SchedulerBase | None) -> None:
        """Subscribe to the source."""
        step: Callable[[E], None] = self.judge

        def become(handle: Callable[[E], None]) -> None:
            nonlocal step
            step = handle

        # A closure, because it runs for every event: a method that looks up its step costs a fifth more.
        def on_next(event: E) -> None:
            try:
                return step(event)  # to return it costs less than to drop it
            except Exception as error:
                self.thrown = error
                raise

        self.become = become
        try:
            self.disposable = source.subscribe(on_next, self.on_error, self.on_completed, scheduler=scheduler)
        except Exception as error:
            if not self.over or error is self.thrown:
                raise
            # The source was left: an exception that it raises now would end the next attempt.

    def watch(self, event: E) -> None:
        """Deliver an event after live, and remember it."""
        self.last = event
        self.watched -= 1
        if self.watched == 0:
            self.last = None
            self.become(self.observer.on_next)
        self.observer.on_next(event)

    def leave(self, then: Callable[[], object]) -> None:
        """Dispose the source before its end, and go on with `then`."""
        self.over = True
        self.become(_ignore)
        self.dispose()
        try:
            then()
        except Exception as error:
            self.thrown = error
            raise

    def go_live(self, event: E, held: Iterable[E] = ()) -> None:
        """Deliver what is held and the event, and from now on every event in the call that brings it."""
        # Live before the delivery: what the observer raises out of it is no failure of the source.
        self.live = True
        self.live_event = event
        deliver = self.observer.on_next
        afterwards = self.watch if self.watched else deliver
        if not held:
            self.become(afterwards)
            deliver(event)
            return
        queue = deque(held)
        queue.append(event)
        self.become(queue.append)  # events that the observer causes wait their turn
        self._flushing = True
        try:
            while queue:
                deliver(queue.popleft())
        finally:
            self.become(afterwards)
            self._flushing = False
            if self._end is not None:
                self._end()

    def on_error(self, error: Exception) -> None:
        if self.over:
            if error is self.thrown:
                raise error
        elif self._flushing:
            self._end = partial(self.failed, error)
        elif error is self.thrown:
            self.observer.on_error(error)
        elif self.live:
            self.failed(error)
        else:
            self.ended(error)

    def on_completed(self) -> None:
        if self.over:
            return
        if self._flushing:
            self._end = self.completed
        elif self.live:
            self.completed()
        else:
            self.ended(None)


def _ignore(event: Any) -> None:
    """Drop an event that comes after its source was left."""


def unwrapped(error: Any) -> Any:
    """Return the failure of a `NeverLiveError`, and anything else as it is."""
    return error.failure if isinstance(error, NeverLiveError) else error
