"""Follow one subscription to a source, from its first event to its end: the state that the operators share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Generic, TypeVar, cast

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from rxauth.errors import NeverLiveError

E = TypeVar("E")


def operator_of(make: Callable[[abc.ObserverBase[E]], Any]) -> Callable[[Observable[E]], Observable[E]]:
    """Return an operator that makes a disposable state for each subscription, and connects it to the source."""

    def operator(source: Observable[E]) -> Observable[E]:
        def subscribe(observer: abc.ObserverBase[E], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            state = make(observer)
            state.connect(source, scheduler)
            return cast(abc.DisposableBase, state)

        return Observable(subscribe)

    operator.__qualname__ = make.__qualname__  # by which a picture names it
    return operator


class Attempt(SingleAssignmentDisposable, Generic[E]):
    """Judge events until one is live; then pass every event straight to the observer.

    A subclass overrides `judge` and `ended`, and perhaps `failed` and `completed`. Each subscription has an attempt of
    its own: a synchronous source goes on emitting after it was disposed, and must not feed the next attempt.

    Attributes:
        live: an event was delivered, or is being delivered.
        live_event: the event that made it live.
        last: the last event, for the first `watched` events after live: it may be the error event that ends the stream.
            Remembering it for longer would slow every event by a tenth.
        over: the source was disposed before its end; what it still emits is ignored.
        thrown: the observer's last exception. A source that calls the observer inside its own `subscribe` hands it to
            `on_error`, where it must not count as the stream's failure.
    """

    live = False
    live_event: E | None = None
    last: E | None = None
    watched = 0
    over = False
    thrown: Exception | None = None
    _flushing = False
    _end: Callable[[], object] | None = None  # a completion or an error that came during the flush

    def __init__(self, observer: abc.ObserverBase[E]) -> None:
        super().__init__()
        self.observer = observer
        self.set_handler: Callable[[Callable[[E], None]], None]  # sets the function that gets the next events

    def judge(self, event: E) -> None:
        """Handle an event before live."""
        self.go_live(event)

    def ended(self, error: Exception | None) -> None:
        """Handle the end of a source that was never live: an exception, or `None` for a completion."""
        if error is None:
            self.observer.on_completed()
        else:
            self.observer.on_error(error)

    def failed(self, error: Exception) -> None:
        """Handle the exception of a source that was live."""
        self.observer.on_error(error)

    def completed(self) -> None:
        """Handle the completion of a source that was live."""
        self.observer.on_completed()

    def connect(self, source: Observable[E], scheduler: abc.SchedulerBase | None) -> None:
        """Subscribe to the source."""
        handler: Callable[[E], None] = self.judge

        def set_handler(new: Callable[[E], None]) -> None:
            nonlocal handler
            handler = new

        # A closure, because it runs for every event: a method that looks up its handler costs a fifth more.
        def on_next(event: E) -> None:
            try:
                return handler(event)  # returning the result is cheaper than dropping it
            except Exception as error:
                self.thrown = error
                raise

        self.set_handler = set_handler
        try:
            self.disposable = source.subscribe(on_next, self.on_error, self.on_completed, scheduler=scheduler)
        except Exception as error:
            if not self.over or error is self.thrown:
                raise
            # The source is disposed: an exception that it raises now would end the next attempt.

    def watch(self, event: E) -> None:
        """Deliver an event after live, and remember it."""
        self.last = event
        self.watched -= 1
        if self.watched == 0:
            self.last = None
            self.set_handler(self.observer.on_next)
        self.observer.on_next(event)

    def unsubscribe(self) -> None:
        """Dispose the source alone; `dispose` of a subclass may dispose what follows too."""
        super().dispose()

    def leave(self, then: Callable[[], object]) -> None:
        """Dispose the source before its end, then call `then`."""
        self.over = True
        self.set_handler(_ignore)
        self.unsubscribe()
        try:
            then()
        except Exception as error:
            self.thrown = error
            raise

    def go_live(self, event: E, held: Iterable[E] = ()) -> None:
        """Deliver the held events and this one; from now on deliver each event in the call that brings it."""
        # Set before the delivery: an exception of the observer must not count as a failure before live.
        self.live = True
        self.live_event = event
        deliver = self.observer.on_next
        afterwards = self.watch if self.watched else deliver
        if not held:
            self.set_handler(afterwards)
            deliver(event)
            return
        queue = deque(held)
        queue.append(event)
        self.set_handler(queue.append)  # events that the observer causes wait their turn
        self._flushing = True
        try:
            while queue:
                deliver(queue.popleft())
        finally:
            self.set_handler(afterwards)
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
    """Drop an event that a disposed source still emits."""


def unwrapped(error: Any) -> Any:
    """Return the failure of a `NeverLiveError`, and anything else as it is."""
    return error.failure if isinstance(error, NeverLiveError) else error
