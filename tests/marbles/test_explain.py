"""`explain` draws the events between the operators, on one time axis."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import reactivex as rx
from reactivex import operators as ops
from reactivex.subject import Subject
from reactivex.testing import TestScheduler

from rxauth.events import TextDelta
from rxauth.marbles import Diagram, Recorder, explain
from rxauth.operators import buffer_until_live, flush_on_complete_or_error, recover_auth, retry_on_first_auth_error
from rxauth.testing import marbles
from tests.marbles.streams import DONE, REJECTED, picture

EVENTS = {"h": TextDelta(0, "Hello, "), "w": TextDelta(0, "world."), "e": REJECTED, "d": DONE}


def test_with_rxauth_the_second_attempt_is_all_that_is_seen() -> None:
    time = TestScheduler()
    recovery = Recorder("recovery", scheduler=time)
    refreshed = marbles.cold(time, "--r|")
    explanation = explain(
        marbles.attempts(time, "s--e", "s--hw-(d|)", events=EVENTS),
        buffer_until_live(),
        retry_on_first_auth_error(lambda _: refreshed, on_recovery=recovery.mark),
        flush_on_complete_or_error(),
        scheduler=time,
        beside=[recovery],
    )
    assert explanation.text(100).splitlines() == picture(
        """
        source, attempt 1           s─────────────────(e!)
                                                       ╰ CredentialRejected 401
        source, attempt 2                                         s─────────────────t─────t───────────(d|)
        buffer_until_live,          ──────────────────#
        attempt 1                                     ╰ NeverLiveError (CredentialRejected 401)
        buffer_until_live,                                        ──────────────────(st)──t───────────(d|)
        attempt 2
        retry_on_first_auth_error   ────────────────────────────────────────────────(st)──t───────────(d|)
        flush_on_complete_or_error  ────────────────────────────────────────────────(st)──t───────────(d|)
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
    assert repr(explanation) == str(explanation.diagram)
    assert explanation._repr_svg_() == explanation.diagram.svg()


def test_an_operator_is_named_as_in_the_pipe() -> None:
    def mine(stream: rx.Observable[Any]) -> rx.Observable[Any]:
        return stream

    class Named:
        def __call__(self, stream: rx.Observable[Any]) -> rx.Observable[Any]:
            return stream

    operators: list[Any] = [
        *(ops.map(str), ops.timeout_with_mapper(rx.never()), recover_auth(bool), mine, Named(), lambda stream: stream)
    ]
    names = ["map", "timeout_with_mapper", "recover_auth", "mine", "Named", "test_an_operator_is_named_as_in_the_pipe"]
    assert [row.label for row in explain(rx.of(1), *operators, scheduler=TestScheduler()).rows][1:] == names
    with pytest.raises(ValueError, match="2 operators need 2 labels, not 1"):
        explain(rx.of(1), ops.map(str), ops.map(str), labels=["one"])


def test_a_virtual_stream_runs_to_its_end_or_until() -> None:
    time = TestScheduler()
    ended = explain(rx.interval(1, scheduler=time), scheduler=time, until=3.5)
    assert ended.ended
    assert [(mark.time, mark.kind) for mark in ended.rows[0].marks][-2:] == [(3, "next"), (3.5, "disposed")]
    time = TestScheduler()
    left = explain(marbles.cold(time, "-a"), scheduler=time)
    assert (left.ended, left.rows[0].is_open, left.rows[0].open_until) == (False, True, None)


def test_a_cancelled_timer_does_not_stretch_the_axis() -> None:
    one, other = TestScheduler(), TestScheduler()
    bounded = explain(marbles.cold(one, "-a-|"), scheduler=one, until=100)
    assert bounded.text() == explain(marbles.cold(other, "-a-|"), scheduler=other).text()


def test_without_a_loop_every_change_is_drawn() -> None:
    pictures: list[str] = []
    explanation = explain(rx.of("a", "b"), ops.map(str.upper), watch=lambda diagram: pictures.append(diagram.text()))
    assert len(pictures) == 6
    assert pictures[-1] == explanation.text()


@pytest.mark.looptime
async def test_a_live_stream_is_drawn_and_can_be_awaited() -> None:
    subject: Subject[str] = Subject()
    pictures: list[Diagram] = []
    explanation = explain(subject, ops.map(str.upper), watch=pictures.append)
    for letter in "abcde":
        await asyncio.sleep(1)
        subject.on_next(letter)
    assert not explanation.ended
    assert explanation.rows[-1].values == tuple("ABCDE")
    await asyncio.sleep(1)
    assert len(pictures) == 5, "two rows that change together are one picture"
    for number in range(1000):
        subject.on_next(str(number))
        await asyncio.sleep(0.001)
    assert 5 + 5 <= len(pictures) <= 5 + 11, "a burst is drawn ten times a second"
    await asyncio.sleep(1)
    asyncio.get_running_loop().call_later(1, subject.on_next, "z")
    asyncio.get_running_loop().call_later(1.05, subject.on_completed)
    before = len(pictures)
    diagram = await explanation
    assert not diagram.rows[-1].is_open
    await asyncio.sleep(0)
    assert pictures[-1].text() == diagram.text() == (await explanation).text()
    await asyncio.sleep(1)
    assert len(pictures) == before + 1, "the end is drawn at once, and once"


def test_drawing_leaves_the_loop_to_the_stream_most_of_the_time() -> None:
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


@pytest.mark.looptime
async def test_a_live_stream_can_be_disposed() -> None:
    subject: Subject[str] = Subject()
    diagram = await explain(subject, until=2)
    assert [mark.kind for mark in diagram.rows[0].marks] == ["subscribed", "disposed"]
    again = explain(subject)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(again, 1)
    assert not again.ended, "one who waits no longer ends nothing"
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


def test_a_failing_stream_is_drawn_and_not_raised() -> None:
    diagram = explain(rx.throw(RuntimeError("secret")), scheduler=TestScheduler(), title="A title").diagram
    assert [mark.kind for mark in diagram.rows[0].marks] == ["subscribed", "error"]
    assert "╰ RuntimeError" in diagram.text()
    assert "secret" not in diagram.text()
