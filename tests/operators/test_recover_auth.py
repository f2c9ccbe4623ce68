"""recover_auth, and the three operators that it combines: what the consumer sees, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import pytest
import reactivex as rx
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from rxauth import (
    NeverLiveError,
    buffer_until_live,
    flush_on_complete_or_error,
    recover_auth,
    retry_on_first_auth_error,
)
from rxauth.errors import CredentialRejected
from rxauth.testing import marbles

from .marble_table import EVENTS, Row

Pipe: TypeAlias = Callable[[Any], tuple[Any, ...]]


def three(refresh: Any) -> tuple[Any, ...]:
    return buffer_until_live(), retry_on_first_auth_error(refresh), flush_on_complete_or_error()


def combined(refresh: Any) -> tuple[Any, ...]:
    return (recover_auth(refresh),)


both = pytest.mark.parametrize("pipe", [three, combined], ids=["three operators", "recover_auth"])


@both
@pytest.mark.parametrize(
    ("first", "refresh", "second", "result", "subscriptions"),
    [
        pytest.param(
            "s-#",
            "  --r|",
            "    s-a----|",
            "------(sa)-|", ["^-!", "----^------!"], id="a stale token costs one refresh and shows nothing",
        ),
        pytest.param(
            "s-e",
            "  --r|",
            "    s-a----|",
            "------(sa)-|", ["^-!", "----^------!"], id="so does one that is refused in-band",
        ),
        pytest.param(
            "-#",
            " r",
            " s-a----|",
            "---(sa)-|", ["^!", "-^------!"], id="a refresh without a wait, and no prelude",
        ),
        pytest.param(
            "s-#",
            "  --r|",
            "    s-#",
            "------(s#)", ["^-!", "----^-!"], id="a second 401 is final",
        ),
        pytest.param(
            "s-e",
            "  --r|",
            "    s-e",
            "------(se|)", ["^-!", "----^-!"], id="a second 401 in-band is final",
        ),
        pytest.param(
            "s-e",
            "  -r|",
            "   s-a---e|",
            "-----(sa)e|", ["^-!", "---^------!"], id="a 401 after live in attempt 2 passes",
        ),
        pytest.param(
            "s-e-a-|",
            "  r",
            "  s-b----|",
            "----(sb)-|", ["^-!", "--^------!"], id="nothing of attempt 1 comes after its error event",
        ),
        pytest.param("s-#", "  --n|", "", "----(s#) ", ["^-!"], id="no new credential: the exception goes on"),
        pytest.param("s-e", "  --n|", "", "----(se|)", ["^-!"], id="no new credential: the error event goes on"),
        pytest.param("s-#", "  --|", " ", "----(s#) ", ["^-!"], id="an empty refresh gives no credential"),
        pytest.param("s-e", "  --#", " ", "----(se|)", ["^-!"], id="a refresh that fails: the error event goes on"),
        pytest.param("s-x", "  r", "", "--(sx|)", ["^-!"], id="another error event is not retried"),
        pytest.param("s--|", "  r", "", "---(s|)", ["^--!"], id="a stream that only completes is not retried"),
        pytest.param("s-a---#", "", "", "--(sa)#", ["^-----!"], id="an exception after live is not retried"),
        pytest.param("s-a---e|", "", "", "--(sa)e|", ["^------!"], id="an error event after live is not retried"),
        pytest.param("a-s-e-b|", "", "", "a-s-e-b|", ["^------!"], id="without a prelude everything passes"),
    ],
)  # fmt: skip
def test_marbles(pipe: Pipe, first: str, refresh: str, second: str, result: str, subscriptions: list[str]) -> None:
    row = Row(first, second)
    assert (row.run(*pipe(row.refresh(refresh))), row.subscriptions()) == (result.strip(), subscriptions)


@pytest.mark.parametrize(
    ("first", "refresh", "second", "result", "subscriptions"),
    [
        pytest.param("-e-a|", " --r|", "   s-a|", "---s-a|", ["^!", "---^--!"], id="an error event that comes first"),
        pytest.param("-#", "    --r|", "   s-a|", "---s-a|", ["^!", "---^--!"], id="an exception"),
        pytest.param("-e-a|", " --n|", "", "       ---(e|)", ["^!"], id="no new credential: event and completion"),
        pytest.param("s-e|", "  --r|", "", "       s-e|", ["^--!"], id="a prelude that was delivered forbids it"),
        pytest.param("x--a|", " r", "", "          x--a|", ["^---!"], id="another error event passes on"),
    ],
)
def test_retry_alone(first: str, refresh: str, second: str, result: str, subscriptions: list[str]) -> None:
    row = Row(first, second)
    seen = row.run(retry_on_first_auth_error(row.refresh(refresh.strip())))
    assert (seen, row.subscriptions()) == (result.strip(), subscriptions)


@pytest.mark.parametrize(
    ("options", "result"),
    [
        pytest.param({}, "--(s#)", id="by default"),
        pytest.param({"discard_on_error": True}, "--#", id="discard_on_error"),
        pytest.param({"error_event": lambda _: marbles.event("z")}, "--(sz|)", id="error_event"),
        pytest.param({"max_held": 0}, "s-#", id="max_held"),
        pytest.param({"is_prelude": lambda _: False}, "s-#", id="is_prelude"),
    ],
)
def test_takes_the_options_of_all_three(options: dict[str, Any], result: str) -> None:
    row = Row("s-#")
    assert row.run(recover_auth(row.refresh("n"), **options)) == result


def test_refuses_what_is_no_refresh_function() -> None:
    with pytest.raises(TypeError, match="refresh is a str"):
        recover_auth("token")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["s-#", "s-e"], ids=["an exception", "an error event"])
def test_refresh_receives_the_failure_itself(kind: str) -> None:
    row = Row(kind, "a|")
    row.run(recover_auth(row.refresh("r")))
    assert row.failures == [marbles.failure if kind == "s-#" else marbles.event("e")]


def test_the_very_same_exception_goes_on() -> None:
    error = CredentialRejected("no", status=401)
    row = Row("s-#", error=error)
    assert row.ends(recover_auth(row.refresh("n"))) is error


@both
@pytest.mark.parametrize("shown", ["s", "sa"], ids=["before live", "after live"])
def test_a_cancelled_error_is_never_an_event(pipe: Pipe, shown: str) -> None:
    """RxPY's `from_future` sends one on the error channel, and it is no `Exception`."""
    cancelled: Any = asyncio.CancelledError()
    seen: list[Any] = []

    def emit(observer: Any, _: Any) -> Any:
        for each in shown:
            observer.on_next(marbles.event(each))
        observer.on_error(cancelled)

    rx.create(emit).pipe(*pipe(lambda _: None)).subscribe(seen.append, seen.append, lambda: seen.append("|"))
    assert seen == [*map(marbles.event, shown), cancelled]


class TestPredicates:
    def test_a_rule_decides(self) -> None:
        row = Row("s-x", "s-a----|")
        assert row.run(recover_auth(row.refresh("r"), is_auth_error=lambda _: True)) == "----(sa)-|"

    @pytest.mark.parametrize("source", ["s-#", "s-e-a|"], ids=["an exception", "an error event"])
    def test_one_that_raises_fails_the_stream_without_a_refresh(self, source: str) -> None:
        def raises(failure: Any) -> bool:
            raise LookupError("cannot say")

        row = Row(source)
        assert isinstance(row.ends(recover_auth(row.refresh("r"), is_auth_error=raises)), LookupError)
        assert (row.failures, row.subscriptions()) == ([], ["^-!"])

    @pytest.mark.parametrize("shown", ["s", "sa"], ids=["a prelude", "more"])
    def test_one_that_raised_is_called_no_more(self, shown: str) -> None:
        calls: list[Any] = []
        errors: list[Exception] = []
        disposed: list[bool] = []

        def raises(event: Any) -> bool:
            calls.append(event)
            raise LookupError("cannot say")

        def emit(observer: Any, _: Any) -> Any:
            for each in shown:
                observer.on_next(marbles.event(each))
            return Disposable(lambda: disposed.append(True))

        rx.create(emit).pipe(recover_auth(lambda _: True, is_error=raises)).subscribe(on_error=errors.append)
        assert [type(each) for each in errors] == [LookupError]
        assert (len(calls), disposed) == (1, [True])


@both
class TestASynchronousSource:
    def test_that_raises_inside_subscribe_is_recovered(self, pipe: Pipe) -> None:
        attempts: list[int] = []

        def emit(observer: Any, _: Any) -> Any:
            attempts.append(1)
            observer.on_next(marbles.event("s"))
            if len(attempts) == 1:
                raise CredentialRejected("no", status=401)
            observer.on_next(marbles.event("a"))

        seen: list[str] = []
        rx.create(emit).pipe(*pipe(lambda _: True)).subscribe(lambda event: seen.append(event.type))
        assert seen == ["start", "text_delta"]

    @pytest.mark.parametrize("behind", ["a", "e", "|", "#"])
    def test_feeds_nothing_of_attempt_1_to_attempt_2(self, pipe: Pipe, behind: str) -> None:
        first: list[Any] = []

        def emit(observer: Any, _: Any) -> Any:
            first.append(observer)
            for each in "se" if len(first) == 1 else "sa":
                observer.on_next(marbles.event(each))
            if behind == "|":
                first[0].on_completed()
            elif behind == "#":
                first[0].on_error(marbles.failure)
            else:
                first[0].on_next(marbles.event(behind))

        seen: list[Any] = []
        rx.create(emit).pipe(*pipe(lambda _: True)).subscribe(
            lambda event: seen.append(event.type), seen.append, lambda: seen.append("|")
        )
        assert (seen, len(first)) == (["start", "text_delta"], 2)


@both
class TestTheConsumer:
    @pytest.mark.parametrize("events", ["sa", "a"], ids=["out of the flush", "out of a live event"])
    def test_its_exception_causes_no_refresh(self, pipe: Pipe, events: str) -> None:
        thrown = CredentialRejected("the consumer's own", status=401)
        refreshes: list[Any] = []
        errors: list[Any] = []

        def emit(observer: Any, _: Any) -> Any:
            for each in events:
                observer.on_next(marbles.event(each))

        def consumer(_: Any) -> None:
            raise thrown

        rx.create(emit).pipe(*pipe(refreshes.append)).subscribe(consumer, errors.append)
        assert (errors, refreshes) == ([thrown], [])

    def test_events_it_causes_during_the_flush_wait_their_turn(self, pipe: Pipe) -> None:
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

    def test_sees_held_events_after_the_source_is_disposed(self, pipe: Pipe) -> None:
        happened: list[str] = []
        source: list[Any] = []

        def subscribe(observer: Any, _: Any) -> Any:
            source.append(observer)
            return Disposable(lambda: happened.append("disposed"))

        rx.create(subscribe).pipe(*pipe(lambda _: None)).subscribe(lambda event: happened.append(event.type))
        for event in (marbles.event("s"), EVENTS["x"]):
            source[0].on_next(event)
        assert happened == ["disposed", "start", "error"]


@both
class TestSubscriptions:
    def test_each_has_a_budget_of_its_own(self, pipe: Pipe) -> None:
        row = Row("s-#", "s-a----|", "s-#", "s-b----|")
        stream = row.source.pipe(*pipe(row.refresh("r"))).pipe(ops.repeat(2))
        assert marbles.draw(marbles.observe(row.scheduler, stream)) == "----(sa)-----(sb)-|"
        assert len(row.failures) == 2

    @pytest.mark.parametrize(
        ("attempts", "subscriptions"),
        [(["s-a----------|"], ["^--------!"]), (["s-#", "  s-a----------|"], ["^-!", "--^------!"])],
        ids=["in attempt 1", "in attempt 2"],
    )
    def test_dispose_reaches_the_source(self, pipe: Pipe, attempts: list[str], subscriptions: list[str]) -> None:
        row = Row(*attempts)
        row.run(*pipe(row.refresh("r")), until=9)
        assert row.subscriptions() == subscriptions


@pytest.mark.timeout(20)
@pytest.mark.parametrize("operator", [buffer_until_live, partial(recover_auth, bool)], ids=["buffer", "recover_auth"])
def test_a_long_prelude_costs_linear_time(operator: Any) -> None:
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
