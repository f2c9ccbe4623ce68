"""The picture in characters says what happened, at any width, and never a secret."""

from __future__ import annotations

import re
from textwrap import dedent
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rxauth.errors import NeverLiveError
from rxauth.events import (
    AssistantMessage,
    Done,
    Error,
    Start,
    Text,
    TextDelta,
    TextEnd,
    TextStart,
    ThinkingDelta,
    ToolCallDelta,
)
from rxauth.marbles import Diagram, Mark, Timeline
from rxauth.marbles._signs import cells, shorten, wrap
from rxauth.recovery import AuthRejected, Refreshed, RefreshRetryScheduled
from tests.marbles.streams import DONE, REJECTED, SECRET, lived


def drawn(diagram: Diagram, width: int = 80) -> list[str]:
    return [line.rstrip() for line in diagram.text(width).splitlines()]


def ticks(label: str, *elements: tuple[float, Any], completed: float | None = None) -> Timeline:
    return lived(label, *elements, completed=completed, unit="ticks")


def deltas(count: int, begin: float, every: float) -> list[tuple[float, Any]]:
    return [(begin + at * every, TextDelta(0, f"word{at} ")) for at in range(count)]


def picture(text: str) -> list[str]:
    return dedent(text).strip("\n").splitlines()


def test_a_tick_is_a_column_and_the_legend_names_what_is_there() -> None:
    row = ticks("stream", (0, Start()), (4, TextDelta(0, "Hi")), (5, DONE), completed=5)
    assert drawn(Diagram(row, title="An answer")) == picture(
        """
        An answer

        stream  s───────────────────────t─────(d|)
                                        ╰ "Hi"
        ticks   0     1     2     3     4     5

        s start   d done   t text_delta   | completed   ( ) at one moment
        """
    )


def test_a_failure_is_told_by_its_type_and_status() -> None:
    mapping = {"type": "error", "error": {"type": "overloaded_error", "message": SECRET}}
    rows = [
        ticks("in-band", (0, Start()), (3, REJECTED), completed=3),
        Timeline("thrown", (Mark(0, "subscribed"), Mark(3, "error", NeverLiveError((), REJECTED))), "ticks"),
        Timeline("a mapping", (Mark(0, "subscribed"), Mark(3, "next", mapping), Mark(3, "disposed")), "ticks"),
    ]
    assert drawn(Diagram(*rows))[:6] == picture(
        """
        in-band    s─────────────────(e|)
                                      ╰ CredentialRejected 401
        thrown     ──────────────────#
                                     ╰ NeverLiveError (CredentialRejected 401)
        a mapping  ──────────────────(e!)
                                      ╰ overloaded_error
        """
    )


def test_a_row_begins_where_it_was_subscribed_to_and_ends_where_it_was_left() -> None:
    late = Timeline("late", (Mark(2, "subscribed"), Mark(4, "next", "a"), Mark(5, "disposed")), "ticks")
    assert drawn(Diagram(ticks("whole", completed=6), late))[:2] == picture(
        """
        whole  ────────────────────────────────────|
        late               ────────────a─────!
        """
    )


def test_a_stream_that_goes_on_has_an_arrow() -> None:
    row = Timeline("open", (Mark(0, "subscribed"), Mark(1, "next", "a")), "ticks", open_until=3)
    lines = drawn(Diagram(row), 40)
    assert lines[0] == "open   " + "──────a".ljust(32, "─") + "▸"
    assert "▸ still open" in lines[-1]


def test_what_is_beside_the_stream_hangs_under_its_mark() -> None:
    row = Timeline.of_marks(
        "server",
        [(0, "POST /v1/messages 401"), (2, "POST /oauth/token 200"), (4, "POST /v1/messages 200")],
        unit="ticks",
    )
    assert drawn(Diagram(row)) == picture(
        """
        server  ●           ●           ●
                │           │           ╰ POST /v1/messages 200
                │           ╰ POST /oauth/token 200
                ╰ POST /v1/messages 401
        ticks   0     1     2     3     4
        """
    )


def test_a_label_without_room_to_the_right_hangs_to_the_left() -> None:
    lines = drawn(Diagram(ticks("row", (0, "a"), (8, REJECTED), completed=9)), 60)
    assert lines[1] == "CredentialRejected 401 ╯".rjust(len(lines[0]) - 5)


def test_labels_that_would_cross_are_numbered_instead() -> None:
    row = Timeline.of_marks("server", [(at, f"GET /a/rather/long/path/{at} 200") for at in range(8)], unit="ticks")
    lines = drawn(Diagram(row), 60)
    assert re.sub(" +", "", lines[0]) == "server12345678"
    assert [line.strip() for line in lines[1:9]] == [f"{at + 1} GET /a/rather/long/path/{at} 200" for at in range(8)]


def test_a_remark_hangs_from_its_mark() -> None:
    row = ticks("what the user sees", (0, Start()), (3, Start()), (5, TextDelta(0, "Hi")), (6, DONE), completed=6)
    assert drawn(Diagram(row.with_note("never answered: the phantom", at=0)))[:3] == picture(
        """
        what the user sees  s─────────────────s───────────t─────(d|)
                            │                             ╰ "Hi"
                            ╰ never answered: the phantom
        """
    )


def test_a_long_stream_is_folded_and_the_run_s_length_told() -> None:
    row = lived("stream", (0.0, Start()), *deltas(500, 0.5, 0.01), (5.6, DONE), completed=5.6)
    lines = drawn(Diagram(row), 60)
    assert re.fullmatch(r"stream  s─+t×500═+─*\(d\|\)", lines[0])
    assert "×9═ 9 in a row" in lines[-1]
    assert len(lines[0]) <= 60


def test_a_folded_group_shows_how_it_begins_and_ends_and_that_it_goes_on() -> None:
    mixed = [(1 + at * 0.01, TextDelta(0, "x") if at % 50 else {"type": "ping"}) for at in range(2000)]
    row = lived("stream", (0.0, Start()), *mixed, (22.0, DONE), completed=22.0)
    for width in (40, 80):
        lines = drawn(Diagram(row), width)
        assert re.fullmatch(r"stream  \(sp?…×.*\)═+\(.*d\|\)", lines[0])
        assert "s start   d done" in "\n".join(lines)
        assert "( )═ close together" in "\n".join(lines)


def test_what_is_alone_on_its_row_is_not_drawn_where_other_rows_are_folded() -> None:
    busy = lived("busy", *((number * 0.01, "abc7"[number % 4]) for number in range(1000)), completed=10.0)
    lines = drawn(Diagram(busy, lived("late", (2.0, Start()), (4.0, Start()), completed=10.0)))
    assert lines[0].startswith("busy  (a")
    axis = next(line for line in lines if line.startswith("s  "))
    assert abs(lines[1].index("s", 6) - axis.index("2")) <= 1


def test_a_picture_of_one_moment_is_in_seconds() -> None:
    assert drawn(Diagram(lived("row", (0.0, "a"))))[1].split() == ["s", "0"]


def test_a_stream_with_room_is_not_folded() -> None:
    row = lived("stream", (0.0, Start()), *deltas(20, 0.5, 0.1), (3.0, DONE), completed=3.0)
    assert drawn(Diagram(row))[0].count("t") == 20 + len("stream".replace("s", "")) - 4


def test_what_several_rows_say_is_quoted_under_the_last_of_them() -> None:
    rows = [ticks(name, (1, TextDelta(0, "same")), completed=2) for name in ("source", "result")]
    lines = drawn(Diagram(*rows))
    assert [line.strip() for line in lines].count('╰ "same"') == 1
    assert lines[2].strip() == '╰ "same"'


def test_two_messages_of_one_row_are_quoted_apart() -> None:
    row = ticks("row", (0, Start()), (1, TextDelta(0, "one")), (6, Start()), (7, TextDelta(0, "two")), completed=8)
    assert drawn(Diagram(row))[1].split() == ["╰", '"one"', "╰", '"two"']


def test_letters_and_digits_stand_for_themselves_and_the_rest_gets_a_letter() -> None:
    elements = ["a", 7, {"type": "message_start"}, {"type": "message_stop"}, object(), "hello", None, b"x"]
    row = ticks("row", *enumerate(elements))
    lines = drawn(Diagram(row))
    assert re.sub("[─▸ ]", "", lines[0]) == "rowa7mMohnb"
    assert lines[-2:] == picture(
        """
        m message_start   M message_stop   o object   h 'hello'   n None   b bytes
        ▸ still open
        """
    )


def test_start_error_and_done_keep_their_letters_also_where_they_do_not_happen() -> None:
    row = ticks("row", (0, {"type": "session"}), (1, {"type": "end"}), (2, {"type": "delta"}), completed=3)
    assert not {"s", "e", "d"} & set(drawn(Diagram(row))[0].removeprefix("row"))


def test_many_different_values_are_told_by_their_type() -> None:
    lines = drawn(Diagram(ticks("row", *((at, at * 1000) for at in range(30)), completed=30)))
    assert "i int" in lines[-1]
    assert "1000" not in "\n".join(lines)


def test_numbers_are_told_whatever_they_are() -> None:
    class Odd(int):
        def __repr__(self) -> str:
            raise RuntimeError

    lines = drawn(
        Diagram(ticks("row", (0, Odd(17)), (1, 10**5000), (2, float("inf")), (3, 2.5), (4, True), completed=5))
    )
    assert lines[-1].split("   ")[:-1] == ["a 17", "i int", "I inf", "b 2.5", "t True"]


def test_every_mapping_is_an_event_as_a_dict_is() -> None:
    delta = MappingProxyType({"type": "text_delta", "delta": "Hi"})
    error = MappingProxyType({"type": "error", "error": MappingProxyType({"type": "overloaded_error"})})
    drawing = Diagram(ticks("row", (0, delta), (2, error), completed=3)).text()
    assert '╰ "Hi"' in drawing
    assert "╰ overloaded_error" in drawing


def test_recovery_events_are_told_by_their_names() -> None:
    events = (AuthRejected("authentication_error", 401), RefreshRetryScheduled(1, 0.5), Refreshed())
    row = Timeline("recovery", tuple(Mark(at, "mark", event) for at, event in enumerate(events)), "ticks")
    assert [line.split("╰ ")[-1] for line in drawn(Diagram(row))[1:4]] == [
        "Refreshed",
        "RefreshRetryScheduled in 0.5 s",
        "AuthRejected 401",
    ]


@pytest.mark.parametrize(
    ("span", "unit"),
    [
        pytest.param(30.0, "s", id="half a minute is told in seconds"),
        pytest.param(0.3, "ms", id="a third of a second in milliseconds"),
        pytest.param(0.0003, "µs", id="less in microseconds"),
    ],
)
def test_the_axis_has_a_unit_that_fits(span: float, unit: str) -> None:
    axis = drawn(Diagram(lived("row", (0.0, "a"), (span, "b"))))[1].split()
    assert axis[0] == unit
    assert axis[1] == "0"
    assert "100" in axis or "10" in axis


def test_times_count_from_the_first_mark() -> None:
    early = Timeline("row", (Mark(0, "subscribed"), Mark(3, "completed")), "ticks")
    late = Timeline("row", (Mark(200, "subscribed"), Mark(203, "completed")), "ticks")
    assert Diagram(early).text() == Diagram(late).text()


def test_labels_stand_above_where_they_would_take_the_rows_room() -> None:
    rows = [ticks(name, (0, "a"), completed=3) for name in ("source", "retry_on_first_auth_error")]
    wide, narrow = (drawn(Diagram(*rows), width) for width in (80, 60))
    assert wide[1].startswith("retry_on_first_auth_error  a")
    assert narrow[2:4] == ["retry_on_first_auth_error", "  a─────────────────|"]
    assert narrow[4].endswith("ticks")


def test_colour_is_added_and_changes_no_character() -> None:
    diagram = Diagram(ticks("row", (0, Start()), (3, REJECTED), completed=4), title="title")
    coloured = diagram.text(color=True)
    assert "\x1b[1;31me\x1b[0m" in coloured
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == diagram.text()
    assert "\x1b" not in diagram.text()


def test_everything_can_be_drawn_in_ascii() -> None:
    row = lived("stream ü", (0.0, Start()), (0.1, TextStart(0)), *deltas(99, 0.5, 0.01), (2.0, TextEnd(0, "")))
    text = Diagram(row, Timeline.of_marks("server", [(0, "POST")]), title="→").text(ascii_only=True)
    assert text.isascii()
    assert "t*99=" in text
    assert "< text_start" in text


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\nb", "a\u202eb", "a\ud800b"], ids=ascii)
def test_nothing_in_a_text_moves_the_cursor_or_turns_the_line_around(text: str) -> None:
    row = ticks(text, (0, TextDelta(0, text)), (1, text), (2, {"type": text}), completed=3).with_note(text, at=0)
    marks = Timeline.of_marks("marks", [(0, text)], unit="ticks")
    drawing = Diagram(row, marks, title=text).text()
    assert not set(drawing) & set("\x1b\u202e\ud800")
    assert "a\nb" not in drawing


def test_wide_characters_take_two_columns() -> None:
    rows = [ticks("你好", (0, "a"), (5, "b")), ticks("abcd", (0, "a"), (5, "b"))]
    first, second = drawn(Diagram(*rows))[:2]
    assert first.removeprefix("你好") == second.removeprefix("abcd")


def test_no_secret_is_drawn() -> None:
    exception = RuntimeError(SECRET)
    said = AssistantMessage(content=(Text(SECRET),), error_message=SECRET)
    elements = [
        Start(said),
        TextDelta(0, "harmless"),
        ThinkingDelta(0, SECRET),
        ToolCallDelta(0, SECRET),
        TextEnd(0, SECRET),
        Done("stop", said),
        Error("error", said, exception),
        exception,
        {"access_token": SECRET},
        {"type": "error", "error": {"type": SECRET, "message": SECRET}, "message": SECRET},
        [SECRET],
        SECRET.encode(),
        SECRET,
        f"Bearer {SECRET}",
    ]
    marks = [Mark(at, "next", value) for at, value in enumerate(elements)]
    row = Timeline("row", (*marks, Mark(20, "error", NeverLiveError((), exception))), "ticks")
    beside = Timeline("marks", (Mark(1, "mark", exception), Mark(2, "mark", {"token": SECRET})), "ticks")
    diagram = Diagram(row, beside)
    for width in (40, 80, 200):
        assert SECRET[:9] not in diagram.text(width)
        assert SECRET[:9] not in diagram.svg(width * 8)


def test_rows_of_two_clocks_are_refused() -> None:
    with pytest.raises(ValueError, match="share one clock"):
        Diagram(ticks("a"), lived("b"))


def test_a_diagram_without_rows_or_marks_is_drawn() -> None:
    assert Diagram().text() == ""
    assert Diagram(Timeline("nothing")).text() == "nothing"


def test_a_diagram_prints_itself() -> None:
    diagram = Diagram(ticks("row", (0, "a"), completed=1))
    assert str(diagram) == repr(diagram) == diagram.text(80)


def test_texts_are_cut_and_wrapped_by_what_they_need_on_the_screen() -> None:
    assert shorten("你好世界", 5) == "你好…"
    assert cells(shorten("你好世界", 6)) <= 6
    assert wrap("a retry, attempt 2", 12) == ["a retry,", "attempt 2"]


EVENTS = st.sampled_from(
    [
        Start(),
        TextStart(0),
        TextDelta(0, "a few words"),
        TextEnd(0, "x"),
        ThinkingDelta(0, "x"),
        DONE,
        REJECTED,
        "a",
        12345,
    ]
)
ENDS = st.sampled_from([None, "completed", "error", "disposed"])
TIMES = st.floats(0, 1000, allow_nan=False) | st.integers(0, 20).map(float)


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    marks = [Mark(at, "next", value) for at, value in draw(st.lists(st.tuples(TIMES, EVENTS), max_size=60))]
    last = max((mark.time for mark in marks), default=0.0)
    end: Any = draw(ENDS)
    if end is not None:
        marks.append(Mark(last, end, RuntimeError("x") if end == "error" else None))
    label = draw(st.sampled_from(["source", "source, attempt 1", "retry_on_first_auth_error", "你好"]))
    row = Timeline(label, (Mark(0, "subscribed"), *marks), "ticks", None if end else last + draw(st.integers(0, 9)))
    return row.with_note("a remark", at=draw(TIMES)) if draw(st.booleans()) else row


@st.composite
def mark_rows(draw: st.DrawFn) -> Timeline:
    texts = st.sampled_from(["POST /v1/messages 200", "POST /oauth/token 200", "x" * 90, ""])
    return Timeline.of_marks("server", draw(st.lists(st.tuples(TIMES, texts), max_size=12)), unit="ticks")


DIAGRAMS = st.builds(lambda rows: Diagram(*rows, title="A title"), st.lists(timelines() | mark_rows(), max_size=4))


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
def test_every_element_is_there_or_counted_and_in_order(
    elements: list[tuple[float, str]], completed: bool, width: int
) -> None:
    row = lived("row", *elements, completed=1001.0 if completed else None)
    drawing = drawn(Diagram(row), width)[0].removeprefix("row").strip()
    assert drawing.endswith("▸") != completed
    tokens = re.findall(r"…×(\d+)…|([abc7|])(?:×(\d+))?", drawing)
    letters = iter([mark.value or "|" for mark in row.notifications])
    for folded, letter, run in tokens:
        shown = [next(letters, "") for _ in range(int(folded or run or 1))]
        assert folded or set(shown) == {letter}
    assert next(letters, None) is None


def test_a_width_that_is_none_gives_the_narrowest_picture() -> None:
    diagram = Diagram(ticks("row", (0, Start()), (3, REJECTED), completed=4))
    assert diagram.text(0) == diagram.text(24)


def test_times_too_close_to_tell_apart_are_drawn() -> None:
    assert drawn(Diagram(lived("row", (0.0, "a"), (5e-324, "b"))))[0].startswith("row  ab")


def test_a_quote_at_the_left_and_a_failure_at_the_right_hang_without_crossing() -> None:
    row = ticks("stream", (0, Start()), (3, TextDelta(0, "a")), (6, REJECTED), completed=7)
    assert drawn(Diagram(row), 60)[:3] == picture("""
        stream  s─────────────────t─────────────────e─────|
                                  ╰ "a"             │
                             CredentialRejected 401 ╯
    """)
