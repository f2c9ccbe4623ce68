"""Shape errors and tool calls as real servers do, beside the form of the protocol. Pure, no I/O."""

from __future__ import annotations

import json
from typing import Literal, TypeAlias

ErrorShape: TypeAlias = Literal[
    "framed", "bare", "indented", "array", "field", "flat", "text code", "flat type", "string", "errors", "detail",
    "Message", "nested", "object", "words", "bare words", "page", "framed page",
]  # fmt: skip
Numbering: TypeAlias = Literal[
    "new ids", "new ids, one name", "one id", "index 0", "no index", "no id", "empty ids", "no index, no id",
    "repeated", "late names", "no names",
]  # fmt: skip

# An index, an id, a name and a piece of the arguments; `None` is left out.
CallPiece: TypeAlias = tuple[int | None, str | None, str | None, str | None]


def shaped_error(shape: ErrorShape, code: int, name: str, words: str) -> bytes:
    r"""Write an error in one of the shapes that servers give it.

    >>> shaped_error("words", 401, "authentication_error", "token expired")
    b'data: Error: 401 token expired\n\n'
    """
    error = {"code": code, "message": words}
    page = f"<html>\n<head><title>{code} {words}</title></head>\n<body></body>\n</html>\n"
    data: dict[str, object] = {
        "framed": {"error": {**error, "type": name}},
        "flat": {"code": code, "msg": words},
        "text code": {"code": str(code), "message": words},
        "flat type": {"choices": None, "error_type": name, "error_message": words},
        "string": {"error": f"{code}: {words}"},
        "errors": {"success": False, "errors": [error]},
        "detail": {"status": code, "detail": [{"loc": ["body"], "msg": words}]},
        "Message": {"code": code, "Message": words},
        "nested": {"error": {"error": error}},
        "object": {"object": "error", **error, "type": name},
    }
    lines = {
        "bare": json.dumps({"error": error}) + "\n",
        "indented": json.dumps({"error": error}, indent=2) + "\n",
        "array": json.dumps([{"error": {**error, "status": name}}]) + "\n",
        "field": f"error: {json.dumps({**error, 'type': name})}\n\n",
        "words": f"data: Error: {code} {words}\n\n",
        "bare words": f"{code} {words}\n",
        "page": page,
        "framed page": "data: " + page.replace("\n", "") + "\n\n",
    }
    return (lines[shape] if shape in lines else f"data: {json.dumps(data[shape])}\n\n").encode()


def numbered(index: int, call_id: str, name: str, parts: list[str], numbering: Numbering | None) -> list[CallPiece]:
    """Cut a call into the pieces of a stream, numbered as a server does.

    >>> numbered(0, "a", "f", ["{", "}"], None)
    [(0, 'a', 'f', ''), (0, None, None, '{'), (0, None, None, '}')]
    >>> numbered(0, "a", "f", ["{", "}"], "new ids")
    [(0, 'a-0', 'f', '{'), (0, 'a-1', 'f', '}')]
    """
    first: CallPiece = (index, call_id, name, "")
    rest: list[CallPiece] = [(index, None, None, part) for part in parts]
    match numbering:
        case "new ids":
            return [(index, f"{call_id}-{at}", name, part) for at, part in enumerate(parts or [""])]
        case "new ids, one name":
            return [first, *((index, f"{call_id}-{at}", None, part) for at, part in enumerate(parts))]
        case "one id":
            return [first, *((index + at, call_id, None, part) for at, part in enumerate(parts))]
        case "index 0":
            return [(0, *piece[1:]) for piece in (first, *rest)]
        case "no index":
            return [(None, *piece[1:]) for piece in (first, *rest)]
        case "no id":
            return [(index, None, *piece[2:]) for piece in (first, *rest)]
        case "empty ids":
            return [(index, "", piece[2] or "", piece[3]) for piece in (first, *rest)]
        case "no index, no id":
            return [(None, None, name, "".join(parts))]
        case "repeated":
            return [first, *rest, (index, None, None, "".join(parts))]
        case "late names":
            return [*rest, (index, call_id, name, None)]
        case "no names":
            return [(index, call_id, None, ""), *rest]
    return [first, *rest]
