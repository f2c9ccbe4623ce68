"""The order of the operators: the right one, and the outcome of each wrong one."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity

from rxauth import (
    buffer_until_live,
    flush_on_complete_or_error,
    limit_silence,
    retry_never_live,
    retry_on_first_auth_error,
    switch_if_never_live,
)
from rxauth.events import Ping
from rxauth.testing import marbles

from .marble_table import Row

two_ticks = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(2))


def in_order(order: str, *attempts: str) -> tuple[str, int]:
    """Run the operators, by name, over a source; return what is seen and how many requests that took."""
    row = Row(*attempts, events={"p": Ping()})

    def opens(event: Any) -> bool:
        return event.type in {"start", "ping"}

    steps = {
        "limit": limit_silence(first=9, idle=4),
        "buffer": buffer_until_live(is_prelude=opens),
        "recover": retry_on_first_auth_error(row.refresh("-r|")),
        "retry": retry_never_live(retrying=two_ticks),
        "switch": switch_if_never_live(marbles.cold(row.scheduler, "s-z---|").pipe(buffer_until_live())),
        "flush": flush_on_complete_or_error(),
    }
    return row.run(*map(steps.__getitem__, order.split())), row.attempts


RIGHT = "limit buffer recover retry switch flush"


@pytest.mark.parametrize(
    ("order", "seen", "requests"),
    [
        (RIGHT, "------------(sa)|", 4),
        ("limit buffer retry recover switch flush", "-----------(sz)|", 3),
    ],
    ids=["right: each attempt may refresh", "retry in front of recover: one refresh for all attempts"],
)
def test_a_token_that_dies_again_between_two_attempts(order: str, seen: str, requests: int) -> None:
    assert in_order(order, "s-e", "s-x", "s-e", "s-a---|") == (seen, requests)


@pytest.mark.parametrize(
    ("order", "seen", "requests"),
    [
        (RIGHT, "------(sa)|", 2),
        ("limit buffer recover switch retry flush", "----(sz)|", 1),
        ("limit retry buffer recover switch flush", "----(sz)|", 1),
        ("limit buffer recover switch flush retry", "----(sz)|", 1),
    ],
    ids=[
        "right",
        "retry behind switch: the backup comes first",
        "in front of the buffer: no retry",
        "behind the flush: no retry",
    ],
)
def test_an_overload_that_passes(order: str, seen: str, requests: int) -> None:
    assert in_order(order, "s-x", "s-a---|") == (seen, requests)


@pytest.mark.parametrize(
    ("order", "seen", "requests"),
    [
        (RIGHT, "-----(sa)|", 2),
        ("limit buffer switch recover retry flush", "----(sz)|", 1),
        ("limit recover buffer retry switch flush", "----(sz)|", 1),
    ],
    ids=["right", "switch in front of recover: no refresh", "recover in front of the buffer: no refresh"],
)
def test_a_stale_token(order: str, seen: str, requests: int) -> None:
    assert in_order(order, "s-e", "s-a---|") == (seen, requests)


@pytest.mark.parametrize(
    ("order", "seen", "requests"),
    [
        (RIGHT, "--------(sa)|", 2),
        ("buffer limit recover retry switch flush", "----#", 1),
        ("buffer recover retry limit switch flush", "----#", 1),
        ("buffer recover retry switch flush limit", "----#", 1),
    ],
    ids=["right", "limit behind the buffer: silence is final", "behind the retry", "behind the flush"],
)
def test_silence_that_passes(order: str, seen: str, requests: int) -> None:
    assert in_order(order, "s---------a---|", "s-a---|") == (seen, requests)


@pytest.mark.parametrize(
    ("order", "seen"),
    [(RIGHT, "--------(sa)|"), ("buffer limit recover retry switch flush", "----#")],
    ids=["right", "limit behind the buffer: it sees no ping"],
)
def test_a_long_pause_with_pings(order: str, seen: str) -> None:
    assert in_order(order, "s-p-p-p-a---|") == (seen, 1)
