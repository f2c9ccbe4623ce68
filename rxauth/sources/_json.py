"""Read JSON as providers send it: damaged, in pieces, or of another type than it should be. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

# Raised by decoders for bytes that are not JSON.
MALFORMED = (msgspec.DecodeError, ValueError, RecursionError)


class NotJSONError(ValueError):
    """The bytes are not JSON, and cannot be read as such."""


def decoded(data: bytes) -> Any:
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


def mapping(value: object) -> dict[str, Any]:
    """Return an object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def is_complete(text: str) -> bool:
    """Return whether the text is one whole JSON value."""
    try:
        _decode(text)
    except MALFORMED:
        return False
    return True


def joined(old: Any, new: Any) -> Any:
    """Join two pieces of one value: objects by key, lists by their items' `index`, strings one after the other.

    A string that is repeated as it was, such as an id, stays as it is; so does a value followed by `null`.

    >>> joined({"id": "a", "text": "Hel"}, {"id": "a", "text": "lo", "data": None})
    {'id': 'a', 'text': 'Hello', 'data': None}
    >>> joined([{"index": 0, "text": "a"}], [{"index": 0, "text": "b"}, {"index": 1}])
    [{'index': 0, 'text': 'ab'}, {'index': 1}]
    """
    if new is None or old == new:
        return old
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {name: joined(old.get(name), value) for name, value in new.items()}
    if isinstance(old, list) and isinstance(new, list):
        items = list(old)
        for item in new:
            if items and _is_continued(items[-1], item):
                items[-1] = joined(items[-1], item)
            else:
                items.append(item)
        return items
    if isinstance(old, str) and isinstance(new, str):
        return old + new
    return new


def _is_continued(last: object, item: object) -> bool:
    last, item = mapping(last), mapping(item)
    return isinstance(item.get("index"), int) and all(last.get(name) == item.get(name) for name in ("index", "type"))


_decode = msgspec.json.Decoder().decode

# A surrogate pair, half of one, or any other escape: without the last, "\\ud800" would hold half a pair.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL
)
_HALF = len(r"\ud800")  # no other escape that is found has this length


def _whole(escape: re.Match[str]) -> str:
    return r"\ufffd" if len(escape[0]) == _HALF else escape[0]
