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

A letter stands for the event in `events`, else for `event(letter)`.

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

_START = Start(AssistantMessage())
_ERROR = Error("error", AssistantMessage(stop_reason="error", error_message=str(failure)), failure)


def event(letter: str) -> Any:
    """Return the event that a letter stands for by default.

    >>> event("s").type, event("e").type, event("a")
    ('start', 'error', TextDelta(content_index=0, delta='a'))
    """
    return {"s": _START, "e": _ERROR}.get(letter) or TextDelta(0, letter)


def messages(
    diagram: str, events: Mapping[str, Any] | None = None, error: Exception | None = None, start: float = 0
) -> list[Recorded[Any]]:
    """Return the notifications of a diagram, as an observer of the `TestScheduler` records them.

    Args:
        diagram: see the module.
        events: by letter, the events that are not `event(letter)`.
        error: the exception of `#`; `failure` by default.
        start: the time of the first column, in ticks.

    Raises:
        ValueError: that is no diagram.

    >>> messages("-(ab)|", events={"a": "A", "b": "B"}, start=200)
    [OnNext(A)@201, OnNext(B)@201, OnCompleted()@205]
    """
    return [Recorded(_tick(start + at), _notification(item, events, error)) for at, item in read(diagram)]


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
    """A cold source that is another one at each subscription. Its `subscriptions` are recorded, in their order."""

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

    Args:
        scheduler: that the test runs on.
        diagrams: column 0 is the moment of that subscription. Spaces at both ends are ignored.
        events: as for `messages`.
        error: as for `messages`.

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
    marks = [at for at, item in read(diagram, marks="^") if item == "^"]
    if len(marks) > 1:
        raise ValueError(f"{diagram!r} has more than one time 0.")
    begin = start - (marks[0] if marks else 0)
    return scheduler.create_hot_observable(
        *(
            Recorded(_tick(begin + at), _notification(item, events, error))
            for at, item in read(diagram, marks="^")
            if item != "^"
        )
    )


def subscription(diagram: str, start: float = 0) -> Subscription:
    """Return the subscription of a diagram: from `^` to `!`, or without `!` to the end.

    Raises:
        ValueError: that is no such diagram, or one that RxPY's `Subscription` cannot hold: one that ends at time 0.

    >>> subscription("--^---!"), subscription("^")
    ((2, 6), (0, Infinite))
    """
    found = [(item, _tick(start + at)) for at, item in read(diagram, marks="^!")]
    match found:
        case [("^", begin)]:
            return Subscription(begin)
        case [("^", _), ("!", 0)]:
            raise ValueError("RxPY takes an end at time 0 for none: subscribe later.")
        case [("^", begin), ("!", end)]:
            return Subscription(begin, end)
    raise ValueError(f"{diagram!r} is not one '^' and at most one '!' after it.")


def subscriptions(*diagrams: str, start: float = 0) -> list[Subscription]:
    """Return several, to compare with the `subscriptions` of a source.

    >>> subscriptions("^-!", "----^------!")
    [(0, 2), (4, 11)]
    """
    return [subscription(each, start) for each in diagrams]


def draw_subscription(recorded: Subscription, start: float = 0) -> str:
    """Return the diagram of a subscription: `subscription(draw_subscription(each))` is `each`.

    Args:
        recorded: between two ticks it has no diagram, and is listed instead: "^@0.5 !@3".
        start: the time of the first column.

    >>> draw_subscription(Subscription(2, 6)), draw_subscription(Subscription(0))
    ('--^---!', '^')
    """
    begin, end = recorded.subscribe - start, recorded.unsubscribe - start
    ended = recorded.unsubscribe != sys.maxsize  # RxPY's sign for never
    times = [(begin, "^"), *([(end, "!")] if ended else [])]
    if any(at < 0 or at != int(at) for at, _ in times) or (ended and end <= begin):
        return " ".join(f"{sign}@{_tick(at + start)}" for at, sign in times)
    diagram = ""
    for at, sign in times:
        diagram = diagram.ljust(int(at), "-") + sign
    return diagram


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
    """Return the diagram of recorded notifications: `messages(draw(recorded))` is `recorded`.

    Notifications without a diagram (a time between two ticks, or inside the width of a group; an event that has no
    letter) are listed instead, one `letter@time` after the other; `messages` does not take that.

    Args:
        recorded: in the order of time.
        events: as for `messages`.
        start: the time of the first column.

    >>> draw(messages("----(sa)--b--|"))
    '----(sa)--b--|'
    >>> from reactivex.testing import ReactiveTest
    >>> draw([ReactiveTest.on_next(0, event("a")), ReactiveTest.on_next(0.5, {"type": "delta"})])
    'a@0 ?dict@0.5'
    """
    return write([(each.time, _letter(each.value, events or {})) for each in recorded], start)


def _notification(item: str, events: Mapping[str, Any] | None, error: Exception | None) -> Notification[Any]:
    if item == "|":
        return OnCompleted()
    if item == "#":
        return OnError(failure if error is None else error)
    return OnNext(events[item] if events is not None and item in events else event(item))


def _letter(notification: Any, events: Mapping[str, Any]) -> str:
    if isinstance(notification, OnCompleted):
        return "|"
    if isinstance(notification, OnError):
        return "#"
    value = notification.value
    for letter, known in events.items():
        if value is known or value == known:
            return letter
    usual = (
        value.delta if isinstance(value, TextDelta) else {"start": "s", "error": "e"}.get(getattr(value, "type", ""))
    )
    if isinstance(usual, str) and len(usual) == 1 and usual.isalnum() and usual not in events and value == event(usual):
        return usual
    return f"?{type(value).__name__}"


def _tick(time: float) -> Any:
    """Without a fraction if it has none: `Recorded` prints it, and a diagram has no other."""
    return int(time) if float(time).is_integer() else time
