"""How a ratio is measured: two costs, in turns, many times; the median counts.

All rows take their turns in rounds, so that other work on the machine falls on all of them alike. Costs are CPU seconds
unless a row's name says otherwise.
"""

from __future__ import annotations

import asyncio
import gc
import operator
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from .provider import Provider, many_files, provider

Cost: TypeAlias = Callable[[], float]

HOLDS = {"≤": operator.le, "≥": operator.ge, "=": operator.eq}


def one() -> float:
    return 1.0


@dataclass
class Row:
    """A cost divided by another; without a `base`, the cost itself. A limit with `=` binds each round."""

    name: str
    subject: Cost
    base: Cost = one
    _: KW_ONLY
    limit: str = ""
    rounds: int = 15
    costs: list[tuple[float, float]] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        return [subject / base for subject, base in self.costs]

    @property
    def quartiles(self) -> tuple[float, float, float]:
        if len(self.costs) == 1:
            return (self.ratios[0],) * 3
        low, _, high = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return low, statistics.median(self.ratios), high

    @property
    def met(self) -> bool:
        if not self.limit:
            return True
        sign, bound = self.limit.split()
        judged = self.ratios if sign == "=" else [statistics.median(self.ratios)]
        return all(HOLDS[sign](ratio, float(bound)) for ratio in judged)

    def take_a_turn(self) -> None:
        if not self.costs:  # the first call of anything is dearer: caches, connections, specialised bytecode
            self.subject()
            self.base()
        if len(self.costs) % 2:
            self.costs.append((self.subject(), self.base()))
        else:
            base = self.base()
            self.costs.append((self.subject(), base))


def hold(rows: Sequence[Row]) -> None:
    """Let the rows take their turns; one of few rounds has them spread over the whole run."""
    most = max(row.rounds for row in rows)
    for turn in range(most):
        print(f"\rround {turn + 1} of {most}  ", end="", file=sys.stderr)
        for row in rows:
            if turn * row.rounds // most != (turn + 1) * row.rounds // most:
                row.take_a_turn()
    print("\r", end="", file=sys.stderr)


@dataclass(frozen=True)
class Stage:
    """Hold what the rows share: a provider in another process, a loop, a directory, and a divisor of every size."""

    server: Provider
    runner: asyncio.Runner
    home: Path
    scale: int

    def cpu(self, function: Callable[[], Coroutine[Any, Any, object]]) -> Cost:
        """The CPU time of a coroutine function."""
        return cpu(lambda: self.runner.run(function()))

    def median_of(self, count: int, function: Callable[[], Coroutine[Any, Any, float]]) -> Cost:
        """The typical result of a coroutine function."""

        async def several() -> float:
            return statistics.median([await function() for _ in range(count)])

        return lambda: self.runner.run(several())


@contextmanager
def stage(scale: int) -> Iterator[Stage]:
    many_files()
    with provider() as server, asyncio.Runner() as runner, tempfile.TemporaryDirectory() as home:
        yield Stage(server, runner, Path(home), scale)


def cpu(function: Callable[[], object]) -> Cost:
    """The CPU time that a call takes, all threads of this process together."""

    def cost() -> float:
        gc.collect()
        begun = time.process_time()
        function()
        return time.process_time() - begun

    return cost
