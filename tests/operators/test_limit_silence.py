"""limit_silence: how long a stream may be silent, before it is live and after."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.subject import Subject
from reactivex.testing import TestScheduler

from rxauth import buffer_until_live, limit_silence
from rxauth.events import Ping, TextDelta
from rxauth.testing import marbles

from .marble_table import Row

PING = {"p": Ping()}


# fmt: off
TABLE = {
    "live in time":                             ({"first": 5},            "s---a------b|",
                                                                          "s---a------b|"),
    "live in the last moment":                  ({"first": 5},            "s----a|",
                                                                          "s----a|"),
    "live too late":                            ({"first": 5},            "s-----a|",
                                                                          "s----#"),
    "a prelude does not count for first":       ({"first": 5},            "s-s-s-s|",
                                                                          "s-s-s#"),
    "a ping does not count for first":          ({"first": 5},            "s-p-p-p|",
                                                                          "s----#"),
    "an error event does not count for first":  ({"first": 5},            "s-e----|",
                                                                          "s-e--#"),
    "an event in every last moment":            ({"idle": 3},             "s--s--a--b--|",
                                                                          "s--s--a--b--|"),
    "silence before live":                      ({"idle": 3},             "s----a|",
                                                                          "s--#"),
    "silence in the middle":                    ({"idle": 3},             "s-a-----b|",
                                                                          "s-a--#"),
    "pings count for idle and are removed":     ({"idle": 3},             "s-p-p-p-a|",
                                                                          "s-------a|"),
    "pings after live count and are removed":   ({"idle": 3},             "s-ap--p--p--|",
                                                                          "s-a---------|"),
    "idle runs out first":                      ({"first": 9, "idle": 3}, "s-p-p----|",
                                                                          "s------#"),
    "first runs out first":                     ({"first": 5, "idle": 3}, "s-p-p-p-p|",
                                                                          "s----#"),
    "only idle holds after live":               ({"first": 5, "idle": 3}, "s-a-b-c-d|",
                                                                          "s-a-b-c-d|"),
    "a failure passes":                         ({"first": 5, "idle": 3}, "s-#",
                                                                          "s-#"),
    "without a limit only pings are removed":   ({},                      "s-p-a---------|",
                                                                          "s---a---------|"),
}
# fmt: on


@pytest.mark.parametrize(("limits", "source", "result"), TABLE.values(), ids=TABLE)
def test_limit_silence_follows_its_marbles(limits: dict[str, Any], source: str, result: str) -> None:
    row = Row(source, events=PING)
    until_the_end = "^" + "-" * (len(result) - 2) + "!"
    assert [row.run(limit_silence(**limits)), *row.subscriptions()] == [result, until_the_end]


def test_silence_is_a_timeout_error_and_can_be_buffered() -> None:
    before_live = Row("s-p-p-p-p", events=PING).ends(limit_silence(first=5), buffer_until_live())
    after_live = Row("s-a-----").ends(limit_silence(idle=2.5), buffer_until_live())
    assert before_live.held == (marbles.event("s"),)
    assert [repr(before_live.failure), repr(after_live)] == [
        "TimeoutError('The stream brought no live event within 5 s.')",
        "TimeoutError('The stream was silent for 2.5 s.')",
    ]


@pytest.mark.parametrize("name", ["first", "idle"])
@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_limit_that_is_no_length_of_time_is_refused(name: str, seconds: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is .*; it must be a finite number of seconds above 0"):
        limit_silence(**{name: seconds})  # type: ignore[arg-type]


def test_predicates_of_another_vocabulary_are_used() -> None:
    row = Row("h-k-k-w-k-k|", events={"h": "hello", "k": "keepalive", "w": "word"})
    own = limit_silence(
        first=9, idle=3, is_prelude=lambda e: e == "hello", is_ping=lambda e: e == "keepalive", is_error=lambda _: False
    )
    assert row.run(own) == "h-----w----|"


def test_dispose_stops_the_waits() -> None:
    row = Row("s-a")
    assert row.run(limit_silence(first=5, idle=9), until=4) == "s-a"
    assert row.subscriptions() == ["^---!"]


def test_the_source_is_disposed_before_the_failure_is_shown() -> None:
    """A retry must not open its connection while the silent one is open. What a deaf one still emits is dropped."""
    clock, source, seen = TestScheduler(), Subject[Any](), list[Any]()

    def deaf_to_dispose(observer: abc.ObserverBase[Any], _: Any = None) -> abc.DisposableBase:
        source.subscribe(observer.on_next)
        return Disposable(lambda: seen.append("disposed"))

    stream = Observable(deaf_to_dispose).pipe(limit_silence(idle=5))
    stream.subscribe(seen.append, lambda error: seen.append(type(error)), scheduler=clock)
    clock.advance_to(7)
    source.on_next(TextDelta(0, "late"))
    assert seen == ["disposed", TimeoutError]


class TestClocks:
    """Limits are measured by the clock that the waits run on."""

    @pytest.mark.looptime
    @pytest.mark.parametrize("own_scheduler", [False, True], ids=["the running loop", "an AsyncIOScheduler"])
    async def test_a_wait_on_a_loop_is_measured_by_its_clock(self, own_scheduler: bool) -> None:
        """The loop's clock runs ahead here while the wall clock stands still."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        rx.never().pipe(limit_silence(first=900)).subscribe(
            on_error=lambda error: ended.set_result(type(error)),
            scheduler=AsyncIOScheduler(loop) if own_scheduler else None,
        )
        assert await ended is TimeoutError
        assert loop.time() == pytest.approx(900)

    @pytest.mark.parametrize(
        ("source", "busy", "result"),
        [
            pytest.param("sa" + "-" * 41 + "b|", 40, "s" + "-" * 40 + "a-b|", id="events are read first"),
            pytest.param("a", 50, "-" * 50 + "a" + "-" * 19 + "#", id="silence still ends the stream"),
        ],
    )
    def test_after_a_busy_consumer_the_limit_is_extended(self, source: str, busy: int, result: str) -> None:
        clock = TestScheduler()

        def consume(event: Any) -> None:
            if event == marbles.event("a"):
                clock.sleep(busy)

        stream = marbles.cold(clock, source).pipe(limit_silence(idle=30), ops.do_action(consume))
        assert marbles.draw(marbles.observe(clock, stream)) == result

    def test_without_a_loop_a_source_that_blocks_is_timed_out(self) -> None:
        timed_out = threading.Event()

        def block(observer: abc.ObserverBase[Any], _: Any = None) -> Any:
            assert timed_out.wait(30)
            observer.on_next(TextDelta(0, "late"))

        seen: list[Any] = []

        def fail(error: Exception) -> None:
            seen.append(type(error))
            timed_out.set()

        Observable(block).pipe(limit_silence(first=0.01)).subscribe(seen.append, fail)
        assert seen == [TimeoutError]
