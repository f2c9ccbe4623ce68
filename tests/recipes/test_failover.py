"""Failover and composition, drawn: one column is one tick, `s` a start, `e` and `#` a 401, `x` an overload in-band.

An operator that subscribes again (a retry, a failover) belongs between a buffer and the flush. There an attempt that
was never delivered comes as a `NeverLiveError`, and every other failure is the end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

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
from rxauth.errors import ProviderUnavailable
from rxauth.events import AssistantMessage, Error
from rxauth.testing import marbles

EVENTS = {"x": Error("error", AssistantMessage(), ProviderUnavailable("503: busy", status=503))}

Pipe: TypeAlias = Callable[[Observable[Any]], Observable[Any]]
buffer: Pipe = buffer_until_live()
flush: Pipe = flush_on_complete_or_error()


class Clock:
    """One virtual clock, and the sources on it."""

    def __init__(self) -> None:
        self.scheduler = TestScheduler()
        self.refreshes = 0
        self._cold: list[Any] = []

    def __call__(self, *attempts: str) -> Observable[Any]:
        """Return a source: its attempts, one after the other; the last one again when there are no more."""
        cold = [marbles.cold(self.scheduler, each, EVENTS) for each in attempts]
        self._cold += cold
        left = iter(cold)

        def attempt(_: abc.SchedulerBase) -> Observable[Any]:
            return next(left, cold[-1])

        return rx.defer(attempt)

    def refresh(self, failure: Any) -> Observable[Any]:
        self.refreshes += 1
        return marbles.cold(self.scheduler, "-r|", {"r": "fresh"})

    def no_refresh(self, failure: Any) -> Observable[Any]:
        return marbles.cold(self.scheduler, "-n|", {"n": None})

    @property
    def retry(self) -> Pipe:
        return retry_on_first_auth_error(self.refresh)

    @property
    def recover(self) -> Pipe:
        return recover_auth(self.refresh)

    def seen(self, *streams: Observable[Any], at: tuple[int, ...] = (0, 0)) -> list[str]:
        """Draw the streams as their subscribers see them; each subscribes at its time in `at`."""
        observers = []
        for stream, begin in zip(streams, at, strict=False):
            observers.append(observer := self.scheduler.create_observer())
            subscribe = partial(stream.subscribe, observer, scheduler=self.scheduler)
            self.scheduler.schedule_absolute(begin, lambda *_, subscribe=subscribe: subscribe())
        self.scheduler.start()
        return [marbles.draw(each.messages, EVENTS) for each in observers]

    @property
    def subscribed(self) -> list[int]:
        """When the attempts were subscribed to, in the order of the sources."""
        return [int(each.subscribe) for cold in self._cold for each in cold.subscriptions]


def switch(second: Observable[Any], *more: Pipe) -> Pipe:
    return switch_if_never_live(second.pipe(buffer, *more))


def documented(at: Clock, *primary: str, refresh: Any = None) -> Observable[Any]:
    """Compose in the order of the documentation: refresh once, then ask a second provider."""
    retry: Pipe = retry_on_first_auth_error(refresh or at.refresh)
    return at(*primary).pipe(buffer, retry, switch(at("s-a---|")), flush)


RAISES, IN_BAND, SLOW = "s-a-------#", "s-a-------x|", "s--------c------d|"


@pytest.mark.parametrize(
    ("stream", "result", "subscribed"),
    [
        pytest.param(lambda at: documented(at, "s-e", refresh=at.no_refresh), "-----(sa)|", [0, 3],
                     id="no new credential: the second provider answers"),
        pytest.param(lambda at: documented(at, "s-e", "s-e"), "-------(sa)|", [0, 3, 5],
                     id="a new credential is refused too: the second provider answers"),
        pytest.param(lambda at: documented(at, "s-e", "s-b---|"), "-----(sb)|", [0, 3],
                     id="a new credential is taken: the second provider is not asked"),
        pytest.param(lambda at: documented(at, "s-x"), "----(sa)|", [0, 2],
                     id="an overload: the second provider answers, without a refresh"),
        pytest.param(lambda at: documented(at, "s-a---x|"), "--(sa)x|", [0],
                     id="once something was shown, the second provider is not asked"),
        pytest.param(lambda at: at("s-x").pipe(buffer, switch_if_never_live(at("s--x")), flush), "--s--x", [0, 2],
                     id="a second provider without its own buffer shows its start early"),
        pytest.param(lambda at: at("s-x").pipe(buffer, switch(at("s-#")), switch(at("s-a---|")), flush),
                     "------(sa)|", [0, 2, 4], id="a third provider"),
        pytest.param(lambda at: at("s-x").pipe(buffer, at.retry, switch(at("s-e", "s-a---|"), at.retry), flush),
                     "-------(sa)|", [0, 2, 5], id="a second provider with a recovery of its own"),
        pytest.param(lambda at: at("s-x", "s-#", "s-a---|").pipe(buffer, ops.retry(3), flush),
                     "------(sa)|", [0, 2, 4], id="ops.retry forgets each attempt that was never live"),
        pytest.param(lambda at: at("s-x").pipe(buffer, ops.retry(3), flush), "------(sx|)", [0, 2, 4],
                     id="ops.retry shows the last failure once, with its start"),
        pytest.param(lambda at: at("s-x").pipe(buffer, flush, ops.retry(3)), "--(sx|)", [0],
                     id="ops.retry after the flush sees no failure"),
        pytest.param(lambda at: rx.merge(*(at(*each).pipe(at.recover) for each in (["s-e", "s-a-------b|"], [SLOW]))),
                     "-----(sa)(sc)b--d|", [0, 3, 0], id="two assistants in a merge are recovered one by one"),
        pytest.param(lambda at: rx.merge(at("s-x").pipe(at.recover), at("s----------c---|").pipe(at.recover)),
                     "--(sx)-----(sc)|", [0, 0], id="one that was never live does not end the other"),
        pytest.param(lambda at: rx.merge(at("s------x").pipe(buffer), at("s-c--------d|").pipe(buffer)).pipe(flush),
                     "--(sc)-(x|)", [0, 0], id="with one flush for both, both end together"),
        # `ops.catch` and `ops.retry` take every exception, also one that an SDK raises after the stream was live. That
        # brings the phantom back; rxauth's own sources fail in-band.
        pytest.param(lambda at: at(RAISES).pipe(ops.catch(at("s-b|"))), "s-a-------s-b|", [0, 10],
                     id="a bare ops.catch starts behind half an answer"),
        pytest.param(lambda at: at(RAISES).pipe(buffer, ops.catch(at("s-b---|").pipe(buffer)), flush),
                     "--(sa)------(sb)|", [0, 10], id="buffers do not help ops.catch"),
        pytest.param(lambda at: at(RAISES, "s-b---|").pipe(buffer, ops.retry(2), flush), "--(sa)------(sb)|", [0, 10],
                     id="buffers do not help ops.retry"),
        pytest.param(lambda at: at(RAISES).pipe(buffer, switch(at("s-b---|")), flush), "--(sa)----#", [0],
                     id="switch_if_never_live leaves such an end alone"),
        pytest.param(lambda at: at(IN_BAND).pipe(buffer, ops.catch(at("s-b---|").pipe(buffer)), flush),
                     "--(sa)----x|", [0], id="ops.catch is safe with a source that fails in-band"),
        pytest.param(lambda at: at(IN_BAND).pipe(buffer, ops.retry(2), flush), "--(sa)----x|", [0],
                     id="ops.retry is safe with a source that fails in-band"),
    ],
)  # fmt: skip
def test_composition(stream: Callable[[Clock], Observable[Any]], result: str, subscribed: list[int]) -> None:
    clock = Clock()
    assert clock.seen(stream(clock)) == [result]
    assert clock.subscribed == subscribed


def test_bare_catch_leaves_a_message_open() -> None:
    clock, transcript = Clock(), Transcript()
    clock(RAISES).pipe(ops.catch(clock("s-b|"))).subscribe(transcript, scheduler=clock.scheduler)
    clock.scheduler.start()
    assert sum(entry.open for entry in transcript.entries) == 1


@pytest.mark.parametrize(
    ("stream", "at", "results", "refreshes"),
    [
        pytest.param(lambda at: at("s-e", "s-a-----b|").pipe(at.recover, ops.share()), (0, 0),
                     ["-----(sa)--b|", "-----(sa)--b|"], 1, id="one request and one refresh for all"),
        pytest.param(lambda at: at("s-a-----b|").pipe(at.recover, ops.share()), (0, 4),
                     ["--(sa)--b|", "--------b|"], 0, id="a late subscriber misses the start"),
        pytest.param(lambda at: at("s-a-----b|").pipe(at.recover, ops.replay(), ops.ref_count()), (0, 4),
                     ["--(sa)--b|", "----(sa)b|"], 0, id="a late subscriber of a replay gets all of it"),
    ],
)  # fmt: skip
def test_shared_recovery(stream: Callable[[Clock], Any], at: Any, results: list[str], refreshes: int) -> None:
    clock = Clock()
    shared = stream(clock)
    assert clock.seen(shared, shared, at=at) == results
    assert clock.refreshes == refreshes


@pytest.mark.parametrize(
    ("refused", "result"),
    [
        pytest.param("s-e", "-----(sa)--b|", id="each subscriber refreshes for itself"),
        pytest.param("s-#", "---#", id="what was thrown once is only repeated"),
    ],
)
def test_sharing_in_front_of_the_recovery_is_a_mistake(refused: str, result: str) -> None:
    clock = Clock()
    shared = clock(refused, "s-a-----b|").pipe(ops.share())
    assert clock.seen(shared.pipe(clock.recover), shared.pipe(clock.recover)) == [result] * 2
    assert clock.refreshes == 2
