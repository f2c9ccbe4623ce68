"""retry_never_live: another attempt, with backoff, while nothing was delivered; and the order of the operators."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from typing import Any

import pytest
import reactivex as rx
import tenacity
from reactivex import Observable, abc
from reactivex.disposable import Disposable
from reactivex.scheduler import TimeoutScheduler
from reactivex.subject import Subject

from rxauth import (
    LoginRequired,
    NeverLiveError,
    RetryScheduled,
    TransientError,
    buffer_until_live,
    flush_on_complete_or_error,
    retry_never_live,
)
from rxauth.errors import ProviderUnavailable, RequestRejected
from rxauth.events import AssistantMessage, Error
from rxauth.failures import status
from rxauth.testing import marbles

from .marble_table import Row, unavailable

two_ticks = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(2))
rejected = RequestRejected("400: too long", status=400)

# fmt: off
TABLE = {
    "a live stream passes":                   (["s-a---b|"],
                                                "--(sa)b|",
                                               ["^------!"]),
    "an error event costs one more attempt":  (["s-x",
                                                "    s-a---b|"],
                                                "------(sa)b|",
                                               ["^-!",
                                                "----^------!"]),
    "an exception costs one more attempt":    (["s-#",
                                                "    s-a---b|"],
                                                "------(sa)b|",
                                               ["^-!",
                                                "----^------!"]),
    "the third attempt is the last":          (["s-x",
                                                "    s-#",
                                                "        s-x"],
                                                "----------(sx|)",
                                               ["^-!",
                                                "----^-!",
                                                "--------^-!"]),
    "a failure after live passes":            (["s-a---x|"],
                                                "--(sa)x|",
                                               ["^------!"]),
    "an exception after live passes":         (["s-a----#"],
                                                "--(sa)-#",
                                               ["^------!"]),
    "an auth failure is not transient":       (["s-e"],
                                                "--(se|)",
                                               ["^-!"]),
    "a failure for good is not tried again":  (["s-r"],
                                                "--(sr|)",
                                               ["^-!"]),
    "an empty stream is not tried again":     (["s-|"],
                                                "--(s|)",
                                               ["^-!"]),
}
# fmt: on


@pytest.mark.parametrize(("attempts", "result", "subscriptions"), TABLE.values(), ids=TABLE)
def test_retry_never_live_follows_its_marbles(attempts: list[str], result: str, subscriptions: list[str]) -> None:
    events = {"r": Error("error", AssistantMessage(), rejected)}
    row = Row(*attempts, error=unavailable, events=events)
    seen = row.run(buffer_until_live(), retry_never_live(retrying=two_ticks), flush_on_complete_or_error())
    assert (seen, row.subscriptions()) == (result, subscriptions)


class TestThePolicy:
    def test_by_default_three_tries_wait_as_the_server_asks(self) -> None:
        busy = Error("error", AssistantMessage(), ProviderUnavailable("529", status=529, retry_after=7))
        row = Row("x", "x", "x", events={"x": busy})
        scheduled: list[RetryScheduled] = []
        row.run(buffer_until_live(), retry_never_live(on_retry=scheduled.append), flush_on_complete_or_error())
        assert starts(row) == [0, 7, 14]
        assert scheduled == [
            RetryScheduled(1, 7.0, "ProviderUnavailable", 529),
            RetryScheduled(2, 7.0, "ProviderUnavailable", 529),
        ]

    @pytest.mark.parametrize(("seconds", "attempts"), [(60, 3), (61, 1)])
    def test_by_default_a_wait_of_more_than_a_minute_is_not_made(self, seconds: float, attempts: int) -> None:
        busy = Error("error", AssistantMessage(), ProviderUnavailable("429", status=429, retry_after=seconds))
        row = Row("x", events={"x": busy})
        row.run(buffer_until_live(), retry_never_live(), flush_on_complete_or_error())
        assert row.attempts == attempts

    def test_an_exception_may_carry_the_time_to_wait_too(self) -> None:
        row = Row("#", "#", "#", error=TransientError("busy", retry_after=3))
        row.run(buffer_until_live(), retry_never_live(), flush_on_complete_or_error())
        assert starts(row) == [0, 3, 6]

    def test_without_retry_after_the_wait_is_short_and_random(self) -> None:
        row = Row("x", "x", "x")
        row.run(buffer_until_live(), retry_never_live(), flush_on_complete_or_error())
        first, second, third = starts(row)
        assert (first, second - first <= 0.5, third - second <= 1.0) == (0, True, True)

    def test_the_policy_is_given_the_providers_exception(self) -> None:
        row = Row("x", "#", "a|", error=ValueError("no"))
        judged: list[Any] = []

        def judge(error: BaseException) -> bool:
            judged.append(error)
            return True

        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), retry=tenacity.retry_if_exception(judge))
        row.run(buffer_until_live(), retry_never_live(when=lambda _: True, retrying=policy))
        assert (judged[0], str(judged[1])) == (unavailable, "no")

    def test_the_policy_may_say_no_to_what_when_agrees_to(self) -> None:
        row = Row("x", "a|")
        policy = tenacity.Retrying(retry=tenacity.retry_if_exception_type(TimeoutError))
        seen = row.run(buffer_until_live(), retry_never_live(retrying=policy), flush_on_complete_or_error())
        assert seen == "(x|)"

    def test_when_decides_alone_with_the_default_policy(self) -> None:
        teapot = Error("error", AssistantMessage(), RequestRejected("418", status=418))
        row = Row("x", "a|", events={"x": teapot})
        row.run(buffer_until_live(), retry_never_live(when=status(418)), flush_on_complete_or_error())
        assert row.attempts == 2

    def test_the_first_attempt_counts_for_stop_after_delay(self) -> None:
        row = Row("------x", "------x")
        policy = tenacity.Retrying(stop=tenacity.stop_after_delay(10), wait=tenacity.wait_fixed(1))
        seen = row.run(buffer_until_live(), retry_never_live(retrying=policy), flush_on_complete_or_error())
        assert (seen, starts(row)) == ("-------------(x|)", [0, 7])

    @pytest.mark.parametrize(
        "policy",
        [
            tenacity.Retrying(stop=tenacity.stop_after_attempt(2)),
            tenacity.Retrying(stop=tenacity.stop_after_attempt(2), reraise=True),
            tenacity.Retrying(stop=tenacity.stop_after_attempt(2), retry_error_callback=lambda _: "a value"),
        ],
        ids=["RetryError", "reraise", "a callback"],
    )
    @pytest.mark.parametrize("diagram", ["s-x", "s-#"], ids=["an error event", "an exception"])
    def test_the_last_failure_goes_on_as_the_same_object(self, policy: tenacity.Retrying, diagram: str) -> None:
        given: list[NeverLiveError] = []
        buffered = rx.defer(lambda _: failing(given))
        seen: list[Any] = []
        buffered.pipe(retry_never_live(retrying=policy)).subscribe(on_error=seen.append)
        assert len(given) == 2
        assert seen == [given[-1]]
        assert seen[0] is given[-1]

    def test_an_async_retrying_is_refused(self) -> None:
        policy: Any = tenacity.AsyncRetrying()
        with pytest.raises(TypeError, match=r"AsyncRetrying; give a tenacity\.Retrying"):
            retry_never_live(retrying=policy)

    def test_a_judge_that_raises_fails_the_stream(self) -> None:
        def raises(failure: Any) -> bool:
            raise LookupError

        row = Row("s-x", "a|")
        assert isinstance(row.ends(buffer_until_live(), retry_never_live(when=raises)), LookupError)
        assert row.attempts == 1

    def test_a_stream_without_a_failure_is_not_judged(self) -> None:
        row = Row("s-|", "a|")
        seen = row.run(buffer_until_live(), retry_never_live(when=lambda _: True), flush_on_complete_or_error())
        assert (seen, row.attempts) == ("--(s|)", 1)

    def test_a_policy_that_raises_fails_the_stream(self) -> None:
        def raises(state: tenacity.RetryCallState) -> float:
            raise LookupError

        error = Row("s-x", "a|").ends(buffer_until_live(), retry_never_live(retrying=tenacity.Retrying(wait=raises)))
        assert isinstance(error, LookupError)

    def test_what_the_credential_logic_raises_is_final(self) -> None:
        row = Row("#", "a|", error=LoginRequired("log in"))
        row.run(buffer_until_live(), retry_never_live(retrying=two_ticks), flush_on_complete_or_error())
        assert row.attempts == 1


def starts(row: Row) -> list[float]:
    return [each.subscribe for source in row.sources for each in source.subscriptions]


def failing(given: list[NeverLiveError]) -> Observable[Any]:
    given.append(NeverLiveError(("s",), ProviderUnavailable("503", status=503)))
    return rx.throw(given[-1])


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


class TestSubscriptions:
    @pytest.mark.parametrize("observer", [False, True], ids=["a function", "an Observer"])
    def test_on_retry_receives_values_without_secrets(self, observer: bool) -> None:
        seen: list[Any] = []

        class Listener:
            on_next = staticmethod(seen.append)

        row = Row("x", "a|", events={"x": Error("error", AssistantMessage(), TransientError("Bearer secret"))})
        listener: Any = Listener() if observer else seen.append
        row.run(buffer_until_live(), retry_never_live(retrying=two_ticks, on_retry=listener))
        assert seen == [RetryScheduled(1, 2.0, "TransientError")]
        assert "secret" not in repr(seen)

    def test_a_listener_that_raises_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        def raises(value: Any) -> None:
            raise LookupError

        row = Row("s-x", "s-a---|")
        seen = row.run(buffer_until_live(), retry_never_live(retrying=two_ticks, on_retry=raises))
        assert seen == "------(sa)|"
        assert "A listener failed at RetryScheduled" in caplog.text

    def test_disposed_while_it_waits_it_subscribes_no_more(self) -> None:
        row = Row("s-x", "s-a|")
        assert row.run(buffer_until_live(), retry_never_live(retrying=two_ticks), until=3) == ""
        assert row.attempts == 1

    def test_dispose_reaches_the_attempt_under_way(self) -> None:
        row = Row("s-x", "s-a----|")
        assert row.run(buffer_until_live(), retry_never_live(retrying=two_ticks), until=9) == "------(sa)"
        assert row.subscriptions() == ["^-!", "----^----!"]

    def test_each_subscriber_has_a_budget_of_its_own(self) -> None:
        row = Row("x", "x", "x", "x", "x", "x", "a|")
        stream = row.source.pipe(buffer_until_live(), retry_never_live(retrying=two_ticks))
        ends = [marbles.draw(marbles.observe(row.scheduler, stream, at=at)[-1:]) for at in (0, 10)]
        assert row.attempts == 6
        assert all(each.endswith("#") for each in ends)

    def test_thousands_of_tries_without_a_wait_do_not_grow_the_stack(self) -> None:
        count = 0

        def attempt(_: abc.SchedulerBase) -> Observable[Any]:
            nonlocal count
            count += 1
            return rx.throw(NeverLiveError((), unavailable))

        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(5000))
        seen: list[Any] = []
        rx.defer(attempt).pipe(retry_never_live(retrying=policy)).subscribe(on_error=seen.append)
        assert (count, len(seen)) == (5000, 1)

    def test_a_source_that_raises_behind_its_failure_ends_nothing(self) -> None:
        attempts = 0

        def subscribe(observer: abc.ObserverBase[Any], _: Any = None) -> abc.DisposableBase:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                observer.on_error(NeverLiveError((), unavailable))
                raise LookupError("behind the end")
            observer.on_next("a")
            observer.on_completed()
            return Disposable()

        seen: list[Any] = []
        at_once = tenacity.Retrying()
        stream = Observable(subscribe).pipe(retry_never_live(retrying=at_once))
        stream.subscribe(seen.append, seen.append, lambda: seen.append("|"))
        assert seen == ["a", "|"]

    def test_an_exception_of_the_consumer_starts_no_attempt(self) -> None:
        row = Row("s-a|")

        def consume(event: Any) -> None:
            raise NeverLiveError((), unavailable)

        stream = row.source.pipe(buffer_until_live(), retry_never_live(retrying=two_ticks))
        stream.subscribe(consume, scheduler=row.scheduler)
        with pytest.raises(NeverLiveError):
            row.scheduler.start()
        assert row.attempts == 1

    def test_an_exception_of_on_error_goes_to_the_source(self) -> None:
        def consume(error: Exception) -> None:
            raise LookupError

        stream: Observable[Any] = rx.throw(NeverLiveError((), rejected)).pipe(retry_never_live())
        with pytest.raises(LookupError):
            stream.subscribe(on_error=consume)

    def test_a_never_live_error_behind_an_event_passes(self) -> None:
        """One branch of a merge has failed; the other was shown."""
        source: Subject[Any] = Subject()
        seen: list[Any] = []
        late = NeverLiveError((), unavailable)
        source.pipe(retry_never_live(retrying=two_ticks)).subscribe(seen.append, seen.append)
        source.on_next("shown")
        source.on_error(late)
        assert seen == ["shown", late]

    @pytest.mark.looptime
    async def test_a_disposed_stream_is_not_kept_by_its_wait(self) -> None:
        class Consumer:
            def on_next(self, event: Any) -> None:
                """Take an event."""

        consumer = Consumer()
        failed: Observable[Any] = rx.throw(NeverLiveError((), unavailable))
        failed.pipe(retry_never_live(retrying=two_ticks)).subscribe(consumer.on_next).dispose()
        freed = weakref.ref(consumer)
        del consumer
        gc.collect()
        assert freed() is None

    @pytest.mark.looptime
    async def test_on_a_loop_stop_after_delay_is_measured_by_its_clock(self) -> None:
        """The wall clock stands still here, as it would for a policy whose clock was set back."""
        loop = asyncio.get_running_loop()
        times: list[float] = []
        ended = loop.create_future()

        def attempt(_: abc.SchedulerBase) -> Observable[Any]:
            times.append(round(loop.time(), 3))
            return rx.throw(NeverLiveError((), unavailable))

        policy = tenacity.Retrying(stop=tenacity.stop_after_delay(10), wait=tenacity.wait_fixed(4))
        rx.defer(attempt).pipe(retry_never_live(retrying=policy)).subscribe(on_error=ended.set_result)
        await ended
        assert times == [0, 4, 8, 12]

    async def test_an_attempt_after_a_wait_elsewhere_is_back_on_the_loop(self) -> None:
        """And has the context variables of the subscriber."""
        variable.set("the subscriber's")
        seen: list[tuple[int, str]] = []
        ended = asyncio.get_running_loop().create_future()

        def attempt(_: abc.SchedulerBase) -> Observable[Any]:
            seen.append((threading.get_ident(), variable.get("none")))
            return rx.throw(NeverLiveError((), unavailable)) if len(seen) == 1 else rx.of("a")

        soon = tenacity.Retrying(wait=tenacity.wait_fixed(0.001))
        stream = rx.defer(attempt).pipe(retry_never_live(retrying=soon))
        stream.subscribe(ended.set_result, scheduler=TimeoutScheduler.singleton())
        assert await ended == "a"
        assert seen == [(threading.get_ident(), "the subscriber's")] * 2

    @pytest.mark.looptime
    async def test_on_a_loop_the_waits_and_attempts_are_on_that_loop(self) -> None:
        loop, here = asyncio.get_running_loop(), threading.get_ident()
        times: list[tuple[float, int]] = []
        ended = loop.create_future()

        def attempt(_: abc.SchedulerBase) -> Observable[Any]:
            times.append((loop.time(), threading.get_ident()))
            return rx.throw(NeverLiveError((), unavailable))

        rx.defer(attempt).pipe(retry_never_live(retrying=two_ticks)).subscribe(on_error=ended.set_result)
        assert (await ended).failure is unavailable
        assert [round(at, 3) for at, _ in times] == [0, 2, 4]
        assert {thread for _, thread in times} == {here}
