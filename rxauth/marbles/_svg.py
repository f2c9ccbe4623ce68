"""Draw a layout as an SVG document: for a notebook, and for a page that shows it as a picture.

Every sign has a shape of its own or a letter, so colour is never needed. Colours are also given as attributes, in tones
that show on white and on near black, because some pages remove style sheets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import groupby
from xml.sax.saxutils import escape, quoteattr

from rxauth.marbles._columns import Sizes
from rxauth.marbles._layout import Layout, Row
from rxauth.marbles._signs import Sign, clean

__all__ = ["CELL", "MARGIN", "SVG", "draw_sign", "draw_svg"]

CELL = 5  # px: a sign is four of them wide, so that times differ by less than a sign's width
SVG = Sizes(sign=4, opening=0, em=1.33, bold=1.45, tick=14)

_HALF = CELL * SVG.sign / 2
_ROW = 34
_LINE = 16
MARGIN = 12
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
_QUIET = _TONES["quiet"]
# Text has an edge in the background's colour: legible even where the page and the system disagree on dark.
_STYLE = (
    f".rxm text{{font-family:{_FONT};font-size:12px}}"
    ".rxm .rxm-ink{fill:#424a53;paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round}"
    ".rxm .rxm-strong{font-weight:600;fill:#1f2328}"
    "@media (prefers-color-scheme:dark){"
    ".rxm .rxm-ink{fill:#adbac7;stroke:#0d1117}"
    ".rxm .rxm-strong{fill:#f0f6fc}"
    "}"
)
# Around the middle of the sign.
_SHAPES = {
    "flag": '<path d="M-9 -9h11l8 9l-8 9h-11z" fill="{0}"/>',
    "disc": '<circle r="9" fill="{0}"/>',
    "square": '<rect x="-9" y="-9" width="18" height="18" rx="3" fill="{0}"/>',
    "diamond": '<path d="M0 -12l11 12l-11 12l-11 -12z" fill="{0}"/>',
    "bracket": '<rect x="-5" y="-9" width="10" height="18" rx="5" fill="{0}"/>',
    "dot": '<circle r="{1}" fill="{0}"/>',
    "cross": '<path d="M-7 -8l14 16m0 -16l-14 16" fill="none" stroke="{0}" stroke-width="3.5"/>',
    "bar": '<path d="M0 -11v22" fill="none" stroke="{0}" stroke-width="3"/>',
    "cut": '<path d="M-4 9l4 -18m4 18l4 -18" fill="none" stroke="{0}" stroke-width="2"/>',
}


def draw_svg(layout: Layout, title: str, width: int, names: Mapping[int, str] | None = None) -> str:
    """Draw all rows, the axis and the legend. `names` by the identity of marks make them, and rows, handles."""
    left, right = MARGIN + layout.left * CELL, width - MARGIN
    y = float(MARGIN)
    head: list[str] = []
    for title_line in layout.title:
        y += 18
        head.append(_text(MARGIN, y - 4, title_line, size=14, strong=True))
    y += 6 if layout.title else 0
    top = y
    body: list[str] = []
    for row in layout.rows:
        for index, line in enumerate(row.label):
            body.append(_text(MARGIN, y + _ROW / 2 + 4 + _LINE * index, line, size=12, strong=True))
        if names is not None:
            area = f'x="{left}" y="{_n(y)}" width="{right - left}" height="{_ROW}"'
            body.append(f'<rect class="rxm-row" data-row="{escape(row.timeline.label)}" {area} fill="transparent"/>')
        body += _draw_row(y, left, row, names or {})
        y += _ROW + _LINE * max([len(row.label) - 1, len(row.listed), *(hung.line + 1 for hung in row.notes)])
    if layout.ticks:
        y += 4  # clear of the notes of the last row
        middles = [(left + x * CELL + _HALF, label) for x, label in layout.ticks]
        grid = "".join(f"M{_n(x)} {_n(top)}V{_n(y + 5)}" for x, _ in middles)
        head.append(f'<path d="{grid}" fill="none" stroke="{_QUIET}" stroke-opacity=".3"/>')
        head.append(_stroke(f"M{_n(left)} {_n(y)}H{_n(right)}", 1))
        head += [_text(x, y + 18, label, anchor="middle") for x, label in middles]
        head.append(_text(MARGIN, y + 18, layout.unit))
        y += 26
    y += 6
    for legend_line, x, symbol, name in layout.legend:
        body += _draw_entry(MARGIN + x * CELL, y + 14 + 28 * legend_line, symbol, name)
    y += 28 * (layout.legend[-1][0] + 1) if layout.legend else 0
    height = math.ceil(y + MARGIN)
    called = clean(title) or "Marble diagram"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="rxm" role="img" aria-label={quoteattr(called)} '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" style="max-width:100%;height:auto" '
        f'font-family="{_FONT}" font-size="12">'
        f"<title>{escape(called)}</title><desc>{escape(_describe(layout))}</desc><style>{_STYLE}</style>\n"
        + "\n".join(head + body)
        + "\n</svg>\n"
    )


def draw_sign(x: float, y: float, sign: Sign, number: str = "", attributes: str = "") -> str:
    """Draw one sign around a point; a mark beside the stream may have a number on it."""
    letter = number if sign.shape == "dot" else "" if sign.shape in ("cross", "bar", "cut") else sign.letter
    shape = _SHAPES[sign.shape].format(_TONES[sign.tone], 9 if number else 6)
    if letter:
        at = f'x="{-1 if sign.shape == "flag" else 0}" y="4"'
        shape += f'<text {at} text-anchor="middle" fill="#fff" font-weight="600">{escape(letter)}</text>'
    if attributes:  # a bar is too thin to take hold of
        shape = f'<circle r="11" fill="transparent"/>{shape}'
    place = f'transform="translate({_n(x)} {_n(y)})"{attributes}'
    return f"<g {place}><title>{escape(sign.name or sign.letter)}</title>{shape}</g>"


def _draw_row(y: float, left: float, row: Row, names: Mapping[int, str]) -> list[str]:
    middle = y + _ROW / 2
    parts = []
    if row.line is not None:
        first, last = (left + x * CELL + _HALF for x in row.line)
        arrow = "m-7 -5l7 5l-7 5" if row.timeline.is_open else ""
        parts.append(_stroke(f"M{_n(first)} {_n(middle)}H{_n(last)}{arrow}", 2))
    for start, until in row.runs:
        parts.append(_run(left + start * CELL, left + (until + 1) * CELL - 4, middle))
    for cell in row.cells:
        if len(cell.tokens) > 1:
            parts.append(_group(left + cell.x * CELL - 4, middle, (cell.end - cell.x) * CELL + 3))
        for token, x in zip(cell.tokens, cell.offsets, strict=True):
            at = left + x * CELL
            if token.sign is not None:
                name = names.get(id(token.mark))
                handle = f' data-event="{name}" data-tick="{_n(token.time)}"' if name else ""
                parts.append(draw_sign(at + _HALF, middle, token.sign, row.numbers.get(x, ""), handle))
            if token.times:
                parts.append(_text(at + (2 * _HALF if token.sign else 0) + 1, middle - 3, token.times))
    for index, (text, note) in enumerate(row.listed):
        parts.append(_text(left, y + _ROW + index * _LINE + 12, text, strong=note.kind in ("failure", "remark")))
    for hung in row.notes:
        stem, base = left + hung.note.x * CELL + _HALF, y + _ROW + hung.line * _LINE + 8
        bend = {"right": f"V{_n(base)}h7", "left": f"V{_n(base)}h-7", "none": f"V{_n(base - 9)}"}[hung.bend]
        parts.append(_stroke(f"M{_n(stem)} {_n(middle + 12)}{bend}", 1))
        strong = hung.note.kind in ("failure", "remark")
        parts.append(_text(left + hung.x * CELL + _HALF, base + 4, hung.note.text, strong=strong))
    return parts


def _draw_entry(x: float, y: float, symbol: Sign | str, name: str) -> list[str]:
    if isinstance(symbol, Sign):
        return [draw_sign(x + _HALF, y, symbol), _text(x + 26, y + 4, name)]
    drawn = {
        "( )": _group(x, y, 20, 18),
        "══": _run(x, x + 16, y),
        "▸": _stroke(f"M{_n(x)} {_n(y)}h18m-7 -5l7 5l-7 5", 2),
    }
    name_at = x + max(SVG.sign, SVG.text(symbol)) * CELL + 6
    return [drawn.get(symbol) or _text(x, y + 4, symbol), _text(name_at, y + 4, name)]


def _describe(layout: Layout) -> str:
    """Describe each row in words, in order, for readers who cannot see the picture."""
    rows = []
    for row in layout.rows:
        tokens = [token for cell in row.cells for token in cell.tokens]
        names = [(each.sign.name or each.sign.letter if each.sign else "more", each.count) for each in tokens]
        runs = [(name, sum(count for _, count in same)) for name, same in groupby(names, lambda each: each[0])]
        texts = [f"{name} ×{count}" if count > 1 else name for name, count in runs]
        label = clean(row.timeline.label)
        rows.append(f"{label}: {', '.join(texts) or 'nothing'}{', still open' if row.timeline.is_open else ''}.")
    return " ".join(rows)


def _group(x: float, y: float, width: float, height: float = 28) -> str:
    place = f'x="{_n(x)}" y="{_n(y - height / 2)}" width="{_n(width)}" height="{_n(height)}" rx="{_n(height / 2)}"'
    return f'<rect {place} fill="none" stroke="{_QUIET}"/>'


def _run(x: float, until: float, y: float) -> str:
    path = f"M{_n(x)} {_n(y - 3)}H{_n(until)}M{_n(x)} {_n(y + 3)}H{_n(until)}"
    return f'<path d="{path}" fill="none" stroke="{_TONES["text"]}" stroke-width="1.5"/>'


def _stroke(path: str, width: float) -> str:
    return f'<path d="{path}" fill="none" stroke="{_QUIET}" stroke-width="{_n(width)}"/>'


def _text(x: float, y: float, text: str, *, size: int = 11, strong: bool = False, anchor: str = "") -> str:
    more = ' font-weight="600"' if strong else ""
    more += f' text-anchor="{anchor}"' if anchor else ""
    name = "rxm-ink rxm-strong" if strong else "rxm-ink"
    place = f'x="{_n(x)}" y="{_n(y)}" font-size="{size}" style="font-size:{size}px"'
    return f'<text {place} class="{name}" fill="{_QUIET}"{more}>{escape(text)}</text>'


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
