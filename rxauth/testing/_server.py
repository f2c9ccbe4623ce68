"""Send scripted responses over real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from rxauth.testing._bodies import EVENTS, Outgoing, writes
from rxauth.testing._replies import Pause, Reply
from rxauth.testing._requests import SeenRequest

# A client in the same event loop needs some turns to take a write; without them several arrive as one and a test of
# split input tests nothing.
_TURNS = 6


async def send(
    request: web.BaseRequest, seen: SeenRequest, reply: Reply, body: Outgoing, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Send one response as its reply says."""
    await asyncio.sleep(reply.delay)
    if reply.hold is not None and reply.hold_after == "head":
        await reply.hold.hold()
    if "head" in (reply.cut_at, reply.reset_at):
        _end(request, reply)
        return web.Response()
    response = web.StreamResponse(status=reply.status, headers=CIMultiDict(headers))
    if body.content_type is not None:
        response.headers["Content-Type"] = body.content_type
    response.headers.update(reply.headers)
    if "Content-Length" not in response.headers:
        if body.content_type == EVENTS:
            response.enable_chunked_encoding()
        else:
            response.content_length = sum(len(piece) for piece in body.pieces if isinstance(piece, bytes))
    await response.prepare(request)
    seen.status = reply.status
    pause = 0.0
    for step in writes(body.pieces, reply):
        if isinstance(step, bytes):
            await asyncio.sleep(pause)
            pause = reply.pause
            await response.write(step)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        elif isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        else:
            await step.hold()
    if reply.cut_at is None and reply.reset_at is None:
        await response.write_eof()
    else:
        _end(request, reply)
    return response


def _end(request: web.BaseRequest, reply: Reply) -> None:
    transport = request.transport
    if transport is None:
        return
    if reply.reset_at is None:
        transport.close()
        return
    # With a linger time of zero, closing a socket sends RST.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Server(web.Server):
    """Count connections, and cancel the handler of one that is closed."""

    def __init__(self, handler: Callable[[web.BaseRequest], Any], count: Callable[[int], None]) -> None:
        super().__init__(handler, handler_cancellation=True, access_log=None)
        self._count = count

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._count(1)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._count(-1)


@contextmanager
def loop_on_a_thread() -> Iterator[Callable[[Coroutine[Any, Any, Any]], None]]:
    """Run an event loop on a thread of its own; give a function that runs a coroutine there to its end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="rxauth-fake-provider", daemon=True)
    thread.start()
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
