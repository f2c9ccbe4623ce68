"""A diagram as an SVG document: for a notebook, and for a page that shows it as a picture.

Every sign has a shape of its own or a letter, so colour is never needed. Colours are also given as attributes, in tones
that show on white and on near black, because some pages throw style sheets away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from xml.sax.saxutils import escape, quoteattr

from rxauth.marbles._layout import Cell, Layout, Metrics, Token, Track, arrange
from rxauth.marbles._notes import Note, hang
from rxauth.marbles._record import Timeline
from rxauth.marbles._signs import Alphabet, Sign, cells, clean, shorten, wrap

__all__ = ["draw_svg"]

_CELL = 5  # px: a marble is four of them, so that time is told apart finer than marbles are wide
_SIGN = 4
_HALF = _CELL * _SIGN / 2
_EM = 12 * 0.602  # px that a character of the monospaced font needs at its size of 12 px
_SMALL = 11 * 0.602
_ROW = 34
_LINE = 16
_MARGIN = 12
_NARROWEST = 240
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"

_TONES = {
    "start": "#1f6feb",
    "text": "#8250df",
    "thinking": "#9a6700",
    "tool": "#0e7c86",
    "other": "#57606a",
    "done": "#1a7f37",
    "error": "#cf222e",
    "quiet": "#768390",
}
# Text is drawn with an edge in the background's colour: legible even where the page and the system disagree on dark.
_STYLE = (
    f".rxm text{{font-family:{_FONT};font-size:12px}}"
    ".rxm text.rxm-small{font-size:11px}"
    ".rxm .rxm-ink{fill:#424a53;paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round}"
    ".rxm .rxm-strong{font-weight:600;fill:#1f2328}"
    "@media (prefers-color-scheme:dark){"
    ".rxm .rxm-ink{fill:#adbac7;stroke:#0d1117}"
    ".rxm .rxm-strong{fill:#f0f6fc}"
    "}"
)


def draw_svg(timelines: Sequence[Timeline], *, title: str, width: int) -> str:
    """All rows, the axis and the legend, `width` pixels wide."""
    width = max(width, _NARROWEST)
    names = [clean(timeline.label) for timeline in timelines]
    labels, left = _labels(names, width)
    beside = left > _MARGIN
    columns = int((width - left - _MARGIN) / _CELL)
    alphabet = Alphabet(timelines)
    layout = arrange(timelines, alphabet, columns, _METRICS)
    page = _Page()
    y = float(_MARGIN)
    for line in wrap(clean(title), int((width - 2 * _MARGIN) / (14 * 0.602))) if title else []:
        y += 18
        page.text(_MARGIN, y - 4, line, strong=True, size=14)
    y += 6 if title else 0
    top = y
    body = _Page()
    for label, track in zip(labels, layout.tracks, strict=True):
        if not beside:
            for line in label:
                body.text(_MARGIN, y + 14, line, strong=True)
                y += _LINE
        else:
            first = y + _ROW / 2 + 4
            for index, line in enumerate(label):
                body.text(_MARGIN, first + index * _LINE, line, strong=True)
        notes = _draw_track(body, y, left, columns, track)
        y += max(_ROW + notes * _LINE, (len(label) - 1) * _LINE + _ROW if beside else 0)
    if layout.ticks:
        y += 4  # clear of the notes of the last row
        _draw_axis(page, top, y, left, columns, layout, beside)
        y += 26
    page.parts += body.parts
    y = _draw_legend(page, y + 6, width, layout, alphabet)
    height = math.ceil(y + _MARGIN)
    name = clean(title) or "Marble diagram"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="rxm" role="img" aria-label={quoteattr(name)} '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" style="max-width:100%;height:auto" '
        f'font-family="{_FONT}" font-size="12">'
        f"<title>{escape(name)}</title><desc>{escape(_describe(layout, names))}</desc><style>{_STYLE}</style>\n"
        + "\n".join(page.parts)
        + "\n</svg>\n"
    )


def _columns_for(em: float, more: float = 0.0) -> int:
    return math.ceil(em / _CELL + more)


def _note_width(text: str) -> int:
    return _columns_for(cells(text) * _SMALL)


_METRICS = Metrics(
    sign=_SIGN,
    count=lambda text: _columns_for(cells(text) * _SMALL, 0.5),
    folded=lambda text: _columns_for((cells(text) + 2) * _SMALL, 1),
    opening=0,
    closing=1,
    clear=1,
    tick=14,
    label=lambda text: _columns_for(cells(text) * _SMALL, 3),
)


def _labels(names: Sequence[str], width: int) -> tuple[list[list[str]], int]:
    """The labels' lines and the first pixel of the rows: beside the labels, or under them where those are too long."""
    longest = max((cells(word) for name in names for word in name.split(" ")), default=0)
    beside = longest * _EM <= max(90, width * 0.3)
    room = max(int(width / 4 / _EM), longest) if beside else int((width - 2 * _MARGIN) / _EM)
    labels = [wrap(name, room) for name in names]
    if not beside:
        return labels, _MARGIN
    widest = max((cells(line) for label in labels for line in label), default=0)
    return labels, math.ceil(_MARGIN + max(widest, 5) * _EM + 14)


def _draw_track(page: _Page, y: float, left: float, columns: int, track: Track) -> int:
    """One row; how many lines of notes hang under it."""
    middle = y + _ROW / 2
    if track.line is not None:
        begin, end = (left + x * _CELL + _HALF for x in track.line)
        if track.timeline.is_open:
            page.stroke(f"M{_n(begin)} {_n(middle)}H{_n(end)}m-7 -5l7 5l-7 5", "quiet", 2)
        else:
            page.stroke(f"M{_n(begin)} {_n(middle)}H{_n(end)}", "quiet", 2)
    for begin, end in track.runs:
        following = min((cell.x * _CELL - 4.0 for cell in track.cells if cell.x >= begin), default=math.inf)
        x, until = left + begin * _CELL, left + min(end * _CELL + _HALF, following)
        if until - x > 3:
            _draw_run(page, x, until, middle)
    hung = hang(track.notes, columns - 2, _note_width)
    marked = sorted({note.x for note in track.notes})
    numbers = {} if hung is not None else {x: str(number) for number, x in enumerate(marked, 1)}
    for cell in track.cells:
        _draw_cell(page, left, middle, cell, numbers)
    if hung is None:
        return _list_notes(page, y + _ROW, left, columns, track.notes, numbers)
    for note in hung:
        stem = left + note.note.x * _CELL + _HALF
        base = y + _ROW + note.line * _LINE + 8
        bend = {"right": f"V{_n(base)}h7", "left": f"V{_n(base)}h-7", "none": f"V{_n(base - 9)}"}[note.bend]
        page.stroke(f"M{_n(stem)} {_n(middle + 12)}{bend}", "quiet", 1)
        page.text(left + note.x * _CELL + _HALF, base + 4, note.note.text, small=True, strong=_is_remark(note.note))
    return max((note.line + 1 for note in hung), default=0)


def _draw_run(page: _Page, x: float, until: float, y: float) -> None:
    page.stroke(f"M{_n(x)} {_n(y - 3)}H{_n(until)}M{_n(x)} {_n(y + 3)}H{_n(until)}", "text", 1.5)


def _draw_cell(page: _Page, left: float, middle: float, cell: Cell, numbers: dict[int, str]) -> None:
    if len(cell.tokens) > 1:
        x, width = left + cell.x * _CELL - 4, (cell.end - cell.x) * _CELL + 3
        page.add(
            f'<rect x="{_n(x)}" y="{_n(middle - 14)}" width="{_n(width)}" height="28" rx="14" fill="none" '
            f'stroke="{_TONES["quiet"]}"/>'
        )
    for token, offset in zip(cell.tokens, cell.offsets, strict=True):
        x = left + offset * _CELL
        if token.sign is None:
            page.text(x + 3, middle - 4, f"…×{token.count}…", small=True)
            continue
        page.add(f"<g><title>{escape(token.sign.name or token.sign.letter)}</title>")
        _draw_sign(page, x + _HALF, middle, token.sign, numbers.get(offset, ""))
        if token.count > 1:
            page.text(x + 2 * _HALF + 1, middle - 3, f"×{token.count}", small=True)
        page.add("</g>")


def _draw_sign(page: _Page, x: float, y: float, sign: Sign, number: str = "") -> None:
    fill = f'fill="{_TONES[sign.tone]}"'
    letter = sign.letter
    match sign.shape:
        case "ring":  # the opening of a message: a flag that points to what follows
            page.add(f'<path d="M{_n(x - 9)} {_n(y - 9)}h11l8 9l-8 9h-11z" {fill}/>')
            x -= 1
        case "disc":
            page.add(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="9" {fill}/>')
        case "square":
            page.add(f'<rect x="{_n(x - 9)}" y="{_n(y - 9)}" width="18" height="18" rx="3" {fill}/>')
        case "diamond":
            page.add(f'<path d="M{_n(x)} {_n(y - 12)}l11 12l-11 12l-11 -12z" {fill}/>')
        case "bracket":
            page.add(f'<rect x="{_n(x - 5)}" y="{_n(y - 9)}" width="10" height="18" rx="5" {fill}/>')
        case "dot":
            page.add(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{9 if number else 6}" {fill}/>')
            letter = number
        case "cross":
            page.stroke(f"M{_n(x - 7)} {_n(y - 8)}l14 16m0 -16l-14 16", sign.tone, 3.5)
            letter = ""
        case "bar":
            page.stroke(f"M{_n(x)} {_n(y - 11)}v22", sign.tone, 3)
            letter = ""
        case "cut":
            page.stroke(f"M{_n(x - 4)} {_n(y + 9)}l4 -18m4 18l4 -18", sign.tone, 2)
            letter = ""
    if letter:
        place = f'x="{_n(x)}" y="{_n(y + 4)}" text-anchor="middle"'
        page.add(f'<text {place} fill="#fff" font-weight="600">{escape(letter)}</text>')


def _list_notes(
    page: _Page, y: float, left: float, columns: int, notes: Sequence[Note], numbers: dict[int, str]
) -> int:
    count = 0
    for note in sorted(notes, key=lambda note: note.x):
        text = f"{numbers[note.x]} {note.text}" if note.sign is not None else note.text
        for line in wrap(text, max(int(columns * _CELL / _SMALL), 8)):
            page.text(left, y + count * _LINE + 12, line, small=True, strong=_is_remark(note))
            count += 1
    return count


def _is_remark(note: Note) -> bool:
    return not note.quote and note.sign is None


def _draw_axis(page: _Page, top: float, y: float, left: float, columns: int, layout: Layout, beside: bool) -> None:
    lines = "".join(f"M{_n(left + x * _CELL + _HALF)} {_n(top)}V{_n(y + 5)}" for x, _ in layout.ticks)
    page.add(f'<path d="{lines}" fill="none" stroke="{_TONES["quiet"]}" stroke-opacity=".3"/>')
    page.stroke(f"M{_n(left)} {_n(y)}H{_n(left + columns * _CELL)}", "quiet", 1)
    free = left + columns * _CELL - (0 if beside else (len(layout.unit) + 1) * _SMALL)
    for x, text in layout.ticks:
        at = left + x * _CELL + _HALF
        if at + cells(text) * _SMALL / 2 <= free:
            page.text(at, y + 18, text, small=True, middle=True)
    if beside:
        page.text(_MARGIN, y + 18, layout.unit, small=True)
    else:
        page.text(left + columns * _CELL, y + 18, layout.unit, small=True, end=True)


def _draw_legend(page: _Page, y: float, width: int, layout: Layout, alphabet: Alphabet) -> float:
    x = float(_MARGIN)
    used = False

    def entry(name: str, wide: float) -> tuple[float, float]:
        nonlocal x, y, used
        need = wide + cells(name) * _SMALL
        if used and x + need > width - _MARGIN:
            x, y = float(_MARGIN), y + 28
        at = x
        page.text(at + wide, y + 18, name, small=True)
        x, used = at + need + 18, True
        return at, y + 14

    longest = int((width - 2 * _MARGIN - 26) / _SMALL)
    for sign, name in alphabet.legend(layout.signs):
        at, middle = entry(shorten(name, longest), 26)
        _draw_sign(page, at + 11, middle, sign)
    tokens = [token for track in layout.tracks for cell in track.cells for token in cell.tokens]
    if layout.groups:
        goes_on = layout.coarse and layout.runs
        at, middle = entry("close together" if layout.coarse else "at one moment", 48 if goes_on else 32)
        page.add(
            f'<rect x="{_n(at)}" y="{_n(middle - 9)}" width="27" height="18" rx="9" fill="none" '
            f'stroke="{_TONES["quiet"]}"/>'
        )
        if goes_on:
            _draw_run(page, at + 28, at + 43, middle)
    if any(token.sign is None for token in tokens):
        entry("…×9… 9 more", 0)
    if any(token.sign is not None and token.count > 1 for token in tokens):
        at, middle = entry("9 in a row", 36)
        page.text(at, middle + 4, "×9", small=True)
        _draw_run(page, at + 15, at + 30, middle)
    if any(track.timeline.is_open for track in layout.tracks):
        at, middle = entry("still open", 26)
        page.stroke(f"M{_n(at)} {_n(middle)}h18m-7 -5l7 5l-7 5", "quiet", 2)
    return y + 24 if used else y


def _describe(layout: Layout, names: Sequence[str]) -> str:
    """The picture in words, for who cannot see it: what each row shows, in order."""
    rows = []
    for name, track in zip(names, layout.tracks, strict=True):
        tokens = [token for cell in track.cells for token in cell.tokens]
        told = [f"{word} ×{count}" if count > 1 else word for word, count in _counted(tokens)]
        rows.append(f"{name}: {', '.join(told) or 'nothing'}{', still open' if track.timeline.is_open else ''}.")
    return " ".join(rows)


def _counted(tokens: Sequence[Token]) -> list[tuple[str, int]]:
    words = [(token.sign.name or token.sign.letter if token.sign else "more", token.count) for token in tokens]
    return [(word, sum(count for _, count in same)) for word, same in groupby(words, key=lambda each: each[0])]


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


class _Page:
    """The elements, in the order they are painted."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def add(self, element: str) -> None:
        self.parts.append(element)

    def stroke(self, path: str, tone: str, width: float) -> None:
        self.add(f'<path d="{path}" fill="none" stroke="{_TONES[tone]}" stroke-width="{_n(width)}"/>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        small: bool = False,
        strong: bool = False,
        middle: bool = False,
        end: bool = False,
        size: int = 12,
    ) -> None:
        names = "rxm-ink" + (" rxm-small" if small else "") + (" rxm-strong" if strong else "")
        anchor = ' text-anchor="middle"' if middle else ' text-anchor="end"' if end else ""
        sized = f' font-size="{11 if small else size}"' + (f' style="font-size:{size}px"' if size != 12 else "")
        weight = ' font-weight="600"' if strong else ""
        self.add(
            f'<text x="{_n(x)}" y="{_n(y)}" class="{names}" fill="{_TONES["quiet"]}"{anchor}{sized}{weight}>'
            f"{escape(text)}</text>"
        )
