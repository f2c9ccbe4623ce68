"""What hangs under a row: failures, requests, quotes and remarks, each from its own column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from rxauth.marbles._signs import Sign

__all__ = ["Hung", "Measure", "Note", "hang"]

Measure: TypeAlias = Callable[[str], int]

_NOTE_LINES = 6


@dataclass(frozen=True, slots=True)
class Note:
    """A remark under a row, belonging to column `x`."""

    x: int
    text: str
    sign: Sign | None = None
    quote: bool = False


@dataclass(frozen=True, slots=True)
class Hung:
    """A note in its place: on `line` under the row, its text from column `x`, on this side of its mark."""

    note: Note
    line: int
    x: int
    bend: Literal["right", "left", "none"]


def hang(notes: Sequence[Note], columns: int, measure: Measure, indent: int = 2) -> list[Hung] | None:
    """Hang the notes under a row, each from its own column, so that nothing crosses; `None` if that cannot be done."""
    # What bends right is best hung from the right, what bends left from the left.
    ways = (
        _hang(sorted(notes, key=lambda note: note.x, reverse=back), columns, measure, indent) for back in (True, False)
    )
    return next((hung for hung in ways if hung is not None), None)


def _hang(notes: Sequence[Note], columns: int, measure: Measure, indent: int) -> list[Hung] | None:
    taken: set[tuple[int, int]] = set()
    stems: set[tuple[int, int]] = set()
    hung = []
    for note in notes:
        note = _shortened(note, columns - indent, measure)
        width = measure(note.text)
        bend: Literal["right", "left", "none"]
        if note.x + indent + width <= columns:
            x, bend = note.x + indent, "right"
        elif note.x - indent + 1 >= width:
            x, bend = note.x - indent + 1 - width, "left"
        else:
            x, bend = columns - width, "none"
        if x < 0:
            return None
        for line in range(_NOTE_LINES):
            text = {(line, at) for at in range(x - 1, x + width + 2)}
            stem = {(above, note.x) for above in range(line + (bend != "none"))}
            if not (text & (taken | stems) or stem & taken):
                taken |= text
                stems |= stem
                hung.append(Hung(note, line, x, bend))
                break
        else:
            return None
    return hung


def _shortened(note: Note, columns: int, measure: Measure) -> Note:
    """A quote needs not be whole: as much of it as there is room for, a few words at least."""
    if not note.quote:
        return note
    right = columns - note.x
    room = right if right >= min(measure(note.text), columns // 2) else max(right, note.x - 1)
    text = note.text
    while measure(text) > room and len(text) > 3:
        text = text[: min(-3, room * len(text) // measure(text) - len(text))].rstrip() + '…"'
    return replace(note, text=text)
