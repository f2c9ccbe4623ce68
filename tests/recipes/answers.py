"""A server that refuses a token as some provider does, and answers with that provider's bytes to the next one."""

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
    """A response: its body, status, content type and headers."""

    body: bytes
    status: int = 200
    content_type: str = "text/event-stream"
    headers: Mapping[str, str] = field(default_factory=dict)


def refused(status: int, body: Any, **headers: str) -> Answer:
    return Answer(json.dumps(body).encode(), status, "application/json", headers)


def sse(*events: Any) -> Answer:
    return Answer("".join(each if isinstance(each, str) else _framed(each) for each in events).encode())


def _framed(event: Mapping[str, Any]) -> str:
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n"


def ndjson(*objects: Any) -> Answer:
    return Answer("".join(json.dumps(each) + "\n" for each in objects).encode(), content_type="application/x-ndjson")


def aws_event_stream(events: Iterable[tuple[str, Any]]) -> Answer:
    """AWS' binary framing: lengths, a checksum, headers, the JSON payload, a checksum."""
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


@asynccontextmanager
async def serving(refusal: Answer, answer: Answer) -> AsyncIterator[tuple[str, list[bool]]]:
    """Look for the fresh token in every header and in the address; yield the URL, and whether each request had it."""
    accepted: list[bool] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        await request.read()
        accepted.append(any(FRESH in each for each in (*request.headers.values(), str(request.rel_url))))
        chosen = answer if accepted[-1] else refusal
        headers = {"Content-Type": chosen.content_type, **chosen.headers}
        return web.Response(status=chosen.status, body=chosen.body, headers=headers)

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", accepted
    finally:
        await runner.cleanup()
