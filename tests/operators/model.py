"""The promise of the operators by hand: lists of times and items in, lists out; no Rx."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from rxauth import NeverLiveError

from .cases import LAST, Case, Ends, Event, Item, exceptions
from .world import SUBSCRIBED, Log

WATCHED = 64  # events after live, among which an error event may be the one that ends the stream


@dataclass
class Outcome:
    """How an attempt went: it was shown, or it ended with a failure (`None`: a completion) before it was live."""

    at: float
    held: list[Event] = field(default_factory=list)
    failure: Any = None
    shown: list[tuple[float, Any]] | None = None


class Model:
    """Predict what is seen of a case from what the source has emitted; of a run only `log.emitted` is read."""

    def __init__(self, case: Case, emitted: list[list[tuple[float, Item]]]) -> None:
        self.case = case
        self.emitted = emitted
        self.log = Log(emitted=emitted)
        self.now: float = SUBSCRIBED

    def run(self) -> Log:
        outcome = self.recovered()
        for _ in range(1, self.case.again):
            if outcome.shown is not None or not is_transient(outcome.failure):
                break
            self.now = outcome.at + self.case.wait
            outcome = self.recovered()
        if outcome.shown is not None:
            self.log.seen = outcome.shown
        elif outcome.at < math.inf:
            kept = [] if self.case.discard_on_error and outcome.failure is not None else outcome.held
            self.log.seen = [(outcome.at, item) for item in [*kept, *self.finish(outcome.failure)]]
        return self.log

    def limited(self) -> list[tuple[float, Item]]:
        """Return what a silence limit lets through of the attempt that begins now."""
        case, began = self.case, self.now
        items = self.emitted[len(self.log.subscribed)]
        self.log.subscribed.append(began)
        if not case.first and not case.idle:
            return items
        passed: list[tuple[float, Item]] = []
        heard, live = began, False
        for time, item in [*items, (math.inf, Ends())]:
            limit = min(heard + (case.idle or math.inf), math.inf if live else began + (case.first or math.inf))
            if time > limit:
                return [*passed, (limit, Ends("TimeoutError"))]
            heard = time
            live = live or (isinstance(item, Event) and item.type == "text_delta")
            if time < math.inf and (isinstance(item, Ends) or item.type != "ping"):
                passed.append((time, item))
            if isinstance(item, Ends):
                break
        return passed

    def attempt(self, *, first: bool) -> Outcome:
        held: list[Event] = []
        items = self.limited()
        for number, (time, item) in enumerate(items):
            if isinstance(item, Ends):
                more, failure = self.unwrapped(item.error)
                return Outcome(time, held + more, failure)
            if item.type == "error":
                return Outcome(time, held, item)
            if item.type not in ("start", "ping") or len(held) == self.case.max_held:
                shown: list[tuple[float, Any]] = [(time, each) for each in [*held, item]]
                return Outcome(time, shown=shown + self.tail(items[number + 1 :], first=first))
            held.append(item)
        return Outcome(math.inf)

    def tail(self, items: list[tuple[float, Item]], *, first: bool) -> list[tuple[float, Any]]:
        """Return what is shown after live: everything, as it comes; a first auth failure is reported as late."""
        shown: list[tuple[float, Any]] = []
        for number, (time, item) in enumerate(items):
            if isinstance(item, Event):
                shown.append((time, item))
                continue
            _, failure = self.unwrapped(item.error)
            last = shown[-1][1] if shown and number < WATCHED and item.error is None else None
            if first and (is_auth(failure) or is_auth(last)):
                self.log.reported.append((time, "AuthFailedAfterLive"))
            return shown + [(time, each) for each in self.finish(failure)]
        return shown

    def recovered(self) -> Outcome:
        outcome = self.attempt(first=True)
        if outcome.shown is not None or not is_auth(outcome.failure):
            return outcome
        self.now = outcome.at
        if self.refresh(outcome.failure):
            return self.attempt(first=False)
        outcome.at = self.now
        return outcome

    def refresh(self, failure: Any) -> bool:
        case, log = self.case, self.log
        deadline = self.now + (case.timeout or math.inf)
        waits = 0

        def passes(ticks: float) -> bool:
            """Let time pass up to the deadline; of two timers for one tick the first set fires alone."""
            nonlocal waits
            waits += ticks > 0
            in_time = ticks == 0 or self.now + ticks < deadline + (waits == 1) / 2
            self.now = self.now + ticks if in_time else deadline
            return in_time

        log.reported.append((self.now, "AuthRejected"))
        for number in range(1, case.limit + 1):
            if self.now >= deadline:
                break
            log.refreshed.append((self.now, failure))
            this = case.tries[min(len(log.refreshed), len(case.tries)) - 1]
            if not passes(math.inf if this.delay is None else this.delay):
                break
            if this.error is None:
                log.reported.append((self.now, "Refreshed" if this.value else "RefreshUnchanged"))
                if this.value:
                    log.reported.append((self.now, "Resubscribed"))
                return bool(this.value)
            if this.error != "transient" or number == case.limit:
                break
            log.reported.append((self.now, "RefreshRetryScheduled"))
            if not passes(case.wait):
                break
        if self.now < math.inf:
            log.reported.append((self.now, "RefreshFailed"))
        return False

    def finish(self, failure: Any) -> list[Any]:
        """Return how a stream ends with a failure, or `None` for a completion."""
        if failure is None:
            return [Ends()]
        if isinstance(failure, Event):
            return [failure, Ends()]
        if self.case.error_event == "made":
            return [LAST, Ends()]
        return [Ends("Unjudged" if self.case.error_event == "raises" else failure)]

    def unwrapped(self, name: str | None) -> tuple[list[Event], Any]:
        """Return what an exception holds, and its failure, by its name."""
        known = exceptions()
        error = known.get(name or "")
        if not isinstance(error, NeverLiveError):
            return [], name
        return list(error.held), next((key for key, each in known.items() if each is error.failure), error.failure)


def is_auth(failure: Any) -> bool:
    return failure == "auth" or getattr(failure, "status", None) == 401


def is_transient(failure: Any) -> bool:
    return failure in ("other", "TimeoutError") or getattr(failure, "status", None) == 500
