"""The README's pictures: one stream whose token has died, under a bare retry and under `recover_auth`."""

from __future__ import annotations

from reactivex.testing import TestScheduler

from rxauth import recover_auth
from rxauth.events import AssistantMessage, Done, TextDelta
from rxauth.marbles import Diagram, Recorder, explain
from rxauth.marbles._scene import bare_retry
from rxauth.testing import marbles
from tests.notebooks import NOTEBOOKS

DIRECTORY = NOTEBOOKS / "pictures"
PICTURES = {
    "problem.svg": (bare_retry, "A bare retry", "nothing will ever follow this start: the phantom"),
    "solution.svg": (recover_auth, "rxauth", "one start, with the first sign of life"),
}
_EVENTS = {
    "a": TextDelta(0, "All "),
    "b": TextDelta(0, "is "),
    "c": TextDelta(0, "well."),
    "d": Done("stop", AssistantMessage()),
}


def draw(name: str) -> Diagram:
    """Draw a picture again."""
    operator, title, remark = PICTURES[name]
    time = TestScheduler()
    refreshes = Recorder("refresh", scheduler=time)
    refreshed = marbles.cold(time, "--r|", {"r": "new token"}).pipe(refreshes)
    source = marbles.attempts(time, "s--e|", "s---a-b-c-(d|)", events=_EVENTS)
    explanation = explain(source, operator(lambda failure: refreshed), scheduler=time, beside=[refreshes])
    first, second, screen, refresh = explanation.rows
    opened = next(mark.time for mark in screen.notifications if mark.value.type == "start")
    return Diagram(
        first.labelled("your stream"),
        refresh,
        second.labelled("and once more"),
        screen.labelled("the screen").with_note(remark, at=opened),
        title=title,
    )
