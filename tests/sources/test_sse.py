"""The event-stream decoder against the standard (WHATWG HTML, section 9.2.6), and against input cut anywhere."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxauth.sources._sse import EventStreamDecoder, EventTooLargeError

Seen = list[tuple[str, str]]


def decoded(chunks: Iterable[bytes], limit: int = 2**20) -> Seen:
    """The events; the last is an exception where the limit is met."""
    seen: Seen = []

    def on_event(name: bytes, data: bytes) -> None:
        seen.append((name.decode("utf-8", "replace"), data.decode("utf-8", "replace")))

    decoder = EventStreamDecoder(on_event, max_event_bytes=limit)
    try:
        for chunk in chunks:
            decoder.feed(chunk)
    except EventTooLargeError as error:
        seen.append(("too large", str(error)))
    return seen


def cut(stream: bytes, places: Iterable[int]) -> Iterable[bytes]:
    ends = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    return (stream[start:end] for start, end in pairwise(ends))


def plainly(stream: bytes) -> Seen:
    """Run the algorithm of the standard as it is written there, on the whole text."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines.pop()  # not ended by a line end: never a line
    seen: Seen = []
    data, name = "", ""
    for line in lines:
        if line == "":
            if data != "":
                seen.append((name, data.removesuffix("\n")))
            data, name = "", ""
        elif line.startswith(":"):
            continue
        else:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data += value + "\n"
    return seen


# fmt: off
@pytest.mark.parametrize(("stream", "events"), [
    pytest.param(b"event: a\r\ndata: 1\r\ndata: 2\r\n\r\n", [("a", "1\n2")], id="a CRLF is one, wherever it is cut"),
    pytest.param(b"data: one\r\r", [("", "one")], id="a CR ends a line"),
    pytest.param(b"data: one\r\n\ndata: two\r\r\n", [("", "one"), ("", "two")], id="CR and LF are one only in CRLF"),
    pytest.param(b"\xef\xbb\xbfdata: one\n\n", [("", "one")], id="one byte order mark at the start is skipped"),
    pytest.param(b"\xef\xbb\xbf\xef\xbb\xbfdata: one\n\n", [], id="a second one is a part of the field's name"),
    pytest.param(b"data: one\n\n\xef\xbb\xbfdata: two\n\n", [("", "one")], id="one later on is not skipped"),
    pytest.param(b"\xef\xbbdata: one\n\n", [], id="half a byte order mark is damage"),
    pytest.param(b":\n: comment\n\ndata: one\n\n", [("", "one")], id="a line that starts with a colon is a comment"),
    pytest.param(b"data: one\ndata: two\n\n", [("", "one\ntwo")], id="data lines are joined by line feeds"),
    pytest.param(b"data\n\n", [("", "")], id="a field without a colon has an empty value, and dispatches"),
    pytest.param(b"data\ndata:\n\n", [("", "\n")], id="two empty data lines are one line feed"),
    pytest.param(b"data:one\n\n", [("", "one")], id="the space behind the colon is optional"),
    pytest.param(b"data:  one\n\n", [("", " one")], id="only one space is taken away"),
    pytest.param(b"data:\ta: b\n\n", [("", "\ta: b")], id="only the first colon divides, and a tab is no space"),
    pytest.param(b"event: a\n\ndata: one\n\n", [("", "one")], id="without data the name is forgotten"),
    pytest.param(b"event: a\nevent:b\ndata: one\n\ndata: two\n\n", [("b", "one"), ("", "two")],
                 id="the last name counts, for one event"),
    pytest.param(b"data: one\nevent: a\n\n", [("a", "one")], id="the order of the fields does not matter"),
    pytest.param(b"unknown: x\ndata: one\nDATA: two\n data: three\n\n", [("", "one")], id="unknown fields are ignored"),
    pytest.param(b"\n\n\ndata: one\n\n\n\n", [("", "one")], id="empty lines in excess do nothing"),
    pytest.param(b"data: one\n", [], id="an event that is not ended is dropped"),
    pytest.param(b"data: \xff\xc3\x28\xe2\x82\n\n", [("", "\ufffd\ufffd(\ufffd")], id="invalid UTF-8 is replaced"),
    pytest.param("data: a\u2028b\u0085c\x0bd\0\n\n".encode(), [("", "a\u2028b\u0085c\x0bd\0")],
                 id="other line breaks are text"),
])
def test_a_stream_cut_anywhere_gives_the_standards_events(stream: bytes, events: Seen) -> None:
    assert plainly(stream) == decoded([stream]) == decoded(cut(stream, range(len(stream)))) == events
    for place in range(len(stream) + 1):
        assert decoded(cut(stream, [place])) == events
# fmt: on


pieces = st.sampled_from(
    [
        *(b"\r", b"\n", b"\r\n", b"\n\n", b":", b" ", b"data", b"data:", b"data: ", b"event: ", b"id: 1", b"retry: 5"),
        *(b"event: e\ndata: d\n\n", b"data: d\n\n", b"event: e\n", b"data: d\n", b": comment\n\n"),
        *(b"x", b"\xef", b"\xbb", b"\xbf", b"\xef\xbb\xbf", b"\xe2\x82\xac", b"\xf0\x9f", b"\0", "\u2028".encode()),
    ]
)
streams = st.lists(pieces | st.binary(max_size=3), max_size=60).map(b"".join)
places = st.lists(st.integers(0, 200), max_size=12)


@settings(deadline=None)
@given(streams, places)
def test_any_bytes_are_read_as_the_standard_reads_them(stream: bytes, places: list[int]) -> None:
    assert decoded(cut(stream, places)) == plainly(stream)


@settings(deadline=None)
@given(streams, st.integers(1, 40), places)
def test_the_limit_is_met_at_the_same_event_anywhere_cut(stream: bytes, limit: int, places: list[int]) -> None:
    assert decoded(cut(stream, places), limit) == decoded([stream], limit)


def test_an_event_comes_inside_the_feed_that_completes_it() -> None:
    seen: list[bytes] = []
    decoder = EventStreamDecoder(lambda name, data: seen.append(data), max_event_bytes=99)
    decoder.feed(b"data: one\r\n\r")  # the CR ends the line, whether or not an LF follows
    assert seen == [b"one"]


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"data: " + b"x" * 100, id="a line without an end"),
        pytest.param(b"data: " + b"x" * 100 + b"\n\n", id="a line"),
        pytest.param(b"data: xxxx\n" * 10 + b"\n", id="data lines together"),
        pytest.param(b"data\n" * 25, id="empty data lines together"),
        pytest.param(b":" + b"x" * 100, id="a comment without an end"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_more_than_the_limit_is_refused(stream: bytes, size: int) -> None:
    assert decoded(cut(stream, range(0, 200, size)), limit=99) == [("too large", "An event is larger than 99 bytes.")]


def test_comments_and_events_never_reach_the_limit() -> None:
    assert decoded([(b": ping\n" * 20 + b"data: x\n\n") * 20], limit=99) == [("", "x")] * 20


def test_one_long_line_is_held_once() -> None:
    size, held = 8 * 2**20, []
    decoder = EventStreamDecoder(lambda _, data: held.append(len(data)), max_event_bytes=2 * size)
    decoder.feed(b"data: ")
    tracemalloc.start()
    try:
        for _ in range(size // 2**16):
            decoder.feed(b"x" * 2**16)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    decoder.feed(b"\n\n")
    assert held == [size]
    assert peak < 2.2 * size
