"""Script one response of the fake provider: values, no I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import msgspec

from rxauth.events import Block, DoneReason
from rxauth.testing._shapes import ErrorShape, Numbering
from rxauth.testing._signal import Gate

if TYPE_CHECKING:
    from rxauth.testing._requests import SeenRequest

Answer: TypeAlias = str | Sequence[Block]


@dataclass(frozen=True)
class Pause:
    """A piece of a body that is no bytes: seconds on the server's event loop's clock.

    >>> Pause(0.5)
    Pause(seconds=0.5)
    """

    seconds: float

    def __post_init__(self) -> None:
        _require_seconds("a pause", self.seconds)


Piece: TypeAlias = bytes | str | Mapping[str, Any] | Pause | Gate
Body: TypeAlias = bytes | str | Mapping[str, Any] | Sequence[Piece]
Point: TypeAlias = int | Literal["head"]


class End(Enum):
    """How a connection ends before its response is complete."""

    CUT = "closed without the terminal chunk"
    RESET = "reset"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Answer one request in another way than usual.

    With nothing but a status, the body is what a provider sends with it: the answer for 2xx, nothing for 3xx, and for
    4xx and 5xx an error in the shape of the endpoint that was asked.

    Args:
        status: HTTP status, 200 to 599.
        headers: added to, or put in place of, the usual ones.
        body: the whole body. A mapping is sent as JSON, with a length. `bytes` and `str` (UTF-8) are sent as they are.
            A list is sent chunk by chunk: a mapping in it is one server-sent event (`event:` is its `type`, if it has
            one), `bytes` and `str` are as they are, a `Pause` or a `Gate` delays the rest. A function is
            given the `SeenRequest` and returns one of these.
        answer: what the assistant says this time: a text, or content blocks (see `FakeProvider`).
        stop: why the answer ends: `stop`, `length`, `toolUse`, `refusal`. By default what fits the answer.
        error: error type, e.g. `authentication_error`. With a 2xx status the answer breaks off and the error follows
            in-band; at the token endpoint it is the `error` of RFC 6749 section 5.2.
        message: the text of the error.
        shape: the form of the error, where a server does not keep to the protocol, such as `bare` (JSON without a
            frame), `field` (`error: {...}`), `words` (`data: Error: 401 ...`), `page` (HTML); see `ErrorShape`.
        numbering: how the pieces of tool calls are numbered, where a server does not keep to the protocol, such as
            `new ids` (another id in every piece) or `no index`; see `Numbering`.
        whole: send the answer as one JSON object, although a stream was asked for.
        error_after: how many events of the answer come before an in-band error. 1 by default.
        delay: seconds before the status line, on the server's event loop's clock.
        pause: seconds between two writes.
        hold: a `Gate` at which the response waits; never opened, it hangs.
        hold_after: where: before the status line (`"head"`, the default) or after so many events or pieces.
        cut_at: close the connection after so many bytes of the body, without the terminal chunk; `"head"`: before the
            status line. A body that is shorter is sent whole, and cut at its end.
        reset_at: the same, with a TCP reset. Bytes under way are lost then, as on any network: of a body that
            does not fit into the socket's buffers, some 100 KB, less may arrive.
        chunk_size: bytes per write, wherever an event ends. A write is one HTTP chunk.
        events_per_write: events per write.

    Raises:
        ValueError: it contradicts itself, or no server could do it.

    >>> Reply(status=503, headers={"Retry-After": "2"})
    Reply(status=503, headers={'Retry-After': '2'})
    >>> Reply.in_band_error("overloaded_error")
    Reply(error='overloaded_error')
    >>> Reply(cut_at=10, reset_at=20)
    Traceback (most recent call last):
    ValueError: A connection ends once: cut_at or reset_at.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | Callable[[SeenRequest], Body] | None = None
    answer: Answer | None = None
    stop: DoneReason | None = None
    error: str | None = None
    message: str | None = None
    shape: ErrorShape | None = None
    numbering: Numbering | None = None
    whole: bool = False
    error_after: int | None = None
    delay: float = 0.0
    pause: float = 0.0
    hold: Gate | None = None
    hold_after: Point = "head"
    cut_at: Point | None = None
    reset_at: Point | None = None
    chunk_size: int | None = None
    events_per_write: int = 1

    def __post_init__(self) -> None:
        _require_count("status", self.status, at_least=200)
        if self.status > 599:
            raise ValueError(f"status is from 200 to 599, not {self.status}.")
        for each in (*self.headers, *self.headers.values()):
            if any(c in each for c in "\r\n\0"):
                raise ValueError("Header names and values are text on one line.")
        _require_seconds("delay", self.delay)
        _require_seconds("pause", self.pause)
        for name in ("hold_after", "cut_at", "reset_at"):
            point = getattr(self, name)
            if point is not None and point != "head":
                _require_count(name, point, at_least=0)
        for count, least in (("chunk_size", 1), ("events_per_write", 1), ("error_after", 0)):
            if getattr(self, count) is not None:
                _require_count(count, getattr(self, count), at_least=least)
        if self.stop is not None and self.stop not in get_args(DoneReason):
            raise ValueError(f"stop is one of {', '.join(get_args(DoneReason))}, not {self.stop!r}.")
        for word, form in (("shape", ErrorShape), ("numbering", Numbering)):
            if getattr(self, word) not in (None, *get_args(form)):
                raise ValueError(f"{word} is one of {', '.join(get_args(form))}, not {getattr(self, word)!r}.")
        for nonsense, sentence in (
            (self.cut_at is not None and self.reset_at is not None, "A connection ends once: cut_at or reset_at."),
            (self.chunk_size is not None and self.events_per_write != 1, "A write is so many bytes or so many events."),
            (self.body is not None and self.answer is not None, "A body is sent as it is: it takes no answer."),
            (self.body is not None and self.error is not None, "A body is sent as it is: it takes no error."),
            (self.body is not None and self.stop is not None, "A body is sent as it is: it takes no stop."),
            (not self.answers and self.answer is not None, f"No answer comes with status {self.status}."),
            (not self.answers and self.stop is not None, f"No answer comes with status {self.status}."),
            (not self.answers and self.error_after is not None, "Only an answer has an error in-band: status 2xx."),
            (self.answers and self.error_after is not None and self.error is None, "error_after needs an error."),
            (self.stop is not None and self.error is not None, "An answer that breaks off has no stop reason."),
            (self.shape is not None and self.error is None and self.answers, "A shape needs an error."),
            (self.hold is None and self.hold_after != "head", "hold_after needs a Gate to hold at."),
        ):
            if nonsense:
                raise ValueError(sentence)
        # A caller's list or dict that changes later must not change a reply that is already scripted.
        object.__setattr__(self, "headers", MappingProxyType(dict(self.headers)))
        for name in ("body", "answer"):
            value = getattr(self, name)
            if isinstance(value, Sequence) and not isinstance(value, bytes | str):
                object.__setattr__(self, name, tuple(value))

    def __repr__(self) -> str:
        fields = [] if self.status == 200 else [f"status={self.status}"]
        fields += [f"headers={dict(self.headers)!r}"] if self.headers else []
        # A scripted body may be a token response.
        fields += ["body=..."] if self.body is not None else []
        fields += [f"{name}={value!r}" for name, value in self._rest()]
        return f"Reply({', '.join(fields)})"

    def _rest(self) -> Iterator[tuple[str, object]]:
        for each in list(self.__dataclass_fields__.values())[3:]:
            if (value := getattr(self, each.name)) != each.default:
                yield each.name, value

    @property
    def answers(self) -> bool:
        """Whether it has a success status."""
        return self.status < 300

    @classmethod
    def unauthorized(cls, error: str = "authentication_error", **rest: Any) -> Reply:
        """401, as for a token that is dead.

        >>> Reply.unauthorized()
        Reply(status=401, error='authentication_error')
        """
        return cls(status=401, error=error, **rest)

    @classmethod
    def in_band_error(cls, error: str = "authentication_error", after: int | None = None, **rest: Any) -> Reply:
        """200, then `after` events of the answer, then an error event. After 0 events: the error alone.

        >>> Reply.in_band_error("authentication_error", after=0)
        Reply(error='authentication_error', error_after=0)
        """
        return cls(error=error, error_after=after, **rest)

    @classmethod
    def rate_limited(cls, retry_after: float | str | None = None, **rest: Any) -> Reply:
        """429, with `Retry-After` if given: seconds, or an HTTP date (RFC 9110 section 10.2.3).

        >>> Reply.rate_limited(retry_after=2)
        Reply(status=429, headers={'Retry-After': '2'})
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return cls(status=429, headers=headers | rest.pop("headers", {}), **rest)

    @classmethod
    def redirect(cls, location: str, status: int = 307, **rest: Any) -> Reply:
        """A redirect to `location`."""
        return cls(status=status, headers={"Location": location} | rest.pop("headers", {}), **rest)

    @classmethod
    def html(cls, text: str = "<!doctype html><title>Sign in</title>", status: int = 200, **rest: Any) -> Reply:
        """A web page where an API should be: a proxy's sign-in page, or the wrong base URL."""
        headers = {"Content-Type": "text/html; charset=utf-8"} | rest.pop("headers", {})
        return cls(status=status, headers=headers, body=text, **rest)

    @classmethod
    def cut(cls, at: Point = "head", **rest: Any) -> Reply:
        """The connection is closed after `at` bytes of the body."""
        return cls(cut_at=at, **rest)

    @classmethod
    def reset(cls, at: Point = "head", **rest: Any) -> Reply:
        """The connection is reset after `at` bytes of the body."""
        return cls(reset_at=at, **rest)

    @classmethod
    def hang(cls, gate: Gate | None = None, after: Point = "head", **rest: Any) -> Reply:
        """Nothing more comes after `after` events, until `gate` is opened; without one, until the client leaves."""
        return cls(hold=gate or Gate(), hold_after=after, **rest)


def sse(event: Mapping[str, Any]) -> bytes:
    r"""One server-sent event: `data` is the mapping as JSON, `event` its `type`, if it has one.

    >>> sse({"type": "ping"})
    b'event: ping\ndata: {"type":"ping"}\n\n'
    >>> sse({"choices": []})
    b'data: {"choices":[]}\n\n'
    """
    data = b"data: " + msgspec.json.encode(event) + b"\n\n"
    name = event.get("type")
    return f"event: {name}\n".encode() + data if isinstance(name, str) else data


def encoded(pieces: Iterable[Piece]) -> Iterator[bytes | Pause | Gate]:
    """A list body, piece by piece."""
    for piece in pieces:
        if isinstance(piece, str):
            yield piece.encode()
        elif isinstance(piece, bytes | Pause | Gate):
            yield piece
        elif isinstance(piece, Mapping):
            yield sse(piece)
        else:
            raise TypeError(f"A body consists of bytes, str, mappings, Pause and Gate, not of {type(piece).__name__}.")


def writes(pieces: Iterable[bytes | Pause | Gate], reply: Reply) -> Iterator[bytes | Pause | Gate | End]:
    r"""Return the steps that send `pieces` the way `reply` says, in order.

    >>> list(writes([b"one", b"two", b"three"], Reply(cut_at=5)))
    [b'one', b'tw', <End.CUT: 'closed without the terminal chunk'>]
    >>> list(writes([b"one", b"two", b"three"], Reply(chunk_size=4)))
    [b'onet', b'woth', b'ree']
    >>> list(writes([b"one", b"two", b"three"], Reply(events_per_write=2, pause=1)))
    [b'onetwo', Pause(seconds=1), b'three']
    """
    end = End.RESET if reply.reset_at is not None else End.CUT
    left = reply.reset_at if reply.reset_at is not None else reply.cut_at
    written = False
    for step in _grouped(_held(pieces, reply), reply):
        if not isinstance(step, bytes):
            yield step
            continue
        if left == "head" or left == 0:
            break
        if written and reply.pause:
            yield Pause(reply.pause)
        written = True
        if left is None:
            yield step
        else:
            yield step[:left]
            left = max(0, left - len(step))
    if left is not None:
        yield end


def _held(pieces: Iterable[bytes | Pause | Gate], reply: Reply) -> Iterator[bytes | Pause | Gate]:
    waits_after = None if reply.hold is None or reply.hold_after == "head" else reply.hold_after
    count = 0
    for piece in pieces:
        if count == waits_after and reply.hold is not None:
            yield reply.hold
            waits_after = None
        yield piece
        count += isinstance(piece, bytes)
    if waits_after is not None and reply.hold is not None:
        yield reply.hold


def _grouped(pieces: Iterable[bytes | Pause | Gate], reply: Reply) -> Iterator[bytes | Pause | Gate]:
    """The bytes in the sizes they are written in; what is no bytes ends a write."""
    size, events = reply.chunk_size, reply.events_per_write
    pending, count = bytearray(), 0
    for piece in pieces:
        if isinstance(piece, bytes):
            pending += piece
            count += 1
            if size is None and count >= events and pending:
                yield bytes(pending)
                pending, count = bytearray(), 0
            while size is not None and len(pending) >= size:
                yield bytes(pending[:size])
                del pending[:size]
        else:
            if pending:
                yield bytes(pending)
                pending, count = bytearray(), 0
            yield piece
    if pending:
        yield bytes(pending)


def _require_seconds(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} is in seconds, finite and not negative, not {value!r}.")


def _require_count(name: str, value: object, *, at_least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"{name} is a whole number from {at_least}, not {value!r}.")
