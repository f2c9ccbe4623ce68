"""A recorder records everything and changes nothing."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as ops
from reactivex.scheduler import CurrentThreadScheduler, HistoricalScheduler, NewThreadScheduler
from reactivex.subject import Subject
from reactivex.testing import ReactiveTest, TestScheduler

from rxauth.marbles import Mark, Recorder, Timeline
from tests.marbles.streams import SECRET

on_next, on_error, on_completed = ReactiveTest.on_next, ReactiveTest.on_error, ReactiveTest.on_completed
_ENDS = st.sampled_from([None, on_completed(9), on_error(9, RuntimeError("end"))])


@given(st.lists(st.integers(1, 8)), _ENDS, st.none() | st.integers(201, 215))
def test_a_recorder_changes_no_notification(ticks: list[int], end: Any, dispose: int | None) -> None:
    def run(recorder: Recorder | None) -> tuple[Any, Any]:
        scheduler = TestScheduler()
        notes = [on_next(tick, index) for index, tick in enumerate(sorted(ticks))]
        source = scheduler.create_cold_observable(notes + ([end] if end else []))
        stream = source.pipe(recorder) if recorder else source
        return scheduler.start(lambda: stream, disposed=dispose).messages, source.subscriptions

    recorder = Recorder("row")
    messages, subscriptions = run(recorder)
    assert (messages, subscriptions) == run(None)
    (row,) = recorder.timelines
    assert row.unit == "ticks"
    assert [mark.time for mark in row.notifications] == [message.time for message in messages]


def test_each_subscription_is_a_timeline_that_ends_once() -> None:
    failure = RuntimeError("end")
    recorder = Recorder("source")
    rx.concat(rx.of("a"), rx.throw(failure)).pipe(recorder, ops.retry(2)).subscribe(on_error=lambda _: None)
    subject: Subject[str] = Subject()
    subscription = subject.pipe(recorder).subscribe()
    subscription.dispose()
    subscription.dispose()
    assert not subject.observers
    assert [row.label for row in recorder.timelines] == [f"source, attempt {number}" for number in (1, 2, 3)]
    for row in recorder.timelines[:2]:
        kinds = [(mark.kind, mark.value) for mark in row.marks]
        assert kinds == [("subscribed", None), ("next", "a"), ("error", failure)]
        assert row.values == ("a",)
    assert [mark.kind for mark in recorder.timelines[2].marks] == ["subscribed", "disposed"]


def test_a_stream_that_goes_on_is_open_until_now() -> None:
    now = [0.0]
    recorder = Recorder("row", clock=lambda: now[0])
    subject: Subject[str] = Subject()
    subject.pipe(recorder).subscribe()
    now[0] = 9.0
    (row,) = recorder.timelines
    assert (row.is_open, row.open_until) == (True, 9.0)
    subject.on_completed()
    assert recorder.timelines[0].open_until is None
    assert row.is_open, "a timeline that was taken before does not change"


def test_an_exception_of_the_consumer_goes_where_it_went() -> None:
    def consume(stream: rx.Observable[str]) -> list[str]:
        errors: list[str] = []

        def fail(value: str) -> None:
            raise LookupError(value)

        stream.subscribe(fail, lambda error: errors.append(repr(error)))
        return errors

    source: rx.Observable[str] = rx.create(lambda observer, _: observer.on_next("a"))  # type: ignore[arg-type, return-value]
    assert consume(source.pipe(Recorder("row"))) == consume(source) == ["LookupError('a')"]


def test_marks_are_a_row_of_their_own_on_the_same_clock() -> None:
    now = [1.0]
    recorder = Recorder("server", clock=lambda: now[0])
    recorder.mark("POST /v1/messages 401")
    now[0] = 2.0
    recorder.mark(SECRET)
    (row,) = recorder.timelines
    assert [(mark.time, mark.kind) for mark in row.marks] == [(1.0, "mark"), (2.0, "mark")]
    assert not row.is_open
    assert SECRET not in repr(row)


@pytest.mark.looptime
async def test_live_times_are_the_running_loops() -> None:
    recorder = Recorder("row")
    subject: Subject[str] = Subject()
    subject.pipe(recorder).subscribe()
    await asyncio.sleep(2)
    subject.on_next("a")
    begin, first = recorder.timelines[0].marks
    assert first.time - begin.time == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("scheduler", [CurrentThreadScheduler.singleton(), HistoricalScheduler()])
def test_other_schedulers_count_seconds(scheduler: Any) -> None:
    recorder = Recorder("row", scheduler=scheduler)
    rx.of("a").pipe(recorder).subscribe()
    assert recorder.timelines[0].unit == "s"


def test_a_stream_on_another_thread_is_recorded() -> None:
    recorder = Recorder("row")
    ended = threading.Event()
    stream = rx.of("a", "b").pipe(ops.subscribe_on(NewThreadScheduler()), recorder)
    stream.subscribe(on_completed=ended.set)
    assert ended.wait(10)
    assert recorder.timelines[0].values == ("a", "b")


def test_on_change_follows_each_notification(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []

    def change() -> None:
        log.append("changed")
        raise RuntimeError(SECRET)

    with caplog.at_level(logging.WARNING, "rxauth.marbles"):
        rx.of("a").pipe(Recorder("row", on_change=change)).subscribe(log.append, None, lambda: log.append("completed"))
    assert log == ["a", "changed", "completed", "changed"]
    assert "on_change raised RuntimeError" in caplog.text
    assert SECRET not in caplog.text


def test_a_timeline_sorts_its_marks_and_does_not_change() -> None:
    row = Timeline("row", (Mark(2, "completed"), Mark(1, "next", "a")))
    noted = row.labelled("other").with_note("look", at=1)
    assert [mark.time for mark in row.marks] == [1, 2]
    assert (row.label, len(row.marks), noted.label, len(noted.marks)) == ("row", 2, "other", 3)
    with pytest.raises(AttributeError):
        row.label = "x"  # type: ignore[misc]
    with pytest.raises(ValueError, match="finite"):
        Timeline.of_marks("row", [(float("nan"), "x")])
