"""What the event stream decoder costs a byte."""

from __future__ import annotations

from collections.abc import Generator

from rxauth.sources._sse import EventStreamDecoder

from .contest import Contest, Cost, cpu, row

PIECE = 64 * 2**10


@row("decoder: one line of 8 MB in 64 KiB chunks / the same bytes in 100-byte events", at_most=1.5)
def one_line_over_many_events(scale: int) -> Generator[Contest]:
    size = 8 * 2**20 // scale
    event = b"data: %s\n\n" % (b"x" * 92)
    yield Contest(decoded(b"data: %s\n\n" % (b"x" * (size - 8))), decoded(event * (size // len(event))))


def decoded(stream: bytes) -> Cost:
    pieces = [stream[at : at + PIECE] for at in range(0, len(stream), PIECE)]

    def feed() -> None:
        decoder = EventStreamDecoder(lambda name, data: None, max_event_bytes=16 * 2**20)
        for piece in pieces:
            decoder.feed(piece)

    return cpu(feed)
