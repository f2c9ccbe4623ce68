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
from rxauth.marbles._signs import cells
from rxauth.recovery import AuthRejected, Refreshed, RefreshRetryScheduled
from tests.marbles.streams import DIAGRAMS, DONE, REJECTED, SECRET, TIMES, deltas, picture, ticks

_OVERLOADED = MappingProxyType({"type": "error", "error": MappingProxyType({"type": "overloaded_error"})})
_RECOVERY = (AuthRejected("authentication_error", 401), RefreshRetryScheduled(1, 0.5), Refreshed())

PICTURES = {
    "a row lasts as its stream, and a failure is its type and status": (
        [
            ticks("in-band", (0, Start()), (3, REJECTED), completed=3),
            Timeline("thrown", (Mark(0, "subscribed"), Mark(3, "error", NeverLiveError((), REJECTED))), "ticks"),
            Timeline("a mapping", (Mark(2, "subscribed"), Mark(4, "next", _OVERLOADED), Mark(4, "disposed")), "ticks"),
            Timeline("recovery", tuple(Mark(2 * at, "mark", event) for at, event in enumerate(_RECOVERY)), "ticks"),
            ticks("open", (1, "a"), open_until=6),
        ],
        f"""
        in-band    s─────────────────(e|)
                                      ╰ CredentialRejected 401
        thrown     ──────────────────#
                                     ╰ NeverLiveError (CredentialRejected 401)
        a mapping              ────────────(e!)
                                            ╰ overloaded_error
        recovery   ●           ●           ●
                   │           │           ╰ Refreshed
                   │           ╰ RefreshRetryScheduled in 0.5 s
                   ╰ AuthRejected 401
        open       ──────a{"─" * 61}▸
        ticks      0           2           4           6

        s start   e error event   # on_error   | completed   ! unsubscribed
        ( ) at one moment   ▸ still open
        """,
    ),
    "words are quoted under the last row that has them, messages apart": (
        [
            ticks("source", (1, TextDelta(0, "one")), completed=2),
            ticks(
                "two messages of one row",
                *[(0, Start()), (1, TextDelta(0, "one")), (6, Start()), (7, TextDelta(0, "two")), (8, DONE)],
                completed=8,
            ).with_note("the phantom", at=0),
        ],
        """
        source               ──────t─────|
        two messages of one  s─────t─────────────────────────────s─────t─────(d|)
        row                  │     ╰ "one"                             ╰ "two"
                             ╰ the phantom
        ticks                0           2           4           6           8

        s start   d done   t text_delta   | completed   ( ) at one moment
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
    "notes without room to the right hang to the left": (
        [Timeline.of_marks("server", [(at, f"GET /rather/long/path/{at} 200") for at in (0, 1, 8, 11)], unit="ticks")],
        """
        server  ●     ●                                         ●                 ●
                │     ╰ GET /rather/long/path/1 200  GET /rather/long/path/11 200 ╯
                │                   GET /rather/long/path/8 200 ╯
                ╰ GET /rather/long/path/0 200
        """,
    ),
}


def drawn(*rows: Timeline, width: int = 80) -> list[str]:
    return Diagram(*rows).text(width).splitlines()


@pytest.mark.parametrize(("rows", "expected"), PICTURES.values(), ids=PICTURES)
def test_text_shows_each_kind_of_mark(rows: list[Timeline], expected: str) -> None:
    lines = picture(expected)
    assert drawn(*rows)[: len(lines)] == lines


def test_a_long_run_is_folded_and_its_length_shown() -> None:
    row = ticks("stream", (0.0, Start()), *deltas(500, 0.5, 0.01), (5.6, DONE), completed=5.6, unit="s")
    lines = drawn(row, width=60)
    assert re.fullmatch(r"stream  s─+t×500═+─*\(d\|\)", lines[0])
    assert "×9 9 in a row   ══ goes on" in lines[-1]


@pytest.mark.parametrize("width", [40, 80])
def test_a_crowded_row_is_counted_and_others_keep_time(width: int) -> None:
    mixed = [(1 + at * 0.01, TextDelta(0, "x") if at % 50 else {"type": "ping"}) for at in range(2000)]
    busy = ticks("busy", (0.0, Start()), *mixed, (22.0, DONE), completed=22.0, unit="s")
    late = ticks("late", (10.0, "a"), completed=22.0, unit="s")
    lines = drawn(busy, late, width=width)
    assert re.fullmatch(r"busy +\(s.*…×\d+….*d\|\)═*", lines[0])
    late_line, axis = (next(line for line in lines if line.startswith(label)) for label in ("late", "s "))
    assert abs(late_line.index("a", 6) - axis.index("10")) <= 1
    assert "s start   d done   t text_delta" in "\n".join(lines)


def test_signs_at_one_moment_push_later_ones_of_all_rows() -> None:
    group = ticks("row", *[(0, letter) for letter in "abcdef"], (1, "g"))
    first, second = drawn(group, ticks("late", (2, "h"), (5, "i")), width=24)[:2]
    assert first.index("g") < second.index("h")
    assert "(c×20 7)" in drawn(ticks("row", *[(0, "c")] * 20, (0, "7")), width=24)[0], "not c×207"


def test_many_different_values_are_named_by_their_type() -> None:
    lines = drawn(ticks("row", *((at, at * 1000) for at in range(30)), completed=30))
    assert "i int" in lines[-1]
    assert "1000" not in "\n".join(lines)


def test_start_error_and_done_keep_their_letters() -> None:
    row = ticks("row", (0, {"type": "session"}), (1, {"type": "end"}), (2, {"type": "delta"}), completed=3)
    assert not {"s", "e", "d"} & set(drawn(row)[0].removeprefix("row"))


@pytest.mark.parametrize("value", [10**5000, float("inf"), 2.5, b"x", ("a",)], ids=lambda value: type(value).__name__)
def test_any_value_has_a_name(value: Any) -> None:
    assert drawn(ticks("row", (0, value), completed=1))


@pytest.mark.parametrize(("span", "unit"), [(30.0, "s"), (0.3, "ms"), (0.0003, "µs"), (0.0, "s")])
def test_the_axis_counts_from_the_first_mark_in_its_unit(span: float, unit: str) -> None:
    axis = drawn(Timeline("row", (Mark(200, "next", "a"), Mark(200 + span, "next", "b"))))[1].split()
    assert axis[:2] == [unit, "0"]
    assert not span or "100" in axis or "10" in axis


def test_colour_and_ascii_change_no_meaning() -> None:
    row = ticks("stream ü", (0.0, Start()), *deltas(99, 0.5, 0.01), (1.9, REJECTED), completed=2.0)
    diagram = Diagram(row, Timeline.of_marks("server", [(0, "POST")], unit="ticks"), title="→")
    coloured = diagram.text(color=True)
    assert "\x1b[1;31me\x1b[0m" in coloured
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == diagram.text()
    ascii_only = diagram.text(ascii_only=True)
    assert ascii_only.isascii()
    assert "t*99=" in ascii_only


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\nb", "a\u202eb", "a\ud800b"], ids=ascii)
def test_no_text_moves_the_cursor(text: str) -> None:
    row = ticks(text, (0, TextDelta(0, text)), (1, text), (2, {"type": text}), completed=3).with_note(text, at=0)
    drawing = Diagram(row, Timeline.of_marks("marks", [(0, text)], unit="ticks"), title=text).text()
    assert not set(drawing) & set("\x1b\u202e\ud800")
    assert "a\nb" not in drawing


def test_a_character_takes_the_columns_of_a_terminal() -> None:
    wide, combined, plain = drawn(*(ticks(name, (0, "a"), (5, "b")) for name in ("你好", "abce\u0301", "abcd")))[:3]
    assert wide.removeprefix("你好") == combined.removeprefix("abce\u0301") == plain.removeprefix("abcd")


def test_no_secret_is_drawn() -> None:
    exception = RuntimeError(SECRET)
    said = AssistantMessage(content=(Text(SECRET),), error_message=SECRET)
    elements = [
        *(Start(said), TextDelta(0, "harmless"), ThinkingDelta(0, SECRET), ToolCallDelta(0, SECRET)),
        *(TextEnd(0, SECRET), Done("stop", said), Error("error", said, exception), exception),
        *({"access_token": SECRET}, {"type": "error", "error": {"type": SECRET, "message": SECRET}, "message": SECRET}),
        *([SECRET], SECRET.encode(), SECRET, f"Bearer {SECRET}"),
        {"type": "error", "error": {"type": "q" * 41}},
    ]
    marks = [Mark(at, "next", value) for at, value in enumerate(elements)]
    row = Timeline("row", (*marks, Mark(20, "error", NeverLiveError((), exception))), "ticks")
    beside = Timeline("marks", (Mark(1, "mark", exception), Mark(2, "mark", {"token": SECRET})), "ticks")
    for width in (40, 80, 200):
        assert not re.search(SECRET[:9] + "|qqq", Diagram(row, beside).text(width))
        assert not re.search(SECRET[:9] + "|qqq", Diagram(row, beside).svg(width * 8))


def test_rows_of_two_clocks_are_refused() -> None:
    with pytest.raises(ValueError, match="share one clock"):
        Diagram(ticks("a"), ticks("b", unit="s"))


def test_a_diagram_without_marks_is_drawn() -> None:
    assert Diagram().text() == ""
    assert Diagram(Timeline("nothing")).text() == "nothing"
    diagram = Diagram(ticks("row", (0, "a"), completed=1))
    assert str(diagram) == repr(diagram) == diagram.text(80)
    assert diagram.text(0) == diagram.text(24)


@given(DIAGRAMS, st.integers(24, 130), st.booleans())
def test_no_line_is_wider_than_asked(diagram: Diagram, width: int, ascii_only: bool) -> None:
    text = diagram.text(width, ascii_only=ascii_only)
    assert max(map(cells, text.splitlines()), default=0) <= width
    assert text == diagram.text(width, ascii_only=ascii_only)


RUNS = [(0.001 * (9 * run + at), "abc7"[run % 4]) for run in range(40) for at in range(7)]


@given(st.lists(st.tuples(TIMES, st.sampled_from("abc7")), max_size=300), st.booleans(), st.integers(30, 100))
@example(RUNS, True, 30)
@example([(0.0, "a"), (5e-324, "b")], True, 30)
@example([(float(at), "a") for at in range(25)], False, 30)
def test_every_element_is_drawn_or_counted_in_order(
    elements: list[tuple[float, str]], completed: bool, width: int
) -> None:
    row = ticks("row", *elements, completed=1001.0 if completed else None, unit="s")
    drawing = drawn(row, width=width)[0].removeprefix("row").strip()
    assert drawing.endswith("▸") != completed
    letters = iter([mark.value or "|" for mark in row.notifications])
    for folded, letter, run in re.findall(r"…×(\d+)…|([abc7|])(?:×(\d+))?", drawing):
        shown = [next(letters, "") for _ in range(int(folded or run or 1))]
        assert folded or set(shown) == {letter}
    assert next(letters, None) is None
