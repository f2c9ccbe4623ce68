"""Streams in virtual time to draw: the three that explain the library, and generated ones."""

from __future__ import annotations

from typing import Any

import reactivex as rx
from reactivex import Observable
from reactivex.testing import ReactiveTest, TestScheduler

from rxauth.errors import CredentialRejected
from rxauth.events import AssistantMessage, Done, Error, Start, TextDelta
from rxauth.marbles import Mark, Timeline

SECRET = "sk-ant-do-not-show"
MESSAGE = AssistantMessage()
REJECTED = Error("error", MESSAGE, CredentialRejected(f"no: {SECRET}", status=401, type="authentication_error"))
DONE = Done("stop", MESSAGE)


def cold(scheduler: TestScheduler, *elements: tuple[int, Any], completed: int | None = None) -> Observable[Any]:
    """A cold stream of (tick, element); tick 0 is inside `subscribe`, where rxauth's sources emit `start`."""
    later = [ReactiveTest.on_next(at, value) for at, value in elements if at > 0]
    if completed is not None:
        later.append(ReactiveTest.on_completed(completed))
    at_once = [value for at, value in elements if at == 0]
    stream: Observable[Any] = scheduler.create_cold_observable(later)
    return (
        rx.concat(rx.from_iterable(at_once, scheduler=rx.scheduler.ImmediateScheduler()), stream) if at_once else stream
    )


def rejected(scheduler: TestScheduler) -> Observable[Any]:
    """start, and three ticks later the 401."""
    return cold(scheduler, (0, Start()), (3, REJECTED), completed=3)


def answered(scheduler: TestScheduler) -> Observable[Any]:
    """start, and from the third tick on an answer."""
    words = [(3 + at, TextDelta(0, word)) for at, word in enumerate(("Hel", "lo, ", "world."))]
    return cold(scheduler, (0, Start()), *words, (6, DONE), completed=6)


def stale_once(scheduler: TestScheduler) -> Observable[Any]:
    """Rejected at the first subscription, answered at the next."""
    attempts = iter((rejected, answered))
    return rx.defer(lambda _: next(attempts)(scheduler))


def lived(label: str, *elements: tuple[float, Any], completed: float | None = None, **more: Any) -> Timeline:
    """A timeline written by hand."""
    marks = [Mark(0, "subscribed"), *(Mark(at, "next", value) for at, value in elements)]
    if completed is not None:
        marks.append(Mark(completed, "completed"))
    return Timeline(label, tuple(marks), **more)
