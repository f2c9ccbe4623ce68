"""Choose a letter, a shape and a name for each kind of notification. Never a secret.

A failure is named by its type and status, never by its text; of the assistant's words only text deltas are shown.
"""

from __future__ import annotations

import contextlib
import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rxauth.errors import NeverLiveError, field
from rxauth.failures import status_of, type_of
from rxauth.marbles._record import Mark, Timeline

_width: Callable[[str], int] = len
with contextlib.suppress(ImportError):  # a page with Pyodide may not have installed it
    from wcwidth import wcswidth as _width

__all__ = ["Alphabet", "Shape", "Sign", "Tone", "cells", "clean", "event_type", "failure_name", "name_of"]

Shape: TypeAlias = Literal["flag", "disc", "square", "diamond", "bracket", "cross", "bar", "cut", "dot"]
Tone: TypeAlias = Literal["start", "text", "thinking", "tool", "other", "done", "error", "quiet"]

_MANY = 10  # a legend of more distinct values explains nothing: beyond that they are named by their type
_LONG = 10**15  # Python refuses to write integers of some thousand digits


@dataclass(frozen=True, slots=True)
class Sign:
    """One entry of the legend."""

    letter: str
    name: str
    shape: Shape = "disc"
    tone: Tone = "other"


_EVENTS = {
    "start": Sign("s", "start", "flag", "start"),
    "error": Sign("e", "error event", "diamond", "error"),
    "done": Sign("d", "done", "square", "done"),
    "text_start": Sign("‹", "text_start", "bracket", "text"),
    "text_delta": Sign("t", "text_delta", "disc", "text"),
    "text_end": Sign("›", "text_end", "bracket", "text"),
    "thinking_start": Sign("‹", "thinking_start", "bracket", "thinking"),
    "thinking_delta": Sign("h", "thinking_delta", "disc", "thinking"),
    "thinking_end": Sign("›", "thinking_end", "bracket", "thinking"),
    "toolcall_start": Sign("‹", "toolcall_start", "bracket", "tool"),
    "toolcall_delta": Sign("c", "toolcall_delta", "disc", "tool"),
    "toolcall_end": Sign("›", "toolcall_end", "bracket", "tool"),
}
_KINDS = {
    "error": Sign("#", "on_error", "cross", "error"),
    "completed": Sign("|", "completed", "bar", "quiet"),
    "disposed": Sign("!", "unsubscribed", "cut", "quiet"),
}
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


class Alphabet:
    """Give each kind of notification its sign, in the order of the rows: the same rows always look the same."""

    def __init__(self, timelines: Iterable[Timeline]) -> None:
        marks = [mark for row in timelines for mark in row.marks if mark.kind == "next"]
        values = [mark.value for mark in marks if event_type(mark.value) not in _EVENTS]
        known = [_EVENTS[word] for mark in marks if (word := event_type(mark.value)) in _EVENTS]
        self._by_type = len({name_of(value) for value in values if not _own_letter(value)}) > _MANY
        self._signs: dict[str, Sign] = {}
        used = {sign.letter for sign in known}
        # A letter keeps its own sign; other values get a free letter after that.
        for value in values:
            letter = _own_letter(value)
            if letter and letter not in used:
                self._signs.setdefault(self._name(value), Sign(letter, ""))
        used |= {sign.letter for sign in self._signs.values()} | {"s", "e", "d"}
        for value in values:
            name = self._name(value)
            if name not in self._signs:
                self._signs[name] = Sign(_free_letter(name, used), name)
                used.add(self._signs[name].letter)
        self._order = [*_EVENTS.values(), *self._signs.values(), *_KINDS.values()]

    def sign(self, mark: Mark) -> Sign:
        """Return the sign of a mark."""
        if mark.kind == "mark":
            return Sign("●", name_of(mark.value, quoted=False), "dot")
        if mark.kind != "next":
            return _KINDS[mark.kind]
        return _EVENTS.get(event_type(mark.value) or "") or self._signs[self._name(mark.value)]

    def legend(self, drawn: Iterable[Sign]) -> list[tuple[Sign, str]]:
        """Return the signs that were drawn, each once, with every name that shares its letter."""
        wanted = set(drawn)
        names: dict[str, list[Sign]] = {}
        for sign in dict.fromkeys(self._order):
            if sign in wanted and sign.name:
                names.setdefault(sign.letter, []).append(sign)
        return [(signs[0], ", ".join(sign.name for sign in signs)) for signs in names.values()]

    def _name(self, value: Any) -> str:
        by_type = self._by_type and event_type(value) is None and not _own_letter(value)
        return type(value).__name__ if by_type else name_of(value)


def name_of(value: object, *, quoted: bool = True) -> str:
    """Name a value: an event by its type, a text or number by itself, an exception by type and status."""
    if isinstance(value, str):
        words = clean(value)
        if not quoted:
            return words
        # A long word may be a token: that of a refresh, for instance, recorded beside the stream.
        return "str" if any(len(word) > 16 for word in words.split()) else repr(textwrap.shorten(words, 16))
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, int) and -_LONG < value < _LONG:
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)[:16]
    if isinstance(value, BaseException):
        return failure_name(value)
    word = event_type(value)
    if word is not None:
        return word
    status, delay = getattr(value, "status", None), getattr(value, "delay", None)  # of a recovery event
    name = type(value).__name__
    return f"{name} {status}" if type(status) is int else f"{name} in {delay:.3g} s" if type(delay) is float else name


def failure_name(failure: Any) -> str:
    """Name a failure by its type and status, which is all of it that may be shown.

    >>> failure_name({"type": "error", "error": {"type": "authentication_error", "message": "sk-secret"}})
    'authentication_error'
    """
    if failure is None:
        return "nothing came"
    if isinstance(failure, NeverLiveError):
        return f"NeverLiveError ({failure_name(failure.failure)})"
    name: Any = type(failure).__name__
    if not isinstance(failure, BaseException):
        cause = field(failure, "cause")
        if isinstance(cause, BaseException):
            return failure_name(cause)
        name = type_of(field(failure, "error"))  # the provider's own word, unless it could be a token
        if not (isinstance(name, str) and len(name) <= 40 and re.fullmatch(r"[A-Za-z]+(_[A-Za-z]+)*", name)):
            name = ""
    return f"{name} {status_of(failure) or ''}".strip()


def event_type(value: object) -> str | None:
    """Return the `type` of an event, `None` for any other value."""
    if isinstance(value, str | int | float | BaseException) or type(value).__module__ == "rxauth.recovery":
        return None  # the `type` of an exception or a recovery event names a failure
    word = type_of(value)
    return clean(word)[:40] if isinstance(word, str) and word else None


def cells(text: str) -> int:
    """Return how many columns a terminal needs for a text.

    >>> cells("abc"), cells("你好"), cells("e\\u0301")
    (3, 4, 1)
    """
    return len(text) if text.isascii() else _width(text)


def clean(text: str) -> str:
    """Put a text on one line, without characters that move a cursor or turn the writing around."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text
    return "".join(c if unicodedata.category(c)[0] != "C" else "·" for c in re.sub(r"\s+", " ", text))


def _own_letter(value: object) -> str:
    """Return the letter that a value is by itself, such as "a" or 7."""
    letter = value if isinstance(value, str) else str(value) if type(value) is int and 0 <= value < 10 else ""
    return letter if len(letter) == 1 and letter.isalnum() and cells(letter) == 1 else ""


def _free_letter(name: str, used: set[str]) -> str:
    words = re.findall(r"[A-Za-z]+", name)
    initials = "".join(word[0] for word in words)
    candidates = initials.lower() + initials.upper() + "".join(words).lower() + _LETTERS
    return next((letter for letter in candidates if letter not in used), "·")
