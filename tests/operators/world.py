"""A run of the operators over one case, on a virtual clock that writes everything down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import reactivex as rx
import tenacity
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable
from reactivex.testing import TestScheduler

from rxauth import (
    NeverLiveError,
    buffer_until_live,
    flush_on_complete_or_error,
    limit_silence,
    recover_auth,
    retry_never_live,
    retry_on_first_auth_error,
)

from .cases import LAST, Case, Ends, Event, Item, Thrown, Unjudged, exceptions

SUBSCRIBED, STOPPED = 200, 2000


@dataclass
class Log:
    """Notifications and calls, with times. `emitted` is by attempt; `escaped` reached the caller or a timer."""

    seen: list[tuple[float, Any]] = field(default_factory=list)
    subscribed: list[float] = field(default_factory=list)
    refreshed: list[tuple[float, Any]] = field(default_factory=list)
    reported: list[tuple[float, str]] = field(default_factory=list)
    disposed: list[tuple[float, int]] = field(default_factory=list)
    escaped: list[tuple[float, str]] = field(default_factory=list)
    emitted: list[list[tuple[float, Item]]] = field(default_factory=list)

    def lists(self) -> tuple[list[Any], ...]:
        return self.seen, self.subscribed, self.refreshed, self.reported

    def lengths(self) -> list[int]:
        return list(map(len, self.lists()))


class Clock(TestScheduler):
    """A thread that survives what its actions throw."""

    def __init__(self, escaped: Callable[[Exception], None]) -> None:
        super().__init__()
        self.escaped = escaped

    def invoke_action(self, action: Any, state: Any = None) -> abc.DisposableBase:
        try:
            return super().invoke_action(action, state)
        except Exception as error:
            self.escaped(error)
            return Disposable()


class World:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.log = Log()
        self.left: tuple[float, list[int]] | None = (
            None  # the time, and the lengths of the log's lists, when the consumer had disposed
        )
        self.clock = Clock(lambda error: self.log.escaped.append((self.clock.clock, self.name(error))))
        self.exceptions = exceptions()
        self.calls: Counter[str] = Counter()
        self.subscription = SingleAssignmentDisposable()
        self.inside = True  # the consumer's `subscribe` has not returned
        self.emitter: Callable[[Item], None]

    def name(self, failure: Any) -> Any:
        """Return the name of an exception, which must be the very same one, or the content of a new NeverLiveError."""
        if isinstance(failure, Thrown | Unjudged | TimeoutError):
            return type(failure).__name__
        known = next((name for name, each in self.exceptions.items() if each is failure), failure)
        return (known.held, self.name(known.failure)) if isinstance(known, NeverLiveError) else known

    def called(self, name: str) -> int:
        """Do what happens inside this call of a callback."""
        self.calls[name] += 1
        call = name, self.calls[name]
        if call == self.case.dispose_in:
            self.leave()
        if call == self.case.raise_in:
            raise Unjudged(name)
        return self.calls[name]

    def leave(self, *_: Any) -> None:
        self.subscription.dispose()
        if not self.inside:  # else there is nothing to dispose yet
            self.has_left()

    def has_left(self) -> None:
        ended = any(isinstance(item, Ends) for _, item in self.log.seen)
        if self.left is None and self.log.subscribed and not ended:
            self.left = self.clock.clock, self.log.lengths()

    # The source

    def attempt(self, observer: abc.ObserverBase[Any], scheduler: Any = None) -> abc.DisposableBase:
        assert scheduler is self.clock
        log, number = self.log, len(self.log.subscribed)
        attempt = self.case.attempts[min(number, len(self.case.attempts) - 1)]
        emitted: list[tuple[float, Item]] = []
        log.subscribed.append(self.clock.clock)
        log.emitted.append(emitted)

        def emit(item: Item) -> None:
            emitted.append((self.clock.clock, item))
            if not isinstance(item, Ends):
                observer.on_next(item)
            elif item.error is not None:
                observer.on_error(self.exceptions[item.error])
            else:
                observer.on_completed()

        self.emitter = emit
        for item in attempt.inside:
            emit(item)
        if attempt.raises is not None:
            emitted.append((self.clock.clock, Ends(attempt.raises)))
            log.disposed.append((self.clock.clock, number))  # there is nothing to dispose
            raise self.exceptions[attempt.raises]
        timers = CompositeDisposable()
        at = 0
        for gap, item in attempt.later:
            at += gap
            timers.add(self.clock.schedule_relative(at, lambda *_, item=item: emit(item)))

        def dispose() -> None:
            log.disposed.append((self.clock.clock, number))
            if not attempt.deaf:
                timers.dispose()

        return Disposable(dispose)

    # The callbacks

    def is_error(self, event: Event) -> bool:
        if not any(isinstance(item, Ends) for _, item in self.log.seen):  # after the end only one operator calls it
            self.called("is_error")
        return event.type == "error"

    def is_prelude(self, event: Event) -> bool:
        self.called("is_prelude")
        return event.type in ("start", "ping")

    def is_auth_error(self, failure: Any) -> bool:
        self.called("is_auth_error")
        return getattr(failure, "status", None) == 401

    def error_event(self, error: Exception) -> Event:
        self.called("error_event")
        if self.case.error_event == "raises":
            raise Unjudged("error_event")
        return LAST

    def on_recovery(self, event: Any) -> None:
        self.log.reported.append((self.clock.clock, type(event).__name__))
        self.called("on_recovery")

    def refresh(self, failure: Any) -> Any:
        self.log.refreshed.append((self.clock.clock, self.name(failure)))
        self.called("refresh")
        this = self.case.tries[min(len(self.log.refreshed), len(self.case.tries)) - 1]

        def end(*_: Any) -> Any:
            if this.error is not None:
                raise self.exceptions[this.error]
            return this.value

        if this.delay == 0:
            return end()
        return rx.never() if this.delay is None else rx.timer(this.delay).pipe(ops.map(end))

    def on_next(self, event: Event) -> None:
        self.log.seen.append((self.clock.clock, event))
        number = self.called("on_next")
        if number in self.case.emit_in:
            self.emitter(self.case.emit_in[number])
        if number in self.case.throw_in:
            raise Thrown

    def ended(self, error: Exception | None = None) -> None:
        self.log.seen.append((self.clock.clock, Ends(self.name(error))))

    # The run

    def operators(self, *, fused: bool) -> list[Any]:
        case = self.case
        hold: Any = {"is_prelude": self.is_prelude, "is_error": self.is_error, "max_held": case.max_held}
        recover: Any = {
            "is_auth_error": self.is_auth_error,
            "retrying": tenacity.Retrying(
                stop=tenacity.stop_after_attempt(case.limit),
                wait=tenacity.wait_fixed(case.wait),
                retry=tenacity.retry_if_exception_type(OSError),
                reraise=True,
            ),
            "timeout": case.timeout,
            "on_recovery": self.on_recovery,
        }
        flush: Any = {
            "discard_on_error": case.discard_on_error,
            "error_event": self.error_event if case.error_event else None,
        }
        limit = [limit_silence(first=case.first, idle=case.idle)] if case.first or case.idle else []
        if fused:
            return [*limit, recover_auth(self.refresh, **hold, **recover, **flush)]
        again = tenacity.Retrying(stop=tenacity.stop_after_attempt(case.again), wait=tenacity.wait_fixed(case.wait))
        return [
            *limit,
            buffer_until_live(**hold),
            retry_on_first_auth_error(self.refresh, **recover),  # it calls the default `is_error`
            *([retry_never_live(retrying=again)] if case.again > 1 else []),
            flush_on_complete_or_error(**flush),
        ]

    def run(self, *operators: Any, fused: bool = False) -> Log:
        pipe = operators or self.operators(fused=fused)

        def subscribe(*_: Any) -> None:
            self.subscription.disposable = (
                Observable(self.attempt)
                .pipe(*pipe)
                .subscribe(self.on_next, self.ended, self.ended, scheduler=self.clock)
            )
            self.inside = False
            if self.subscription.is_disposed:
                self.has_left()

        self.clock.schedule_absolute(SUBSCRIBED, subscribe)
        self.clock.schedule_absolute(STOPPED, lambda *_: self.subscription.dispose())
        if self.case.dispose_at is not None:
            self.clock.schedule_absolute(SUBSCRIBED + self.case.dispose_at, self.leave)
        self.clock.start()
        return self.log
