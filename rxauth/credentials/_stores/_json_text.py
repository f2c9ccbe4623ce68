"""The text of a JSON file: read field by field, and written in the style in which it was read."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

__all__ = ["Document", "Style", "decode", "plain", "raw"]

# Every field with its JSON as it is written: foreign fields are not even parsed.
Document = dict[str, msgspec.Raw]


class Style:
    """How a JSON text is indented, and whether it ends with a line break.

    Args:
        content: the text; an empty one has the usual style.
    """

    def __init__(self, content: bytes) -> None:
        indent = re.search(rb"\{\r?\n([ \t]+)", content)
        self._unit = indent[1] if indent else b"  "
        self._one_line = bool(content.strip()) and b"\n" not in content.strip()
        self._spaces = 0 if b'": ' in content else -1
        self._end = b"\n" if content.endswith(b"\n") or not content else b""

    def encode(self, document: Document) -> bytes:
        """Write a document in this style."""
        content = msgspec.json.encode(document)
        if self._one_line:
            return msgspec.json.format(content, indent=self._spaces) + self._end
        # A string in JSON has no line break of its own, so each run of spaces at a line's start is indentation.
        spread = msgspec.json.format(content, indent=2)
        return re.sub(rb"(?m)^ +", lambda run: self._unit * (len(run[0]) // 2), spread) + self._end


def decode(content: bytes) -> Document | None:
    """Return the object that the text is; `None` if it is none."""
    try:
        return msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"), type=Document)
    except (ValueError, RecursionError):
        return None


def raw(value: Any) -> msgspec.Raw:
    """Return the value as JSON. Raises ValueError or TypeError if it cannot be written as JSON."""
    return msgspec.Raw(json.dumps(value, allow_nan=False).encode())


def plain(value: msgspec.Raw) -> Any:
    """Return the value of a piece of JSON."""
    return json.loads(bytes(value))
