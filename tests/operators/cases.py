"""Describe what happens to one stream, and make such cases by chance."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from rxauth import NeverLiveError


@dataclass(frozen=True)
class Event:
    type: str
    label: str
    status: int | None = None

    def __repr__(self) -> str:
        return self.label


@dataclass(frozen=True)
class Ends:
    """A terminal: an exception, by its name in `exceptions()`, or a completion."""

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


START, PING, TEXT = Event("start", "s"), Event("ping", "p"), Event("text_delta", "a")
REJECTED, BUSY = Event("error", "e401", 401), Event("error", "e500", 500)
LAST = Event("error", "made of an exception")
AGAIN = Event("text_delta", "emitted by the consumer")
EARLIER = Event("start", "held by an earlier buffer")


def exceptions() -> dict[str, Exception]:
    """Return fresh ones: a recovery writes on them."""
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
    """One call of `refresh`, which ends after `delay` ticks (`None`: never) with an exception or a value."""

    delay: int | None = 0
    value: Any = "fresh"
    error: str | None = None


@dataclass(frozen=True)
class Case:
    """Describe what happens to one stream.

    Args:
        attempts, tries: of the source and of the refresh; the last one again and again.
        limit, wait: of the refresh's policy: how many tries of an `OSError`, and the ticks between them.
        first, idle: of the silence limit in front, if one is set.
        again: how many attempts `retry_never_live` may make; it stands in the pipe if there are several.
        dispose_at: ticks after the subscription.
        dispose_in, raise_in: inside a callback: its name and the number of the call.
        throw_in: the consumer's `on_next` throws, by the number of the call.
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
    first: float | None = None
    idle: float | None = None
    again: int = 1
    dispose_at: int | None = None
    dispose_in: tuple[str, int] | None = None
    raise_in: tuple[str, int] | None = None
    throw_in: frozenset[int] = frozenset()
    emit_in: dict[int, Item] = field(default_factory=dict)


FAILURES = ["auth", "auth", "other", "held, completed", "held, event", "held, auth", "held, other", "held, nested"]
EVENTS = [START, START, PING, TEXT, TEXT, REJECTED, REJECTED, BUSY]
TURNS: list[tuple[Item, ...]] = [
    (),
    (REJECTED,),
    (Ends("auth"),),
    (Ends("held, auth"),),
    (TEXT,),
    (TEXT, TEXT, Ends()),
]
CALLBACKS = ["is_error", "is_prelude", "is_auth_error", "error_event", "on_recovery", "refresh", "on_next"]
PREDICATES = CALLBACKS[:3]


def generated(dice: random.Random, *, troubled: bool) -> Case:
    """Return a stream: one to which consumer and predicates do nothing but emit, or one with any trouble."""
    one_of = dice.choice

    def item() -> Item:
        return one_of(EVENTS) if dice.random() < 0.7 else Ends(one_of([None, one_of(FAILURES)]))

    def attempt() -> Attempt:
        """Return one that may break the grammar: events after a terminal, several terminals, none at all."""
        opening = [one_of([START, PING]) for _ in range(dice.randrange(4))]
        script = [*opening, *one_of(TURNS), *(item() for _ in range(dice.randrange(7)))]
        cut = one_of([0, 0, len(opening), len(script), len(script)])
        later = tuple((dice.randint(1, 9), each) for each in script[cut:])
        raises = one_of(FAILURES) if dice.random() < 0.05 else None
        return Attempt(tuple(script[:cut]), raises, later, deaf=one_of([True, False]))

    def refresh() -> Try:
        return Try(
            one_of([0, 0, 1, 3, 7, 50, None]),
            one_of(["fresh", "fresh", "fresh", None, 0]),
            one_of([None, None, None, None, "transient", "transient", "final", "auth"]),
        )

    first, idle = one_of([None, None, 2, 5, 7.5]), one_of([None, None, 2, 5, 7.5])
    limited = first is not None or idle is not None
    case = Case(
        attempts=(attempt(), attempt(), attempt()),
        tries=tuple(refresh() for _ in range(dice.randint(1, 4))),
        limit=dice.randint(1, 4),
        wait=one_of([0, 1, 2, 5]),
        timeout=one_of([None, 1, 3, 8, 40, 40]),
        max_held=one_of([0, 1, 2, 3, 64, 64]),
        discard_on_error=one_of([True, False]),
        error_event=one_of([None, None, "made", "raises"]),
        first=first,
        idle=idle,
        again=one_of([1, 1, 2, 3]),
        # Not with a limit: the model cannot say which of the two comes first in the tick in which it runs out.
        emit_in={} if limited else {dice.randint(1, 4): one_of([AGAIN, item()]) for _ in range(dice.randrange(3))},
    )
    if not troubled:
        return case
    return replace(
        case,
        dispose_at=one_of([None, dice.randrange(40)]),
        dispose_in=one_of([None, (one_of(CALLBACKS), dice.randint(1, 4))]),
        raise_in=one_of([None, (one_of(CALLBACKS), dice.randint(1, 4))]),
        throw_in=frozenset(dice.randint(1, 4) for _ in range(dice.randrange(3))),
    )
