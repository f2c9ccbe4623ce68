"""Script one response of the fake provider: values, no I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from rxauth.events import DoneReason
from rxauth.testing._gate import Gate
from rxauth.testing._requests import SeenRequest
from rxauth.testing._shapes import ErrorShape, Numbering
from rxauth.testing._wires import Answer


@dataclass(frozen=True)
class Pause:
    """A piece of a body that is no bytes: seconds on the server's event loop's clock.

    >>> Pause(0.5)
    Pause(seconds=0.5)
    """

    seconds: float

    def __post_init__(self) -> None:
        _require_seconds("a pause", self.seconds)


Step: TypeAlias = bytes | Pause | Gate
Piece: TypeAlias = Step | str | Mapping[str, Any]
Body: TypeAlias = bytes | str | Mapping[str, Any] | Sequence[Piece]
Point: TypeAlias = int | Literal["head"]


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
        if any(char in text for text in (*self.headers, *self.headers.values()) for char in "\r\n\0"):
            raise ValueError("Header names and values are text on one line.")
        _require_seconds("delay", self.delay)
        _require_seconds("pause", self.pause)
        for name in ("hold_after", "cut_at", "reset_at", "error_after", "chunk_size", "events_per_write"):
            if (count := getattr(self, name)) not in (None, "head"):
                _require_count(name, count, at_least=int(name in ("chunk_size", "events_per_write")))
        for name, form in (("stop", DoneReason), ("shape", ErrorShape), ("numbering", Numbering)):
            if getattr(self, name) not in (None, *get_args(form)):
                raise ValueError(f"{name} is one of {', '.join(get_args(form))}, not {getattr(self, name)!r}.")
        answered = self.answer is not None or self.stop is not None
        for nonsense, sentence in (
            (self.cut_at is not None and self.reset_at is not None, "A connection ends once: cut_at or reset_at."),
            (self.chunk_size is not None and self.events_per_write != 1, "A write is so many bytes or so many events."),
            (self.body is not None and (answered or self.error is not None), "A body takes no answer, stop or error."),
            (not self.answers and answered, f"No answer comes with status {self.status}."),
            (not self.answers and self.error_after is not None, "Only an answer has an error in-band: status 2xx."),
            (self.error_after is not None and self.error is None, "error_after needs an error."),
            (self.stop is not None and self.error is not None, "An answer that breaks off has no stop reason."),
            (self.shape is not None and self.error is None and self.answers, "A shape needs an error."),
            (self.hold is None and self.hold_after != "head", "hold_after needs a Gate to hold at."),
        ):
            if nonsense:
                raise ValueError(sentence)
        # A caller's list or dict that changes later must not change a reply that is already scripted.
        object.__setattr__(self, "headers", dict(self.headers))
        for name in ("body", "answer"):
            if isinstance(value := getattr(self, name), Sequence) and not isinstance(value, bytes | str):
                object.__setattr__(self, name, tuple(value))

    def __repr__(self) -> str:
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        usual = {each.name: each.default for each in fields(self)} | {"headers": {}}
        # A scripted body may be a token response.
        shown = {name: "..." if name == "body" else repr(value) for name, value in given.items()}
        return f"Reply({', '.join(f'{name}={shown[name]}' for name in given if given[name] != usual[name])})"

    @property
    def answers(self) -> bool:
        """Whether it has a success status."""
        return self.status < 300

    @classmethod
    def unauthorized(cls, error: str = "authentication_error", **rest: Any) -> Reply:
        """Refuse the token: 401.

        >>> Reply.unauthorized()
        Reply(status=401, error='authentication_error')
        """
        return cls(status=401, error=error, **rest)

    @classmethod
    def in_band_error(cls, error: str = "authentication_error", after: int | None = None, **rest: Any) -> Reply:
        """Send 200, `after` events of the answer, and an error event. After 0 events: the error alone.

        >>> Reply.in_band_error("authentication_error", after=0)
        Reply(error='authentication_error', error_after=0)
        """
        return cls(error=error, error_after=after, **rest)

    @classmethod
    def rate_limited(cls, retry_after: float | str | None = None, **rest: Any) -> Reply:
        """Send 429, with `Retry-After` if given: seconds, or an HTTP date (RFC 9110 section 10.2.3).

        >>> Reply.rate_limited(retry_after=2)
        Reply(status=429, headers={'Retry-After': '2'})
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return cls(status=429, headers=headers | rest.pop("headers", {}), **rest)

    @classmethod
    def redirect(cls, location: str, status: int = 307, **rest: Any) -> Reply:
        """Redirect to `location`."""
        return cls(status=status, headers={"Location": location} | rest.pop("headers", {}), **rest)

    @classmethod
    def html(cls, text: str = "<!doctype html><title>Sign in</title>", status: int = 200, **rest: Any) -> Reply:
        """Send a web page where an API should be: a proxy's sign-in page, or the wrong base URL."""
        headers = {"Content-Type": "text/html; charset=utf-8"} | rest.pop("headers", {})
        return cls(status=status, headers=headers, body=text, **rest)

    @classmethod
    def cut(cls, at: Point = "head", **rest: Any) -> Reply:
        """Close the connection after `at` bytes of the body."""
        return cls(cut_at=at, **rest)

    @classmethod
    def reset(cls, at: Point = "head", **rest: Any) -> Reply:
        """Reset the connection after `at` bytes of the body."""
        return cls(reset_at=at, **rest)

    @classmethod
    def hang(cls, gate: Gate | None = None, after: Point = "head", **rest: Any) -> Reply:
        """Send nothing after `after` events, until `gate` is opened; without one, until the client leaves."""
        return cls(hold=gate or Gate(), hold_after=after, **rest)


def _require_seconds(name: str, value: object) -> None:
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{name} is in seconds, finite and not negative, not {value!r}.")


def _require_count(name: str, value: object, *, at_least: int) -> None:
    if not isinstance(value, int) or value < at_least:
        raise ValueError(f"{name} is a whole number from {at_least}, not {value!r}.")
