"""A recorder writes down everything and changes nothing."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.scheduler import HistoricalScheduler
from reactivex.subject import Subject
from reactivex.testing import ReactiveTest, TestScheduler

from rxauth.marbles import Mark, Recorder, Timeline
from rxauth.recovery import AuthRejected
from tests.marbles.streams import SECRET, cold, stale_once

on_next, on_error, on_completed = ReactiveTest.on_next, ReactiveTest.on_error, ReactiveTest.on_completed


def kinds(timeline: Timeline) -> list[tuple[float, str, Any]]:
    return [(mark.time, mark.kind, mark.value) for mark in timeline.marks]


_ENDS = st.sampled_from([None, on_completed(9), on_error(9, RuntimeError("end"))])


@given(st.lists(st.integers(1, 8)), _ENDS, st.none() | st.integers(201, 215))
def test_the_consumer_gets_the_same_notifications_at_the_same_times(
    ticks: list[int], end: Any, dispose: int | None
) -> None:
    def run(recorded: bool) -> tuple[Any, Any]:
        scheduler = TestScheduler()
        notes = [on_next(tick, index) for index, tick in enumerate(sorted(ticks))]
        source = scheduler.create_cold_observable(notes + ([end] if end else []))
        stream = source.pipe(Recorder("row")) if recorded else source
        return scheduler.start(lambda: stream, disposed=dispose).messages, source.subscriptions

    assert run(recorded=True) == run(recorded=False)


def test_times_are_the_virtual_scheduler_s_ticks() -> None:
    scheduler = TestScheduler()
    recorder = Recorder("row")
    scheduler.start(lambda: cold(scheduler, (3, "a"), (5, "b"), completed=6).pipe(recorder))
    (row,) = recorder.timelines
    assert row.unit == "ticks"
    assert kinds(row) == [
        (200, "subscribed", None),
        (203, "next", "a"),
        (205, "next", "b"),
        (206, "completed", None),
    ]
    assert row.values == ("a", "b")
    assert [mark.kind for mark in row.notifications] == ["next", "next", "completed"]


def test_an_exception_is_written_down_as_the_end() -> None:
    failure = RuntimeError("end")
    recorder = Recorder("row")
    caught: list[Exception] = []
    rx.throw(failure).pipe(recorder).subscribe(on_error=caught.append)
    assert caught == [failure]
    assert [(mark.kind, mark.value) for mark in recorder.timelines[0].notifications] == [("error", failure)]
    assert not recorder.timelines[0].is_open


def test_each_subscription_is_a_timeline_of_its_own() -> None:
    scheduler = TestScheduler()
    recorder = Recorder("source")
    source = stale_once(scheduler).pipe(recorder)
    retried = source.pipe(
        ops.flat_map(lambda event: rx.throw(event.cause) if event.type == "error" else rx.just(event))
    )
    scheduler.start(lambda: retried.pipe(ops.retry(2)))
    assert [row.label for row in recorder.timelines] == ["source, attempt 1", "source, attempt 2"]
    assert [[mark.value.type for mark in row.notifications if mark.value] for row in recorder.timelines] == [
        ["start", "error"],
        ["start", "text_delta", "text_delta", "text_delta", "done"],
    ]


def test_a_disposal_is_written_down_once_and_only_before_the_end() -> None:
    recorder = Recorder("row", clock=lambda: 0.0)
    subject: Subject[str] = Subject()
    subscription = subject.pipe(recorder).subscribe()
    subscription.dispose()
    subscription.dispose()
    rx.of("a").pipe(recorder).subscribe().dispose()
    left, ended = recorder.timelines
    assert [mark.kind for mark in left.marks] == ["subscribed", "disposed"]
    assert [mark.kind for mark in ended.marks] == ["subscribed", "next", "completed"]


def test_disposing_reaches_the_source() -> None:
    disposed: list[bool] = []
    source: rx.Observable[str] = rx.never().pipe(ops.finally_action(lambda: disposed.append(True)))
    source.pipe(Recorder("row")).subscribe().dispose()
    assert disposed == [True]


def test_a_stream_that_goes_on_is_open_until_now() -> None:
    now = [0.0]
    recorder = Recorder("row", clock=lambda: now[0])
    subject: Subject[str] = Subject()
    subject.pipe(recorder).subscribe()
    now[0] = 4.0
    subject.on_next("a")
    now[0] = 9.0
    (row,) = recorder.timelines
    assert row.is_open
    assert row.open_until == 9.0
    subject.on_completed()
    assert recorder.timelines[0].open_until is None
    assert row.is_open, "what was taken before stays as it was"


def test_what_the_consumer_raises_goes_where_it_would_go_without_a_recorder() -> None:
    def consume(stream: rx.Observable[str]) -> list[str]:
        told: list[str] = []

        def fail(value: str) -> None:
            raise LookupError(value)

        stream.subscribe(fail, lambda error: told.append(repr(error)))
        return told

    def emit(observer: abc.ObserverBase[str], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        observer.on_next("a")
        return Disposable()

    source = rx.Observable(emit)
    assert consume(source.pipe(Recorder("row"))) == consume(source) == ["LookupError('a')"]


def test_marks_are_a_row_of_their_own_on_the_same_clock() -> None:
    now = [1.0]
    recorder = Recorder("server", clock=lambda: now[0])
    recorder.mark("POST /v1/messages 401")
    now[0] = 2.0
    recorder.mark(AuthRejected("authentication_error", 401))
    (row,) = recorder.timelines
    assert row.label == "server"
    assert kinds(row) == [
        (1.0, "mark", "POST /v1/messages 401"),
        (2.0, "mark", AuthRejected("authentication_error", 401)),
    ]
    assert not row.is_open


@pytest.mark.looptime
async def test_live_times_are_the_running_loop_s() -> None:
    recorder = Recorder("row")
    subject: Subject[str] = Subject()
    subject.pipe(recorder).subscribe()
    await asyncio.sleep(2)
    subject.on_next("a")
    await asyncio.sleep(1)
    subject.on_completed()
    begin, first, end = recorder.timelines[0].marks
    assert recorder.timelines[0].unit == "s"
    assert first.time - begin.time == pytest.approx(2, abs=0.1)
    assert end.time - first.time == pytest.approx(1, abs=0.1)


def test_a_scheduler_that_keeps_real_time_is_not_asked_for_it() -> None:
    recorder = Recorder("row")
    rx.of("a").pipe(recorder).subscribe(scheduler=rx.scheduler.CurrentThreadScheduler.singleton())
    assert recorder.timelines[0].unit == "s"


def test_a_virtual_scheduler_of_dates_counts_seconds() -> None:
    assert Recorder("row", scheduler=HistoricalScheduler())._unit == "s"


def test_a_stream_on_another_thread_is_written_down_too() -> None:
    recorder = Recorder("row")
    ended = threading.Event()
    rx.of("a", "b").pipe(ops.subscribe_on(rx.scheduler.NewThreadScheduler()), recorder).subscribe(
        on_completed=ended.set
    )
    assert ended.wait(10)
    assert recorder.timelines[0].values == ("a", "b")


def test_on_change_is_called_after_each_notification_was_passed_on() -> None:
    log: list[str] = []
    recorder = Recorder("row", on_change=lambda: log.append("changed"))
    rx.of("a").pipe(recorder).subscribe(log.append, None, lambda: log.append("completed"))
    assert log == ["a", "changed", "completed", "changed"]


def test_on_change_that_raises_is_logged_and_the_stream_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError(SECRET)

    seen: list[str] = []
    with caplog.at_level(logging.WARNING, "rxauth.marbles"):
        rx.of("a", "b").pipe(Recorder("row", on_change=fail)).subscribe(seen.append)
    assert seen == ["a", "b"]
    assert "on_change raised RuntimeError" in caplog.text
    assert SECRET not in caplog.text


def test_a_timeline_sorts_its_marks_and_does_not_change() -> None:
    row = Timeline("row", (Mark(2, "completed"), Mark(1, "next", "a")))
    assert [mark.time for mark in row.marks] == [1, 2]
    noted = row.labelled("other").with_note("look", at=1)
    assert (row.label, len(row.marks), noted.label, len(noted.marks)) == ("row", 2, "other", 3)
    with pytest.raises(AttributeError):
        row.label = "x"  # type: ignore[misc]


@pytest.mark.parametrize("time", [float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(time: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Timeline.of_marks("row", [(time, "x")])


def test_no_value_is_in_a_repr() -> None:
    row = Timeline("row", (Mark(0, "next", SECRET), Mark(1, "error", RuntimeError(SECRET))))
    assert SECRET not in repr(row)
