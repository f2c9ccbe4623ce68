"""Make the bodies of scripted responses. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from rxauth.testing._replies import Pause, Reply, encoded
from rxauth.testing._requests import SeenRequest
from rxauth.testing._shapes import shaped_error
from rxauth.testing._signal import Gate
from rxauth.testing._wires import ERROR_TYPES, Wire


@dataclass(frozen=True)
class Outgoing:
    """A body, and how its length is announced: with `Content-Length`, or in chunks."""

    pieces: Sequence[bytes | Pause | Gate]
    content_type: str | None
    length: bool


def json_body(payload: Mapping[str, Any]) -> Outgoing:
    """Return a body of JSON."""
    return Outgoing([msgspec.json.encode(payload)], "application/json", length=True)


def scripted_body(reply: Reply, seen: SeenRequest, text_type: str | None = None) -> Outgoing:
    """Return the body that a test gave."""
    body = reply.body(seen) if callable(reply.body) else reply.body
    if isinstance(body, Mapping):
        return json_body(body)
    if isinstance(body, str | bytes):
        data = body.encode() if isinstance(body, str) else body
        if text_type is None and reply.answers:
            return Outgoing([data], "text/event-stream; charset=utf-8", length=False)
        return Outgoing([data], text_type or "text/plain; charset=utf-8", length=True)
    return Outgoing(list(encoded(body or ())), "text/event-stream; charset=utf-8", length=False)


def error_body(reply: Reply, wire: Wire) -> Outgoing:
    """Return the body of a status that is no success."""
    if reply.status < 400 and reply.error is None:
        return Outgoing([], None, length=True)
    if reply.shape is not None:
        return Outgoing([shaped_body(reply)], "text/event-stream", length=False)
    return json_body(wire.error(reply.error or ERROR_TYPES.get(reply.status, ERROR_TYPES[500])[0], message_of(reply)))


def shaped_body(reply: Reply) -> bytes:
    """Return the error of a reply in the shape that it asks for."""
    name = reply.error or ERROR_TYPES.get(reply.status, ERROR_TYPES[500])[0]
    code = next((code for code, (known, _) in ERROR_TYPES.items() if known == name), 500)
    return shaped_error(reply.shape or "framed", code if reply.answers else reply.status, name, message_of(reply))


def message_of(reply: Reply) -> str:
    """Return the text of a reply's error."""
    if reply.message is not None:
        return reply.message
    texts = dict(ERROR_TYPES.values())
    return texts.get(reply.error or "") or ERROR_TYPES.get(reply.status, ERROR_TYPES[500])[1]
