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


def screen(*messages: str, error: str | None = None, ended: bool = False, hung: bool = False) -> Screen:
    return Screen(list(messages), error, ended, hung)


HALF = ANSWER[:20]


@pytest.mark.parametrize(
    ("expected", "seen", "found"),
    [
        pytest.param("answer", screen(ANSWER, ended=True), [], id="the whole answer"),
        pytest.param("answer", screen("", error="E"), ["error"], id="an error instead of the answer"),
        pytest.param("answer", screen("", ANSWER, ended=True), ["phantom"], id="an empty message in front"),
        pytest.param("answer", screen(HALF, ANSWER, ended=True), ["twice"], id="words in two messages"),
        pytest.param("answer", screen(HALF + ANSWER, ended=True), ["twice"], id="words twice in one message"),
        pytest.param("answer", screen(HALF, ended=True), ["unnoticed"], id="half an answer that looks whole"),
        pytest.param("answer", screen("", hung=True), ["hang"], id="no end"),
        pytest.param("error", screen(HALF, error="E"), [], id="an error behind half an answer"),
        pytest.param("error", screen("", error="E"), [], id="an error at once"),
        pytest.param("error", screen("", ended=True), ["unnoticed"], id="an end without the error"),
        pytest.param("nothing", screen(HALF), [], id="a consumer who has left"),
    ],
)
def test_the_rule_names_the_faults_on_the_screen(expected: Any, seen: Screen, found: list[str]) -> None:
    assert faults(Scenario(name="", expected=expected), Result([seen], 1, 0, 0, False)) == found


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ({"requests": 4, "token_requests": 1}, []),
        ({"requests": 5}, ["5 requests"]),
        ({"token_requests": 2}, ["2 refreshes"]),
        ({"reused": 1}, ["reuse"]),
        ({"left_open": True}, ["open"]),
    ],
    ids=str,
)
def test_the_rule_names_the_faults_at_the_provider(numbers: dict[str, Any], found: list[str]) -> None:
    counts: dict[str, Any] = {"requests": 1, "token_requests": 0, "reused": 0, "left_open": False} | numbers
    scenario = Scenario(name="", expected="answer", max_token_requests=1)
    assert faults(scenario, Result([screen(ANSWER, ended=True)], **counts)) == found


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
