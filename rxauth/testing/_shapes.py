"""Shape errors and tool calls as real servers do, beside the form of the protocol. Pure, no I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

ErrorShape: TypeAlias = Literal[
    "framed", "bare", "indented", "array", "field", "flat", "text code", "flat type", "string", "errors", "detail",
    "Message", "nested", "object", "words", "bare words", "page", "framed page",
]  # fmt: skip
Numbering: TypeAlias = Literal[
    "new ids", "new ids, one name", "one id", "index 0", "no index", "no id", "empty ids", "no index, no id",
    "repeated", "late names", "no names",
]  # fmt: skip

# An index, an id, a name and a piece of the arguments; `None` is left out.
Piece: TypeAlias = tuple[int | None, str | None, str | None, str | None]


def _framed(body: object) -> bytes:
    return b"data: " + (body if isinstance(body, str) else json.dumps(body)).encode() + b"\n\n"


def _page(code: int, words: str) -> str:
    return f"<html>\n<head><title>{code} {words}</title></head>\n<body></body>\n</html>\n"


_ERRORS: Mapping[ErrorShape, Callable[[int, str, str], bytes]] = {
    "framed": lambda code, name, words: _framed({"error": {"code": code, "type": name, "message": words}}),
    "bare": lambda code, name, words: json.dumps({"error": {"code": code, "message": words}}).encode() + b"\n",
    "indented": lambda code, name, words: (
        json.dumps({"error": {"code": code, "message": words}}, indent=2).encode() + b"\n"
    ),
    "array": lambda code, name, words: (
        json.dumps([{"error": {"code": code, "status": name, "message": words}}]).encode() + b"\n"
    ),
    "field": lambda code, name, words: (
        b"error: " + json.dumps({"code": code, "message": words, "type": name}).encode() + b"\n\n"
    ),
    "flat": lambda code, name, words: _framed({"code": code, "msg": words}),
    "text code": lambda code, name, words: _framed({"code": str(code), "message": words}),
    "flat type": lambda code, name, words: _framed({"choices": None, "error_type": name, "error_message": words}),
    "string": lambda code, name, words: _framed({"error": f"{code}: {words}"}),
    "errors": lambda code, name, words: _framed({"success": False, "errors": [{"code": code, "message": words}]}),
    "detail": lambda code, name, words: _framed({"status": code, "detail": [{"loc": ["body"], "msg": words}]}),
    "Message": lambda code, name, words: _framed({"code": code, "Message": words}),
    "nested": lambda code, name, words: _framed({"error": {"error": {"code": code, "message": words}}}),
    "object": lambda code, name, words: _framed({"object": "error", "code": code, "type": name, "message": words}),
    "words": lambda code, name, words: _framed(f"Error: {code} {words}"),
    "bare words": lambda code, name, words: f"{code} {words}\n".encode(),
    "page": lambda code, name, words: _page(code, words).encode(),
    "framed page": lambda code, name, words: _framed(_page(code, words).replace("\n", "")),
}


def shaped_error(shape: ErrorShape, code: int, name: str, words: str) -> bytes:
    r"""Write an error in one of the shapes that servers give it.

    >>> shaped_error("words", 401, "authentication_error", "token expired")
    b'data: Error: 401 token expired\n\n'
    """
    return _ERRORS[shape](code, name, words)


def numbered(calls: Iterable[tuple[str, str, list[str]]], numbering: Numbering | None) -> Iterator[Piece]:
    """Cut calls (id, name, pieces of arguments) into the pieces of a stream, numbered as a server does.

    >>> list(numbered([("a", "f", ["{", "}"])], None))
    [(0, 'a', 'f', ''), (0, None, None, '{'), (0, None, None, '}')]
    >>> list(numbered([("a", "f", ["{", "}"])], "new ids"))
    [(0, 'a-0', 'f', '{'), (0, 'a-1', 'f', '}')]
    """
    for index, (call_id, name, parts) in enumerate(calls):
        first: list[Piece] = [(index, call_id, name, "")]
        rest: list[Piece] = [(index, None, None, part) for part in parts]
        whole = "".join(parts)
        match numbering:
            case None:
                yield from first + rest
            case "new ids":
                yield from ((index, f"{call_id}-{at}", name, part) for at, part in enumerate(parts))
            case "new ids, one name":
                yield from first
                yield from ((index, f"{call_id}-{at}", None, part) for at, part in enumerate(parts))
            case "one id":
                yield (index, call_id, name, "")
                yield from ((index + at, call_id, None, part) for at, part in enumerate(parts))
            case "index 0":
                yield from ((0, *piece[1:]) for piece in first + rest)
            case "no index":
                yield from ((None, *piece[1:]) for piece in first + rest)
            case "no id":
                yield from ((index, None, *piece[2:]) for piece in first + rest)
            case "empty ids":
                yield from ((index, "", piece[2] or "", piece[3]) for piece in first + rest)
            case "no index, no id":
                yield (None, None, name, whole)
            case "repeated":
                yield from [*first, *rest, (index, None, None, whole)]
            case "late names":
                yield from [*rest, (index, call_id, name, None)]
            case "no names":
                yield from [(index, call_id, None, ""), *rest]


def as_delta(piece: Piece) -> dict[str, Any]:
    """Write a piece as the delta of a Chat Completions chunk."""
    index, call_id, name, arguments = piece
    function = {field: value for field, value in (("name", name), ("arguments", arguments)) if value is not None}
    call = {field: value for field, value in (("index", index), ("id", call_id)) if value is not None}
    return {"tool_calls": [call | {"type": "function", "function": function}]}
