from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import pytest
import tenacity
from reactivex import abc
from reactivex.disposable import Disposable
from reactivex.scheduler import (
    NewThreadScheduler,
)
from reactivex.testing import TestScheduler

from rxauth import backoff, waiting
from rxauth.errors import TransientError
from rxauth.waiting import Outcome


def with_status(status: Any) -> Exception:
    error = Exception("failed")
    vars(error)["status"] = status
    return error


class Told:
    """Work as functions."""

    def __init__(self, attempt: Any, on_retry: Any, on_result: Any, on_failed: Any) -> None:
        self.attempt = attempt
        self.told = on_retry, on_result, on_failed

    def start_try(self, outcome: Outcome) -> None:
        self.attempt(outcome.succeeded, outcome.failed)

    def on_retry(self, number: int, delay: float) -> None:
        self.told[0](number, delay)

    def succeeded(self, result: Any) -> None:
        self.told[1](result)

    def failed(self, error: Exception) -> None:
        self.told[2](error)


def drive(
    policy: tenacity.Retrying,
    attempt: Callable[[Callable[[Any], None], Callable[[Exception], None]], object],
    *,
    scheduler: abc.SchedulerBase,
    on_retry: Callable[[int, float], object],
    on_result: Callable[[Any], object],
    on_failed: Callable[[Exception], object],
) -> abc.DisposableBase:
    return backoff.drive(policy, Told(attempt, on_retry, on_result, on_failed), scheduler=scheduler)


@pytest.mark.parametrize(
    ("told", "expected"), [(7, 7.0), (0, 0.0), (2.5, 2.5), (-1, None), ("7", None), (True, None), (float("inf"), None)]
)
def test_the_server_says_how_long_to_wait_if_it_says_a_number(told: Any, expected: float | None) -> None:
    state = tenacity.RetryCallState(backoff.default_retrying(), None, (), {})
    error = TransientError("busy", retry_after=told)
    state.set_exception((type(error), error, None))
    wait = backoff.wait_as_told_or_random(state)
    assert wait == expected if expected is not None else 0 <= wait <= 0.5


@pytest.mark.parametrize(("number", "longest"), [(1, 0.5), (2, 1), (3, 2), (5, 8), (9, 8)])
def test_otherwise_the_wait_is_random_and_grows_up_to_eight_seconds(number: int, longest: float) -> None:
    state = tenacity.RetryCallState(backoff.default_retrying(), None, (), {})
    state.attempt_number = number
    waits = [backoff.wait_as_told_or_random(state) for _ in range(100)]
    assert longest / 2 < max(waits) <= longest


def test_tries_may_move_from_thread_to_thread() -> None:
    """tenacity keeps its counts per thread."""
    threads: list[str] = []
    ended = threading.Event()
    results: list[Any] = []

    def attempt(on_result: Any, on_failed: Any) -> None:
        threads.append(threading.current_thread().name)
        if len(threads) < 4:
            on_failed(OSError())
        else:
            on_result("done")

    def succeed(result: Any) -> None:
        results.append(result)
        ended.set()

    counted: list[float] = []
    policy = tenacity.Retrying(
        wait=tenacity.wait_fixed(0.001), before_sleep=lambda state: counted.append(state.idle_for)
    )
    drive(
        policy,
        attempt,
        scheduler=NewThreadScheduler(),
        on_retry=lambda *_: None,
        on_result=succeed,
        on_failed=lambda error: ended.set(),
    )
    assert ended.wait(10)
    assert results == ["done"]
    assert len(set(threads)) > 1
    assert counted == pytest.approx([0.001, 0.002, 0.003])


def test_a_recovery_that_begins_does_not_disturb_one_that_goes_on_on_another_thread() -> None:
    """The default policy is everybody's: tenacity's count of one recovery's tries must not be another's."""
    scheduler = TestScheduler()
    retries: list[int] = []
    ended: list[Any] = []
    failing: list[Any] = []

    def attempt(on_result: Any, on_failed: Any) -> None:
        if failing:
            on_result("done")
        else:
            failing.append(on_failed)

    policy = backoff.default_retrying()
    drive(
        policy,
        attempt,
        scheduler=scheduler,
        on_retry=lambda number, _: retries.append(number),
        on_result=ended.append,
        on_failed=ended.append,
    )
    policy.statistics.clear()  # as at the beginning of another one on this thread
    other = threading.Thread(target=failing[0], args=(OSError(),))
    other.start()
    other.join(10)
    scheduler.start()
    assert (retries, ended) == ([1], ["done"])


def test_a_wait_that_is_over_before_its_timer_is_noted_does_not_cancel_the_next_wait() -> None:
    scheduler = TestScheduler()
    waits: list[float] = []
    outcomes: list[Any] = [OSError(), OSError(), "done"]
    results: list[Any] = []

    class Overtaken(TestScheduler):
        """Its first timer fires before `schedule_relative` returns, as one on another thread may."""

        def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> Any:
            waits.append(duetime)
            if len(waits) > 1:
                return scheduler.schedule_relative(duetime, action, state)
            action(self, state)
            return Disposable()

    def attempt(on_result: Any, on_failed: Any) -> None:
        outcome = outcomes.pop(0)
        (on_failed if isinstance(outcome, Exception) else on_result)(outcome)

    drive(
        tenacity.Retrying(wait=tenacity.wait_fixed(1)),
        attempt,
        scheduler=Overtaken(),
        on_retry=lambda *_: None,
        on_result=results.append,
        on_failed=results.append,
    )
    scheduler.start()
    assert (results, waits) == (["done"], [1.0, 1.0])


@pytest.mark.skipif(
    "enabled" not in signature(tenacity.BaseRetrying).parameters, reason="tenacity has the switch since 9.2"
)
def test_a_policy_that_is_switched_off_tries_once() -> None:
    failed: list[Exception] = []
    tries: list[int] = []
    late: list[Any] = []

    def attempt(on_result: Any, on_failed: Any) -> None:
        tries.append(1)
        on_failed(OSError())

    drive(
        tenacity.Retrying(enabled=False),
        attempt,
        scheduler=TestScheduler(),
        on_retry=lambda *_: None,
        on_result=lambda _: None,
        on_failed=failed.append,
    )
    assert (len(tries), len(failed)) == (1, 1)
    running = drive(
        tenacity.Retrying(enabled=False),
        lambda on_result, _: late.append(on_result),
        scheduler=TestScheduler(),
        on_retry=no_retry,
        on_result=no_retry,
        on_failed=no_retry,
    )
    running.dispose()
    late[0]("dropped")


def no_retry(*_: Any) -> None:
    pytest.fail("there was nothing to try again")


class Watched(OSError):
    pass


class Value:
    pass


@contextmanager
def without_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class TestWhatIsLeft:
    """tenacity's frames hold its state, and its state the exception: a credential would live until a collection."""

    @staticmethod
    def run(outcome: Any) -> None:
        def attempt(on_result: Any, on_failed: Any) -> None:
            (on_failed if isinstance(outcome, Exception) else on_result)(outcome)

        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), reraise=True)
        drive(
            policy,
            attempt,
            scheduler=TestScheduler(),
            on_retry=lambda *_: None,
            on_result=lambda _: None,
            on_failed=lambda _: None,
        )

    @pytest.mark.parametrize("kind", [Watched, Value])
    def test_nothing_holds_what_a_try_gave(self, kind: type[Any]) -> None:
        with without_collections():
            outcome = kind()
            watched = weakref.ref(outcome)
            self.run(outcome)
            del outcome
            assert watched() is None

    @pytest.mark.parametrize("kind", [Watched, Value])
    async def test_nor_does_the_coroutine(self, kind: type[Any]) -> None:
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

        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(2), reraise=True)
        with without_collections():
            with contextlib.suppress(Watched):
                await backoff.call(policy, attempt, sleep=no_sleep, on_retry=lambda *_: None)
            assert [each() for each in watched] == [None] * len(watched)

    @pytest.mark.skipif("enabled" not in signature(tenacity.BaseRetrying).parameters, reason="as above")
    def test_nor_does_a_policy_that_is_switched_off(self) -> None:
        watched: list[weakref.ref[Any]] = []

        class Attempt:
            def __call__(self, _: Any, on_failed: Any) -> None:
                try:
                    error = Watched()
                    watched.append(weakref.ref(error))
                    raise error
                except Watched as raised:
                    on_failed(raised)  # this frame, which the exception has, holds the outcome
                finally:
                    del error

        with without_collections():
            drive(
                tenacity.Retrying(enabled=False),
                Attempt(),
                scheduler=TestScheduler(),
                on_retry=no_retry,
                on_result=no_retry,
                on_failed=lambda _: None,
            )
            assert watched[0]() is None

    async def test_nor_when_a_callback_gives_a_result_in_the_place_of_an_exception(self) -> None:
        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(1), retry_error_callback=lambda _: None)
        watched: list[weakref.ref[Any]] = []

        async def attempt() -> None:
            error = Watched()
            watched.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

        async def no_sleep(_: float) -> None: ...

        with without_collections():
            await backoff.call(policy, attempt, sleep=no_sleep, on_retry=no_retry)
            assert watched[0]() is None

    async def test_nor_does_a_wait_that_is_over(self) -> None:
        ended = asyncio.Event()

        class Attempt:
            tries = 0

            def __call__(self, on_result: Any, on_failed: Any) -> None:
                self.tries += 1
                on_failed(OSError()) if self.tries == 1 else on_result(None)

        with without_collections():
            attempt = Attempt()
            watched = weakref.ref(attempt)
            drive(
                tenacity.Retrying(wait=tenacity.wait_fixed(1e-3)),
                attempt,
                scheduler=waiting.waiting_scheduler(None, asyncio.get_running_loop()),
                on_retry=lambda *_: None,
                on_result=lambda _: ended.set(),
                on_failed=no_retry,
            )
            del attempt
            await ended.wait()
            assert watched() is None

    async def test_the_traceback_is_the_trys_own_in_a_coroutine_too(self) -> None:
        async def attempt() -> None:
            raise OSError("here")

        async def no_sleep(_: float) -> None: ...

        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(1), reraise=True)
        with pytest.raises(OSError, match="here") as caught:
            await backoff.call(policy, attempt, sleep=no_sleep, on_retry=no_retry)
        frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert set(frames[1:-1]) == {"call"}
        assert frames[-1] == "attempt"

    def test_the_traceback_is_the_trys_own(self) -> None:
        failed: list[Exception] = []

        def attempt(_: Any, on_failed: Any) -> None:
            try:
                raise OSError("here")
            except OSError as error:
                on_failed(error)

        drive(
            tenacity.Retrying(stop=tenacity.stop_after_attempt(1), reraise=True),
            attempt,
            scheduler=TestScheduler(),
            on_retry=no_retry,
            on_result=failed.append,
            on_failed=failed.append,
        )
        assert [frame.name for frame in traceback.extract_tb(failed[0].__traceback__)] == ["attempt"]


def test_a_wait_that_ends_although_it_was_disposed_starts_no_try() -> None:
    """A timer may fire in the moment of its disposal."""
    tries: list[int] = []
    fire: list[Any] = []

    class Deaf(TestScheduler):
        def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> Any:
            fire.append(lambda: action(self, state))
            return Disposable()

    def attempt(_: Any, on_failed: Any) -> None:
        tries.append(1)
        on_failed(OSError())

    running = drive(
        tenacity.Retrying(wait=tenacity.wait_fixed(1)),
        attempt,
        scheduler=Deaf(),
        on_retry=lambda *_: None,
        on_result=no_retry,
        on_failed=no_retry,
    )
    running.dispose()
    fire[0]()
    assert (tries, len(fire)) == ([1], 1)


def test_a_dispose_ends_the_wait_and_one_while_the_retry_is_told_begins_none() -> None:
    waits: list[Any] = []

    class Noted(TestScheduler):
        def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> Any:
            waits.append(lambda: action(self, state))
            return Disposable(lambda: waits.append("disposed"))

    def told(number: int, _: float) -> None:
        if number == 2:
            running.dispose()

    def start() -> Any:
        waits.clear()
        return drive(
            tenacity.Retrying(wait=tenacity.wait_fixed(1)),
            lambda _, on_failed: on_failed(OSError()),
            scheduler=Noted(),
            on_retry=told,
            on_result=no_retry,
            on_failed=no_retry,
        )

    running = start()
    running.dispose()
    assert waits[1:] == ["disposed"]
    running = start()
    waits[0]()
    assert len(waits) == 1


async def test_the_policy_itself_is_not_used_but_a_copy() -> None:
    """What is used keeps count of its tries, and is shared by nobody."""
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(2))

    async def attempt() -> str:
        return "done"

    async def no_sleep(_: float) -> None: ...

    assert await backoff.call(policy, attempt, sleep=no_sleep, on_retry=no_retry) == "done"
    TestThePolicyDecides.run(policy, OSError(), "done")
    assert policy.statistics == {}


class TestThePolicyDecides:
    """What is given decides alone."""

    @staticmethod
    def run(policy: tenacity.Retrying, *outcomes: Any) -> tuple[list[Any], int]:
        left, ended = list(outcomes), list[Any]()
        tries = 0

        def attempt(on_result: Any, on_failed: Any) -> None:
            nonlocal tries
            tries += 1
            outcome = left.pop(0) if len(left) > 1 else left[0]
            (on_failed if isinstance(outcome, Exception) else on_result)(outcome)

        scheduler = TestScheduler()
        drive(
            policy,
            attempt,
            scheduler=scheduler,
            on_retry=lambda *_: None,
            on_result=ended.append,
            on_failed=ended.append,
        )
        scheduler.start()
        return ended, tries

    def test_the_default_is_three_tries_and_ends_with_the_last_exception(self) -> None:
        error = OSError()
        assert self.run(backoff.default_retrying(), error) == ([error], 3)

    def test_its_clock_is_the_schedulers_for_results_too(self) -> None:
        policy = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda result: result == "again"),
            stop=tenacity.stop_after_delay(5),
            wait=tenacity.wait_fixed(2),
            retry_error_callback=lambda state: state.seconds_since_start,
        )
        assert self.run(policy, "again") == ([6.0], 4)

    def test_a_wait_below_zero_is_none(self) -> None:
        told: list[tuple[int, float]] = []
        drive(
            tenacity.Retrying(wait=lambda _: -1.0, stop=tenacity.stop_after_attempt(2)),
            lambda _, on_failed: on_failed(OSError()),
            scheduler=TestScheduler(),
            on_retry=lambda number, delay: told.append((number, delay)),
            on_result=no_retry,
            on_failed=lambda _: None,
        )
        assert told == [(1, 0.0)]

    def test_without_reraise_it_ends_with_tenacitys_own_error_and_the_last_is_its_cause(self) -> None:
        error = OSError()
        ended, tries = self.run(tenacity.Retrying(stop=tenacity.stop_after_attempt(2)), error)
        assert (type(ended[0]), ended[0].__cause__, tries) == (tenacity.RetryError, error, 2)

    def test_a_callback_for_the_end_gives_the_result(self) -> None:
        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(2), retry_error_callback=lambda _: "a last resort")
        assert self.run(policy, OSError()) == (["a last resort"], 2)

    def test_try_again_is_tried_again(self) -> None:
        assert self.run(tenacity.Retrying(), tenacity.TryAgain(), "fresh") == (["fresh"], 2)

    @pytest.mark.parametrize("part", ["stop", "wait", "retry", "before", "after", "before_sleep"])
    def test_a_part_of_it_that_raises_ends_it_with_its_exception(self, part: str) -> None:
        def raises(_: Any) -> Any:
            raise LookupError(part)

        options: Any = {"stop": tenacity.stop_after_attempt(3)} | {part: raises}
        ended, _ = self.run(tenacity.Retrying(**options), OSError())
        assert [str(each) for each in ended] == [part]

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
        assert self.run(policy, OSError(), "fresh") == (["fresh"], 2)
        assert "2" in caplog.text


class TestTheCoroutine:
    async def test_it_tries_waits_and_tries_again(self) -> None:
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

        assert (
            await backoff.call(
                backoff.default_retrying(),
                attempt,
                sleep=sleep,
                on_retry=lambda *told: retried.append(told),
            )
            == "done"
        )
        assert slept[0] == 7.0
        assert 0 <= slept[1] <= 1
        assert [(number, type(error)) for number, _, error in retried] == [(1, TransientError), (2, OSError)]
        assert [delay for _, delay, _ in retried] == slept

    @pytest.mark.skipif(
        "enabled" not in signature(tenacity.BaseRetrying).parameters, reason="tenacity has the switch since 9.2"
    )
    async def test_a_policy_that_is_switched_off_tries_once(self) -> None:
        async def attempt() -> None:
            raise OSError

        async def no_sleep(_: float) -> None: ...

        with pytest.raises(OSError):
            await backoff.call(tenacity.Retrying(enabled=False), attempt, sleep=no_sleep, on_retry=no_retry)

    async def test_what_on_retry_raises_ends_it(self) -> None:
        async def attempt() -> None:
            raise OSError

        async def sleep(_: float) -> None:
            pytest.fail("it slept")

        def on_retry(*_: Any) -> None:
            raise LookupError

        with pytest.raises(LookupError):
            await backoff.call(backoff.default_retrying(), attempt, sleep=sleep, on_retry=on_retry)

    async def test_cancelled_in_a_wait_it_tries_no_more(self) -> None:
        tries: list[int] = []
        waiting = asyncio.Event()

        async def attempt() -> None:
            tries.append(1)
            raise OSError

        async def sleep(_: float) -> None:
            waiting.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(
            backoff.call(backoff.default_retrying(), attempt, sleep=sleep, on_retry=lambda *_: None)
        )
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert tries == [1]
