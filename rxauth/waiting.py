"""Run and wait on asyncio loops and Rx schedulers: the module that knows the clocks of both."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from reactivex import Observable, abc, typing
from reactivex.disposable import SingleAssignmentDisposable
from reactivex.scheduler import ImmediateScheduler, TimeoutScheduler, TrampolineScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.scheduler.scheduler import Scheduler

__all__ = [
    "Outcome",
    "Subscriber",
    "as_exception",
    "run_on",
    "running_loop",
    "seconds_on",
    "settle",
    "start_task",
    "waiting_scheduler",
]

T = TypeVar("T")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that is running in this thread, if one is."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def run_on(loop: asyncio.AbstractEventLoop, action: Callable[[], object]) -> bool:
    """Call `action` on the loop: at once if the loop runs in this thread, else thread-safely.

    Returns:
        Whether the loop accepted the call; a closed loop does not.
    """
    if running_loop() is loop:
        action()
        return True
    try:
        loop.call_soon_threadsafe(action)
    except RuntimeError:
        if not loop.is_closed():
            raise
        return False
    return True


# The loop holds only weak references to its tasks.
_tasks: set[asyncio.Task[Any]] = set()
_forget = _tasks.discard


def start_task(
    loop: asyncio.AbstractEventLoop, coroutine: Any, done: Callable[[asyncio.Task[Any]], object]
) -> asyncio.Task[Any]:
    """Start a task that is kept alive until it ends; then call `done` with it."""
    task: asyncio.Task[Any] = loop.create_task(coroutine)
    _tasks.add(task)
    task.add_done_callback(_forget)
    task.add_done_callback(done)
    return task


class Subscriber:
    """Remember where a `subscribe` was called: with which scheduler, on which loop, with which context variables."""

    __slots__ = ("_context", "loop", "scheduler")

    def __init__(self, scheduler: abc.SchedulerBase | None = None) -> None:
        self.scheduler = scheduler
        self.loop = running_loop()
        self._context = contextvars.copy_context()

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call the function with the variables. The next call sees those that it sets; the caller does not."""
        context = self._context.copy()  # a context cannot be entered twice, here or on two threads
        try:
            return context.run(function, *arguments)
        finally:
            self._context = context

    def run_on_loop(self, action: Callable[[], object]) -> None:
        """Call `action` where a source that needs the loop can be subscribed to, whichever thread calls this."""
        if self.loop is None or not run_on(self.loop, action):
            action()


def waiting_scheduler(scheduler: abc.SchedulerBase | None, loop: asyncio.AbstractEventLoop | None) -> abc.SchedulerBase:
    """Choose where to wait: the subscription's scheduler, else the loop, else a timer thread.

    The current-thread scheduler is passed over because it blocks its caller, the immediate one because it cannot wait.
    """
    if scheduler is not None and not isinstance(scheduler, TrampolineScheduler | ImmediateScheduler):
        return scheduler
    if loop is not None and not loop.is_closed():
        return _LoopScheduler(loop)
    return TimeoutScheduler.singleton()


def seconds_on(scheduler: abc.SchedulerBase) -> float:
    """Return the scheduler's time in seconds, from an arbitrary start; never the wall clock, which can be set.

    RxPY's `now` is the wall clock, except on virtual schedulers: it is replaced by the time of the loop or, where the
    scheduler has none, by the monotonic clock.
    """
    if isinstance(scheduler, AsyncIOScheduler):
        loop = getattr(scheduler, "_loop", None)  # RxPY has no public name for it
        return loop.time() if isinstance(loop, asyncio.AbstractEventLoop) else time.monotonic()
    if type(scheduler).now is Scheduler.now:
        return time.monotonic()
    return scheduler.to_seconds(scheduler.now)


class _LoopScheduler(AsyncIOScheduler):
    """Wait on a loop, from any thread.

    RxPY's AsyncIOThreadSafeScheduler waits in `dispose` until the other loop has turned: two loops that dispose each
    other's waits block each other for ever. Here `dispose` never blocks, so a timer may still fire during it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.loop = loop

    def schedule_relative(
        self, duetime: typing.RelativeTime, action: abc.ScheduledAction[Any], state: Any = None
    ) -> abc.DisposableBase:
        seconds = self.to_seconds(duetime)
        timer = _LoopTimer(self, seconds, action, state)
        if not run_on(self.loop, timer.start):
            return TimeoutScheduler.singleton().schedule_relative(seconds, action, state)
        return timer


class _LoopTimer(abc.DisposableBase):
    """Run one timer. An object with slots, because thousands of streams may wait at once."""

    __slots__ = ("_action", "_disposed", "_handle", "_scheduler", "_seconds", "_state")

    def __init__(self, scheduler: _LoopScheduler, seconds: float, action: abc.ScheduledAction[Any], state: Any) -> None:
        self._scheduler = scheduler
        self._seconds = seconds
        self._action = action
        self._state = state
        self._disposed = False
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the timer; called on the loop."""
        if not self._disposed:
            self._handle = self._scheduler.loop.call_later(self._seconds, self)

    def dispose(self) -> None:
        """Cancel the timer, from any thread."""
        self._disposed = True
        run_on(self._scheduler.loop, self._cancel)

    def __call__(self) -> None:
        self._handle = None  # the handle refers to this timer: a cycle
        self._scheduler.invoke_action(self._action, self._state)

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class Outcome(Protocol):
    """Receive the result or the exception of a call: one of the two, once."""

    def succeeded(self, result: Any) -> None:
        """Receive the result."""

    def failed(self, error: Exception) -> None:
        """Receive the exception."""


def settle(
    result: Any,
    loop: asyncio.AbstractEventLoop | None,
    outcome: Outcome,
    *,
    scheduler: abc.SchedulerBase | None = None,
) -> None:
    """Wait for a value, an awaitable of one, or an Observable (its first element; `None` if it is empty).

    A value is passed on at once. An awaitable runs on `loop`, whichever thread calls this, and runs to its end even if
    its outcome is no longer wanted. An Observable is subscribed to with `scheduler`.
    """
    if isinstance(result, Observable):
        _settle_observable(result, scheduler, outcome)
    elif inspect.isawaitable(result):
        _settle_awaitable(result, loop, outcome)
    else:
        outcome.succeeded(result)


def _settle_observable(source: Observable[Any], scheduler: abc.SchedulerBase | None, outcome: Outcome) -> None:
    subscription = SingleAssignmentDisposable()
    settled = False
    thrown: Exception | None = None

    def once(callback: Callable[[Any], None], value: Any) -> None:
        nonlocal settled, thrown
        if settled:
            if value is not None and value is thrown:  # a source hands it to `on_error` from inside `subscribe`
                raise thrown
            return
        settled = True
        subscription.dispose()
        try:
            callback(value)
        except Exception as error:
            thrown = error
            raise

    subscription.disposable = source.subscribe(
        lambda value: once(outcome.succeeded, value),
        lambda error: once(outcome.failed, as_exception(error)),
        lambda: once(outcome.succeeded, None),
        scheduler=scheduler,
    )


def _settle_awaitable(awaitable: Awaitable[Any], loop: asyncio.AbstractEventLoop | None, outcome: Outcome) -> None:
    coroutine = awaitable if inspect.iscoroutine(awaitable) else _awaited(awaitable)
    if loop is None or not run_on(loop, lambda: start_task(loop, coroutine, partial(_report, outcome))):
        coroutine.close()  # or Python warns that it was never awaited
        outcome.failed(
            RuntimeError(
                "A coroutine needs an event loop, and none was running at subscribe: "
                "subscribe inside one, or give a plain function."
            )
        )


def _report(outcome: Outcome, task: asyncio.Task[Any]) -> None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is None:
        outcome.succeeded(task.result())
    else:
        outcome.failed(as_exception(error))


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def as_exception(error: BaseException) -> Exception:
    """Return an `Exception` for anything raised: RxPY and tasks also report a CancelledError."""
    if isinstance(error, Exception):
        return error
    if isinstance(error, asyncio.CancelledError):
        return RuntimeError("It was cancelled before it finished.")
    wrapped = RuntimeError(f"It ended with {type(error).__name__}.")
    wrapped.__cause__ = error
    return wrapped
