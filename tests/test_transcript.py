"""What a chat program keeps of assistant streams: messages, and the phantoms among them."""

from __future__ import annotations

import errno
import json
import resource
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reactivex
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable, Subject, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.testing import TestScheduler

from rxauth.errors import CredentialRejected, TranscriptNotSaved
from rxauth.events import (
    AssistantEvent,
    AssistantMessage,
    Done,
    Error,
    Start,
    Text,
    TextDelta,
    TextEnd,
    TextStart,
    Thinking,
    ThinkingDelta,
    ThinkingEnd,
    ThinkingStart,
    ToolCall,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    to_json,
)
from rxauth.testing import marbles
from rxauth.transcript import Transcript, TranscriptEntry, collect_message

CALL = ToolCall("call_1", "weather", '{"city": "Paris"}')
ANSWER = AssistantMessage(
    content=(Thinking("Hm.", "sig"), Text("Hello."), CALL), id="msg_1", model="m", stop_reason="toolUse"
)
STREAM: list[AssistantEvent] = [
    Start(AssistantMessage(id="msg_1", model="m")),
    ThinkingStart(0),
    ThinkingDelta(0, "Hm."),
    ThinkingEnd(0, "Hm.", "sig"),
    TextStart(1),
    TextDelta(1, "Hel"),
    TextDelta(1, "lo."),
    TextEnd(1, "Hello."),
    ToolCallStart(2, "call_1", "weather"),
    ToolCallDelta(2, '{"city": '),
    ToolCallDelta(2, '"Paris"}'),
    ToolCallEnd(2, CALL),
    Done("toolUse", ANSWER),
]
START, A, B = Start(AssistantMessage()), TextDelta(0, "a"), TextDelta(0, "b")
SAID = AssistantMessage(content=(Text("ab"),), stop_reason="stop")
DONE = Done("stop", SAID)


def fed(*events: Any, path: Path | None = None) -> Transcript:
    transcript = Transcript(path)
    for event in events:
        transcript.on_next(event)
    return transcript


def told(transcript: Transcript) -> list[tuple[str, str | None, bool]]:
    return [(entry.message.text, entry.message.stop_reason, entry.open) for entry in transcript.entries]


def plain(event: AssistantEvent) -> Any:
    return json.loads(to_json(event))


# Messages.


def test_a_message_grows_with_every_delta_and_earlier_values_stay() -> None:
    transcript, seen = Transcript(), []
    for event in (START, A, B):
        transcript.on_next(event)
        seen.append(transcript.messages)
    assert [messages[0].text for messages in seen] == ["", "a", "ab"]
    assert transcript.messages == transcript.messages
    assert transcript.messages[0] is transcript.messages[0]


def test_what_done_carries_is_the_message() -> None:
    transcript = fed(*STREAM)
    assert transcript.messages == (ANSWER,)
    assert transcript.entries == (TranscriptEntry(ANSWER, open=False),)


def test_before_done_the_message_is_the_same_but_for_its_end() -> None:
    (message,) = fed(*STREAM[:-1]).messages
    assert (message.content, message.id, message.model, message.stop_reason) == (ANSWER.content, "msg_1", "m", None)


def test_a_message_left_open_by_a_later_start_stays_open() -> None:
    transcript = fed(START, START, A, B, DONE)
    transcript.on_completed()
    assert told(transcript) == [("", None, True), ("ab", "stop", False)]
    assert repr(transcript) == "Transcript(2 messages, 1 open)"


def test_an_error_event_closes_with_what_was_said() -> None:
    said = AssistantMessage(content=(Text("a"),), stop_reason="error", error_message="No.")
    transcript = fed(START, A, Error("error", said, CredentialRejected("No.", status=401)))
    transcript.on_completed()
    assert transcript.entries == (TranscriptEntry(said, open=False),)


@pytest.mark.parametrize("form", [lambda event: event, plain], ids=["as events", "as JSON"])
def test_a_message_that_does_not_say_how_it_ended_takes_it_from_its_event(
    form: Callable[[AssistantEvent], Any], tmp_path: Path
) -> None:
    said = AssistantMessage(content=(Text("a"),), error_message="No.")
    ends = (Done("length", AssistantMessage(content=(Text("a"),))), Error("aborted", said))
    transcript = fed(*(form(event) for end in ends for event in (START, A, end)), path=tmp_path / "chat.jsonl")
    transcript.on_completed()
    assert told(transcript) == [("a", "length", False), ("a", "aborted", False)]
    assert [message.error_message for message in transcript.messages] == [None, "No."]
    lines = (tmp_path / "chat.jsonl").read_text().splitlines()
    assert [json.loads(line)["stop_reason"] for line in lines] == ["length", "aborted"]


def test_rxs_own_channels_close_an_open_message() -> None:
    failed, over = fed(START, START, A), fed(START, A)
    failed.on_error(ValueError("broken"))
    over.on_completed()
    assert told(failed) == [("", None, True), ("a", "error", False)]
    assert failed.messages[1].error_message == "broken"
    assert told(over) == [("a", "aborted", False)]


def test_an_error_without_a_text_is_named() -> None:
    transcript = fed(START)
    transcript.on_error(TimeoutError())
    assert transcript.messages[0].error_message == "TimeoutError"


def test_rxs_own_channels_do_nothing_to_a_closed_message_or_to_none() -> None:
    transcript = fed(START, DONE)
    transcript.on_error(ValueError())
    transcript.on_completed()
    assert told(transcript) == [("ab", "stop", False)]
    empty = Transcript()
    empty.on_error(ValueError())
    empty.on_completed()
    assert empty.messages == ()


def test_one_transcript_takes_one_stream_after_another() -> None:
    transcript = Transcript()
    for _ in range(2):
        reactivex.of(START, A, B, DONE).subscribe(transcript)
    reactivex.throw(ValueError("x")).subscribe(transcript)
    reactivex.of(START, A).pipe(ops.concat(reactivex.throw(ValueError("y")))).subscribe(transcript)
    assert told(transcript) == [("ab", "stop", False)] * 2 + [("a", "error", False)]


def test_what_belongs_to_no_message_opens_one() -> None:
    assert told(fed(A, DONE)) == [("ab", "stop", False)]
    assert told(fed(DONE)) == [("ab", "stop", False)]
    assert told(fed(START, DONE, A)) == [("ab", "stop", False), ("a", None, True)]
    assert told(fed(Error("error", AssistantMessage(stop_reason="error")))) == [("", "error", False)]


def test_a_delta_for_a_block_that_was_never_opened_opens_it() -> None:
    message = fed(START, ToolCallDelta(5, '{"a"'), ThinkingDelta(1, "hm")).messages[0]
    assert message.content == (Thinking("hm"), ToolCall("", "", '{"a"'))


def test_every_kind_of_block_grows() -> None:
    halves: list[list[Any]] = [
        [make(0, half) for half in ("h", "m")] for make in (TextDelta, ThinkingDelta, ToolCallDelta)
    ]
    blocks = [fed(START, *deltas).messages[0].content for deltas in halves]
    assert blocks == [(Text("hm"),), (Thinking("hm"),), (ToolCall("", "", "hm"),)]


def test_two_blocks_with_one_number_are_both_kept() -> None:
    assert fed(START, ThinkingDelta(0, "hm"), A).messages[0].content == (Text("a"), Thinking("hm"))


def test_an_end_without_deltas_is_the_whole_block() -> None:
    message = fed(
        START, TextEnd(0, "whole"), ThinkingEnd(1, "", "cipher", redacted=True), ToolCallEnd(2, CALL)
    ).messages[0]
    assert message.content == (Text("whole"), Thinking("", "cipher", True), CALL)


# Events of any make.


class Alien:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def test_a_stream_read_from_its_json_gives_the_same_messages() -> None:
    # But for the white space in a tool call's arguments, which JSON tells parsed.
    for events in (STREAM, STREAM[:-1]):
        (message,) = fed(*map(plain, events)).messages
        assert to_json(message) == to_json(fed(*events).messages[0])


def test_type_is_an_attribute_or_a_key() -> None:
    for make in (Alien, dict):
        transcript = fed(
            make(type="start"),
            make(type="text_delta", content_index=0, delta="hi"),
            make(type="toolcall_end", content_index=1, tool_call=make(id="1", name="n", arguments={"a": 1})),
            make(type="done", reason="length"),
        )
        assert told(transcript) == [("hi", "length", False)]
        assert transcript.messages[0].content[1] == ToolCall("1", "n", '{"a":1}')


def test_an_error_of_any_make_closes_with_its_text() -> None:
    event = {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}
    message = fed(START, A, event).messages[0]
    assert (message.text, message.stop_reason, message.error_message) == ("a", "error", "invalid x-api-key")
    assert fed(START, {"type": "error", "reason": "aborted"}).messages[0].stop_reason == "aborted"


@pytest.mark.parametrize(
    "event",
    [
        None,
        7,
        "start",
        {},
        {"type": None},
        {"type": ["start"]},
        {"type": "ping"},
        {"type": "text"},
        {"type": "text_"},
        object(),
    ],
    ids=str,
)
def test_what_is_none_of_its_events_is_passed_over(event: Any) -> None:
    assert told(fed(START, A, event, B)) == [("ab", None, True)]
    assert fed(event).messages == ()


@pytest.mark.parametrize(
    "event",
    [
        {"type": "text_delta"},
        {"type": "text_delta", "content_index": None, "delta": None},
        {"type": "text_end", "content_index": "x", "content": 5},
        {"type": "toolcall_end"},
        {"type": "thinking_end", "signature": 4},
        {"type": "done", "message": {"content": "text"}},
        {"type": "done", "message": {"content": [{"type": "unknown"}]}},
        {"type": "done", "message": {"content": [7]}},
        {"type": "done", "reason": "tired"},
        {"type": "error"},
        {"type": "start", "message": "hello"},
    ],
    ids=str,
)
def test_fields_that_are_missing_or_wrong_do_not_break_it(event: Any) -> None:
    transcript = fed(event)
    transcript.on_completed()
    assert len(transcript.messages) == 1
    assert to_json(transcript.messages[0])


# The file.


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_is_saved_when_the_stream_ends_the_phantom_included(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    transcript = fed(START, START, A, DONE, path=path)
    assert not path.exists()
    transcript.on_completed()
    phantom, message = lines(path)
    assert (phantom["role"], phantom["content"], phantom["stop_reason"]) == ("assistant", [], None)
    assert message["content"] == [{"type": "text", "text": "ab"}]
    assert message["stop_reason"] == "stop"


def test_each_message_is_saved_once(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    transcript = Transcript(path)
    reactivex.of(START, A, DONE).subscribe(transcript)
    transcript.close()
    transcript.save()
    reactivex.of(START, A).pipe(ops.concat(reactivex.throw(ValueError("x")))).subscribe(transcript)
    fed(START, DONE, path=path).close()
    assert [line["stop_reason"] for line in lines(path)] == ["stop", "error", "stop"]


def test_a_disposed_stream_is_saved_by_close(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    source: Subject[Any] = Subject()
    transcript = Transcript(path)
    subscription = source.subscribe(transcript)
    source.on_next(START)
    source.on_next(A)
    transcript.save()
    assert not path.exists(), "an open message may still grow"
    subscription.dispose()
    transcript.close()
    assert [line["stop_reason"] for line in lines(path)] == ["aborted"]


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    fed(DONE, path=path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_torn_last_line_does_not_swallow_the_next_message(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    path.write_text('{"role": "assis')
    fed(DONE, path=path).close()
    assert path.read_text().splitlines()[0] == '{"role": "assis'
    assert json.loads(path.read_text().splitlines()[1])["stop_reason"] == "stop"


def test_raw_unicode_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    fed(Done("stop", AssistantMessage(content=(Text("a\nb\u2028c\u0085d\U0001f600"),))), path=path).close()
    (line,) = path.read_bytes().splitlines()
    assert json.loads(line)["content"][0]["text"] == "a\nb\u2028c\u0085d\U0001f600"


def test_a_file_that_cannot_be_written_is_one_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "transcript.jsonl"
    transcript = fed(START, DONE, path=path)
    with pytest.raises(
        TranscriptNotSaved, match=r"missing/transcript\.jsonl cannot be written \(No such file"
    ) as caught:
        transcript.on_completed()
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert transcript.messages == (SAID,)
    path.parent.mkdir()
    transcript.save()
    assert [line["stop_reason"] for line in lines(path)] == ["stop"]


def test_a_directory_is_no_transcript(tmp_path: Path) -> None:
    with pytest.raises(TranscriptNotSaved, match="directory"):
        fed(DONE, path=tmp_path).close()


def test_text_that_is_no_unicode_is_the_same_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TranscriptNotSaved, match="Unicode"):
        fed(START, TextDelta(0, "\ud800"), path=tmp_path / "t").close()


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    # A limit on the size of files ends a write half way, as a full disk does.
    path = tmp_path / "transcript.jsonl"
    fed(DONE, path=path).close()
    before = path.read_bytes()
    transcript = fed(Done("stop", AssistantMessage(content=(Text("x" * 100),))), path=path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
    try:
        with pytest.raises(TranscriptNotSaved) as caught:
            transcript.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EFBIG
    assert path.read_bytes() == before
    transcript.save()
    assert len(lines(path)) == 2


def test_what_two_write_at_once_does_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"

    def write(letter: str) -> None:
        for _ in range(50):
            message = AssistantMessage(content=(Text(letter * 5000),))
            fed(Done("stop", message), Done("stop", message), path=path).close()

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [line["content"][0]["text"] for line in lines(path)]
    assert len(texts) == 400
    assert all(len(set(text)) == 1 for text in texts)


# Growth.


def test_a_delta_costs_the_same_however_long_the_message_is() -> None:
    """Counted, not timed: the pieces are joined once, when somebody looks."""
    joins = 0

    class Piece(str):
        __slots__ = ()

        def __radd__(self, other: str) -> str:
            nonlocal joins
            joins += 1
            return str(other) + str(self)

    transcript = fed(START)
    for _ in range(10_000):
        transcript.on_next(TextDelta(0, Piece("x")))
    assert joins == 0
    assert transcript.messages[0].text == "x" * 10_000
    (draft,) = transcript._drafts
    (block,) = draft._blocks.values()
    assert len(block.parts) == 1, "the next look does not join the same pieces again"


# collect_message.


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


def test_two_subscribers_never_meet() -> None:
    source = reactivex.of(START, A, B)
    folded = source.pipe(collect_message())
    assert [folded.run().text for _ in range(2)] == ["ab", "ab"]


def test_a_synchronous_source_that_goes_on_gives_one_message() -> None:
    def subscribe(observer: abc.ObserverBase[Any], scheduler: Any = None) -> abc.DisposableBase:
        for event in (START, DONE, START, A, DONE):
            observer.on_next(event)
        observer.on_error(ValueError())
        return Disposable()

    seen: list[Any] = []
    Observable(subscribe).pipe(collect_message()).subscribe(seen.append, seen.append, lambda: seen.append("|"))
    assert seen == [SAID, "|"]


@given(st.lists(st.sampled_from([START, A, B, TextEnd(0, "ab"), ThinkingDelta(1, "t"), None])))
def test_the_fold_is_the_transcripts_last_message(events: list[Any]) -> None:
    transcript = fed(*events)
    transcript.on_completed()
    last = transcript.messages[-1] if transcript.messages else AssistantMessage(stop_reason="aborted")
    assert reactivex.from_iterable(events).pipe(collect_message()).run() == last
