"""Retries with backoff: a tenacity policy, driven by an Rx scheduler. The only import of tenacity."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar, cast

from reactivex import abc
from reactivex.disposable import Disposable, SerialDisposable
from reactivex.scheduler import ImmediateScheduler, TimeoutScheduler, TrampolineScheduler
from reactivex.scheduler.eventloop import AsyncIOThreadSafeScheduler
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

from rxauth.errors import CredentialError, TransientError
from rxauth.failures import status_of

__all__ = [
    "call",
    "checked",
    "default_retrying",
    "drive",
    "is_transient",
    "wait_as_told_or_random",
    "waiting_scheduler",
]

T = TypeVar("T")

OnResult: TypeAlias = Callable[[Any], None]
OnFailed: TypeAlias = Callable[[Exception], None]

_TRANSIENT_STATUS = frozenset({408, 425, 429, *range(500, 600)})

_random = wait_random_exponential(multiplier=0.5, max=8)


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed when it is made again.

    Yes: `OSError` (timeouts, connections), `rxauth.TransientError`, aiohttp's and httpx's connection errors, an integer
    status 408, 425, 429 or 5xx. No: what `OAuthCredentials` raises, which has tried again itself, and everything else.

    >>> is_transient(TimeoutError()), is_transient(ValueError())
    (True, False)
    """
    if isinstance(error, CredentialError):
        return False
    return isinstance(error, (OSError, TransientError, *_connection_errors())) or status_of(error) in _TRANSIENT_STATUS


def _connection_errors() -> tuple[type[BaseException], ...]:
    # An exception of a library that was never imported cannot be here: no need to import it in order to ask.
    named = (("aiohttp", "ClientConnectionError"), ("aiohttp", "ClientPayloadError"), ("httpx", "TransportError"))
    found = (getattr(sys.modules.get(module), name, None) for module, name in named)
    return tuple(each for each in found if isinstance(each, type))


def wait_as_told_or_random(state: RetryCallState) -> float:
    """Seconds to wait: the `retry_after` of the exception, else random up to 0.5, 1, 2 ... 8."""
    error = state.outcome.exception() if state.outcome is not None else None
    told = getattr(error, "retry_after", None)
    if isinstance(told, int | float) and not isinstance(told, bool) and 0 <= told < math.inf:
        return float(told)
    return _random(state)


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


def waiting_scheduler(scheduler: abc.SchedulerBase | None, loop: asyncio.AbstractEventLoop | None) -> abc.SchedulerBase:
    """Where to wait: on the scheduler of the subscription, else on the loop, else on a timer thread.

    The current-thread scheduler would block its caller and the immediate one refuses to wait.
    """
    if scheduler is not None and not isinstance(scheduler, TrampolineScheduler | ImmediateScheduler):
        return scheduler
    if loop is not None and not loop.is_closed():
        return AsyncIOThreadSafeScheduler(loop)
    return TimeoutScheduler.singleton()


def drive(
    retrying: BaseRetrying,
    attempt: Callable[[OnResult, OnFailed], None],
    *,
    scheduler: abc.SchedulerBase,
    on_retry: Callable[[int, float], None],
    on_result: OnResult,
    on_failed: OnFailed,
) -> abc.DisposableBase:
    """Try, wait and try again, as the policy says.

    Args:
        retrying: the policy; a copy of it is used.
        attempt: starts one try, which calls one of the two callbacks, now or later, on any thread.
        scheduler: its clock is the policy's clock, and the waits run on it.
        on_retry: told the number of the failed try, from 1, and the seconds until the next one.
        on_result: given the result, once.
        on_failed: given the last exception, once.

    Returns:
        Dispose it, and no further try starts. A try under way runs to its end; its outcome is dropped.
    """
    policy = retrying.copy()
    state = RetryCallState(policy, None, (), {})
    state.start_time = _seconds(scheduler)
    policy.begin()
    # tenacity keeps its statistics per thread, and the next try may run on another one.
    statistics = policy.statistics
    waiting = SerialDisposable()
    disposed = False

    def next_action() -> Any:
        if policy.statistics is not statistics:
            policy.statistics.update(statistics)
        try:
            return policy.iter(state)
        finally:
            statistics.update(policy.statistics)

    def run() -> None:
        # A loop, not a recursion: tries that fail at once, without a wait, must not grow the stack.
        again = True
        while again and not disposed:
            again = step()

    def step() -> bool:
        if not policy.enabled:
            attempt(finish(on_result), finish(on_failed))
            return False
        try:
            action = next_action()
        except Exception as error:
            on_failed(error)
            return False
        if isinstance(action, DoAttempt):
            return start_try()
        if isinstance(action, DoSleep):
            return sleep(max(0.0, float(action)))
        on_result(action)
        return False

    def start_try() -> bool:
        """Whether the try has already ended."""
        # The try may end inside this call, or later on another thread while this call is returning:
        # whichever of the two comes second goes on.
        first = threading.Lock()

        def end(put: Callable[[], None]) -> None:
            put()
            state.outcome_timestamp = _seconds(scheduler)
            if not first.acquire(blocking=False):
                run()

        attempt(
            lambda result: end(lambda: state.set_result(result)),
            lambda error: end(lambda: state.set_exception((type(error), error, error.__traceback__))),
        )
        return not first.acquire(blocking=False)

    def sleep(delay: float) -> bool:
        number = state.attempt_number
        state.prepare_for_next_attempt()
        on_retry(number, delay)
        if delay == 0:
            return True
        if not disposed:
            waiting.disposable = scheduler.schedule_relative(delay, lambda *_: run())
        return False

    def finish(callback: Callable[[Any], None]) -> Callable[[Any], None]:
        return lambda value: None if disposed else callback(value)

    def dispose() -> None:
        nonlocal disposed
        disposed = True
        waiting.dispose()

    run()
    return Disposable(dispose)


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
    if not policy.enabled:
        return await attempt()
    policy.begin()
    state = RetryCallState(policy, None, (), {})
    while True:
        action = policy.iter(state)
        if isinstance(action, DoAttempt):
            try:
                state.set_result(await attempt())
            except Exception as error:
                state.set_exception((type(error), error, error.__traceback__))
        elif isinstance(action, DoSleep):
            delay = max(0.0, float(action))
            failure = state.outcome.exception() if state.outcome is not None else None
            on_retry(state.attempt_number, delay, failure)
            state.prepare_for_next_attempt()
            await sleep(delay)
        else:
            return cast(T, action)


def _seconds(scheduler: abc.SchedulerBase) -> float:
    return scheduler.to_seconds(scheduler.now)
