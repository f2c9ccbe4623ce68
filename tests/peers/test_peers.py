"""rxauth's own columns are right in every cell, the rule finds each fault, and the table in README.md is whole."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .drivers import DRIVERS
from .report import BEGIN, END, README
from .running import run
from .scenarios import ANSWER, SCENARIOS, Scenario
from .verdict import Result, Screen, faults

OWN = ["rxauth_messages", "rxauth_chat"]


@pytest.mark.slow
@pytest.mark.parametrize("client", OWN)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
async def test_every_cell_of_rxauth_is_right(client: str, scenario: Scenario) -> None:
    assert faults(scenario, await run(DRIVERS[client], scenario)) == []


HALF = ANSWER[:20]


def screen(*messages: str, **ends: Any) -> Screen:
    return Screen(list(messages), **ends)


def result(*screens: Screen, requests: int = 1, refreshes: int = 0, reused: int = 0, left_open: bool = False) -> Result:
    return Result(list(screens), requests, refreshes, reused, left_open)


WHOLE = screen(ANSWER, ended=True)


@pytest.mark.parametrize(
    ("expected", "seen", "found"),
    [
        pytest.param("answer", result(WHOLE), [], id="the whole answer"),
        pytest.param("answer", result(screen("", error="E")), ["error"], id="an error instead of the answer"),
        pytest.param("answer", result(screen("", ANSWER, ended=True)), ["phantom"], id="an empty message in front"),
        pytest.param("answer", result(screen(HALF, ANSWER[20:], ended=True)), ["twice"], id="words in two messages"),
        pytest.param("answer", result(screen(HALF + ANSWER, ended=True)), ["twice"], id="words twice in one message"),
        pytest.param("answer", result(screen(HALF, ended=True)), ["unnoticed"], id="half an answer that looks whole"),
        pytest.param("answer", result(screen("", hung=True)), ["hang"], id="no end"),
        pytest.param("error", result(screen(HALF, error="E")), [], id="an error behind half an answer"),
        pytest.param("error", result(screen("", error="E")), [], id="an error at once"),
        pytest.param("error", result(screen("", ended=True)), ["unnoticed"], id="an end without the error"),
        pytest.param("nothing", result(screen(HALF)), [], id="a consumer who has left"),
        pytest.param("answer", result(WHOLE, requests=4, refreshes=1), [], id="as many requests as are allowed"),
        pytest.param("answer", result(WHOLE, requests=5), ["5 requests"], id="one request more"),
        pytest.param("answer", result(WHOLE, refreshes=2), ["2 refreshes"], id="one refresh more"),
        pytest.param("answer", result(WHOLE, reused=1), ["reuse"], id="a refresh token sent twice"),
        pytest.param("answer", result(WHOLE, left_open=True), ["open"], id="a connection that stays open"),
    ],
)
def test_the_rule_names_each_fault(expected: Any, seen: Result, found: list[str]) -> None:
    assert faults(Scenario(name="", expected=expected, max_token_requests=1), seen) == found


def test_the_table_has_every_scenario_and_client() -> None:
    section = README.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = [row.strip("| ").split(" | ") for row in section.splitlines() if row.startswith("| ")]
    header = next(row for row in rows if row[0] == "scenario")
    cells = {row[0]: row[2:] for row in rows if len(row) == len(header) and row[0] != "scenario"}
    assert [each.name for each in SCENARIOS] == [name for name in cells if name in {each.name for each in SCENARIOS}]
    assert len(SCENARIOS) >= 40
    assert len(header) - 2 == len(DRIVERS) >= 8
    own = [cell for scenario in SCENARIOS for cell in cells[scenario.name][: len(OWN)]]
    assert all(re.match("✓", cell) for cell in own)
