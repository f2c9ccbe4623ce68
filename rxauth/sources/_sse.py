"""Server-sent events from raw bytes, cut anywhere (WHATWG HTML, section 9.2.6). Pure: no I/O.

What an event carries stays bytes: its reader decodes it (invalid UTF-8 is replaced there, which gives the same text as
replacing it in the whole stream, since no line break is ever part of an invalid sequence).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

_BOM = b"\xef\xbb\xbf"
_CR = 0x0D  # looking for an integer in bytes is eight times quicker than for bytes of length one


class EventTooLargeError(Exception):
    """One event, or one line, is larger than the decoder was told to hold."""


class EventStreamDecoder:
    """Calls `on_event(name, data)` for every event, inside the `feed` that completes it.

    Takes time linear in the input and holds at most one event. An event that the stream ends in the middle of is
    dropped, as the standard says.

    Args:
        on_event: is given the event's name (empty for none) and its data.
        max_event_bytes: a larger line, or data lines that are larger together, are an `EventTooLargeError`.

    >>> decoder = EventStreamDecoder(lambda name, data: print(name, data), max_event_bytes=1000)
    >>> decoder.feed(b"event: greeting\\r\\ndata: hel")
    >>> decoder.feed(b"lo\\r\\n\\r\\n")
    b'greeting' b'hello'
    """

    __slots__ = (
        "_after_cr",
        "_begun",
        "_data",
        "_head",
        "_held",
        "_more",
        "_name",
        "_on_event",
        "_room",
        "_special",
        "last_event_id",
        "max_event_bytes",
        "retry",
    )

    def __init__(self, on_event: Callable[[bytes, bytes], object], *, max_event_bytes: int) -> None:
        self.max_event_bytes = max_event_bytes
        self.last_event_id = b""
        self.retry: int | None = None
        self._on_event = on_event
        self._name = b""
        self._data: bytes | None = None
        self._more: list[bytes] = []  # the data lines behind the first: most events have one
        self._room = max_event_bytes  # what the next line may be long
        self._held = bytearray()  # a line that is not complete: grown in place, or a long one would cost quadratic time
        self._head = b""
        self._begun = False
        self._after_cr = False
        self._special = True  # at the start, and after a CR, the next chunk needs a closer look

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream.

        Raises:
            EventTooLargeError: the stream cannot be read on.
        """
        if self._special or _CR in chunk:
            chunk = self._with_plain_line_ends(chunk)
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines and self._held:
            lines[0] = bytes(self._held + lines[0])
            self._held = bytearray()
        name, data, more, room = self._name, self._data, self._more, self._room
        on_event = self._on_event
        for line in lines:
            if not line:
                if data is not None:
                    if more:
                        data, more = b"\n".join((data, *more)), []
                    on_event(name, data)
                    data, room = None, self.max_event_bytes
                name = b""
            elif len(line) > room:
                self._refuse()
            elif line[:6] == b"data: " and data is None:  # what nearly all lines are; quicker than `startswith`
                data = line[6:]
                room -= len(line)
            elif line[:7] == b"event: ":
                name = line[7:]
            else:
                field, _, value = line.partition(b":")
                value = value.removeprefix(b" ")
                if field == b"data":
                    if data is None:
                        data = value
                    else:
                        more.append(value)
                    room -= len(line)
                elif field == b"event":
                    name = value
                elif field == b"id" and b"\0" not in value:
                    self.last_event_id = value
                elif field == b"retry" and value.isdigit() and len(value) < 16:
                    self.retry = int(value)
        self._name, self._data, self._more, self._room = name, data, more, room
        if rest:
            self._held += rest
            if len(self._held) > room:
                self._refuse()

    def _refuse(self) -> NoReturn:
        raise EventTooLargeError(f"An event is larger than {self.max_event_bytes} bytes.")

    def _with_plain_line_ends(self, chunk: bytes) -> bytes:
        """The chunk with LF for every line end, without the BOM that a stream may start with."""
        if not self._begun:
            chunk = self._head + chunk
            if _BOM.startswith(chunk):
                self._head = chunk
                return b""
            self._begun = True
            chunk = chunk.removeprefix(_BOM)
        if self._after_cr and chunk:
            # The CR has ended its line already; an LF behind it belongs to it, whichever chunk it comes in.
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if _CR in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._special = self._after_cr
        return chunk
