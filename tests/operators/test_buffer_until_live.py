from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from rxauth import NeverLiveError, buffer_until_live, recover_auth
from rxauth.testing import marbles

from .marble_table import Row, emitting


@pytest.mark.parametrize(
    ("source", "result", "subscription"),
    [
        pytest.param(
            "s---a-----b--|", "----(sa)--b--|", "^------------!", id="the prelude comes with the first live event"
        ),
        pytest.param("ab-|", "ab-|", "^--!", id="without a prelude nothing is held"),
        pytest.param("ss-a----|", "---(ssa)|", "^-------!", id="several prelude events, in order"),
        pytest.param("s-a---s-e-b|", "--(sa)s-e-b|", "^----------!", id="after live everything passes"),
        pytest.param("s---------", "", "^", id="a stream that stays silent shows nothing"),
        pytest.param("s---e", "----#", "^---!", id="an error event before live ends it at once"),
        pytest.param("s-e-a-|", "--#", "^-!", id="events after an error event are dropped"),
        pytest.param("s---#", "----#", "^---!", id="an exception before live"),
        pytest.param("s---|", "----#", "^---!", id="a completion before live"),
        pytest.param("-|", "-#", "^!", id="a stream without an event"),
        pytest.param("s-a---#", "--(sa)#", "^-----!", id="an exception after live passes"),
    ],
)
def test_buffer_follows_its_marbles(source: str, result: str, subscription: str) -> None:
    row = Row(source)
    assert (row.run(buffer_until_live()), row.subscriptions()) == (result, [subscription])


@pytest.mark.parametrize(
    ("source", "held", "failure"),
    [
        pytest.param("s--e", "s", marbles.event("e"), id="an error event"),
        pytest.param("ss--#", "ss", marbles.failure, id="an exception"),
        pytest.param("s--|", "s", None, id="a completion"),
        pytest.param("---|", "", None, id="nothing at all"),
    ],
)
def test_the_error_has_the_held_events_and_the_failure(source: str, held: str, failure: Any) -> None:
    error = Row(source).ends(buffer_until_live())
    assert isinstance(error, NeverLiveError)
    assert (error.held, error.failure) == (tuple(map(marbles.event, held)), failure)


def test_the_error_names_its_cause_and_the_next_action() -> None:
    class Rejected(Exception):
        status = 401

    error = Row("s-#", error=Rejected("Bearer secret")).ends(buffer_until_live())
    assert isinstance(error.__cause__, Rejected)
    assert "Rejected, status 401" in str(error)
    assert "flush_on_complete_or_error()" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("max_held", "source", "result"),
    [
        pytest.param(0, "s--s---a----|", "s--s---a----|", id="none may be held"),
        pytest.param(1, "s--s---a----|", "---(ss)a----|", id="the second is one too many"),
        pytest.param(2, "s--s---a----|", "-------(ssa)|", id="both may be held"),
    ],
)
def test_one_prelude_event_too_many_counts_as_live(max_held: int, source: str, result: str) -> None:
    assert Row(source).run(buffer_until_live(max_held=max_held)) == result


both = pytest.mark.parametrize(
    "operator", [buffer_until_live, partial(recover_auth, lambda _: True)], ids=["buffer", "recover_auth"]
)


@both
def test_a_negative_bound_is_refused(operator: Any) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        operator(max_held=-1)


@pytest.mark.timeout(20)
@both
def test_a_long_prelude_costs_linear_time(operator: Any) -> None:
    """Quadratic time would take minutes."""
    seen: list[Any] = []
    emitting("s" * 60_000 + "a").pipe(operator(max_held=60_000)).subscribe(seen.append)
    assert len(seen) == 60_001


def test_is_prelude_decides_what_is_held() -> None:
    row = Row("a--b--c----|")
    assert row.run(buffer_until_live(is_prelude=lambda event: event.delta in "ab")) == "------(abc)|"
