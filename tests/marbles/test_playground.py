"""A playground runs the real operators in virtual time, and gives its scene as code that runs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxauth.marbles._playground import answer, state_of
from rxauth.marbles._scene import OPERATORS

THREE = ("buffer_until_live", "retry_on_first_auth_error", "flush_on_complete_or_error")
SLOW = {"recover_auth": {"timeout": 5}}
SILENT = {"limit_silence": {"first": 5}, "buffer_until_live": {}, "retry_never_live": {"wait": 1}}


@pytest.mark.parametrize(
    ("attempts", "refresh", "chosen", "seen"),
    [
        pytest.param(("s--e", "s---a|"), "--r|", ["bare_retry"], "s----s---a|", id="a bare retry shows a phantom"),
        pytest.param(("s--e", "s---a---|"), "--r|", ["recover_auth"], "---------(sa)|", id="recover_auth: one start"),
        pytest.param(("s--e", "s---a---|"), "--r|", THREE, "---------(sa)|", id="the three show the same"),
        pytest.param(("s--e", "s---a---|"), "--r|", THREE[::-1], "---------(sa)|", id="in whatever order chosen"),
        pytest.param(("s--#", "s---a---|"), "--r|", THREE, "---------(sa)|", id="an exception is a failure too"),
        pytest.param(("s--e", "s---a---|"), "--n|", ["recover_auth"], "-----(se|)", id="the same token ends it"),
        pytest.param(("s--e", "s---a---|"), "--#", ["recover_auth"], "-----(se|)", id="a failed refresh ends it"),
        pytest.param(("s--e", "s---a---|"), "-------r|", SLOW, "--------(se|)", id="a refresh beyond its timeout"),
        pytest.param(("s--x", "s---a---|"), "--r|", ["recover_auth"], "---(sx|)", id="a rate limit is not refreshed"),
        pytest.param(("s--------a", "s-a---|"), "--r|", SILENT, "--------(sa)|", id="silence is retried"),
        pytest.param(("s--e|",), "--r|", [], "s--e|", id="no operator changes nothing"),
    ],
)  # fmt: skip
def test_a_scene_shows_what_its_operators_do(attempts: tuple[str, ...], refresh: str, chosen: Any, seen: str) -> None:
    assert answer(state_of(attempts, refresh, chosen))["seen"] == seen


def test_the_phantom_is_pointed_at() -> None:
    phantom = answer(state_of(["s--e", "s---a|"], operators=["bare_retry"]))
    assert phantom["view"].endswith("2 starts, 1 of them a message that stays empty (the phantom).")
    assert "the phantom" in phantom["result"]
    half = answer(state_of(["s-a-e", "s---b|"], operators=["bare_retry"]))
    assert half["view"].endswith("2 starts."), "half an answer, and then another one"
    assert "the phantom" not in answer(state_of(["s--e", "s---a|"], operators=["recover_auth"]))["result"]


def test_a_scene_is_a_row_of_a_marble_table() -> None:
    assert answer(state_of(["s--e", "s---a---|"], operators=["recover_auth"]))["row"] == (
        'pytest.param("s--e", "--r|", "s---a---|", "---------(sa)|", ("^--!", "-----^-------!"), id="recover_auth"),'
    )


def test_a_snippet_has_the_options() -> None:
    code = answer(state_of(["s--e", "s---a---|"], "-------r|", SLOW))["snippet"]
    assert "recover_auth(lambda failure: refresh, timeout=5)," in code
    exec(code, {})


_EVENTS = st.lists(st.tuples(st.integers(0, 12), st.sampled_from("sabex#|")), max_size=8)
_CHOSEN = st.lists(st.sampled_from(list(OPERATORS)), max_size=4, unique=True)


@given(st.lists(_EVENTS, min_size=1, max_size=3), st.tuples(st.integers(0, 9), st.sampled_from("rn#")), _CHOSEN)
@settings(max_examples=60)
def test_a_snippet_shows_the_same_as_its_scene(
    attempts: list[list[tuple[int, str]]], refresh: tuple[int, str], chosen: list[str]
) -> None:
    state = {"attempts": attempts, "refresh": refresh, "operators": {name: OPERATORS[name] for name in chosen}}
    exec(answer(state)["snippet"], {})


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"attempts": [[[0, "laugh"]]]}, id="an event"),
        pytest.param({"refresh": [1, "perhaps"]}, id="a result"),
        pytest.param({"operators": {"eval": {}}}, id="an operator"),
        pytest.param({"operators": {"recover_auth": {"on_recovery": "print"}}}, id="an option"),
    ],
)
def test_a_page_cannot_ask_for_what_there_is_not(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="A playground knows no"):
        answer({**state_of(["s"]), **wrong})


def test_every_event_is_a_handle_with_its_tick() -> None:
    page = answer(state_of(["s--e", "(sa)" + "-b" * 40]))
    assert page["script"].count('data-event="1.') == 42
    assert 'data-event="refresh" data-tick="2"' in page["script"]
    assert page["xs"] == sorted(page["xs"])
    assert "data-event" not in page["result"]
    assert answer(state_of(["(" + "a" * 40 + ")"]))["script"].count('data-event="0.') == 40


def test_an_event_keeps_its_name_when_it_passes_another() -> None:
    page = answer({**state_of([]), "attempts": [[[0, "s"], [6, "a"], [4, "e"]]]})
    for name, tick in (("0.0", 0), ("0.1", 6), ("0.2", 4)):
        assert f'data-event="{name}" data-tick="{tick}"' in page["script"]
