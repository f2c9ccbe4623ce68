from __future__ import annotations

from typing import Any

import pytest
import reactivex as rx
from reactivex.scheduler import ImmediateScheduler
from reactivex.subject import Subject

from rxauth import NeverLiveError, buffer_until_live, flush_on_complete_or_error, switch_if_never_live
from rxauth.testing import marbles

from .marble_table import Row


@pytest.mark.parametrize(
    ("primary", "backup", "result", "subscriptions"),
    [
        pytest.param("s---#", "-s-a---|", "-------(sa)|", ("^---!", "----^------!"), id="an exception before live"),
        pytest.param("s---e", "-s-a---|", "-------(sa)|", ("^---!", "----^------!"), id="an error event before live"),
        pytest.param("s---|", "-s-a---|", "-------(sa)|", ("^---!", "----^------!"), id="a completion before live"),
        pytest.param("s-a---#", "-s-a-|", "--(sa)#", ("^-----!",), id="a failure after live passes"),
        pytest.param("s-a---e|", "-s-a-|", "--(sa)e|", ("^------!",), id="an error event after live passes"),
        pytest.param("s---#", "s---#", "--------(s#)", ("^---!", "----^---!"), id="both fail: the last is shown"),
    ],
)
def test_marbles(primary: str, backup: str, result: str, subscriptions: tuple[str, ...]) -> None:
    row = Row(primary, backup)
    seen = row.run(
        buffer_until_live(), switch_if_never_live(row.source.pipe(buffer_until_live())), flush_on_complete_or_error()
    )
    assert (seen, tuple(row.subscriptions())) == (result, subscriptions)


def test_a_function_receives_the_error_and_chooses() -> None:
    row = Row("s--e", "s-a----|")
    received: list[NeverLiveError] = []

    def choose(error: NeverLiveError) -> Any:
        received.append(error)
        return row.source.pipe(buffer_until_live())

    assert row.run(buffer_until_live(), switch_if_never_live(choose)) == "-----(sa)-|"
    assert received[0].failure is marbles.event("e")


def test_a_function_that_raises_fails_the_stream() -> None:
    def raises(error: NeverLiveError) -> Any:
        raise LookupError("no other")

    assert isinstance(Row("s--e").ends(buffer_until_live(), switch_if_never_live(raises)), LookupError)


def test_a_function_that_returns_none_is_named() -> None:
    error = Row("s--e").ends(buffer_until_live(), switch_if_never_live(lambda _: None))  # type: ignore[arg-type, return-value]
    assert "NoneType" in str(error)


def test_starts_nothing_after_a_delivery() -> None:
    source: Subject[Any] = Subject()
    seen: list[Any] = []
    source.pipe(switch_if_never_live(lambda _: Row("a|").source)).subscribe(seen.append, seen.append)
    source.on_next("shown")
    late = NeverLiveError(("s",), None)
    source.on_error(late)
    assert seen == ["shown", late]


def test_any_other_exception_passes() -> None:
    """Without a buffer in front nothing says that the source never came alive."""
    failure = ConnectionError("reset")
    row = Row("#", "a|", error=failure)
    assert row.ends(switch_if_never_live(row.source)) is failure
    assert row.attempts == 1


def test_the_scheduler_is_passed_on_to_both_streams() -> None:
    given: list[Any] = []
    scheduler = ImmediateScheduler()

    def fail(observer: Any, scheduler: Any) -> Any:
        given.append(scheduler)
        observer.on_error(NeverLiveError((), None))

    rx.create(fail).pipe(switch_if_never_live(rx.create(fail))).subscribe(on_error=lambda _: None, scheduler=scheduler)
    assert given == [scheduler, scheduler]


def test_dispose_reaches_the_first_stream() -> None:
    row = Row("s----a|", "s-a-|")
    assert row.run(buffer_until_live(), switch_if_never_live(row.source), until=3) == ""
    assert row.subscriptions() == ["^--!"]


def test_dispose_reaches_the_second_stream() -> None:
    row = Row("s--e", "s-a---------|")
    switched = switch_if_never_live(row.source.pipe(buffer_until_live()))
    assert row.run(buffer_until_live(), switched, until=8) == "-----(sa)"
    assert row.subscriptions() == ["^--!", "---^----!"]
