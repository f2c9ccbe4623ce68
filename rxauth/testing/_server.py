"""Send scripted responses over real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from rxauth.testing._bodies import Outgoing
from rxauth.testing._replies import End, Pause, Reply, writes
from rxauth.testing._requests import SeenRequest
from rxauth.testing._signal import Gate

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
        _end(request, End.CUT if reply.reset_at is None else End.RESET)
        return web.Response()
    sent = CIMultiDict(headers)
    if body.content_type is not None:
        sent["Content-Type"] = body.content_type
    for name, value in reply.headers.items():
        sent[name] = value
    response = web.StreamResponse(status=reply.status, headers=sent)
    if "Content-Length" not in sent:
        if body.length:
            response.content_length = sum(len(piece) for piece in body.pieces if isinstance(piece, bytes))
        else:
            response.enable_chunked_encoding()
    await response.prepare(request)
    seen.status = reply.status
    for step in writes(body.pieces, reply):
        match step:
            case bytes():
                await response.write(step)
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
            case Pause():
                await asyncio.sleep(step.seconds)
            case Gate():
                await step.hold()
            case End():
                _end(request, step)
                return response
    await response.write_eof()
    return response


def _end(request: web.BaseRequest, end: End) -> None:
    transport = request.transport
    if transport is None:
        return
    if end is End.CUT:
        transport.close()
        return
    # With a linger time of zero, closing a socket sends RST.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Server(web.Server):
    """Count connections, and cancel the handler of one that is closed."""

    def __init__(self, handler: Callable[[web.BaseRequest], Any], count: Callable[[int], None]) -> None:
        super().__init__(handler, request_factory=self._request, handler_cancellation=True, access_log=None)
        self._count = count

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=2**30)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._count(1)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._count(-1)


class LoopThread:
    """Run an event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rxauth-fake-provider", daemon=True)
        self._thread.start()

    def run(self, function: Callable[[], Any]) -> None:
        """Run a coroutine function there, to its end."""

        async def call() -> None:
            await function()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def stop(self) -> None:
        """End the loop and the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
