"""Bodies: their label, their frame, their end, and pings. The content decides."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from reactivex import operators as ops

from rxauth.errors import RequestRejected, StreamCut
from rxauth.events import AssistantEvent, Ping, TextDelta
from rxauth.sources import openai_chat
from rxauth.sources._reader import Reader
from rxauth.testing import FakeProvider, Gate, Reply
from tests.sources.streams import (
    ANTHROPIC,
    BEGINNING,
    END,
    ENDING,
    KEY,
    OPENAI,
    REQUEST,
    TEXT,
    answered,
    collect,
    done,
    failed,
    formats,
    messages,
    read,
    sse,
    text_of,
)

WHOLE: dict[type[Reader], Any] = {
    ANTHROPIC: {"type": "message", "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn"},
    OPENAI: {"id": "c", "choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}]},
}


@formats
@pytest.mark.parametrize("label", ["text/event-stream", "application/json", "text/plain", "text/html", ""])
def test_an_answer_counts_under_any_label(reader: type[Reader], label: str) -> None:
    bodies = {
        "framed": sse(*TEXT[reader], END[reader]),
        "lines": b"".join(json.dumps(each).encode() + b"\n" for each in TEXT[reader]),
        "whole": json.dumps(WHOLE[reader]).encode(),
        "whole, indented": json.dumps(WHOLE[reader], indent=2).encode(),
        "whole, framed": sse(WHOLE[reader]),
    }
    for form, body in bodies.items():
        for cuts in ((), range(len(body))):
            end = done(read(reader, body, content_type=label, cuts=cuts))
            assert (end.message.text, end.reason) == ("Hello", "stop"), form


@pytest.mark.parametrize("label", ["application/json", "text/html"])
async def test_a_mislabelled_stream_shows_its_text_as_it_comes(label: str) -> None:
    gate = Gate()
    reply = Reply(headers={"Content-Type": label}, body=[BEGINNING[ANTHROPIC], gate, ENDING[ANTHROPIC]])

    def go_on(event: AssistantEvent) -> None:
        if isinstance(event, TextDelta):
            gate.open()

    async with FakeProvider(replies=[reply]) as fake, asyncio.timeout(5):
        assert text_of(await collect(messages(fake).pipe(ops.do_action(go_on)))) == "Hello"


@formats
@pytest.mark.parametrize(
    ("end", "is_done"),
    [
        pytest.param("data: %s\n", True, id="no empty line"),
        pytest.param("data: %s", True, id="no line end"),
        pytest.param("data:%s", True, id="no space"),
        pytest.param("data: %s \r\r", True, id="a space too many"),
        pytest.param("%s\n", True, id="no frame"),
        pytest.param("data: %.5s", False, id="half of it"),
    ],
)
def test_the_last_event_counts_if_it_is_whole(reader: type[Reader], end: str, is_done: bool) -> None:
    """Without the event that has the reason for stopping, the end decides."""
    last = "[DONE]" if reader is OPENAI else json.dumps(END[reader])
    events = read(reader, BEGINNING[reader] + (end % last).encode())
    assert text_of(events) == "Hello"
    assert (events[-1].type == "done") is is_done
    if not is_done:
        assert type(failed(events).cause) is StreamCut


@formats
@pytest.mark.parametrize(
    ("ping", "count"),
    [
        (b": a comment\n\n", 1),
        (b"event: ping\ndata: {not JSON\n\n", 1),
        (b"event: ping\ndata: [DONE]\n\n", 1),
        (b'event: ping\ndata: {"error": {"message": "no"}}\n\n', 1),
        (b'data: {"type": "ping"}\n\n', 1),
        (b"id: 1\nretry: 5\n\n", 0),
    ],
    ids=str,
)
def test_a_ping_changes_nothing(reader: type[Reader], ping: bytes, count: int) -> None:
    """Whatever is in it; and it is an event where one is asked for."""
    body = ping.join([b"", *(sse(each) for each in TEXT[reader]), sse(END[reader])])
    for pings in (False, True):
        events = read(reader, body, pings=pings)
        assert done(events).message.text == "Hello"
        assert sum(isinstance(event, Ping) for event in events) == count * pings * (len(TEXT[reader]) + 1)


@pytest.mark.parametrize("pings", [False, True])
async def test_a_source_emits_pings_on_request(pings: bool) -> None:
    body = b": ping\n\n" * 3 + sse(*TEXT[OPENAI], END[OPENAI]) + b": after the end\n\n"
    async with FakeProvider(replies=[Reply(body=body)], api_keys=["a-static-key"]) as fake:
        stream = openai_chat(REQUEST, base_url=f"{fake.url}/v1", credentials=KEY, pings=pings)
        types = [event.type for event in await collect(stream)]
    assert types[1:4] == ["ping"] * 3 if pings else "ping" not in types
    assert types[-1] == "done"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        pytest.param(b'{"error": {"code": 400, "message": "too long"}}', RequestRejected, id="an error before the cut"),
        pytest.param(b"Error: 401 tok", StreamCut, id="half a text, which may be half a token"),
        pytest.param(b"data: Error: 401 tok", StreamCut, id="half a text in its frame"),
        pytest.param(sse(TEXT[ANTHROPIC][-1]), StreamCut, id="the reason for stopping"),
    ],
)
async def test_a_cut_leaves_what_was_whole_before_it(body: bytes, kind: type[Exception]) -> None:
    """Only a stream that breaks off without a word is a cut one."""
    body = BEGINNING[ANTHROPIC] + body
    assert type(failed(await answered(Reply(body=body, cut_at=len(body)))).cause) is kind
