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

from rxauth.events import (
    AssistantMessage,
    Text,
    TextEnd,
    ThinkingDelta,
)
from rxauth.testing import marbles
from rxauth.transcript import Transcript, collect_message
from tests.test_transcript import DONE, SAID, START, A, B, fed, summary


def collected(diagram: str, **events: Any) -> tuple[str, list[Any]]:
    """The notifications of `collect_message` on a marble source, drawn, and the messages."""
    scheduler = TestScheduler()
    known = {"D": DONE} | events
    source = marbles.cold(scheduler, diagram, events=known)
    seen = marbles.observe(scheduler, source.pipe(collect_message()))
    values = [each.value.value for each in seen if each.value.kind == "N"]  # type: ignore[union-attr]
    drawn = marbles.draw(seen, {"M": values[0]} if values else {})
    assert [(each.subscribe, each.unsubscribe) for each in source.subscriptions] == [(0, seen[-1].time)]
    return drawn, values


@pytest.mark.parametrize(
    ("source", "result", "message"),
    [
        pytest.param("s--a--b--D-a|", "---------(M|)", SAID, id="the message of done, at once"),
        pytest.param("s--a--e|", "------(M|)", marbles.event("e").error, id="the message of an error event, at once"),
        pytest.param(
            "s--a--|",
            "------(M|)",
            AssistantMessage(content=(Text("a"),), stop_reason="aborted"),
            id="what was said, aborted, where the stream just ends",
        ),
        pytest.param(
            "--|",
            "--(M|)",
            AssistantMessage(stop_reason="aborted"),
            id="an aborted one, where there was nothing at all",
        ),
        pytest.param("s--a--#", "------#", None, id="an exception stays one"),
        pytest.param(
            "s-a-s-b-|",
            "--------(M|)",
            AssistantMessage(content=(Text("b"),), stop_reason="aborted"),
            id="a second start begins anew",
        ),
        pytest.param("-D", "-(M|)", SAID, id="done alone is enough"),
    ],
)
def test_a_stream_is_folded_into(source: str, result: str, message: AssistantMessage | None) -> None:
    drawn, values = collected(source)
    assert drawn == result
    assert values == ([] if message is None else [message])


@pytest.mark.parametrize("error", [None, ValueError()], ids=["completed", "failed"])
def test_a_closed_message_and_none_stay_as_they_are(error: Exception | None) -> None:
    for transcript, messages in ((fed(START, DONE), [("ab", "stop", False)]), (Transcript(), [])):
        transcript.on_completed() if error is None else transcript.on_error(error)
        assert summary(transcript) == messages


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
    last = transcript.messages[-1] if transcript.messages else AssistantMessage(stop_reason="aborted")
    assert reactivex.from_iterable(events).pipe(collect_message()).run() == last
