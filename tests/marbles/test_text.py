"""A picture in characters shows what happened, at any width, and never a secret."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rxauth.errors import NeverLiveError
from rxauth.events import AssistantMessage, Done, Error, Start, Text, TextDelta, TextEnd, ThinkingDelta, ToolCallDelta
from rxauth.marbles import Diagram, Mark, Timeline
from rxauth.marbles._page import _shorten as shorten
from rxauth.marbles._page import _wrap as wrap
from rxauth.marbles._signs import cells
from rxauth.recovery import AuthRejected, Refreshed, RefreshRetryScheduled
from tests.marbles.streams import DIAGRAMS, DONE, REJECTED, SECRET, TIMES, deltas, drawn, lived, picture, ticks

_OVERLOADED = MappingProxyType({"type": "error", "error": MappingProxyType({"type": "overloaded_error"})})
_REQUESTS = [(0, "POST /v1/messages 401"), (2, "POST /oauth/token 200"), (4, "POST /v1/messages 200")]
_RECOVERY = (AuthRejected("authentication_error", 401), RefreshRetryScheduled(1, 0.5), Refreshed())

PICTURES = {
    "a tick is a column, and the legend names the signs": (
        [ticks("stream", (0, Start()), (4, TextDelta(0, "Hi")), (5, DONE), completed=5)],
        """
        stream  s───────────────────────t─────(d|)
                                        ╰ "Hi"
        ticks   0     1     2     3     4     5

        s start   d done   t text_delta   | completed   ( ) at one moment
        """,
    ),
    "a failure is its type and status": (
        [
            ticks("in-band", (0, Start()), (3, REJECTED), completed=3),
            Timeline("thrown", (Mark(0, "subscribed"), Mark(3, "error", NeverLiveError((), REJECTED))), "ticks"),
            Timeline("a mapping", (Mark(0, "subscribed"), Mark(3, "next", _OVERLOADED), Mark(3, "disposed")), "ticks"),
        ],
        """
        in-band    s─────────────────(e|)
                                      ╰ CredentialRejected 401
        thrown     ──────────────────#
                                     ╰ NeverLiveError (CredentialRejected 401)
        a mapping  ──────────────────(e!)
                                      ╰ overloaded_error
        """,
    ),
    "a row lasts from its subscription to its disposal": (
        [
            ticks("whole", completed=6),
            Timeline("late", (Mark(2, "subscribed"), Mark(4, "next", "a"), Mark(5, "disposed")), "ticks"),
        ],
        """
        whole  ────────────────────────────────────|
        late               ────────────a─────!
        """,
    ),
    "marks beside the stream have their texts": (
        [Timeline.of_marks("server", _REQUESTS, unit="ticks")],
        """
        server  ●           ●           ●
                │           │           ╰ POST /v1/messages 200
                │           ╰ POST /oauth/token 200
                ╰ POST /v1/messages 401
        ticks   0     1     2     3     4
        """,
    ),
    "recovery events have their names": (
        [Timeline("recovery", tuple(Mark(at, "mark", event) for at, event in enumerate(_RECOVERY)), "ticks")],
        """
        recovery  ●     ●     ●
                  │     │     ╰ Refreshed
                  │     ╰ RefreshRetryScheduled in 0.5 s
                  ╰ AuthRejected 401
        """,
    ),
    "a remark hangs from its mark": (
        [ticks("row", (0, Start()), (5, TextDelta(0, "Hi")), completed=6).with_note("the phantom", at=0)],
        """
        row    s─────────────────────────────t─────|
               ╰ the phantom                 ╰ "Hi"
        """,
    ),
    "rows quote the same words once, under the last": (
        [ticks(name, (1, TextDelta(0, "same")), completed=2) for name in ("source", "result")],
        """
        source  ──────t─────|
        result  ──────t─────|
                      ╰ "same"
        """,
    ),
    "two messages of one row are quoted apart": (
        [ticks("row", (0, Start()), (1, TextDelta(0, "one")), (6, Start()), (7, TextDelta(0, "two")), completed=8)],
        """
        row    s─────t─────────────────────────────s─────t─────|
                     ╰ "one"                             ╰ "two"
        """,
    ),
    "letters stand for themselves, other values get one": (
        [ticks("row", *enumerate(["a", 7, {"type": "message_start"}, object(), "hello", None, 12, True]), completed=8)],
        """
        row    a─────7─────m─────o─────h─────n─────b─────t─────|
        ticks  0           2           4           6           8

        m message_start   o object   h 'hello'   n None   b 12   t True   | completed
        """,
    ),
    "a stream that goes on has an arrow": (
        [Timeline("open", (Mark(0, "subscribed"), Mark(1, "next", "a")), "ticks", open_until=3)],
        f"""
        open   ──────a{"─" * 65}▸
        ticks  0     1     2     3

        ▸ still open
        """,
    ),
    "a label without room to the right hangs to the left": (
        [ticks("row", (0, TextDelta(0, "a")), (9, REJECTED), completed=10)],
        f"""
        row    t{"─" * 53}e─────|
               ╰ "a"{" " * 26}CredentialRejected 401 ╯
        """,
    ),
    "a long label is broken, and its row keeps its room": (
        [ticks("a_label_that_is_longer_than_a_third_of_the_width", (0, "a"), completed=1)],
        """
        a_label_that_is_longer_tha  a─────|
        n_a_third_of_the_width
        """,
    ),
}


@pytest.mark.parametrize(("rows", "expected"), PICTURES.values(), ids=PICTURES)
def test_text_shows_each_kind_of_mark(rows: list[Timeline], expected: str) -> None:
    lines = picture(expected)
    assert drawn(Diagram(*rows))[: len(lines)] == lines


def test_notes_without_room_to_the_right_hang_to_the_left() -> None:
    row = Timeline.of_marks("server", [(at, f"GET /a/rather/long/path/{at} 200") for at in range(8)], unit="ticks")
    assert drawn(Diagram(row), 60) == picture(
        """
        server  ●     ●     ●     ●     ●     ●     ●     ●
                │     │     GET /a/rather/long/path/7 200 ╯
                │     GET /a/rather/long/path/6 200 ╯
                GET /a/rather/long/path/5 200 ╯
                │     │     │     │    GET /a/rather/long/path/4 200
                │     │     │     ╰ GET /a/rather/long/path/3 200
                │     │     ╰ GET /a/rather/long/path/2 200
                │     ╰ GET /a/rather/long/path/1 200
                ╰ GET /a/rather/long/path/0 200
        ticks   0           2           4           6
        """
    )


def test_a_long_run_is_folded_and_its_length_shown() -> None:
    row = lived("stream", (0.0, Start()), *deltas(500, 0.5, 0.01), (5.6, DONE), completed=5.6)
    lines = drawn(Diagram(row), 60)
    assert re.fullmatch(r"stream  s─+t×500═+─*\(d\|\)", lines[0])
    assert "×9 9 in a row   ══ goes on" in lines[-1]


@pytest.mark.parametrize("width", [40, 80])
def test_a_folded_group_shows_its_begin_and_its_end(width: int) -> None:
    mixed = [(1 + at * 0.01, TextDelta(0, "x") if at % 50 else {"type": "ping"}) for at in range(2000)]
    drawing = Diagram(lived("stream", (0.0, Start()), *mixed, (22.0, DONE), completed=22.0)).text(width)
    assert re.match(r"stream  \(s.*…×\d+….*d\|\)═*\n", drawing)
    assert "s start   d done" in drawing
    assert "( ) close together" in drawing


def test_a_sign_keeps_its_time_where_other_rows_are_folded() -> None:
    busy = lived("busy", *((number * 0.01, "abc7"[number % 4]) for number in range(1000)), completed=10.0)
    lines = drawn(Diagram(busy, lived("late", (2.0, Start()), completed=10.0)))
    axis = next(line for line in lines if line.startswith("s  "))
    assert abs(lines[1].index("s", 6) - axis.index("2")) <= 1


def test_many_different_values_are_named_by_their_type() -> None:
    lines = drawn(Diagram(ticks("row", *((at, at * 1000) for at in range(30)), completed=30)))
    assert "i int" in lines[-1]
    assert "1000" not in "\n".join(lines)


def test_start_error_and_done_keep_their_letters() -> None:
    row = ticks("row", (0, {"type": "session"}), (1, {"type": "end"}), (2, {"type": "delta"}), completed=3)
    assert not {"s", "e", "d"} & set(drawn(Diagram(row))[0].removeprefix("row"))


@pytest.mark.parametrize("value", [10**5000, float("inf"), 2.5, b"x", ("a",)], ids=lambda value: type(value).__name__)
def test_any_value_has_a_name(value: Any) -> None:
    assert Diagram(ticks("row", (0, value), completed=1)).text()


@pytest.mark.parametrize(("span", "unit"), [(30.0, "s"), (0.3, "ms"), (0.0003, "µs"), (0.0, "s")])
def test_the_axis_has_a_unit_that_fits(span: float, unit: str) -> None:
    axis = drawn(Diagram(lived("row", (0.0, "a"), (span, "b"))))[1].split()
    assert axis[:2] == [unit, "0"]
    assert not span or "100" in axis or "10" in axis


def test_times_count_from_the_first_mark() -> None:
    early, late = (Timeline("row", (Mark(at, "subscribed"), Mark(at + 3, "completed")), "ticks") for at in (0, 200))
    assert Diagram(early).text() == Diagram(late).text()


def test_colour_changes_no_character() -> None:
    diagram = Diagram(ticks("row", (0, Start()), (3, REJECTED), completed=4), title="title")
    coloured = diagram.text(color=True)
    assert "\x1b[1;31me\x1b[0m" in coloured
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == diagram.text()


def test_a_picture_can_be_drawn_in_ascii() -> None:
    row = lived("stream ü", (0.0, Start()), *deltas(99, 0.5, 0.01), completed=2.0)
    text = Diagram(row, Timeline.of_marks("server", [(0, "POST")]), title="→").text(ascii_only=True)
    assert text.isascii()
    assert "t*99=" in text


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\nb", "a\u202eb", "a\ud800b"], ids=ascii)
def test_no_text_moves_the_cursor(text: str) -> None:
    row = ticks(text, (0, TextDelta(0, text)), (1, text), (2, {"type": text}), completed=3).with_note(text, at=0)
    drawing = Diagram(row, Timeline.of_marks("marks", [(0, text)], unit="ticks"), title=text).text()
    assert not set(drawing) & set("\x1b\u202e\ud800")
    assert "a\nb" not in drawing


def test_wide_characters_take_two_columns() -> None:
    first, second = drawn(Diagram(*(ticks(name, (0, "a"), (5, "b")) for name in ("你好", "abcd"))))[:2]
    assert first.removeprefix("你好") == second.removeprefix("abcd")
    assert shorten("你好世界", 5) == "你好…"
    assert wrap("a retry, attempt 2", 12) == ["a retry,", "attempt 2"]


def test_no_secret_is_drawn() -> None:
    exception = RuntimeError(SECRET)
    said = AssistantMessage(content=(Text(SECRET),), error_message=SECRET)
    elements = [
        *(Start(said), TextDelta(0, "harmless"), ThinkingDelta(0, SECRET), ToolCallDelta(0, SECRET)),
        *(TextEnd(0, SECRET), Done("stop", said), Error("error", said, exception), exception),
        *({"access_token": SECRET}, {"type": "error", "error": {"type": SECRET, "message": SECRET}, "message": SECRET}),
        *([SECRET], SECRET.encode(), SECRET, f"Bearer {SECRET}"),
    ]
    marks = [Mark(at, "next", value) for at, value in enumerate(elements)]
    row = Timeline("row", (*marks, Mark(20, "error", NeverLiveError((), exception))), "ticks")
    beside = Timeline("marks", (Mark(1, "mark", exception), Mark(2, "mark", {"token": SECRET})), "ticks")
    for width in (40, 80, 200):
        assert SECRET[:9] not in Diagram(row, beside).text(width)
        assert SECRET[:9] not in Diagram(row, beside).svg(width * 8)


def test_rows_of_two_clocks_are_refused() -> None:
    with pytest.raises(ValueError, match="share one clock"):
        Diagram(ticks("a"), lived("b"))


def test_a_diagram_without_marks_is_drawn() -> None:
    assert Diagram().text() == ""
    assert Diagram(Timeline("nothing")).text() == "nothing"
    diagram = Diagram(ticks("row", (0, "a"), completed=1))
    assert str(diagram) == repr(diagram) == diagram.text(80)
    assert diagram.text(0) == diagram.text(24)


@given(DIAGRAMS, st.integers(24, 130), st.booleans())
def test_no_line_is_wider_than_asked(diagram: Diagram, width: int, ascii_only: bool) -> None:
    lines = diagram.text(width, ascii_only=ascii_only).splitlines()
    assert max(map(cells, lines), default=0) <= width
    assert lines == diagram.text(width, ascii_only=ascii_only).splitlines()


RUNS = [(0.001 * (9 * run + at), "abc7"[run % 4]) for run in range(40) for at in range(7)]


@given(st.lists(st.tuples(TIMES, st.sampled_from("abc7")), max_size=300), st.booleans(), st.integers(30, 100))
@example(RUNS, True, 30)
@example([(0.0, "a"), (5e-324, "b")], True, 30)
@example([(float(at), "a") for at in range(25)], False, 30)
def test_every_element_is_drawn_or_counted_in_order(
    elements: list[tuple[float, str]], completed: bool, width: int
) -> None:
    row = lived("row", *elements, completed=1001.0 if completed else None)
    drawing = drawn(Diagram(row), width)[0].removeprefix("row").strip()
    assert drawing.endswith("▸") != completed
    letters = iter([mark.value or "|" for mark in row.notifications])
    for folded, letter, run in re.findall(r"…×(\d+)…|([abc7|])(?:×(\d+))?", drawing):
        shown = [next(letters, "") for _ in range(int(folded or run or 1))]
        assert folded or set(shown) == {letter}
    assert next(letters, None) is None
