from __future__ import annotations

from typing import Any

import pytest
import reactivex as rx

from rxauth import NeverLiveError, buffer_until_live, flush_on_complete_or_error, switch_if_never_live
from rxauth.testing import marbles

from .marble_table import Row


@pytest.mark.parametrize(
    ("primary", "backup", "result", "subscriptions"),
    [
        pytest.param("s---#", "-s-a---|", "-------(sa)|", ["^---!", "----^------!"], id="an exception before live"),
        pytest.param("s---e", "-s-a---|", "-------(sa)|", ["^---!", "----^------!"], id="an error event before live"),
        pytest.param("s---|", "-s-a---|", "-------(sa)|", ["^---!", "----^------!"], id="a completion before live"),
        pytest.param("s-a---#", "-s-a-|", "--(sa)#", ["^-----!"], id="a failure after live passes"),
        pytest.param("s-a---e|", "-s-a-|", "--(sa)e|", ["^------!"], id="an error event after live passes"),
        pytest.param("s---#", "s---#", "--------(s#)", ["^---!", "----^---!"], id="both fail: the last is shown"),
    ],
)
def test_switch_follows_its_marbles(primary: str, backup: str, result: str, subscriptions: list[str]) -> None:
    row = Row(primary, backup)
    other = row.source.pipe(buffer_until_live())
    seen = row.run(buffer_until_live(), switch_if_never_live(other), flush_on_complete_or_error())
    assert (seen, row.subscriptions()) == (result, subscriptions)


def test_a_function_receives_the_error_and_chooses() -> None:
    row = Row("s--e", "s-a----|")
    received: list[NeverLiveError] = []

    def choose(error: NeverLiveError) -> Any:
        received.append(error)
        return row.source.pipe(buffer_until_live())

    assert row.run(buffer_until_live(), switch_if_never_live(choose)) == "-----(sa)-|"
    assert received[0].failure is marbles.event("e")


@pytest.mark.parametrize("other", [lambda _: 1 / 0, lambda _: None], ids=["it raises", "it returns no Observable"])
def test_a_function_that_fails_fails_the_stream(other: Any) -> None:
    error = Row("s--e").ends(buffer_until_live(), switch_if_never_live(other))
    assert isinstance(error, ZeroDivisionError) or "NoneType" in str(error)


def test_any_other_exception_passes() -> None:
    """Without a buffer in front nothing says that the source never came alive."""
    failure = ConnectionError("reset")
    assert Row("#", error=failure).ends(switch_if_never_live(rx.of("other"))) is failure


def test_what_the_first_stream_raises_later_ends_nothing() -> None:
    def fail(observer: Any, scheduler: Any) -> Any:
        observer.on_error(NeverLiveError((), None))
        raise LookupError("behind its failure")

    seen: list[Any] = []
    rx.create(fail).pipe(switch_if_never_live(rx.of("other"))).subscribe(seen.append, seen.append)
    assert seen == ["other"]


def test_an_exception_of_the_consumer_is_not_swallowed() -> None:
    """A first stream that fails inside its own `subscribe` starts the second one there, and so the consumer."""

    def fail(observer: Any, scheduler: Any) -> Any:
        observer.on_error(OSError("down"))

    def start_only(observer: Any, scheduler: Any) -> Any:
        observer.on_next(marbles.event("s"))
        observer.on_completed()

    def screen(event: Any) -> None:
        raise LookupError("the screen failed")

    ends: list[Any] = []
    switched = switch_if_never_live(rx.create(start_only).pipe(buffer_until_live()))
    stream = rx.create(fail).pipe(buffer_until_live(), switched, flush_on_complete_or_error())
    stream.subscribe(screen, ends.append)
    assert [type(each) for each in ends] == [LookupError]


@pytest.mark.parametrize(
    ("until", "seen", "subscriptions"),
    [(2, "", ["^-!"]), (8, "-----(sa)", ["^--!", "---^----!"])],
    ids=["the first stream", "the second stream"],
)
def test_dispose_reaches_either_stream(until: int, seen: str, subscriptions: list[str]) -> None:
    row = Row("s--e", "s-a---------|")
    switched = switch_if_never_live(row.source.pipe(buffer_until_live()))
    assert row.run(buffer_until_live(), switched, until=until) == seen
    assert row.subscriptions() == subscriptions
