"""The README's pictures: one stream whose token has died, under a bare retry and under `recover_auth`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from reactivex.testing import TestScheduler

from rxauth import recover_auth
from rxauth.events import AssistantMessage, Done, TextDelta
from rxauth.marbles import Diagram, Recorder, explain
from rxauth.marbles._scene import bare_retry
from rxauth.testing import marbles
from tests.notebooks import NOTEBOOKS

DIRECTORY = NOTEBOOKS / "pictures"

_EVENTS = {
    "a": TextDelta(0, "All "),
    "b": TextDelta(0, "is "),
    "c": TextDelta(0, "well."),
    "d": Done("stop", AssistantMessage()),
}


def problem() -> Diagram:
    """A refresh and a second request: two starts reach the screen."""
    return _picture(bare_retry, "A bare retry", "nothing will ever follow this start: the phantom")


def solution() -> Diagram:
    """The start is held until there is an answer: one reaches the screen."""
    return _picture(recover_auth, "rxauth", "one start, with the first sign of life")


PICTURES: dict[str, Callable[[], Diagram]] = {"problem.svg": problem, "solution.svg": solution}


def store() -> list[Path]:
    """Draw them again."""
    DIRECTORY.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (DIRECTORY / name).write_text(draw().svg())
    return [DIRECTORY / name for name in PICTURES]


def _picture(operator: Callable[[Any], Any], name: str, remark: str) -> Diagram:
    time = TestScheduler()
    refreshes = Recorder("refresh", scheduler=time)
    refreshed = marbles.cold(time, "--r|", {"r": "new token"}).pipe(refreshes)
    source = marbles.attempts(time, "s--e|", "s---a-b-c-(d|)", events=_EVENTS)
    first, second, screen, refresh = explain(
        source, operator(lambda failure: refreshed), labels=[name], scheduler=time, beside=[refreshes]
    ).rows
    opened = next(mark.time for mark in screen.notifications if mark.value.type == "start")
    return Diagram(
        first.labelled("your stream"),
        refresh,
        second.labelled("and once more"),
        screen.labelled("the screen").with_note(remark, at=opened),
        title=name,
    )
