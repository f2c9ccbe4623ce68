"""The driver of a tenacity policy, for a scheduler (`Driver`) and for a coroutine (`call`)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import traceback
import weakref
from collections.abc import Callable
from inspect import signature
from typing import Any

import pytest
import tenacity
from reactivex import abc
from reactivex.disposable import Disposable
from reactivex.scheduler import NewThreadScheduler
from reactivex.testing import TestScheduler

from rxauth import backoff, waiting
from rxauth.errors import TransientError
from rxauth.waiting import Outcome

HAS_SWITCH = "enabled" in signature(tenacity.BaseRetrying).parameters
needs_switch = pytest.mark.skipif(not HAS_SWITCH, reason="tenacity has the switch since 9.2")
SWITCH: Any = {"enabled": False} if HAS_SWITCH else {}


class Tries:
    """Work that ends at once with one outcome after the other, the last one again; and what came of it."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.tries = 0
        self.retries: list[tuple[int, float]] = []
        self.ended: list[Any] = []

    def next_outcome(self) -> Any:
        self.tries += 1
        return self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]

    def start_try(self, outcome: Outcome) -> None:
        result = self.next_outcome()
        outcome.failed(result) if isinstance(result, Exception) else outcome.succeeded(result)

    def on_retry(self, number: int, delay: float, *_: Any) -> None:
        self.retries.append((number, delay))

    def succeeded(self, result: Any) -> None:
        self.ended.append(result)

    def failed(self, error: Exception) -> None:
        self.ended.append(error)

    def drive(self, policy: tenacity.Retrying, scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        driver = backoff.Driver(policy, self, scheduler or TestScheduler())
        driver.run()
        return driver

    async def call(self, policy: tenacity.Retrying, sleep: Any = None) -> None:
        """Do the same through the coroutine."""

        async def attempt() -> Any:
            result = self.next_outcome()
            try:
                if isinstance(result, Exception):
                    raise result
                return result
            finally:
                del result  # its traceback holds this frame

        async def no_sleep(_: float) -> None: ...

        try:
            self.succeeded(await backoff.call(policy, attempt, sleep=sleep or no_sleep, on_retry=self.on_retry))
        except Exception as error:
            self.failed(error)


def drive(policy: tenacity.Retrying, *outcomes: Any) -> Tries:
    work, scheduler = Tries(*outcomes), TestScheduler()
    work.drive(policy, scheduler)
    scheduler.start()
    return work


async def run(coroutine: bool, policy: tenacity.Retrying, *outcomes: Any) -> Tries:
    if not coroutine:
        return drive(policy, *outcomes)
    work = Tries(*outcomes)
    await work.call(policy)
    return work


both = pytest.mark.parametrize("coroutine", [False, True], ids=["Driver", "call"])


class TestTheDefaultWait:
    @pytest.mark.parametrize(("asked", "wait"), [(7, 7.0), (0, 0.0), (2.5, 2.5)])
    def test_is_the_servers_if_it_asks_for_one(self, asked: float, wait: float) -> None:
        error = TransientError("busy", retry_after=asked)
        assert drive(backoff.default_retrying(), error).retries == [(1, wait), (2, wait)]

    @pytest.mark.parametrize("asked", [None, -1, True], ids=repr)
    def test_is_random_else_and_grows_to_eight_seconds(self, asked: Any) -> None:
        policy = backoff.default_retrying().copy(stop=tenacity.stop_after_attempt(7))
        runs = [drive(policy, TransientError("busy", retry_after=asked)).retries for _ in range(100)]
        for waits, longest in zip(zip(*runs, strict=True), (0.5, 1, 2, 4, 8, 8), strict=True):
            assert longest / 2 < max(seconds for _, seconds in waits) <= longest


class TestThePolicyDecides:
    """Alone, for both callers."""

    LAST = OSError("the last")

    @both
    @pytest.mark.parametrize(
        ("policy", "outcomes", "ended", "tries"),
        [
            pytest.param(backoff.default_retrying(), [OSError(), LAST], LAST, 3, id="the default: three tries"),
            pytest.param(backoff.default_retrying(), [ValueError("no")], "no", 1, id="the default: not any exception"),
            pytest.param(backoff.default_retrying(), ["done"], "done", 1, id="the default: a result is final"),
            pytest.param(tenacity.Retrying(), [tenacity.TryAgain(), "done"], "done", 2, id="TryAgain"),
            pytest.param(
                tenacity.Retrying(stop=tenacity.stop_after_attempt(2), retry_error_callback=lambda _: "a last resort"),
                [OSError()], "a last resort", 2, id="a callback gives the result",
            ),
            pytest.param(
                tenacity.Retrying(retry=tenacity.retry_if_result(lambda result: result == "again")),
                ["again", "again", "done"], "done", 3, id="a result may be tried again",
            ),
            pytest.param(
                tenacity.Retrying(**SWITCH), [LAST], LAST, 1, id="switched off", marks=needs_switch
            ),
        ],
    )  # fmt: skip
    async def test_how_it_ends(self, policy: Any, outcomes: list[Any], ended: Any, tries: int, coroutine: bool) -> None:
        work = await run(coroutine, policy, *outcomes)
        assert [str(each) for each in work.ended] == [str(ended)]
        assert work.tries == tries
        if ended is self.LAST:
            assert work.ended == [ended]

    @pytest.mark.parametrize("part", ["stop", "wait", "retry", "before", "after", "before_sleep"])
    def test_a_part_that_raises_ends_it(self, part: str) -> None:
        def raises(_: Any) -> Any:
            raise LookupError(part)

        options: Any = {"stop": tenacity.stop_after_attempt(3)} | {part: raises}
        assert [str(each) for each in drive(tenacity.Retrying(**options), OSError()).ended] == [part]

    def test_without_reraise_the_last_exception_is_the_cause(self) -> None:
        error = OSError()
        (ended,) = drive(tenacity.Retrying(stop=tenacity.stop_after_attempt(2)), error).ended
        assert (type(ended), ended.__cause__) == (tenacity.RetryError, error)

    def test_a_negative_wait_is_none(self) -> None:
        policy = tenacity.Retrying(wait=lambda _: -1.0, stop=tenacity.stop_after_attempt(2))
        assert drive(policy, OSError()).retries == [(1, 0.0)]

    def test_its_callbacks_may_log_as_tenacitys_do(self, caplog: pytest.LogCaptureFixture) -> None:
        logger = logging.getLogger("a user's own")
        policy = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(2),
            before=tenacity.before_log(logger, logging.INFO),
            after=tenacity.after_log(logger, logging.INFO),
            before_sleep=tenacity.before_sleep_log(logger, logging.INFO),
            wait=tenacity.wait_fixed(2),
        )
        caplog.set_level(logging.INFO)
        assert drive(policy, OSError(), "done").ended == ["done"]
        assert "2" in caplog.text

    @both
    async def test_a_copy_of_it_is_used(self, coroutine: bool) -> None:
        """The copy counts its tries."""
        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(2))
        await run(coroutine, policy, OSError(), "done")
        assert policy.statistics == {}

    def test_its_clock_is_the_schedulers(self) -> None:
        policy = tenacity.Retrying(
            wait=tenacity.wait_fixed(2),
            stop=tenacity.stop_after_delay(5),
            retry_error_callback=lambda state: (state.attempt_number, state.seconds_since_start),
        )
        assert drive(policy, OSError()).ended == [(4, 6.0)]
        assert drive(policy.copy(retry=tenacity.retry_if_result(bool)), "again").ended == [(4, 6.0)]


class TestThreads:
    """tenacity keeps its counts per thread."""

    def test_tries_may_move_from_one_to_another(self) -> None:
        ended, threads = threading.Event(), set[int]()

        class Work(Tries):
            def start_try(self, outcome: waiting.Outcome) -> None:
                threads.add(threading.get_ident())
                super().start_try(outcome)

            def succeeded(self, result: Any) -> None:
                super().succeeded(result)
                ended.set()

        counted: list[float] = []
        policy = tenacity.Retrying(
            wait=tenacity.wait_fixed(0.001), before_sleep=lambda state: counted.append(state.idle_for)
        )
        work = Work(OSError(), OSError(), OSError(), "done")
        work.drive(policy, NewThreadScheduler())
        assert ended.wait(10)
        assert (work.ended, len(threads) > 1) == (["done"], True)
        assert counted == pytest.approx([0.001, 0.002, 0.003])

    def test_a_wait_that_is_over_at_once_does_not_cancel_the_next(self) -> None:
        scheduler, waits = TestScheduler(), list[float]()

        class Overtaken(TestScheduler):
            """Its first timer fires before `schedule_relative` returns, as one on another thread may."""

            def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> Any:
                waits.append(duetime)
                if len(waits) > 1:
                    return scheduler.schedule_relative(duetime, action, state)
                action(self, state)
                return Disposable()

        work = Tries(OSError(), OSError(), "done")
        work.drive(tenacity.Retrying(wait=tenacity.wait_fixed(1)), Overtaken())
        scheduler.start()
        assert (work.ended, waits) == (["done"], [1.0, 1.0])


class TestDispose:
    class Noted(TestScheduler):
        """Timers that fire when a test says so, also after they were disposed."""

        def __init__(self) -> None:
            super().__init__()
            self.waits: list[Callable[[], Any]] = []
            self.disposed = 0

        def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> Any:
            self.waits.append(lambda: action(self, state))

            def dispose() -> None:
                self.disposed += 1

            return Disposable(dispose)

    def test_ends_the_wait_and_starts_no_try(self) -> None:
        scheduler, work = self.Noted(), Tries(OSError())
        running = work.drive(tenacity.Retrying(wait=tenacity.wait_fixed(1)), scheduler)
        running.dispose()
        assert scheduler.disposed == 1
        scheduler.waits[0]()  # a timer may fire in the moment of its disposal
        assert (work.tries, len(scheduler.waits)) == (1, 1)

    def test_in_on_retry_begins_no_wait(self) -> None:
        class Leaving(Tries):
            def on_retry(self, number: int, delay: float) -> None:
                if number == 2:
                    running.dispose()

        scheduler = self.Noted()
        running = Leaving(OSError()).drive(tenacity.Retrying(wait=tenacity.wait_fixed(1)), scheduler)
        scheduler.waits[0]()
        assert len(scheduler.waits) == 1


class Watched(OSError):
    pass


class Value: ...


@pytest.mark.usefixtures("no_collections")
class TestNothingIsKept:
    """tenacity's frames hold its state, and its state the exception: a credential would live until a collection."""

    @pytest.mark.parametrize(
        "policy",
        [
            tenacity.Retrying(stop=tenacity.stop_after_attempt(2), reraise=True),
            tenacity.Retrying(stop=tenacity.stop_after_attempt(1), retry_error_callback=lambda _: None),
            pytest.param(tenacity.Retrying(**SWITCH), marks=needs_switch),
        ],
        ids=["that raises", "that gives a result instead", "that is switched off"],
    )
    @pytest.mark.parametrize("kind", [Watched, Value])
    @both
    async def test_of_an_outcome(self, kind: type[Any], policy: tenacity.Retrying, coroutine: bool) -> None:
        watched: list[weakref.ref[Any]] = []

        class Work(Tries):
            def next_outcome(self) -> Any:
                outcome = kind()
                watched.append(weakref.ref(outcome))
                return outcome

        work = Work()
        if coroutine:
            await work.call(policy)
        else:
            work.drive(policy)
        work.ended.clear()
        await asyncio.sleep(0)
        assert [each() for each in watched] == [None] * len(watched)

    async def test_by_a_wait_that_is_over(self) -> None:
        ended = asyncio.Event()

        class Work(Tries):
            def succeeded(self, result: Any) -> None:
                ended.set()

        work = Work(OSError(), "done")
        watched = weakref.ref(work)
        scheduler = waiting.waiting_scheduler(None, asyncio.get_running_loop())
        work.drive(tenacity.Retrying(wait=tenacity.wait_fixed(1e-3)), scheduler)
        del work
        await ended.wait()
        assert watched() is None

    @both
    async def test_of_tenacity_in_the_traceback(self, coroutine: bool) -> None:
        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(1), reraise=True)
        work = await run(coroutine, policy, OSError("here"))
        frames = traceback.extract_tb(work.ended[0].__traceback__)
        assert not any("tenacity" in frame.filename for frame in frames)


class TestTheCoroutine:
    async def test_reports_each_retry_and_sleeps(self) -> None:
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        work = Tries(TransientError("busy", retry_after=7), OSError(), "done")
        await work.call(backoff.default_retrying(), sleep)
        assert work.retries == [(1, 7.0), (2, slept[1])]
        assert slept[0] == 7.0

    @pytest.mark.parametrize("how", ["on_retry raises", "it is cancelled"])
    async def test_tries_no_more_when(self, how: str) -> None:
        waits = asyncio.Event()

        class Work(Tries):
            def on_retry(self, *_: Any) -> None:
                waits.set()
                if how == "on_retry raises":
                    raise LookupError

        async def sleep(_: float) -> None:
            await asyncio.Event().wait()

        work = Work(OSError())
        task = asyncio.ensure_future(work.call(backoff.default_retrying(), sleep))
        await waits.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert (work.tries, [type(each) for each in work.ended]) == (1, [LookupError] if "raises" in how else [])
