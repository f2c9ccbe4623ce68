"""The promise of the operators, by hand: one clock, one consumer, ifs and lists, no Rx."""

from __future__ import annotations

import contextlib
import heapq
from collections import Counter
from collections.abc import Callable
from typing import Any

from rxauth import NeverLiveError

from .generated_world import LAST, STOPPED, SUBSCRIBED, Attempt, Case, Ends, Item, Log, Thrown, Unjudged, exceptions
from .plain_model import Event


class SourceRaised(Exception):
    def __init__(self, name: str, by: int) -> None:
        super().__init__(name)
        self.by = by


class Subscription:
    """One subscription to the source."""

    def __init__(self, number: int, attempt: Attempt) -> None:
        self.number = number
        self.attempt = attempt
        self.inside = True  # the source's `subscribe` has not returned
        self.ended = False
        self.over = False  # its events are ignored
        self.disposed = False
        self.held: list[Event] = []
        self.live = False
        self.queue: list[Event] | None = None  # of a flush that is under way
        self.end: Callable[[], None] | None = None  # what waits for the end of that
        self.last: Event | None = None


class Model:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.log = Log()
        self.now = SUBSCRIBED
        self.todo: list[tuple[int, int, Callable[[], None]]] = []
        self.calls: Counter[str] = Counter()
        self.exceptions = exceptions()
        self.inside = True  # the consumer's `subscribe` has not returned
        self.asked_to_leave = False
        self.closed = False  # disposed, or ended
        self.current: Subscription | None = None
        self.recovery: Recovery | None = None

    def after(self, ticks: int, action: Callable[[], None]) -> None:
        heapq.heappush(self.todo, (self.now + ticks, self.calls["after"], action))
        self.calls["after"] += 1

    def run(self) -> Log:
        self.after(0, self.subscribe_consumer)
        self.after(STOPPED - SUBSCRIBED, self.dispose)
        if self.case.dispose_at is not None:
            self.after(self.case.dispose_at, self.dispose)
        while self.todo:
            self.now, _, action = heapq.heappop(self.todo)
            try:
                action()
            except (Thrown, SourceRaised) as error:
                self.log.escaped.append((self.now, name_of(error)))
        return self.log

    def subscribe_consumer(self) -> None:
        try:
            self.subscribe(0)
        except (Thrown, SourceRaised) as error:
            if self.closed:
                raise
            self.terminate(name_of(error))
        finally:
            self.inside = False
            if self.asked_to_leave:
                self.dispose()

    def dispose(self) -> None:
        if self.inside:  # `subscribe` has not returned what can be disposed
            self.asked_to_leave = True
        else:
            self.close()

    def close(self) -> None:
        self.closed = True
        if self.recovery is not None:
            self.recovery.settled = True
        if self.current is not None:
            self.unsubscribe(self.current)

    def deliver(self, event: Event) -> None:
        if self.closed:
            return
        self.log.seen.append((self.now, event))
        number = self.called("on_next")
        if number in self.case.emit_in and self.current is not None:
            self.arrive(self.current, self.case.emit_in[number])
        if number in self.case.throw_in:
            raise Thrown

    def terminate(self, error: str | None) -> None:
        if not self.closed:
            self.log.seen.append((self.now, Ends(error)))
            self.close()

    def called(self, name: str) -> int:
        self.calls[name] += 1
        call = name, self.calls[name]
        if call == self.case.dispose_in:
            self.dispose()
        if call == self.case.raise_in:
            raise Unjudged
        return self.calls[name]

    def subscribe(self, number: int) -> None:
        attempt = self.case.attempts[number]
        this = self.current = Subscription(number, attempt)
        self.log.subscribed.append(self.now)
        self.log.order.append("subscribe")
        try:
            for item in attempt.inside:
                self.arrive(this, item)
            if attempt.raises is not None:
                raise SourceRaised(attempt.raises, number)
        except (Thrown, SourceRaised) as error:
            # Rx: an exception inside `subscribe` is the stream's failure; behind its end it is the caller's.
            this.inside, this.disposed = False, True  # it has given nothing that could be disposed
            if not this.ended:
                this.ended = True
                self.failed(this, error)
            elif not this.over or not is_of(error, this):
                raise
            return
        this.inside = False
        at = 0
        for gap, item in attempt.later:
            at += gap
            self.after(at, lambda item=item: self.arrive_later(this, item))  # type: ignore[misc]
        if this.ended or this.over or (self.closed and not self.inside):
            self.unsubscribe(this)

    def unsubscribe(self, this: Subscription) -> None:
        if not this.inside and not this.disposed:
            this.disposed = True
            self.log.disposed.append((this.number, self.now))
            self.log.order.append("dispose")

    def arrive_later(self, this: Subscription, item: Item) -> None:
        if not this.disposed:
            self.arrive(this, item)

    def arrive(self, this: Subscription, item: Item) -> None:
        if this.ended:
            return
        if isinstance(item, Ends):
            this.ended = True
            try:
                if item.error is not None:
                    self.failed(this, SourceRaised(item.error, this.number))
                else:
                    self.completed(this)
            finally:
                self.unsubscribe(this)
        elif not this.over:
            self.next(this, item)

    def report(self, event: str) -> None:
        self.log.reported.append((self.now, event))
        with contextlib.suppress(Unjudged):  # it is logged
            self.called("on_recovery")

    def next(self, this: Subscription, event: Event) -> None:
        this.last = event
        if this.queue is not None:
            this.queue.append(event)
            return
        if this.live:
            self.deliver(event)
            return
        try:
            self.called("is_error")
            error = event.type == "error"
            prelude = False
            if not error and len(this.held) < self.case.max_held:
                self.called("is_prelude")
                prelude = event.type in ("start", "ping")
        except Unjudged:
            this.held = []
            self.leave(this)
            self.judge(this, "Unjudged")
            return
        if error:
            self.leave(this)
            self.judge(this, event)
        elif prelude:
            this.held.append(event)
        elif not this.held:
            this.live = True
            self.deliver(event)
        else:
            this.live = True
            this.queue = [*this.held, event]
            try:
                while this.queue:
                    self.deliver(this.queue.pop(0))
            finally:
                this.queue = None
                if this.end is not None:
                    this.end()

    def leave(self, this: Subscription) -> None:
        this.over = True
        self.unsubscribe(this)

    def failed(self, this: Subscription, error: Thrown | SourceRaised) -> None:
        if this.over:
            if not is_of(error, this):
                raise error
        elif this.queue is not None:
            this.end = lambda: self.finish_late(this, self.unwrapped(error)[1])
        elif isinstance(error, Thrown):
            self.terminate("Thrown")
        else:
            held, failure = self.unwrapped(error)
            if this.live:
                self.finish_late(this, failure)
            else:
                this.held += held
                self.judge(this, failure)

    def completed(self, this: Subscription) -> None:
        if this.over:
            return
        if this.queue is not None:
            this.end = lambda: self.complete(this)
        elif this.live:
            self.complete(this)
        else:
            self.judge(this, None)

    def complete(self, this: Subscription) -> None:
        disposed = self.closed
        self.terminate(None)
        if not disposed:
            self.report_late(this, this.last if this.last is not None and this.last.type == "error" else None)

    def finish_late(self, this: Subscription, failure: Any) -> None:
        disposed = self.closed
        self.finish(this, failure)
        if not disposed:
            self.report_late(this, failure)

    def report_late(self, this: Subscription, failure: Any) -> None:
        if this.number != 0 or failure is None:
            return
        with contextlib.suppress(Unjudged):  # the stream has ended
            self.called("is_auth_error")
            if is_auth(failure):
                self.report("AuthFailedAfterLive")

    def unwrapped(self, error: Exception) -> tuple[list[Event], Any]:
        name = name_of(error)
        exception = self.exceptions[name]
        if not isinstance(exception, NeverLiveError):
            return [], name
        failure = exception.failure
        return list(exception.held), "auth" if failure is self.exceptions["auth"] else (
            "other" if failure is self.exceptions["other"] else failure
        )

    def judge(self, this: Subscription, failure: Any) -> None:
        rejected = False
        if this.number == 0 and failure is not None:
            try:
                self.called("is_auth_error")
            except Unjudged:
                this.held = []
                self.finish(this, "Unjudged")
                return
            rejected = is_auth(failure)
        if not rejected:
            self.finish(this, failure)
            return
        self.leave(this)
        if not self.closed:
            self.recovery = Recovery(self, failure, lambda: self.finish(this, failure))
            self.recovery.start()

    def finish(self, this: Subscription, failure: Any) -> None:
        if not this.live and not (self.case.discard_on_error and failure is not None):
            for event in this.held:
                self.deliver(event)
        if failure is None:
            self.terminate(None)
        elif isinstance(failure, Event):
            self.deliver(failure)
            self.terminate(None)
        elif self.case.error_event is None:
            self.terminate(failure)
        else:
            try:
                self.called("error_event")
            except Unjudged:
                self.terminate("Unjudged")
                return
            if self.case.error_event == "raises":
                self.terminate("Unjudged")
                return
            self.deliver(LAST)
            self.terminate(None)


class Recovery:
    def __init__(self, model: Model, failure: Any, give_up: Callable[[], None]) -> None:
        self.model, self.failure, self.give_up = model, failure, give_up
        self.settled = False  # or disposed
        self.tries = 0
        timeout = model.case.timeout
        self.deadline = 10**9 if timeout is None else model.now + timeout

    def start(self) -> None:
        self.model.report("AuthRejected")
        self.next_try()
        if self.model.case.timeout is not None and not self.settled:
            self.model.after(self.deadline - self.model.now, self.fail)

    def next_try(self) -> None:
        if self.settled:
            return
        if self.model.now >= self.deadline:
            self.fail()
            return
        case = self.model.case
        self.model.log.refreshed.append((self.model.now, self.failure))
        self.model.log.order.append("refresh")
        this = case.tries[min(self.tries, len(case.tries) - 1)]
        self.tries += 1
        try:
            self.model.called("refresh")
        except Unjudged:
            self.ended("Unjudged", None)
            return
        if this.how == "never":
            return
        if this.how == "stream" and this.delay:
            self.model.after(this.delay, lambda: self.ended(this.error, this.value))
        else:
            self.ended(this.error, this.value)

    def ended(self, error: str | None, value: Any) -> None:
        if self.settled:
            return
        model = self.model
        if error == "transient" and self.tries < model.case.limit:
            model.report("RefreshRetryScheduled")
            if model.case.wait:
                model.after(model.case.wait, self.next_try)
            else:
                self.next_try()
        elif error is not None:
            self.fail()
        elif value:
            self.settled = True
            model.report("Refreshed")
            if not model.closed:
                model.report("Resubscribed")
            if not model.closed:
                model.subscribe(1)
        else:
            self.settled = True
            model.report("RefreshUnchanged")
            if not model.closed:
                self.give_up()

    def fail(self) -> None:
        if self.settled:
            return
        self.settled = True
        self.model.report("RefreshFailed")
        if not self.model.closed:
            self.give_up()


def is_auth(failure: Any) -> bool:
    return failure in ("auth", "Thrown") or getattr(failure, "status", None) == 401


def name_of(error: Exception) -> str:
    return "Thrown" if isinstance(error, Thrown) else str(error.args[0])


def is_of(error: Exception, this: Subscription) -> bool:
    """Whether it is this attempt's own, and not of a consumer or a later attempt."""
    return isinstance(error, SourceRaised) and error.by == this.number
