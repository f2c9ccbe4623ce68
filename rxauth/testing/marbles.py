"""Marble diagrams of assistant events, for RxPY's `TestScheduler`.

    source          s---a-----b--|
    subscriptions   ^------------!
    result          ----(sa)--b--|

One column is one tick.

    diagram  =  { "-" | item | group }         spaces at both ends are ignored
    group    =  "(" item { item } ")"          one instant, that of the "("; it takes its width in columns
    item     =  "|"                            completed
             |  "#"                            on_error
             |  letter | digit                 an event: `s` is a start, `e` an error event, the others are live
             |  "^" | "!"                      subscribed, unsubscribed: in a diagram of subscriptions

A retry is drawn as `attempts`: one diagram for each subscription, which may stand in the column where it begins.

    attempt 1       s--e
    attempt 2           s--a|

In a hot source's diagram one `^` marks the column that is time 0. A diagram need not follow the grammar of Rx: items
after `|` or `#` are sent all the same, as a faulty source would.

Wherever diagrams are read or drawn, `events` are by letter the events that are not `event(letter)`, `error` is the
exception of `#` (by default `failure`), `start` is the time of the first column in ticks, and a string that is no
diagram is a `ValueError`.

In a test compare diagrams, `draw(observe(...)) == "----(sa)--b--|"`, rather than recorded messages: where they differ
pytest writes both under one another and marks the columns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from reactivex import Notification, Observable, abc
from reactivex.notification import OnCompleted, OnError, OnNext
from reactivex.testing import Recorded, TestScheduler
from reactivex.testing.coldobservable import ColdObservable
from reactivex.testing.hotobservable import HotObservable
from reactivex.testing.subscription import Subscription

from rxauth.errors import CredentialRejected
from rxauth.events import AssistantMessage, Error, Start, TextDelta
from rxauth.marbles._strings import read, write

__all__ = [
    "Attempts",
    "VirtualTime",
    "attempts",
    "cold",
    "draw",
    "draw_subscription",
    "event",
    "failure",
    "hot",
    "messages",
    "observe",
    "subscription",
    "subscriptions",
]

failure: Exception = CredentialRejected("401: the token is dead", status=401)
"""The exception of `#` and of the event `e`, unless another one is given: an auth failure."""

_EVENTS = {
    "s": Start(AssistantMessage()),
    "e": Error("error", AssistantMessage(stop_reason="error", error_message=str(failure)), failure),
}


def event(letter: str) -> Any:
    """Return the event that a letter stands for by default.

    >>> event("s").type, event("e").type, event("a")
    ('start', 'error', TextDelta(content_index=0, delta='a'))
    """
    return _EVENTS.get(letter) or TextDelta(0, letter)


def messages(
    diagram: str, events: Mapping[str, Any] | None = None, error: Exception | None = None, start: float = 0
) -> list[Recorded[Any]]:
    """Return the notifications of a diagram, as an observer of the `TestScheduler` records them.

    >>> messages("-(ab)|", events={"a": "A", "b": "B"}, start=200)
    [OnNext(A)@201, OnNext(B)@201, OnCompleted()@205]
    """
    return _recorded(read(diagram), events, error, start)


def cold(
    scheduler: TestScheduler,
    diagram: str,
    events: Mapping[str, Any] | None = None,
    error: Exception | None = None,
) -> ColdObservable[Any]:
    """Make a cold source: column 0 is the moment of each subscription. Its `subscriptions` are recorded.

    >>> scheduler = TestScheduler()
    >>> source = cold(scheduler, "s--a|")
    >>> draw(observe(scheduler, source))
    's--a|'
    >>> source.subscriptions == subscriptions("^---!")
    True
    """
    return scheduler.create_cold_observable(*messages(diagram, events, error))


class Attempts(Observable[Any]):
    """Make another cold source at each subscription, and record the `subscriptions` in their order."""

    def __init__(self, sources: Sequence[ColdObservable[Any]]) -> None:
        self._sources = sources
        self._count = 0
        super().__init__(self._attempt)

    @property
    def subscriptions(self) -> list[Subscription]:
        """Of all attempts."""
        return [each for source in self._sources for each in source.subscriptions]

    def _attempt(
        self, observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        source = self._sources[min(self._count, len(self._sources) - 1)]
        self._count += 1
        return source.subscribe(observer, scheduler=scheduler)


def attempts(
    scheduler: TestScheduler,
    *diagrams: str,
    events: Mapping[str, Any] | None = None,
    error: Exception | None = None,
) -> Attempts:
    """Make a cold source with a diagram for each subscription; the last one for all further ones.

    Column 0 is the moment of that subscription; the spaces in front of a diagram put it under the ones before.

    Raises:
        ValueError: there is none, or one that is no diagram.

    >>> from rxauth import recover_auth
    >>> scheduler = TestScheduler()
    >>> source = attempts(scheduler, "s--e",
    ...                              "     s-a----|")
    >>> refresh = cold(scheduler,    "   --r|", {"r": "a new token"})
    >>> draw(observe(scheduler, source.pipe(recover_auth(lambda failure: refresh))))
    '-------(sa)-|'
    >>> source.subscriptions == subscriptions("^--!", "-----^------!")
    True
    """
    if not diagrams:
        raise ValueError("There is no attempt without a diagram.")
    return Attempts([cold(scheduler, each, events, error) for each in diagrams])


def hot(
    scheduler: TestScheduler,
    diagram: str,
    events: Mapping[str, Any] | None = None,
    error: Exception | None = None,
    start: float = 0,
) -> HotObservable[Any]:
    """Make a hot source: column 0, or the column of `^`, is the time `start`. Its `subscriptions` are recorded.

    Items before the scheduler's clock are sent when the scheduler starts.

    >>> scheduler = TestScheduler()
    >>> draw(observe(scheduler, hot(scheduler, "a--^--b|", start=200), at=200), start=200)
    '---b|'
    """
    items = [*read(diagram, marks="^")]
    marks = [at for at, item in items if item == "^"]
    if len(marks) > 1:
        raise ValueError(f"{diagram!r} has more than one time 0.")
    sent = [(at, item) for at, item in items if item != "^"]
    return scheduler.create_hot_observable(_recorded(sent, events, error, start - sum(marks)))


def subscription(diagram: str, start: float = 0) -> Subscription:
    """Return the subscription of a diagram: from `^` to `!`, or without `!` to the end.

    Raises:
        ValueError: that is no such diagram, or one that RxPY's `Subscription` cannot hold: one that ends at time 0.

    >>> subscription("--^---!"), subscription("^")
    ((2, 6), (0, Infinite))
    """
    times: list[Any] = [start + at for at, _ in read(diagram, marks="^!")]
    signs = "".join(item for _, item in read(diagram, marks="^!"))
    if signs not in ("^", "^!"):
        raise ValueError(f"{diagram!r} is not one '^' and at most one '!' after it.")
    if times[1:] == [0]:
        raise ValueError("RxPY takes an end at time 0 for none: subscribe later.")
    return Subscription(*times)


def subscriptions(*diagrams: str, start: float = 0) -> list[Subscription]:
    """Return several subscriptions, to compare with the `subscriptions` of a source.

    >>> subscriptions("^-!", "----^------!")
    [(0, 2), (4, 11)]
    """
    return [subscription(each, start) for each in diagrams]


def draw_subscription(recorded: Subscription, start: float = 0) -> str:
    """Return the diagram of a subscription: `subscription(draw_subscription(each))` is `each`.

    One that begins or ends between two columns has no diagram, and is listed instead: "^@0.5 !@3".

    >>> draw_subscription(Subscription(2, 6)), draw_subscription(Subscription(0))
    ('--^---!', '^')
    """
    ended = recorded.unsubscribe != sys.maxsize  # RxPY's sign for never
    return write([(recorded.subscribe, "^"), *([(recorded.unsubscribe, "!")] if ended else [])], start)


def observe(
    scheduler: TestScheduler,
    source: Observable[Any] | Callable[[], Observable[Any]],
    at: float = 0,
    until: float | None = None,
) -> list[Recorded[Any]]:
    """Subscribe, run the scheduler to its end, and return the recorded notifications.

    Args:
        scheduler: the same that the sources were made with.
        source: or a function that returns it, called at `at`.
        at: when to subscribe, in ticks. `TestScheduler.start` cannot do it at 0.
        until: when to dispose; `None`: never.
    """
    observer = scheduler.create_observer()

    def subscribe(*_: Any) -> None:
        observable = source if isinstance(source, Observable) else source()
        disposable = observable.subscribe(observer, scheduler=scheduler)
        if until is not None:
            scheduler.schedule_absolute(float(until), lambda *_: disposable.dispose())

    scheduler.schedule_absolute(float(at), subscribe)
    scheduler.start()
    return observer.messages


def draw(recorded: Iterable[Recorded[Any]], events: Mapping[str, Any] | None = None, start: float = 0) -> str:
    """Return the diagram of recorded notifications in the order of time: `messages(draw(recorded))` is `recorded`.

    Notifications without a diagram (a time between two ticks, or inside the width of a group; an event that has no
    letter) are listed instead, one `letter@time` after the other; `messages` takes that too, if each has a letter.

    >>> draw(messages("----(sa)--b--|"))
    '----(sa)--b--|'
    >>> draw([*messages("a"), Recorded(0.5, OnNext({"type": "delta"}))])
    'a@0 ?dict@0.5'
    """
    return write([(each.time, _letter(each.value, events or {})) for each in recorded], start)


class VirtualTime:
    """Offer the helpers of this module with one `TestScheduler` for all of them.

    >>> time = VirtualTime()
    >>> source = time.cold("s---a-----b--|")
    >>> time.see(source)
    's---a-----b--|'
    >>> time.subscriptions(source)
    ['^------------!']
    """

    def __init__(self) -> None:
        self.scheduler = TestScheduler()
        self._begun = self.scheduler.clock

    def cold(
        self, diagram: str, events: Mapping[str, Any] | None = None, error: Exception | None = None
    ) -> ColdObservable[Any]:
        """Make a source that begins anew for each subscriber."""
        return cold(self.scheduler, diagram, events, error)

    def hot(
        self, diagram: str, events: Mapping[str, Any] | None = None, error: Exception | None = None
    ) -> HotObservable[Any]:
        """Make a source that emits with or without subscribers."""
        return hot(self.scheduler, diagram, events, error)

    def attempts(
        self, *diagrams: str, events: Mapping[str, Any] | None = None, error: Exception | None = None
    ) -> Attempts:
        """Make a cold source with a diagram for each subscription."""
        return attempts(self.scheduler, *diagrams, events=events, error=error)

    def see(
        self,
        source: Observable[Any] | Callable[[], Observable[Any]],
        events: Mapping[str, Any] | None = None,
        *,
        until: float | None = None,
    ) -> str:
        """Subscribe now, run until nothing is left to do, and draw the result. Column 0 is now.

        Args:
            source: or a function that returns it.
            events: by letter, as everywhere here.
            until: ticks from now after which to dispose; `None`: never.
        """
        now = self._begun = self.scheduler.clock
        end = None if until is None else now + until
        return draw(observe(self.scheduler, source, at=now, until=end), events, start=now)

    def subscriptions(self, source: ColdObservable[Any] | HotObservable[Any] | Attempts) -> list[str]:
        """Return when a source was subscribed and disposed in the last `see`: diagrams in the same columns."""
        since = (each for each in source.subscriptions if each.subscribe >= self._begun)
        return [draw_subscription(each, self._begun) for each in since]


def _recorded(
    items: Iterable[tuple[float, str]], events: Mapping[str, Any] | None, error: Exception | None, start: Any
) -> list[Recorded[Any]]:
    ends: dict[str, Notification[Any]] = {"|": OnCompleted(), "#": OnError(failure if error is None else error)}
    return [Recorded(start + at, ends.get(item) or OnNext(_event(item, events or {}))) for at, item in items]


def _event(letter: str, events: Mapping[str, Any]) -> Any:
    return events[letter] if letter in events else event(letter)


def _letter(notification: Any, events: Mapping[str, Any]) -> str:
    if not isinstance(notification, OnNext):
        return "|" if isinstance(notification, OnCompleted) else "#"
    value = notification.value
    usual = value.delta if isinstance(value, TextDelta) and len(value.delta) == 1 and value.delta.isalnum() else "s"
    for letter in (*events, *_EVENTS, usual):
        known = _event(letter, events)
        if value is known or value == known:
            return letter
    return f"?{type(value).__name__}"
