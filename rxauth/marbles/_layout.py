"""Lay rows, notes, axis and legend out in cells. The terminal and the SVG are drawn from the same layout."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from rxauth.marbles._columns import Cell, Columns, Sizes, Token, columns_of
from rxauth.marbles._notes import Hung, Note, hang, notes_of, shorten, wrap
from rxauth.marbles._record import Timeline
from rxauth.marbles._signs import Alphabet, Sign, cells, clean

__all__ = ["Layout", "Row", "arrange"]

_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `line`: where its stream lived; `runs`: where a folded run or group went on.

    `notes` hang under it; where they would cross they are `listed` instead, and `numbers` stand on their signs.
    """

    timeline: Timeline
    label: list[str]
    cells: list[Cell] = field(default_factory=list)
    line: tuple[int, int] | None = None
    runs: list[tuple[int, int]] = field(default_factory=list)
    notes: list[Hung] = field(default_factory=list)
    listed: list[tuple[str, Note]] = field(default_factory=list)
    numbers: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layout:
    """All rows from column `left` on. `ticks`: the axis' labels; `legend`: line, column, sign (or text) and name."""

    title: list[str]
    left: int
    rows: list[Row]
    ticks: list[tuple[int, str]]
    unit: str
    legend: list[tuple[int, int, Sign | str, str]]
    columns: Columns | None = None


def arrange(timelines: Sequence[Timeline], title: str, width: int, sizes: Sizes) -> Layout:
    """Lay the rows out, `width` cells wide."""
    alphabet = Alphabet(timelines)
    labels, left = _labels(timelines, width, sizes)
    rows = [Row(*each) for each in zip(timelines, labels, strict=True)]
    ticks, unit, placed = list[tuple[int, str]](), "", None
    if any(timeline.marks for timeline in timelines):
        columns = width - left - (sizes.sign if any(timeline.is_open for timeline in timelines) else 0)  # for an arrow
        tokens = [_tokens(timeline, alphabet) for timeline in timelines]
        edges = {mark.time for row in timelines for mark in row.marks if mark.kind in ("subscribed", "note")}
        edges |= {row.open_until for row in timelines if row.open_until is not None}
        placed = columns_of(tokens, edges, columns, sizes, ticks=timelines[0].unit == "ticks")
        quoted: set[str] = set()
        for index in reversed(range(len(rows))):  # a text that several rows have is quoted under the last of them
            notes = notes_of(timelines[index], placed.cells(index), alphabet)
            kept = [note for note in notes if note.kind != "quote" or note.text not in quoted]
            quoted |= {note.text for note in kept if note.kind == "quote"}
            rows[index] = _row(rows[index], placed, placed.cells(index), kept, width - left, sizes)
        ticks, unit = _ticks(placed, timelines[0].unit, columns, sizes)
    wrapped = wrap(clean(title), int(width / sizes.em)) if title else []
    legend = list(_legend(rows, alphabet, placed is not None and placed.coarse, width, sizes))
    return Layout(wrapped, left, rows, ticks, unit, legend, placed)


def _labels(timelines: Sequence[Timeline], width: int, sizes: Sizes) -> tuple[list[list[str]], int]:
    """Wrap the labels, and find the first column of the rows beside them."""
    names = [clean(timeline.label) for timeline in timelines]
    longest = max((cells(word) for name in names for word in name.split(" ")), default=0)
    room = min(max(int(width / sizes.bold / 4) + 1, longest), max(14, int(width / sizes.bold / 3)))
    labels = [wrap(name, min(room, int(width / sizes.bold / 2))) for name in names]
    lines = [line for label in labels for line in label] + [timeline.unit for timeline in timelines]
    return labels, math.ceil(max(map(cells, lines), default=0) * sizes.bold) + sizes.text("xx")


def _tokens(timeline: Timeline, alphabet: Alphabet) -> list[Token]:
    drawn = (mark for mark in timeline.marks if mark.kind not in ("subscribed", "note"))
    return [Token(alphabet.sign(mark), mark.time, mark.time, mark=mark) for mark in drawn]


def _row(row: Row, placed: Columns, signs: list[Cell], notes: list[Note], width: int, sizes: Sizes) -> Row:
    lived = [mark.time for mark in row.timeline.marks if mark.kind not in ("mark", "note")]
    line = None
    if lived:
        begin = min([placed.x(lived[0]), *(cell.x for cell in signs[:1])])
        line = begin, width - 1 if row.timeline.is_open else signs[-1].x if signs else begin
    runs = []
    for cell, following in zip(signs, [*(cell.x for cell in signs[1:]), width], strict=False):
        until = min(placed.x(cell.tokens[-1].until), following - 1)
        if until >= cell.end:
            runs.append((cell.end, until))
    hung = hang(notes, width - sizes.sign // 2, sizes)
    if hung is not None:
        return replace(row, cells=signs, line=line, runs=runs, notes=hung)
    marked = sorted({note.x for note in notes if note.kind == "mark"})
    numbers = {x: "123456789abcdefghijklmnopqrstuvwxyz"[index : index + 1] or "*" for index, x in enumerate(marked)}
    listed = []
    for note in sorted(notes, key=lambda note: note.x):
        text = f"{numbers[note.x]} {note.text}" if note.kind == "mark" else note.text
        text = f'"{shorten(text, int(width / sizes.em) - 2)}"' if note.kind == "quote" else text
        listed += [(each, note) for each in wrap(text, int(width / sizes.em))]
    return replace(row, cells=signs, line=line, runs=runs, listed=listed, numbers=numbers)


def _ticks(placed: Columns, unit: str, columns: int, sizes: Sizes) -> tuple[list[tuple[int, str]], str]:
    """Label the axis in the finest steps whose labels stand clear of each other."""
    origin, span = placed.starts[0], placed.starts[-1] - placed.starts[0]
    size = 1.0
    if unit == "s":
        unit, size = next((each for each in _UNITS if span >= 2 * each[1]), _UNITS[-1] if span > 1e-9 else _UNITS[0])
    most = max(3, columns // (2 * sizes.text("00000")))
    for step in (factor * 10.0**power for power in range(-9, 16) for factor in (1, 2, 5)):
        count = int(span / size / step + 1e-9) + 1
        if count > most or (unit == "ticks" and step < 1):
            continue
        ticks = [(placed.x(origin + step * size * n), f"{round(step * n, 9):.9g}") for n in range(count)]
        ticks = [(x, text) for x, text in ticks if x + sizes.text(text) <= columns]
        if all(x + sizes.text(f"{text}xx") <= after for (x, text), (after, _) in pairwise(ticks)):
            return ticks, unit
    raise AssertionError("a single label is always clear")  # pragma: no cover


def _legend(
    rows: Sequence[Row], alphabet: Alphabet, coarse: bool, width: int, sizes: Sizes
) -> Iterator[tuple[int, int, Sign | str, str]]:
    signs = [cell for row in rows for cell in row.cells]
    tokens = [token for cell in signs for token in cell.tokens]
    entries: list[tuple[Sign | str, str]] = [*alphabet.legend(token.sign for token in tokens if token.sign)]
    if any(len(cell.tokens) > 1 for cell in signs):
        entries.append(("( )", "close together" if coarse else "at one moment"))
    if any(token.sign is None for token in tokens):
        entries.append(("…×9…", "9 more"))
    if any(token.sign and token.count > 1 for token in tokens):
        entries.append(("×9", "9 in a row"))
    if any(row.runs for row in rows):
        entries.append(("══", "goes on"))
    if any(row.timeline.is_open for row in rows):
        entries.append(("▸", "still open"))
    line = x = 0
    for symbol, name in entries:
        room = max(sizes.sign, sizes.text(symbol) if isinstance(symbol, str) else 0)
        name = shorten(name, int((width - room) / sizes.em) - 1)
        need = room + sizes.text(f" {name}")
        if x and x + need > width:
            line, x = line + 1, 0
        yield line, x, symbol, name
        x += need + sizes.text("xxx")
