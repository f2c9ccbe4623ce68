"""Rows of timelines under one another, drawn in text or SVG."""

from __future__ import annotations

from rxauth.marbles._page import Page
from rxauth.marbles._record import Timeline
from rxauth.marbles._svg import CELL, MARGIN, WIDE, draw_svg


class Diagram:
    """Draw timelines under one another on one time axis, with a legend. Immutable; equal rows give equal bytes.

    Args:
        rows: the timelines, from top to bottom, timed by one clock and in one unit.
        title: a line above them.

    >>> row = Timeline.of_marks("server", [(0, "POST /v1/messages 401"), (2, "POST /oauth/token 200")], unit="ticks")
    >>> print(Diagram(row))
    server  ●           ●
            │           ╰ POST /oauth/token 200
            ╰ POST /v1/messages 401
    ticks   0     1     2
    """

    def __init__(self, *rows: Timeline, title: str = "") -> None:
        if len({row.unit for row in rows}) > 1:
            raise ValueError("the rows of a diagram share one clock: all ticks, or all seconds")
        self._rows = rows
        self._title = title

    @property
    def rows(self) -> tuple[Timeline, ...]:
        """The timelines, from top to bottom."""
        return self._rows

    @property
    def title(self) -> str:
        """The line above the rows."""
        return self._title

    def text(self, width: int = 80, *, color: bool = False, ascii_only: bool = False) -> str:
        """Draw in characters.

        Args:
            width: columns; at least 24.
            color: ANSI colours, for a terminal. Everything is readable without them.
            ascii_only: nothing outside ASCII.
        """
        return Page(self.rows, self.title, max(width, 24)).text(color=color, ascii_only=ascii_only)

    def svg(self, width: int = 640) -> str:
        """Draw an SVG document, for light and dark backgrounds.

        Args:
            width: pixels; at least 240. On a page that is narrower it shrinks.
        """
        width = max(width, 240)
        return draw_svg(Page(self.rows, self.title, (width - 2 * MARGIN) // CELL, WIDE), self.title, width)

    def _repr_svg_(self) -> str:
        return self.svg()

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__  # at a prompt and in a notebook a reader wants the picture
