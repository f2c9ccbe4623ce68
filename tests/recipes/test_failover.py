"""Failover and composition, drawn: one column is one tick, `s` a start, `e` and `#` a 401, `x` an overload in-band.

An operator that subscribes again (a retry, a failover) belongs between a buffer and the flush. There an attempt that
was never delivered comes as a `NeverLiveError`, and every other failure is the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.testing import TestScheduler

from rxauth import (
    Transcript,
    buffer_until_live,
    flush_on_complete_or_error,
    recover_auth,
    retry_on_first_auth_error,
    switch_if_never_live,
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
        """The streams as their subscribers see them; each subscribes at its time in `at`."""
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
    def test_answers_in_place_of_the_first(
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

    def test_without_its_own_buffer_shows_its_start_early(self) -> None:
        clock = Clock()
        first, second = clock.source("s-x"), clock.source("s--x")
        stream: Observable[Any] = first.pipe(
            buffer_until_live(), switch_if_never_live(second), flush_on_complete_or_error()
        )
        assert clock.run(stream) == "--s--x"

    def test_may_be_followed_by_a_third(self) -> None:
        clock = Clock()
        one, two, three = (clock.source(each).pipe(buffer_until_live()) for each in ("s-x", "s-#", "s-a---|"))
        stream: Observable[Any] = one.pipe(
            switch_if_never_live(two), switch_if_never_live(three), flush_on_complete_or_error()
        )
        assert clock.run(stream) == "------(sa)|"

    def test_may_have_a_recovery_of_its_own(self) -> None:
        clock = Clock()
        first: Observable[Any] = clock.source("s-x").pipe(
            buffer_until_live(), retry_on_first_auth_error(clock.refresh("-r|"))
        )
        second: Observable[Any] = clock.source("s-e", "s-a---|").pipe(
            buffer_until_live(), retry_on_first_auth_error(clock.refresh("-r|"))
        )
        assert clock.run(first.pipe(switch_if_never_live(second), flush_on_complete_or_error())) == "-------(sa)|"


class TestAnOverload:
    """`ops.retry` with a buffer for each attempt. To wait between them, or to choose, use `retry_never_live`."""

    def test_forgets_each_attempt_that_was_never_live(self) -> None:
        clock = Clock()
        source = clock.source("s-x", "s-#", "s-a---|")
        assert clock.run(source.pipe(buffer_until_live(), ops.retry(3), flush_on_complete_or_error())) == "------(sa)|"
        assert clock.subscriptions() == ["^-!", "--^-!", "----^-----!"]

    def test_shows_the_last_failure_once_with_its_start(self) -> None:
        clock = Clock()
        stream: Observable[Any] = clock.source("s-x").pipe(
            buffer_until_live(), ops.retry(3), flush_on_complete_or_error()
        )
        assert clock.run(stream) == "------(sx|)"

    def test_after_the_flush_is_not_seen_by_a_retry(self) -> None:
        clock = Clock()
        stream: Observable[Any] = clock.source("s-x").pipe(
            buffer_until_live(), flush_on_complete_or_error(), ops.retry(3)
        )
        assert clock.run(stream) == "--(sx|)"


class TestTwoAssistantsAtOnce:
    """`rx.merge`: everything that ends with a flush belongs into the branches."""

    def test_are_recovered_one_by_one(self) -> None:
        clock = Clock()
        left = clock.source("s-e", "s-a-------b|").pipe(recover_auth(clock.refresh("-r|")))
        right = clock.source("s--------c------d|").pipe(recover_auth(clock.refresh("-r|")))
        assert clock.run(rx.merge(left, right)) == "-----(sa)(sc)b--d|"
        assert clock.refreshes == 1

    def test_one_that_was_never_live_does_not_end_the_other(self) -> None:
        clock = Clock()
        left = clock.source("s-x").pipe(recover_auth(clock.refresh("-r|")))
        right = clock.source("s----------c---|").pipe(recover_auth(clock.refresh("-r|")))
        assert clock.run(rx.merge(left, right)) == "--(sx)-----(sc)|"

    def test_with_one_flush_for_both_end_together(self) -> None:
        clock = Clock()
        left, right = clock.source("s------x"), clock.source("s-c--------d|")
        merged = rx.merge(left.pipe(buffer_until_live()), right.pipe(buffer_until_live()))
        assert clock.run(merged.pipe(flush_on_complete_or_error())) == "--(sc)-(x|)"
        assert clock.subscriptions() == ["^------!", "^------!"]


class TestOneAssistantForSeveral:
    """`ops.share` after the recovery: one request and one refresh for any number of subscribers."""

    def test_is_shared_by_two_subscribers(self) -> None:
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
    def test_shared_in_front_of_the_recovery_is_a_mistake(self, refused: str, seen: str) -> None:
        clock = Clock()
        shared = clock.source(refused, "s-a-----b|").pipe(ops.share())
        recover: Callable[[Observable[Any]], Observable[Any]] = recover_auth(clock.refresh("-r|"))
        assert clock.run(shared.pipe(recover), shared.pipe(recover)) == [seen] * 2
        assert clock.refreshes == 2

    def test_a_late_subscriber_misses_the_start(self) -> None:
        clock = Clock()
        shared = clock.source("s-a-----b|").pipe(recover_auth(clock.refresh("-r|")), ops.share())
        assert clock.run(shared, shared, at=(0, 4)) == ["--(sa)--b|", "--------b|"]

    def test_a_late_subscriber_gets_all_of_a_replay(self) -> None:
        clock = Clock()
        replay = clock.source("s-a-----b|").pipe(recover_auth(clock.refresh("-r|")), ops.replay(), ops.ref_count())
        assert clock.run(replay, replay, at=(0, 4)) == ["--(sa)--b|", "----(sa)b|"]
        assert clock.subscriptions() == ["^--------!"]


class TestOperatorsThatBringThePhantomBack:
    """`ops.catch` and `ops.retry` take every exception, also one that is raised after the stream was live, as by SDKs.

    rxauth's own sources fail in-band. For any other source use `switch_if_never_live`.
    """

    RAISES = "s-a-------#"
    IN_BAND = "s-a-------x|"

    def test_a_bare_catch_starts_behind_half_an_answer(self) -> None:
        clock = Clock()
        stream = clock.source(self.RAISES).pipe(ops.catch(clock.source("s-b|")))
        assert clock.run(stream) == "s-a-------s-b|"

    def test_buffers_do_not_help_a_catch(self) -> None:
        clock = Clock()
        second = clock.source("s-b---|").pipe(buffer_until_live())
        stream: Observable[Any] = clock.source(self.RAISES).pipe(
            buffer_until_live(), ops.catch(second), flush_on_complete_or_error()
        )
        assert clock.run(stream) == "--(sa)------(sb)|"

    def test_buffers_do_not_help_a_retry(self) -> None:
        clock = Clock()
        source = clock.source(self.RAISES, "s-b---|")
        stream: Observable[Any] = source.pipe(buffer_until_live(), ops.retry(2), flush_on_complete_or_error())
        assert clock.run(stream) == "--(sa)------(sb)|"

    def test_a_chat_program_keeps_an_open_message(self) -> None:
        clock = Clock()
        stream = clock.source(self.RAISES).pipe(ops.catch(clock.source("s-b|")))
        assert clock.left_open(stream) == 1

    def test_switch_if_never_live_leaves_such_an_end_alone(self) -> None:
        clock = Clock()
        second = clock.source("s-b---|").pipe(buffer_until_live())
        stream: Observable[Any] = clock.source(self.RAISES).pipe(
            buffer_until_live(), switch_if_never_live(second), flush_on_complete_or_error()
        )
        assert clock.run(stream) == "--(sa)----#"

    @pytest.mark.parametrize("operator", ["catch", "retry"])
    def test_an_in_band_source_is_safe_with_both(self, operator: str) -> None:
        clock = Clock()
        second = clock.source("s-b---|").pipe(buffer_until_live())
        again: Any = ops.catch(second) if operator == "catch" else ops.retry(2)
        stream: Observable[Any] = clock.source(self.IN_BAND).pipe(
            buffer_until_live(), again, flush_on_complete_or_error()
        )
        assert clock.run(stream) == "--(sa)----x|"
