"""Draw a layout in characters, for a terminal."""

from __future__ import annotations

from rxauth.marbles._columns import Sizes
from rxauth.marbles._layout import Layout, Row
from rxauth.marbles._signs import cells

__all__ = ["TEXT", "draw_text"]

TEXT = Sizes(sign=1, opening=1, em=1.0, bold=1.0, tick=6)

_COLOURS = {
    "start": "1;34",
    "text": "35",
    "thinking": "33",
    "tool": "36",
    "other": "1",
    "done": "1;32",
    "error": "1;31",
    "quiet": "2",
    "label": "1",
}
_ASCII = str.maketrans("─═▸│╰╯×…‹›●", "-=>|`'*~<>o")


def draw_text(layout: Layout, *, color: bool, ascii_only: bool) -> str:
    """Draw all rows, the axis and the legend."""
    page = _Page()
    for line in layout.title:
        page.write(page.height, 0, line, "label")
    if layout.title:
        page.skip()
    for row in layout.rows:
        top = page.height
        for index, line in enumerate(row.label):
            page.write(top + index, 0, line, "label")
        _draw_row(page, top, layout.left, row)
    if layout.ticks:
        y = page.height
        page.write(y, 0, layout.unit, "quiet")
        for x, label in layout.ticks:
            page.write(y, layout.left + x, label, "quiet")
    if layout.legend:
        page.skip()
    below = page.height
    for line_number, x, symbol, name in layout.legend:
        letter, tone = (symbol, "quiet") if isinstance(symbol, str) else (symbol.letter, symbol.tone)
        page.write(below + line_number, x, letter, tone)
        page.write(below + line_number, x + cells(letter) + 1, name, "quiet")
    drawn = page.text(color)
    return drawn.translate(_ASCII).encode("ascii", "replace").decode() if ascii_only else drawn


def _draw_row(page: _Page, y: int, left: int, row: Row) -> None:
    if row.line is not None:
        begin, end = row.line
        page.write(y, left + begin, "─" * (end - begin) + ("▸" if row.timeline.is_open else "─"), "quiet")
    for begin, end in row.runs:
        page.write(y, left + begin, "═" * (end - begin + 1), "quiet")
    for cell in row.cells:
        if len(cell.tokens) > 1:
            page.write(y, left + cell.x, f"({' ' * (cell.end - cell.x - 2)})", "quiet")
        for token, x in zip(cell.tokens, cell.offsets, strict=True):
            if token.sign is not None:
                page.write(y, left + x, row.numbers.get(x, token.sign.letter), token.sign.tone)
            page.write(y, left + x + TEXT.token(token) - cells(token.times), token.times, "quiet")
    for line, (text, note) in enumerate(row.listed, y + 1):
        page.write(line, left, text, "label" if note.kind in ("failure", "remark") else "")
    for hung in row.notes:
        bend = y + 1 + hung.line
        for line in range(y + 1, bend):
            page.write(line, left + hung.note.x, "│", "quiet")
        page.write(bend, left + hung.note.x, {"right": "╰", "left": "╯", "none": ""}[hung.bend], "quiet")
        page.write(bend, left + hung.x, hung.note.text, "label" if hung.note.kind in ("failure", "remark") else "")


class _Page:
    """Characters with their styles, by line and column. Later ones lie on top."""

    def __init__(self) -> None:
        self._lines: list[dict[int, tuple[str, str]]] = []

    @property
    def height(self) -> int:
        return len(self._lines)

    def skip(self) -> None:
        self._lines.append({})

    def write(self, y: int, x: int, text: str, style: str) -> None:
        while len(self._lines) <= y:
            self.skip()
        line = self._lines[y]
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
        lines = []
        for line in self._lines:
            drawn, current = "", ""
            for x in range(max(line, default=-1) + 1):
                char, style = line.get(x, (" ", ""))
                if color and style != current:
                    drawn += "\x1b[0m" * bool(current) + f"\x1b[{_COLOURS.get(style)}m" * bool(style)
                    current = style
                drawn += char
            lines.append(drawn.rstrip() + "\x1b[0m" * bool(current))
        return "\n".join(lines)
