"""A server that refuses a token as some provider does, and streams that provider's bytes for the next one."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

STALE, FRESH = "stale-token", "fresh-token"


@dataclass(frozen=True)
class Answer:
    """A response: its status, content type, and body."""

    body: bytes
    status: int = 200
    content_type: str = "text/event-stream"
    headers: Mapping[str, str] = field(default_factory=dict)


def refused(status: int, body: Any, **headers: str) -> Answer:
    """Return a refusal with a JSON body."""
    return Answer(json.dumps(body).encode(), status, "application/json", headers)


def sse(*objects: Any, done: bool = False) -> Answer:
    """Return the objects as server-sent events; with `done`, OpenAI's `[DONE]` behind them."""
    lines = [f"data: {json.dumps(each)}\n\n" for each in objects]
    return Answer("".join([*lines, "data: [DONE]\n\n" if done else ""]).encode())


def ndjson(*objects: Any) -> Answer:
    """Return the objects as lines of JSON."""
    return Answer("".join(json.dumps(each) + "\n" for each in objects).encode(), content_type="application/x-ndjson")


def aws_event_stream(events: Iterable[tuple[str, Any]]) -> Answer:
    """Return the events in AWS' binary framing: lengths, a checksum, headers, the JSON payload, a checksum."""
    body = b""
    for name, payload in events:
        headers = b""
        texts = {":message-type": "event", ":event-type": name, ":content-type": "application/json"}
        for key, value in texts.items():
            headers += struct.pack("!B", len(key)) + key.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        data = json.dumps(payload).encode()
        prelude = struct.pack("!II", 16 + len(headers) + len(data), len(headers))
        message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + data
        body += message + struct.pack("!I", zlib.crc32(message))
    return Answer(body, content_type="application/vnd.amazon.eventstream")


class ForeignServer:
    """The server; it looks for the fresh token in every header and in the address of a request."""

    def __init__(self, refusal: Answer, answer: Answer) -> None:
        self.refusal = refusal
        self.answer = answer
        self.url = ""
        self.accepted: list[bool] = []

    async def handle(self, request: web.BaseRequest) -> web.Response:
        await request.read()
        accepted = any(FRESH in each for each in (*request.headers.values(), str(request.rel_url)))
        self.accepted.append(accepted)
        chosen = self.answer if accepted else self.refusal
        headers = {"Content-Type": chosen.content_type, **chosen.headers}
        return web.Response(status=chosen.status, body=chosen.body, headers=headers)


@asynccontextmanager
async def foreign_server(refusal: Answer, answer: Answer) -> AsyncIterator[ForeignServer]:
    """Run one on loopback."""
    server = ForeignServer(refusal, answer)
    runner = web.ServerRunner(web.Server(server.handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
