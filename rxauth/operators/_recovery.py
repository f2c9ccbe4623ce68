"""Recover a stream: refresh, with backoff and a time limit; then subscribe once more, or pass the failure on."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, SerialDisposable

from rxauth.errors import RefreshFailed, field
from rxauth.failures import Judge, judge_known, name_of, status_of
from rxauth.operators._attempt import Attempt, unwrapped
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
from rxauth.waiting import Outcome, Subscriber, seconds_on, settle, waiting_scheduler

logger = logging.getLogger("rxauth.recovery")

E = TypeVar("E")

Refresh: TypeAlias = Callable[[Any], Any]
OnRecovery: TypeAlias = Callable[[RecoveryEvent], object] | abc.ObserverBase[RecoveryEvent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Hold the options of a recovery; `retry_on_first_auth_error` describes them."""

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


class FirstAttempt(Attempt[E]):
    """Recover from an auth failure before live, and report one that comes later: the common part of two operators."""

    watched = 64
    source: Observable[E]
    subscriber: Subscriber

    def __init__(self, *arguments: Any, policy: Policy, is_error: Callable[[E], bool]) -> None:
        super().__init__(*arguments)
        self.policy = policy
        self.is_error = is_error
        self.following = SerialDisposable()  # the recovery; then the second attempt

    def connect(self, source: Observable[E], scheduler: abc.SchedulerBase | None) -> None:
        self.source = source
        self.subscriber = Subscriber(scheduler)
        super().connect(source, scheduler)

    def dispose(self) -> None:
        super().dispose()
        self.following.dispose()

    def second(self) -> Attempt[E]:
        """Return the second attempt; its outcome is final."""
        return Attempt(self.observer)

    def subscribe_again(self) -> None:
        """Make the second attempt."""
        second = self.second()
        self.following.disposable = second  # before `connect`: the consumer may dispose inside it
        second.connect(self.source, self.subscriber.scheduler)

    def recover(self, failure: Any, give_up: Callable[[], object]) -> None:
        """Dispose the source and refresh; then subscribe again, or give up."""
        self.leave(partial(self._refresh, failure, give_up))

    def _refresh(self, failure: Any, give_up: Callable[[], object]) -> None:
        if not self.following.is_disposed:  # by is_auth_error
            recovery = _Recovery(self, failure, give_up)
            self.following.disposable = recovery
            recovery.start()

    def report(self, event: RecoveryEvent) -> None:
        """Call `on_recovery`, with the subscriber's context variables."""
        if self.policy.on_recovery is not None:
            self.subscriber.run(notify, self.policy.on_recovery, event)

    def failed(self, error: Exception) -> None:
        disposed = self.following.is_disposed  # by the consumer, during a flush
        super().failed(error)
        if not disposed:
            self._report_late(unwrapped(error))

    def completed(self) -> None:
        disposed = self.following.is_disposed
        super().completed()
        if not disposed:
            self._report_late(self.last, self.is_error)

    def _report_late(self, failure: Any, is_error: Callable[[Any], bool] = lambda failure: True) -> None:
        try:
            if failure is None or not is_error(failure) or not self.policy.rejects(failure):
                return
            late = AuthFailedAfterLive(name_of(failure), status_of(failure), label_of(self.live_event))
        except Exception as error:  # the stream has ended, and cannot fail with it
            logger.debug("A predicate raised %s after the end of the stream", type(error).__name__)
            return
        logger.debug(
            "An auth failure (%s) came after the stream was live, and was passed on. The event of type %r counted as "
            "live; if it can come before the server accepts the token, name it in is_prelude",
            late.type,
            late.live_type,
        )
        self.report(late)


class _Recovery(abc.DisposableBase):
    """Run one recovery, as the work of a `backoff.Driver`; once disposed, it neither resumes the stream nor gives up.

    Args:
        attempt: the first, which is over.
        failure: the error event or exception, unwrapped.
        give_up: pass the failure on.
    """

    def __init__(self, attempt: FirstAttempt[Any], failure: Any, give_up: Callable[[], object]) -> None:
        self._attempt = attempt
        self._failure = failure
        self._give_up = give_up
        self._settled = threading.Lock()  # acquired for good by the first of: outcome, timeout, dispose
        self._running = CompositeDisposable()  # the tries and the timer
        self._clock = waiting_scheduler(self._attempt.subscriber.scheduler, self._attempt.subscriber.loop)
        self._deadline = math.inf

    def start(self) -> None:
        from rxauth import backoff  # here, because a stream that never fails need not import tenacity

        policy = self._attempt.policy
        if policy.on_recovery is not None or logger.isEnabledFor(logging.INFO):  # to read a failure takes a while
            name, status = name_of(self._failure), status_of(self._failure)
            logger.info("The stream was refused before it was live (%s); refreshing the credential", name)
            self._attempt.report(AuthRejected(name, status))
        if policy.timeout is not None:
            self._deadline = seconds_on(self._clock) + policy.timeout
        driver = backoff.Driver(policy.retrying or backoff.default_retrying(), self, self._clock)
        self._running.add(driver)  # disposes it, if on_recovery has disposed the recovery
        driver.run()
        # A refresh that has ended needs no timer, which may be a thread.
        if self._deadline < math.inf and not self._settled.locked():
            self._running.add(self._clock.schedule_relative(max(self._seconds_left(), 0.0), self._expire))

    def _seconds_left(self) -> float:
        return self._deadline - seconds_on(self._clock)

    def _expire(self, *_: object) -> None:
        self.failed(TimeoutError(f"The refresh took longer than {self._attempt.policy.timeout} s."))

    def start_try(self, outcome: Outcome) -> None:
        """Start one try of the refresh."""
        if self._seconds_left() <= 0:  # tries that fail at once, without a wait, never reach the timer
            self._expire()
            return
        subscriber = self._attempt.subscriber
        try:
            result = subscriber.run(self._attempt.policy.refresh, self._failure)
        except Exception as error:
            outcome.failed(error)
            return
        # The subscription's scheduler, unless it cannot wait: an Observable would block on it.
        scheduler = self._clock if self._clock is subscriber.scheduler else None
        subscriber.run(partial(settle, result, subscriber.loop, outcome, scheduler=scheduler))

    def on_retry(self, number: int, delay: float) -> None:
        """Report a failed try."""
        if not self._settled.locked():  # a callback of the policy may have disposed it
            logger.info("The refresh failed (try %d); next try in %.1f s", number, delay)
            self._attempt.report(RefreshRetryScheduled(number, delay))

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
            self._attempt.report(Refreshed())
            self._go_on(self._subscribe_again)
        else:
            logger.info("refresh gave no new credential; not retried")
            self._attempt.report(RefreshUnchanged())
            self._go_on(self._give_up)

    def failed(self, error: Exception) -> None:
        """End the recovery with the exception of the refresh."""
        if not self._claim():
            return
        name, status = name_of(error), status_of(error)
        logger.warning("The refresh failed (%s); the stream's own failure goes on", name)
        _attach(error, self._failure)
        self._attempt.report(RefreshFailed(type=name, status=status))
        self._go_on(self._give_up)

    def dispose(self) -> None:
        self._claim()

    def _claim(self) -> bool:
        """Return whether this is the first outcome; the others are dropped."""
        first = self._settled.acquire(blocking=False)
        if first:
            self._running.dispose()
        return first

    def _go_on(self, action: Callable[[], object]) -> None:
        def unless_disposed() -> None:
            if not self._attempt.following.is_disposed:
                action()

        self._attempt.subscriber.run_on_loop(unless_disposed)

    def _subscribe_again(self) -> None:
        self._attempt.report(Resubscribed())
        if not self._attempt.following.is_disposed:
            self._attempt.subscriber.run(self._attempt.subscribe_again)


def _attach(error: Exception, failure: Any) -> None:
    """Attach the refresh's exception to the stream's failure: as its cause, else as a note without its text."""
    target = failure if isinstance(failure, BaseException) else field(failure, "cause")
    if not isinstance(target, BaseException) or target is error:
        return
    with suppress(Exception):  # a frozen exception takes neither
        if target.__cause__ is None and not _leads_to(error, target):
            target.__cause__ = error
            return
    with suppress(Exception):
        name, status = name_of(error), status_of(error)
        note = f"The refresh failed too: {name}" + (f", status {status}" if status is not None else "")
        if note not in getattr(target, "__notes__", ()):
            target.add_note(note)


def _leads_to(error: BaseException, target: BaseException) -> bool:
    """Return whether `target` is among the causes of `error`, where it must not be again: that would be a cycle.

    As the mere context of a cause it is removed, so that it can be the other's cause.
    """
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is target:
            return True
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        if each.__context__ is target:
            # The refresh was called while the failure was handled, so Python linked them the other way round.
            each.__context__ = None
        left += each.__cause__, each.__context__
    return False
