from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from reactivex import Observable

from rxauth import failures
from rxauth.failures import Judge
from rxauth.operators._attempt import operator_of, unwrapped
from rxauth.operators._predicates import is_error_event, is_opener
from rxauth.operators._recovery import FirstAttempt, OnRecovery, Policy, Refresh

if TYPE_CHECKING:
    from rxauth.backoff import Retrying

E = TypeVar("E")


def retry_on_first_auth_error(
    refresh: Refresh,
    *,
    is_auth_error: Judge = failures.is_auth_error,
    is_error: Callable[[Any], bool] = is_error_event,
    retrying: Retrying | None = None,
    timeout: float | None = 60.0,
    on_recovery: OnRecovery | None = None,
) -> Callable[[Observable[E]], Observable[E]]:
    """Refresh the credential and subscribe once more, if the stream begins with an auth failure.

        source    s-#                     an auth failure, nothing delivered yet
        refresh     --r|
        source        s-a----|            (buffered)
        result    ------(sa)-|

    The failure may be an exception, the failure of a `NeverLiveError`, or, without a buffer in front, an error event
    that is the first element. The outcome of the second subscription is final: there is never a third, and never a
    second refresh. After the first delivered event nothing is tried again, so content is never duplicated. If the
    refresh fails, or returns no credential, the stream ends with the original failure, the same object; the exception
    of the refresh becomes its cause, or a note.

    The source must be cold (`rx.defer`, rxauth's own): a hot one only repeats its failure.

    Args:
        refresh: called with the error event or exception; a truthy result means that there is a new credential. A plain
            function, a coroutine function, or one that returns an awaitable or an Observable (its first element counts;
            `None` if it is empty). A coroutine runs on the loop that was running at `subscribe`, an Observable gets the
            scheduler that was given to `subscribe`. All of them see the subscriber's context variables.
        is_auth_error: whether a failure is worth a refresh; see `rxauth.failures`.
        is_error: whether an event is a failure.
        retrying: a `tenacity.Retrying`: when to try the refresh again. It waits on the scheduler given to `subscribe`,
            else on the running loop, else on a timer thread. By default three tries of transient exceptions (see
            `rxauth.failures.is_transient`), waiting for the exception's `retry_after`, else for random seconds up to 8.
        timeout: seconds for the whole recovery, waits included; `None` for no bound. `OAuthCredentials` takes up to 45.
            A plain function that blocks cannot be interrupted.
        on_recovery: a function or an Observer, whose `on_next` is used; receives the events of `rxauth.recovery`. If
            the first auth failure comes after a delivered event, it receives `AuthFailedAfterLive` (for an error event
            only if no more than 64 events were delivered before it).

    Returns:
        An operator. After dispose it starts no try; a try under way runs to its end, because a token request that is
        cut off loses the refresh token; its result is dropped.

    Raises:
        TypeError: `retrying` is not a `tenacity.Retrying` (an `AsyncRetrying` has waits of its own).
        ValueError: `timeout` is not positive.

    >>> import reactivex as rx
    >>> answers = iter([rx.of({"type": "error", "status": 401}), rx.of({"type": "text_delta", "delta": "hi"})])
    >>> operator = retry_on_first_auth_error(lambda failure: "a new token")
    >>> _ = rx.defer(lambda _: next(answers)).pipe(operator).subscribe(print)
    {'type': 'text_delta', 'delta': 'hi'}
    """
    policy = Policy(
        refresh=refresh, is_auth_error=is_auth_error, retrying=retrying, timeout=timeout, on_recovery=on_recovery
    )

    return operator_of(lambda observer: _FirstAttempt(observer, policy=policy, is_error=is_error))


class _FirstAttempt(FirstAttempt[E]):
    def judge(self, event: E) -> None:
        try:
            rejected = self.is_error(event) and self.policy.rejects(event)
        except Exception as error:
            self.leave(partial(self.observer.on_error, error))
            return
        if rejected:
            self.recover(event, partial(self.give_up, event))
        else:
            self.go_live(event)

    def give_up(self, event: E) -> None:
        self.observer.on_next(event)
        self.observer.on_completed()

    def ended(self, error: Exception | None) -> None:
        end = partial(super().ended, error)
        failure = unwrapped(error)
        try:
            rejected = failure is not None and self.policy.rejects(failure)
        except Exception as raised:
            self.observer.on_error(raised)
            return
        if rejected:
            self.recover(failure, end)
        else:
            end()

    def watch(self, event: E) -> None:
        # A buffer in front held the openers, and another event counted as live there.
        if is_opener(self.live_event) and not is_error_event(event):
            self.live_event = event
        super().watch(event)
