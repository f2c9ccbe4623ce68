"""Marble diagrams are read, refused, drawn, and lose nothing on the way there and back."""

from __future__ import annotations

from typing import Any

import pytest
import reactivex
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as ops
from reactivex.notification import OnCompleted, OnError, OnNext
from reactivex.observable.marbles import parse
from reactivex.testing import Recorded, TestScheduler
from reactivex.testing.subscription import Subscription

from rxauth import is_auth_error
from rxauth.errors import ProviderError
from rxauth.events import TextDelta
from rxauth.testing import marbles


def on_next(at: float, letter: str) -> Recorded[Any]:
    return Recorded(at, OnNext(marbles.event(letter)))  # type: ignore[arg-type]


def test_a_column_is_a_tick_and_a_group_takes_its_width() -> None:
    assert marbles.messages("----(sa)--b--|") == [
        on_next(4, "s"),
        on_next(4, "a"),
        on_next(10, "b"),
        Recorded(13, OnCompleted()),
    ]


def test_the_columns_are_those_of_rxpy_itself() -> None:
    def times(diagram: str) -> list[float]:
        return [float(at) for at, _ in parse(diagram)]  # type: ignore[arg-type]

    for ours, rxpys in [("s-a----|", "s-a----|"), ("-(sa)-|", "-(s,a)|"), ("(ab)--c#", "(a,b)-c#")]:
        assert [each.time for each in marbles.messages(ours)] == times(rxpys)


def test_start_and_spaces_place_a_diagram() -> None:
    assert [each.time for each in marbles.messages("  a-b  ", start=200)] == [200, 202]
    assert [each.time for each in marbles.messages("a-b", start=0.5)] == [0.5, 2.5]


def test_letters_stand_for_events_unless_others_are_given() -> None:
    assert [marbles.event(letter).type for letter in "seab1"] == ["start", "error", *["text_delta"] * 3]
    assert is_auth_error(marbles.event("e"))
    assert is_auth_error(marbles.failure)
    assert marbles.event("a") == TextDelta(0, "a")
    error = ProviderError("else")
    given = marbles.messages("a#", events={"a": None}, error=error)
    assert given[0].value.value is None  # type: ignore[union-attr]
    assert given[1].value.exception is error  # type: ignore[union-attr]


@pytest.mark.parametrize("diagram", ["(a", "a)", "()", "((a))", "(a-b)", "a b", "a?b", "a^", "a!", "a,b", "(a b)"])
def test_a_string_that_is_no_diagram_is_refused(diagram: str) -> None:
    with pytest.raises(ValueError, match="diagram"):
        marbles.messages(diagram)


def test_a_cold_source_begins_with_each_subscription() -> None:
    scheduler = TestScheduler()
    source = marbles.cold(scheduler, "s-#")
    again = source.pipe(ops.catch(lambda error, source: source))
    seen = marbles.observe(scheduler, again, at=3, until=6)
    assert marbles.draw(seen) == "---s-s"
    assert source.subscriptions == marbles.subscriptions("---^-!", "-----^!")


def test_a_hot_source_has_its_own_time() -> None:
    scheduler = TestScheduler()
    source = marbles.hot(scheduler, "a--^--b-(c|)", start=10)
    assert marbles.draw(marbles.observe(scheduler, source, at=10), start=10) == "---b-(c|)"
    assert source.subscriptions == marbles.subscriptions("^----!", start=10)
    with pytest.raises(ValueError, match="time 0"):
        marbles.hot(scheduler, "^a^")


def test_a_source_may_break_the_grammar_of_rx() -> None:
    assert marbles.draw(marbles.messages("a|-b#")) == "a|-b#"


def test_a_source_is_made_when_it_is_subscribed() -> None:
    scheduler = TestScheduler()
    made: list[float] = []

    def make() -> reactivex.Observable[Any]:
        made.append(scheduler.clock)
        return marbles.cold(scheduler, "a|")

    assert marbles.draw(marbles.observe(scheduler, make, at=7)) == "-------a|"
    assert made == [7]


@pytest.mark.parametrize(
    ("diagram", "expected"),
    [
        ("^", Subscription(0)),
        ("--^---!", Subscription(2, 6)),
        ("-(^!)", Subscription(1, 1)),
        (" ^! ", Subscription(0, 1)),
    ],
)
def test_a_subscription_has_a_begin_and_perhaps_an_end(diagram: str, expected: Subscription) -> None:
    assert marbles.subscription(diagram) == expected


@pytest.mark.parametrize("diagram", ["", "!", "!^", "^^", "^!!", "^a", "^|", "(^!)"])
def test_a_string_that_is_no_subscription_is_refused(diagram: str) -> None:
    with pytest.raises(ValueError):
        marbles.subscription(diagram)


ITEMS = "sabez09|#"
COLUMNS = st.one_of(st.just("-"), st.sampled_from(ITEMS), st.text(ITEMS, min_size=2, max_size=4).map("({})".format))


@given(st.lists(COLUMNS).map("".join), st.sampled_from([0, 200]))
def test_a_diagram_survives_the_way_there_and_back(diagram: str, start: int) -> None:
    recorded = marbles.messages(diagram, start=start)
    assert marbles.draw(recorded, start=start) == diagram.rstrip("-")
    assert marbles.messages(marbles.draw(recorded, start=start), start=start) == recorded


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(ITEMS))).map(sorted))
def test_recorded_notifications_survive_or_are_listed(items: list[tuple[int, str]]) -> None:
    recorded = [each for at, item in items for each in marbles.messages(item, start=at)]
    drawn = marbles.draw(recorded)
    if "@" in drawn:
        assert drawn == " ".join(f"{item}@{at}" for at, item in items)
    else:
        assert marbles.messages(drawn) == recorded


def test_an_event_without_a_letter_is_listed() -> None:
    recorded = [on_next(0, "a"), Recorded(1, OnNext({"type": "x"})), Recorded(2, OnError(ValueError()))]
    drawn = marbles.draw(recorded)
    assert drawn == "a@0 ?dict@1 #@2"
    with pytest.raises(ValueError, match="diagram"):
        marbles.messages(drawn)
    assert marbles.draw(recorded, events={"x": {"type": "x"}}) == "ax#"


def test_a_letter_with_another_event_is_not_drawn_for_its_own() -> None:
    assert marbles.draw(marbles.messages("a"), events={"a": "other"}) == "?TextDelta@0"
    events = {"a": "other"}
    assert marbles.draw(marbles.messages("-a", events), events) == "-a"


def test_the_events_of_one_letter_print_the_same_every_time() -> None:
    for letter in "se":
        assert "0x" not in str(marbles.event(letter))
        assert marbles.event(letter) == marbles.event(letter)


def test_every_subscription_gets_the_next_diagram() -> None:
    scheduler = TestScheduler()
    source = marbles.attempts(scheduler, "s#", "a|")
    seen = [marbles.draw(marbles.observe(scheduler, source, at=at), start=at) for at in (0, 2000, 4000)]
    assert seen == ["s#", "a|", "a|"]
    assert source.subscriptions == [Subscription(0, 1), Subscription(2000, 2001), Subscription(4000, 4001)]


def test_attempts_take_other_events_and_another_error() -> None:
    scheduler = TestScheduler()
    error = ProviderError("else")
    source = marbles.attempts(scheduler, "k#", events={"k": "known"}, error=error)
    first, last = marbles.observe(scheduler, source)
    assert first.value.value == "known"  # type: ignore[union-attr]
    assert last.value.exception is error  # type: ignore[union-attr]


def test_no_attempt_is_refused() -> None:
    with pytest.raises(ValueError, match="no attempt"):
        marbles.attempts(TestScheduler())


@given(st.integers(0, 20), st.none() | st.integers(1, 20), st.integers(0, 9))
def test_a_subscription_survives_the_way_there_and_back(begin: int, length: int | None, start: int) -> None:
    recorded = Subscription(start + begin, None if length is None else start + begin + length)
    assert marbles.subscription(marbles.draw_subscription(recorded, start), start) == recorded


def test_a_subscription_without_a_diagram_is_listed() -> None:
    assert marbles.draw_subscription(Subscription(0.5, 3)) == "^@0.5 !@3"  # type: ignore[arg-type]
    assert marbles.draw_subscription(Subscription(2, 2)) == "^@2 !@2"
    assert marbles.draw_subscription(Subscription(2, 5), start=3) == "^@2 !@5"
