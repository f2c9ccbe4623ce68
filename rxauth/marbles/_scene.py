"""A stream that a reader can change: events at ticks, a refresh, a choice of operators. It runs in virtual time.

It needs neither a loop nor msgspec nor sockets, so it also runs on a page with Pyodide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any, TypeAlias

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops
from reactivex.notification import OnCompleted, OnError, OnNext
from reactivex.testing import Recorded, TestScheduler

from rxauth import operators
from rxauth.errors import CredentialRejected
from rxauth.failures import type_of
from rxauth.marbles._diagram import Diagram
from rxauth.marbles._explain import Operator, explain
from rxauth.marbles._record import Mark, Recorder, Timeline
from rxauth.marbles._strings import write

__all__ = ["LIMITED", "OPERATORS", "TOKENS", "WITH_REFRESH", "Run", "Scene", "bare_retry", "diagram"]

Refresh: TypeAlias = Callable[[Any], Observable[Any]]
Event: TypeAlias = tuple[float, str]
"""A tick and a letter: `s` start, `e` error 401, `x` error 429, `#` exception, `|` complete, others are texts."""

LIMITED: dict[str, Any] = {"type": "error", "status": 429, "error": {"type": "rate_limit_error"}}
TOKENS = {"r": "new token", "n": None}
_EVENTS: dict[str, dict[str, Any]] = {
    "s": {"type": "start"},
    "e": {"type": "error", "status": 401, "error": {"type": "authentication_error"}},
    "x": LIMITED,
}

OPERATORS: dict[str, dict[str, Any]] = {
    "bare_retry": {},
    "limit_silence": {"first": None, "idle": None},
    "recover_auth": {"timeout": 60, "max_held": 64, "discard_on_error": False},
    "buffer_until_live": {"max_held": 64},
    "retry_on_first_auth_error": {"timeout": 60},
    "retry_never_live": {"wait": 2},
    "flush_on_complete_or_error": {"discard_on_error": False},
}
"""The operators in the order of the pipe, with their options."""

WITH_REFRESH = {"bare_retry", "recover_auth", "retry_on_first_auth_error"}


def bare_retry(refresh: Refresh) -> Operator:
    """Make every failure a refresh and a second attempt, without a buffer: the phantom comes back."""

    def thrown(event: Any) -> Observable[Any]:
        return rx.throw(RuntimeError("an error event")) if type_of(event) == "error" else rx.of(event)

    def operator(stream: Observable[Any]) -> Observable[Any]:
        def again(error: Exception, _: Observable[Any]) -> Observable[Any]:
            return refresh(error).pipe(ops.filter(bool), ops.take(1), ops.flat_map(lambda _: stream))

        return stream.pipe(ops.flat_map(thrown), ops.catch(again))

    return operator


@dataclass(frozen=True, slots=True)
class Run:
    """Hold the outcome of a scene: its picture, and the consumer's view and the subscriptions as diagrams."""

    picture: Diagram
    seen: str
    subscriptions: tuple[str, ...]
    phantoms: int


@dataclass(frozen=True)
class Scene:
    """The events of each attempt, the result of the refresh (`r` a new token, `n` the same, `#`), the operators.

    Raises:
        ValueError: an event, a result, an operator or an option that does not exist.
    """

    attempts: Sequence[Sequence[Event]]
    refresh: Event = (2, "r")
    operators: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stages: bool = False

    def __post_init__(self) -> None:
        letters = {letter for events in self.attempts for _, letter in events}
        unknown = {letter for letter in letters if len(letter) != 1 or not (letter.isalnum() or letter in "|#")}
        unknown |= ({self.refresh[1]} - {*TOKENS, "#"}) | (set(self.operators) - set(OPERATORS))
        unknown |= {
            option for name, given in self.operators.items() for option in set(given) - set(OPERATORS.get(name, ()))
        }
        if unknown:
            raise ValueError(f"A playground knows no {', '.join(sorted(unknown))}.")

    @property
    def pipe(self) -> dict[str, Mapping[str, Any]]:
        """The operators in their order."""
        return {name: self.operators[name] for name in OPERATORS if name in self.operators}

    @property
    def refreshing(self) -> list[Event]:
        """The events of the refresh: its result, and the end of the stream."""
        ticks, letter = self.refresh
        return [(ticks, letter), *([] if letter == "#" else [(ticks + 1, "|")])]

    def run(self) -> Run:
        """Run the real operators in virtual time."""
        time = TestScheduler()
        sources = [time.create_cold_observable(*map(_notified, _marks(events))) for events in self.attempts]
        subscribed = count()
        source: Observable[Any] = rx.defer(lambda _: sources[min(next(subscribed), len(sources) - 1)])
        refreshes = Recorder("refresh", scheduler=time)
        refreshed = time.create_cold_observable(*map(_notified, _marks(self.refreshing, TOKENS)))
        pipe = [_made(name, given, lambda _: refreshed.pipe(refreshes)) for name, given in self.pipe.items()]
        *before, consumer = explain(source, *pipe, scheduler=time, labels=list(self.pipe)).rows
        attempts = [row for row in before if row.label.startswith("source")] or [consumer]
        attempts = [row.labelled(f"attempt {number}") for number, row in enumerate(attempts, 1)]
        between = [row for row in before if self.stages and not row.label.startswith("source")]
        kinds = [(mark.time, type_of(mark.value)) for mark in consumer.notifications]
        phantoms = [at for (at, kind), (_, after) in pairwise(kinds) if kind == after == "start"]
        shown = consumer.labelled("the consumer")
        for at in phantoms:
            shown = shown.with_note("a message that stays empty: the phantom", at=at)
        rows = [attempts[0], *refreshes.timelines, *attempts[1:], *between, shown]
        ends = {"completed": "|", "error": "#"}
        seen = write([(mark.time, ends.get(mark.kind) or mark.value["letter"]) for mark in consumer.notifications])
        lives = [[(row.marks[0].time, "^"), (row.marks[-1].time, "!")][: 1 if row.is_open else 2] for row in attempts]
        return Run(Diagram(*rows), seen, tuple(map(write, lives)), len(phantoms))

    def script(self) -> tuple[list[Timeline], dict[int, str]]:
        """The rows that a reader changes, each on its own clock, and the names of their marks by identity."""
        last = max([self.refresh[0], *(at for events in self.attempts for at, _ in events)])
        marks = [_marks(events) for events in self.attempts]
        refresh = _marks(self.refreshing, TOKENS)
        names = {id(mark): f"{row}.{at}" for row, events in enumerate(marks) for at, mark in enumerate(events)}
        first, *others = [
            Timeline(f"attempt {number}", (Mark(0, "subscribed"), *events), "ticks", max(last + 3.0, 20.0))
            for number, events in enumerate(marks, 1)
        ]
        refreshed = Timeline("refresh", (Mark(0, "subscribed"), *refresh), "ticks")
        return [first, refreshed, *others], {**names, id(refresh[0]): "refresh"}


def diagram(events: Sequence[Event]) -> str:
    """Return the diagram of events in any order."""
    return write(sorted(events, key=lambda event: event[0]))


def _made(name: str, options: Mapping[str, Any], refresh: Refresh) -> Operator:
    make: Callable[..., Operator] = bare_retry if name == "bare_retry" else getattr(operators, name)
    if name == "retry_never_live":  # its own waits are random: a picture would change by itself
        from rxauth.backoff import three_tries

        seconds = float(options.get("wait", 2))
        return make(retrying=three_tries().copy(wait=lambda _: seconds))
    return make(*([refresh] if name in WITH_REFRESH else []), **options)


def _marks(events: Sequence[Event], values: Mapping[str, Any] | None = None) -> list[Mark]:
    """Return the marks of letters; an event keeps its letter, by which `seen` names it."""
    marks = []
    for at, letter in events:
        if letter == "|":
            marks.append(Mark(at, "completed"))
        elif letter == "#":
            marks.append(Mark(at, "error", CredentialRejected("401: the token is dead", status=401)))
        elif values is not None:
            marks.append(Mark(at, "next", values[letter]))
        else:
            event = _EVENTS.get(letter, {"type": "text_delta", "delta": letter})
            marks.append(Mark(at, "next", event | {"letter": letter}))
    return marks


def _notified(mark: Mark) -> Recorded[Any]:
    time: Any = mark.time
    if mark.kind == "next":
        return Recorded(time, OnNext(mark.value))
    return Recorded(time, OnCompleted() if mark.kind == "completed" else OnError(mark.value))
