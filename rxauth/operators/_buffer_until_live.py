from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from rxauth.errors import NeverLiveError
from rxauth.operators._predicates import is_error_event, is_start

E = TypeVar("E")


def buffer_until_live(
    *,
    is_prelude: Callable[[E], bool] = is_start,
    is_error: Callable[[E], bool] = is_error_event,
    max_held: int = 64,
) -> Callable[[Observable[E]], Observable[E]]:
    """Hold the opening back until an event proves that the stream is alive.

        source   s---a-----b--|     result   ----(sa)--b--|
        source   s---e|             result   ----#          NeverLiveError(held=(s,), failure=e)
        source   s---#              result   ----#          NeverLiveError(held=(s,), failure=the exception)
        source   s---|              result   ----#          NeverLiveError(held=(s,), failure=None)

    From the first live event on everything passes straight through, in the call that brought it: error events and later
    preludes too. A stream that ends before it is live emits nothing and fails with a `NeverLiveError`: end the pipe
    with `flush_on_complete_or_error()`. It does not bound how long it holds: that is `ops.timeout_with_mapper`'s
    business.

    Args:
        is_prelude: whether an event can come before the server has answered.
        is_error: whether an event is a failure told in-band.
        max_held: that many prelude events are held; one more counts as live.

    Returns:
        An operator. One that raises in a predicate fails with that exception.

    Raises:
        ValueError: `max_held` is negative.

    >>> import reactivex as rx
    >>> opening = rx.of({"type": "start"}, {"type": "text_delta", "delta": "hi"})
    >>> _ = opening.pipe(buffer_until_live()).subscribe(lambda event: print(event["type"]))
    start
    text_delta
    >>> _ = rx.of({"type": "start"}).pipe(buffer_until_live()).subscribe(print, on_error=print)
    The stream ended before it was live (it completed without an event that counts). End the pipe with ...
    """
    checked_max_held(max_held)

    def operator(source: Observable[E]) -> Observable[E]:
        def subscribe(observer: abc.ObserverBase[E], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            held: list[E] = []
            live = False
            end: Callable[[], None] | None = None  # a terminal that came while the flush was under way
            flushing = False
            thrown: Exception | None = None
            subscription = SingleAssignmentDisposable()
            step: Callable[[E], None]

            def opening(event: E) -> None:
                try:
                    failed = is_error(event)
                    prelude = not failed and len(held) < max_held and is_prelude(event)
                except Exception as error:
                    abandon(error)
                    return
                if failed:
                    abandon(NeverLiveError(tuple(held), event))
                elif prelude:
                    held.append(event)
                else:
                    go_live(event)

            def abandon(error: Exception) -> None:
                nonlocal step, thrown
                step = ignore  # a synchronous source goes on emitting after dispose
                held.clear()
                subscription.dispose()
                try:
                    observer.on_error(error)
                except Exception as raised:
                    thrown = raised
                    raise

            def go_live(event: E) -> None:
                # Live before the flush: what the consumer throws out of it must not be taken for the source's failure.
                nonlocal live, step, flushing, end
                live = True
                if not held:
                    step = observer.on_next
                    observer.on_next(event)
                    return
                queue = deque(held)
                queue.append(event)
                held.clear()
                step = queue.append  # what the consumer causes to be emitted waits its turn
                flushing = True
                try:
                    while queue:
                        observer.on_next(queue.popleft())
                finally:
                    step = observer.on_next
                    flushing = False
                    if end is not None:
                        end()

            def on_error(error: Exception) -> None:
                nonlocal end
                if error is thrown:  # back from a source that fails inside its own `subscribe`: it is the consumer's
                    raise error
                if flushing:
                    end = lambda: observer.on_error(error)  # noqa: E731
                elif live:
                    observer.on_error(error)
                elif isinstance(error, NeverLiveError):
                    observer.on_error(NeverLiveError((*held, *error.held), error.failure) if held else error)
                else:
                    observer.on_error(NeverLiveError(tuple(held), error))

            def on_completed() -> None:
                nonlocal end
                if flushing:
                    end = observer.on_completed
                elif live:
                    observer.on_completed()
                else:
                    observer.on_error(NeverLiveError(tuple(held), None))

            step = opening
            # Not `step` itself: RxPY keeps what it is given, and `step` changes. A lambda gives back what `step` does,
            # which costs less on every event than dropping it.
            try:
                subscription.disposable = source.subscribe(
                    lambda event: step(event), on_error, on_completed, scheduler=scheduler
                )
            except Exception as error:
                if step is not ignore or error is thrown:
                    raise
                # What a source raises behind its end is dropped like all that it has there.
            return subscription

        return Observable(subscribe)

    return operator


def ignore(event: object) -> None:
    """What a source says after it was disposed."""


def checked_max_held(max_held: int) -> None:
    if max_held < 0:
        raise ValueError(f"max_held is {max_held}; it must be 0 or more.")
