"""recover_auth, and the three operators that it combines: what the consumer sees, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import reactivex as rx
from reactivex import operators as ops

from rxauth import (
    NeverLiveError,
    buffer_until_live,
    flush_on_complete_or_error,
    recover_auth,
    retry_on_first_auth_error,
)
from rxauth.testing import marbles

from .marble_table import Row

Pipe: TypeAlias = Callable[..., tuple[Any, ...]]


def three(refresh: Any, **options: Any) -> tuple[Any, ...]:
    return buffer_until_live(), retry_on_first_auth_error(refresh, **options), flush_on_complete_or_error()


def combined(refresh: Any, **options: Any) -> tuple[Any, ...]:
    return (recover_auth(refresh, **options),)


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
def test_both_follow_one_table(
    pipe: Pipe, first: str, refresh: str, second: str, result: str, subscriptions: list[str]
) -> None:
    row = Row(first, second)
    assert (row.run(*pipe(row.refresh(refresh))), row.subscriptions()) == (result.strip(), subscriptions)


@pytest.mark.parametrize(
    ("first", "refresh", "second", "result", "subscriptions"),
    [
        pytest.param("-e-a|", " --r|", "   s-a|", "---s-a|", ["^!", "---^--!"], id="an error event that comes first"),
        pytest.param("-#   ", " --r|", "   s-a|", "---s-a|", ["^!", "---^--!"], id="an exception"),
        pytest.param("-e-a|", " --n|", "       ", "---(e|)", ["^!"], id="no new credential: event and completion"),
        pytest.param("s-e| ", " --r|", "       ", "s-e|   ", ["^--!"], id="a prelude that was delivered forbids it"),
        pytest.param("x--a|", " r   ", "       ", "x--a|  ", ["^---!"], id="another error event passes on"),
        pytest.param("-|   ", " r   ", "       ", "-|     ", ["^!"], id="a completion passes on"),
    ],
)
def test_retry_follows_its_marbles(
    first: str, refresh: str, second: str, result: str, subscriptions: list[str]
) -> None:
    row = Row(first, second)
    seen = row.run(retry_on_first_auth_error(row.refresh(refresh)))
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
def test_recover_auth_takes_the_options_of_all_three(options: dict[str, Any], result: str) -> None:
    row = Row("s-#")
    assert row.run(recover_auth(row.refresh("n"), **options)) == result


@both
class TestTheFailure:
    def test_is_judged_by_is_auth_error(self, pipe: Pipe) -> None:
        row = Row("s-x", "s-a----|")
        assert row.run(*pipe(row.refresh("r"), is_auth_error=lambda _: True)) == "----(sa)-|"

    @pytest.mark.parametrize("shown", ["s", "sa"], ids=["before live", "after live"])
    def test_that_is_a_cancellation_is_never_an_event(self, pipe: Pipe, shown: str) -> None:
        """RxPY's `from_future` sends one on the error channel, and it is no `Exception`."""
        cancelled: Any = asyncio.CancelledError()
        seen: list[Any] = []

        def emit(observer: Any, _: Any) -> Any:
            for each in shown:
                observer.on_next(marbles.event(each))
            observer.on_error(cancelled)

        rx.create(emit).pipe(*pipe(lambda _: None)).subscribe(seen.append, seen.append, lambda: seen.append("|"))
        assert seen == [*map(marbles.event, shown), cancelled]


@both
def test_each_subscription_has_a_budget_of_its_own(pipe: Pipe) -> None:
    row = Row("s-#", "s-a----|", "s-#", "s-b----|")
    stream = row.source.pipe(*pipe(row.refresh("r"))).pipe(ops.repeat(2))
    assert marbles.draw(marbles.observe(row.scheduler, stream)) == "----(sa)-----(sb)-|"
    assert len(row.failures) == 2


def test_rxs_own_operators_work_between_the_three() -> None:
    row, passed = Row("s-#", "s-a----|"), list[Any]()
    buffer, retry, flush = three(row.refresh("r"))
    noted = ops.do_action(passed.append, passed.append)
    assert row.run(buffer, noted, retry, noted, flush) == "----(sa)-|"
    assert [type(each) for each in passed[:1]] == [NeverLiveError]
    assert len(passed) == 5
