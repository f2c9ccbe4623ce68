"""Failover and composition, drawn: one column is one tick, `s` a start, `e` and `#` a 401, `x` an overload in-band.

Whatever subscribes again (a retry, a failover) belongs between a buffer and the flush. There an attempt that nobody
has seen comes as a `NeverLiveError`, and every other failure is the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.testing import TestScheduler

from rxauth import (
    NeverLiveError,
    Transcript,
    buffer_until_live,
    flush_on_complete_or_error,
    from_async_iterable,
    recover_auth,
    retry_on_first_auth_error,
    switch_if_never_live,
    to_async_iterable,
)
from rxauth.failures import status
from rxauth.testing import marbles

from ..operators.marble_table import EVENTS, diagram_of

is_overloaded = status(503)


class Clock:
    """One virtual clock, the sources on it, and what came of them."""

    def __init__(self) -> None:
        self.scheduler = TestScheduler()
        self.refreshes = 0
        self._cold: list[Any] = []

    def source(self, *attempts: str) -> Observable[Any]:
        """Its attempts, one after the other; the last one again when there are no more."""
        cold = [marbles.cold(self.scheduler, each, EVENTS) for each in attempts]
        self._cold += cold
        left = iter(cold)

        def attempt(_: abc.SchedulerBase) -> Observable[Any]:
            return next(left, cold[-1])

        return rx.defer(attempt)

    def refresh(self, diagram: str) -> Callable[[Any], Any]:
        """It takes as long as the diagram says: `r` is a new credential, `n` none."""

        def refreshed(failure: Any) -> Observable[Any]:
            self.refreshes += 1
            return marbles.cold(self.scheduler, diagram, {"r": "fresh", "n": None})

        return refreshed

    def run(self, *streams: Observable[Any], at: tuple[int, ...] = (0, 0)) -> str | list[str]:
        """What the subscribers of the streams see; each subscribes at its time in `at`."""
        observers = []
        for stream, begin in zip(streams, at, strict=False):
            observers.append(observer := self.scheduler.create_observer())
            self.scheduler.schedule_absolute(begin, subscription(stream, observer, self.scheduler))
        self.scheduler.start()
        seen = [marbles.draw(each.messages, EVENTS) for each in observers]
        return seen if len(seen) > 1 else seen[0]

    def subscriptions(self) -> list[str]:
        """When the sources were subscribed to."""
        return [diagram_of(each) for cold in self._cold for each in cold.subscriptions]

    def left_open(self, stream: Observable[Any]) -> int:
        """How many messages a chat program would show for ever as if they were still being written."""
        transcript = Transcript()
        stream.subscribe(transcript, scheduler=self.scheduler)
        self.scheduler.start()
        return sum(entry.open for entry in transcript.entries)


def subscription(stream: Observable[Any], observer: Any, scheduler: TestScheduler) -> Any:
    return lambda *_: stream.subscribe(observer, scheduler=scheduler)


class TestASecondProvider:
    @pytest.mark.parametrize(
        ("primary", "refresh", "backup", "result", "subscriptions"),
        [
            pytest.param(
                ["s-e"], "-n|", "s-a---|", "-----(sa)|", ["^-!", "---^-----!"],
                id="no new credential: the second provider answers",
            ),
            pytest.param(
                ["s-e", "s-e"], "-r|", "s-a---|", "-------(sa)|", ["^-!", "---^-!", "-----^-----!"],
                id="a new credential is refused too: the second provider answers",
            ),
            pytest.param(
                ["s-e", "s-a---|"], "-r|", "s-a---|", "-----(sa)|", ["^-!", "---^-----!"],
                id="a new credential is taken: the second provider is not asked",
            ),
            pytest.param(
                ["s-x"], "-r|", "s-a---|", "----(sa)|", ["^-!", "--^-----!"],
                id="an overload: the second provider answers, without a refresh",
            ),
            pytest.param(
                ["s-a---x|"], "-r|", "s-a---|", "--(sa)x|", ["^------!"],
                id="once something was shown, the second provider is not asked",
            ),
        ],
    )  # fmt: skip
    def test_it_answers_in_place_of_the_first(
        self, primary: list[str], refresh: str, backup: str, result: str, subscriptions: list[str]
    ) -> None:
        clock = Clock()
        first, second = clock.source(*primary), clock.source(backup)
        stream: Observable[Any] = first.pipe(
            buffer_until_live(),
            retry_on_first_auth_error(clock.refresh(refresh)),
            switch_if_never_live(second.pipe(buffer_until_live())),
            flush_on_complete_or_error(),
        )
        assert clock.run(stream) == result
        assert clock.subscriptions() == subscriptions

    def test_without_a_buffer_of_its_own_its_opening_is_shown_before_it_is_live(self) -> None:
        clock = Clock()
        first, second = clock.source("s-x"), clock.source("s--x")
        stream: Observable[Any] = first.pipe(
            buffer_until_live(), switch_if_never_live(second), flush_on_complete_or_error()
        )
        assert clock.run(stream) == "--s--x"

    def test_a_third_stands_behind_the_second(self) -> None:
        clock = Clock()
        one, two, three = (clock.source(each).pipe(buffer_until_live()) for each in ("s-x", "s-#", "s-a---|"))
        stream: Observable[Any] = one.pipe(
            switch_if_never_live(two), switch_if_never_live(three), flush_on_complete_or_error()
        )
        assert clock.run(stream) == "------(sa)|"

    def test_each_provider_may_have_a_recovery_of_its_own(self) -> None:
        clock = Clock()
        first: Observable[Any] = clock.source("s-x").pipe(
            buffer_until_live(), retry_on_first_auth_error(clock.refresh("-r|"))
        )
        second: Observable[Any] = clock.source("s-e", "s-a---|").pipe(
            buffer_until_live(), retry_on_first_auth_error(clock.refresh("-r|"))
        )
        assert clock.run(first.pipe(switch_if_never_live(second), flush_on_complete_or_error())) == "-------(sa)|"


class TestATimeForTheFirstLiveEvent:
    """`ops.timeout_with_mapper` behind the buffer waits for the first live event, not for the opening."""

    def in_time(self, ticks: float) -> Callable[[Observable[Any]], Observable[Any]]:
        return ops.timeout_with_mapper(
            rx.timer(ticks),
            lambda _: rx.never(),  # from the first on there is no limit
            rx.throw(NeverLiveError((), TimeoutError("There was no answer in time."))),
        )

    @pytest.mark.parametrize(
        ("primary", "result"),
        [
            pytest.param("s-------a|", "-------(sa)|", id="too late: the second provider answers"),
            pytest.param("s---", "-------(sa)|", id="never: the second provider answers"),
            pytest.param("s--a-----------b|", "---(sa)--------b|", id="in time: it may take as long as it likes"),
        ],
    )
    def test_it_may_take_five_ticks(self, primary: str, result: str) -> None:
        clock = Clock()
        first, second = clock.source(primary), clock.source("s-a---|")
        stream: Observable[Any] = first.pipe(
            buffer_until_live(),
            self.in_time(5),
            switch_if_never_live(second.pipe(buffer_until_live())),
            flush_on_complete_or_error(),
        )
        assert clock.run(stream) == result

    def test_in_front_of_the_buffer_the_opening_is_in_time_and_nothing_else_need_be(self) -> None:
        clock = Clock()
        first = clock.source("s-------a---|")
        stream: Observable[Any] = first.pipe(self.in_time(5), buffer_until_live(), flush_on_complete_or_error())
        assert clock.run(stream) == "--------(sa)|"

    @pytest.mark.looptime
    async def test_on_asyncio_the_timer_runs_on_the_loop(self) -> None:
        loop = asyncio.get_running_loop()
        left: list[str] = []

        async def slow() -> AsyncIterator[dict[str, str]]:
            try:
                yield {"type": "start", "from": "slow"}
                await asyncio.sleep(100)
            finally:
                left.append(f"after {loop.time() - began:g} s")

        async def quick() -> AsyncIterator[dict[str, str]]:
            yield {"type": "start", "from": "quick"}
            yield {"type": "text", "from": "quick"}

        began = loop.time()
        stream: Observable[Any] = from_async_iterable(slow).pipe(
            buffer_until_live(),
            ops.timeout_with_mapper(
                rx.timer(5.0, scheduler=AsyncIOScheduler(loop)),
                lambda _: rx.never(),
                rx.throw(NeverLiveError((), TimeoutError("There was no answer in time."))),
            ),
            switch_if_never_live(from_async_iterable(quick).pipe(buffer_until_live())),
            flush_on_complete_or_error(),
        )
        seen = [event async for event in to_async_iterable(stream)]
        assert [(event["type"], event["from"]) for event in seen] == [("start", "quick"), ("text", "quick")]
        assert left == ["after 5 s"]

    def test_the_source_is_disposed_when_it_is_too_late(self) -> None:
        clock = Clock()
        stream = clock.source("s---").pipe(buffer_until_live(), self.in_time(5))
        assert clock.run(stream) == "-----#"
        assert clock.subscriptions() == ["^----!"]


class TestAnOverload:
    """`ops.retry` with a buffer for each attempt; and what it takes to wait in between, or to choose."""

    def test_each_attempt_that_was_never_live_is_forgotten(self) -> None:
        clock = Clock()
        source = clock.source("s-x", "s-#", "s-a---|")
        assert clock.run(source.pipe(buffer_until_live(), ops.retry(3), flush_on_complete_or_error())) == "------(sa)|"
        assert clock.subscriptions() == ["^-!", "--^-!", "----^-----!"]

    def test_the_last_failure_is_shown_once_with_its_opening(self) -> None:
        clock = Clock()
        stream: Observable[Any] = clock.source("s-x").pipe(
            buffer_until_live(), ops.retry(3), flush_on_complete_or_error()
        )
        assert clock.run(stream) == "------(sx|)"

    def test_behind_the_flush_it_sees_no_error_in_band(self) -> None:
        clock = Clock()
        stream: Observable[Any] = clock.source("s-x").pipe(
            buffer_until_live(), flush_on_complete_or_error(), ops.retry(3)
        )
        assert clock.run(stream) == "--(sx|)"

    def patiently(self, source: Observable[Any], tries: int) -> Observable[Any]:
        """Try again after 2, then 4 ticks, if the provider is overloaded and nobody has seen anything."""
        attempt = source.pipe(buffer_until_live())

        def again(left: int, wait: float) -> Callable[[NeverLiveError], Observable[Any]]:
            def after(error: NeverLiveError) -> Observable[Any]:
                if left == 0 or not is_overloaded(error):
                    return rx.throw(error)
                following = attempt.pipe(switch_if_never_live(again(left - 1, 2 * wait)))
                return rx.timer(wait).pipe(ops.flat_map(lambda _: following))

            return after

        return attempt.pipe(switch_if_never_live(again(tries - 1, 2.0)), flush_on_complete_or_error())

    @pytest.mark.parametrize(
        ("attempts", "result", "subscriptions"),
        [
            pytest.param(
                ["s-x", "s-x", "s-a---|"], "------------(sa)|", ["^-!", "----^-!", "----------^-----!"],
                id="it waits 2, then 4 ticks",
            ),
            pytest.param(
                ["s-x"], "------------(sx|)", ["^-!", "----^-!", "----------^-!"], id="the third failure is shown"
            ),
            pytest.param(["s-e"], "--(se|)", ["^-!"], id="another failure is not tried again"),
            pytest.param(["s-a---x|"], "--(sa)x|", ["^------!"], id="nor is one after something was shown"),
            pytest.param(["s-a---#", "s-a|"], "--(sa)#", ["^-----!"], id="nor is one that is thrown after that"),
        ],
    )  # fmt: skip
    def test_with_waits_in_between(self, attempts: list[str], result: str, subscriptions: list[str]) -> None:
        clock = Clock()
        assert clock.run(self.patiently(clock.source(*attempts), tries=3)) == result
        assert clock.subscriptions() == subscriptions


class TestTwoAssistantsAtOnce:
    """`rx.merge`: everything that ends with a flush belongs into the branches."""

    def test_each_branch_is_recovered_by_itself(self) -> None:
        clock = Clock()
        left = clock.source("s-e", "s-a-------b|").pipe(recover_auth(clock.refresh("-r|")))
        right = clock.source("s--------c------d|").pipe(recover_auth(clock.refresh("-r|")))
        assert clock.run(rx.merge(left, right)) == "-----(sa)(sc)b--d|"
        assert clock.refreshes == 1

    def test_a_branch_that_was_never_live_does_not_end_the_other(self) -> None:
        clock = Clock()
        left = clock.source("s-x").pipe(recover_auth(clock.refresh("-r|")))
        right = clock.source("s----------c---|").pipe(recover_auth(clock.refresh("-r|")))
        assert clock.run(rx.merge(left, right)) == "--(sx)-----(sc)|"

    def test_with_the_flush_behind_the_merge_it_ends_the_other_and_its_opening_is_lost(self) -> None:
        clock = Clock()
        left, right = clock.source("s------x"), clock.source("s-c--------d|")
        merged = rx.merge(left.pipe(buffer_until_live()), right.pipe(buffer_until_live()))
        assert clock.run(merged.pipe(flush_on_complete_or_error())) == "--(sc)-(x|)"
        assert clock.subscriptions() == ["^------!", "^------!"]


class TestOneAssistantForSeveral:
    """`ops.share` behind the recovery: one request and one refresh, however many listen."""

    def test_two_subscribers_see_one_recovered_stream(self) -> None:
        clock = Clock()
        shared = clock.source("s-e", "s-a-----b|").pipe(recover_auth(clock.refresh("-r|")), ops.share())
        assert clock.run(shared, shared) == ["-----(sa)--b|"] * 2
        assert clock.subscriptions() == ["^-!", "---^--------!"]
        assert clock.refreshes == 1

    @pytest.mark.parametrize(
        ("refused", "seen"),
        [
            pytest.param("s-e", "-----(sa)--b|", id="each subscriber refreshes for itself"),
            pytest.param("s-#", "---#", id="what was thrown once is only repeated"),
        ],
    )
    def test_in_front_of_the_recovery_it_is_in_the_wrong_place(self, refused: str, seen: str) -> None:
        clock = Clock()
        shared = clock.source(refused, "s-a-----b|").pipe(ops.share())
        recover: Callable[[Observable[Any]], Observable[Any]] = recover_auth(clock.refresh("-r|"))
        assert clock.run(shared.pipe(recover), shared.pipe(recover)) == [seen] * 2
        assert clock.refreshes == 2

    def test_one_who_comes_late_has_missed_the_opening(self) -> None:
        clock = Clock()
        shared = clock.source("s-a-----b|").pipe(recover_auth(clock.refresh("-r|")), ops.share())
        assert clock.run(shared, shared, at=(0, 4)) == ["--(sa)--b|", "--------b|"]

    def test_with_a_replay_one_who_comes_late_gets_it_all_at_once(self) -> None:
        clock = Clock()
        replay = clock.source("s-a-----b|").pipe(recover_auth(clock.refresh("-r|")), ops.replay(), ops.ref_count())
        assert clock.run(replay, replay, at=(0, 4)) == ["--(sa)--b|", "----(sa)b|"]
        assert clock.subscriptions() == ["^--------!"]


class TestWhereAnOperatorOfRxBringsThePhantomBack:
    """`ops.catch` and `ops.retry` take every exception, also one that is thrown after the stream was live, as SDKs do.

    rxauth's own sources tell such failures in-band. For any other source take `switch_if_never_live`.
    """

    THROWN = "s-a-------#"
    TOLD = "s-a-------x|"

    def test_a_bare_catch_starts_the_second_provider_behind_half_an_answer(self) -> None:
        clock = Clock()
        stream = clock.source(self.THROWN).pipe(ops.catch(clock.source("s-b|")))
        assert clock.run(stream) == "s-a-------s-b|"

    def test_buffers_do_not_help_it(self) -> None:
        clock = Clock()
        second = clock.source("s-b---|").pipe(buffer_until_live())
        stream: Observable[Any] = clock.source(self.THROWN).pipe(
            buffer_until_live(), ops.catch(second), flush_on_complete_or_error()
        )
        assert clock.run(stream) == "--(sa)------(sb)|"

    def test_nor_do_they_help_a_retry(self) -> None:
        clock = Clock()
        source = clock.source(self.THROWN, "s-b---|")
        stream: Observable[Any] = source.pipe(buffer_until_live(), ops.retry(2), flush_on_complete_or_error())
        assert clock.run(stream) == "--(sa)------(sb)|"

    def test_what_the_chat_program_keeps_of_it(self) -> None:
        clock = Clock()
        stream = clock.source(self.THROWN).pipe(ops.catch(clock.source("s-b|")))
        assert clock.left_open(stream) == 1

    def test_switch_if_never_live_leaves_such_an_end_alone(self) -> None:
        clock = Clock()
        second = clock.source("s-b---|").pipe(buffer_until_live())
        stream: Observable[Any] = clock.source(self.THROWN).pipe(
            buffer_until_live(), switch_if_never_live(second), flush_on_complete_or_error()
        )
        assert clock.run(stream) == "--(sa)----#"

    @pytest.mark.parametrize("operator", ["catch", "retry"])
    def test_over_a_source_that_tells_its_failures_in_band_they_are_harmless(self, operator: str) -> None:
        clock = Clock()
        second = clock.source("s-b---|").pipe(buffer_until_live())
        again: Any = ops.catch(second) if operator == "catch" else ops.retry(2)
        stream: Observable[Any] = clock.source(self.TOLD).pipe(buffer_until_live(), again, flush_on_complete_or_error())
        assert clock.run(stream) == "--(sa)----x|"
