from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SerialDisposable, SingleAssignmentDisposable

from rxauth.errors import NeverLiveError

E = TypeVar("E")


def switch_if_never_live(
    other: Observable[E] | Callable[[NeverLiveError], Observable[E]],
) -> Callable[[Observable[E]], Observable[E]]:
    """Continue with another stream if the source never came alive.

        source   s---#                 NeverLiveError: nobody has seen s
        other        s--a--|
        result   -------(sa)--|        other has a buffer of its own

    What the source held is dropped: nobody has seen it. Everything else passes, a failure after live and a
    `NeverLiveError` after something was delivered too.

    `ops.catch` and `ops.retry` in its place take every exception. Over rxauth's own sources, which tell their failures
    in-band once they are live, that is no difference; over one that throws, as the SDKs do, it brings the phantom back:

        source                         s-a-------#
        buffer, ops.catch(other)       --(sa)------(sb)|     a second start, behind half an answer
        buffer, switch_if_never_live   --(sa)----#

    A limit for the first live event goes between the buffer and this operator (on asyncio, with a scheduler for the
    timer: `AsyncIOScheduler(loop)`; by default it fires on another thread):

        ops.timeout_with_mapper(
            rx.timer(5.0), lambda _: rx.never(), rx.throw(NeverLiveError((), TimeoutError("no answer in time")))
        )

    As a function, `other` can wait and try the same stream again: `rx.timer(2.0).pipe(ops.flat_map(lambda _: attempt))`
    if `error.failure` is an overload, else `rx.throw(error)`. In a merge each branch ends with a flush of its own; and
    `ops.share()` comes last: in front of a recovery it has every subscriber refresh for itself.

    Args:
        other: the stream, or a function from the `NeverLiveError` to one; what it raises goes on the error channel.

    Returns:
        An operator. Failover without a phantom:
        `primary.pipe(buffer_until_live(), switch_if_never_live(backup.pipe(buffer_until_live())),
        flush_on_complete_or_error())`.

    >>> import reactivex as rx
    >>> from rxauth.operators import buffer_until_live
    >>> primary = rx.of({"type": "start", "from": "primary"}, {"type": "error"})
    >>> backup = rx.of({"type": "start", "from": "backup"}, {"type": "text_delta", "delta": "hi"})
    >>> _ = primary.pipe(buffer_until_live(), switch_if_never_live(backup)).subscribe(print)
    {'type': 'start', 'from': 'backup'}
    {'type': 'text_delta', 'delta': 'hi'}
    """

    def operator(source: Observable[E]) -> Observable[E]:
        def subscribe(observer: abc.ObserverBase[E], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            delivered = False
            first = SingleAssignmentDisposable()
            subscription = SerialDisposable()
            subscription.disposable = first

            def on_next(event: E) -> None:
                nonlocal delivered
                delivered = True
                observer.on_next(event)

            def on_error(error: Exception) -> None:
                if delivered or not isinstance(error, NeverLiveError):
                    observer.on_error(error)
                    return
                try:
                    following: Any = other if isinstance(other, Observable) else other(error)
                except Exception as raised:
                    observer.on_error(raised)
                    return
                if not isinstance(following, Observable):  # said here: out of `on_error` RxPY's sources lose it
                    observer.on_error(TypeError(f"other gave {type(following).__name__}, which is not an Observable."))
                    return
                second = SingleAssignmentDisposable()
                subscription.disposable = second
                second.disposable = following.subscribe(observer, scheduler=scheduler)

            first.disposable = source.subscribe(on_next, on_error, observer.on_completed, scheduler=scheduler)
            return subscription

        return Observable(subscribe)

    return operator
