"""A playground runs the real operators in virtual time, and gives its scene as code that runs."""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxauth.marbles._page import answer
from rxauth.marbles._scene import KINDS, OPERATORS, OUTCOMES, Scene
from rxauth.marbles._take import snippet, table_row

THREE = ("buffer_until_live", "retry_on_first_auth_error", "flush_on_complete_or_error")


def scene(*attempts: str, refresh: str = "--r|", chosen: Any = ("recover_auth",)) -> Scene:
    return Scene.of_diagrams(attempts, refresh, chosen if isinstance(chosen, dict) else {name: {} for name in chosen})


SLOW = {"recover_auth": {"timeout": 5}}
SILENT = {"limit_silence": {"first": 5}, "buffer_until_live": {}, "retry_never_live": {"wait": 1}}


@pytest.mark.parametrize(
    ("attempts", "refresh", "chosen", "seen"),
    [
        pytest.param(("s--e", "s---a|"), "--r|", ["bare_retry"], "s----s---a|", id="a bare retry shows a phantom"),
        pytest.param(("s--e", "s---a---|"), "--r|", ["recover_auth"], "---------(sa)|", id="recover_auth: one start"),
        pytest.param(("s--e", "s---a---|"), "--r|", THREE, "---------(sa)|", id="the three show the same"),
        pytest.param(("s--#", "s---a---|"), "--r|", THREE, "---------(sa)|", id="an exception is a failure too"),
        pytest.param(("s--e", "s---a---|"), "--n|", ["recover_auth"], "-----(se|)", id="the same token ends it"),
        pytest.param(("s--e", "s---a---|"), "--#", ["recover_auth"], "-----(se|)", id="a failed refresh ends it"),
        pytest.param(("s--e", "s---a---|"), "-------r|", SLOW, "--------(se|)", id="a refresh beyond its timeout"),
        pytest.param(("s--x", "s---a---|"), "--r|", ["recover_auth"], "---(sx|)", id="a rate limit is not refreshed"),
        pytest.param(("s--------a", "s-a---|"), "--r|", SILENT, "--------(sb)|", id="silence is retried"),
        pytest.param(("s--e|",), "--r|", [], "s--e|", id="no operator changes nothing"),
    ],
)  # fmt: skip
def test_a_scene_shows_what_its_operators_do(attempts: tuple[str, ...], refresh: str, chosen: Any, seen: str) -> None:
    run = scene(*attempts, refresh=refresh, chosen=chosen).run()
    assert run.seen == seen


def test_the_phantom_is_pointed_at() -> None:
    phantom = answer(scene("s--e", "s---a|", chosen=["bare_retry"]).state)
    assert phantom["view"].endswith("2 starts, 1 of them a message that stays empty (the phantom).")
    assert "the phantom" in phantom["result"]
    half = answer(scene("s-a-e", "s---b|", chosen=["bare_retry"]).state)
    assert half["view"].endswith("2 starts."), "half an answer, and then another one"
    assert "the phantom" not in answer(scene("s--e", "s---a|").state)["result"]


def test_a_scene_is_a_row_of_a_marble_table() -> None:
    row = table_row(scene("s--e", "s---a---|"), scene("s--e", "s---a---|").run())
    assert row == (
        'pytest.param("s--e", "--r|", "s---a---|", "---------(sa)|", ("^--!", "-----^-------!"), id="recover_auth"),'
    )


def test_a_snippet_has_the_options() -> None:
    slow = scene("s--e", "s---a---|", refresh="-------r|", chosen=SLOW)
    code = snippet(slow, slow.run())
    assert "recover_auth(lambda failure: refresh, timeout=5)," in code
    exec(code, {})


_EVENTS = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(list(KINDS))), max_size=8)
_CHOSEN = st.lists(st.sampled_from(list(OPERATORS)), max_size=4, unique=True)


@given(st.lists(_EVENTS, min_size=1, max_size=3), st.integers(0, 9), st.sampled_from(list(OUTCOMES)), _CHOSEN)
@settings(max_examples=60)
def test_a_snippet_shows_the_same_as_its_scene(
    attempts: list[list[tuple[int, str]]], ticks: int, outcome: str, chosen: list[str]
) -> None:
    state = {
        "attempts": attempts,
        "refresh": {"ticks": ticks, "outcome": outcome},
        "operators": {name: OPERATORS[name] for name in chosen},
    }
    made = Scene.of_state(state)
    assert Scene.of_state(made.state) == made
    exec(snippet(made, made.run()), {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": [[[0, "laugh"]]]},
        {"refresh": {"ticks": 1, "outcome": "perhaps"}},
        {"operators": {"eval": {}}},
        {"operators": {"recover_auth": {"on_recovery": "print"}}},
    ],
    ids=["kind", "outcome", "operator", "option"],
)
def test_a_page_cannot_ask_for_what_there_is_not(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="A playground knows no"):
        Scene.of_state({**scene("s").state, **wrong})


def test_every_event_is_a_handle_with_its_tick() -> None:
    page = answer(scene("s--e", "(sa)" + "-b" * 40).state)
    assert page["script"].count('data-event="1.') == 42
    assert 'data-event="refresh" data-tick="2"' in page["script"]
    assert page["xs"] == sorted(page["xs"])
    assert "data-event" not in page["result"]


def test_an_event_keeps_its_name_when_it_passes_another() -> None:
    page = answer({**scene("s-a-b").state, "attempts": [[[0, "start"], [6, "text"], [4, "401"]]]})
    for name, tick in (("0.0", 0), ("0.1", 6), ("0.2", 4)):
        assert f'data-event="{name}" data-tick="{tick}"' in page["script"]


def test_thirty_events_are_answered_in_25_ms() -> None:
    state = scene("s--e", "s" + "-a" * 28 + "-|").state
    answer(state)
    times = []
    for _ in range(7):
        begun = time.process_time()
        answer(state)
        times.append(time.process_time() - begun)
    assert statistics.median(times) <= 0.025, "half of what a redraw may take; the way to the page takes the rest"
