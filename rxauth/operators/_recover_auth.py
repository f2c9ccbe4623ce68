from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SerialDisposable, SingleAssignmentDisposable

from rxauth import bridge, failures
from rxauth.errors import NeverLiveError
from rxauth.failures import Judge
from rxauth.operators._buffer_until_live import checked_max_held, ignore
from rxauth.operators._predicates import is_error_event, is_start
from rxauth.operators._recovery import OnRecovery, Policy, Recovery, Refresh, unwrapped

if TYPE_CHECKING:
    import tenacity

E = TypeVar("E")


def recover_auth(
    refresh: Refresh,
    *,
    is_prelude: Callable[[E], bool] = is_start,
    is_error: Callable[[E], bool] = is_error_event,
    max_held: int = 64,
    is_auth_error: Judge = failures.is_auth_error,
    retrying: tenacity.Retrying | None = None,
    timeout: float | None = 60.0,
    on_recovery: OnRecovery | None = None,
    discard_on_error: bool = False,
    error_event: Callable[[Exception], E] | None = None,
) -> Callable[[Observable[E]], Observable[E]]:
    """The three operators in one hop: the same notifications at the same times for every source.

        buffer_until_live() | retry_on_first_auth_error(refresh) | flush_on_complete_or_error()

        source    s-e                     e is an auth failure; the consumer has seen nothing yet
        refresh     --r|
        source        s-a----b--|
        result    ------(sa)-b--|         one s

    Once the stream is live it costs one call an event.

    Args:
        refresh: see `retry_on_first_auth_error`; so are `is_auth_error`, `retrying`, `timeout` and `on_recovery`.
        is_prelude: see `buffer_until_live`; so are `is_error` and `max_held`.
        discard_on_error: see `flush_on_complete_or_error`; so is `error_event`.

    Returns:
        An operator.

    Raises:
        TypeError: `refresh` or `retrying` is not what it should be.
        ValueError: `max_held` is negative, `timeout` not positive.

    >>> import reactivex as rx
    >>> tokens = ["stale"]
    >>> def answer(scheduler):
    ...     if tokens[-1] == "stale":
    ...         return rx.of({"type": "start"}, {"type": "error", "status": 401})
    ...     return rx.of({"type": "start"}, {"type": "text_delta", "delta": "hi"}, {"type": "done"})
    >>> def refresh(failure):
    ...     tokens.append("fresh")
    ...     return tokens[-1]
    >>> _ = rx.defer(answer).pipe(recover_auth(refresh)).subscribe(lambda event: print(event["type"]))
    start
    text_delta
    done
    """
    checked_max_held(max_held)
    policy = Policy(
        refresh=refresh, is_auth_error=is_auth_error, retrying=retrying, timeout=timeout, on_recovery=on_recovery
    )

    def operator(source: Observable[E]) -> Observable[E]:
        def subscribe(observer: abc.ObserverBase[E], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            loop = bridge.running_loop()
            subscription = SerialDisposable()

            def connect(*, final: bool) -> None:
                """One attempt. Its state is its own: a synchronous source goes on after it was disposed."""
                held: list[E] = []
                live = False
                over = False
                flushing = False
                end: Callable[[], object] | None = None  # a terminal that came while the flush was under way
                thrown: Exception | None = None
                step: Callable[[E], object]
                attempt = SingleAssignmentDisposable()
                subscription.disposable = attempt

                def opening(event: E) -> None:
                    try:
                        failed = is_error(event)
                        prelude = not failed and len(held) < max_held and is_prelude(event)
                    except Exception as error:
                        held.clear()
                        abandon()
                        judge(error)
                        return
                    if failed:
                        abandon()
                        judge(event)
                    elif prelude:
                        held.append(event)
                    else:
                        go_live(event)

                def abandon() -> None:
                    nonlocal step, over
                    over = True
                    step = ignore
                    attempt.dispose()

                def go_live(event: E) -> None:
                    # Live before the flush: what the consumer throws out of it is not the source's failure.
                    nonlocal live, step, flushing
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

                def judge(failure: Any) -> None:
                    """The attempt ended before it was live, with an event, an exception, or `None`."""
                    try:
                        rejected = not final and failure is not None and is_auth_error(failure)
                    except Exception as raised:
                        held.clear()
                        finish(raised)
                        return
                    if rejected:
                        abandon()
                        recover(failure, lambda: finish(failure))
                    else:
                        finish(failure)

                def finish(failure: Any) -> None:
                    if not live and not (discard_on_error and failure is not None):
                        for event in held:
                            observer.on_next(event)
                    if failure is None:
                        observer.on_completed()
                    elif isinstance(failure, Exception):
                        fail(failure)
                    else:
                        observer.on_next(failure)
                        observer.on_completed()

                def on_next(event: E) -> None:
                    nonlocal thrown
                    try:
                        step(event)
                    except Exception as error:
                        # It can come back on the error channel, where it must not be taken for the stream's failure.
                        thrown = error
                        raise

                def on_error(error: Exception) -> None:
                    nonlocal end
                    if over:
                        return
                    if flushing:
                        end = lambda: finish(unwrapped(error))  # noqa: E731
                    elif error is thrown:
                        observer.on_error(error)
                    elif live:
                        finish(unwrapped(error))
                    else:
                        if isinstance(error, NeverLiveError):
                            held.extend(error.held)
                        judge(unwrapped(error))

                def on_completed() -> None:
                    nonlocal end
                    if over:
                        return
                    if flushing:
                        end = observer.on_completed
                    elif live:
                        observer.on_completed()
                    else:
                        judge(None)

                step = opening
                attempt.disposable = source.subscribe(on_next, on_error, on_completed, scheduler=scheduler)

            def recover(failure: object, give_up: Callable[[], object]) -> None:
                recovery = Recovery(
                    policy,
                    failure,
                    scheduler=scheduler,
                    loop=loop,
                    resume=lambda: connect(final=True),
                    give_up=give_up,
                )
                subscription.disposable = recovery
                recovery.start()

            def fail(error: Exception) -> None:
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

            connect(final=False)
            return subscription

        return Observable(subscribe)

    return operator
