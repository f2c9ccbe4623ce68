from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SerialDisposable, SingleAssignmentDisposable

from rxauth.errors import NeverLiveError
from rxauth.failures import Judge, is_transient, judge_known, name_of, status_of
from rxauth.recovery import RetryScheduled, notify
from rxauth.waiting import Outcome, SubscriberContext, run_on, running_loop, seconds_on, waiting_scheduler

if TYPE_CHECKING:
    from rxauth.backoff import Retrying

E = TypeVar("E")

OnRetry: TypeAlias = Callable[[RetryScheduled], object] | abc.ObserverBase[RetryScheduled]

logger = logging.getLogger("rxauth.recovery")


def retry_never_live(
    *,
    when: Judge = is_transient,
    retrying: Retrying | None = None,
    on_retry: OnRetry | None = None,
) -> Callable[[Observable[E]], Observable[E]]:
    """Subscribe again, with backoff, to a stream that failed before it was live for a transient reason.

        source    s--#                      503, overloaded, connection lost, silence ...
        wait         --
        source         s--#
        wait              ----
        source                s-a----|
        result    --------------(sa)-|      preludes of failed attempts are dropped

    It judges the failure of a `NeverLiveError`, so put it after `buffer_until_live()`. Everything else passes: a live
    stream, also one that fails later, an auth failure, a failure that no wait mends. After the last try the stream
    fails with the last failure, the same object.

    Put it after the operator that refreshes, so that each attempt may refresh once:

        source.pipe(
            limit_silence(first=60, idle=30),
            buffer_until_live(),
            retry_on_first_auth_error(refresh),
            retry_never_live(),
            switch_if_never_live(backup),
            flush_on_complete_or_error(),
        )

    Anywhere else it goes wrong. Before that operator, all attempts together get one refresh. After the failover it
    comes too late: the first failure has switched to the backup. Before the buffer and after the flush no
    `NeverLiveError` reaches it, and it does nothing.

    The source must be cold (`rx.defer`, rxauth's own): a hot one only repeats its failure.

    Args:
        when: whether a failure (the error event, or the exception) may pass by itself; see `rxauth.failures`.
        retrying: a `tenacity.Retrying`: how often, and when. It judges the failures that `when` accepts: the
            exception itself, the `cause` of an error event, or else the `NeverLiveError`. Its waits run on the
            scheduler given to `subscribe`, else on the running loop, else on a timer thread. By default three tries,
            waiting for the seconds of the server's `Retry-After`, else for random seconds up to 8. A server that asks
            for more than a minute is not tried again.
        on_retry: a function, or an Observer whose `on_next` is used: receives a `RetryScheduled` before each wait.

    Returns:
        An operator. Once disposed it does not subscribe again. If `when` raises, the stream fails with that exception.

    Raises:
        TypeError: `retrying` is not a `tenacity.Retrying` (an `AsyncRetrying` has waits of its own).

    >>> import reactivex as rx, tenacity
    >>> from rxauth.operators import buffer_until_live, flush_on_complete_or_error
    >>> answers = iter([
    ...     rx.of({"type": "start"}, {"type": "error", "status": 529}),
    ...     rx.of({"type": "start"}, {"type": "text_delta", "delta": "hi"}),
    ... ])
    >>> at_once = tenacity.Retrying(stop=tenacity.stop_after_attempt(3))
    >>> _ = rx.defer(lambda _: next(answers)).pipe(
    ...     buffer_until_live(), retry_never_live(retrying=at_once), flush_on_complete_or_error()
    ... ).subscribe(print)
    {'type': 'start'}
    {'type': 'text_delta', 'delta': 'hi'}
    """
    if retrying is not None:
        from rxauth.backoff import checked

        checked(retrying)

    def operator(source: Observable[E]) -> Observable[E]:
        def subscribe(observer: abc.ObserverBase[E], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            attempts = _Attempts(source, observer, scheduler, when, retrying, on_retry)
            attempts.subscribe()
            return attempts

        return Observable(subscribe)

    return operator


class _Attempts(abc.DisposableBase, Generic[E]):
    """Run the attempts of one subscription, from the first failure on as the work of `backoff.drive`."""

    def __init__(
        self,
        source: Observable[E],
        observer: abc.ObserverBase[E],
        scheduler: abc.SchedulerBase | None,
        when: Judge,
        retrying: Retrying | None,
        on_retry: OnRetry | None,
    ) -> None:
        self._source = source
        self._observer = observer
        self._scheduler = scheduler
        self._when = when
        self._retrying = retrying
        self._on_retry = on_retry
        self._loop = running_loop()
        self._context = SubscriberContext()
        self._clock = waiting_scheduler(scheduler, self._loop)
        self._began = seconds_on(self._clock)
        self._attempt = SerialDisposable()
        self._tries: abc.DisposableBase = SingleAssignmentDisposable()
        self._outcome: Outcome | None = None
        self._last: NeverLiveError
        self._delivered = False
        self._disposed = False
        self._thrown: Exception | None = None

    def subscribe(self) -> None:
        if self._disposed:
            return
        attempt = SingleAssignmentDisposable()
        self._attempt.disposable = attempt
        failed = False

        def on_error(error: Exception) -> None:
            nonlocal failed
            failed = True
            self._on_error(error)

        try:
            attempt.disposable = self._source.subscribe(
                self._on_next, on_error, self._observer.on_completed, scheduler=self._scheduler
            )
        except Exception as error:
            if not failed or error is self._thrown:
                raise
            # A source that raises after it has failed must not end the next attempt.

    def dispose(self) -> None:
        self._disposed = True
        self._attempt.dispose()
        self._tries.dispose()

    def _on_next(self, event: E) -> None:
        self._delivered = True
        self._observer.on_next(event)

    def _on_error(self, error: Exception) -> None:
        if self._delivered or not isinstance(error, NeverLiveError) or error.failure is None:
            self._give_up(error)
            return
        try:
            again = judge_known(self._when, error.failure)
        except Exception as raised:
            self._give_up(raised)
            return
        if not again:
            self._give_up(error)
            return
        self._last = error
        if self._outcome is None:
            self._begin()
        else:
            self._outcome.failed(_exception_of(error))

    def _give_up(self, error: Exception) -> None:
        try:
            self._observer.on_error(error)
        except Exception as raised:
            self._thrown = raised
            raise

    def _begin(self) -> None:
        from rxauth import backoff  # here, because a stream that never fails need not import tenacity

        retrying = self._retrying or backoff.three_tries()
        tries = SingleAssignmentDisposable()
        self._tries = tries
        tries.disposable = backoff.drive(retrying.copy(reraise=True), self, scheduler=self._clock, began=self._began)

    # The work that `backoff.drive` tries.

    def start_try(self, outcome: Outcome) -> None:
        first, self._outcome = self._outcome is None, outcome
        if first:  # the failed subscription that started the retries counts as the first try
            outcome.failed(_exception_of(self._last))
        # The wait may have ended on another thread, where a source that needs the loop could not be subscribed to.
        elif self._loop is None or not run_on(self._loop, self._subscribe_in_context):
            self._subscribe_in_context()

    def _subscribe_in_context(self) -> None:
        self._context.run(self.subscribe)

    def on_retry(self, number: int, delay: float) -> None:
        failure = self._last.failure
        scheduled = RetryScheduled(number, delay, name_of(failure), status_of(failure))
        logger.info("Attempt %d failed before it was live (%s); next one in %.1f s", number, scheduled.type, delay)
        notify(self._on_retry, scheduled)

    def succeeded(self, result: Any) -> None:  # of the policy's own retry_error_callback
        self._give_up(self._last)

    def failed(self, error: Exception) -> None:
        self._give_up(self._last if error is _exception_of(self._last) else error)


def _exception_of(error: NeverLiveError) -> Exception:
    """Return the exception that a policy judges: the provider's, where there is one."""
    failure: Any = error.failure
    cause = failure if isinstance(failure, BaseException) else getattr(failure, "cause", None)
    return cause if isinstance(cause, Exception) else error
