from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SerialDisposable, SingleAssignmentDisposable

from rxauth.operators._attempt import operator_of
from rxauth.operators._predicates import is_error_event, is_opener, is_ping_event
from rxauth.waiting import running_loop, seconds_on, waiting_scheduler

E = TypeVar("E")

_ROUNDING = 1e-5  # seconds: schedulers keep times as datetimes, in microseconds
_LATE = 1.0  # seconds: a timer that fires later than this was delayed by a busy loop or a laptop that slept


def limit_silence(
    *,
    first: float | None = None,
    idle: float | None = None,
    is_prelude: Callable[[Any], bool] = is_opener,
    is_error: Callable[[Any], bool] = is_error_event,
    is_ping: Callable[[Any], bool] = is_ping_event,
) -> Callable[[Observable[E]], Observable[E]]:
    """Fail with `TimeoutError` when a stream is silent for too long.

        source              s---a-------b|     p: a ping, which is removed
        first=5             s---a-------b|     a is live, so `first` no longer counts
        idle=5              s---a----#
        source              s-p-p-p-p-p-p-p
        first=5             s----#             preludes and pings do not meet `first`
        idle=5              s---------- ...    both meet `idle`

    Put it in front of the buffer, as `retry_never_live` shows: the `TimeoutError` of a stream that is not live is then
    the failure of a `NeverLiveError`. After the buffer no prelude and no ping reaches it, so a long thinking pause
    counts as silence; after a retry it measures all attempts and their waits together. rxauth's sources emit pings with
    `pings=True`; each ping also resets their own `read_timeout`.

    It waits as `retry_on_first_auth_error` does; setting the wall clock changes nothing. An event that arrives exactly
    at a limit is in time. A timer that fires late (the loop was busy, the laptop slept) extends the limit by the time
    that it was late, at most by a whole limit, so that events that have arrived meanwhile are read first.

    Args:
        first: seconds from `subscribe` to the first live event; `None` for no limit.
        idle: seconds without any event; `None` for no limit.
        is_prelude: whether an event can come before the server has answered.
        is_error: whether an event is a failure.
        is_ping: whether an event only says that the connection is alive; it is removed.

    Returns:
        An operator, which disposes the source when a limit runs out. If a predicate raises, the stream fails with that
        exception.

    Raises:
        ValueError: a limit is not a positive, finite number.

    >>> import reactivex as rx
    >>> from reactivex.testing import TestScheduler
    >>> clock = TestScheduler()
    >>> _ = rx.never().pipe(limit_silence(first=60)).subscribe(on_error=print, scheduler=clock)
    >>> clock.advance_to(60)
    The stream brought no live event within 60 s.
    """
    for name, limit in (("first", first), ("idle", idle)):
        if limit is not None and not (0 < limit < math.inf):
            raise ValueError(f"{name} is {limit}; it must be a finite number of seconds above 0, or None for no limit.")

    limits = math.inf if first is None else first, math.inf if idle is None else idle

    def is_before_live(event: E) -> bool:
        return is_error(event) or is_prelude(event)

    return operator_of(lambda observer: _Watch(observer, *limits, is_ping, is_before_live))


@dataclass(eq=False)
class _Watch(abc.DisposableBase, Generic[E]):
    """Watch one subscription, and fail it when a limit runs out."""

    observer: abc.ObserverBase[E]
    first: float
    idle: float
    is_ping: Callable[[E], bool]
    is_before_live: Callable[[E], bool]

    _due = math.inf  # when the timer should fire
    _extended_until = 0.0  # no limit runs out before this time
    _live = False
    _over = False

    def __post_init__(self) -> None:
        self._lock = threading.RLock()  # a timer thread must not fail the stream while an event is being delivered
        self._source = SingleAssignmentDisposable()
        self._timer = SerialDisposable()

    def connect(self, source: Observable[E], scheduler: abc.SchedulerBase | None) -> None:
        self._clock = waiting_scheduler(scheduler, running_loop())
        self._start = self._last_event_at = seconds_on(self._clock)
        self._wait()  # a source may block inside `subscribe`
        self._source.disposable = source.subscribe(
            self._on_next,
            partial(self._end, self.observer.on_error),
            partial(self._end, self.observer.on_completed),
            scheduler=scheduler,
        )

    def dispose(self) -> None:
        self._over = True
        self._timer.dispose()
        self._source.dispose()

    def _on_next(self, event: E) -> None:
        with self._lock:
            if self._over:  # the timer's thread is about to fail the stream
                return
            self._last_event_at = seconds_on(self._clock)
            try:
                ping = self.is_ping(event)
                self._live = self._live or not (ping or self.is_before_live(event))
            except Exception as error:
                self._end(self.observer.on_error, error)
                return
            if not ping:
                self.observer.on_next(event)

    def _end(self, notify: Callable[..., None], *error: Exception) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
        self.dispose()
        notify(*error)

    def _next_limit(self) -> tuple[float, float, str]:
        """Return when the next limit runs out, how long it is, and the text of its failure."""
        idle = self._last_event_at + self.idle, self.idle, f"The stream was silent for {self.idle:g} s."
        if self._live:
            return idle
        first = self._start + self.first, self.first, f"The stream brought no live event within {self.first:g} s."
        return min(first, idle)

    def _wait(self) -> None:
        with self._lock:  # the timer may fire on another thread before it is stored here
            at, _, _ = self._next_limit()
            self._due = max(at, self._extended_until)
            if self._due < math.inf and not self._over:
                delay = max(0.0, self._due - seconds_on(self._clock))
                self._timer.disposable = self._clock.schedule_relative(delay, self._on_timer)

    def _on_timer(self, _: abc.SchedulerBase, last_look: Any = None) -> None:
        with self._lock:
            now = seconds_on(self._clock)
            at, limit, words = self._next_limit()
            if now - self._due > _LATE:
                self._extended_until = now + min(now - self._due, limit)
            if max(at, self._extended_until) > now + _ROUNDING:
                self._wait()
                return
            if not last_look:  # an event that arrives in this very moment is in time
                self._timer.disposable = self._clock.schedule(self._on_timer, True)
                return
        self._end(self.observer.on_error, TimeoutError(words))
