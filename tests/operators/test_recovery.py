"""retry_on_first_auth_error between its two neighbours, and recover_auth: one table for both."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import pytest
import reactivex as rx
import tenacity
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.scheduler import CurrentThreadScheduler, ImmediateScheduler
from reactivex.subject import Subject
from reactivex.testing import TestScheduler

from rxauth import (
    AuthRejected,
    NeverLiveError,
    Refreshed,
    RefreshFailed,
    RefreshRetryScheduled,
    RefreshUnchanged,
    Resubscribed,
    TransientError,
    buffer_until_live,
    flush_on_complete_or_error,
    recover_auth,
    retry_on_first_auth_error,
    to_async_iterable,
)
from rxauth.errors import CredentialRejected
from rxauth.events import AssistantMessage, Error
from rxauth.testing import marbles

from .marble_table import EVENTS, Row

Pipe: TypeAlias = Callable[..., tuple[Any, ...]]


def three(refresh: Any, **options: Any) -> tuple[Any, ...]:
    shared = {name: each for name, each in options.items() if name == "is_error"}
    return buffer_until_live(**shared), retry_on_first_auth_error(refresh, **options), flush_on_complete_or_error()


def fused(refresh: Any, **options: Any) -> tuple[Any, ...]:
    return (recover_auth(refresh, **options),)


both = pytest.mark.parametrize("pipe", [three, fused], ids=["three operators", "recover_auth"])
fixed = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(2), reraise=True)


@both
@pytest.mark.parametrize(
    ("first", "refresh", "second", "result", "subscriptions"),
    [
        pytest.param(
            "s-#", "--r|", "s-a----|", "------(sa)-|", ("^-!", "----^------!"),
            id="a stale token costs one refresh and shows nothing",
        ),
        pytest.param(
            "s-e", "--r|", "s-a----|", "------(sa)-|", ("^-!", "----^------!"),
            id="so it does when the 401 comes in-band",
        ),
        pytest.param("-#", "r", "s-a----|", "---(sa)-|", ("^!", "-^------!"), id="without an opening, with no delay"),
        pytest.param("s-x", "r", "s-a|", "--(sx|)", ("^-!",), id="another error event is not retried"),
        pytest.param("s-a---#", "r", "s-a|", "--(sa)#", ("^-----!",), id="after live an exception is not retried"),
        pytest.param("s-a---e|", "r", "s-a|", "--(sa)e|", ("^------!",), id="after live an error event is not retried"),
        pytest.param("a-s-e-b|", "r", "s-a|", "a-s-e-b|", ("^------!",), id="without an opening everything passes"),
        pytest.param("s--|", "r", "s-a|", "---(s|)", ("^--!",), id="a stream that only completes is not retried"),
        pytest.param("s-#", "--n|", "s-a|", "----(s#)", ("^-!",), id="no new credential: the failure goes on"),
        pytest.param("s-e", "--n|", "s-a|", "----(se|)", ("^-!",), id="no new credential: the error event goes on"),
        pytest.param("s-#", "--|", "s-a|", "----(s#)", ("^-!",), id="an empty refresh gives no credential"),
        pytest.param("s-e", "--#", "s-a|", "----(se|)", ("^-!",), id="a refresh that fails: the error event goes on"),
        pytest.param("s-#", "--r|", "s-#", "------(s#)", ("^-!", "----^-!"), id="a second 401 is final"),
        pytest.param("s-e", "--r|", "s-e", "------(se|)", ("^-!", "----^-!"), id="a second 401 in-band is final"),
        pytest.param("s-e", "-r|", "s-a---e|", "-----(sa)e|", ("^-!", "---^------!"), id="a 401 after live is final"),
        pytest.param("s-e-a-|", "r", "s-b----|", "----(sb)-|", ("^-!", "--^------!"), id="attempt 1 is over for good"),
    ],
)  # fmt: skip
def test_marbles(
    pipe: Pipe, first: str, refresh: str, second: str, result: str, subscriptions: tuple[str, ...]
) -> None:
    row = Row(first, second)
    assert (row.run(*pipe(row.refresh(refresh))), tuple(row.subscriptions())) == (result, subscriptions)


class TestWithoutABuffer:
    """retry_on_first_auth_error alone."""

    @pytest.mark.parametrize(
        ("first", "refresh", "result", "subscriptions"),
        [
            pytest.param(
                "-e-a|", "--r|", "---s-a|", ["^!", "---^--!"],
                id="an error event that is the first element is held and retried",
            ),
            pytest.param("-e-a|", "--n|", "---(e|)", ["^!"], id="where it goes on, completion follows"),
            pytest.param("-#", "--r|", "---s-a|", ["^!", "---^--!"], id="an exception"),
            pytest.param("s-e|", "--r|", "s-e|", ["^--!"], id="an opening that was delivered forbids the retry"),
            pytest.param("x--a|", "r", "x--a|", ["^---!"], id="another error event passes, and so does what follows"),
        ],
    )  # fmt: skip
    def test_marbles(self, first: str, refresh: str, result: str, subscriptions: list[str]) -> None:
        row = Row(first, "s-a|")
        assert row.run(retry_on_first_auth_error(row.refresh(refresh))) == result
        assert row.subscriptions() == subscriptions

    @pytest.mark.parametrize("behind", ["a", "e", "|", "#"])
    def test_what_a_synchronous_source_has_behind_its_error_event_is_dropped(self, behind: str) -> None:
        attempts: list[Any] = []

        def emit(observer: Any, _: Any) -> Any:
            attempts.append(observer)
            if len(attempts) == 1:
                observer.on_next(marbles.event("e"))
                if behind == "|":
                    observer.on_completed()
                elif behind == "#":
                    observer.on_error(marbles.failure)
                else:
                    observer.on_next(marbles.event(behind))
            else:
                observer.on_next(marbles.event("s"))

        seen: list[Any] = []
        rx.create(emit).pipe(retry_on_first_auth_error(lambda _: True)).subscribe(
            lambda event: seen.append(event.type), seen.append, lambda: seen.append("|")
        )
        assert (seen, len(attempts)) == (["start"], 2)


@both
class TestTheFailure:
    def test_refresh_is_given_the_exception_itself(self, pipe: Pipe) -> None:
        row = Row("s-#", "a|")
        row.run(*pipe(row.refresh("r")))
        assert row.failures == [marbles.failure]

    def test_refresh_is_given_the_event_itself(self, pipe: Pipe) -> None:
        row = Row("s-e", "a|")
        row.run(*pipe(row.refresh("r")))
        assert row.failures == [marbles.event("e")]

    @pytest.mark.parametrize("shown", ["s", "sa"], ids=["before live", "after live"])
    def test_a_cancellation_on_the_error_channel_is_never_an_event(self, pipe: Pipe, shown: str) -> None:
        """RxPY's `from_future` sends one, and it is no `Exception`."""
        cancelled: Any = asyncio.CancelledError()
        seen: list[Any] = []

        def emit(observer: Any, _: Any) -> Any:
            for each in shown:
                observer.on_next(marbles.event(each))
            observer.on_error(cancelled)

        rx.create(emit).pipe(*pipe(lambda _: None)).subscribe(
            lambda event: seen.append(event.type), seen.append, lambda: seen.append("|")
        )
        assert seen == [*({"s": "start", "a": "text_delta"}[each] for each in shown), cancelled]

    def test_the_very_same_exception_goes_on(self, pipe: Pipe) -> None:
        error = CredentialRejected("no", status=401)
        row = Row("s-#", error=error)
        assert row.ends(*pipe(row.refresh("n"))) is error

    def test_the_refreshs_exception_becomes_its_cause(self, pipe: Pipe) -> None:
        error, why = CredentialRejected("no", status=401), ValueError("no refresh")
        row = Row("s-#", error=error)
        row.run(*pipe(row.refresh("#", why)))
        assert error.__cause__ is why

    def test_the_refreshs_exception_becomes_the_cause_of_an_events_cause(self, pipe: Pipe) -> None:
        why, error = ValueError("no refresh"), CredentialRejected("no", status=401)
        row = Row("s-e", events={"e": Error("error", AssistantMessage(), error)})
        row.run(*pipe(row.refresh("#", why)))
        assert error.__cause__ is why

    def test_where_there_is_a_cause_it_becomes_one_note_without_its_text(self, pipe: Pipe) -> None:
        error, before = CredentialRejected("no", status=401), KeyError("before")
        error.__cause__ = before
        for _ in range(2):
            row = Row("s-#", error=error)
            row.run(*pipe(row.refresh("#", ValueError("secret"))))
        assert error.__cause__ is before
        assert error.__notes__ == ["The refresh failed too: ValueError"]

    def test_where_no_cause_can_be_set_it_becomes_a_note_too(self, pipe: Pipe) -> None:
        class Causeless(CredentialRejected):
            @property
            def __cause__(self) -> None:  # type: ignore[override]
                return None

        error = Causeless("no", status=401)
        row = Row("s-#", error=error)
        row.run(*pipe(row.refresh("#", ValueError("secret"))))
        assert error.__notes__ == ["The refresh failed too: ValueError"]

    def test_where_nothing_can_be_set_the_very_same_exception_goes_on(self, pipe: Pipe) -> None:
        class Frozen(CredentialRejected):
            def __setattr__(self, name: str, value: object) -> None:
                if name.startswith("__"):
                    raise AttributeError("frozen")
                super().__setattr__(name, value)

        error = Frozen("no", status=401)
        row = Row("s-#", error=error)
        assert row.ends(*pipe(row.refresh("#"))) is error

    def test_no_cycle_arises(self, pipe: Pipe) -> None:
        error, why = CredentialRejected("no", status=401), ValueError("no refresh")
        why.__cause__ = error
        row = Row("s-#", error=error)
        row.run(*pipe(row.refresh("#", why)))
        assert error.__cause__ is None
        assert error.__notes__ == ["The refresh failed too: ValueError, status 401"]

    def test_a_refresh_called_while_the_failure_is_handled_is_its_cause_and_no_cycle(self, pipe: Pipe) -> None:
        error, why = CredentialRejected("no", status=401), ValueError("no refresh")

        def fails(_: Any) -> Any:
            raise why

        def emit(observer: Any, _: Any) -> Any:
            try:
                raise error
            except CredentialRejected as caught:
                observer.on_error(caught)

        rx.create(emit).pipe(*pipe(fails)).subscribe(on_error=lambda _: None)
        assert (error.__cause__, why.__context__) == (why, None)

    def test_a_predicate_that_raises_ends_the_stream_without_a_refresh(self, pipe: Pipe) -> None:
        def raises(failure: Any) -> bool:
            raise LookupError("cannot say")

        for source in ("s-#", "s-e-a|"):
            row = Row(source)
            assert isinstance(row.ends(*pipe(row.refresh("r"), is_auth_error=raises)), LookupError)
            assert (row.failures, row.subscriptions()) == ([], ["^-!"])

    @pytest.mark.parametrize("shown", ["s", "sa"], ids=["an opening", "more"])
    def test_a_predicate_that_raised_is_asked_no_more(self, pipe: Pipe, shown: str) -> None:
        asked: list[Any] = []

        def raises(event: Any) -> bool:
            asked.append(event)
            raise LookupError("cannot say")

        errors: list[Exception] = []
        disposed: list[bool] = []

        def emit(observer: Any, _: Any) -> Any:
            for each in shown:
                observer.on_next(marbles.event(each))
            return Disposable(lambda: disposed.append(True))

        rx.create(emit).pipe(*pipe(lambda _: True, is_error=raises)).subscribe(on_error=errors.append)
        assert [type(each) for each in errors] == [LookupError]
        assert (len(asked), disposed) == (1, [True])

    def test_a_rule_of_ones_own_decides(self, pipe: Pipe) -> None:
        row = Row("s-x", "s-a----|")
        assert row.run(*pipe(row.refresh("r"), is_auth_error=lambda _: True)) == "----(sa)-|"


@both
class TestTheRefresh:
    def test_a_plain_function_needs_neither_loop_nor_scheduler(self, pipe: Pipe) -> None:
        tokens = ["stale"]
        seen: list[str] = []
        source = rx.defer(
            lambda _: rx.of(*("s", "a") if tokens[-1] == "fresh" else ("s", "e")).pipe(ops.map(marbles.event))
        )

        def refresh(_: Any) -> bool:
            tokens.append("fresh")
            return True

        source.pipe(*pipe(refresh)).subscribe(
            lambda event: seen.append(event.type), on_completed=lambda: seen.append("|")
        )
        assert seen == ["start", "text_delta", "|"]

    def test_a_source_that_fails_inside_its_own_subscribe(self, pipe: Pipe) -> None:
        attempts: list[int] = []

        def emit(observer: Any, _: Any) -> Any:
            attempts.append(1)
            observer.on_next(marbles.event("s"))
            if len(attempts) == 1:
                raise CredentialRejected("no", status=401)
            observer.on_next(marbles.event("a"))
            observer.on_completed()

        seen: list[str] = []
        rx.create(emit).pipe(*pipe(lambda _: True)).subscribe(lambda event: seen.append(event.type))
        assert seen == ["start", "text_delta"]

    def test_what_attempt_1_says_after_its_end_never_reaches_attempt_2(self, pipe: Pipe) -> None:
        first: list[Any] = []

        def emit(observer: Any, _: Any) -> Any:
            first.append(observer)
            for each in "se" if len(first) == 1 else "sa":
                observer.on_next(marbles.event(each))
            first[0].on_next(marbles.event("z"))
            first[0].on_completed()

        seen: list[str] = []
        rx.create(emit).pipe(*pipe(lambda _: True)).subscribe(
            lambda event: seen.append(event.type), on_completed=lambda: seen.append("|")
        )
        assert seen == ["start", "text_delta"]

    def test_an_observable_that_waits_does_so_on_the_streams_scheduler(self, pipe: Pipe) -> None:
        row = Row("s-#", "s-a----|")
        refresh = lambda _: rx.timer(3).pipe(ops.map(lambda _: "fresh"))  # noqa: E731
        assert row.run(*pipe(refresh)) == "-------(sa)-|"

    @pytest.mark.parametrize("kind", [CurrentThreadScheduler, ImmediateScheduler])
    def test_but_not_on_one_that_cannot_wait(self, pipe: Pipe, kind: Any) -> None:
        given: list[Any] = []

        def emit(observer: Any, scheduler: Any) -> Any:
            given.append(scheduler)
            observer.on_next(True)

        sync_source("se", "sa").pipe(*pipe(lambda _: rx.create(emit))).subscribe(scheduler=kind.singleton())
        assert given == [None]

    @pytest.mark.looptime
    async def test_an_observable_that_was_cancelled_is_a_failed_refresh(self, pipe: Pipe) -> None:
        told: list[Any] = []

        def refresh(_: Any) -> Any:
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            future.cancel()
            return rx.from_future(future)

        stream = sync_source("se", "sa").pipe(*pipe(refresh, on_recovery=told.append))
        assert [each.type async for each in to_async_iterable(stream)] == ["start", "error"]
        assert told[-1] == RefreshFailed(type="RuntimeError")

    async def test_a_coroutine_runs_on_the_loop(self, pipe: Pipe) -> None:
        where: list[Any] = []

        async def refresh(failure: Any) -> bool:
            where.append(asyncio.get_running_loop())
            await asyncio.sleep(0)
            return True

        assert [each.type async for each in to_async_iterable(sync_source("se", "sa|").pipe(*pipe(refresh)))] == [
            "start",
            "text_delta",
        ]
        assert where == [asyncio.get_running_loop()]

    def test_a_coroutine_without_a_loop_is_a_failed_refresh_with_a_sentence(self, pipe: Pipe) -> None:
        async def refresh(failure: Any) -> bool:
            return True

        error = CredentialRejected("no", status=401)
        errors: list[Exception] = []
        rx.throw(error).pipe(*pipe(refresh)).subscribe(on_error=errors.append)
        gc.collect()
        assert errors == [error]
        assert "event loop" in str(error.__cause__)

    async def test_a_failure_on_another_thread_is_refreshed_and_resubscribed_on_the_loop(self, pipe: Pipe) -> None:
        loop = asyncio.get_running_loop()
        threads: list[str] = []
        done = asyncio.Event()

        def emit(observer: Any, _: Any) -> Any:
            threads.append("loop" if running(loop) else "other")
            if len(threads) == 1:
                threading.Thread(target=observer.on_error, args=(CredentialRejected("no", status=401),)).start()
            else:
                observer.on_next(marbles.event("a"))

        rx.create(emit).pipe(*pipe(lambda _: True)).subscribe(lambda _: done.set())
        await done.wait()
        assert threads == ["loop", "loop"]

    def test_refresh_must_be_a_function(self, pipe: Pipe) -> None:
        with pytest.raises(TypeError, match="str"):
            pipe("token")

    def test_truth_that_cannot_be_told_is_a_failed_refresh(self, pipe: Pipe) -> None:
        class Undecided:
            def __bool__(self) -> bool:
                raise LookupError("neither")

        error = CredentialRejected("no", status=401)
        errors: list[Exception] = []
        rx.throw(error).pipe(*pipe(lambda _: Undecided())).subscribe(on_error=errors.append)
        assert errors == [error]
        assert isinstance(error.__cause__, LookupError)

    def test_the_budget_is_per_subscription(self, pipe: Pipe) -> None:
        row = Row("s-#", "s-a----|", "s-#", "s-b----|")
        refresh = row.refresh("r")
        stream = row.source.pipe(*pipe(refresh)).pipe(ops.repeat(2))
        assert marbles.draw(marbles.observe(row.scheduler, stream)) == "----(sa)-----(sb)-|"
        assert len(row.failures) == 2


def sync_source(*attempts: str) -> rx.Observable[Any]:
    """Emits inside `subscribe`; the last attempt again when there are no more."""
    count = 0

    def attempt(_: Any) -> rx.Observable[Any]:
        nonlocal count
        count += 1
        return rx.of(*attempts[min(count, len(attempts)) - 1].rstrip("|")).pipe(ops.map(marbles.event))

    return rx.defer(attempt)


def running(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


@both
class TestBackoff:
    def flaky(self, row: Row, *outcomes: Any) -> Callable[[Any], Any]:
        """A refresh that takes one tick and gives, or raises, one outcome after the other."""
        left = list(outcomes)

        def refresh(failure: Any) -> Any:
            outcome = left.pop(0)
            row.failures.append(failure)
            if isinstance(outcome, Exception):
                return marbles.cold(row.scheduler, "-#", error=outcome)
            return marbles.cold(row.scheduler, "-r", {"r": outcome})

        return refresh

    def test_the_waits_run_on_the_streams_scheduler(self, pipe: Pipe) -> None:
        row = Row("s-#", "s-a----|")
        refresh = self.flaky(row, OSError(), OSError(), "fresh")
        # fails at 2, tries from 2 to 3, from 5 to 6, from 8 to 9
        assert row.run(*pipe(refresh, retrying=fixed)) == "-----------(sa)-|"

    def test_when_the_tries_are_used_up_the_last_exception_is_the_cause(self, pipe: Pipe) -> None:
        row = Row("s-e", "s-a|")
        last = OSError("the last")
        refresh = self.flaky(row, OSError(), OSError(), last)
        assert row.run(*pipe(refresh, retrying=fixed)) == "---------(se|)"
        assert len(row.failures) == 3

    def test_by_default_three_tries_of_what_is_transient(self, pipe: Pipe) -> None:
        row = Row("s-#", "s-a----|")
        told: list[Any] = []
        refresh = self.flaky(row, OSError(), TransientError("busy", retry_after=7), "fresh")
        seen = row.run(*pipe(refresh, on_recovery=told.append))
        delays = [each.delay for each in told if isinstance(each, RefreshRetryScheduled)]
        assert 0 <= delays[0] <= 0.5
        assert delays[1] == 7.0
        assert "s@" in seen

    def test_by_default_nothing_else_is_repeated(self, pipe: Pipe) -> None:
        for final in (ValueError("no"), RefreshFailed("no", type="invalid_client", status=503)):
            row = Row("s-#", "s-a|")
            row.run(*pipe(self.flaky(row, final, "fresh")))
            assert len(row.failures) == 1

    def test_a_policy_may_judge_the_result(self, pipe: Pipe) -> None:
        row = Row("s-#", "s-a----|")
        policy = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(3),
            wait=tenacity.wait_fixed(1),
            retry=tenacity.retry_if_result(lambda result: result is None),
        )
        assert row.run(*pipe(self.flaky(row, None, "fresh"), retrying=policy)) == "-------(sa)-|"

    def test_a_policy_that_counts_time_counts_the_schedulers(self, pipe: Pipe) -> None:
        row = Row("s-#", "s-a|")
        policy = tenacity.Retrying(stop=tenacity.stop_after_delay(5), wait=tenacity.wait_fixed(2), reraise=True)
        row.run(*pipe(self.flaky(row, *[OSError() for _ in range(9)]), retrying=policy))
        assert len(row.failures) == 3  # after 1, 4 and 7 ticks

    def test_a_policy_is_copied_per_use(self, pipe: Pipe) -> None:
        row = Row("s-#", "s-#")
        shared = row.source.pipe(*pipe(self.flaky(row, *[OSError() for _ in range(6)]), retrying=fixed))
        observers = [row.scheduler.create_observer() for _ in range(2)]
        for observer in observers:
            shared.subscribe(observer, scheduler=row.scheduler)
        row.scheduler.start()
        assert [marbles.draw(each.messages) for each in observers] == ["---------(s#)"] * 2

    def test_waits_without_a_scheduler_or_a_loop_run_on_a_timer_thread(self, pipe: Pipe) -> None:
        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(4), wait=tenacity.wait_fixed(0.001))
        outcomes: list[Any] = [OSError(), OSError(), OSError(), True]
        ended = threading.Event()
        seen: list[str] = []

        def refresh(_: Any) -> Any:
            outcome = outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        for scheduler in (None, CurrentThreadScheduler.singleton(), ImmediateScheduler.singleton()):
            outcomes[:] = [OSError(), OSError(), OSError(), True]
            ended.clear()
            seen.clear()
            sync_source("se", "sa").pipe(*pipe(refresh, retrying=policy)).subscribe(
                lambda event: seen.append(event.type), on_completed=ended.set, scheduler=scheduler
            )
            assert ended.wait(10)
            assert seen == ["start", "text_delta"]

    @pytest.mark.looptime
    async def test_waits_with_a_loop_run_on_the_loop(self, pipe: Pipe) -> None:
        outcomes: list[Any] = [OSError(), OSError(), True]

        async def refresh(_: Any) -> Any:
            outcome = outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        began = asyncio.get_running_loop().time()
        stream = sync_source("se", "sa").pipe(*pipe(refresh, retrying=fixed))
        assert [each.type async for each in to_async_iterable(stream)] == ["start", "text_delta"]
        assert asyncio.get_running_loop().time() - began == pytest.approx(4, abs=0.01)

    def test_many_tries_that_fail_at_once_do_not_grow_the_stack(self, pipe: Pipe) -> None:
        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(5000))
        tries: list[int] = []

        def refresh(_: Any) -> Any:
            tries.append(1)
            raise OSError

        errors: list[Exception] = []
        rx.throw(CredentialRejected("no", status=401)).pipe(*pipe(refresh, retrying=policy)).subscribe(
            on_error=errors.append
        )
        assert (len(tries), len(errors)) == (5000, 1)

    def test_async_retrying_is_refused_with_the_right_name(self, pipe: Pipe) -> None:
        with pytest.raises(TypeError, match=r"tenacity\.Retrying"):
            pipe(lambda _: True, retrying=tenacity.AsyncRetrying())


@both
class TestTheBoundInTime:
    def test_a_refresh_that_hangs_is_a_failed_refresh(self, pipe: Pipe) -> None:
        row = Row("s-e", "s-a|")
        told: list[Any] = []
        assert row.run(*pipe(row.refresh("-"), timeout=5, on_recovery=told.append)) == "-------(se|)"
        assert told[-1] == RefreshFailed(type="TimeoutError")

    def test_the_waits_are_inside_it(self, pipe: Pipe) -> None:
        row = Row("s-e", "s-a|")
        forever = tenacity.Retrying(wait=tenacity.wait_fixed(2))
        assert row.run(*pipe(row.refresh("#"), timeout=5, retrying=forever)) == "-------(se|)"

    def test_what_the_late_refresh_gives_is_dropped(self, pipe: Pipe) -> None:
        row = Row("s-e", "s-a|")
        assert row.run(*pipe(row.refresh("---------r"), timeout=5)) == "-------(se|)"
        assert row.subscriptions() == ["^-!"]

    def test_tries_that_fail_at_once_without_a_wait_end_too(self, pipe: Pipe) -> None:
        tries: list[int] = []

        def refresh(_: Any) -> Any:
            tries.append(1)
            raise OSError

        errors: list[Exception] = []
        rx.throw(CredentialRejected("no", status=401)).pipe(
            *pipe(refresh, retrying=tenacity.Retrying(), timeout=0.05)
        ).subscribe(on_error=errors.append)
        assert len(errors) == 1
        assert tries

    @pytest.mark.parametrize("timeout", [0, -1, float("nan")])
    def test_nonsense_is_refused(self, pipe: Pipe, timeout: float) -> None:
        with pytest.raises(ValueError, match="timeout"):
            pipe(lambda _: True, timeout=timeout)

    @pytest.mark.parametrize("timeout", [None, float("inf")])
    def test_none_is_no_bound_and_infinity_neither(self, pipe: Pipe, timeout: float | None) -> None:
        row = Row("s-e", "s-a----|")
        assert row.run(*pipe(row.refresh("-" * 100 + "r"), timeout=timeout)).startswith("-" * 104 + "(sa)")


@both
class TestDispose:
    def test_during_a_wait_no_further_try_starts(self, pipe: Pipe) -> None:
        row = Row("s-#", "s-a|")
        assert row.run(*pipe(row.refresh("#", OSError()), retrying=fixed), until=3) == ""
        assert len(row.failures) == 1

    def test_during_a_try_the_try_runs_to_its_end_and_its_result_is_dropped(self, pipe: Pipe) -> None:
        row = Row("s-#", "s-a|")
        ended: list[Any] = []
        slow = row.refresh("-----r")
        refresh = lambda failure: slow(failure).pipe(ops.do_action(ended.append))  # noqa: E731
        assert row.run(*pipe(refresh), until=4) == ""
        assert (ended, row.subscriptions()) == (["fresh"], ["^-!"])

    async def test_during_a_coroutine_it_runs_to_its_end(self, pipe: Pipe) -> None:
        started, go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        seen: list[Any] = []

        async def refresh(_: Any) -> bool:
            started.set()
            await go.wait()
            ended.set()
            return True

        subscription = sync_source("se", "sa").pipe(*pipe(refresh)).subscribe(seen.append)
        await started.wait()
        subscription.dispose()
        gc.collect()
        go.set()
        await ended.wait()
        await asyncio.sleep(0)
        assert seen == []

    @pytest.mark.parametrize("timer", ["of a wait", "of the bound in time"])
    def test_while_a_timer_is_started_it_stops_that_timer(self, pipe: Pipe, timer: str) -> None:
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
        subscription = source.pipe(*pipe(refresh, retrying=fixed)).subscribe(scheduler=Overtaken())
        source.on_error(marbles.failure)
        assert [each.is_disposed for each in timers] == [True]

    def test_of_the_first_attempt(self, pipe: Pipe) -> None:
        row = Row("s-a----------|")
        assert row.run(*pipe(row.refresh("r")), until=9) == "--(sa)"
        assert row.subscriptions() == ["^--------!"]

    def test_of_the_second_attempt(self, pipe: Pipe) -> None:
        row = Row("s-#", "s-a----------|")
        assert row.run(*pipe(row.refresh("r")), until=9) == "----(sa)"
        assert row.subscriptions() == ["^-!", "--^------!"]

    def test_from_inside_on_recovery_nothing_more_happens(self, pipe: Pipe) -> None:
        row = Row("s-#", "s-a|")
        handle: list[Any] = []
        stream = row.source.pipe(*pipe(row.refresh("-r"), on_recovery=lambda event: stop(event)))

        def stop(event: Any) -> None:
            if isinstance(event, Refreshed):
                handle[0].dispose()

        observer = row.scheduler.create_observer()
        handle.append(stream.subscribe(observer, scheduler=row.scheduler))
        row.scheduler.start()
        assert (observer.messages, row.subscriptions()) == ([], ["^-!"])


@both
class TestOnRecovery:
    def told(self, pipe: Pipe, first: str, refresh: str, **options: Any) -> list[Any]:
        row = Row(first, "s-a|")
        events: list[Any] = []
        row.run(*pipe(row.refresh(refresh), on_recovery=events.append, **options))
        return events

    def test_a_recovery(self, pipe: Pipe) -> None:
        rejected = AuthRejected("CredentialRejected", 401)
        assert self.told(pipe, "s-e", "r") == [rejected, Refreshed(), Resubscribed()]
        assert self.told(pipe, "s-#", "n") == [rejected, RefreshUnchanged()]
        assert self.told(pipe, "s-#", "#") == [rejected, RefreshFailed(type="ValueError")]

    def test_nothing_where_nothing_is_recovered(self, pipe: Pipe) -> None:
        assert self.told(pipe, "s-a|", "r") == []
        assert self.told(pipe, "s-x", "r") == []

    def test_an_observer_is_told_through_on_next_alone(self, pipe: Pipe) -> None:
        row = Row("s-e", "s-a|")
        subject: Subject[Any] = Subject()
        seen: list[Any] = []
        subject.subscribe(seen.append, seen.append, lambda: seen.append("|"))
        row.run(*pipe(row.refresh("r"), on_recovery=subject))
        assert len(seen) == 3

    def test_its_own_exceptions_are_logged_and_change_nothing(
        self, pipe: Pipe, caplog: pytest.LogCaptureFixture
    ) -> None:
        def raises(_: Any) -> None:
            raise LookupError("the listener's own")

        row = Row("s-#", "s-a----|")
        assert row.run(*pipe(row.refresh("r"), on_recovery=raises)) == "----(sa)-|"
        assert "A listener failed at AuthRejected" in caplog.text

    def test_no_new_credential_is_logged(self, pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "rxauth")
        self.told(pipe, "s-#", "n")
        assert "refresh gave no new credential; not retried" in caplog.text

    def test_the_log_says_what_happens_though_nobody_else_is_told(
        self, pipe: Pipe, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "rxauth")
        row = Row("s-e", "s-a|")
        row.run(*pipe(row.refresh("r")))
        assert [record.getMessage() for record in caplog.records] == [
            "The stream was refused before it was live (CredentialRejected); refreshing the credential",
            "The credential was refreshed; subscribing once more",
        ]

    def test_no_text_of_a_failure_is_told_or_logged(self, pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "rxauth")
        events: list[Any] = []
        row = Row("s-#", error=CredentialRejected("canary", status=401, code="canary", type="canary"))
        row.run(*pipe(row.refresh("#", TransientError("canary")), on_recovery=events.append, retrying=fixed))
        assert "canary" not in repr(events) + "".join(map(str, events)) + caplog.text


@both
class TestTheConsumer:
    @pytest.mark.parametrize("events", ["sa", "a"], ids=["out of the flush", "out of a live event"])
    def test_what_it_throws_never_causes_a_refresh(self, pipe: Pipe, events: str) -> None:
        thrown = CredentialRejected("the consumer's own", status=401)
        refreshes: list[Any] = []
        errors: list[Any] = []
        attempts: list[int] = []

        def emit(observer: Any, _: Any) -> Any:
            attempts.append(1)
            for each in events:
                observer.on_next(marbles.event(each))

        def consumer(_: Any) -> None:
            raise thrown

        rx.create(emit).pipe(*pipe(refreshes.append)).subscribe(consumer, errors.append)
        assert (errors, refreshes, attempts) == ([thrown], [], [1])

    def test_what_it_causes_during_the_flush_waits_its_turn(self, pipe: Pipe) -> None:
        source: Subject[Any] = Subject()
        seen: list[Any] = []

        def consumer(event: Any) -> None:
            seen.append(event["n"])
            if event["n"] == 1:
                source.on_next({"type": "text_delta", "n": 4})
                source.on_completed()

        source.pipe(*pipe(lambda _: None)).subscribe(consumer, on_completed=lambda: seen.append("|"))
        for number, kind in enumerate(["start", "start", "text_delta"], start=1):
            source.on_next({"type": kind, "n": number})
        assert seen == [1, 2, 3, 4, "|"]

    def test_what_it_throws_out_of_the_second_attempt_is_no_failed_refresh(self, pipe: Pipe) -> None:
        told: list[Any] = []
        errors: list[Any] = []
        thrown = LookupError("the consumer's own")

        def emit(observer: Any, _: Any) -> Any:
            for each in "sa" if told else "se":
                observer.on_next(marbles.event(each))

        def consumer(_: Any) -> None:
            raise thrown

        rx.create(emit).pipe(*pipe(lambda _: rx.of(True), on_recovery=told.append)).subscribe(consumer, errors.append)
        assert errors == [thrown]
        assert told == [AuthRejected("CredentialRejected", 401), Refreshed(), Resubscribed()]

    def test_recover_auth_and_the_three_agree_on_options(self, pipe: Pipe) -> None:
        row = Row("s-#", "s-a|")
        if pipe is fused:
            seen = row.run(
                recover_auth(row.refresh("n"), discard_on_error=True, error_event=lambda _: marbles.event("z"))
            )
        else:
            seen = row.run(
                buffer_until_live(),
                retry_on_first_auth_error(row.refresh("n")),
                flush_on_complete_or_error(discard_on_error=True, error_event=lambda _: marbles.event("z")),
            )
        assert seen == "--(z|)"


@both
def test_the_source_is_disposed_before_what_is_held_is_shown(pipe: Pipe) -> None:
    happened: list[str] = []
    source: list[Any] = []

    def subscribe(observer: Any, _: Any) -> Any:
        source.append(observer)
        return Disposable(lambda: happened.append("disposed"))

    rx.create(subscribe).pipe(*pipe(lambda _: None)).subscribe(lambda event: happened.append(event.type))
    for event in (marbles.event("s"), EVENTS["x"]):
        source[0].on_next(event)
    assert happened == ["disposed", "start", "error"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("operator", [buffer_until_live, partial(recover_auth, bool)], ids=["buffer", "recover_auth"])
def test_a_long_opening_costs_linear_time(operator: Any) -> None:
    """Quadratic time would take minutes."""
    seen: list[Any] = []

    def emit(observer: Any, _: Any) -> Any:
        for each in "s" * 60_000 + "a":
            observer.on_next(marbles.event(each))

    rx.create(emit).pipe(operator(max_held=60_000)).subscribe(seen.append)
    assert len(seen) == 60_001


def test_rxs_own_operators_work_between_the_three() -> None:
    row = Row("s-#", "s-a----|")
    passed: list[Any] = []
    seen = row.run(
        buffer_until_live(),
        ops.do_action(on_error=passed.append),
        retry_on_first_auth_error(row.refresh("r")),
        ops.do_action(passed.append),
        flush_on_complete_or_error(),
    )
    assert seen == "----(sa)-|"
    assert isinstance(passed[0], NeverLiveError)
    assert len(passed) == 3
