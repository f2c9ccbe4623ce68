from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc

from rxauth.errors import NeverLiveError

E = TypeVar("E")


def flush_on_complete_or_error(
    *,
    discard_on_error: bool = False,
    error_event: Callable[[Exception], E] | None = None,
) -> Callable[[Observable[E]], Observable[E]]:
    """Let go of what is still held, however the stream ends.

        NeverLiveError((s,), None)         result   (s|)
        NeverLiveError((s,), e)            result   (se|)
        NeverLiveError((s,), exception)    result   (s#)     the exception itself

    A stream that was live passes untouched. A `NeverLiveError` that arrives after something was delivered (of one
    branch of a merge) shows nothing of what it holds: put the operator into each branch.

    Args:
        discard_on_error: drop what is held where the stream failed.
        error_event: makes the last event of every exception, before live or after, so that the stream completes
            instead. What it raises goes on the error channel.

    Returns:
        An operator.

    >>> import reactivex as rx
    >>> from rxauth.operators import buffer_until_live
    >>> only_start = rx.of({"type": "start"})
    >>> _ = only_start.pipe(buffer_until_live(), flush_on_complete_or_error()).subscribe(print)
    {'type': 'start'}
    """

    def operator(source: Observable[E]) -> Observable[E]:
        def subscribe(observer: abc.ObserverBase[E], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            delivered = False
            thrown: Exception | None = None
            step: Callable[[E], None]

            def first(event: E) -> None:
                nonlocal delivered, step
                delivered = True
                step = observer.on_next
                step(event)

            def on_next(event: E) -> None:
                nonlocal thrown
                try:
                    return step(event)  # to return costs less than not to
                except Exception as error:
                    # A source that fails inside its own `subscribe` comes back on the error channel, and so does what
                    # the consumer throws there: that is no failure of the stream.
                    thrown = error
                    raise

            def on_error(error: Exception) -> None:
                if error is thrown:
                    observer.on_error(error)
                    return
                failure: Any = error
                if isinstance(error, NeverLiveError):
                    failure = error.failure
                    if not delivered and not (discard_on_error and failure is not None):
                        for event in error.held:
                            observer.on_next(event)
                if failure is None:
                    observer.on_completed()
                elif isinstance(failure, BaseException):  # RxPY sends a CancelledError on the error channel
                    fail(failure)
                else:
                    observer.on_next(failure)
                    observer.on_completed()

            def fail(error: Any) -> None:
                if error_event is None:
                    observer.on_error(error)
                    return
                try:
                    last = error_event(error)
                except Exception as raised:
                    observer.on_error(raised)
                    return
                observer.on_next(last)
                observer.on_completed()

            step = first
            return source.subscribe(on_next, on_error, observer.on_completed, scheduler=scheduler)

        return Observable(subscribe)

    return operator
