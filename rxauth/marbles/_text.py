"""A diagram in characters, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rxauth.marbles._layout import Layout, Metrics, Track, arrange
from rxauth.marbles._notes import Note, hang
from rxauth.marbles._record import Timeline
from rxauth.marbles._signs import Alphabet, Sign, Tone, cells, clean, shorten, wrap

__all__ = ["draw_text"]

_INDENT = 2
_NARROWEST = 24  # columns: below that a group and its brackets have no room

_SGR: dict[str, str] = {
    "start": "1;34",
    "text": "35",
    "thinking": "33",
    "tool": "36",
    "other": "1",
    "done": "1;32",
    "error": "1;31",
    "quiet": "2",
    "label": "1",
    "plain": "",
}


@dataclass(frozen=True, slots=True)
class _Pen:
    """The characters that are not signs."""

    line: str
    run: str
    arrow: str
    stem: str
    elbow: str
    back: str
    times: str
    dots: str


_UNICODE = _Pen("─", "═", "▸", "│", "╰", "╯", "×", "…")
_ASCII = _Pen("-", "=", ">", "|", "`", "'", "*", "~")


def draw_text(timelines: Sequence[Timeline], *, title: str, width: int, color: bool, ascii_only: bool) -> str:
    """All rows, the axis and the legend, `width` columns wide at most."""
    width = max(width, _NARROWEST)
    pen = _ASCII if ascii_only else _UNICODE
    labels, left = _labels(timelines, width)
    beside = left > _INDENT
    columns = width - left
    alphabet = Alphabet(timelines)
    layout = arrange(timelines, alphabet, columns, _METRICS)
    page = _Page()
    if title:
        for line in wrap(clean(title), width):
            page.write(page.height, 0, line, "label")
        page.skip()
    for label, track in zip(labels, layout.tracks, strict=True):
        top = page.height
        for index, line in enumerate(label):
            page.write(top + index, 0, line, "label")
        _draw_track(page, top if beside else page.height, left, columns, track, pen, ascii_only)
    if layout.ticks:
        row = page.height
        for x, text in layout.ticks:
            page.write(row, left + x, text, "quiet")
        last, text = layout.ticks[-1]
        if beside:
            page.write(row, 0, layout.unit, "quiet")
        elif left + last + cells(text) + 1 + len(layout.unit) <= width:
            page.write(row, left + last + cells(text) + 1, layout.unit, "quiet")
    entries = _legend(layout, alphabet, pen, ascii_only)
    if entries:
        page.skip()
        _draw_legend(page, entries, width)
    text = page.text(color)
    return _to_ascii(text) if ascii_only else text


def _labels(timelines: Sequence[Timeline], width: int) -> tuple[list[list[str]], int]:
    """The labels' lines and the first column of the rows: beside the labels, or under them where those are too long."""
    names = [clean(timeline.label) for timeline in timelines]
    longest = max((cells(word) for name in names for word in name.split(" ")), default=0)
    beside = longest <= max(14, width // 3)
    room = max(width // 4, longest) if beside else width
    labels = [wrap(name, room) for name in names]
    if not beside:
        return labels, _INDENT
    units = [cells(timeline.unit) for timeline in timelines]
    return labels, max([cells(line) for label in labels for line in label] + units, default=0) + 2


_METRICS = Metrics(
    sign=1,
    count=cells,
    folded=lambda text: cells(text) + 2,
    opening=1,
    closing=1,
    clear=0,
    tick=6,
    label=lambda text: cells(text) + 2,
)


def _draw_track(page: _Page, row: int, left: int, columns: int, track: Track, pen: _Pen, ascii_only: bool) -> None:
    if track.line is not None:
        begin, end = track.line
        page.write(row, left + begin, pen.line * (end - begin + 1), "quiet")
        if track.timeline.is_open:
            page.write(row, left + end, pen.arrow, "quiet")
    for begin, end in track.runs:
        page.write(row, left + begin, pen.run * (end - begin + 1), "quiet")
    hung = hang(track.notes, columns, cells)
    numbers: dict[int, str] = {}
    if hung is None:  # too close together to hang: numbered instead
        marked = sorted({note.x for note in track.notes})
        numbers = {x: _number(index) for index, x in enumerate(marked)}
    for cell in track.cells:
        if len(cell.tokens) > 1:
            page.write(row, left + cell.x, "(", "quiet")
            page.write(row, left + cell.end - 1, ")", "quiet")
        for token, x in zip(cell.tokens, cell.offsets, strict=True):
            if token.sign is None:
                page.write(row, left + x, f"{pen.dots}{pen.times}{token.count}{pen.dots}", "quiet")
                continue
            letter = _letter(token.sign, ascii_only)
            if token.sign.shape == "dot":
                letter = numbers.get(x, letter)
            page.write(row, left + x, letter, token.sign.tone)
            if token.count > 1:
                page.write(row, left + x + 1, f"{pen.times}{token.count}", "quiet")
    if hung is None:
        _list_notes(page, row + 1, left, columns, track.notes, numbers, ascii_only)
        return
    for note in hung:
        bend = row + 1 + note.line
        for line in range(row + 1, bend):
            page.write(line, left + note.note.x, pen.stem, "quiet")
        if note.bend != "none":
            page.write(bend, left + note.note.x, pen.elbow if note.bend == "right" else pen.back, "quiet")
        page.write(bend, left + note.x, note.note.text, _note_tone(note.note))


def _list_notes(
    page: _Page, row: int, left: int, columns: int, notes: Sequence[Note], numbers: dict[int, str], ascii_only: bool
) -> None:
    for note in sorted(notes, key=lambda note: note.x):
        text = note.text
        if note.sign is not None:
            text = f"{numbers[note.x]} {text}"
        for index, line in enumerate(wrap(text, columns - 2)):
            page.write(row, left + (2 if index else 0), line, _note_tone(note))
            row += 1


def _number(index: int) -> str:
    return "123456789abcdefghijklmnopqrstuvwxyz"[index] if index < 35 else "*"


def _note_tone(note: Note) -> str:
    return "plain" if note.quote or note.sign is not None else "label"


def _letter(sign: Sign, ascii_only: bool) -> str:
    return sign.ascii if ascii_only else sign.letter


def _legend(layout: Layout, alphabet: Alphabet, pen: _Pen, ascii_only: bool) -> list[tuple[str, str, Tone]]:
    entries = [(_letter(sign, ascii_only), name, sign.tone) for sign, name in alphabet.legend(layout.signs)]
    counted = [token for track in layout.tracks for cell in track.cells for token in cell.tokens if token.count > 1]
    if layout.groups:
        goes_on = pen.run if layout.coarse and layout.runs else ""
        entries.append((f"( ){goes_on}", "close together" if layout.coarse else "at one moment", "quiet"))
    if any(token.sign is None for token in counted):
        entries.append((f"{pen.dots}{pen.times}9{pen.dots}", "9 more", "quiet"))
    if any(token.sign is not None for token in counted):
        entries.append((f"{pen.times}9{pen.run if layout.runs else ''}", "9 in a row", "quiet"))
    if any(track.timeline.is_open for track in layout.tracks):
        entries.append((pen.arrow, "still open", "quiet"))
    return entries


def _draw_legend(page: _Page, entries: Sequence[tuple[str, str, Tone]], width: int) -> None:
    row, x = page.height, 0
    for letter, name, tone in entries:
        name = shorten(name, width - cells(letter) - 1)
        need = cells(letter) + 1 + cells(name)
        if x and x + need > width:
            row, x = row + 1, 0
        page.write(row, x, letter, tone)
        page.write(row, x + cells(letter) + 1, name, "quiet")
        x += need + 3


class _Page:
    """Characters with their styles, by line and column. What is written later lies on top."""

    def __init__(self) -> None:
        self._lines: list[dict[int, tuple[str, str]]] = []

    @property
    def height(self) -> int:
        return len(self._lines)

    def skip(self) -> None:
        self._lines.append({})

    def at(self, row: int, x: int) -> str:
        return self._lines[row].get(x, (" ", ""))[0] if row < len(self._lines) else " "

    def write(self, row: int, x: int, text: str, style: str) -> None:
        while len(self._lines) <= row:
            self.skip()
        line = self._lines[row]
        for char in text:
            wide = cells(char)
            if wide == 0 and x - 1 in line:  # a combining mark belongs to the character before it
                line[x - 1] = (line[x - 1][0] + char, style)
                continue
            line[x] = (char, style)
            if wide == 2:
                line[x + 1] = ("", style)
            x += max(wide, 1)

    def text(self, color: bool) -> str:
        return "\n".join(_line(line, color) for line in self._lines)


def _line(line: dict[int, tuple[str, str]], color: bool) -> str:
    parts: list[str] = []
    current = ""
    for x in range(max(line, default=-1) + 1):
        char, style = line.get(x, (" ", ""))
        sgr = _SGR.get(style, "") if color else ""
        if sgr != current:
            parts.append("\x1b[0m" if current else "")
            parts.append(f"\x1b[{sgr}m" if sgr else "")
            current = sgr
        parts.append(char)
    text = "".join(parts).rstrip()
    return f"{text}\x1b[0m" if current else text


def _to_ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()
