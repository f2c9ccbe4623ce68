"""`collect_message`: assistant events folded into one message."""

from __future__ import annotations

from typing import Any

import pytest
import reactivex
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable, abc
from reactivex.disposable import Disposable
from reactivex.testing import TestScheduler

from rxauth.events import AssistantMessage, Text, TextEnd, ThinkingDelta
from rxauth.testing import marbles
from rxauth.transcript import collect_message
from tests.test_transcript import DONE, SAID, START, A, B, fed

NOTHING = AssistantMessage(stop_reason="aborted")


def aborted(text: str) -> AssistantMessage:
    return AssistantMessage(content=(Text(text),), stop_reason="aborted")


@pytest.mark.parametrize(
    ("source", "result", "message"),
    [
        pytest.param("s--a--b--D-a|", "---------(M|)", SAID,           id="the message of done, at once"),
        pytest.param("s--a--e|",      "------(M|)",    marbles.event("e").error, id="that of an error event, at once"),
        pytest.param("s--a--|",       "------(M|)",    aborted("a"),   id="what was said, where the stream just ends"),
        pytest.param("--|",           "--(M|)",        NOTHING,        id="an empty one, where there was nothing"),
        pytest.param("s--a--#",       "------#",       None,           id="an exception stays one"),
        pytest.param("s-a-s-b-|",     "--------(M|)",  aborted("b"),   id="a second start begins anew"),
        pytest.param("-D",            "-(M|)",         SAID,           id="done alone is enough"),
    ],
)  # fmt: skip
def test_a_stream_is_folded_into(source: str, result: str, message: AssistantMessage | None) -> None:
    scheduler = TestScheduler()
    cold = marbles.cold(scheduler, source, events={"D": DONE})
    seen = marbles.observe(scheduler, cold.pipe(collect_message()))
    assert marbles.draw(seen, {} if message is None else {"M": message}) == result
    assert [(each.subscribe, each.unsubscribe) for each in cold.subscriptions] == [(0, seen[-1].time)]


def test_two_subscribers_never_meet() -> None:
    source = reactivex.of(START, A, B)
    folded = source.pipe(collect_message())
    assert [folded.run().text for _ in range(2)] == ["ab", "ab"]


def test_a_source_that_goes_on_gives_one_message() -> None:
    def subscribe(observer: abc.ObserverBase[Any], scheduler: Any = None) -> abc.DisposableBase:
        for event in (START, DONE, START, A, DONE):
            observer.on_next(event)
        observer.on_error(ValueError())
        return Disposable()

    seen: list[Any] = []
    Observable(subscribe).pipe(collect_message()).subscribe(seen.append, seen.append, lambda: seen.append("|"))
    assert seen == [SAID, "|"]


@given(st.lists(st.sampled_from([START, A, B, TextEnd(0, "ab"), ThinkingDelta(1, "t"), None])))
def test_the_fold_is_the_last_message(events: list[Any]) -> None:
    transcript = fed(*events)
    transcript.on_completed()
    last = transcript.messages[-1] if transcript.messages else NOTHING
    assert reactivex.from_iterable(events).pipe(collect_message()).run() == last
