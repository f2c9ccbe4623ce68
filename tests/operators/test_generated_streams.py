"""Generated streams, against the law and against a plain model.

The same few hundred cases run every time. For new ones, as many as you like:

    RXAUTH_CASES=100000 pytest --timeout=0 tests/operators/test_generated_streams.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

from .generated_model import Model
from .generated_world import (
    BUSY,
    EARLIER,
    REJECTED,
    START,
    TEXT,
    Attempt,
    Case,
    Ends,
    Try,
    World,
    cases,
    fused,
    share,
    three,
)

both = pytest.mark.parametrize("pipe", [three, fused], ids=["three operators", "recover_auth"])


@share(700)
@given(case=cases())
def test_recover_auth_is_the_three_operators_whatever_happens(case: Case) -> None:
    assert World(case).run(fused) == World(case).run(three)


@share(700)
@given(case=cases())
def test_a_recovered_stream_is_what_the_plain_model_says_to_the_tick(case: Case) -> None:
    assert World(case).run(three) == Model(case).run()


answer = Attempt((START, TEXT, Ends()))


@both
@pytest.mark.parametrize(
    ("case", "seen"),
    [
        pytest.param(
            Case((Attempt((START, Ends("held, nested"))),), tries=(Try(value=None),)),
            [START, EARLIER, START, Ends("auth")],
            id="a NeverLiveError inside another is one with both's events",
        ),
        pytest.param(
            Case((Attempt((Ends("auth"),), raises="other"), answer)),
            [START, TEXT, Ends()],
            id="what attempt 1 raises behind its end does not end attempt 2",
        ),
        pytest.param(
            Case((Attempt((BUSY,), raises="other"),)),
            [BUSY, Ends()],
            id="what a source raises behind an error event is dropped",
        ),
        pytest.param(
            Case((Attempt((START, BUSY)),), throw_in=frozenset({1})),
            [START, Ends("Thrown")],
            id="what the consumer throws at an error event's flush is not swallowed",
        ),
        pytest.param(
            Case((Attempt((START, REJECTED)),), tries=(Try("stream", value=None),), throw_in=frozenset({1})),
            [START, Ends("Thrown")],
            id="nor is what it throws through a refresh that is an Observable",
        ),
        pytest.param(
            Case((Attempt((START, REJECTED)), Attempt((TEXT, Ends()))), throw_in=frozenset({1})),
            [TEXT, Ends("Thrown")],
            id="nor is what it throws out of attempt 2",
        ),
        pytest.param(
            Case((Attempt(later=((1, START), (1, TEXT))),), emit_in={1: Ends("other")}, throw_in=frozenset({1})),
            [START, Ends("other")],
            id="a consumer that ends the source and then throws is told of the end",
        ),
    ],
)
def test_what_was_wrong_once(pipe: Callable[[World], Any], case: Case, seen: list[Any]) -> None:
    log = World(case).run(pipe)
    assert [item for _, item in log.seen] == seen
    assert log == Model(case).run()


@both
def test_a_judge_that_disposes_is_the_last_thing_that_happens(pipe: Callable[[World], Any]) -> None:
    log = World(Case((Attempt(later=((1, REJECTED),)),), dispose_in=("is_auth_error", 1))).run(pipe)
    assert (log.seen, log.told, log.refreshed) == ([], [], [])
