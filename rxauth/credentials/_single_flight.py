"""Run a piece of work once for all of its callers, on a private thread: one token request for all streams.

A task on the loop of a caller ends with that loop, when `asyncio.run` returns or at Ctrl-C: a token request would be
cut off after the server has rotated the refresh token. The private thread has its own loop, and lives only while there
is work: nothing to close, nothing to leak.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # its exit hook, registered before ours, runs after it: until then names resolve
import contextlib
import contextvars
import functools
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Hashable, Iterator
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

_EXIT_PATIENCE = 20.0  # s for which the end of the program waits for a server's answer


class Interrupted(Exception):
    """The work was cancelled before it was done."""


class _Flight(concurrent.futures.Future[T]):
    """The outcome of a piece of work. The `waiters` of a loop are used on that loop's thread alone."""

    def __init__(self) -> None:
        super().__init__()
        self.task: asyncio.Task[T] | None = None
        self.waiters: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[T], asyncio.TimerHandle]]] = {}
        self.set_running_or_notify_cancel()  # from now on cancelling a waiter does not cancel the work


class SingleFlight:
    """Run at most one piece of work per key at a time, for callers on any thread and any loop."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._mutex = threading.Lock()
        self._flights: dict[Hashable, _Flight[Any]] = {}
        self._unbroken: dict[asyncio.Task[Any] | None, bool] = {}  # whether a cancellation was put off
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle = asyncio.Event()
        self._thread: threading.Thread | None = None

    def run(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> _Flight[T]:
        """Join the work that is under way for `key`, or start it; RuntimeError if no thread can be started."""
        with self._mutex:
            flight = self._flights.get(key)
            if flight is None:
                loop = self._loop or self._start_thread()
                flight = self._flights[key] = _Flight()
                # In an empty context: the work belongs to all callers, the context variables to one of them.
                loop.call_soon_threadsafe(self._start, key, flight, work, context=contextvars.Context())
            return flight

    def join(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]], *, within: float) -> asyncio.Future[T]:
        """Join or start the work; return a future of the running loop, which fails after `within` seconds.

        Neither the TimeoutError nor a cancelled future ends the work. One call wakes all waiters of a loop: a call for
        each would cost more than the rest of the wait.
        """
        flight = self.run(key, work)
        loop = asyncio.get_running_loop()
        waiters = flight.waiters.get(loop)
        if waiters is None:
            waiters = flight.waiters[loop] = []
            flight.add_done_callback(functools.partial(_wake, loop, waiters))
        waiter: asyncio.Future[T] = loop.create_future()
        waiters.append((waiter, loop.call_later(within, _time_out, waiter)))
        return waiter

    @property
    def unbreakable(self) -> bool:
        """Whether there is work under way that `close` waits for."""
        return bool(self._unbroken)

    def close(self, within: float = _EXIT_PATIENCE) -> bool:
        """Cancel all work but that inside `unbroken()`, and wait until it has ended; return whether it has."""
        with self._mutex:
            thread, loop = self._thread, self._loop
            if loop is not None:
                loop.call_soon_threadsafe(self._cancel_all)
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(within)
        if thread.is_alive() and self._unbroken:
            log.error(
                "The program ends while the token endpoint has not answered a refresh. "
                "If the next one fails, log in again."
            )
        return not thread.is_alive()

    @contextlib.contextmanager
    def unbroken(self) -> Iterator[None]:
        """Keep `close` from cancelling the work inside.

        A cancellation that comes meanwhile is dropped if the work inside succeeds, for then all of it is nearly done;
        if it fails, the cancellation takes the place of the failure, so that there is no other try. Not a shielded
        task: the work inside stays in the task that holds the store's lock.
        """
        task = asyncio.current_task()
        self._unbroken[task] = False
        try:
            yield
        except BaseException:
            # Raised, not requested: a request would come up in the next await, where the lock is released.
            if self._unbroken[task]:
                raise asyncio.CancelledError from None
            raise
        finally:
            del self._unbroken[task]

    def _start_thread(self) -> asyncio.AbstractEventLoop:
        # A plain loop, not the policy's: a GUI's loop cannot run on a second thread.
        loop = asyncio.SelectorEventLoop()
        idle = asyncio.Event()
        thread = threading.Thread(target=_serve, args=(loop, idle), name="rxauth-refresh", daemon=True)
        try:
            thread.start()
        except BaseException:
            loop.close()
            raise
        self._loop, self._idle, self._thread = loop, idle, thread
        return loop

    def _start(self, key: Hashable, flight: _Flight[T], work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        flight.task = asyncio.get_running_loop().create_task(work())
        # Not a try around the work: a task that is cancelled before its first step never enters the try.
        flight.task.add_done_callback(functools.partial(self._end, key, flight))

    def _end(self, key: Hashable, flight: _Flight[T], task: asyncio.Task[T]) -> None:
        with self._mutex:
            del self._flights[key]
            if not self._flights:
                self._loop = None
                self._idle.set()
        # Only now: a caller that asks again because of the outcome must not join the flight that has ended.
        if task.cancelled():
            flight.set_exception(Interrupted("The program ended before the work did."))
        elif (error := task.exception()) is not None:
            flight.set_exception(error)
        else:
            flight.set_result(task.result())

    def _cancel_all(self) -> None:
        for flight in list(self._flights.values()):
            if flight.task in self._unbroken:
                self._unbroken[flight.task] = True
            elif flight.task is not None:
                flight.task.cancel()


def _wake(
    loop: asyncio.AbstractEventLoop,
    waiters: list[tuple[asyncio.Future[T], asyncio.TimerHandle]],
    flight: concurrent.futures.Future[T],
) -> None:
    def wake() -> None:
        error = flight.exception()
        for waiter, timer in waiters:
            timer.cancel()
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(flight.result())
            else:
                waiter.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop is closed, and its waiters with it
        loop.call_soon_threadsafe(wake)


def _time_out(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


def _serve(loop: asyncio.AbstractEventLoop, idle: asyncio.Event) -> None:
    try:
        loop.run_until_complete(_until(idle))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        # asyncio.Runner would wait for the threads that resolve names: one may hang, and from Python 3.12 on no thread
        # that could wait for them starts once the program is ending.
        loop.close()


async def _until(idle: asyncio.Event) -> None:
    # For the same reason a thread is started now: a store may have to resolve a name in order to save.
    await asyncio.to_thread(lambda: None)
    await idle.wait()
    left_over = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left_over:
        task.cancel()
    await asyncio.gather(*left_over, return_exceptions=True)


flights = SingleFlight()


if hasattr(os, "register_at_fork"):  # the parent's work goes on in the parent alone
    os.register_at_fork(after_in_child=flights._forget)

# Before other threads are joined and before executors refuse work, which `atexit` would be too late for. Without this
# a request that is under way when the program ends dies with its daemon thread, and the rotated token with it.
with contextlib.suppress(AttributeError, RuntimeError):
    threading._register_atexit(flights.close)  # type: ignore[attr-defined]
