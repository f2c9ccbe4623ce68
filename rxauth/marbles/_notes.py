"""Hang notes under a row: failures, requests, quotes and remarks, each from its own column."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rxauth.errors import field
from rxauth.marbles._columns import Cell, Sizes
from rxauth.marbles._record import Timeline
from rxauth.marbles._signs import Alphabet, cells, clean, event_type, failure_name, name_of

__all__ = ["Hung", "Note", "hang", "notes_of", "shorten", "wrap"]

_LINES = 6
_GLUE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Note:
    """A text that belongs to the sign in column `x`."""

    x: int
    text: str
    kind: Literal["failure", "mark", "quote", "remark"] = "remark"


@dataclass(frozen=True, slots=True)
class Hung:
    """A note in its place: on `line` under the row, its text from column `x`, on this side of its sign."""

    note: Note
    line: int
    x: int
    bend: Literal["right", "left", "none"]


def notes_of(timeline: Timeline, placed: Sequence[Cell], alphabet: Alphabet) -> list[Note]:
    """Return the notes of a row. A note whose sign was folded away is left out, a remark is not."""
    tokens = [(token, x) for cell in placed for token, x in zip(cell.tokens, cell.offsets, strict=True)]
    notes = []
    for time, sign, note in _texts(timeline, alphabet):
        found = [x for token, x in tokens if token.time <= time <= token.until and sign in (None, token.sign)]
        if not found and note.kind == "remark":
            found = [x for token, x in tokens if token.time <= time][-1:] or [0]
        notes += [replace(note, x=x) for x in found[:1]]
    return list(dict.fromkeys(notes))


def _texts(timeline: Timeline, alphabet: Alphabet) -> Iterator[tuple[float, object, Note]]:
    """Every note with the time and the sign that it hangs from."""
    quote: list[str] = []
    begun: tuple[float, object] = (0.0, None)
    for mark in timeline.marks:
        word = event_type(mark.value) if mark.kind == "next" else None
        if mark.kind == "note":
            yield mark.time, None, Note(0, clean(str(mark.value)))
        elif mark.kind == "mark":
            yield mark.time, alphabet.sign(mark), Note(0, name_of(mark.value, quoted=False), "mark")
        elif (mark.kind == "error" or word == "error") and (name := failure_name(mark.value)):
            yield mark.time, alphabet.sign(mark), Note(0, name, "failure")
        elif word == "text_delta" and isinstance(delta := field(mark.value, "delta"), str):
            begun = begun if quote else (mark.time, alphabet.sign(mark))
            quote.append(delta)
        elif word == "start" and quote:  # another message of the same row
            yield *begun, Note(0, clean("".join(quote)).strip(), "quote")
            quote = []
    if quote:
        yield *begun, Note(0, clean("".join(quote)).strip(), "quote")


def hang(notes: Sequence[Note], columns: int, sizes: Sizes) -> list[Hung] | None:
    """Hang the notes under a row so that nothing crosses; `None` if that cannot be done."""
    # Notes that bend right are best hung from the right, those that bend left from the left.
    ways = (_hang(sorted(notes, key=lambda note: note.x, reverse=back), columns, sizes) for back in (True, False))
    return next((hung for hung in ways if hung is not None), None)


def _hang(notes: Sequence[Note], columns: int, sizes: Sizes) -> list[Hung] | None:
    texts: set[tuple[int, int]] = set()
    stems: set[tuple[int, int]] = set()
    hung = []
    for note in notes:
        if note.kind == "quote":
            room = columns - note.x - 2
            room = room if room >= sizes.text("x" * 16) else max(room, note.x - 1)
            note = replace(note, text=f'"{shorten(note.text, max(int(room / sizes.em) - 2, 3))}"')
        width = sizes.text(note.text)
        bend: Literal["right", "left", "none"] = "none"
        x = columns - width
        if note.x + 2 + width <= columns:
            x, bend = note.x + 2, "right"
        elif width <= note.x - 1:
            x, bend = note.x - 1 - width, "left"
        for line in range(_LINES):
            text = {(line, at) for at in range(x - 1, x + width + 2)}
            stem = {(above, note.x) for above in range(line + (bend != "none"))}
            if x >= 0 and not (text & (texts | stems) or stem & texts):
                hung.append(Hung(note, line, x, bend))
                texts |= text
                stems |= stem
                break
        else:
            return None
    return hung


def shorten(text: str, columns: int) -> str:
    """Cut a text to so many columns, with a sign for the cut."""
    if cells(text) <= columns:
        return text
    while cells(text) > columns - 1:
        text = text[:-1]
    return text + "…"


def wrap(text: str, columns: int) -> list[str]:
    """Break a text into lines of so many columns; a last word of a letter or two stays with the one before it.

    >>> wrap("buffer_until_live, attempt 1", 26)
    ['buffer_until_live,', 'attempt 1']
    """
    head, space, last = text.rpartition(" ")
    glued = f"{head}{_GLUE}{last}" if space and len(last) < 3 else text
    lines = textwrap.wrap(glued, max(columns, 1), break_on_hyphens=False)
    return [shorten(line.replace(_GLUE, " "), columns) for line in lines] or [""]
