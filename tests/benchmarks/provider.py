"""A provider in a process of its own that costs its clients nothing: every answer is rendered beforehand.

    /{events}/{per chunk}/{delay}/v1/messages           so many text deltas, so many events in one HTTP chunk
    /{events}/{per chunk}/{delay}/v1/chat/completions   the same for Chat Completions
    /first/1/0/v1/messages                              an opening; 3 ms later the first live event, with its time
    /oauth/token/{delay}                                a token that is accepted
    /oauth/count                                        how many were asked for since it was last looked at

A delay is in milliseconds. The bearer token `stale` gets a 401.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from rxauth.testing import anthropic_events, openai_chunks

STALE, FRESH = "stale", "fresh"
ROOT = Path(__file__).parents[2]


@contextmanager
def provider() -> Iterator[Provider]:
    """Run the process."""
    command = [sys.executable, "-m", "tests.benchmarks.provider"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Provider(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.communicate()


class Provider:
    """Its addresses."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.token_url = self.token_url_after(0)
        self.stamped = f"{url}/first/1/0"

    def answers(self, events: int, per_chunk: int = 1, delay: int = 0) -> str:
        return f"{self.url}/{events}/{per_chunk}/{delay}"

    def token_url_after(self, delay: int) -> str:
        return f"{self.url}/oauth/token/{delay}"

    def token_requests(self) -> int:
        with urllib.request.urlopen(f"{self.url}/oauth/count") as response:
            return int(response.read())


def many_files() -> None:
    """Allow as many descriptors as thousands of connections need."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# Its answers ----------------------------------------------------------------------------------------------------------

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


def _sse(event: Mapping[str, Any] | str) -> bytes:
    if isinstance(event, str):
        return event.encode()
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


def _chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


def _messages(text: str) -> tuple[bytes, bytes, bytes, bytes]:
    message_start, block, _ping, delta, *ending = map(_sse, anthropic_events(text))
    return message_start, block, delta, b"".join(ending)


@cache
def _answer(protocol: str, events: int, per_chunk: int) -> bytes:
    if protocol == "messages":
        start, block, delta, ending = _messages(" word")
        opening = start + block
    else:
        opening, delta, *last = map(_sse, openai_chunks(" word"))
        ending = b"".join(last)
    whole, rest = divmod(events, per_chunk)
    chunks = _chunked(delta * per_chunk) * whole + (_chunked(delta * rest) if rest else b"")
    return _HEAD + _chunked(opening) + chunks + _chunked(ending) + b"0\r\n\r\n"


def _json(status: str, body: object) -> bytes:
    data = json.dumps(body)
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return f"{head}{data}".encode()


_ERROR = {"type": "authentication_error", "message": "The token is invalid or has expired."}
_REJECTED = _json("401 Unauthorized", {"type": "error", "error": _ERROR})
_GRANTED = _json("200 OK", {"access_token": FRESH, "refresh_token": "next", "expires_in": 900, "token_type": "Bearer"})

_token_requests = 0


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            path = head.split(b" ", 2)[1].decode().split("/")[1:]
            _, _, length = head.partition(b"content-length: ")
            if length:
                await reader.readexactly(int(length.partition(b"\r\n")[0]))
            await _respond(writer, path, rejected=f"bearer {STALE}\r\n".encode() in head)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _respond(writer: asyncio.StreamWriter, path: list[str], *, rejected: bool) -> None:
    global _token_requests
    if len(path) > 2 and (delay := int(path[2])):
        await asyncio.sleep(delay / 1000)
    if path[:2] == ["oauth", "token"]:
        _token_requests += 1
        writer.write(_GRANTED)
    elif path == ["oauth", "count"]:
        writer.write(_json("200 OK", _token_requests))
        _token_requests = 0
    elif rejected:
        writer.write(_REJECTED)
    elif path[0] == "first":
        start, block, _, _ = _messages("")
        writer.write(_HEAD + _chunked(start))
        await asyncio.sleep(0.003)
        _, _, live, ending = _messages(str(time.monotonic_ns()))
        writer.write(_chunked(block + live))
        writer.write(_chunked(ending) + b"0\r\n\r\n")
    else:
        writer.write(_answer(path[-1], int(path[0]), int(path[1])))
    await writer.drain()


async def _serve() -> None:
    many_files()
    # The default backlog makes thousands of simultaneous clients wait for their SYN to be repeated.
    server = await asyncio.start_server(_converse, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until the parent process is gone


if __name__ == "__main__":
    asyncio.run(_serve())
