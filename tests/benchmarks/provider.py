"""A provider in a process of its own that costs its clients nothing: every answer is rendered beforehand.

    /{events}/{per chunk}/v1/messages           so many text deltas, so many events in one HTTP chunk
    /{events}/{per chunk}/v1/chat/completions   the same for Chat Completions
    /first/1/v1/messages                        an opening; 3 ms later the first live event, with its time
    /oauth/token                                a token that is accepted
    /oauth/count                                how many were asked for since it was last looked at

The bearer token `stale` gets a 401.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

STALE, FRESH = "stale", "fresh"

_ROOT = Path(__file__).parents[2]
_EVENT_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@contextmanager
def provider() -> Iterator[Provider]:
    """The process, running."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.provider"],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Provider(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.communicate()


class Provider:
    """Where it is."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.token_url = f"{url}/oauth/token"

    def answers(self, events: int, *, per_chunk: int = 1) -> str:
        return f"{self.url}/{events}/{per_chunk}"

    @property
    def stamped(self) -> str:
        return f"{self.url}/first/1"

    def token_requests(self) -> int:
        with urllib.request.urlopen(f"{self.url}/oauth/count") as response:
            return int(response.read())


def many_files() -> None:
    """Thousands of connections need as many descriptors."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# What it answers -----------------------------------------------------------------------------------------------------


def _event(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


_OPENING = _event(
    {
        "type": "message_start",
        "message": {
            "id": "msg_01",
            "type": "message",
            "role": "assistant",
            "model": "any",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 1},
        },
    }
)
_BLOCK = _event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
_ENDING = (
    _event({"type": "content_block_stop", "index": 0})
    + _event(
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 99},
        }
    )
    + _event({"type": "message_stop"})
)


def messages_delta(text: str) -> bytes:
    return _event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})


def _completion(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    fixed = {"id": "chatcmpl-01", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "any"}
    return f"data: {json.dumps({**fixed, 'system_fingerprint': 'fp_01', 'choices': [choice]})}\n\n".encode()


def _chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


@cache
def _answer(protocol: str, events: int, per_chunk: int) -> bytes:
    if protocol == "messages":
        opening, delta, ending = _OPENING + _BLOCK, messages_delta(" word"), _ENDING
    else:
        opening = _completion({"role": "assistant", "content": ""})
        delta, ending = _completion({"content": " word"}), _completion({}, "stop") + b"data: [DONE]\n\n"
    whole, rest = divmod(events, per_chunk)
    chunks = _chunked(delta * per_chunk) * whole
    if rest:
        chunks += _chunked(delta * rest)
    return _EVENT_STREAM + _chunked(opening) + chunks + _chunked(ending) + b"0\r\n\r\n"


def _json(status: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        status.encode(),
        len(data),
        data,
    )


_REJECTED = _json(
    "401 Unauthorized",
    {"type": "error", "error": {"type": "authentication_error", "message": "The token is invalid or has expired."}},
)
_GRANTED = _json(
    "200 OK",
    {"access_token": FRESH, "refresh_token": "next", "expires_in": 900, "token_type": "Bearer"},
)

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
    if path == ["oauth", "token"]:
        _token_requests += 1
        writer.write(_GRANTED)
    elif path == ["oauth", "count"]:
        writer.write(_json("200 OK", _token_requests))
        _token_requests = 0
    elif rejected:
        writer.write(_REJECTED)
    elif path[0] == "first":
        writer.write(_EVENT_STREAM + _chunked(_OPENING))
        await asyncio.sleep(0.003)
        writer.write(_chunked(_BLOCK + messages_delta(str(time.monotonic_ns()))))
        writer.write(_chunked(_ENDING) + b"0\r\n\r\n")
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
