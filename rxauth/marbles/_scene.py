"""A stream that a reader can change: events at ticks, a refresh, a choice of operators. It runs in virtual time.

It needs neither a loop nor msgspec nor sockets, so it also runs on a page with Pyodide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from rxauth.marbles._strings import read, write

__all__ = ["KINDS", "LIMITED", "OPERATORS", "OUTCOMES", "WITH_REFRESH", "Run", "Scene", "bare_retry"]

Refresh: TypeAlias = Callable[[Any], Observable[Any]]

KINDS = {"start": "s", "text": "", "401": "e", "429": "x", "exception": "#", "complete": "|"}
"""The kinds of events with their letters in a diagram; each text has a letter of its own."""

OUTCOMES = {"new": "r", "same": "n", "fails": "#"}

_TEXTS = "abcdfghijklmopqtuvwyz0123456789"
_LAST = 200  # ticks; a picture of more explains nothing
LIMITED = {"type": "error", "status": 429, "error": {"type": "rate_limit_error"}}
_EVENTS: dict[str, Any] = {
    "s": {"type": "start"},
    "e": {"type": "error", "status": 401, "error": {"type": "authentication_error"}},
    "x": LIMITED,
    "r": "new token",
    "n": None,
}


def bare_retry(refresh: Refresh) -> Operator:
    """Make every failure a refresh and a second attempt, without a buffer: the phantom comes back."""

    def thrown(event: Any) -> Observable[Any]:
        return rx.throw(RuntimeError("an error event")) if type_of(event) == "error" else rx.of(event)

    def operator(stream: Observable[Any]) -> Observable[Any]:
        def again(error: Exception, _: Observable[Any]) -> Observable[Any]:
            return refresh(error).pipe(ops.filter(bool), ops.take(1), ops.flat_map(lambda _: stream))

        return stream.pipe(ops.flat_map(thrown), ops.catch(again))

    return operator


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


@dataclass(frozen=True, slots=True)
class Run:
    """Hold the outcome of a scene: its picture, and the consumer's view and the subscriptions as diagrams."""

    picture: Diagram
    seen: str
    subscriptions: tuple[str, ...]
    phantoms: int


@dataclass(frozen=True)
class Scene:
    """Events by attempt as (tick, kind), how long the refresh takes and how it ends, the operators with options."""

    attempts: tuple[tuple[tuple[int, str], ...], ...]
    ticks: int = 2
    outcome: str = "new"
    operators: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of_diagrams(cls, attempts: Sequence[str], refresh: str, chosen: Mapping[str, Mapping[str, Any]]) -> Scene:
        """Read a scene from diagrams: `x` is an error 429, other letters are texts; the refresh ends in r, n or #."""
        kinds = {letter: kind for kind, letter in KINDS.items() if letter}
        events = [[(at, kinds.get(letter, "text")) for at, letter in read(diagram)] for diagram in attempts]
        ticks, end = next(iter(read(refresh)), (len(refresh), "r"))
        outcome = {letter: outcome for outcome, letter in OUTCOMES.items()}.get(end, "new")
        return cls.of_state(
            {"attempts": events, "refresh": {"ticks": ticks, "outcome": outcome}, "operators": dict(chosen)}
        )

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Scene:
        """Read a scene from the JSON that a page sends.

        Raises:
            ValueError: a kind, an outcome or an operator that does not exist.
        """
        attempts = tuple(
            tuple((min(max(int(at), 0), _LAST), str(kind)) for at, kind in events) for events in state["attempts"]
        )
        refresh, chosen = state["refresh"], state["operators"]
        unknown = {kind for events in attempts for _, kind in events} - set(KINDS)
        unknown |= ({refresh["outcome"]} - set(OUTCOMES)) | (set(chosen) - set(OPERATORS))
        unknown |= {
            option for name in set(chosen) & set(OPERATORS) for option in set(chosen[name]) - set(OPERATORS[name])
        }
        if unknown:
            raise ValueError(f"A playground knows no {', '.join(sorted(unknown))}.")
        ticks = min(max(int(refresh["ticks"]), 0), _LAST)
        return cls(attempts, ticks, refresh["outcome"], {name: chosen[name] for name in OPERATORS if name in chosen})

    @property
    def state(self) -> dict[str, Any]:
        """The scene as JSON."""
        return {
            "attempts": [[list(event) for event in events] for events in self.attempts],
            "refresh": {"ticks": self.ticks, "outcome": self.outcome},
            "operators": {name: dict(options) for name, options in self.operators.items()},
        }

    def run(self, *, stages: bool = False) -> Run:
        """Run the real operators in virtual time."""
        time = TestScheduler()
        sources = [time.create_cold_observable(_messages(events)) for events in self.lettered]
        subscribed = count()
        source: Observable[Any] = rx.defer(lambda _: sources[min(next(subscribed), len(sources) - 1)])
        refreshes = Recorder("refresh", scheduler=time)
        refreshed = time.create_cold_observable(_messages(self.refreshing))
        pipe = [_made(name, options, lambda _: refreshed.pipe(refreshes)) for name, options in self.operators.items()]
        *before, consumer = explain(source, *pipe, scheduler=time, labels=list(self.operators)).rows
        attempts = [row for row in before if row.label.startswith("source")] or [consumer]
        attempts = [row.labelled(f"attempt {number}") for number, row in enumerate(attempts, 1)]
        between = [row for row in before if not row.label.startswith("source")] if stages else []
        phantoms = _phantoms(consumer)
        shown = consumer.labelled("the consumer")
        for at in phantoms:
            shown = shown.with_note("a message that stays empty: the phantom", at=at)
        rows = [attempts[0], *refreshes.timelines, *attempts[1:], *between, shown]
        seen = write([(mark.time, _letter(mark)) for mark in consumer.notifications])
        lives = [[(row.marks[0].time, "^"), (row.marks[-1].time, "!")][: 1 if row.is_open else 2] for row in attempts]
        return Run(Diagram(*rows), seen, tuple(map(write, lives)), len(phantoms))

    def script(self) -> tuple[list[Timeline], dict[int, str]]:
        """The rows that a reader changes, each on its own clock, and the names of their marks by identity."""
        rows: list[Timeline] = []
        names: dict[int, str] = {}
        last = max([self.ticks, *(at for events in self.attempts for at, _ in events)])
        for number, (events, lettered) in enumerate(zip(self.attempts, self.lettered, strict=True)):
            marks = [_mark(at, letter) for at, letter in lettered]
            indices = sorted(range(len(events)), key=lambda index: events[index][0])  # a page counts as they were made
            names |= {id(mark): f"{number}.{index}" for index, mark in zip(indices, marks, strict=True)}
            rows.append(
                Timeline(f"attempt {number + 1}", (Mark(0, "subscribed"), *marks), "ticks", max(last + 3.0, 20.0))
            )
        end = _mark(self.ticks, OUTCOMES[self.outcome])
        names[id(end)] = "refresh"
        ended = [end] if self.outcome == "fails" else [end, Mark(self.ticks, "completed")]
        return [rows[0], Timeline("refresh", (Mark(0, "subscribed"), *ended), "ticks"), *rows[1:]], names

    @property
    def lettered(self) -> list[list[tuple[int, str]]]:
        """The events of each attempt with their letters, in the order of time."""
        numbers = count()
        return [
            sorted(
                ((at, KINDS[kind] or _TEXTS[next(numbers) % len(_TEXTS)]) for at, kind in events),
                key=lambda event: event[0],
            )
            for events in self.attempts
        ]

    @property
    def refreshing(self) -> list[tuple[int, str]]:
        """The refresh: its result, and the end of the stream."""
        letter = OUTCOMES[self.outcome]
        return [(self.ticks, letter), *([] if letter == "#" else [(self.ticks + 1, "|")])]


def _made(name: str, options: Mapping[str, Any], refresh: Refresh) -> Operator:
    make: Callable[..., Operator] = bare_retry if name == "bare_retry" else getattr(operators, name)
    if name == "retry_never_live":  # its own waits are random: a picture would change by itself
        from rxauth.backoff import three_tries

        seconds = float(options.get("wait", 2))
        return make(retrying=three_tries().copy(wait=lambda _: seconds))
    return make(*([refresh] if name in WITH_REFRESH else []), **options)


def _mark(at: float, letter: str) -> Mark:
    if letter in "|#":
        return Mark(at, "completed" if letter == "|" else "error", None if letter == "|" else _rejected())
    return Mark(at, "next", _event(letter))


def _event(letter: str) -> Any:
    return _EVENTS.get(letter, {"type": "text_delta", "delta": letter})


def _rejected() -> Exception:
    return CredentialRejected("401: the token is dead", status=401)


def _messages(items: Iterable[tuple[int, str]]) -> list[Recorded[Any]]:
    """Return notifications for a cold observable."""
    notifications: list[Recorded[Any]] = []
    for at, letter in items:
        value: Any = OnNext(_event(letter))
        if letter in "|#":
            value = OnCompleted() if letter == "|" else OnError(_rejected())
        notifications.append(Recorded(at, value))
    return notifications


def _letter(mark: Mark) -> str:
    if mark.kind != "next":
        return "|" if mark.kind == "completed" else "#"
    known = {id(value): letter for letter, value in _EVENTS.items()}
    return known.get(id(mark.value)) or str(mark.value.get("delta", "?"))


def _phantoms(consumer: Timeline) -> list[float]:
    """Return the times of the starts that are followed by another start at once."""
    kinds = [(mark.time, type_of(mark.value)) for mark in consumer.notifications]
    return [at for (at, kind), (_, following) in pairwise(kinds) if kind == following == "start"]
