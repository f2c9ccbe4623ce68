"""Give every moment of the rows its column on one time axis, and fold what does not fit.

A moment gets the column that its time asks for, or the next one that the signs before it leave free. Where that is too
full runs of one sign are folded ("t×37═══"), and then equal parts of the time ("(s…×80…t)"). Nothing is cut off: every
sign is drawn or counted.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal, NamedTuple, TypeAlias

from rxauth.marbles._record import Mark
from rxauth.marbles._signs import Sign

Style: TypeAlias = Literal[
    "title", "label", "strong", "plain", "quiet", "count", "tick", "sign", "line", "run", "group", "stem"
]


@dataclass(slots=True)
class Glyph:
    """One sign, `count` times in a row from `time` until `until`; without a sign, `count` signs that were folded."""

    sign: Sign | None
    time: float = 0.0
    until: float = 0.0
    mark: Mark | None = None
    words: list[str] = field(default_factory=list)  # of the note under it
    count: int = 1


class Char(NamedTuple):
    """Hold one column of a row: a character, or nothing behind a wide one. Where a sign begins, also its glyph."""

    text: str
    style: Style
    glyph: Glyph | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """The signs of each row with their columns, and moments with theirs. `coarse`: signs in brackets are only close."""

    rows: list[list[tuple[int, list[Char]]]]
    moments: list[float]
    xs: list[int]
    coarse: bool = False

    def x(self, time: float) -> int:
        """Return the column of a time: exact at a moment, in proportion between two."""
        at = max(0, bisect_right(self.moments, time) - 1)
        if at + 1 == len(self.moments):
            return self.xs[at]
        share = max(0.0, time - self.moments[at]) / (self.moments[at + 1] - self.moments[at])
        return self.xs[at] + math.floor(share * (self.xs[at + 1] - self.xs[at]) + 1e-9)


def arrange(rows: Sequence[list[Glyph]], edges: set[float], columns: int, wide: int, *, ticks: bool) -> Columns:
    """Find the truest arrangement that fits into so many columns. `edges` are moments without a sign."""
    times = sorted(edges | {time for row in rows for glyph in row for time in (glyph.time, glyph.until)})
    span = times[-1] - times[0] if times[-1] - times[0] > 1e-9 else 0.0  # a shorter one has no scale
    whole = ticks and all(float(time - times[0]).is_integer() for time in times)
    true = (columns - 1) / span if span else 0.0
    moments = times[:1]
    for time in times:  # what is nearer than a quarter of a column is one moment
        if time > moments[-1] and (whole or (time - moments[-1]) * true >= 0.25):
            moments.append(time)
    # Whole columns for whole ticks: the eye counts them. Otherwise rather fold than give up the scale.
    scales = [float(scale) for scale in range(min(max(6, 3 * wide), int(true)), 0, -1) if whole]
    least = 0 if whole else 12  # twentieths of the true scale: below that a picture misleads about times
    scales = scales or [true * share / 20 for share in range(20, least - 1, -1)]
    folded = [_fold(row) for row in rows]
    for drawn in (rows, folded):
        waiting: list[list[tuple[int, list[Glyph]]]] = [[] for _ in moments]
        for number, row in enumerate(drawn):
            for after, group in groupby(row, lambda glyph: bisect_right(moments, glyph.time)):
                waiting[after - 1].append((number, list(group)))
        for scale in scales:
            placed = Columns([[] for _ in rows], moments, [])
            if _place(waiting, placed, scale, columns, wide):
                return placed
    return _divide(folded, sorted({times[0], times[-1]}), columns, wide)


def _fold(glyphs: list[Glyph]) -> list[Glyph]:
    """Make one glyph of four or more of the same sign; three are shorter as they are."""
    folded: list[Glyph] = []
    for _, group in groupby(glyphs, lambda glyph: glyph.sign):
        run = list(group)
        words = next((glyph.words for glyph in run if glyph.words), [])
        whole = replace(run[0], until=run[-1].until, mark=None, words=words, count=len(run))
        folded += run if len(run) < 4 else [whole]
    return folded


def _place(
    waiting: list[list[tuple[int, list[Glyph]]]], placed: Columns, scale: float, columns: int, wide: int
) -> bool:
    """Give every moment, and the signs that wait for it, a column; return whether they fit."""
    begin = before = placed.moments[0]
    free = [0] * len(placed.rows)  # the first free column of each row
    x = 0
    for moment, starting in zip(placed.moments, waiting, strict=True):
        apart = min(1, round((moment - before) * scale))
        x = max([round((moment - begin) * scale), x + apart, *(free[row] for row, _ in starting)])
        for row, glyphs in starting:
            chars = chars_of(glyphs, wide)
            placed.rows[row].append((x, chars))
            free[row] = x + len(chars) + (glyphs[-1].count > 1)
            if x + len(chars) > columns:
                return False
        placed.xs.append(x)
        before = moment
    return x < columns


def _divide(rows: Sequence[list[Glyph]], ends: list[float], columns: int, wide: int) -> Columns:
    """Divide the time into equal parts, and fold the middle of those that are too full."""
    placed = Columns([], ends, [0, columns - 1][: len(ends)], coarse=True)
    parts = max(1, columns // 18)
    room = columns // parts
    for row in rows:
        placed.rows.append([])
        for part, group in groupby(row, lambda glyph: min(placed.x(glyph.time) // room, parts - 1)):
            glyphs = drawn = list(group)
            kept = len(glyphs) // 2
            while len(chars := chars_of(drawn, wide)) >= room and kept:
                kept = min(kept - 1, room // wide)
                middle = glyphs[kept : len(glyphs) - kept]
                more = Glyph(None, middle[0].time, middle[-1].until, count=sum(glyph.count for glyph in middle))
                drawn = [*glyphs[:kept], more, *glyphs[len(glyphs) - kept :]]
            placed.rows[-1].append((min(placed.x(glyphs[0].time), (part + 1) * room - len(chars) - 1), chars))
    return placed


def chars_of(glyphs: list[Glyph], wide: int) -> list[Char]:
    """Put signs side by side, `wide` columns each, in brackets if there are several."""
    chars: list[Char] = []
    for glyph in glyphs:
        if chars and chars[-1].style == "count":
            chars.append(Char(" ", "group"))  # "×3" and "7" must not read "×37"
        if glyph.sign is not None:
            chars += [Char(glyph.sign.letter, "sign", glyph), *[Char("", "sign")] * (wide - 1)]
            chars += [Char(char, "count") for char in f"×{glyph.count}" if glyph.count > 1]
        else:
            chars += [Char("…", "count", glyph), *(Char(char, "count") for char in f"×{glyph.count}…")]
    return chars if len(glyphs) == 1 else [Char("(", "group"), *chars, Char(")", "group")]
