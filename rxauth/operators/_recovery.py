"""Recover a stream: refresh, with backoff and a time limit; then subscribe once more, or pass the failure on."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SerialDisposable, SingleAssignmentDisposable

from rxauth import waiting
from rxauth.errors import RefreshFailed, field
from rxauth.failures import Judge, judge_known, name_of, status_of
from rxauth.operators._attempt import Attempt
from rxauth.operators._predicates import label_of
from rxauth.recovery import (
    AuthFailedAfterLive,
    AuthRejected,
    RecoveryEvent,
    Refreshed,
    RefreshRetryScheduled,
    RefreshUnchanged,
    Resubscribed,
    notify,
)

logger = logging.getLogger("rxauth.recovery")

E = TypeVar("E")

Refresh: TypeAlias = Callable[[Any], Any]
OnRecovery: TypeAlias = Callable[[RecoveryEvent], object] | abc.ObserverBase[RecoveryEvent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Hold the options of a recovery.

    Args:
        refresh: called with the failure; see `retry_on_first_auth_error`.
        is_auth_error: whether a failure is an auth failure.
        retrying: a `tenacity.Retrying`, or `None` for the default.
        timeout: seconds for the whole recovery, waits included; `None` for no bound.
        on_recovery: receives the recovery events.
    """

    refresh: Refresh
    is_auth_error: Judge
    retrying: Any
    timeout: float | None
    on_recovery: OnRecovery | None

    def __post_init__(self) -> None:
        if not callable(self.refresh):
            raise TypeError(f"refresh is a {type(self.refresh).__name__}; give a function of the failure.")
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout is {self.timeout}; it must be more than 0 seconds, or None for no bound.")
        if self.retrying is not None:
            from rxauth.backoff import checked

            checked(self.retrying)

    def rejects(self, failure: Any) -> bool:
        """Return whether the failure is an auth failure."""
        return judge_known(self.is_auth_error, failure)


class RecoveringStream(SerialDisposable, Generic[E]):
    """Run one consumer's subscription: a first attempt, perhaps a recovery and a second attempt."""

    def __init__(
        self,
        source: Observable[E],
        observer: abc.ObserverBase[E],
        scheduler: abc.SchedulerBase | None,
        policy: Policy,
    ) -> None:
        super().__init__()
        self.source = source
        self.observer = observer
        self.scheduler = scheduler
        self.policy = policy
        self.loop = waiting.running_loop()
        self.context = waiting.SubscriberContext()

    def subscribe_again(self) -> None:
        """Subscribe to the source for the second time, without a filter."""
        second = SingleAssignmentDisposable()
        self.disposable = second  # before `subscribe`: the consumer may dispose inside it
        second.disposable = self.source.subscribe(self.observer, scheduler=self.scheduler)

    def recover(self, attempt: Attempt[E], failure: Any, give_up: Callable[[], object]) -> None:
        """Dispose the first attempt and refresh; then subscribe again, or give up."""
        attempt.leave(partial(self._start, failure, give_up))

    def _start(self, failure: Any, give_up: Callable[[], object]) -> None:
        recovery = Recovery(self, failure, give_up)
        self.disposable = recovery
        recovery.start()

    def end_late(
        self,
        attempt: Attempt[E],
        end: Callable[[], object],
        failure: Any,
        is_error: Callable[[Any], bool] = lambda failure: True,
    ) -> None:
        """End an attempt that was live; then report an auth failure, which came too late for a recovery."""
        disposed = self.is_disposed  # by the consumer, during a flush
        end()
        if disposed or failure is None:
            return
        try:
            if not is_error(failure) or not self.policy.rejects(failure):
                return
            name, status, live_type = name_of(failure), status_of(failure), label_of(attempt.live_event)
        except Exception as error:  # the stream has ended, and cannot fail with it
            logger.debug("A predicate raised %s after the end of the stream", type(error).__name__)
            return
        logger.debug(
            "An auth failure (%s) came after the stream was live, and was passed on. The event of type %r counted as "
            "live; if it can come before the server accepts the token, name it in is_prelude",
            name,
            live_type,
        )
        self.context.run(notify, self.policy.on_recovery, AuthFailedAfterLive(name, status, live_type))


class Recovery(abc.DisposableBase):
    """Run one recovery. After its disposal the stream neither resumes nor gives up.

    Args:
        stream: the subscription to recover.
        failure: the error event or exception, unwrapped.
        give_up: pass the failure on.
    """

    def __init__(self, stream: RecoveringStream[Any], failure: Any, give_up: Callable[[], object]) -> None:
        self._stream = stream
        self._policy = stream.policy
        self._failure = failure
        self._give_up = give_up
        self._disposed = False
        self._settled = threading.Lock()  # acquired for good by the first of: outcome, timeout, dispose
        self._running: list[abc.DisposableBase] = []  # the tries and the timer
        self._clock: abc.SchedulerBase
        self._deadline = math.inf

    def start(self) -> None:
        if self._settled.locked():  # is_auth_error has disposed the subscription
            return
        from rxauth import backoff  # here, because a stream that never fails need not import tenacity

        policy = self._policy
        if policy.on_recovery is not None or logger.isEnabledFor(logging.INFO):  # to read a failure takes a while
            name, status = name_of(self._failure), status_of(self._failure)
            logger.info("The stream was refused before it was live (%s); refreshing the credential", name)
            self._report(AuthRejected(name, status))
        self._clock = waiting.waiting_scheduler(self._stream.scheduler, self._stream.loop)
        if policy.timeout is not None:
            self._deadline = waiting.seconds_on(self._clock) + policy.timeout
        if self._settled.locked():  # on_recovery has disposed it
            return
        self._run(backoff.drive(policy.retrying or backoff.default_retrying(), self, scheduler=self._clock))
        # A refresh that has ended needs no timer, which may be a thread.
        if self._deadline < math.inf and not self._settled.locked():
            self._run(self._clock.schedule_relative(max(self._seconds_left(), 0.0), self._expire))

    def _run(self, running: abc.DisposableBase) -> None:
        self._running.append(running)
        if self._settled.locked():  # another thread may have called _stop before the append
            self._stop()

    def _stop(self) -> None:
        running, self._running = self._running, []  # they refer to this recovery: a cycle
        for each in running:
            each.dispose()

    def _seconds_left(self) -> float:
        return self._deadline - waiting.seconds_on(self._clock)

    def _report(self, event: RecoveryEvent) -> None:
        if self._policy.on_recovery is not None:
            self._stream.context.run(notify, self._policy.on_recovery, event)

    def start_try(self, outcome: waiting.Outcome) -> None:
        """Start one try of the refresh, for `backoff.drive`."""
        if self._settled.locked():  # the last try has disposed the subscription, and failed
            return
        if self._seconds_left() <= 0:  # tries that fail at once, without a wait, never reach the timer
            self._expire()
            return
        context = self._stream.context
        try:
            result = context.run(self._policy.refresh, self._failure)
        except Exception as error:
            outcome.failed(error)
            return
        # The subscription's scheduler, unless it cannot wait: an Observable would block on it.
        scheduler = self._clock if self._clock is self._stream.scheduler else None
        context.run(partial(waiting.settle, result, self._stream.loop, outcome, scheduler=scheduler))

    def on_retry(self, number: int, delay: float) -> None:
        """Report a failed try, for `backoff.drive`."""
        if not self._settled.locked():
            logger.info("The refresh failed (try %d); next try in %.1f s", number, delay)
            self._report(RefreshRetryScheduled(number, delay))

    def _expire(self, *_: object) -> None:
        self.failed(TimeoutError(f"The refresh took longer than {self._policy.timeout} s."))

    def dispose(self) -> None:
        self._disposed = True
        self._claim()

    def _claim(self) -> bool:
        """Return whether this is the first outcome; the others are dropped."""
        first = self._settled.acquire(blocking=False)
        if first:
            self._stop()
        return first

    def succeeded(self, result: Any) -> None:
        """End the recovery with the result of the refresh."""
        try:
            fresh = bool(result)
        except Exception as error:
            self.failed(error)
            return
        if not self._claim():
            return
        if fresh:
            logger.info("The credential was refreshed; subscribing once more")
            self._report(Refreshed())
            self._go_on(self._subscribe_again)
        else:
            logger.info("refresh gave no new credential; not retried")
            self._report(RefreshUnchanged())
            self._go_on(self._give_up)

    def _subscribe_again(self) -> None:
        self._report(Resubscribed())
        if not self._disposed:
            self._stream.context.run(self._stream.subscribe_again)

    def failed(self, error: Exception) -> None:
        """End the recovery with the exception of the refresh."""
        if not self._claim():
            return
        name, status = name_of(error), status_of(error)
        logger.warning("The refresh failed (%s); the stream's own failure goes on", name)
        _attach(error, self._failure)
        self._report(RefreshFailed(type=name, status=status))
        self._go_on(self._give_up)

    def _go_on(self, action: Callable[[], object]) -> None:
        def unless_disposed() -> None:
            if not self._disposed:
                action()

        # The refresh may have ended on another thread, where a source that needs the loop could not be subscribed to.
        loop = self._stream.loop
        if loop is None or not waiting.run_on(loop, unless_disposed):
            unless_disposed()


def _attach(error: Exception, failure: Any) -> None:
    """Attach the refresh's exception to the stream's failure: as its cause, else as a note without its text."""
    target = failure if isinstance(failure, BaseException) else field(failure, "cause")
    if not isinstance(target, BaseException) or target is error:
        return
    if target.__cause__ is None and not _leads_to(error, target):
        try:
            target.__cause__ = error
            return
        except Exception:
            logger.debug("%s takes no cause", type(target).__name__)
    try:
        name, status = name_of(error), status_of(error)
        note = f"The refresh failed too: {name}" + (f", status {status}" if status is not None else "")
        if note not in getattr(target, "__notes__", ()):
            target.add_note(note)
    except Exception:
        logger.debug("%s takes no note", type(target).__name__)


def _leads_to(error: BaseException, target: BaseException) -> bool:
    """Return whether `target` is among the causes of `error`: as its own cause it would be a cycle."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        each = waiting.pop()
        if each is target:
            return True
        if id(each) in seen:
            continue
        seen.add(id(each))
        if each.__context__ is target:
            # The refresh was called while the failure was handled, so Python linked them the other way round.
            each.__context__ = None
        waiting += [link for link in (each.__cause__, each.__context__) if link is not None]
    return False
