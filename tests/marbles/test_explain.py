"""`explain` draws what happens between the operators, on one time axis."""

from __future__ import annotations

import asyncio
import threading
from textwrap import dedent
from typing import Any

import pytest
import reactivex as rx
from reactivex import operators as ops
from reactivex.subject import Subject
from reactivex.testing import TestScheduler

from rxauth.marbles import Diagram, Recorder, explain
from rxauth.operators import buffer_until_live, flush_on_complete_or_error, recover_auth, retry_on_first_auth_error
from tests.marbles.streams import cold, rejected, stale_once


def picture(text: str) -> list[str]:
    return dedent(text).strip("\n").splitlines()


def test_unfiltered_the_401_reaches_the_user() -> None:
    scheduler = TestScheduler()
    assert explain(rejected(scheduler), scheduler=scheduler).text().splitlines() == picture(
        """
        source  s─────────────────(e|)
                                   ╰ CredentialRejected 401
        ticks   0     1     2     3

        s start   e error event   | completed   ( ) at one moment
        """
    )


def test_a_retry_without_a_buffer_shows_a_start_that_is_never_answered() -> None:
    scheduler = TestScheduler()

    def throw_errors(stream: rx.Observable[Any]) -> rx.Observable[Any]:
        return stream.pipe(
            ops.flat_map(lambda event: rx.throw(event.cause) if event.type == "error" else rx.just(event))
        )

    explanation = explain(
        stale_once(scheduler),
        throw_errors,
        ops.retry(2),
        labels=["as exceptions", "what the user sees"],
        scheduler=scheduler,
    )
    seen = explanation.rows[-1]
    assert [mark.value.type for mark in seen.notifications if mark.value].count("start") == 2
    phantom = seen.with_note("a message that stays empty: the phantom", at=seen.marks[0].time)
    assert Diagram(*explanation.rows[:2], phantom).text(60).splitlines() == picture(
        """
        source,        s───────────(e!)
        attempt 1                   ╰ CredentialRejected 401
        source,                    s───────────t───t───t───(d|)
        attempt 2
        what the user  s───────────s───────────t───t───t───(d|)
        sees           │                       ╰ "Hello, world."
                       ╰ a message that stays empty: the phantom
        ticks          0                   5

        s start   e error event   d done   t text_delta
        | completed   ! unsubscribed   ( ) at one moment
        """
    )


def test_with_rxauth_the_start_is_held_and_the_second_attempt_is_all_that_is_seen() -> None:
    scheduler = TestScheduler()
    recovery = Recorder("recovery", scheduler=scheduler)
    explanation = explain(
        stale_once(scheduler),
        buffer_until_live(),
        retry_on_first_auth_error(
            lambda _: rx.timer(2, scheduler=scheduler).pipe(ops.map(lambda _: True)), on_recovery=recovery.mark
        ),
        flush_on_complete_or_error(),
        scheduler=scheduler,
        beside=[recovery],
    )
    assert explanation.text(100).splitlines() == picture(
        """
        source, attempt 1           s─────────────────(e!)
                                                       ╰ CredentialRejected 401
        source, attempt 2                                         s─────────────────t─────t─────t─────(d|)
        buffer_until_live,          ──────────────────#
        attempt 1                                     ╰ NeverLiveError (CredentialRejected 401)
        buffer_until_live,                                        ──────────────────(st)──t─────t─────(d|)
        attempt 2
        retry_on_first_auth_error   ────────────────────────────────────────────────(st)──t─────t─────(d|)
        flush_on_complete_or_error  ────────────────────────────────────────────────(st)──t─────t─────(d|)
                                                                                      ╰ "Hello, world."
        recovery                                      ●           (●●)
                                                      │            │╰ Resubscribed
                                                      │            ╰ Refreshed
                                                      ╰ AuthRejected 401
        ticks                       0           2           4           6           8           10

        s start   e error event   d done   t text_delta   # on_error   | completed   ! unsubscribed
        ( ) at one moment
        """
    )


def test_the_three_in_one_show_the_same_result() -> None:
    def result(*operators: Any) -> Any:
        scheduler = TestScheduler()
        return explain(stale_once(scheduler), *operators, scheduler=scheduler).rows[-1].labelled("result")

    def refresh(_: object) -> bool:
        return True

    assert result(recover_auth(refresh)) == result(
        buffer_until_live(), retry_on_first_auth_error(refresh), flush_on_complete_or_error()
    )


def test_an_operator_is_named_as_in_the_pipe() -> None:
    def mine(stream: rx.Observable[Any]) -> rx.Observable[Any]:
        return stream

    class Named:
        def __call__(self, stream: rx.Observable[Any]) -> rx.Observable[Any]:
            return stream

    operators: list[Any] = [
        ops.map(str),
        ops.timeout_with_mapper(rx.never()),
        flush_on_complete_or_error(),
        mine,
        Named(),
        lambda stream: stream,
    ]
    explanation = explain(rx.of(1), *operators, scheduler=TestScheduler())
    assert [row.label for row in explanation.rows][1:] == [
        "map",
        "timeout_with_mapper",
        "flush_on_complete_or_error",
        "mine",
        "Named",
        "test_an_operator_is_named_as_in_the_pipe",
    ]


def test_labels_are_one_per_operator() -> None:
    with pytest.raises(ValueError, match="2 operators need 2 labels, not 1"):
        explain(rx.of(1), ops.map(str), ops.map(str), labels=["one"])


def test_a_stream_that_does_not_end_is_left_at_until() -> None:
    scheduler = TestScheduler()
    explanation = explain(rx.interval(1, scheduler=scheduler), scheduler=scheduler, until=3.5)
    assert explanation.ended
    assert [(mark.time, mark.kind) for mark in explanation.rows[0].marks][-2:] == [(3, "next"), (3.5, "disposed")]


def test_a_timer_that_was_cancelled_does_not_stretch_the_axis() -> None:
    scheduler = TestScheduler()
    scheduler.schedule_relative(500, lambda *_: None).dispose()
    stretched = explain(cold(scheduler, (1, "a")), scheduler=scheduler).text()
    scheduler = TestScheduler()
    assert stretched == explain(cold(scheduler, (1, "a")), scheduler=scheduler).text()


def test_the_timer_of_until_ends_with_the_stream() -> None:
    class Spy(TestScheduler):
        def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> Any:
            timer = super().schedule_relative(duetime, action, state)
            timers[duetime] = timer
            return timer

    timers: dict[Any, Any] = {}
    scheduler = Spy()
    explain(rejected(scheduler), scheduler=scheduler, until=100)
    assert timers[100].is_disposed


def test_until_leaves_no_trace_on_a_stream_that_ends_before() -> None:
    scheduler = TestScheduler()
    left = explain(rejected(scheduler), scheduler=scheduler, until=100)
    scheduler = TestScheduler()
    assert left.rows == explain(rejected(scheduler), scheduler=scheduler).rows


def test_a_stream_with_nothing_left_to_do_is_still_open() -> None:
    scheduler = TestScheduler()
    explanation = explain(cold(scheduler, (1, "a")), scheduler=scheduler)
    assert not explanation.ended
    assert explanation.rows[0].is_open


def test_without_a_loop_it_is_watched_at_every_change() -> None:
    pictures: list[str] = []
    explanation = explain(rx.of("a", "b"), ops.map(str.upper), watch=lambda diagram: pictures.append(diagram.text()))
    assert len(pictures) == 6
    assert pictures[-1] == explanation.text()


@pytest.mark.looptime
async def test_live_it_can_be_drawn_while_the_stream_arrives_and_awaited() -> None:
    subject: Subject[str] = Subject()
    pictures: list[Diagram] = []
    explanation = explain(subject, ops.map(str.upper), watch=pictures.append)
    for letter in "abcde":
        await asyncio.sleep(1)
        subject.on_next(letter)
    assert not explanation.ended
    assert explanation.rows[-1].values == tuple("ABCDE")
    assert explanation.rows[-1].is_open
    await asyncio.sleep(1)
    assert len(pictures) == 5, "two rows changed together are one picture"
    assert pictures[-1].rows[-1].values == tuple("ABCDE")
    asyncio.get_running_loop().call_later(1, subject.on_completed)
    diagram = await explanation
    assert not diagram.rows[-1].is_open
    assert (await explanation).text() == diagram.text()
    await asyncio.sleep(0)
    assert pictures[-1].text() == diagram.text()


@pytest.mark.looptime
async def test_live_a_burst_is_drawn_ten_times_a_second_at_most() -> None:
    subject: Subject[int] = Subject()
    pictures: list[Diagram] = []
    explain(subject, watch=pictures.append)
    for number in range(1000):
        subject.on_next(number)
        await asyncio.sleep(0.001)
    assert 5 <= len(pictures) <= 11


@pytest.mark.looptime
async def test_live_a_burst_that_ends_is_drawn_once() -> None:
    pictures: list[Diagram] = []
    explanation = explain(rx.from_iterable(range(100)), ops.map(str), watch=pictures.append)
    await asyncio.sleep(1)
    assert len(pictures) == 1
    assert pictures[0].text() == explanation.text()


def test_live_drawing_leaves_the_loop_to_the_stream_most_of_the_time() -> None:
    class Loop(asyncio.SelectorEventLoop):
        now = 0.0

        def time(self) -> float:
            return self.now

    loop = Loop()
    pictures: list[Diagram] = []

    def slow(diagram: Diagram) -> None:
        pictures.append(diagram)
        loop.now += 3

    async def stream() -> None:
        subject: Subject[int] = Subject()
        explain(subject, watch=slow)
        for number in range(1000):
            subject.on_next(number)
            loop.now += 0.1
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(stream())
    assert 5 <= len(pictures) <= 10, "3 s for a picture, 12 s for the stream"
    assert len(pictures) * 3 <= loop.now / 4


@pytest.mark.looptime
async def test_live_it_can_be_left() -> None:
    subject: Subject[str] = Subject()
    explanation = explain(subject, until=2)
    diagram = await explanation
    assert [mark.kind for mark in diagram.rows[0].marks] == ["subscribed", "disposed"]
    again = explain(subject)
    again.dispose()
    assert (await again).rows[0].marks[-1].kind == "disposed"
    assert not subject.observers


def test_a_thread_can_wait_for_the_end() -> None:
    subject: Subject[str] = Subject()
    explanation = explain(subject)
    thread = threading.Thread(target=subject.on_completed)
    thread.start()
    diagram = explanation.wait(10)
    thread.join()
    assert not diagram.rows[0].is_open
    assert explanation.wait().text() == diagram.text()


def test_a_failing_stream_is_drawn_and_not_raised() -> None:
    diagram = explain(rx.throw(RuntimeError("secret")), scheduler=TestScheduler()).diagram
    assert [mark.kind for mark in diagram.rows[0].marks] == ["subscribed", "error"]
    assert "╰ RuntimeError" in diagram.text()
    assert "secret" not in diagram.text()


def test_it_draws_itself() -> None:
    explanation = explain(rx.of("a"), scheduler=TestScheduler(), title="A title")
    assert str(explanation) == repr(explanation) == explanation.diagram.text()
    assert explanation._repr_svg_() == explanation.diagram.svg()
    assert explanation.title == explanation.diagram.title == "A title"
