"""Lay rows, notes, axis and legend out on a page of characters: a terminal shows them, the SVG draws some as shapes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Literal, TypeAlias

from rxauth.errors import field
from rxauth.marbles._columns import Char, Columns, Glyph, Style, arrange, chars_of
from rxauth.marbles._record import Timeline
from rxauth.marbles._signs import LAST_SIGNS, Sign, alphabet_of, cells, clean, failure_name, sign_of

Row: TypeAlias = list[tuple[int, list[Char]]]
Note: TypeAlias = tuple[int, str, Literal["strong", "plain", "quote"]]
"""The column of its sign, its text, and whether it is a failure or remark, a mark's name, or the assistant's words."""

_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
_GLUE = "\N{NO-BREAK SPACE}"
_COLOURS = {
    "start": "1;34",
    "text": "35",
    "thinking": "33",
    "tool": "36",
    "done": "1;32",
    "error": "1;31",
    **dict.fromkeys(("other", "title", "label", "strong"), "1"),
    **dict.fromkeys(("quiet", "count", "tick", "line", "run", "group", "stem"), "2"),
}
_ASCII = str.maketrans("─═▸│╰╯×…‹›●", "-=>|`'*~<>o")


class Page:
    """Characters by line and column; later ones lie on top.

    Args:
        timelines: the rows, from top to bottom.
        title: a line above them.
        width: the columns of the page.
        wide: the columns of a sign.
        legend: whether to name the signs.
    """

    def __init__(
        self, timelines: Sequence[Timeline], title: str, width: int, wide: int = 1, *, legend: bool = True
    ) -> None:
        self.lines: list[dict[int, Char]] = []
        self.rows: dict[int, tuple[str, int, int]] = {}  # by line: the label, and from where to where the stream lived
        self.words: list[str] = []  # describe the rows
        self.placed: Columns | None = None
        self._width = width
        self._wide = wide
        for line in _wrap(clean(title), width * 4 // 5) if title else ():  # its characters are larger
            self._write(0, len(self.lines), line, "title")
        self._skip(1 if title else 0)
        labels = self._labels(timelines)
        alphabet = alphabet_of(timelines)
        rows: list[Row] = [[] for _ in timelines]
        if any(row.marks for row in timelines):
            columns = width - self.left - (wide if any(row.is_open for row in timelines) else 0)  # for an arrow
            edges = {mark.time for row in timelines for mark in row.marks if mark.kind in ("subscribed", "note")}
            edges |= {row.open_until for row in timelines if row.open_until is not None}
            glyphs = [_glyphs(row, alphabet) for row in timelines]
            self.placed = arrange(glyphs, edges, columns, wide, ticks=timelines[0].unit == "ticks")
            rows = self.placed.rows
        notes = list(map(_notes, timelines, rows))
        for number, row in enumerate(zip(timelines, labels, rows, strict=True)):
            below = {text for later in notes[number + 1 :] for _, text, kind in later if kind == "quote"}
            self._row(*row, [note for note in notes[number] if note[1] not in below])  # the last row has the quote
        if self.placed is not None:
            self._axis(self.placed, timelines[0].unit, columns)
        if legend:
            self._legend([*alphabet.values(), *LAST_SIGNS.values()])

    def _write(self, x: int, y: int, text: str, style: Style) -> None:
        self._skip(y + 1 - len(self.lines))
        line = self.lines[y]
        for char in text:
            wide = cells(char)
            if wide == 0 and x - 1 in line:  # a combining mark belongs to the character before it
                line[x - 1] = line[x - 1]._replace(text=line[x - 1].text + char)
                continue
            line[x] = Char(char, style)
            if wide == 2:
                line[x + 1] = Char("", style)
            x += max(wide, 1)

    def _skip(self, lines: int) -> None:
        self.lines += [{} for _ in range(lines)]

    def _labels(self, timelines: Sequence[Timeline]) -> list[list[str]]:
        """Wrap the labels, and find the first column of the rows beside them."""
        names = [clean(timeline.label) for timeline in timelines]
        longest = max((cells(word) for name in names for word in name.split(" ")), default=0)
        room = min(max(self._width // 4 + 1, longest), max(14, self._width // 3), self._width // 2)
        labels = [_wrap(name, room) for name in names]
        self.left = max(cells(line) for label in [*labels, ["ticks"]] for line in label) + 2
        return labels

    def _row(self, timeline: Timeline, label: list[str], row: Row, notes: list[Note]) -> None:
        left, y, room = self.left, len(self.lines), self._width - self.left
        self.words.append(_describe(timeline, row))
        for number, line in enumerate(label):
            self._write(0, y + number, line, "label")
        lived = [mark.time for mark in timeline.marks if mark.kind not in ("mark", "note")]
        begin = end = 0
        if lived and self.placed:
            begin = min([self.placed.x(lived[0]), *(x for x, _ in row[:1])])
            end = room - 1 if timeline.is_open else row[-1][0] if row else begin
            self._write(left + begin, y, "─" * (end - begin) + ("▸" if timeline.is_open else "─"), "line")
        self.rows[y] = timeline.label, left + begin, left + end - (self._wide // 2 if timeline.is_open else 0)
        for (x, chars), after in zip(row, [*(x for x, _ in row[1:]), room], strict=False):
            glyphs = [char.glyph for char in chars if char.glyph]
            if self.placed and glyphs[-1].until > glyphs[0].time:
                until = min(self.placed.x(glyphs[-1].until) + 1, after)
                self._write(left + x, y, "═" * (until - x), "run")
            self.lines[y].update(enumerate(chars, left + x))
        for x, text, kind in sorted(notes, key=lambda note: note[0], reverse=True):  # so that few stems cross a text
            if kind == "quote":
                text = f'"{_shorten(text, room - x - 5 if room - x > 20 else max(room - x - 5, x - 3, 3))}"'
            for part in _wrap(text, room):
                self._hang(left + x, y + 1, part, "plain" if kind == "quote" else kind)

    def _hang(self, x: int, y: int, text: str, style: Style) -> None:
        """Hang a note from a sign: right of its column, else left of it, else where there is room."""
        width = cells(text)
        at, bend = self._width - width, ""
        if x + 1 + (self._wide + 1) // 2 + width <= self._width:
            at, bend = x + 1 + (self._wide + 1) // 2, "╰"
        elif self.left + width < x:
            at, bend = x - 1 - width, "╯"
        end = y
        while end < len(self.lines) and not self.lines[end].keys().isdisjoint(range(at - 1, at + width + 1)):
            end += 1
        for line in range(y, end):
            if x not in self.lines[line]:  # behind the texts
                self._write(x, line, "│", "stem")
        self._write(x, end, bend, "stem")
        self._write(at, end, text, style)

    def _axis(self, placed: Columns, unit: str, columns: int) -> None:
        """Label the axis in the finest steps whose labels stand clear of each other."""
        origin, span = placed.moments[0], placed.moments[-1] - placed.moments[0]
        size = 1.0
        if unit == "s":
            unit, size = next((each for each in _UNITS if span >= 2 * each[1]), _UNITS[-1 if span > 1e-9 else 0])
        for step in (factor * 10.0**power for power in range(-9, 16) for factor in (1, 2, 5)):
            count = int(span / size / step + 1e-9) + 1
            if count > max(3, columns // 10) or (unit == "ticks" and step < 1):
                continue
            ticks = [(placed.x(origin + step * size * n), f"{round(step * n, 9):.9g}") for n in range(count)]
            ticks = [(x, text) for x, text in ticks if x + len(text) <= columns]
            if all(x + len(text) + 2 <= after for (x, text), (after, _) in pairwise(ticks)):
                break
        y = len(self.lines)
        self._write(0, y, unit, "quiet")
        for x, text in ticks:
            self._write(self.left + x, y, text, "tick")

    def _legend(self, signs: Sequence[Sign]) -> None:
        drawn = [char for line in self.lines for char in line.values()]
        found = {char.glyph.sign for char in drawn if char.glyph}
        shown = {char.text for char in drawn if char.style in ("line", "run", "group", "count")}
        entries = [(chars_of([Glyph(sign)], self._wide), sign.name) for sign in signs if sign.name and sign in found]
        for symbol, name in (
            ("( )", "close together" if self.placed and self.placed.coarse else "at one moment"),
            ("…×9…", "9 more"),
            ("×9", "9 in a row"),
            ("══", "goes on"),
            ("▸", "still open"),
        ):
            entries += [([Char(char, "quiet") for char in symbol], name)] if symbol[0] in shown else []
        x, y = 0, len(self.lines) + 1
        for chars, name in entries:
            at = len(chars) + 1
            name = _shorten(name, self._width - at)
            if x and x + at + cells(name) > self._width:
                x, y = 0, y + 1
            self._write(x + at, y, name, "quiet")
            self.lines[y].update(enumerate(chars, x))
            x += at + cells(name) + 3

    def text(self, *, color: bool, ascii_only: bool) -> str:
        """Return the characters, for a terminal."""
        lines = []
        for line in self.lines:
            drawn, current = "", ""
            for x in range(max(line, default=-1) + 1):
                char = line.get(x, Char(" ", "plain"))
                tone = char.glyph.sign.tone if char.glyph and char.glyph.sign else char.style
                if color and (colour := _COLOURS.get(tone, "")) != current:
                    drawn += "\x1b[0m" * bool(current) + f"\x1b[{colour}m" * bool(colour)
                    current = colour
                drawn += char.text
            lines.append(drawn.rstrip() + "\x1b[0m" * bool(current))
        text = "\n".join(lines)
        return text.translate(_ASCII).encode("ascii", "replace").decode() if ascii_only else text


def _glyphs(timeline: Timeline, alphabet: Mapping[str, Sign]) -> list[Glyph]:
    """Return the signs of a row with the words under them: of a failure, a mark, the assistant."""
    glyphs = []
    quoting: Glyph | None = None
    for mark in timeline.marks:
        if mark.kind in ("subscribed", "note"):
            continue
        sign = sign_of(mark, alphabet)
        glyph = Glyph(sign, mark.time, mark.time, mark)
        if sign.shape == "dot":
            glyph.words.append(sign.name)
        elif sign.tone == "error":
            glyph.words.append(failure_name(mark.value))
        elif sign.name == "text_delta" and isinstance(delta := field(mark.value, "delta"), str):
            quoting = quoting or glyph
            quoting.words.append(delta)
        elif sign.name == "start":  # another message of the same row
            quoting = None
        glyphs.append(glyph)
    return glyphs


def _notes(timeline: Timeline, row: Row) -> list[Note]:
    """Return the notes of a row. A note whose sign was folded away is left out, a remark is not."""
    glyphs = [(x + at, char.glyph) for x, chars in row for at, char in enumerate(chars) if char.glyph]
    notes: list[Note] = []
    for x, glyph in glyphs:
        if glyph.sign and (text := clean("".join(glyph.words)).strip()):
            tone = glyph.sign.tone
            notes.append((x, text, "strong" if tone == "error" else "quote" if tone == "text" else "plain"))
    for mark in timeline.marks:
        if mark.kind == "note":
            x = next((x for x, glyph in glyphs if glyph.until >= mark.time), glyphs[-1][0] if glyphs else 0)
            notes.append((x, clean(str(mark.value)), "strong"))
    return list(dict.fromkeys(notes))


def _describe(timeline: Timeline, row: Row) -> str:
    """Describe a row in words, for readers who cannot see the picture."""
    glyphs = [char.glyph for _, chars in row for char in chars if char.glyph]
    names = [(glyph.sign.name or glyph.sign.letter if glyph.sign else "more", glyph.count) for glyph in glyphs]
    runs = [(name, sum(count for _, count in same)) for name, same in groupby(names, lambda each: each[0])]
    texts = [f"{name} ×{count}" if count > 1 else name for name, count in runs]
    ended = ", still open" if timeline.is_open else ""
    return f"{clean(timeline.label)}: {', '.join(texts) or 'nothing'}{ended}."


def _shorten(text: str, columns: int) -> str:
    """Cut a text to so many columns, with a sign for the cut."""
    if cells(text) <= columns:
        return text
    while cells(text) > columns - 1:
        text = text[:-1]
    return text + "…"


def _wrap(text: str, columns: int) -> list[str]:
    """Break a text into lines of so many columns; a last word of a letter or two stays with the one before it."""
    head, space, last = text.rpartition(" ")
    glued = f"{head}{_GLUE}{last}" if space and len(last) < 3 else text
    lines = textwrap.wrap(glued, max(columns, 1), break_on_hyphens=False)
    return [_shorten(line.replace(_GLUE, " "), columns) for line in lines] or [""]
