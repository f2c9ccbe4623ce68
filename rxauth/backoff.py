"""Retries with backoff: a tenacity policy, driven by an Rx scheduler. The only import of tenacity."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from functools import cache, partial
from types import TracebackType
from typing import Any, Protocol, TypeVar, cast

from reactivex import abc
from reactivex.disposable import SingleAssignmentDisposable
from tenacity import (
    BaseRetrying,
    DoAttempt,
    DoSleep,
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from rxauth.failures import is_transient, retry_after_of
from rxauth.waiting import Outcome, seconds_on

__all__ = [
    "Work",
    "call",
    "checked",
    "default_retrying",
    "drive",
    "is_transient",
    "wait_as_told_or_random",
]

T = TypeVar("T")

_random = wait_random_exponential(multiplier=0.5, max=8)


def wait_as_told_or_random(state: RetryCallState) -> float:
    """Seconds to wait: the `retry_after` of the exception, else random up to 0.5, 1, 2 ... 8."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked = retry_after_of(error)
    return _random(state) if asked is None else asked


@cache
def default_retrying() -> Retrying:
    """Three tries of what `is_transient`, waiting as told or random; the last exception is raised as it is."""
    return Retrying(
        stop=stop_after_attempt(3),
        wait=wait_as_told_or_random,
        retry=retry_if_exception(is_transient),
        reraise=True,
    )


def checked(retrying: object) -> BaseRetrying:
    """The policy, if it is one that a scheduler can drive.

    Raises:
        TypeError: it is not a `tenacity.Retrying`.
    """
    if not isinstance(retrying, Retrying):
        raise TypeError(
            f"retrying is a {type(retrying).__name__}; give a tenacity.Retrying: "
            "its waits run on the Rx scheduler, for coroutines too."
        )
    return retrying


class Work(Outcome, Protocol):
    """What is tried, and is told how all tries together ended: the result or the last exception, once."""

    def start_try(self, outcome: Outcome) -> None:
        """Start one try, which tells `outcome` how it ended: now or later, on any thread."""

    def on_retry(self, number: int, delay: float) -> None:
        """The try of this number, from 1, has failed; the next one starts in so many seconds."""


def drive(retrying: BaseRetrying, work: Work, *, scheduler: abc.SchedulerBase) -> abc.DisposableBase:
    """Try, wait and try again, as the policy says.

    Args:
        retrying: the policy; a copy of it is used, unless it is the default one, whose statistics nobody sees. The
            default one is asked only when the first try has failed: it has nothing to say before that, nor of a
            success, and what tenacity needs in order to count costs more than the rest of a recovery.
        work: what is tried.
        scheduler: its clock is the policy's clock, and the waits run on it.

    Returns:
        Dispose it, and no further try starts. A try under way runs to its end; its outcome is dropped.
    """
    tries = _Tries(retrying if retrying is default_retrying() else retrying.copy(), work, scheduler)
    tries.run()
    return tries


class _Tries(abc.DisposableBase):
    """A class and no closures: functions that name each other are a cycle, and this one would hold the credential."""

    def __init__(self, policy: BaseRetrying, work: Work, scheduler: abc.SchedulerBase) -> None:
        self._policy = policy
        self._work = work
        self._scheduler = scheduler
        self._disposed = False
        self._waiting: abc.DisposableBase | None = None
        self._began = seconds_on(scheduler)
        self._traceback: TracebackType | None = None
        self._state: RetryCallState | None = None  # none while the policy is not asked
        self._untold: Callable[[], None] | None = None  # the outcome, if the policy is not asked about it
        if _enabled(policy) and policy is not default_retrying():
            self._state = self._begin()

    def _begin(self) -> RetryCallState:
        state = RetryCallState(self._policy, None, (), {})
        state.start_time = self._began
        self._policy.begin()
        # tenacity keeps its statistics per policy and thread. The next try may run on another thread, and another
        # recovery with the same policy may begin on this one: these are ours.
        self._statistics = dict(self._policy.statistics)
        return state

    def dispose(self) -> None:
        self._disposed = True
        waiting = self._waiting  # read once: a wait that is over on another thread takes itself away
        if waiting is not None:
            waiting.dispose()

    def run(self) -> None:
        # A loop, not a recursion: tries that fail at once, without a wait, must not grow the stack.
        again = True
        while again and not self._disposed:
            again = self._step()

    def _step(self) -> bool:
        state = self._state
        if state is None:
            tell, self._untold = self._untold, None
            if tell is None:
                return self._start_try()
            tell()
            return False
        try:
            action = self._next_action(state)
        except Exception as error:
            _forget(state, error, self._traceback)
            self._work.failed(error)
            return False
        if isinstance(action, DoAttempt):
            return self._start_try()
        if isinstance(action, DoSleep):
            return self._sleep(state, max(0.0, float(action)))
        _forget(state)
        self._work.succeeded(action)
        return False

    def _next_action(self, state: RetryCallState) -> Any:
        statistics = self._policy.statistics
        statistics.update(self._statistics)
        try:
            return self._policy.iter(state)
        finally:
            self._statistics.update(statistics)

    def _start_try(self) -> bool:
        """Whether the try has already ended."""
        self._first = threading.Lock()
        self._work.start_try(self)
        return not self._is_first()

    # A try may end inside the call that starts it, or later on another thread while that call is returning: whichever
    # of the two comes second goes on.

    def _is_first(self) -> bool:
        return self._first.acquire(blocking=False)

    def succeeded(self, result: Any) -> None:
        """The outcome of a try."""
        self._put_result(result)
        if not self._is_first():
            self.run()

    def failed(self, error: Exception) -> None:
        """The outcome of a try."""
        self._put_failure(error)
        if not self._is_first():
            self.run()

    def _put_result(self, result: Any) -> None:
        if self._state is None:
            self._untold = partial(self._work.succeeded, result)
            return
        self._state.set_result(result)
        self._state.outcome_timestamp = seconds_on(self._scheduler)

    def _put_failure(self, error: Exception) -> None:
        if not _enabled(self._policy):
            self._untold = partial(self._work.failed, error)
            return
        if self._state is None:
            self._state = self._begin()
        self._traceback = error.__traceback__
        self._state.set_exception((type(error), error, error.__traceback__))
        self._state.outcome_timestamp = seconds_on(self._scheduler)

    def _sleep(self, state: RetryCallState, delay: float) -> bool:
        number = state.attempt_number
        state.prepare_for_next_attempt()
        self._work.on_retry(number, delay)
        if delay == 0:
            return True
        # Its place is taken before it runs: one that fires on another thread at once may have begun the next wait
        # by the time it is returned here, and would cancel that.
        wait = self._waiting = SingleAssignmentDisposable()
        if not self._disposed:  # asked behind that: whoever disposes from now on disposes this wait
            wait.disposable = self._scheduler.schedule_relative(delay, self._go_on)
        return False

    def _go_on(self, *_: Any) -> None:
        self._waiting = None  # it holds this
        self.run()


async def call(
    retrying: BaseRetrying,
    attempt: Callable[[], Awaitable[T]],
    *,
    sleep: Callable[[float], Awaitable[None]],
    on_retry: Callable[[int, float, BaseException | None], None],
) -> T:
    """Await, wait and await again, as the policy says. What `drive` is for a scheduler, this is for a coroutine.

    Args:
        retrying: the policy; a copy of it is used.
        attempt: makes one try.
        sleep: waits for so many seconds.
        on_retry: told the number of the failed try, from 1, the seconds until the next one, and the failure. What it
            raises ends the matter.
    """
    policy = retrying.copy()
    if not _enabled(policy):
        return await attempt()
    policy.begin()
    state = RetryCallState(policy, None, (), {})
    traceback: TracebackType | None = None
    while True:
        try:
            action = policy.iter(state)
        except Exception as error:
            _forget(state, error, traceback)
            raise
        if isinstance(action, DoAttempt):
            try:
                state.set_result(await attempt())
            except Exception as error:
                traceback = error.__traceback__
                state.set_exception((type(error), error, traceback))
        elif isinstance(action, DoSleep):
            on_retry(state.attempt_number, max(0.0, float(action)), _failure_of(state))
            state.prepare_for_next_attempt()
            await sleep(max(0.0, float(action)))
        else:
            _forget(state)
            return cast(T, action)


def _enabled(policy: BaseRetrying) -> bool:
    return bool(getattr(policy, "enabled", True))  # tenacity has the switch since 9.2


def _failure_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _forget(state: RetryCallState, error: Exception | None = None, traceback: TracebackType | None = None) -> None:
    """Break the cycle: the frames that tenacity raises through hold the state, and the state holds the exception."""
    if error is not None and _failure_of(state) is error:
        error.__traceback__ = traceback
    state.outcome = None
