"""Decode JSON as providers send it."""

from __future__ import annotations

import json
import re

import msgspec

# Raised by decoders for bytes that are not JSON.
MALFORMED = (msgspec.DecodeError, ValueError, RecursionError)


class NotJSONError(ValueError):
    """The bytes are not JSON, and cannot be read as such."""


def decoded(data: bytes) -> object:
    """Decode JSON, also where a strict decoder refuses it: NaN, invalid UTF-8, half a surrogate pair.

    Damaged characters become U+FFFD.

    Raises:
        NotJSONError: the bytes cannot be repaired.

    >>> decoded(rb'["\\ud83d!", "\\ud83d\\ude00", NaN]')
    ['�!', '😀', nan]
    """
    try:
        return _decode(data)
    except MALFORMED:
        pass
    try:
        return json.loads(_ESCAPE.sub(_whole, data.decode("utf-8", "replace")))
    except MALFORMED as error:
        raise NotJSONError(type(error).__name__) from None


def string(value: object) -> str | None:
    """Return a string that is not empty; `None` for anything else."""
    return value if isinstance(value, str) and value else None


def count(value: object, otherwise: int) -> int:
    """Return a number of tokens; `otherwise` where the value is none."""
    return value if type(value) is int and value >= 0 else otherwise


_decode = msgspec.json.Decoder().decode

# A surrogate pair, half of one, or any other escape: without the last, "\\ud800" would hold half a pair.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL
)
_HALF = len(r"\ud800")  # no other escape that is found has this length


def _whole(escape: re.Match[str]) -> str:
    return r"\ufffd" if len(escape[0]) == _HALF else escape[0]
