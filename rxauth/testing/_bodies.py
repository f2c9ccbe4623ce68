"""Make the bodies of scripted responses, and the writes that send them. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from rxauth.testing._gate import Gate
from rxauth.testing._replies import Pause, Piece, Reply, Step
from rxauth.testing._requests import SeenRequest
from rxauth.testing._shapes import shaped_error
from rxauth.testing._wires import ERRORS, Answer, Speech, Wire

EVENTS = "text/event-stream; charset=utf-8"


class Outgoing(NamedTuple):
    """Hold the pieces of a body. Only an event stream is sent without a length."""

    content_type: str | None
    pieces: list[Step]


def json_body(payload: Mapping[str, Any]) -> Outgoing:
    """Return a body of JSON."""
    return Outgoing("application/json", [msgspec.json.encode(payload)])


def events_body(pieces: Iterable[Piece]) -> Outgoing:
    """Return an event stream; a mapping in it is one event."""
    return Outgoing(EVENTS, [_encoded(piece) for piece in pieces])


def scripted_body(reply: Reply, seen: SeenRequest, text_type: str | None = None) -> Outgoing:
    """Return the body that a test gave; a text is an event stream or an error page, unless its type is given."""
    body = reply.body(seen) if callable(reply.body) else reply.body
    if isinstance(body, Mapping):
        return json_body(body)
    if isinstance(body, str | bytes):
        return Outgoing(text_type or (EVENTS if reply.answers else "text/plain; charset=utf-8"), [_encoded(body)])
    return events_body(body or ())


def answer_body(reply: Reply, wire: Wire, seen: SeenRequest, usual: Answer) -> Outgoing:
    """Return the body of a reply to a request for an answer."""
    if reply.body is not None:
        return scripted_body(reply, seen)
    code, error, message = error_of(reply)
    shaped = None if reply.shape is None else shaped_error(reply.shape, code, error, message)
    if not reply.answers:
        if reply.status < 400 and reply.error is None:
            return Outgoing(None, [])
        return json_body(wire.error(error, message, None)) if shaped is None else events_body([shaped])
    request = seen.json()
    answer = usual if reply.answer is None else reply.answer
    speech = Speech(answer, reply.stop, request, seen.number, reply.numbering)
    if reply.whole or not request.get("stream"):
        return json_body(wire.whole(speech) if reply.error is None else wire.error(error, message, None))
    events: list[Piece] = list(wire.stream(speech))
    if reply.error is not None:
        del events[1 if reply.error_after is None else reply.error_after :]
        events.append(shaped or wire.error(error, message, len(events)))
    return events_body(events)


def error_of(reply: Reply) -> tuple[int, str, str]:
    """Return the code, the type and the text of a reply's error."""
    usual, words = ERRORS.get(reply.status, ERRORS[500])
    known = ((code, text) for code, (name, text) in ERRORS.items() if name == reply.error)
    code, words = next(known, (500, words))
    message = words if reply.message is None else reply.message
    return (code if reply.answers else reply.status), reply.error or usual, message


def writes(pieces: Sequence[Step], reply: Reply) -> Iterator[Step]:
    r"""Yield what is written, and waited for, to send `pieces` the way `reply` says.

    >>> list(writes([b"one", b"two", b"three"], Reply(cut_at=5)))
    [b'one', b'tw']
    >>> list(writes([b"one", b"two", b"three"], Reply(chunk_size=4)))
    [b'onet', b'woth', b'ree']
    >>> list(writes([b"one", b"two", Pause(1), b"three"], Reply(events_per_write=2)))
    [b'onetwo', Pause(seconds=1), b'three']
    """
    left = next((point for point in (reply.cut_at, reply.reset_at) if isinstance(point, int)), None)
    for is_data, run in groupby(_held(pieces, reply), key=lambda piece: isinstance(piece, bytes)):
        if not is_data:
            yield from run
            continue
        events, size = [piece for piece in run if isinstance(piece, bytes)], reply.chunk_size
        if size is not None:
            whole = b"".join(events)
            events = [whole[at : at + size] for at in range(0, len(whole), size)]
        for at in range(0, len(events), reply.events_per_write):
            if left == 0:
                return
            data = b"".join(events[at : at + reply.events_per_write])[:left]
            left = None if left is None else left - len(data)
            if data:  # an empty chunk would be the terminal one
                yield data


def _held(pieces: Sequence[Step], reply: Reply) -> list[Step]:
    """Put the gate after so many events; at the head `send` waits for it."""
    if reply.hold is None or reply.hold_after == "head":
        return [*pieces]
    ends = [0, *(at for at, piece in enumerate(pieces, 1) if isinstance(piece, bytes))]
    at = ends[reply.hold_after] if reply.hold_after < len(ends) else len(pieces)
    return [*pieces[:at], reply.hold, *pieces[at:]]


def _encoded(piece: Piece) -> Step:
    r"""Encode a piece; of a mapping, `data` is its JSON, and `event` its `type`, if it has one.

    >>> _encoded({"type": "ping"}), _encoded({"choices": []})
    (b'event: ping\ndata: {"type":"ping"}\n\n', b'data: {"choices":[]}\n\n')
    """
    match piece:
        case bytes() | Pause() | Gate():
            return piece
        case str():
            return piece.encode()
        case Mapping():
            data = b"data: " + msgspec.json.encode(piece) + b"\n\n"
            name = piece.get("type")
            return f"event: {name}\n".encode() + data if isinstance(name, str) else data
    raise TypeError(f"A body consists of bytes, str, mappings, Pause and Gate, not of {type(piece).__name__}.")
