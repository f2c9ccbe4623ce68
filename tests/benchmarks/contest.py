"""How a ratio is measured: two contenders, in turns, many times; the median counts.

Each row is a function that yields a `Contest`. All rows are open at once and take their turns in rounds, so that what
else the machine does falls on everything alike. Costs are CPU seconds unless a row says otherwise.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Cost: TypeAlias = Callable[[], float]


def nothing_to_compare() -> float:
    return 1.0


@dataclass(frozen=True)
class Contest:
    """What is divided by what. Without a `base`, the cost itself is the result."""

    subject: Cost
    base: Cost = nothing_to_compare


Measure: TypeAlias = Callable[[int], Generator[Contest]]


@dataclass(frozen=True)
class Row:
    """`measure` is given a divisor for the sizes: 1 in earnest."""

    name: str
    kind: Literal["at most", "at least", "exactly"]
    limit: float | None
    rounds: int
    measure: Measure


@dataclass
class Result:
    """The ratio of each round, and the costs it comes from."""

    row: Row
    subject: list[float] = field(default_factory=list)
    base: list[float] = field(default_factory=list)
    not_measured: str | None = None

    @property
    def ratios(self) -> list[float]:
        return [subject / base for subject, base in zip(self.subject, self.base, strict=True)]

    @property
    def value(self) -> float:
        return statistics.median(self.ratios)

    @property
    def quartiles(self) -> tuple[float, float]:
        if len(self.ratios) < 2:
            return self.value, self.value
        low, _, high = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return low, high

    @property
    def met(self) -> bool:
        limit = self.row.limit
        if limit is None:
            return True
        if self.not_measured is not None:
            return False
        if self.row.kind == "exactly":
            return all(ratio == limit for ratio in self.ratios)
        return self.value <= limit if self.row.kind == "at most" else self.value >= limit


class NotMeasured(Exception):
    """Something that the row needs is not there."""


rows: list[Row] = []


def row(
    name: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    exactly: float | None = None,
    rounds: int = 15,
) -> Callable[[Measure], Measure]:
    """Add a row to the table. One without a limit is for information."""

    def add(measure: Measure) -> Measure:
        if exactly is not None:
            rows.append(Row(name, "exactly", exactly, rounds, measure))
        elif at_least is not None:
            rows.append(Row(name, "at least", at_least, rounds, measure))
        else:
            rows.append(Row(name, "at most", at_most, rounds, measure))
        return measure

    return add


def cpu(function: Callable[[], object]) -> Cost:
    """The CPU time that a call takes, all threads of this process together."""

    def cost() -> float:
        gc.collect()
        begun = time.process_time()
        function()
        return time.process_time() - begun

    return cost


def cpu_on_a_loop(runner: asyncio.Runner, function: Callable[[], Coroutine[Any, Any, object]]) -> Cost:
    """The same for a coroutine function."""
    return cpu(lambda: runner.run(function()))


def hold(chosen: Sequence[Row], *, quick: bool, told: Callable[[str], None]) -> list[Result]:
    """Hold all contests, interleaved."""
    scale = 20 if quick else 1
    results = [Result(row) for row in chosen]
    with ExitStack() as open_rows:
        contests: dict[int, Contest] = {}
        for number, row in enumerate(chosen):
            try:
                contests[number] = open_rows.enter_context(contextmanager(row.measure)(scale))
            except NotMeasured as missing:
                results[number].not_measured = str(missing)
        most = 2 if quick else max(row.rounds for row in chosen)
        for turn in range(most):
            told(f"round {turn + 1} of {most}")
            for number, contest in contests.items():
                # A row of few rounds has them spread over the whole run.
                wanted = min(chosen[number].rounds, most)
                if turn * wanted // most != (turn + 1) * wanted // most:
                    _round(contest, results[number])
    return results


def _round(contest: Contest, result: Result) -> None:
    if not result.subject:  # the first call of anything is dearer: caches, connections, specialised bytecode
        contest.subject()
        contest.base()
    if len(result.subject) % 2:
        base = contest.base()
        subject = contest.subject()
    else:
        subject = contest.subject()
        base = contest.base()
    result.subject.append(subject)
    result.base.append(base)
