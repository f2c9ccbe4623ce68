"""A stream that a reader can change: events at ticks, a refresh, a choice of operators. It runs, and is code.

It needs neither a loop nor msgspec nor sockets, so it also runs on a page with Pyodide.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
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

Refresh: TypeAlias = Callable[[Any], Observable[Any]]
Event: TypeAlias = tuple[float, str]
"""A tick and a letter: `s` start, `e` error 401, `x` error 429, `#` exception, `|` complete, others are texts."""

_LIMITED: dict[str, Any] = {"type": "error", "status": 429, "error": {"type": "rate_limit_error"}}
_TOKENS = {"r": "new token", "n": None}
_EVENTS: dict[str, dict[str, Any]] = {
    "s": {"type": "start"},
    "e": {"type": "error", "status": 401, "error": {"type": "authentication_error"}},
    "x": _LIMITED,
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

_WITH_REFRESH = {"bare_retry", "recover_auth", "retry_on_first_auth_error"}


_SNIPPET = """{imports}

EVENTS = {events}


{helper}def test_the_consumer_sees():
    time = TestScheduler()
    source = marbles.attempts(
        time,
        {attempts},
        events=EVENTS,
    )
    refresh = marbles.cold(time, "{refresh}", {tokens})
    stream = source.pipe({operators})
    seen = marbles.draw(marbles.observe(time, stream), EVENTS)
    assert seen == "{seen}"


test_the_consumer_sees()
"""


def bare_retry(refresh: Refresh) -> Operator:
    """Make every failure a refresh and a second attempt, without a buffer: the phantom comes back."""

    def thrown(event: Any) -> Observable[Any]:
        return rx.throw(RuntimeError("an error event")) if type_of(event) == "error" else rx.of(event)

    def operator(stream: Observable[Any]) -> Observable[Any]:
        def again(error: Exception, _: Observable[Any]) -> Observable[Any]:
            return refresh(error).pipe(ops.filter(bool), ops.take(1), ops.flat_map(lambda _: stream))

        return stream.pipe(ops.flat_map(thrown), ops.catch(again))

    return operator


class Scene:
    """Run the real operators on a stream that a reader made, in virtual time.

    Args:
        attempts: the events of each attempt.
        refresh: the moment of its result, and the result: `r` a new token, `n` the same, `#` an exception.
        operators: by name, with their options.
        stages: whether the picture has the output of each operator.

    Attributes:
        seen: the consumer's view as a diagram.
        phantoms: how many messages of it stay empty.

    Raises:
        ValueError: an event, a result, an operator or an option that does not exist.
    """

    def __init__(
        self,
        attempts: Sequence[Sequence[Event]],
        refresh: Event = (2, "r"),
        operators: Mapping[str, Mapping[str, Any]] | None = None,
        stages: bool = False,
    ) -> None:
        chosen = operators or {}
        letters = {letter for events in attempts for _, letter in events}
        unknown = {letter for letter in letters if len(letter) != 1 or not (letter.isalnum() or letter in "|#")}
        unknown |= ({refresh[1]} - {*_TOKENS, "#"}) | (set(chosen) - set(OPERATORS))
        unknown |= {option for name, given in chosen.items() for option in set(given) - set(OPERATORS.get(name, ()))}
        if unknown:
            raise ValueError(f"A playground knows no {', '.join(sorted(unknown))}.")
        self._attempts = attempts
        self._pipe = {name: chosen[name] for name in OPERATORS if name in chosen}
        ticks, result = refresh
        self._refresh: list[Event] = [refresh, *([] if result == "#" else [(ticks + 1, "|")])]
        self._run(stages=stages)

    def _run(self, *, stages: bool) -> None:
        time = TestScheduler()
        sources = [time.create_cold_observable(*map(_notified, _marks(events))) for events in self._attempts]
        subscribed = count()
        source: Observable[Any] = rx.defer(lambda _: sources[min(next(subscribed), len(sources) - 1)])
        refreshes = Recorder("refresh", scheduler=time)
        refreshed = time.create_cold_observable(*map(_notified, _marks(self._refresh, _TOKENS)))
        pipe = [_made(name, given, lambda _: refreshed.pipe(refreshes)) for name, given in self._pipe.items()]
        *before, consumer = explain(source, *pipe, scheduler=time, labels=list(self._pipe)).rows
        attempts = [row for row in before if row.label.startswith("source")] or [consumer]
        attempts = [row.labelled(f"attempt {number}") for number, row in enumerate(attempts, 1)]
        between = [row for row in before if stages and not row.label.startswith("source")]
        kinds = [(mark.time, type_of(mark.value)) for mark in consumer.notifications]
        phantoms = [at for (at, kind), (_, after) in pairwise(kinds) if kind == after == "start"]
        shown = consumer.labelled("the consumer")
        for at in phantoms:
            shown = shown.with_note("a message that stays empty: the phantom", at=at)
        self.picture = Diagram(attempts[0], *refreshes.timelines, *attempts[1:], *between, shown)
        self.phantoms = len(phantoms)
        ends = {"completed": "|", "error": "#"}
        self.seen = write([(mark.time, ends.get(mark.kind) or mark.value["letter"]) for mark in consumer.notifications])
        lives = [[(row.marks[0].time, "^"), (row.marks[-1].time, "!")][: 1 if row.is_open else 2] for row in attempts]
        self._subscriptions = tuple(map(write, lives))

    def script(self) -> tuple[list[Timeline], dict[int, str]]:
        """Return the rows that a reader changes, each on its own clock, and the names of their marks by identity."""
        last = max(at for events in (self._refresh[:1], *self._attempts) for at, _ in events)
        marks = [_marks(events) for events in self._attempts]
        refresh = _marks(self._refresh, _TOKENS)
        names = {id(mark): f"{row}.{at}" for row, events in enumerate(marks) for at, mark in enumerate(events)}
        first, *others = [
            Timeline(f"attempt {number}", (Mark(0, "subscribed"), *events), "ticks", max(last + 3.0, 20.0))
            for number, events in enumerate(marks, 1)
        ]
        refreshed = Timeline("refresh", (Mark(0, "subscribed"), *refresh), "ticks")
        return [first, refreshed, *others], {**names, id(refresh[0]): "refresh"}

    def table_row(self) -> str:
        """Return attempts and refresh, the consumer's view, and the subscriptions in one line of a marble table."""
        first, *others = map(_diagram, self._attempts)
        row = ", ".join(f'"{cell}"' for cell in (first, _diagram(self._refresh), *others, self.seen))
        subscriptions = repr(self._subscriptions).replace("'", '"')
        return f'pytest.param({row}, {subscriptions}, id="{", ".join(self._pipe) or "no operator"}"),'

    def snippet(self) -> str:
        """Return a test function and its call, as code that a notebook cell or pytest runs."""
        bare = "bare_retry" in self._pipe
        names = sorted(set(self._pipe) - {"bare_retry"})
        imports = [
            *(["import reactivex as rx"] if bare else []),
            *(["import tenacity"] if "retry_never_live" in names else []),
            *(["from reactivex import operators as ops"] if bare else []),
            "from reactivex.testing import TestScheduler\n",
            *(f"from rxauth import {name}" for name in names),
            *(["from rxauth.failures import type_of"] if bare else []),
            "from rxauth.testing import marbles",
        ]
        types = r"(: | -> )(Any|Exception|Refresh|Operator|Observable\[Any\])(?=[,)=:])"
        calls = "".join(f"\n        {_call(name, given)}," for name, given in self._pipe.items())
        return _SNIPPET.format(
            imports="\n".join(imports),
            events={"x": _LIMITED},
            helper=re.sub(types, "", inspect.getsource(bare_retry)) + "\n\n" if bare else "",
            attempts=",\n        ".join(f'"{_diagram(events)}"' for events in self._attempts),
            refresh=_diagram(self._refresh),
            tokens=_TOKENS,
            operators=f"{calls}\n    " if calls else "",
            seen=self.seen,
        )


def _diagram(events: Sequence[Event]) -> str:
    """Return the diagram of events in any order."""
    return write(sorted(events, key=lambda event: event[0]))


def _call(name: str, options: Mapping[str, Any]) -> str:
    if name == "retry_never_live":
        wait = f"tenacity.wait_fixed({options.get('wait', 2)})"
        return f"{name}(retrying=tenacity.Retrying(wait={wait}, stop=tenacity.stop_after_attempt(3)))"
    arguments = ["lambda failure: refresh"] if name in _WITH_REFRESH else []
    arguments += [f"{each}={value!r}" for each, value in options.items() if value != OPERATORS[name][each]]
    return f"{name}({', '.join(arguments)})"


def _made(name: str, options: Mapping[str, Any], refresh: Refresh) -> Operator:
    make: Callable[..., Operator] = bare_retry if name == "bare_retry" else getattr(operators, name)
    if name == "retry_never_live":  # its own waits are random: a picture would change by itself
        from rxauth.backoff import three_tries

        seconds = float(options.get("wait", 2))
        return make(retrying=three_tries().copy(wait=lambda _: seconds))
    return make(*([refresh] if name in _WITH_REFRESH else []), **options)


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
