from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SerialDisposable, SingleAssignmentDisposable

from rxauth import failures, waiting
from rxauth.failures import Judge
from rxauth.operators._buffer_until_live import ignore
from rxauth.operators._predicates import is_error_event
from rxauth.operators._recovery import OnRecovery, Policy, Recovery, Refresh, unwrapped

if TYPE_CHECKING:
    import tenacity

E = TypeVar("E")


def retry_on_first_auth_error(
    refresh: Refresh,
    *,
    is_auth_error: Judge = failures.is_auth_error,
    is_error: Callable[[E], bool] = is_error_event,
    retrying: tenacity.Retrying | None = None,
    timeout: float | None = 60.0,
    on_recovery: OnRecovery | None = None,
) -> Callable[[Observable[E]], Observable[E]]:
    """Refresh the credential and subscribe once more, if the first thing to come is an auth failure.

        source    s-#                     an auth failure, nothing delivered yet
        refresh     --r|
        source        s-a----|            (buffered)
        result    ------(sa)-|

    The failure may be an exception, the failure of a `NeverLiveError`, or, without a buffer in front, an error event
    that is the first element. What the second subscription does is final: never a third, never a second refresh. Once
    anything was delivered nothing is tried again: content is never duplicated. Where the refresh gives nothing, or
    fails, the original failure goes on, the very same object.

    The source must be cold (`rx.defer`, rxauth's own): a hot one only repeats its failure.

    Args:
        refresh: called with the error event or exception; a truthy result means that there is a new credential. A plain
            function, a coroutine function, or one that returns an awaitable or an Observable (its first element counts,
            none is `None`; it is given the scheduler of the waits, if that was given to `subscribe`). A coroutine
            runs on the loop that was running at `subscribe`.
        is_auth_error: whether a failure is worth a refresh; see `rxauth.failures`.
        is_error: whether an event is a failure told in-band.
        retrying: a `tenacity.Retrying`: when to try the refresh again. Its waits run on the scheduler given to
            `subscribe`, else on the running loop, else on a timer thread. By default three tries of transient
            exceptions (see `rxauth.backoff.is_transient`), waiting as the exception's `retry_after` says, else
            random, up to 8 s.
        timeout: seconds for the whole recovery, waits included; `None` for no bound.
        on_recovery: a function, or an Observer whose `on_next` is used: told what happens (see `rxauth.recovery`).

    Returns:
        An operator. Disposed while it waits, it tries no more. Disposed during a try, the try runs to its end,
        because a token exchange cut off loses the refresh token, and its result is dropped.

    Raises:
        TypeError: `retrying` is not a `tenacity.Retrying` (an `AsyncRetrying` has waits of its own).
        ValueError: `timeout` is not positive.

    >>> import reactivex as rx
    >>> from rxauth.operators import buffer_until_live, flush_on_complete_or_error
    >>> tokens = ["stale"]
    >>> def answer(scheduler):
    ...     if tokens[-1] == "stale":
    ...         return rx.of({"type": "start"}, {"type": "error", "status": 401})
    ...     return rx.of({"type": "start"}, {"type": "text_delta", "delta": "hi"}, {"type": "done"})
    >>> def refresh(failure):
    ...     tokens.append("fresh")
    ...     return tokens[-1]
    >>> operators = buffer_until_live(), retry_on_first_auth_error(refresh), flush_on_complete_or_error()
    >>> _ = rx.defer(answer).pipe(*operators).subscribe(lambda event: print(event["type"]))
    start
    text_delta
    done
    """
    policy = Policy(
        refresh=refresh, is_auth_error=is_auth_error, retrying=retrying, timeout=timeout, on_recovery=on_recovery
    )

    def operator(source: Observable[E]) -> Observable[E]:
        def subscribe(observer: abc.ObserverBase[E], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            loop = waiting.running_loop()
            delivered = False
            thrown: Exception | None = None
            over = False  # attempt 1: a synchronous source goes on after it was disposed
            attempt = SingleAssignmentDisposable()
            subscription = SerialDisposable()
            step: Callable[[E], None]
            subscription.disposable = attempt

            def first(event: E) -> None:
                nonlocal step, delivered
                try:
                    rejected = is_error(event) and policy.rejects(event)
                except Exception as error:
                    end(partial(observer.on_error, error))
                    return
                if rejected:
                    recover(event, lambda _: (observer.on_next(event), observer.on_completed()))
                else:
                    delivered = True
                    step = observer.on_next
                    observer.on_next(event)

            def end(go_on: Callable[[], object]) -> None:
                nonlocal step, over, thrown
                over = True
                step = ignore
                attempt.dispose()
                try:
                    go_on()
                except Exception as raised:
                    thrown = raised
                    raise

            def recover(failure: object, give_up: Callable[[object], object]) -> None:
                recovery = Recovery(policy, failure, scheduler=scheduler, loop=loop, resume=resume, give_up=give_up)
                subscription.disposable = recovery
                end(recovery.start)

            def resume() -> None:
                second = SingleAssignmentDisposable()
                subscription.disposable = second
                second.disposable = source.subscribe(observer, scheduler=scheduler)

            def on_error(error: Exception) -> None:
                if over:
                    if error is thrown:  # back from a source that fails inside its own `subscribe`: the consumer's
                        raise error
                    return
                failure = unwrapped(error)
                if delivered or failure is None:
                    observer.on_error(error)
                    return
                try:
                    rejected = policy.rejects(failure)
                except Exception as raised:
                    observer.on_error(raised)
                    return
                if rejected:
                    recover(failure, lambda _: observer.on_error(error))
                else:
                    observer.on_error(error)

            def on_completed() -> None:
                if not over:
                    observer.on_completed()

            step = first
            # Not `step` itself: see `buffer_until_live`.
            try:
                attempt.disposable = source.subscribe(
                    lambda event: step(event), on_error, on_completed, scheduler=scheduler
                )
            except Exception as error:
                if not over or error is thrown:
                    raise
                # What attempt 1 raises behind its end must not end attempt 2.
            return subscription

        return Observable(subscribe)

    return operator
