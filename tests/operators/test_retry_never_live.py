"""retry_never_live: another attempt, with backoff, while nothing was delivered."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from itertools import pairwise
from typing import Any

import pytest
import reactivex as rx
import tenacity
from reactivex import Observable, abc
from reactivex.scheduler import TimeoutScheduler

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

from .marble_table import Row, unavailable

two_ticks = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(2))
rejected = RequestRejected("400: too long", status=400)

# fmt: off
TABLE = {
    "a live stream passes":                   ["s-a---b|",
                                               "--(sa)b|"],
    "an error event costs one more attempt":  ["s-x",
                                               "    s-a---b|",
                                               "------(sa)b|"],
    "an exception costs one more attempt":    ["s-#",
                                               "    s-a---b|",
                                               "------(sa)b|"],
    "the third attempt is the last":          ["s-x",
                                               "    s-#",
                                               "        s-x",
                                               "----------(sx|)"],
    "a failure after live passes":            ["s-a---x|",
                                               "--(sa)x|"],
    "an exception after live passes":         ["s-a----#",
                                               "--(sa)-#"],
    "an auth failure is not transient":       ["s-e",
                                               "--(se|)"],
    "a failure for good is not tried again":  ["s-r",
                                               "--(sr|)"],
    "an empty stream is not tried again":     ["s-|",
                                               "--(s|)"],
}
# fmt: on


@pytest.mark.parametrize("diagrams", TABLE.values(), ids=TABLE)
def test_retry_never_live_follows_its_marbles(diagrams: list[str]) -> None:
    *attempts, result = diagrams
    row = Row(*attempts, error=unavailable, events={"r": event(rejected)})
    began = [len(each) - len(each.lstrip()) for each in attempts]
    assert (retried(row), starts(row)) == (result, began)
    assert [each.unsubscribe for each in row.source.subscriptions] == [len(each) - 1 for each in attempts]


def retried(row: Row, retrying: Any = two_ticks, *, until: float | None = None, **options: Any) -> str:
    operator = retry_never_live(retrying=retrying, **options)
    return row.run(buffer_until_live(), operator, flush_on_complete_or_error(), until=until)


def starts(row: Row) -> list[float]:
    return [each.subscribe for each in row.source.subscriptions]


def event(cause: Exception) -> Error:
    return Error("error", AssistantMessage(), cause)


class TestThePolicy:
    @pytest.mark.parametrize(
        ("diagram", "cause", "expected"),
        [
            pytest.param("x", ProviderUnavailable("529", status=529, retry_after=7), [0, 7, 14], id="an error event"),
            pytest.param("#", TransientError("busy", retry_after=3), [0, 3, 6], id="an exception"),
            pytest.param("x", ProviderUnavailable("", status=429, retry_after=60), [0, 60, 120], id="a minute"),
            pytest.param("x", ProviderUnavailable("", status=429, retry_after=61), [0], id="more than a minute"),
            pytest.param("#", LoginRequired("log in"), [0], id="what the credential logic raises is final"),
        ],
    )
    def test_by_default_three_tries_wait_as_the_server_asks(
        self, diagram: str, cause: Exception, expected: list[float]
    ) -> None:
        row = Row(diagram, error=cause, events={"x": event(cause)})
        scheduled: list[RetryScheduled] = []
        retried(row, None, on_retry=scheduled.append)
        assert starts(row) == expected
        name, status = type(cause).__name__, getattr(cause, "status", None)
        waits = [later - at for at, later in pairwise(expected)]
        assert scheduled == [RetryScheduled(number, wait, name, status) for number, wait in enumerate(waits, 1)]

    def test_without_retry_after_the_wait_is_short_and_random(self) -> None:
        row = Row("x")
        retried(row, None)
        first, second, third = starts(row)
        assert (first, second - first <= 0.5, third - second <= 1.0) == (0, True, True)

    def test_is_given_the_providers_exception(self) -> None:
        judged: list[Any] = []

        def judge(error: BaseException) -> bool:
            judged.append(error)
            return True

        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), retry=tenacity.retry_if_exception(judge))
        other = ValueError("no")
        foreign = {"type": "error", "cause": unavailable}
        retried(Row("x", "#", "a|", error=other), policy, when=lambda _: True)
        retried(Row("x", "a|", events={"x": foreign}), policy, when=lambda _: True)
        assert judged == [unavailable, other, unavailable]

    def test_may_say_no_to_what_when_agrees_to(self) -> None:
        policy = tenacity.Retrying(retry=tenacity.retry_if_exception_type(TimeoutError))
        assert retried(Row("x", "a|"), policy) == "(x|)"

    @pytest.mark.parametrize(
        ("diagram", "when", "attempts"),
        [("x", status(418), 2), ("s-|", lambda _: True, 1)],
        ids=["when decides alone", "a stream without a failure is not judged"],
    )
    def test_by_default_leaves_the_judgement_to_when(self, diagram: str, when: Any, attempts: int) -> None:
        row = Row(diagram, "a|", events={"x": event(RequestRejected("418", status=418))})
        retried(row, None, when=when)
        assert row.attempts == attempts

    def test_counts_the_first_attempt_for_stop_after_delay(self) -> None:
        row = Row("------x")
        policy = tenacity.Retrying(stop=tenacity.stop_after_delay(10), wait=tenacity.wait_fixed(1))
        assert (retried(row, policy), starts(row)) == ("-------------(x|)", [0, 7])

    @pytest.mark.parametrize(
        "policy",
        [
            tenacity.Retrying(stop=tenacity.stop_after_attempt(2)),
            tenacity.Retrying(stop=tenacity.stop_after_attempt(2), reraise=True),
            tenacity.Retrying(stop=tenacity.stop_after_attempt(2), retry_error_callback=lambda _: "a value"),
        ],
        ids=["RetryError", "reraise", "a callback"],
    )
    @pytest.mark.parametrize("failure", [unavailable, event(unavailable)], ids=["an exception", "an error event"])
    def test_lets_the_last_failure_go_on_as_the_same_object(self, policy: tenacity.Retrying, failure: Any) -> None:
        given: list[NeverLiveError] = []
        seen: list[Any] = []

        def attempt(_: Any) -> Observable[Any]:
            given.append(NeverLiveError(("s",), failure))
            return rx.throw(given[-1])

        rx.defer(attempt).pipe(retry_never_live(retrying=policy)).subscribe(on_error=seen.append)
        assert len(given) == 2
        assert [each is given[-1] for each in seen] == [True]

    @pytest.mark.parametrize("part", ["when", "the policy"])
    def test_that_raises_fails_the_stream(self, part: str) -> None:
        def raises(_: Any) -> Any:
            raise LookupError

        options: Any = {"when": raises} if part == "when" else {"retrying": tenacity.Retrying(wait=raises)}
        row = Row("s-x", "a|")
        assert isinstance(row.ends(buffer_until_live(), retry_never_live(**options)), LookupError)
        assert row.attempts == 1


class TestSubscriptions:
    def test_on_retry_may_be_an_observer_and_sees_no_secret(self) -> None:
        seen: list[Any] = []

        class Listener:
            on_next = staticmethod(seen.append)

        row = Row("x", "a|", events={"x": event(TransientError("Bearer secret"))})
        retried(row, on_retry=Listener())
        assert seen == [RetryScheduled(1, 2.0, "TransientError")]
        assert "secret" not in repr(seen)

    @pytest.mark.parametrize(
        ("until", "seen", "subscriptions"),
        [(3, "", ["^-!"]), (9, "------(sa)", ["^-!", "----^----!"])],
        ids=["while it waits", "during an attempt"],
    )
    def test_dispose_ends_it(self, until: int, seen: str, subscriptions: list[str]) -> None:
        row = Row("s-x", "s-a----|")
        assert (retried(row, until=until), row.subscriptions()) == (seen, subscriptions)

    def test_an_exception_of_the_consumer_starts_no_attempt(self) -> None:
        row = Row("s-a|")

        def consume(event: Any) -> None:
            raise NeverLiveError((), unavailable)

        stream = row.source.pipe(buffer_until_live(), retry_never_live(retrying=two_ticks))
        stream.subscribe(consume, scheduler=row.scheduler)
        with pytest.raises(NeverLiveError):
            row.scheduler.start()
        assert row.attempts == 1

    @pytest.mark.parametrize("failure", [rejected, unavailable], ids=["final", "after the last try"])
    def test_an_exception_of_on_error_goes_to_the_source(self, failure: Exception) -> None:
        def consume(error: Exception) -> None:
            raise LookupError

        once = tenacity.Retrying(stop=tenacity.stop_after_attempt(1))
        stream: Observable[Any] = rx.throw(NeverLiveError((), failure)).pipe(retry_never_live(retrying=once))
        with pytest.raises(LookupError):
            stream.subscribe(on_error=consume)


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


class TestOnALoop:
    async def attempts(self, retrying: Any, scheduler: Any = None) -> list[tuple[float, int, str]]:
        """Return when each attempt began, on which thread, and with which variable."""
        variable.set("the subscriber's")
        loop, begun = asyncio.get_running_loop(), list[tuple[float, int, str]]()
        ended = loop.create_future()

        def attempt(_: abc.SchedulerBase) -> Observable[Any]:
            begun.append((round(loop.time(), 3), threading.get_ident(), variable.get("none")))
            return rx.throw(NeverLiveError((), unavailable))

        stream = rx.defer(attempt).pipe(retry_never_live(retrying=retrying))

        def end(error: Exception) -> None:  # after the last try, on either thread
            loop.call_soon_threadsafe(ended.set_result, error)

        stream.subscribe(on_error=end, scheduler=scheduler)
        assert (await ended).failure is unavailable
        return begun

    @pytest.mark.looptime
    @pytest.mark.parametrize(
        ("policy", "times"),
        [
            pytest.param(two_ticks, [0, 2, 4], id="waits"),
            pytest.param(
                tenacity.Retrying(stop=tenacity.stop_after_delay(10), wait=tenacity.wait_fixed(4)),
                [0, 4, 8, 12],
                id="the wall clock, which stands still here, is not the policy's",
            ),
        ],
    )
    async def test_waits_and_attempts_are_on_that_loop(self, policy: Any, times: list[float]) -> None:
        here = threading.get_ident(), "the subscriber's"
        assert await self.attempts(policy) == [(at, *here) for at in times]

    async def test_an_attempt_after_a_wait_elsewhere_is_back_on_the_loop(self) -> None:
        soon = two_ticks.copy(wait=tenacity.wait_fixed(0.001))
        begun = await self.attempts(soon, TimeoutScheduler.singleton())
        assert [each[1:] for each in begun] == [(threading.get_ident(), "the subscriber's")] * 3
