"""Generated streams: what can happen to one, and a run of it on a virtual clock that writes everything down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import reactivex as rx
import tenacity
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable
from reactivex.testing import TestScheduler

from rxauth import (
    NeverLiveError,
    buffer_until_live,
    flush_on_complete_or_error,
    recover_auth,
    retry_on_first_auth_error,
)

from .plain_model import Event

SUBSCRIBED, STOPPED = 200, 2000


@dataclass(frozen=True)
class Ends:
    """A terminal: an exception, by its name in `World.exceptions`, or a completion."""

    error: str | None = None


Item: TypeAlias = Event | Ends


class HTTPError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Thrown(Exception):
    """An exception of the consumer. It looks like an auth failure, and is none of the stream."""

    status = 401


class Unjudged(Exception):
    """An exception of a predicate."""


START, PING = Event("start", "s"), Event("ping", "p")
TEXT, DONE = Event("text_delta", "a"), Event("done", "d")
REJECTED, BUSY = Event("error", "e401", 401), Event("error", "e500", 500)
LAST = Event("error", "made of an exception")
AGAIN = Event("text_delta", "emitted by the consumer")
EARLIER = Event("start", "held by an earlier buffer")


def exceptions() -> dict[str, Exception]:
    """Fresh ones: a recovery writes on them, and a test that looks for the very same object needs one of its own."""
    auth, other = HTTPError(401), HTTPError(500)
    return {
        "auth": auth,
        "other": other,
        "transient": OSError(),
        "final": ValueError(),
        "held, completed": NeverLiveError((EARLIER,), None),
        "held, event": NeverLiveError((EARLIER,), REJECTED),
        "held, auth": NeverLiveError((EARLIER,), auth),
        "held, other": NeverLiveError((EARLIER,), other),
        "held, nested": NeverLiveError((EARLIER,), NeverLiveError((START,), auth)),
    }


@dataclass(frozen=True)
class Attempt:
    """One subscription to the source.

    Args:
        inside: emitted inside `subscribe`, also after a dispose.
        raises: raised at the end of `subscribe`.
        later: emitted so many ticks after the one before.
        deaf: it goes on after it was disposed.
    """

    inside: tuple[Item, ...] = ()
    raises: str | None = None
    later: tuple[tuple[int, Item], ...] = ()
    deaf: bool = False


@dataclass(frozen=True)
class Try:
    """One call of `refresh`: `now` inside the call, `stream` inside or after `delay` ticks, or `never`."""

    how: str = "now"
    delay: int = 0
    value: Any = "fresh"
    error: str | None = None


@dataclass(frozen=True)
class Case:
    """Everything that happens to one stream.

    Args:
        attempts: the last one again, if there are more subscriptions.
        tries: of the refresh; the last one again.
        limit, wait: of the policy: how many tries of an `OSError`, and the ticks between them.
        dispose_at: ticks after the subscription.
        dispose_in: or inside a callback: its name and the number of the call.
        throw_in: the consumer's `on_next` throws, by the number of the call.
        raise_in: a predicate raises: its name and the number of the call.
        emit_in: the consumer emits into the source, by the number of the call of its `on_next`.
    """

    attempts: tuple[Attempt, ...]
    tries: tuple[Try, ...] = (Try(),)
    limit: int = 3
    wait: int = 2
    timeout: int | None = 40
    max_held: int = 64
    discard_on_error: bool = False
    error_event: str | None = None
    dispose_at: int | None = None
    dispose_in: tuple[str, int] | None = None
    throw_in: frozenset[int] = frozenset()
    raise_in: tuple[str, int] | None = None
    emit_in: dict[int, Item] = field(default_factory=dict)


@dataclass
class Log:
    """The notifications and calls, with times.

    Args:
        escaped: exceptions that reached the caller: a timer or `subscribe` itself.
        order: of the calls of the source and the refresh.
    """

    seen: list[tuple[int, Any]] = field(default_factory=list)
    subscribed: list[int] = field(default_factory=list)
    disposed: list[tuple[int, int]] = field(default_factory=list)
    refreshed: list[tuple[int, Any]] = field(default_factory=list)
    reported: list[tuple[int, str]] = field(default_factory=list)
    escaped: list[tuple[int, str]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)


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
        self.clock = Clock(lambda error: self.log.escaped.append((self.now(), self.name(error))))
        self.exceptions = exceptions()
        self.calls: Counter[str] = Counter()
        self.subscription = SingleAssignmentDisposable()
        self.emitter: abc.ObserverBase[Any] | None = None

    def now(self) -> int:
        return int(self.clock.clock)

    def name(self, failure: Any) -> Any:
        """Of an exception, which must be the very same one."""
        if isinstance(failure, Thrown | Unjudged):
            return type(failure).__name__
        return next((name for name, each in self.exceptions.items() if each is failure), failure)

    def called(self, name: str) -> int:
        """A callback is running: what happens inside this call of it?"""
        self.calls[name] += 1
        call = name, self.calls[name]
        if call == self.case.dispose_in:
            self.subscription.dispose()
        if call == self.case.raise_in:
            raise Unjudged(name)
        return self.calls[name]

    # the source

    @property
    def source(self) -> Observable[Any]:
        return Observable(self.attempt)

    def attempt(self, observer: abc.ObserverBase[Any], scheduler: Any = None) -> abc.DisposableBase:
        number = len(self.log.subscribed)
        attempt = self.case.attempts[min(number, len(self.case.attempts) - 1)]
        self.log.subscribed.append(self.now())
        self.log.order.append("subscribe" if scheduler is self.clock else "subscribe, and not on its scheduler")
        self.emitter = observer
        for item in attempt.inside:
            self.emit(observer, item)
        if attempt.raises is not None:
            raise self.exceptions[attempt.raises]
        timers = CompositeDisposable()
        at = 0
        for gap, item in attempt.later:
            at += gap
            timers.add(self.clock.schedule_relative(at, lambda *_, item=item: self.emit(observer, item)))

        def dispose() -> None:
            self.log.disposed.append((number, self.now()))
            self.log.order.append("dispose")
            if not attempt.deaf:
                timers.dispose()

        return Disposable(dispose)

    def emit(self, observer: abc.ObserverBase[Any], item: Item) -> None:
        if not isinstance(item, Ends):
            observer.on_next(item)
        elif item.error is not None:
            observer.on_error(self.exceptions[item.error])
        else:
            observer.on_completed()

    # the callbacks

    def is_error(self, event: Event) -> bool:
        if not any(isinstance(item, Ends) for _, item in self.log.seen):  # `three` has its own after the end
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
        self.log.reported.append((self.now(), type(event).__name__))
        self.called("on_recovery")

    def refresh(self, failure: Any) -> Any:
        self.log.refreshed.append((self.now(), self.name(failure)))
        self.log.order.append("refresh")
        self.called("refresh")
        this = self.case.tries[min(len(self.log.refreshed), len(self.case.tries)) - 1]
        if this.how == "now":
            if this.error is not None:
                raise self.exceptions[this.error]
            return this.value
        if this.how == "never":
            return rx.never()
        return Observable(lambda observer, _: self.settle(this, observer))

    def settle(self, this: Try, observer: abc.ObserverBase[Any]) -> abc.DisposableBase:
        def end(*_: Any) -> None:
            if this.error is not None:
                observer.on_error(self.exceptions[this.error])
            elif this.value is None:
                observer.on_completed()
            else:
                observer.on_next(this.value)

        if this.delay:
            return self.clock.schedule_relative(this.delay, end)
        end()
        return Disposable()

    # the consumer

    def on_next(self, event: Event) -> None:
        self.log.seen.append((self.now(), event))
        number = self.called("on_next")
        if number in self.case.emit_in and self.emitter is not None:
            self.emit(self.emitter, self.case.emit_in[number])
        if number in self.case.throw_in:
            raise Thrown

    def on_error(self, error: Exception) -> None:
        self.log.seen.append((self.now(), Ends(self.name(error))))
        self.called("on_error")

    def on_completed(self) -> None:
        self.log.seen.append((self.now(), Ends()))
        self.called("on_completed")

    # the run

    def options(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        case = self.case
        transient = tenacity.retry_if_exception_type(OSError)
        return (
            {"is_prelude": self.is_prelude, "is_error": self.is_error, "max_held": case.max_held},
            {
                "is_auth_error": self.is_auth_error,
                "retrying": tenacity.Retrying(
                    stop=tenacity.stop_after_attempt(case.limit),
                    wait=tenacity.wait_fixed(case.wait),
                    retry=transient,
                    reraise=True,
                ),
                "timeout": case.timeout,
                "on_recovery": self.on_recovery,
            },
            {
                "discard_on_error": case.discard_on_error,
                "error_event": self.error_event if case.error_event else None,
            },
        )

    def run(self, pipe: Callable[[World], tuple[Any, ...]]) -> Log:
        self.clock.schedule_absolute(SUBSCRIBED, lambda *_: self.subscribe(pipe))
        self.clock.schedule_absolute(STOPPED, lambda *_: self.subscription.dispose())
        if self.case.dispose_at is not None:
            self.clock.schedule_absolute(SUBSCRIBED + self.case.dispose_at, lambda *_: self.subscription.dispose())
        self.clock.start()
        return self.log

    def subscribe(self, pipe: Callable[[World], tuple[Any, ...]]) -> None:
        self.subscription.disposable = self.source.pipe(*pipe(self)).subscribe(
            self.on_next, self.on_error, self.on_completed, scheduler=self.clock
        )


def three(world: World) -> tuple[Any, ...]:
    buffer, retry, flush = world.options()
    # The operators are strangers to each other: the one in the middle calls a predicate of its own.
    return (
        buffer_until_live(**buffer),
        retry_on_first_auth_error(world.refresh, **retry),
        flush_on_complete_or_error(**flush),
    )


def fused(world: World) -> tuple[Any, ...]:
    buffer, retry, flush = world.options()
    return (recover_auth(world.refresh, **buffer, **retry, **flush),)
