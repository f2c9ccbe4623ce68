"""One recovery: its tries, its bound in time, the clock of both, and a dispose."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import reactivex as rx
import tenacity
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.scheduler import CurrentThreadScheduler, ImmediateScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.subject import Subject
from reactivex.testing import TestScheduler

from rxauth import AuthRejected, RefreshFailed, TransientError, recover_auth
from rxauth.recovery import RefreshRetryScheduled
from rxauth.testing import marbles

from .marble_table import RECOVERED, REFUSED, Row, one_after_the_other, sync_source

fixed = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(2), reraise=True)
forever = tenacity.Retrying(wait=tenacity.wait_fixed(2))
if_none = tenacity.retry_if_result(lambda result: result is None)


def slow(*outcomes: Any) -> Callable[[Any], Any]:
    """Make a refresh that takes one tick."""
    refresh = one_after_the_other(*outcomes)
    return lambda failure: rx.timer(1).pipe(ops.map(lambda _: refresh(failure)))


class TestBackoff:
    @pytest.mark.parametrize(
        ("outcomes", "retrying", "result"),
        [
            # a failure at 2, tries from 2 to 3, from 5 to 6, from 8 to 9
            pytest.param([OSError(), OSError(), "new"], fixed, "-----------(sa)-|", id="waits run on the scheduler"),
            pytest.param([OSError()], fixed, "---------(s#)", id="the last exception ends it"),
            pytest.param([ValueError("no"), "new"], None, "---(s#)", id="by default another exception is final"),
            pytest.param([RefreshFailed("", type="x", status=503)], None, "---(s#)", id="and RefreshFailed is final"),
            pytest.param([None, "new"], fixed.copy(retry=if_none), "--------(sa)-|", id="a policy may judge results"),
            pytest.param(
                [OSError()],
                fixed.copy(stop=tenacity.stop_after_delay(5)),
                "---------(s#)",
                id="a policy's clock is the scheduler's",
            ),
        ],
    )
    def test_follows_its_marbles(self, outcomes: list[Any], retrying: Any, result: str) -> None:
        assert Row("s-#", "s-a----|").run(recover_auth(slow(*outcomes), retrying=retrying)) == result

    def test_by_default_obeys_retry_after(self) -> None:
        events: list[Any] = []
        refresh = slow(OSError(), TransientError("busy", retry_after=7), "new")
        Row("s-#", "s-a----|").run(recover_auth(refresh, on_recovery=events.append))
        first, second = (each.delay for each in events if isinstance(each, RefreshRetryScheduled))
        assert (0 <= first <= 0.5, second) == (True, 7.0)

    @pytest.mark.parametrize("scheduler", [None, CurrentThreadScheduler.singleton(), ImmediateScheduler.singleton()])
    def test_without_a_loop_waits_on_a_timer_thread(self, scheduler: Any) -> None:
        refresh = one_after_the_other(OSError(), OSError(), True)
        ended, seen = threading.Event(), list[str]()
        policy = fixed.copy(wait=tenacity.wait_fixed(0.001))
        sync_source("se", "sa").pipe(recover_auth(refresh, retrying=policy)).subscribe(
            lambda event: seen.append(event.type), on_completed=ended.set, scheduler=scheduler
        )
        assert ended.wait(10)
        assert seen == RECOVERED


class TestTheTimeout:
    @pytest.mark.parametrize(
        ("refresh", "timeout", "result"),
        [
            pytest.param("-         ", 5, "-------(se|)      ", id="a refresh that hangs has failed"),
            pytest.param("#         ", 5, "-------(se|)      ", id="waits are inside it"),
            pytest.param("--------r", None, "------------(sa)-|", id="None is no bound"),
            pytest.param("--------r", float("inf"), "------------(sa)-|", id="infinity is no bound"),
        ],
    )
    def test_follows_its_marbles(self, refresh: str, timeout: float | None, result: str) -> None:
        row = Row("s-e", "  s-a----|")
        operator: Any = recover_auth(row.refresh(refresh, OSError()), timeout=timeout, retrying=forever)
        assert row.run(operator) == result.strip()

    def test_ends_tries_that_fail_at_once(self) -> None:
        """They never reach a timer."""

        class Slow(TestScheduler):
            """Each look at the clock takes a second."""

            seconds = 0

            @property
            def now(self) -> datetime:
                self.seconds += 1
                return datetime.fromtimestamp(self.seconds, tz=UTC)

        events: list[Any] = []
        refresh = one_after_the_other(OSError())
        operator: Any = recover_auth(refresh, retrying=tenacity.Retrying(), timeout=50, on_recovery=events.append)
        source: Subject[Any] = Subject()
        source.pipe(operator).subscribe(on_error=lambda _: None, scheduler=Slow())
        source.on_error(marbles.failure)
        assert events[-1] == RefreshFailed(type="TimeoutError")

    @pytest.mark.parametrize("timeout", [0, -1, float("nan")])
    def test_must_be_positive(self, timeout: float) -> None:
        with pytest.raises(ValueError, match="timeout"):
            recover_auth(lambda _: True, timeout=timeout)


async def takes(seconds: float) -> bool:
    await asyncio.sleep(seconds)
    return True


@pytest.mark.looptime
@pytest.mark.parametrize("jump", [0, 3600, -3600], ids=["a steady clock", "set forward, or a sleep", "set back"])
@pytest.mark.parametrize("given", [False, True], ids=["no scheduler", "AsyncIOScheduler"])
@pytest.mark.parametrize(
    ("refresh", "options", "result", "after"),
    [
        pytest.param(lambda _: takes(20), {"timeout": 30}, RECOVERED, 20, id="no refresh ends early"),
        pytest.param(lambda _: takes(1000), {"timeout": 30}, REFUSED, 30, id="no refresh is kept for ever"),
        pytest.param(
            one_after_the_other(OSError()),
            {"retrying": fixed.copy(stop=tenacity.stop_after_delay(5))},
            REFUSED,
            6,
            id="it is not the policy's clock",
        ),
    ],
)
async def test_the_wall_clock_may_be_set(
    refresh: Any, options: Any, result: list[str], after: int, given: bool, jump: int
) -> None:
    """RxPY's `now` is the wall clock. It is never read."""

    class Jumping(AsyncIOScheduler):
        looks = 0

        @property
        def now(self) -> datetime:
            self.looks += 1
            return datetime.fromtimestamp(10**9 + self.looks * jump, tz=UTC)

    loop, seen, ended = asyncio.get_running_loop(), list[Any](), asyncio.Event()
    began = loop.time()
    sync_source("se", "sa").pipe(recover_auth(refresh, **options)).subscribe(
        lambda event: seen.append(event.type), on_completed=ended.set, scheduler=Jumping(loop) if given else None
    )
    await ended.wait()
    assert (seen, round(loop.time() - began, 1)) == (result, after)


class TestDispose:
    def test_during_a_try_drops_its_result(self) -> None:
        row, ended = Row("s-#", "s-a|"), list[Any]()
        refresh = row.refresh("-----r")
        assert row.run(recover_auth(lambda failure: refresh(failure).pipe(ops.do_action(ended.append))), until=4) == ""
        assert (ended, row.subscriptions()) == (["fresh"], ["^-!"])

    async def test_lets_a_coroutine_run_to_its_end(self) -> None:
        started, go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        seen: list[Any] = []

        async def refresh(_: Any) -> bool:
            started.set()
            await go.wait()
            ended.set()
            return True

        subscription = sync_source("se", "sa").pipe(recover_auth(refresh)).subscribe(seen.append)
        await started.wait()
        subscription.dispose()
        gc.collect()
        go.set()
        await ended.wait()
        await asyncio.sleep(0)
        assert seen == []

    @pytest.mark.parametrize("raises", [False, True], ids=["a truth", "no truth"])
    def test_by_the_result_itself_is_the_end(self, raises: bool) -> None:
        class Result:
            def __bool__(self) -> bool:
                subscription.dispose()
                if raises:
                    raise LookupError
                return True

        source, seen = Subject[Any](), list[Any]()
        operator: Any = recover_auth(lambda _: Result(), on_recovery=seen.append)
        subscription = source.pipe(operator).subscribe(seen.append, seen.append)
        source.on_error(marbles.failure)
        assert seen == [AuthRejected("CredentialRejected", 401)]

    @pytest.mark.parametrize(
        "refresh", [one_after_the_other(OSError()), lambda _: rx.never()], ids=["of a wait", "of the timeout"]
    )
    def test_stops_a_timer_that_is_being_started(self, refresh: Any) -> None:
        timers: list[Disposable] = []

        class Overtaken(TestScheduler):
            """Another thread disposes before `schedule_relative` returns."""

            def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> Any:
                subscription.dispose()
                timers.append(Disposable())
                return timers[-1]

        source = Subject[Any]()
        subscription = source.pipe(recover_auth(refresh, retrying=fixed)).subscribe(scheduler=Overtaken())
        source.on_error(marbles.failure)
        assert [each.is_disposed for each in timers] == [True]
