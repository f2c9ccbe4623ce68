from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from reactivex import Observable, abc

from rxauth.errors import NeverLiveError
from rxauth.operators._attempt import Attempt, operator_of, unwrapped

E = TypeVar("E")


def flush_on_complete_or_error(
    *,
    discard_on_error: bool = False,
    error_event: Callable[[Exception], Any] | None = None,
) -> Callable[[Observable[E]], Observable[E]]:
    """Emit the events that a `buffer_until_live` still holds when the stream ends.

        NeverLiveError((s,), None)         result   (s|)
        NeverLiveError((s,), e)            result   (se|)
        NeverLiveError((s,), exception)    result   (s#)     the exception itself

    A stream that was live passes untouched. If a `NeverLiveError` arrives after something was delivered (from one
    branch of a merge), its events are dropped: put the operator into each branch.

    Args:
        discard_on_error: drop the held events if the stream failed.
        error_event: turn every exception, before live or after, into a last event, and complete. If it raises, the
            stream fails with that exception.

    Returns:
        An operator.

    >>> import reactivex as rx
    >>> from rxauth.operators import buffer_until_live
    >>> only_start = rx.of({"type": "start"})
    >>> _ = only_start.pipe(buffer_until_live(), flush_on_complete_or_error()).subscribe(print)
    {'type': 'start'}
    """
    options = Flush(discard_on_error, error_event)
    return operator_of(lambda observer: _Flushing(observer, options))


@dataclass(frozen=True, slots=True)
class Flush(Generic[E]):
    """Emit held events and end a stream, as the options of the operator say."""

    discard_on_error: bool
    error_event: Callable[[Exception], E] | None

    def flush(self, observer: abc.ObserverBase[E], held: Iterable[E], failure: Any) -> None:
        """Emit the held events; then end the stream."""
        if failure is None or not self.discard_on_error:
            for event in held:
                observer.on_next(event)
        self.finish(observer, failure)

    def finish(self, observer: abc.ObserverBase[E], failure: Any) -> None:
        """End with an error event, an exception, or `None` for a completion."""
        if isinstance(failure, BaseException):  # RxPY can send a CancelledError, which is no Exception
            error = cast(Exception, failure)
            if self.error_event is None:
                observer.on_error(error)
                return
            try:
                event = self.error_event(error)
            except Exception as raised:
                observer.on_error(raised)
                return
            observer.on_next(event)
        elif failure is not None:
            observer.on_next(failure)
        observer.on_completed()


class _Flushing(Attempt[E]):
    def __init__(self, observer: abc.ObserverBase[E], options: Flush[E]) -> None:
        super().__init__(observer)
        self.options = options

    def ended(self, error: Exception | None) -> None:
        held = error.held if isinstance(error, NeverLiveError) else ()
        self.options.flush(self.observer, held, unwrapped(error))

    def failed(self, error: Exception) -> None:
        self.options.finish(self.observer, unwrapped(error))
