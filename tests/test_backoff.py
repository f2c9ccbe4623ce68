"""The driver of a tenacity policy, for a scheduler (`Driver`) and for a coroutine (`call`)."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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

    def start_try(self, outcome: waiting.Outcome) -> None:
        self.tries += 1
        result = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        outcome.failed(result) if isinstance(result, Exception) else outcome.succeeded(result)

    def on_retry(self, number: int, delay: float) -> None:
        self.retries.append((number, delay))

    def succeeded(self, result: Any) -> None:
        self.ended.append(result)

    def failed(self, error: Exception) -> None:
        self.ended.append(error)

    def drive(self, policy: tenacity.Retrying, scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        driver = backoff.Driver(policy, self, scheduler or TestScheduler())
        driver.run()
        return driver


def drive(policy: tenacity.Retrying, *outcomes: Any) -> Tries:
    work, scheduler = Tries(*outcomes), TestScheduler()
    work.drive(policy, scheduler)
    scheduler.start()
    return work


async def call(policy: tenacity.Retrying, *outcomes: Any) -> Tries:
    """The same through the coroutine."""
    work, left = Tries(*outcomes), list(outcomes)

    async def attempt() -> Any:
        work.tries += 1
        result = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(result, Exception):
            raise result
        return result

    async def no_sleep(_: float) -> None: ...

    try:
        work.succeeded(
            await backoff.call(
                policy, attempt, sleep=no_sleep, on_retry=lambda number, delay, _: work.on_retry(number, delay)
            )
        )
    except Exception as error:
        work.failed(error)
    return work


@contextmanager
def without_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class TestTheDefaultWait:
    @pytest.mark.parametrize(("asked", "expected"), [(7, 7.0), (0, 0.0), (2.5, 2.5), (-1, None), (True, None)])
    def test_is_the_servers_if_it_asks_for_one(self, asked: Any, expected: float | None) -> None:
        state = tenacity.RetryCallState(backoff.default_retrying(), None, (), {})
        error = TransientError("busy", retry_after=asked)
        state.set_exception((type(error), error, None))
        wait = backoff.wait_as_asked_or_random(state)
        assert wait == expected if expected is not None else 0 <= wait <= 0.5

    @pytest.mark.parametrize(("number", "longest"), [(1, 0.5), (2, 1), (3, 2), (5, 8), (9, 8)])
    def test_is_random_else_and_grows_to_eight_seconds(self, number: int, longest: float) -> None:
        state = tenacity.RetryCallState(backoff.default_retrying(), None, (), {})
        state.attempt_number = number
        waits = [backoff.wait_as_asked_or_random(state) for _ in range(100)]
        assert longest / 2 < max(waits) <= longest


class TestThePolicyDecides:
    """Alone, for both callers."""

    LAST = OSError("the last")

    @pytest.mark.parametrize("coroutine", [False, True], ids=["drive", "call"])
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
        work = await call(policy, *outcomes) if coroutine else drive(policy, *outcomes)
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

    async def test_a_copy_of_it_is_used(self) -> None:
        """The copy counts its tries."""
        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(2))
        drive(policy, OSError(), "done")
        await call(policy, OSError(), "done")
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


class TestNothingIsKept:
    """tenacity's frames hold its state, and its state the exception: a credential would live until a collection."""

    @pytest.mark.parametrize("kind", [Watched, Value])
    def test_of_an_outcome(self, kind: type[Any]) -> None:
        with without_collections():
            outcome = kind()
            watched = weakref.ref(outcome)
            Tries(outcome).drive(tenacity.Retrying(stop=tenacity.stop_after_attempt(3), reraise=True))
            del outcome
            assert watched() is None

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
    async def test_by_a_coroutine_of_a_policy(self, kind: type[Any], policy: tenacity.Retrying) -> None:
        watched: list[weakref.ref[Any]] = []

        async def attempt() -> Any:
            outcome = kind()
            watched.append(weakref.ref(outcome))
            if isinstance(outcome, Exception):
                try:
                    raise outcome
                finally:
                    del outcome
            return outcome

        async def no_sleep(_: float) -> None: ...

        with without_collections():
            with suppress(Watched):
                await backoff.call(policy, attempt, sleep=no_sleep, on_retry=lambda *_: None)
            assert [each() for each in watched] == [None] * len(watched)

    async def test_by_a_wait_that_is_over(self) -> None:
        ended = asyncio.Event()

        class Work(Tries):
            def succeeded(self, result: Any) -> None:
                ended.set()

        with without_collections():
            work = Work(OSError(), "done")
            watched = weakref.ref(work)
            scheduler = waiting.waiting_scheduler(None, asyncio.get_running_loop())
            work.drive(tenacity.Retrying(wait=tenacity.wait_fixed(1e-3)), scheduler)
            del work
            await ended.wait()
            assert watched() is None

    @pytest.mark.parametrize("coroutine", [False, True], ids=["drive", "call"])
    async def test_of_tenacity_in_the_traceback(self, coroutine: bool) -> None:
        try:
            raise OSError("here")
        except OSError as error:
            failure = error
        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(1), reraise=True)
        work = await call(policy, failure) if coroutine else drive(policy, failure)
        frames = traceback.extract_tb(work.ended[0].__traceback__)
        assert not any("tenacity" in frame.filename for frame in frames)


class TestTheCoroutine:
    async def test_reports_each_retry_and_sleeps(self) -> None:
        outcomes: list[Any] = [TransientError("busy", retry_after=7), OSError(), "done"]
        slept: list[float] = []
        retried: list[tuple[int, float, BaseException | None]] = []

        async def attempt() -> Any:
            outcome = outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        policy = backoff.default_retrying()
        await backoff.call(policy, attempt, sleep=sleep, on_retry=lambda *retry: retried.append(retry))
        assert [(number, type(error)) for number, _, error in retried] == [(1, TransientError), (2, OSError)]
        assert [delay for _, delay, _ in retried] == slept
        assert slept[0] == 7.0

    @pytest.mark.parametrize("how", ["on_retry raises", "it is cancelled"])
    async def test_tries_no_more_when(self, how: str) -> None:
        tries: list[int] = []
        waits = asyncio.Event()

        async def attempt() -> None:
            tries.append(1)
            raise OSError

        async def sleep(_: float) -> None:
            waits.set()
            await asyncio.Event().wait()

        def on_retry(*_: Any) -> None:
            if how == "on_retry raises":
                waits.set()
                raise LookupError

        task = asyncio.ensure_future(backoff.call(backoff.default_retrying(), attempt, sleep=sleep, on_retry=on_retry))
        await waits.wait()
        task.cancel()
        with pytest.raises((asyncio.CancelledError, LookupError)):
            await task
        assert tries == [1]
