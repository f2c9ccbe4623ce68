"""What stands for what: one letter, one shape and one name for each kind of notification. Never a secret.

A failure is its type and status, never its text; of what the assistant says only text deltas are shown.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from rxauth.errors import NeverLiveError
from rxauth.failures import status_of, type_of
from rxauth.marbles._record import Mark, Timeline
from rxauth.recovery import AuthRejected, RefreshRetryScheduled

__all__ = [
    "Alphabet",
    "Shape",
    "Sign",
    "Tone",
    "cells",
    "clean",
    "failure_name",
    "is_failure_event",
    "name_of",
    "said",
    "shorten",
    "wrap",
]

Shape: TypeAlias = Literal["ring", "disc", "square", "diamond", "bracket", "cross", "bar", "cut", "dot"]
Tone: TypeAlias = Literal["start", "text", "thinking", "tool", "other", "done", "error", "quiet"]

_GLUE = "\N{NO-BREAK SPACE}"
_RESERVED = {"s", "e", "d"}  # start, error and done, also in a diagram where none of them happens
_LONG = 10**15  # Python refuses to write integers of some thousand digits
_MANY = 10  # distinct plain values before they are told by their type: a legend of 500 numbers explains nothing


@dataclass(frozen=True, slots=True)
class Sign:
    """One entry of the legend."""

    letter: str
    ascii: str
    name: str
    shape: Shape
    tone: Tone


def _entry(letter: str, name: str, shape: Shape, tone: Tone, ascii: str | None = None) -> Sign:
    return Sign(letter, ascii or letter, name, shape, tone)


_EVENTS = {
    "start": _entry("s", "start", "ring", "start"),
    "error": _entry("e", "error event", "diamond", "error"),
    "done": _entry("d", "done", "square", "done"),
    "text_start": _entry("‹", "text_start", "bracket", "text", "<"),
    "text_delta": _entry("t", "text_delta", "disc", "text"),
    "text_end": _entry("›", "text_end", "bracket", "text", ">"),
    "thinking_start": _entry("‹", "thinking_start", "bracket", "thinking", "<"),
    "thinking_delta": _entry("h", "thinking_delta", "disc", "thinking"),
    "thinking_end": _entry("›", "thinking_end", "bracket", "thinking", ">"),
    "toolcall_start": _entry("‹", "toolcall_start", "bracket", "tool", "<"),
    "toolcall_delta": _entry("c", "toolcall_delta", "disc", "tool"),
    "toolcall_end": _entry("›", "toolcall_end", "bracket", "tool", ">"),
}
_KINDS = {
    "error": _entry("#", "on_error", "cross", "error"),
    "completed": _entry("|", "completed", "bar", "quiet"),
    "disposed": _entry("!", "unsubscribed", "cut", "quiet"),
}


class Alphabet:
    """The signs of one diagram, given out in the order of its rows, so that the same rows always look the same."""

    def __init__(self, timelines: Iterable[Timeline]) -> None:
        marks = [mark for timeline in timelines for mark in timeline.marks]
        values = [mark.value for mark in marks if mark.kind == "next"]
        self._told_by_type = _too_many(values)
        self._signs: dict[object, Sign] = {}
        used: set[str] = set()
        strangers: dict[object, Any] = {}
        for mark in marks:
            if mark.kind in ("subscribed", "note"):
                continue
            sign = _known_sign(mark)
            if sign is None:
                strangers.setdefault(self._key(mark), mark.value)
            else:
                self._signs[self._key(mark)] = sign
                used.add(sign.letter)
        # A stream of plain letters is drawn with its own letters; what has to be given one gets it after them.
        for key, value in strangers.items():
            letter = _own_letter(value)
            if _can_stand(letter) and letter not in used:
                self._signs[key] = _entry(letter, "", "disc", "other")
                used.add(letter)
        for key, value in strangers.items():
            if key not in self._signs:
                letter = _free_letter(self._name(value), used | _RESERVED)
                self._signs[key] = _entry(letter, self._name(value), "disc", "other")
                used.add(letter)

    def sign(self, mark: Mark) -> Sign:
        """What stands for this mark."""
        return self._signs[self._key(mark)]

    def legend(self, shown: Iterable[Sign]) -> list[tuple[Sign, str]]:
        """The signs that were drawn, each once, with everything that shares its letter in its name."""
        names: dict[str, tuple[Sign, list[str]]] = {}
        wanted = set(shown)
        order = [
            *_EVENTS.values(),
            *(sign for sign in self._signs.values() if sign not in _KINDS.values()),
            *_KINDS.values(),
        ]
        for sign in dict.fromkeys(order):
            if sign in wanted and sign.name and sign.shape != "dot":
                names.setdefault(sign.letter, (sign, []))[1].append(sign.name)
        return [(sign, ", ".join(told)) for sign, told in names.values()]

    def _key(self, mark: Mark) -> object:
        if mark.kind == "mark":
            return "mark", name_of(mark.value)
        if mark.kind != "next":
            return mark.kind
        word = _event_type(mark.value)
        return ("event", word) if word is not None else ("value", self._name(mark.value))

    def _name(self, value: Any) -> str:
        word = _event_type(value)
        if word is not None:
            return word
        name = name_of(value, quoted=True)
        return type(value).__name__ if self._told_by_type and not _can_stand(_own_letter(value)) else name


def name_of(value: object, *, quoted: bool = False) -> str:
    """What a value is called: a text or number by itself, an exception by type and status, all else by its type."""
    if isinstance(value, str):
        return _quoted(value) if quoted else clean(value)
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, int) and -_LONG < value < _LONG:
        return int.__repr__(value)
    if isinstance(value, float):
        return shorten(float.__repr__(value), 16)
    if isinstance(value, BaseException):
        return failure_name(value)
    if isinstance(value, AuthRejected) and value.status is not None:
        return f"AuthRejected {value.status}"
    if isinstance(value, RefreshRetryScheduled):
        return f"RefreshRetryScheduled in {value.delay:.3g} s"
    return type(value).__name__


def _quoted(text: str) -> str:
    # A long word may be a token: of a refresh, for instance, that was recorded beside the stream.
    words = clean(text)
    return "str" if any(len(word) > 16 for word in words.split()) else repr(shorten(words, 16))


def failure_name(failure: Any) -> str:
    """A failure's type and status: what may be shown of it.

    >>> failure_name({"type": "error", "error": {"type": "authentication_error", "message": "sk-secret"}})
    'authentication_error'
    """
    if failure is None:
        return "nothing came"
    if isinstance(failure, NeverLiveError):
        return f"NeverLiveError ({failure_name(failure.failure)})"
    cause = _part(failure, "cause")
    if not isinstance(failure, BaseException) and isinstance(cause, BaseException):
        return failure_name(cause)
    if isinstance(failure, BaseException):
        words = [type(failure).__name__]
    else:
        word = type_of(_part(failure, "error"))
        # A provider's own word for it. Nothing that could be a token: those have digits or dashes.
        known = isinstance(word, str) and len(word) <= 40 and re.fullmatch(r"[A-Za-z]+(_[A-Za-z]+)*", word)
        words = [word] if known else []
    status = status_of(failure)
    if status is not None:
        words.append(str(status))
    return " ".join(words)


def is_failure_event(value: object) -> bool:
    """An event that tells a failure in-band."""
    return _event_type(value) == "error"


def said(value: object) -> str | None:
    """The text in a text delta, else `None`."""
    delta = _part(value, "delta") if _event_type(value) == "text_delta" else None
    return delta if isinstance(delta, str) else None


def clean(text: str) -> str:
    """On one line, with nothing in it that moves a cursor, turns the writing around or is no character at all."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text
    return "".join(c if unicodedata.category(c)[0] != "C" else "·" for c in re.sub(r"\s+", " ", text))


def shorten(text: str, columns: int) -> str:
    """At most so many columns wide, the cut shown."""
    if cells(text) <= columns:
        return text
    kept = ""
    for char in text:
        if cells(kept + char) > columns - 1:
            break
        kept += char
    return kept + "…"


def wrap(text: str, columns: int) -> list[str]:
    """Lines of at most so many columns; a last word of a letter or two stays with the one before it.

    >>> wrap("buffer_until_live, attempt 1", 26)
    ['buffer_until_live,', 'attempt 1']
    """
    head, space, last = text.rpartition(" ")
    glued = f"{head}{_GLUE}{last}" if space and len(last) < 3 else text
    lines = textwrap.wrap(glued, columns, break_on_hyphens=False)
    return [shorten(line.replace(_GLUE, " "), columns) for line in lines] or [""]


def cells(text: str) -> int:
    """How many columns a terminal needs for it.

    >>> cells("abc"), cells("你好"), cells("e\\u0301")
    (3, 4, 1)
    """
    return len(text) if text.isascii() else sum(map(_cell, text))


def _cell(char: str) -> int:
    if unicodedata.combining(char) or char in "\u200d\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _event_type(value: object) -> str | None:
    if value is None or isinstance(value, str | int | float | BaseException | AuthRejected):
        return None  # an exception's or a recovery event's `type` names a failure: it is no event of the stream
    word = type_of(value)
    return _type_name(word) if isinstance(word, str) and word else None


@lru_cache(maxsize=1024)  # a long stream says the same few types over and over
def _type_name(word: str) -> str:
    return shorten(clean(word), 40)


def _known_sign(mark: Mark) -> Sign | None:
    if mark.kind == "mark":
        return _entry("●", name_of(mark.value), "dot", "other", "o")
    return _KINDS.get(mark.kind) or _EVENTS.get(_event_type(mark.value) or "")


def _part(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _too_many(values: Iterable[Any]) -> bool:
    plain = (value for value in values if _event_type(value) is None and not _can_stand(_own_letter(value)))
    return len({name_of(value, quoted=True) for value in plain}) > _MANY


def _own_letter(value: object) -> str:
    """The letter that a value is by itself: "a" or 7."""
    return value if isinstance(value, str) else str(value) if type(value) is int and 0 <= value < 10 else ""


def _can_stand(letter: str) -> bool:
    return len(letter) == 1 and letter.isalnum() and _cell(letter) == 1


def _free_letter(name: str, used: set[str]) -> str:
    initials = [word[0] for word in re.findall(r"[A-Za-z]+", name)]
    return next((c for c in _letters(initials, name) if _can_stand(c) and c not in used), "·")


def _letters(initials: list[str], name: str) -> Iterator[str]:
    yield from (c.lower() for c in initials)
    yield from (c.upper() for c in initials)
    yield from (c for c in name.lower() if c.isalpha())
    yield from "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
