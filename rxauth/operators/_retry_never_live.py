from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SerialDisposable, SingleAssignmentDisposable

from rxauth.errors import NeverLiveError, field
from rxauth.failures import Judge, is_transient, judge_known, name_of, status_of
from rxauth.operators._attempt import Attempt, operator_of
from rxauth.recovery import RetryScheduled, notify
from rxauth.waiting import Outcome, Subscriber, seconds_on, waiting_scheduler

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

    It judges the failure of a `NeverLiveError`. Everything else passes: a live stream, also one that fails later, an
    auth failure, a failure that no wait mends. After the last try the stream fails with the last failure, the same
    object. The source must be cold, as for `retry_on_first_auth_error`.

    Its place is after the operator that refreshes, so that each attempt may refresh once, and before the failover:

        source.pipe(
            limit_silence(first=60, idle=30),
            buffer_until_live(),
            retry_on_first_auth_error(refresh),
            retry_never_live(),
            switch_if_never_live(backup),
            flush_on_complete_or_error(),
        )

    Before the refresh, all attempts together get one; after the failover, the first failure has switched to the backup;
    before the buffer and after the flush no `NeverLiveError` reaches it.

    Args:
        when: whether a failure (the error event, or the exception) may pass by itself; see `rxauth.failures`.
        retrying: a `tenacity.Retrying`: how often, and when, on the clock of `retry_on_first_auth_error`. It judges the
            failures that `when` accepts: the exception itself, the `cause` of an error event, or else the
            `NeverLiveError`. By default three tries, waiting for the seconds of the server's `Retry-After`, else for
            random seconds up to 8. A server that asks for more than a minute is not tried again.
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
    options = _Options(when, retrying, on_retry)

    return operator_of(lambda observer: _Attempts(observer, options))


@dataclass(frozen=True, slots=True)
class _Options:
    when: Judge
    retrying: Retrying | None
    on_retry: OnRetry | None


class _Attempts(SerialDisposable, Generic[E]):
    """Run the attempts of one subscription, from the first failure on as the work of a `backoff.Driver`."""

    def __init__(self, observer: abc.ObserverBase[E], options: _Options) -> None:
        super().__init__()
        self.observer = observer
        self.options = options
        self._tries = SingleAssignmentDisposable()
        self._outcome: Outcome | None = None
        self._last: NeverLiveError

    def connect(self, source: Observable[E], scheduler: abc.SchedulerBase | None) -> None:
        """Make the first attempt."""
        self._source = source
        self._subscriber = Subscriber(scheduler)
        self._clock = waiting_scheduler(scheduler, self._subscriber.loop)
        self._began = seconds_on(self._clock)
        self._subscribe()

    def _subscribe(self) -> None:
        if not self.is_disposed:
            attempt = _Attempt(self)
            self.disposable = attempt
            attempt.connect(self._source, self._subscriber.scheduler)

    def dispose(self) -> None:
        super().dispose()
        self._tries.dispose()

    def attempt_failed(self, error: NeverLiveError) -> None:
        """Let the policy decide about a next attempt."""
        self._last = error
        if self._outcome is not None:
            self._outcome.failed(_exception_of(error))
            return
        from rxauth import backoff  # here, because a stream that never fails need not import tenacity

        retrying = (self.options.retrying or backoff.three_tries()).copy(reraise=True)
        self._tries.disposable = driver = backoff.Driver(retrying, self, self._clock, self._began)
        driver.run()

    def start_try(self, outcome: Outcome) -> None:
        """Subscribe again; the failed attempt that started the retries counts as the first try."""
        first, self._outcome = self._outcome is None, outcome
        if first:
            outcome.failed(_exception_of(self._last))
        else:
            self._subscriber.run_on_loop(partial(self._subscriber.run, self._subscribe))

    def on_retry(self, number: int, delay: float) -> None:
        """Report a failed try."""
        failure = self._last.failure
        scheduled = RetryScheduled(number, delay, name_of(failure), status_of(failure))
        logger.info("Attempt %d failed before it was live (%s); next one in %.1f s", number, scheduled.type, delay)
        notify(self.options.on_retry, scheduled)

    def succeeded(self, result: Any) -> None:
        """End with the last failure: the result is of the policy's own `retry_error_callback`."""
        self.observer.on_error(self._last)

    def failed(self, error: Exception) -> None:
        """End with the last failure, or with an exception of the policy."""
        self.observer.on_error(self._last if error is _exception_of(self._last) else error)


class _Attempt(Attempt[E]):
    def __init__(self, attempts: _Attempts[E]) -> None:
        super().__init__(attempts.observer)
        self.attempts = attempts

    def ended(self, error: Exception | None) -> None:
        if isinstance(error, NeverLiveError) and error.failure is not None:
            try:
                again = judge_known(self.attempts.options.when, error.failure)
            except Exception as raised:
                self.observer.on_error(raised)
                return
            if again:
                self.leave(partial(self.attempts.attempt_failed, error))
                return
        super().ended(error)


def _exception_of(error: NeverLiveError) -> Exception:
    """Return the exception that a policy judges: the provider's, where there is one."""
    failure: Any = error.failure
    cause = failure if isinstance(failure, BaseException) else field(failure, "cause")
    return cause if isinstance(cause, Exception) else error
