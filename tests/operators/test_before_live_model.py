"""Silence limits, buffer, retry and flush over generated streams agree with a plain model: lists in, lists out.

`RXAUTH_CASES=100000 pytest -m slow --timeout=0 ...` runs that many streams instead of ten thousand.
"""

from __future__ import annotations

import math
import os
import random
from dataclasses import dataclass
from typing import Any

import pytest
import reactivex as rx
import tenacity
from reactivex.notification import OnCompleted, OnError, OnNext
from reactivex.testing import Recorded, TestScheduler

from rxauth import buffer_until_live, flush_on_complete_or_error, limit_silence, retry_never_live

from .plain_model import End, Event, Script


class SilenceError(Exception):
    """Stands for a TimeoutError of the operator in the model."""


@dataclass(frozen=True)
class Case:
    attempts: list[Script]
    first: float | None
    idle: float | None
    tries: int
    wait: int


def limited(script: Script, first: float | None, idle: float | None) -> list[tuple[float, Event | End]]:
    passed: list[tuple[float, Event | End]] = []
    heard, live = 0.0, False
    for time, item in [*script, (math.inf, End())]:
        limit = min(heard + (idle or math.inf), math.inf if live else (first or math.inf))
        if time > limit:
            passed.append((limit, End(SilenceError())))
            break
        if time == math.inf:
            break
        heard = time
        if isinstance(item, End) or item.type != "ping":
            passed.append((time, item))
        if isinstance(item, End):
            break
        live = live or item.type == "text"
    return passed


def shown(case: Case) -> list[tuple[float, str]]:
    seen: list[tuple[float, str]] = []
    began = 0.0
    for number, script in enumerate(case.attempts[: case.tries], 1):
        held: list[Event] = []
        live = False
        for time, item in limited(script, case.first, case.idle):
            at = began + time
            failed = (isinstance(item, End) and item.error is not None) or (
                isinstance(item, Event) and item.type == "error"
            )
            if live:
                seen.append((at, name(item)))
            elif failed and number < case.tries and is_transient(item):
                began = at + case.wait
                break
            elif isinstance(item, End) or item.type != "start":
                seen += [(at, name(each)) for each in [*held, item]]
                if failed and isinstance(item, Event):
                    seen.append((at, "|"))
                    return seen
                live = True
            else:
                held.append(item)
        else:
            return seen
    return seen


def is_transient(item: Event | End) -> bool:
    if isinstance(item, End):
        return isinstance(item.error, SilenceError | ConnectionError)
    return item.status == 503


def name(item: Any) -> str:
    if isinstance(item, Event):
        return item.label
    if item.error is None:
        return "|"
    return "TimeoutError" if isinstance(item.error, SilenceError) else type(item.error).__name__


ITEMS: list[Event | End] = [
    *[Event("start", "s"), Event("ping", "p")] * 4,
    *[Event("text", "a"), Event("text", "b")] * 2,
    *(Event("error", f"e{status}", status) for status in (503, 503, 401, 400)),
    End(),
    End(ConnectionError()),
    End(ConnectionError()),
    End(ValueError()),
]


def generated(source: random.Random) -> Case:
    def script() -> Script:
        time, steps = 0, []
        for _ in range(source.randrange(9)):
            time += source.randrange(5)
            steps.append((time, source.choice(ITEMS)))
            if isinstance(steps[-1][1], End):
                break
        return steps

    return Case(
        [script() for _ in range(3)],
        source.choice([None, 1, 2, 3, 5, 7.5]),
        source.choice([None, 1, 2, 3, 3.5]),
        source.randrange(1, 4),
        source.randrange(3),
    )


def run(case: Case) -> list[tuple[float, str]]:
    clock = TestScheduler()
    left = iter(case.attempts)
    seen: list[tuple[float, str]] = []

    def attempt(_: Any) -> Any:
        return clock.create_cold_observable(*(Recorded(time, notification(item)) for time, item in next(left)))

    rx.defer(attempt).pipe(
        limit_silence(first=case.first, idle=case.idle),
        buffer_until_live(),
        retry_never_live(
            retrying=tenacity.Retrying(
                stop=tenacity.stop_after_attempt(case.tries), wait=tenacity.wait_fixed(case.wait)
            )
        ),
        flush_on_complete_or_error(),
    ).subscribe(
        lambda event: seen.append((clock.clock, event.label)),
        lambda error: seen.append((clock.clock, type(error).__name__)),
        lambda: seen.append((clock.clock, "|")),
        scheduler=clock,
    )
    clock.start()
    return seen


def notification(item: Event | End) -> Any:
    if isinstance(item, Event):
        return OnNext(item)
    return OnCompleted() if item.error is None else OnError(item.error)


MANY = int(os.environ.get("RXAUTH_CASES", "10000"))


@pytest.mark.parametrize("count", [300, pytest.param(MANY, marks=pytest.mark.slow)])
def test_generated_streams_agree_with_the_model(count: int) -> None:
    source = random.Random(14)
    for _ in range(count):
        case = generated(source)
        assert run(case) == shown(case), case
