"""Choose a letter, a shape and a name for each kind of notification. Never a secret.

A failure is named by its type and status, never by its text; of the assistant's words only text deltas are shown.
"""

from __future__ import annotations

import contextlib
import re
import string
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rxauth.errors import NeverLiveError, field
from rxauth.failures import status_of, type_of
from rxauth.marbles._record import Mark, Timeline

_width: Callable[[str], int] = len
with contextlib.suppress(ImportError):  # a page with Pyodide may not have installed it
    from wcwidth import wcswidth as _width

_MANY = 10  # a legend of more distinct values explains nothing: beyond that they are named by their type
_LONG = 10**15  # Python refuses to write integers of some thousand digits
_LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Sign:
    """One entry of the legend; the renderers know the shapes and tones."""

    letter: str
    name: str
    shape: str = "disc"
    tone: str = "other"


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
LAST_SIGNS = {
    "error": Sign("#", "on_error", "cross", "error"),
    "completed": Sign("|", "completed", "bar", "quiet"),
    "disposed": Sign("!", "unsubscribed", "cut", "quiet"),
}


def alphabet_of(timelines: Iterable[Timeline]) -> dict[str, Sign]:
    """Give each element its sign, by its name and in the order of the legend: equal rows always look the same."""
    values: dict[str, Any] = {}
    for mark in (mark for row in timelines for mark in row.marks if mark.kind == "next"):
        values.setdefault(name_of(mark.value), mark.value)
    used = {_EVENTS[name].letter for name in values if name in _EVENTS}
    by_type = sum(name not in _EVENTS and not _own_letter(value) for name, value in values.items()) > _MANY
    signs = dict(_EVENTS)
    for name, value in sorted(values.items(), key=lambda item: not _own_letter(item[1])):  # a letter keeps its own
        own = _own_letter(value)
        if by_type and not own and _event_type(value) is None:
            name = type(value).__name__
        if name not in signs:
            words = re.findall(r"[A-Za-z]+", name)
            initials = "".join(word[0] for word in words)
            letters = initials.lower() + initials.upper() + "".join(words).lower() + _LETTERS
            free = (letter for letter in letters if letter not in used | {"s", "e", "d"})
            letter = own if own and own not in used else next(free, "·")
            signs[name] = Sign(letter, name if letter != own else "")
            used.add(letter)
    return signs


def sign_of(mark: Mark, alphabet: Mapping[str, Sign]) -> Sign:
    """Return the sign of a mark."""
    if mark.kind == "mark":
        return Sign("●", name_of(mark.value, quoted=False), "dot")
    if mark.kind != "next":
        return LAST_SIGNS[mark.kind]
    return alphabet.get(name_of(mark.value)) or alphabet[type(mark.value).__name__]


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
    if word := _event_type(value):
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


def _event_type(value: object) -> str | None:
    if isinstance(value, str | int | float | BaseException) or type(value).__module__ == "rxauth.recovery":
        return None  # the `type` of an exception or a recovery event names a failure
    word = type_of(value)
    return clean(word)[:40] if isinstance(word, str) and word else None


def _own_letter(value: object) -> str:
    """Return the letter that a value is by itself, such as "a" or 7."""
    letter = value if isinstance(value, str) else str(value) if type(value) is int and 0 <= value < 10 else ""
    return letter if len(letter) == 1 and letter.isalnum() and cells(letter) == 1 else ""
