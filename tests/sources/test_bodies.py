"""Bodies: their label, their frame, their end, and pings. The content decides."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rxauth.errors import CredentialRejected, ProtocolError, RequestRejected, StreamCut
from rxauth.events import Ping, TextDelta
from rxauth.sources import anthropic_messages, openai_chat
from rxauth.sources._reader import Reader
from rxauth.testing import FakeProvider, Gate, Reply
from tests.sources.streams import (
    ANTHROPIC,
    KEY,
    OPENAI,
    REQUEST,
    answered,
    bare_server,
    collect,
    done,
    failed,
    read,
    sse,
    text_of,
)

TEXT: dict[type[Reader], list[Any]] = {
    ANTHROPIC: [
        {"type": "message_start", "message": {"id": "m"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    ],
    OPENAI: [
        {"id": "c", "choices": [{"index": 0, "delta": {"content": "Hello"}}]},
        {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ],
}
END: dict[type[Reader], Any] = {ANTHROPIC: {"type": "message_stop"}, OPENAI: "[DONE]"}
WHOLE = {
    ANTHROPIC: {
        "type": "message",
        "id": "m",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
    },
    OPENAI: {"id": "c", "choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}]},
}

formats = pytest.mark.parametrize("reader", [ANTHROPIC, OPENAI], ids=["anthropic", "openai"])


@formats
@pytest.mark.parametrize("label", ["text/event-stream", "application/json", "text/plain", "text/html", ""])
@pytest.mark.parametrize("form", ["framed", "lines", "whole", "whole, indented", "whole, framed"])
def test_an_answer_counts_under_any_label(reader: type[Reader], label: str, form: str) -> None:
    body = {
        "framed": sse(*TEXT[reader], END[reader]),
        "lines": b"".join(json.dumps(each).encode() + b"\n" for each in TEXT[reader]),
        "whole": json.dumps(WHOLE[reader]).encode(),
        "whole, indented": json.dumps(WHOLE[reader], indent=2).encode(),
        "whole, framed": sse(WHOLE[reader]),
    }[form]
    for cuts in ((), range(len(body))):
        events = read(reader, body, content_type=label, cuts=cuts)
        assert (text_of(events), done(events).reason) == ("Hello", "stop")


@pytest.mark.parametrize("label", ["application/json", "text/html"])
async def test_a_mislabelled_stream_shows_its_text_as_it_comes(label: str) -> None:
    gate = Gate()
    body: list[Any] = [sse(*TEXT[ANTHROPIC][:2]), gate, sse(TEXT[ANTHROPIC][2], END[ANTHROPIC])]
    async with FakeProvider(
        replies=[Reply(headers={"Content-Type": label}, body=body)], api_keys=["a-static-key"]
    ) as fake:
        shown = asyncio.get_running_loop().create_future()
        ended = asyncio.get_running_loop().create_future()

        def on_next(event: Any) -> None:
            if isinstance(event, TextDelta):
                shown.set_result(event.delta)

        stream = anthropic_messages(REQUEST, base_url=fake.url, credentials=KEY)
        stream.subscribe(on_next, ended.set_exception, lambda: ended.set_result(None))
        assert await shown == "Hello"
        assert not ended.done()
        gate.open()
        await ended


@formats
@pytest.mark.parametrize(
    ("end", "is_done"),
    [
        pytest.param(lambda event: b"data: " + event + b"\n", True, id="no empty line"),
        pytest.param(lambda event: b"data: " + event, True, id="no line end"),
        pytest.param(lambda event: b"data:" + event, True, id="no space"),
        pytest.param(lambda event: b"data: " + event + b" \r\r", True, id="a space too many"),
        pytest.param(lambda event: event + b"\n", True, id="no frame"),
        pytest.param(lambda event: b"data: " + event[:-3], False, id="half of it"),
    ],
)
def test_the_last_event_counts_if_it_is_whole(reader: type[Reader], end: Any, is_done: bool) -> None:
    """Without the event that has the reason for stopping, the end decides."""
    last = "[DONE]" if reader is OPENAI else json.dumps(END[reader])
    events = read(reader, sse(*TEXT[reader][:2][: 2 if reader is ANTHROPIC else 1]) + end(last.encode()))
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
        (b"event: ping\ndata: {}\n\n", 1),
        (b"event: ping\ndata: [DONE]\n\n", 1),
        (b'event: ping\ndata: {"error": {"message": "no"}}\n\n', 1),
        (b'data: {"type": "ping"}\n\n', 1),
        (b"\n\n", 0),
        (b"id: 1\nretry: 5\n\n", 0),
    ],
    ids=str,
)
def test_a_ping_changes_nothing(reader: type[Reader], ping: bytes, count: int) -> None:
    """Whatever is in it; and it is an event where one is asked for."""
    body = ping.join([b"", *(sse(each) for each in TEXT[reader]), sse(END[reader])])
    assert done(read(reader, body)).message.text == "Hello"
    events = read(reader, body, pings=True)
    assert done(events).message.text == "Hello"
    assert sum(isinstance(event, Ping) for event in events) == count * (len(TEXT[reader]) + 1)
    assert not any(isinstance(event, Ping) for event in read(reader, body))


@pytest.mark.parametrize("pings", [False, True])
@pytest.mark.parametrize("openai", [False, True], ids=["anthropic", "openai"])
async def test_a_source_emits_pings_on_request(openai: bool, pings: bool) -> None:
    reader = OPENAI if openai else ANTHROPIC
    body = b": ping\n\n" * 3 + sse(*TEXT[reader], END[reader]) + b": after the end\n\n"
    async with FakeProvider(replies=[Reply(body=body)], api_keys=["a-static-key"]) as fake:
        stream = (
            openai_chat(REQUEST, base_url=f"{fake.url}/v1", credentials=KEY, pings=pings)
            if openai
            else anthropic_messages(REQUEST, base_url=fake.url, credentials=KEY, pings=pings)
        )
        types = [event.type for event in await collect(stream)]
    assert types[:4] == ["start", *["ping"] * 3] if pings else "ping" not in types
    assert types[-1] == "done"


@pytest.mark.parametrize("status", [400, 401, 500])
async def test_an_error_status_is_read_in_any_form(status: int) -> None:
    kinds = {400: RequestRejected, 401: CredentialRejected}
    forms = (
        b'event: error\ndata: {"type":"error","error":{"message":"Too bad."}}\n\n',
        b"data: Too bad.\n\n",
        b'data: {"detail":"Too bad."}',
        b"Too bad.",
        b"<html><h1>Too bad.</h1></html>",
    )
    for form in forms:
        cause = failed(await answered(Reply(status=status, body=form))).cause
        assert str(cause) == f"Too bad. (HTTP {status})"
        assert isinstance(cause, kinds.get(status, Exception))


async def test_a_cut_leaves_the_words_before_it() -> None:
    """Only a stream that breaks off without a word is a cut one."""
    body = sse(*TEXT[ANTHROPIC][:2]) + b'{"error": {"code": 400, "message": "too long"}}'
    cause = failed(await answered(Reply(body=body, cut_at=len(body)))).cause
    assert type(cause) is RequestRejected
    half = sse(*TEXT[ANTHROPIC][:2]) + b"Error: 401 tok"
    assert type(failed(await answered(Reply(body=half, cut_at=len(half)))).cause) is StreamCut


async def test_a_cut_after_the_reason_is_still_a_cut() -> None:
    """A clean end would complete the answer."""
    body = sse(*TEXT[ANTHROPIC])
    assert done(await answered(Reply(body=body))).reason == "stop"
    assert type(failed(await answered(Reply(body=body, cut_at=len(body)))).cause) is StreamCut


async def test_two_lengths_are_named_as_such() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    async with bare_server(head + both) as url:
        cause = failed(await collect(anthropic_messages(REQUEST, base_url=url, credentials=KEY))).cause
    assert type(cause) is ProtocolError
    assert "both Content-Length and Transfer-Encoding" in str(cause)
    assert "base URL" not in str(cause)
