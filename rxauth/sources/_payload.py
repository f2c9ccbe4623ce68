"""JSON as providers send it, decoded into a type."""

from __future__ import annotations

import json
import re
from typing import TypeVar

import msgspec

T = TypeVar("T")


# What decoders raise for bytes that are not JSON, or not of the shape asked for.
MALFORMED = (msgspec.DecodeError, ValueError, RecursionError)


class NotThisProtocolError(ValueError):
    """The bytes are not JSON, or not of the shape that was asked for."""


def repaired(data: bytes, shape: type[T]) -> T:
    """What a strict decoder refused, read leniently: NaN, invalid UTF-8, half a surrogate pair. U+FFFD is the damage.

    Raises:
        NotThisProtocolError: it cannot be repaired, or is of another shape.

    >>> repaired(rb'["\\ud83d!", "\\ud83d\\ude00"]', list[str])
    ['�!', '😀']
    """
    try:
        text = _ESCAPE.sub(_whole, data.decode("utf-8", "replace"))
        return msgspec.convert(json.loads(text), shape)
    except MALFORMED as error:
        raise NotThisProtocolError(type(error).__name__) from None


# A surrogate pair, half of one, or any other escape: the last so that the backslash before "ud800" is its own.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL
)
_HALF = len(r"\ud800")  # no other escape that is found has this length


def _whole(escape: re.Match[str]) -> str:
    return r"\ufffd" if len(escape[0]) == _HALF else escape[0]
