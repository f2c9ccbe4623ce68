"""Marble diagrams are read, refused, drawn, and lose nothing on the way there and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as ops
from reactivex.notification import OnError, OnNext
from reactivex.observable.marbles import parse
from reactivex.testing import Recorded, TestScheduler
from reactivex.testing.subscription import Subscription

from rxauth import is_auth_error
from rxauth.errors import ProviderError
from rxauth.testing import VirtualTime, marbles


@pytest.mark.parametrize(
    ("diagram", "rxpys"), [("s-a----|", "s-a----|"), ("-(sa)-|", "-(s,a)|"), ("(ab)--c#", "(a,b)-c#")]
)
def test_the_columns_are_those_of_rxpy_itself(diagram: str, rxpys: str) -> None:
    assert [each.time for each in marbles.messages(diagram)] == [at for at, _ in parse(rxpys)]


def test_start_and_spaces_place_a_diagram() -> None:
    assert [each.time for each in marbles.messages("  a-(bc)-d  ", start=200)] == [200, 202, 202, 207]
    assert [each.time for each in marbles.messages("a-b", start=0.5)] == [0.5, 2.5]


def test_letters_stand_for_events_unless_others_are_given() -> None:
    assert [marbles.event(letter).type for letter in "seab1"] == ["start", "error", *["text_delta"] * 3]
    assert is_auth_error(marbles.event("e"))
    assert is_auth_error(marbles.failure)
    error = ProviderError("else")
    given: list[Any] = [each.value for each in marbles.messages("a#", events={"a": None}, error=error)]
    assert (given[0].value, given[1].exception) == (None, error)
    for letter in "se":
        assert "0x" not in str(marbles.event(letter)), "a failed test prints the same every time"


@pytest.mark.parametrize("diagram", ["(a", "a)", "()", "((a))", "(a-b)", "a b", "a?b", "a^", "a!", "a,b", "(a b)"])
def test_a_string_that_is_no_diagram_is_refused(diagram: str) -> None:
    with pytest.raises(ValueError, match="diagram"):
        marbles.messages(diagram)


def test_a_cold_source_begins_with_each_subscription() -> None:
    scheduler = TestScheduler()
    source = marbles.cold(scheduler, "s-#")
    again = source.pipe(ops.catch(lambda error, source: source))
    assert marbles.draw(marbles.observe(scheduler, again, at=3, until=6)) == "---s-s"
    assert source.subscriptions == marbles.subscriptions("---^-!", "-----^!")


def test_a_hot_source_has_its_own_time() -> None:
    scheduler = TestScheduler()
    source = marbles.hot(scheduler, "a--^--b-(c|)", start=10)
    assert marbles.draw(marbles.observe(scheduler, lambda: source, at=10), start=10) == "---b-(c|)"
    assert source.subscriptions == marbles.subscriptions("^----!", start=10)
    with pytest.raises(ValueError, match="time 0"):
        marbles.hot(scheduler, "^a^")


def test_every_subscription_gets_the_next_diagram() -> None:
    scheduler = TestScheduler()
    error = ProviderError("else")
    source = marbles.attempts(scheduler, "s#", "k|", events={"k": "known"}, error=error)
    seen = [marbles.observe(scheduler, source, at=at) for at in (0, 2000, 4000)]
    assert [marbles.draw(each, {"k": "known"}, start=at) for each, at in zip(seen, (0, 2000, 4000), strict=True)] == [
        "s#", "k|", "k|",
    ]  # fmt: skip
    assert seen[0][1].value.exception is error  # type: ignore[union-attr]
    assert source.subscriptions == [Subscription(0, 1), Subscription(2000, 2001), Subscription(4000, 4001)]
    with pytest.raises(ValueError, match="no attempt"):
        marbles.attempts(scheduler)


@pytest.mark.parametrize("diagram", ["", "!", "!^", "^^", "^!!", "^a", "^|", "(^!)"])
def test_a_string_that_is_no_subscription_is_refused(diagram: str) -> None:
    with pytest.raises(ValueError):
        marbles.subscription(diagram)


@given(st.integers(0, 20), st.none() | st.integers(0, 20), st.integers(1, 9))
def test_a_subscription_survives_the_way_there_and_back(begin: int, length: int | None, start: int) -> None:
    recorded = Subscription(start + begin, None if length is None else start + begin + length)
    assert marbles.subscription(marbles.draw_subscription(recorded, start), start) == recorded


def test_a_subscription_without_a_diagram_is_listed() -> None:
    assert marbles.draw_subscription(Subscription(0.5, 3)) == "^@0.5 !@3"  # type: ignore[arg-type]
    assert marbles.draw_subscription(Subscription(2, 5), start=3) == "^@2 !@5"


ITEMS = "sabez09|#"
COLUMNS = st.one_of(st.just("-"), st.sampled_from(ITEMS), st.text(ITEMS, min_size=2, max_size=4).map("({})".format))


@given(st.lists(COLUMNS).map("".join), st.sampled_from([0, 200]))
def test_a_diagram_survives_the_way_there_and_back(diagram: str, start: int) -> None:
    recorded = marbles.messages(diagram, start=start)
    assert marbles.draw(recorded, start=start) == diagram.rstrip("-")


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(ITEMS))).map(sorted))
def test_recorded_notifications_survive_or_are_listed(items: list[tuple[int, str]]) -> None:
    recorded = [each for at, item in items for each in marbles.messages(item, start=at)]
    drawn = marbles.draw(recorded)
    if "@" in drawn:
        assert drawn == " ".join(f"{item}@{at}" for at, item in items)
    else:
        assert marbles.messages(drawn) == recorded


@pytest.mark.parametrize(
    ("value", "events", "drawn"),
    [
        pytest.param({"type": "x"}, {}, "a@0 ?dict@1 #@2", id="an event without a letter"),
        pytest.param({"type": "x"}, {"x": {"type": "x"}}, "ax#", id="a letter that was given"),
        pytest.param(marbles.event("b"), {"b": "other"}, "a@0 ?TextDelta@1 #@2", id="a letter that has another event"),
        pytest.param(marbles.event("ab"), {}, "a@0 ?TextDelta@1 #@2", id="a delta of two letters"),
        pytest.param(marbles.event("|"), {}, "a@0 ?TextDelta@1 #@2", id="a delta that is a sign"),
    ],
)
def test_an_event_is_drawn_by_its_letter_or_listed(value: object, events: dict[str, object], drawn: str) -> None:
    recorded = [*marbles.messages("a"), Recorded(1, OnNext(value)), Recorded(2, OnError(ValueError()))]
    assert marbles.draw(recorded, events) == drawn


# One clock for all of it.


def test_a_source_can_be_seen_again_in_the_same_columns(virtual_time: VirtualTime) -> None:
    assert virtual_time.scheduler.clock == 0
    source = virtual_time.attempts("s--e|", "--s-a|")
    assert [virtual_time.see(source), virtual_time.subscriptions(source)] == ["s--e|", ["^---!"]]
    assert [virtual_time.see(source, until=3), virtual_time.subscriptions(source)] == ["--s", ["^--!"]]


def test_a_hot_source_has_gone_on_before(virtual_time: VirtualTime) -> None:
    events = {"h": {"type": "hello"}}
    source = virtual_time.hot("a-^-h|", events)
    assert virtual_time.see(lambda: source, events) == "--h|"
    assert virtual_time.subscriptions(source) == ["^--!"]
