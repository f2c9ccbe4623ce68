"""Draw a layout as an SVG document: for a notebook, and for a page that shows it as a picture.

Every sign has a shape of its own or a letter, so colour is never needed. Colours are also given as attributes, in tones
that show on white and on near black, because some pages remove style sheets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from xml.sax.saxutils import escape, quoteattr

from rxauth.marbles._columns import Char, Glyph
from rxauth.marbles._page import Page
from rxauth.marbles._signs import Sign, clean

CELL = 7  # px
WIDE = 3  # columns of a sign
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
    f".rxm text{{font-family:{_FONT}}}"
    ".rxm .rxm-ink{fill:#424a53;paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round}"
    ".rxm .rxm-strong{font-weight:600;fill:#1f2328}"
    "@media (prefers-color-scheme:dark){"
    ".rxm .rxm-ink{fill:#adbac7;stroke:#0d1117}"
    ".rxm .rxm-strong{fill:#f0f6fc}"
    "}"
)
# Around the middle of the sign.
_SHAPES = {
    "flag": '<path d="M-9 -9h11l8 9l-8 9h-11z" fill="{}"/>',
    "disc": '<circle r="9" fill="{}"/>',
    "square": '<rect x="-9" y="-9" width="18" height="18" rx="3" fill="{}"/>',
    "diamond": '<path d="M0 -12l11 12l-11 12l-11 -12z" fill="{}"/>',
    "bracket": '<rect x="-5" y="-9" width="10" height="18" rx="5" fill="{}"/>',
    "dot": '<circle r="6" fill="{}"/>',
    "cross": '<path d="M-7 -8l14 16m0 -16l-14 16" fill="none" stroke="{}" stroke-width="3.5"/>',
    "bar": '<path d="M0 -11v22" fill="none" stroke="{}" stroke-width="3"/>',
    "cut": '<path d="M-4 9l4 -18m4 18l4 -18" fill="none" stroke="{}" stroke-width="2"/>',
}


def draw_svg(page: Page, title: str, width: int, handles: Mapping[int, str] | None = None) -> str:
    """Draw a page. `handles` by the identity of marks make them, and the rows, ones that can be dragged."""
    left, right = MARGIN + page.left * CELL, width - MARGIN
    top = y = MARGIN
    behind: list[str] = []
    parts: list[str] = []
    for number, line in enumerate(page.lines):
        styles = {char.style for char in line.values()}
        height = 32 if number in page.rows or styles & {"sign", "tick"} else 16
        center = y + height // 2
        if number in page.rows:
            top = y if number == min(page.rows) else top
            if handles is not None:
                area = f'x="{left}" y="{y}" width="{right - left}" height="{height}" fill="transparent"'
                parts.append(f'<rect class="rxm-row" data-row={quoteattr(page.rows[number][0])} {area}/>')
            _, begin, end = page.rows[number]
            parts.append(_stroke(f"M{middle(begin)} {center}H{middle(end)}", 2))
        if "tick" in styles:
            behind.append(_stroke(f"M{left} {center - 11}H{right}", 1))
        for x, chars in _pieces(line):
            if chars[0].style == "tick":
                grid = f"M{middle(x)} {top}V{center - 7}"
                behind.append(_stroke(grid, 1, f'stroke="{_QUIET}" stroke-opacity=".3"'))
            parts.append(_draw(x, center, chars, handles or {}))
        brackets = [_px(x) for x in sorted(line) if line[x].style == "group" and line[x].text in "()"]
        for begin, end in zip(brackets[::2], brackets[1::2], strict=True):
            place = f'x="{begin + 1}" y="{center - 14}" width="{end + CELL - begin - 2}" height="28" rx="14"'
            parts.append(f'<rect {place} fill="none" stroke="{_QUIET}"/>')
        y += height
    height, called = y + MARGIN, clean(title) or "Marble diagram"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="rxm" role="img" aria-label={quoteattr(called)} '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" style="max-width:100%;height:auto" '
        f'font-family="{_FONT}" font-size="11.5">'
        f"<title>{escape(called)}</title><desc>{escape(' '.join(page.words))}</desc><style>{_STYLE}</style>\n"
        + "\n".join(part for part in behind + parts if part)
        + "\n</svg>\n"
    )


def _pieces(line: Mapping[int, Char]) -> Iterator[tuple[int, list[Char]]]:
    """Yield the characters that belong together, with their first column."""
    for _, piece in groupby(enumerate(sorted(line)), lambda each: (each[1] - each[0], line[each[1]].style)):
        columns = [x for _, x in piece]
        yield columns[0], [line[x] for x in columns]


def _draw(x: int, y: int, chars: list[Char], handles: Mapping[int, str]) -> str:
    left, at, right = _px(x), middle(x), _px(x + len(chars))
    text = "".join(char.text for char in chars)
    match chars[0].style:
        case "sign":
            return "\n".join(_sign(x + each, y, char.glyph, handles) for each, char in enumerate(chars) if char.glyph)
        case "run":
            return _stroke(f"M{left} {y - 3}H{right}M{left} {y + 3}H{right}", 1.5, f'stroke="{_TONES["text"]}"')
        case "stem":
            bend = {"╰": f"V{y}h7", "╯": f"V{y}h-7"}.get(text, f"V{y + 8}")
            return _stroke(f"M{at} {y - 12}{bend}", 1)
        case "line":
            return _stroke(f"M{right - 3} {y}m-7 -5l7 5l-7 5", 2) if text.endswith("▸") else ""
        case "group":
            return ""
        case style:
            strong = style in ("title", "label", "strong")
            more = ' font-weight="600"' if strong else ' text-anchor="middle"' if style == "tick" else ""
            base = y - 3 if style == "count" else y + 4
            name = "rxm-ink rxm-strong" if strong else "rxm-ink"
            place = f'x="{at if style == "tick" else left}" y="{base}" font-size="{13 if style == "title" else 11.5}"'
            return f'<text {place} class="{name}" fill="{_QUIET}"{more}>{escape(text)}</text>'


def _sign(x: int, y: int, glyph: Glyph, handles: Mapping[int, str]) -> str:
    sign = glyph.sign or Sign("", "")
    shape = _SHAPES[sign.shape].format(_TONES[sign.tone])
    if sign.shape not in ("dot", "cross", "bar", "cut"):
        at = f'x="{-1 if sign.shape == "flag" else 0}" y="4"'
        shape += f'<text {at} text-anchor="middle" fill="#fff" font-weight="600">{escape(sign.letter)}</text>'
    place = f'transform="translate({middle(x)} {y})"'
    if name := handles.get(id(glyph.mark)):
        place += f' data-event="{name}" data-tick="{glyph.time:g}"'
        shape = f'<circle r="11" fill="transparent"/>{shape}'  # a bar is too thin to take hold of
    return f"<g {place}><title>{escape(sign.name or sign.letter)}</title>{shape}</g>"


def _stroke(path: str, width: float, colour: str = f'stroke="{_QUIET}"') -> str:
    return f'<path d="{path}" fill="none" {colour} stroke-width="{width:g}"/>'


def middle(column: int) -> float:
    """Return where the middle of a sign in a column is, in pixels."""
    return _px(column) + CELL * WIDE / 2


def _px(column: int) -> int:
    return MARGIN + column * CELL
