"""The order of the operators: the right one, and the outcome of each wrong one."""

from __future__ import annotations

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

RIGHT = "limit buffer recover retry switch flush"

DIES_AGAIN = "s-e", "s-x", "s-e", "s-a---|"
OVERLOADED = "s-x", "s-a---|"
STALE = "s-e", "s-a---|"
SILENT = "s---------a---|", "s-a---|"
PINGING = ("s-p-p-p-a---|",)


@pytest.mark.parametrize(
    ("attempts", "order", "seen", "requests"),
    [
        pytest.param(DIES_AGAIN, RIGHT, "------------(sa)|", 4, id="right: each attempt may refresh"),
        pytest.param(DIES_AGAIN, "limit buffer retry recover switch flush", "-----------(sz)|", 3,
                     id="retry before recover: one refresh for all attempts"),
        pytest.param(OVERLOADED, RIGHT, "------(sa)|", 2, id="right: an overload passes"),
        pytest.param(OVERLOADED, "limit buffer recover switch retry flush", "----(sz)|", 1,
                     id="retry after switch: the backup comes first"),
        pytest.param(OVERLOADED, "limit retry buffer recover switch flush", "----(sz)|", 1,
                     id="retry before the buffer: no retry"),
        pytest.param(OVERLOADED, "limit buffer recover switch flush retry", "----(sz)|", 1,
                     id="retry after the flush: no retry"),
        pytest.param(STALE, RIGHT, "-----(sa)|", 2, id="right: a stale token costs one refresh"),
        pytest.param(STALE, "limit buffer switch recover retry flush", "----(sz)|", 1,
                     id="switch before recover: no refresh"),
        pytest.param(STALE, "limit recover buffer retry switch flush", "----(sz)|", 1,
                     id="recover before the buffer: no refresh"),
        pytest.param(SILENT, RIGHT, "--------(sa)|", 2, id="right: silence costs one more attempt"),
        pytest.param(SILENT, "buffer limit recover retry switch flush", "----#", 1,
                     id="limit after the buffer: silence is final"),
        pytest.param(SILENT, "buffer recover retry limit switch flush", "----#", 1, id="limit after the retry"),
        pytest.param(SILENT, "buffer recover retry switch flush limit", "----#", 1, id="limit after the flush"),
        pytest.param(PINGING, RIGHT, "--------(sa)|", 1, id="right: a long pause with pings"),
        pytest.param(PINGING, "buffer limit recover retry switch flush", "----#", 1,
                     id="limit after the buffer: it sees no ping"),
    ],
)  # fmt: skip
def test_each_order_has_its_outcome(attempts: tuple[str, ...], order: str, seen: str, requests: int) -> None:
    row = Row(*attempts, events={"p": Ping()})
    two_ticks = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(2))
    steps = {
        "limit": limit_silence(first=9, idle=4),
        "buffer": buffer_until_live(is_prelude=lambda event: event.type in {"start", "ping"}),
        "recover": retry_on_first_auth_error(row.refresh("-r|")),
        "retry": retry_never_live(retrying=two_ticks),
        "switch": switch_if_never_live(marbles.cold(row.scheduler, "s-z---|").pipe(buffer_until_live())),
        "flush": flush_on_complete_or_error(),
    }
    assert (row.run(*map(steps.__getitem__, order.split())), row.attempts) == (seen, requests)
