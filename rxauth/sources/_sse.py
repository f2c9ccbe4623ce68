"""Decode server-sent events from raw bytes, cut anywhere (WHATWG HTML, section 9.2.6). Pure: no I/O.

An event's data stays bytes. Its reader decodes them and replaces invalid UTF-8, which gives the same text as replacing
it in the whole stream, because no line break is ever part of an invalid sequence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NoReturn

_BOM = b"\xef\xbb\xbf"
_RECONNECTING = (b"id", b"retry")  # fields for a client that connects again; a request with a body cannot
_NAMED = re.compile(rb"^event: (.*)\ndata: (.*)\n\n", re.MULTILINE)
_UNNAMED = re.compile(rb"^data: (.*)\n\n", re.MULTILINE)
_CR, _LF = 0x0D, 0x0A  # looking for an integer in bytes is eight times quicker than for bytes of length one


class EventTooLargeError(Exception):
    """One event, or one line, is larger than the decoder may hold."""


def _ignore(*_: bytes) -> None:
    """Ignore a comment or an unknown field, as the standard does."""


class EventStreamDecoder:
    """Call `on_event(name, data)` for every event, inside the `feed` that completes it.

    Takes time linear in the input and holds at most one event.

    Args:
        on_event: receives the event's name (empty for none) and its data.
        on_line: receives each line that is no field of the standard. The standard ignores such lines; some servers
            write an error there without framing it.
        on_comment: called for each comment.
        max_event_bytes: a larger line, or data lines that are larger together, raise `EventTooLargeError`.

    >>> decoder = EventStreamDecoder(lambda name, data: print(name, data), max_event_bytes=1000)
    >>> decoder.feed(b"event: greeting\\r\\ndata: hel")
    >>> decoder.feed(b"lo\\r\\n\\r\\n")
    b'greeting' b'hello'
    """

    def __init__(
        self,
        on_event: Callable[[bytes, bytes], object],
        *,
        on_line: Callable[[bytes], object] = _ignore,
        on_comment: Callable[[], object] = _ignore,
        max_event_bytes: int,
    ) -> None:
        self.max_event_bytes = max_event_bytes
        self._on_event = on_event
        self._on_line = on_line
        self._on_comment = on_comment
        self._name = b""
        self._data: list[bytes] = []  # the data lines of the event that has begun
        self._room = max_event_bytes  # bytes that the next line may have
        self._partial_line = bytearray()  # an incomplete line, grown in place: joining anew would cost quadratic time
        self._begun = False  # before, a BOM is skipped
        self._after_cr = False

    def feed(self, chunk: bytes) -> None:
        """Decode the next bytes of the stream."""
        if self._after_cr or _CR in chunk:
            chunk = self._with_line_feeds(chunk)
        # The whole events in this chunk, between the rest of one that has begun and the beginning of another.
        end = chunk.rfind(b"\n\n") + 2 if _LF in chunk else 0  # a long line has none
        start = chunk.find(b"\n\n") + 2 if end and (self._data or self._partial_line or self._name) else 0
        if end < 2 or not self._dispatched_at_once(chunk, start, end):
            self._read_lines(chunk)

    def _dispatched_at_once(self, chunk: bytes, start: int, end: int) -> bool:
        """Dispatch events that all have one line of data and a name, or all have none.

        Nearly every chunk is like that; line by line an event costs twice as much. Matches start where lines do, so no
        text is between two matches if they have all the line ends.
        """
        events = chunk[start:end]
        if len(events) > self.max_event_bytes:
            return False
        is_unnamed = events[:6] == b"data: "
        found = (_UNNAMED if is_unnamed else _NAMED).findall(events)
        if events.count(b"\n") != (2 if is_unnamed else 3) * len(found):
            return False
        if start:
            self._read_lines(chunk[:start])
        on_event = self._on_event
        if is_unnamed:
            for data in found:
                on_event(b"", data)
        else:
            for name, data in found:
                on_event(name, data)
        self._begun = True
        if end < len(chunk):
            self._read_lines(chunk[end:])
        return True

    def _read_lines(self, chunk: bytes) -> None:
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines and self._partial_line:
            self._partial_line += lines[0]
            lines[0] = bytes(self._partial_line)
            self._partial_line = bytearray()
        if lines and not self._begun:
            self._begun, lines[0] = True, lines[0].removeprefix(_BOM)
        for line in lines:
            if not line:
                name, data = self._name, self._data
                self._name, self._data, self._room = b"", [], self.max_event_bytes
                if data:
                    self._on_event(name, b"\n".join(data))
                continue
            if len(line) > self._room:
                self._refuse()
            if line.startswith(b"data: "):  # which may be megabytes, and is copied once
                field, value = b"data", line[6:]
            else:
                field, _, value = line.partition(b":")
                value = value.removeprefix(b" ")
            if field == b"data":
                self._data.append(value)
                self._room -= len(line)
            elif field == b"event":
                self._name = value
            elif field == b"":
                self._on_comment()
            elif field not in _RECONNECTING:
                self._on_line(line)
        if rest:
            self._partial_line += rest
            if not self._begun and len(self._partial_line) >= len(_BOM):
                self._begun, self._partial_line = True, self._partial_line.removeprefix(_BOM)
            if len(self._partial_line) > self._room:
                self._refuse()

    def finish(self) -> tuple[bytes, bytes] | None:
        """End the stream, and return the name and data of a last event whose empty line is missing.

        The standard drops such an event; servers that forget the empty line are common.
        """
        if self._partial_line:
            self.feed(b"\n")
        if not self._data:
            return None
        data, self._data = b"\n".join(self._data), []
        return self._name, data

    def _refuse(self) -> NoReturn:
        raise EventTooLargeError(f"An event is larger than {self.max_event_bytes} bytes.")

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        """Return the chunk with a line feed for every line end."""
        if self._after_cr and chunk:
            # The CR at the end of the last chunk has ended its line already: an LF after it must not end another one.
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if _CR in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk
