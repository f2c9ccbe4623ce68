"""Rows and streams in virtual time to draw."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

from hypothesis import strategies as st

from rxauth.errors import CredentialRejected
from rxauth.events import AssistantMessage, Done, Error, Start, TextDelta, TextEnd, TextStart, ThinkingDelta
from rxauth.marbles import Diagram, Mark, Timeline

SECRET = "sk-ant-do-not-show"
MESSAGE = AssistantMessage()
REJECTED = Error("error", MESSAGE, CredentialRejected(f"no: {SECRET}", status=401, type="authentication_error"))
DONE = Done("stop", MESSAGE)


def ticks(label: str, *elements: tuple[float, Any], completed: float | None = None, **more: Any) -> Timeline:
    """A timeline written by hand."""
    marks = [Mark(0, "subscribed"), *(Mark(at, "next", value) for at, value in elements)]
    if completed is not None:
        marks.append(Mark(completed, "completed"))
    return Timeline(label, tuple(marks), **{"unit": "ticks", **more})


def deltas(count: int, begin: float, every: float) -> list[tuple[float, Any]]:
    return [(begin + at * every, TextDelta(0, f"word{at} ")) for at in range(count)]


def picture(text: str) -> list[str]:
    return dedent(text).strip("\n").splitlines()


TIMES = st.floats(0, 1000, allow_nan=False) | st.integers(0, 20).map(float)
_VALUES = [Start(), TextStart(0), TextDelta(0, "a few words"), TextEnd(0, "x"), ThinkingDelta(0, "x"), DONE, REJECTED]
_TEXTS = st.sampled_from(["POST /v1/messages 200", "POST /oauth/token 200", "x" * 90, ""])


@st.composite
def _timelines(draw: st.DrawFn) -> Timeline:
    values = st.tuples(TIMES, st.sampled_from([*_VALUES, "a", 12345]))
    marks = [Mark(at, "next", value) for at, value in draw(st.lists(values, max_size=60))]
    last = max((mark.time for mark in marks), default=0.0)
    end: Any = draw(st.sampled_from([None, "completed", "error", "disposed"]))
    if end is not None:
        marks.append(Mark(last, end, RuntimeError("x") if end == "error" else None))
    label = draw(st.sampled_from(["source", "source, attempt 1", "retry_on_first_auth_error", "你好"]))
    row = Timeline(label, (Mark(0, "subscribed"), *marks), "ticks", None if end else last + draw(st.integers(0, 9)))
    return row.with_note("a remark", at=draw(TIMES)) if draw(st.booleans()) else row


_MARKS = st.lists(st.tuples(TIMES, _TEXTS), max_size=12).map(lambda each: Timeline.of_marks("seen", each, unit="ticks"))
DIAGRAMS = st.lists(_timelines() | _MARKS, max_size=4).map(lambda rows: Diagram(*rows, title="A title"))
