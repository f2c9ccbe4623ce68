"""Give every moment of the rows its column on one time axis, and fold what does not fit.

A moment gets the column that its time asks for, or the next one that the signs before it leave free. Rows that are too
full are folded: first runs of one sign ("t×37═══"), then signs that are close together ("(s‹t×9)"), at last the middle
of a group ("(s…×80…t)"). Nothing is cut off: every sign is drawn or counted.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rxauth.marbles._record import Mark
from rxauth.marbles._signs import Sign, cells

__all__ = ["Cell", "Columns", "Sizes", "Token", "columns_of"]

_INSTANT = 1e-9  # s, or ticks: a shorter span has no scale


@dataclass(frozen=True, slots=True)
class Token:
    """One sign, `count` times in a row from `time` until `until`; without a sign, `count` signs that were folded."""

    sign: Sign | None
    time: float
    until: float
    count: int = 1
    mark: Mark | None = None

    @property
    def times(self) -> str:
        """The text after the sign, or in its place."""
        return f"…×{self.count}…" if self.sign is None else f"×{self.count}" if self.count > 1 else ""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many cells things need: a sign, the bracket before a group, a character of a note and of a label, a tick."""

    sign: int
    opening: int
    em: float
    bold: float
    tick: int

    def text(self, text: str) -> int:
        """A text."""
        return math.ceil(cells(text) * self.em)

    def token(self, token: Token) -> int:
        """A sign with its count."""
        return self.text(token.times) + (self.sign if token.sign else 0)

    def cell(self, x: int, tokens: Sequence[Token]) -> Cell:
        """Signs side by side from column `x`, in brackets if there are several."""
        at = x + (self.opening if len(tokens) > 1 else 0)
        offsets = []
        for index, token in enumerate(tokens):
            at += index > 0 and tokens[index - 1].count > 1  # "×3" and "7" must not read "×37"
            offsets.append(at)
            at += self.token(token)
        return Cell(x, at + (len(tokens) > 1), tuple(tokens), tuple(offsets))


@dataclass(frozen=True, slots=True)
class Cell:
    """The signs of a row at one moment; `offsets` are their columns."""

    x: int
    end: int
    tokens: tuple[Token, ...]
    offsets: tuple[int, ...]


def columns_of(rows: Sequence[list[Token]], edges: set[float], columns: int, sizes: Sizes, *, ticks: bool) -> Columns:
    """Find the truest arrangement that fits into so many columns. `edges` are moments without a sign."""
    moments = edges | {token.time for row in rows for token in row}
    origin, span = min(moments), max(moments) - min(moments)
    span = span if span > _INSTANT else 0.0
    whole = ticks and all(float(moment - origin).is_integer() for moment in moments)
    true = (columns - 1) / span if span else 0.0
    # Whole columns for whole ticks: the eye counts them.
    even = [float(scale) for scale in range(min(sizes.tick, int(true)), 0, -1)] if whole else []
    scales = even + [true * left / (columns - 1) for left in range(columns - 1, -1, -1) if not whole or true < 1]
    for power in (-4, -2, *range(8), 99):  # from the truest picture to the most folded one
        near = 0.0 if whole and power < 0 else span / (columns - 1) * 2.0**power
        widest = max(columns // 4, 18) if 0 < power < 99 else columns
        placed = Columns(rows, edges, near, columns, sizes, folded=power > -4, widest=widest, coarse=power > 0)
        least = 0.0 if whole else true * {-4: 0.8, -2: 0.6}.get(power, 0.0)  # rather fold than give up the scale
        kept = [scale for scale in scales if scale >= least]
        best = bisect_left(kept, True, key=placed.place)  # a smaller scale fits where a larger one does
        if best < len(kept) and placed.place(kept[best]):
            return placed
    raise AssertionError("one group per row always fits")  # pragma: no cover


class Columns:
    """One try: the moments, the signs of each row at them, and their columns."""

    def __init__(
        self,
        rows: Sequence[list[Token]],
        edges: set[float],
        near: float,  # seconds or ticks that count as one moment
        columns: int,
        sizes: Sizes,
        *,
        folded: bool,
        widest: int,  # cells of one group
        coarse: bool,  # more than one column's worth of time counts as one moment
    ) -> None:
        self.coarse = coarse
        self._columns = columns
        self._sizes = sizes
        rows = [_fold(row) for row in rows] if folded else rows
        moments = edges | {token.time for row in rows for token in row} | {token.until for row in rows for token in row}
        self.starts: list[float] = []
        for moment in sorted(moments):
            if not self.starts or (moment > self.starts[-1] and moment - self.starts[-1] >= near):
                self.starts.append(moment)
        self._groups: list[dict[int, list[Token]]] = []
        for signs in rows:
            groups = {at: list(tokens) for at, tokens in groupby(signs, lambda token: self._index(token.time))}
            if folded:
                groups = {at: self._trim(_fold(tokens), widest) for at, tokens in groups.items()}
            self._groups.append(groups)
        self._widths: list[list[tuple[int, int, bool]]] = [[] for _ in self.starts]  # row, cells, whether counted
        for row, groups in enumerate(self._groups):
            for at, tokens in groups.items():
                self._widths[at].append((row, sizes.cell(0, tokens).end, tokens[-1].count > 1))
        self._xs: list[int] = []

    def place(self, scale: float) -> bool:
        """Give every moment its column; false if they do not fit."""
        free = [0] * len(self._groups)  # the first free column of each row
        self._xs = []
        for start, widths in zip(self.starts, self._widths, strict=True):
            x = round((start - self.starts[0]) * scale)
            x = max([x, *(free[row] for row, _, _ in widths), *(each + 1 for each in self._xs[-1:])])
            self._xs.append(x)
            for row, width, counted in widths:
                free[row] = x + width + counted
                if x + width > self._columns:
                    return False
        return self._xs[-1] < self._columns

    def x(self, time: float) -> int:
        """Return the column of a time: exact at a moment, in proportion between two."""
        at = max(0, self._index(time))
        if at + 1 >= len(self.starts):
            return self._xs[at]
        share = max(0.0, time - self.starts[at]) / (self.starts[at + 1] - self.starts[at])
        return self._xs[at] + math.floor(share * (self._xs[at + 1] - self._xs[at]) + 1e-9)

    def cells(self, row: int) -> list[Cell]:
        """Return the signs of a row in their columns."""
        placed: list[Cell] = []
        free = self._columns
        for at, tokens in sorted(self._groups[row].items(), reverse=True):
            x = self._xs[at]
            if self.coarse:  # a group of this row may begin later than the one moment of all rows
                x = max(x, min(self.x(tokens[0].time), free - self._sizes.cell(0, tokens).end - 1))
            placed.append(self._sizes.cell(x, tokens))
            free = x
        return placed[::-1]

    def _index(self, time: float) -> int:
        return bisect_right(self.starts, time) - 1

    def _trim(self, tokens: list[Token], widest: int) -> list[Token]:
        """Fold the middle of a group until it fits."""
        shown, kept = tokens, len(tokens) // 2
        while kept > 0 and self._sizes.cell(0, shown).end > widest:
            kept = min(kept - 1, widest // self._sizes.sign)
            middle = tokens[kept : len(tokens) - kept]
            more = Token(None, middle[0].time, middle[-1].until, sum(token.count for token in middle))
            shown = [*tokens[:kept], more, *tokens[len(tokens) - kept :]]
        return shown


def _fold(tokens: Sequence[Token]) -> list[Token]:
    """Make one token of four or more of the same sign; three are shorter as they are."""
    folded: list[Token] = []
    for _, group in groupby(tokens, lambda token: token.sign):
        run = list(group)
        count = sum(token.count for token in run)
        folded += run if count < 4 else [replace(run[0], until=run[-1].until, count=count, mark=None)]
    return folded
