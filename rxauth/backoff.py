"""Retry as a tenacity policy says, on an Rx scheduler or in a coroutine. The only import of tenacity."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import cache, partial
from types import TracebackType
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from reactivex import abc
from reactivex.disposable import SingleAssignmentDisposable
from tenacity import (
    BaseRetrying,
    DoAttempt,
    DoSleep,
    RetryCallState,
    Retrying,
    retry_always,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from rxauth.failures import is_transient, retry_after_of
from rxauth.waiting import Outcome, seconds_on
from rxauth.waiting import waiting_scheduler as waiting_scheduler  # an alias: it moved

__all__ = [
    "BaseRetrying",
    "Driver",
    "Retrying",
    "Work",
    "call",
    "checked",
    "default_retrying",
    "is_transient",
    "three_tries",
    "wait_as_asked_or_random",
]

T = TypeVar("T")

OnRetry: TypeAlias = Callable[[int, float, BaseException | None], None]

_Step: TypeAlias = float | tuple[Any, Exception | None] | None
"""`None`: make a try. A number: wait for so many seconds. A pair: the end, a result or the last exception."""

_TRIES = 3
_LONGEST_WAIT = 60.0  # seconds: a user in front of an empty screen waits no longer

_random = wait_random_exponential(multiplier=0.5, max=8)


def wait_as_asked_or_random(state: RetryCallState) -> float:
    """Return the seconds to wait: the exception's `retry_after`, else random up to 0.5, 1, 2 ... 8."""
    asked = retry_after_of(_failure_of(state))
    return _random(state) if asked is None else asked


wait_as_told_or_random = wait_as_asked_or_random  # an alias: its former name


@cache
def default_retrying() -> Retrying:
    """Return the default policy: three tries of transient exceptions; the last one is raised as it is."""
    return Retrying(
        stop=stop_after_attempt(_TRIES),
        wait=wait_as_asked_or_random,
        retry=retry_if_exception(is_transient),
        reraise=True,
    )


@cache
def three_tries() -> Retrying:
    """Return a policy of three tries for every exception; a wait of more than a minute ends them."""
    return default_retrying().copy(
        retry=retry_always,
        stop=lambda state: stop_after_attempt(_TRIES)(state) or state.upcoming_sleep > _LONGEST_WAIT,
    )


def checked(retrying: object) -> BaseRetrying:
    """Return the policy, if a scheduler can drive it.

    Raises:
        TypeError: it is not a `tenacity.Retrying`.
    """
    if not isinstance(retrying, Retrying):
        raise TypeError(
            f"retrying is a {type(retrying).__name__}; give a tenacity.Retrying: "
            "its waits run on the Rx scheduler, for coroutines too."
        )
    return retrying


class _Tries:
    """Ask a policy what to do next, and report to it how each try ended. The only code that runs tenacity.

    Args:
        retrying: the policy; a copy is used, because tenacity counts in the policy.
        seconds: the policy's clock.
        began: when the first try began; by default now.
    """

    def __init__(self, retrying: BaseRetrying, seconds: Callable[[], float], began: float | None = None) -> None:
        self._retrying = retrying
        self._seconds = seconds
        self._began = seconds() if began is None else began
        self._state: RetryCallState | None = None
        self._result: Any = None
        self._traceback: TracebackType | None = None

    def succeeded(self, result: Any) -> None:
        self._result = result
        if self._state is not None:
            self._state.set_result(result)
            self._state.outcome_timestamp = self._seconds()

    def failed(self, error: Exception) -> None:
        state = self._begun()
        self._traceback = error.__traceback__
        state.set_exception((type(error), error, error.__traceback__))
        state.outcome_timestamp = self._seconds()

    def steps(self, on_retry: OnRetry) -> Iterator[_Step]:
        # The default policy accepts every result and decides only after a failure: until then tenacity is not set up,
        # which costs more than the rest of a recovery.
        if self._retrying is default_retrying():
            yield None
            if self._state is None:
                yield self._result, None
        state = self._begun()
        while True:
            action = self._ask(state)
            if isinstance(action, DoAttempt):
                yield None
            elif isinstance(action, DoSleep):
                seconds = max(0.0, float(action))
                on_retry(state.attempt_number, seconds, _failure_of(state))
                state.prepare_for_next_attempt()
                yield seconds
            else:
                state.outcome = None  # tenacity's frames hold the state, and so the exception
                yield action

    def _begun(self) -> RetryCallState:
        if self._state is None:
            self._state = RetryCallState(self._retrying.copy(), None, (), {})
            self._state.start_time = self._began
        return self._state

    def _ask(self, state: RetryCallState) -> Any:
        policy = state.retry_object
        try:
            if not getattr(policy, "enabled", True):  # tenacity has the switch since 9.2
                return DoAttempt() if state.outcome is None else (state.outcome.result(), None)
            if not policy.statistics:  # tenacity counts per thread, and a try may end on another thread
                policy.begin()
            action = policy.iter(state)
            return action if isinstance(action, DoAttempt | DoSleep) else (action, None)
        except Exception as error:
            if _failure_of(state) is error:
                error.__traceback__ = self._traceback  # without tenacity's frames
            return None, error


def _failure_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


async def call(
    retrying: BaseRetrying,
    attempt: Callable[[], Awaitable[T]],
    *,
    sleep: Callable[[float], Awaitable[None]],
    on_retry: OnRetry,
) -> T:
    """Await, wait and await again, as the policy says.

    Args:
        retrying: the policy; a copy of it is used.
        attempt: makes one try.
        sleep: waits for that many seconds.
        on_retry: receives the number of the failed try, from 1, the seconds until the next one, and the failure. An
            exception that it raises ends the call.
    """
    tries = _Tries(retrying, time.monotonic)
    steps = tries.steps(on_retry)
    while True:
        match next(steps):
            case None:
                try:
                    tries.succeeded(await attempt())
                except Exception as error:
                    tries.failed(error)
            case result, None:
                return cast(T, result)
            case _, last:
                try:
                    raise last
                finally:
                    del last, steps  # its traceback holds this frame
            case seconds:
                await sleep(seconds)


class Work(Outcome, Protocol):
    """Receive from a `Driver` the order to start each try, and once the outcome of all: a result or an exception."""

    def start_try(self, outcome: Outcome) -> None:
        """Start one try, which calls `outcome` when it ends: now or later, on any thread."""

    def on_retry(self, number: int, delay: float) -> None:
        """Learn that try `number`, from 1, has failed and that the next one starts in `delay` seconds."""


class Driver(abc.DisposableBase):
    """Try, wait and try again, as the policy says: `call` for a scheduler instead of a coroutine.

    A try under way at a dispose runs to its end; its outcome is dropped. An object with methods, because functions that
    refer to each other would keep a credential.

    Args:
        retrying: the policy; a copy of it is used.
        work: the call to try.
        scheduler: its clock is the policy's clock, and the waits run on it.
        began: when the first try began, in `seconds_on(scheduler)`; by default now.
    """

    def __init__(
        self, retrying: BaseRetrying, work: Work, scheduler: abc.SchedulerBase, began: float | None = None
    ) -> None:
        self._tries = _Tries(retrying, partial(seconds_on, scheduler), began)
        self._steps = self._tries.steps(lambda number, seconds, _: work.on_retry(number, seconds))
        self._work = work
        self._scheduler = scheduler
        self._disposed = False
        self._waiting: abc.DisposableBase | None = None

    def dispose(self) -> None:
        """End a wait, and start no further try."""
        self._disposed = True
        waiting = self._waiting  # read once: another thread may reset it
        if waiting is not None:
            waiting.dispose()

    def run(self, *_: Any) -> None:
        """Start, or go on after a wait or a try."""
        self._waiting = None  # it refers to this driver
        # A loop: tries that fail at once, without a wait, must not grow the stack.
        again = True
        while again and not self._disposed:
            match next(self._steps):
                case None:
                    again = self._start_try()
                case result, None:
                    again = False
                    self._work.succeeded(result)
                case _, error:
                    again = False
                    self._work.failed(error)
                case seconds:
                    again = seconds == 0 or self._wait(seconds)

    def _start_try(self) -> bool:
        self._start_or_end = threading.Lock()
        self._work.start_try(self)
        return not self._is_first_of_two()

    def _is_first_of_two(self) -> bool:
        # A try may end inside the call that starts it, or on another thread during that call: the second goes on.
        return self._start_or_end.acquire(blocking=False)

    def succeeded(self, result: Any) -> None:
        """End a try."""
        self._tries.succeeded(result)
        if not self._is_first_of_two():
            self.run()

    def failed(self, error: Exception) -> None:
        """End a try."""
        self._tries.failed(error)
        if not self._is_first_of_two():
            self.run()

    def _wait(self, seconds: float) -> bool:
        # Assigned before the timer starts: a timer that fires on another thread at once may begin the next wait, which
        # a later assignment would cancel.
        wait = self._waiting = SingleAssignmentDisposable()
        if not self._disposed:  # after the assignment: a dispose from now on finds the wait
            wait.disposable = self._scheduler.schedule_relative(seconds, self.run)
        return False
