"""One recovery: refresh, with backoff and a bound in time; then the stream goes on, or its failure does."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from reactivex import abc

from rxauth import waiting
from rxauth.errors import NeverLiveError, RefreshFailed
from rxauth.failures import Judge, judge_known, name_of, status_of
from rxauth.recovery import (
    AuthRejected,
    RecoveryEvent,
    Refreshed,
    RefreshRetryScheduled,
    RefreshUnchanged,
    Resubscribed,
)

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger("rxauth.recovery")

Refresh: TypeAlias = Callable[[Any], Any]
OnRecovery: TypeAlias = Callable[[RecoveryEvent], object] | abc.ObserverBase[RecoveryEvent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How to recover.

    Args:
        refresh: called with the failure; see `retry_on_first_auth_error`.
        is_auth_error: whether a failure is an auth failure.
        retrying: a `tenacity.Retrying`, or `None` for the default.
        timeout: seconds for the whole recovery, waits included; `None` for no bound.
        on_recovery: told what happens.
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
        """Whether it is an auth failure."""
        return judge_known(self.is_auth_error, failure)

    def tell(self, event: RecoveryEvent) -> None:
        if self.on_recovery is None:
            return
        listener = self.on_recovery
        try:
            if isinstance(listener, abc.ObserverBase) or hasattr(listener, "on_next"):
                listener.on_next(event)
            else:
                listener(event)
        except Exception:
            logger.exception("on_recovery failed; the recovery goes on")


class Recovery(abc.DisposableBase):
    """One recovery under way. Dispose it, and neither callback is called any more.

    Args:
        policy: how to recover.
        failure: the error event or exception, unwrapped.
        scheduler: of the subscription.
        loop: that was running at subscribe.
        resume: subscribe again.
        give_up: let the failure go on; it is given it.
    """

    def __init__(
        self,
        policy: Policy,
        failure: Any,
        *,
        scheduler: abc.SchedulerBase | None,
        loop: asyncio.AbstractEventLoop | None,
        resume: Callable[[], None],
        give_up: Callable[[Any], object],
    ) -> None:
        self._policy = policy
        self._failure = failure
        self._scheduler = scheduler
        self._loop = loop
        self._resume = resume
        self._give_up = give_up
        self._disposed = False
        self._settled = threading.Lock()  # taken for good by the first of: outcome, timeout, dispose
        self._clock: abc.SchedulerBase
        self._deadline = math.inf
        self._timer: abc.DisposableBase | None = None
        self._tries: abc.DisposableBase | None = None

    def start(self) -> None:
        if self._settled.locked():  # the judge of the failure disposed the subscription
            return
        # tenacity is imported when the first recovery begins: a stream that never fails does not pay for it.
        from rxauth import backoff

        policy = self._policy
        if policy.on_recovery is not None or logger.isEnabledFor(logging.INFO):
            name, status = name_of(self._failure), status_of(self._failure)
            logger.info("The stream was refused before it was live (%s); refreshing the credential", name)
            policy.tell(AuthRejected(name, status))
        self._clock = waiting.waiting_scheduler(self._scheduler, self._loop)
        if policy.timeout is not None:
            self._deadline = waiting.seconds_on(self._clock) + policy.timeout
        if self._settled.locked():
            return
        timer: abc.DisposableBase | None = None
        tries = self._tries = backoff.drive(policy.retrying or backoff.default_retrying(), self, scheduler=self._clock)
        # A refresh that ended at once needs no timer, which may be a thread.
        if self._deadline < math.inf and not self._settled.locked():
            timer = self._timer = self._clock.schedule_relative(max(self._left(), 0.0), self._expire)
        if self._settled.locked():  # meanwhile: whoever did it could not stop what had not been returned here
            self._stop(timer, tries)

    def _left(self) -> float:

        return self._deadline - waiting.seconds_on(self._clock)

    # The work that `backoff.drive` tries.

    def start_try(self, outcome: waiting.Outcome) -> None:
        if self._settled.locked():  # a try that disposes and fails at once: nobody can stop `drive` before it returns
            return
        if self._left() <= 0:  # tries that fail at once, without a wait, never reach the timer
            self._expire()
            return
        try:
            result = self._policy.refresh(self._failure)
        except Exception as error:
            outcome.failed(error)
            return
        # An Observable that waits does so where the recovery does, if that is the subscription's own scheduler.
        scheduler = self._clock if self._clock is self._scheduler else None
        waiting.settle(result, self._loop, outcome, scheduler=scheduler)

    def on_retry(self, number: int, delay: float) -> None:
        if self._settled.locked():
            return
        logger.info("The refresh failed (try %d); next try in %.1f s", number, delay)
        self._policy.tell(RefreshRetryScheduled(number, delay))

    def _expire(self, *_: object) -> None:
        self.failed(TimeoutError(f"The refresh took longer than {self._policy.timeout} s."))

    def dispose(self) -> None:
        self._disposed = True
        self._claim()

    def _claim(self) -> bool:
        """Whether this is the first outcome; the others are dropped."""
        if not self._settled.acquire(blocking=False):
            return False
        self._stop(self._timer, self._tries)
        return True

    def _stop(self, timer: abc.DisposableBase | None, tries: abc.DisposableBase | None) -> None:
        self._timer = self._tries = None  # they know us: a cycle would keep the failure alive
        for each in (timer, tries):
            if each is not None:
                each.dispose()

    def succeeded(self, result: Any) -> None:
        try:
            fresh = bool(result)
        except Exception as error:
            self.failed(error)
            return
        if not self._claim():
            return
        if fresh:
            logger.info("The credential was refreshed; subscribing once more")
            self._policy.tell(Refreshed())
            self._go_on(self._subscribe_again)
        else:
            logger.info("refresh gave no new credential; not retried")
            self._policy.tell(RefreshUnchanged())
            self._go_on(self._give_up, self._failure)

    def _subscribe_again(self) -> None:
        self._policy.tell(Resubscribed())
        if not self._disposed:
            self._resume()

    def failed(self, error: Exception) -> None:
        if not self._claim():
            return
        name, status = name_of(error), status_of(error)
        logger.warning("The refresh failed (%s); the stream's own failure goes on", name)
        _keep(error, self._failure)
        self._policy.tell(RefreshFailed(type=name, status=status))
        self._go_on(self._give_up, self._failure)

    def _go_on(self, action: Callable[..., object], *arguments: Any) -> None:
        def unless_disposed() -> None:
            if not self._disposed:
                action(*arguments)

        # A source that needs a loop needs it for its second subscription too, whichever thread the refresh ended on.
        if self._loop is None or not waiting.run_on(self._loop, unless_disposed):
            unless_disposed()


def unwrapped(error: Any) -> Any:
    """What a `NeverLiveError` is about; anything else is about itself."""
    return error.failure if isinstance(error, NeverLiveError) else error


def _keep(error: Exception, failure: Any) -> None:
    """Let the refresh's exception be seen with the failure that goes on instead of it."""
    target = failure if isinstance(failure, BaseException) else _cause_of(failure)
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
    """Whether `target` is among the causes of `error`: as its own cause it would be a cycle."""
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
            # The refresh was called while the failure was being handled: the explicit cause says it better.
            each.__context__ = None
        waiting += [link for link in (each.__cause__, each.__context__) if link is not None]
    return False


def _cause_of(event: Any) -> Any:
    return event.get("cause") if isinstance(event, Mapping) else getattr(event, "cause", None)
