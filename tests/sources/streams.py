"""Streams of events for these tests: how to make one of bytes, how to collect one, and what must hold for every one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from reactivex import Observable

from rxauth.credentials import Credential, StaticCredentials
from rxauth.events import (
    AssistantEvent,
    AssistantMessage,
    Done,
    Error,
    TextDelta,
)
from rxauth.sources import anthropic_messages
from rxauth.sources._anthropic import MessagesReader
from rxauth.sources._errors import Exchange
from rxauth.sources._openai import ChatReader
from rxauth.sources._reader import Reader
from rxauth.sources._sse import EventStreamDecoder
from rxauth.testing import FakeProvider, Reply

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "recorded"

REQUEST = {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "hello"}]}

ANTHROPIC: type[Reader] = MessagesReader
OPENAI: type[Reader] = ChatReader
formats = pytest.mark.parametrize("reader", [ANTHROPIC, OPENAI], ids=["anthropic", "openai"])

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

NO_TOKENS: Any = SimpleNamespace(access_token="", refresh_token=None)


class Holder:
    """A credential source that gives what it holds, and counts how often it is asked."""

    def __init__(self, credential: Credential) -> None:
        self.credential = credential
        self.asked = 0

    async def current(self) -> Credential:
        self.asked += 1
        return self.credential

    async def refresh(self, failure: object) -> None:
        raise AssertionError("A source does not refresh.")


class Counted(FakeProvider):
    """Also counts how many connections were ever made."""

    connections_made = 0

    def _count(self, change: int) -> None:
        self.connections_made += change > 0
        super()._count(change)


def sse(*payloads: Mapping[str, Any] | str, name: bool = False) -> bytes:
    """Server-sent events, one per payload."""
    lines = []
    for payload in payloads:
        if name and isinstance(payload, Mapping):
            lines.append(f"event: {payload['type']}\n")
        data = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
        lines.append(f"data: {data}\n\n")
    return "".join(lines).encode()


BEGINNING = {reader: sse(*TEXT[reader][:-1]) for reader in TEXT}
ENDING = {reader: sse(TEXT[reader][-1], END[reader]) for reader in TEXT}


def read(
    reader: type[Reader],
    body: bytes,
    *,
    cuts: Iterable[int] = (),
    content_type: str = "text/event-stream",
    pings: bool = False,
) -> list[AssistantEvent]:
    """Return the events that a reader makes of a body cut at these places, with a clean end."""
    events: list[AssistantEvent] = []
    exchange = Exchange("provider", NO_TOKENS)
    exchange.answered(200, {"Content-Type": content_type}, now=0)
    listener = reader(events.append, exchange, pings=pings)
    decoder = EventStreamDecoder(
        listener.on_event, on_line=listener.on_line, on_comment=listener.on_ping, max_event_bytes=2**24
    )
    places = [0, *sorted(cut for cut in cuts if 0 < cut < len(body)), len(body)]
    for start, end in pairwise(places):
        decoder.feed(body[start:end])
    listener.on_end(decoder.finish())
    return events


async def collect(source: Observable[AssistantEvent]) -> list[AssistantEvent]:
    """Everything a source emits, once it has completed."""
    events: list[AssistantEvent] = []
    completed = asyncio.get_running_loop().create_future()
    source.subscribe(events.append, completed.set_exception, lambda: completed.set_result(None))
    await completed
    return events


def trace(events: Iterable[AssistantEvent]) -> str:
    """The events in one line: `0<text` a start, `0+Hel` a delta, `0>` an end."""
    tokens = []
    event: Any
    for event in events:
        kind, _, part = event.type.partition("_")
        match part:
            case "start":
                tokens.append(f"{event.content_index}<{f'{event.name}#{event.id}' if kind == 'toolcall' else kind}")
            case "delta":
                tokens.append(f"{event.content_index}+{event.delta}")
            case "end":
                tokens.append(f"{event.content_index}>")
            case _:
                tokens.append(event.reason if kind == "done" else kind)
    return " ".join(tokens)


def text_of(events: Iterable[AssistantEvent]) -> str:
    return "".join(event.delta for event in events if isinstance(event, TextDelta))


def message_of(events: list[AssistantEvent]) -> AssistantMessage:
    end = events[-1]
    assert isinstance(end, Done | Error)
    return end.message if isinstance(end, Done) else end.error


def done(events: list[AssistantEvent]) -> Done:
    assert isinstance(events[-1], Done), events[-1]
    return events[-1]


def failed(events: list[AssistantEvent]) -> Error:
    assert isinstance(events[-1], Error), events[-1]
    return events[-1]


def check_grammar(events: list[AssistantEvent]) -> None:
    """Check the laws of every answer, whatever a provider sends. `start` is the source's, not the reader's."""
    assert events, "a stream without a terminal is a hang for its consumer"
    end = events[-1]
    assert isinstance(end, Done | Error)
    open_blocks: dict[int, str] = {}
    said: list[str] = []
    event: Any
    for event in events[:-1]:
        kind, _, part = event.type.partition("_")
        match part:
            case "start":
                assert event.content_index == len(said), "blocks are numbered in the order in which they open"
                open_blocks[event.content_index] = kind
                said.append("")
            case "delta":
                assert open_blocks[event.content_index] == kind
                assert event.delta, "an empty delta is no event"
                said[event.content_index] += event.delta
            case "end":
                assert open_blocks.pop(event.content_index) == kind
                content = event.tool_call.arguments_json if kind == "toolcall" else event.content
                assert content == said[event.content_index]
            case _:
                raise AssertionError(f"{event} comes last, and once")
    if isinstance(end, Done):
        assert not open_blocks, "every block is closed before done"
        assert end.reason == end.message.stop_reason
    else:
        assert end.reason == end.error.stop_reason == "error"
        assert end.error.error_message
    for text, block in zip(said, message_of(events).content, strict=True):
        whole = {"text": "text", "thinking": "thinking", "toolCall": "arguments_json"}[block.type]
        # Thinking that only `reasoning_details` bring has no deltas; nor have arguments that came whole, before an end.
        may_be_silent = isinstance(end, Error) or "reasoning_details" in block.extra
        assert text == getattr(block, whole) or (not text and may_be_silent)


KEY = StaticCredentials("a-static-key")

ANSWER = sse(*TEXT[ANTHROPIC], END[ANTHROPIC], name=True)


def messages(fake: FakeProvider, **options: Any) -> Observable[AssistantEvent]:
    return anthropic_messages(REQUEST, base_url=fake.url, credentials=Holder(fake.credential()), **options)


async def answered(*replies: Reply | None, **options: Any) -> list[AssistantEvent]:
    async with FakeProvider(replies=replies) as fake:
        return await collect(messages(fake, **options))


class Resolver(aiohttp.abc.AbstractResolver):
    """Name resolution that fails, when a test says so."""

    def __init__(self, *, at_once: bool) -> None:
        self.asked = asyncio.Event()
        self.fail = asyncio.Event()
        if at_once:
            self.fail.set()

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
        self.asked.set()
        await self.fail.wait()
        raise OSError(-2, "Name or service not known")

    async def close(self) -> None: ...


@asynccontextmanager
async def bare_server(reply: bytes, heads: list[bytes] | None = None) -> AsyncIterator[str]:
    """A server that answers every request with these bytes, and puts its head into `heads`; its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heads is not None:
            heads.append(head)
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
