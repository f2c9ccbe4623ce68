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

from rxauth import RefreshFailed, TransientError, recover_auth
from rxauth.recovery import RefreshRetryScheduled
from rxauth.testing import marbles

from .marble_table import Row
from .recovery_inputs import RECOVERED, REFUSED, one_after_the_other, rejected, sync_source

fixed = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(2), reraise=True)


class TestBackoff:
    def slow(self, row: Row, *outcomes: Any) -> Callable[[Any], Any]:
        """A refresh that takes one tick."""
        refresh = one_after_the_other(*outcomes)

        def slow(failure: Any) -> Any:
            row.failures.append(failure)
            return rx.timer(1).pipe(ops.map(lambda _: refresh(failure)))

        return slow

    @pytest.mark.parametrize(
        ("outcomes", "retrying", "result"),
        [
            # a failure at 2, tries from 2 to 3, from 5 to 6, from 8 to 9
            pytest.param([OSError(), OSError(), "new"], fixed, "-----------(sa)-|", id="waits run on the scheduler"),
            pytest.param([OSError()], fixed, "---------(s#)", id="the last exception ends it"),
            pytest.param([ValueError("no"), "new"], None, "---(s#)", id="by default another exception is final"),
            pytest.param(
                [RefreshFailed("", type="x", status=503)], None, "---(s#)", id="by default RefreshFailed is final"
            ),
            pytest.param(
                [None, "new"],
                fixed.copy(retry=tenacity.retry_if_result(lambda result: result is None)),
                "--------(sa)-|",
                id="a policy may judge the result",
            ),
            pytest.param(
                [OSError()],
                fixed.copy(stop=tenacity.stop_after_delay(5)),
                "---------(s#)",
                id="a policy's clock is the scheduler's",
            ),
        ],
    )
    def test_marbles(self, outcomes: list[Any], retrying: Any, result: str) -> None:
        row = Row("s-#", "s-a----|")
        assert row.run(recover_auth(self.slow(row, *outcomes), retrying=retrying)) == result

    def test_by_default_obeys_retry_after(self) -> None:
        row, events = Row("s-#", "s-a----|"), list[Any]()
        refresh = self.slow(row, OSError(), TransientError("busy", retry_after=7), "new")
        row.run(recover_auth(refresh, on_recovery=events.append))
        first, second = (each.delay for each in events if isinstance(each, RefreshRetryScheduled))
        assert (0 <= first <= 0.5, second) == (True, 7.0)

    def test_copies_the_policy_for_each_subscription(self) -> None:
        row = Row("s-#")
        shared = row.source.pipe(recover_auth(self.slow(row, OSError()), retrying=fixed))
        observers = [row.scheduler.create_observer() for _ in range(2)]
        for observer in observers:
            shared.subscribe(observer, scheduler=row.scheduler)
        row.scheduler.start()
        assert [marbles.draw(each.messages) for each in observers] == ["---------(s#)"] * 2

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

    def test_does_not_grow_the_stack(self) -> None:
        policy, tries = tenacity.Retrying(stop=tenacity.stop_after_attempt(2000)), list[int]()

        def refresh(_: Any) -> Any:
            tries.append(1)
            raise OSError

        rx.throw(rejected()).pipe(recover_auth(refresh, retrying=policy)).subscribe(on_error=lambda _: None)
        assert len(tries) == 2000

    def test_refuses_async_retrying(self) -> None:
        with pytest.raises(TypeError, match=r"tenacity\.Retrying"):
            recover_auth(lambda _: True, retrying=tenacity.AsyncRetrying())  # type: ignore[arg-type]


class TestTheTimeout:
    @pytest.mark.parametrize(
        ("refresh", "result"),
        [
            pytest.param("-", "-------(se|)", id="a refresh that hangs has failed"),
            pytest.param("#", "-------(se|)", id="waits are inside it"),
            pytest.param("---------r", "-------(se|)", id="a late credential is dropped"),
            pytest.param("----r", "--------(sa)-|", id="in time"),
        ],
    )
    def test_marbles(self, refresh: str, result: str) -> None:
        row, forever = Row("s-e", "  s-a----|"), tenacity.Retrying(wait=tenacity.wait_fixed(2))
        assert row.run(recover_auth(row.refresh(refresh, OSError()), timeout=5, retrying=forever)) == result

    def test_ends_tries_that_fail_at_once(self) -> None:
        """They never reach a timer."""

        class Slow(TestScheduler):
            """Each look at the clock takes a second."""

            @property
            def now(self) -> datetime:
                self.seconds = getattr(self, "seconds", 0) + 1
                return datetime.fromtimestamp(self.seconds, tz=UTC)

        events: list[Any] = []
        refresh = one_after_the_other(OSError())
        operator: Any = recover_auth(refresh, retrying=tenacity.Retrying(), timeout=50, on_recovery=events.append)
        source: Subject[Any] = Subject()
        source.pipe(operator).subscribe(on_error=lambda _: None, scheduler=Slow())
        source.on_error(rejected())
        assert events[-1] == RefreshFailed(type="TimeoutError")

    @pytest.mark.parametrize("timeout", [0, -1, float("nan")])
    def test_must_be_positive(self, timeout: float) -> None:
        with pytest.raises(ValueError, match="timeout"):
            recover_auth(lambda _: True, timeout=timeout)

    @pytest.mark.parametrize("timeout", [None, float("inf")])
    def test_none_and_infinity_are_no_bound(self, timeout: float | None) -> None:
        row = Row("s-e", "s-a----|")
        assert row.run(recover_auth(row.refresh("-" * 100 + "r"), timeout=timeout)).startswith("-" * 104 + "(sa)")


@pytest.mark.looptime
@pytest.mark.parametrize("jump", [0, 3600, -3600], ids=["a steady clock", "set forward, or a sleep", "set back"])
@pytest.mark.parametrize("given", [False, True], ids=["no scheduler", "AsyncIOScheduler"])
class TestTheWallClock:
    """RxPY's `now` is the wall clock. It is never read, so a clock that is set ends nothing early and nothing never."""

    def scheduler(self, given: bool, jump: int) -> Any:
        class Jumping(AsyncIOScheduler):
            looks = 0

            @property
            def now(self) -> datetime:
                self.looks += 1
                return datetime.fromtimestamp(10**9 + self.looks * jump, tz=UTC)

        return Jumping(asyncio.get_running_loop()) if given else None

    async def ended_after(self, operator: Any, scheduler: Any) -> tuple[list[Any], float]:
        loop, seen, ended = asyncio.get_running_loop(), list[Any](), asyncio.Event()
        began = loop.time()
        sync_source("se", "sa").pipe(operator).subscribe(
            lambda event: seen.append(event.type), on_completed=ended.set, scheduler=scheduler
        )
        await ended.wait()
        return seen, round(loop.time() - began, 1)

    async def test_ends_no_refresh_early(self, given: bool, jump: int) -> None:
        async def refresh(_: Any) -> bool:
            await asyncio.sleep(20)
            return True

        operator: Any = recover_auth(refresh, timeout=30)
        assert await self.ended_after(operator, self.scheduler(given, jump)) == (RECOVERED, 20)

    async def test_keeps_no_refresh_for_ever(self, given: bool, jump: int) -> None:
        async def refresh(_: Any) -> bool:
            await asyncio.sleep(1000)
            return True

        operator: Any = recover_auth(refresh, timeout=30)
        assert await self.ended_after(operator, self.scheduler(given, jump)) == (REFUSED, 30)

    async def test_is_not_the_policys(self, given: bool, jump: int) -> None:
        policy = fixed.copy(stop=tenacity.stop_after_delay(5))
        operator: Any = recover_auth(one_after_the_other(OSError()), retrying=policy)
        assert await self.ended_after(operator, self.scheduler(given, jump)) == (REFUSED, 6)


class TestDispose:
    def test_during_a_wait_starts_no_try(self) -> None:
        row = Row("s-#", "s-a|")
        assert row.run(recover_auth(row.refresh("#", OSError()), retrying=fixed), until=3) == ""
        assert len(row.failures) == 1

    def test_during_a_try_drops_its_result(self) -> None:
        row, ended = Row("s-#", "s-a|"), list[Any]()
        slow = row.refresh("-----r")
        assert row.run(recover_auth(lambda failure: slow(failure).pipe(ops.do_action(ended.append))), until=4) == ""
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

    @pytest.mark.parametrize("timer", ["of a wait", "of the timeout"])
    def test_stops_a_timer_that_is_being_started(self, timer: str) -> None:
        timers: list[Disposable] = []

        class Overtaken(TestScheduler):
            """Another thread disposes before `schedule_relative` returns."""

            def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> Any:
                subscription.dispose()
                timers.append(Disposable())
                return timers[-1]

        def refresh(_: Any) -> Any:
            if timer == "of a wait":
                raise OSError
            return rx.never()

        source = Subject[Any]()
        subscription = source.pipe(recover_auth(refresh, retrying=fixed)).subscribe(scheduler=Overtaken())
        source.on_error(marbles.failure)
        assert [each.is_disposed for each in timers] == [True]
