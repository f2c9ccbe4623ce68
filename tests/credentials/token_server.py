"""A token endpoint on a thread of its own: it goes on when the loop that asks it ends."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from aiohttp import web

from rxauth.credentials import Credential

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TokenServer:
    """Rotates refresh tokens and knows when one is used twice. Use it inside `running()`.

    `answers` are given first, in order: a response's arguments, or a function that makes one. `gate` holds every answer
    back until it is set, after the server has rotated.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, str]] = []
        self.headers: list[Mapping[str, str]] = []
        self.reused: list[str] = []
        self.answers: list[Mapping[str, Any] | Callable[[], web.StreamResponse]] = []
        self.expires_in: Any = 900
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()
        self.valid: Credential | None = None
        self.revoked = False
        self._issued = 0
        self._spent: set[str] = set()

    def credential(self, **fields: Any) -> Credential:
        """A login: the server's valid credential from now on."""
        self.revoked = False
        self._issued += 1
        self.valid = Credential(f"access-{self._issued}", f"refresh-{self._issued}", **fields)
        return self.valid

    def rotate(self) -> Credential:
        """What another client of the same login gets."""
        assert self.valid is not None
        self._spent.add(self.valid.refresh_token or "")
        self._issued += 1
        self.valid = Credential(f"access-{self._issued}", f"refresh-{self._issued}", extra=self.valid.extra)
        return self.valid

    async def _token(self, request: web.Request) -> web.StreamResponse:
        fields = await (request.json() if request.content_type == "application/json" else request.post())
        form = {name: str(value) for name, value in fields.items()}
        self.requests.append(form)
        self.headers.append(dict(request.headers))
        response = self._answer(form)
        self.asked.set()
        while not self.gate.is_set():
            await asyncio.sleep(0.001)
        return response

    def _answer(self, form: Mapping[str, str]) -> web.StreamResponse:
        if self.answers:
            answer = self.answers.pop(0)
            return answer() if callable(answer) else web.Response(**answer)
        token = form.get("refresh_token", "")
        if token in self._spent:
            self.reused.append(token)
            self.revoked = True
        if self.revoked or self.valid is None or token != self.valid.refresh_token:
            return web.json_response({"error": "invalid_grant"}, status=400)
        renewed = self.rotate()
        body = {
            "access_token": renewed.access_token,
            "refresh_token": renewed.refresh_token,
            "token_type": "Bearer",
            "expires_in": self.expires_in,
        }
        return web.json_response({name: value for name, value in body.items() if value is not None})


@contextlib.contextmanager
def running(server: TokenServer) -> Iterator[TokenServer]:
    with serving({"/token": server._token}) as base:
        server.url = base + "/token"
        yield server
        server.gate.set()


@contextlib.contextmanager
def serving(handlers: Mapping[str, Handler], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve POST requests on loopback, from a thread; gives the base URL."""
    up = threading.Event()
    port: list[int] = []
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        app = web.Application(client_max_size=1 << 24)
        for path, handler in handlers.items():
            app.router.add_post(path, handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port.append(runner.addresses[0][1])
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))
        up.set()
        await ended.wait()
        await _turns()
        await runner.cleanup()
        await _turns()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="token-server")
    thread.start()
    up.wait()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port[0]}"
    finally:
        stop[0]()
        thread.join()


@contextlib.contextmanager
def serving_bytes(respond: Callable[[int], bytes]) -> Iterator[str]:
    """Read a request, send `respond(number)` as it is, hang up; gives the URL."""
    up = threading.Event()
    port: list[int] = []
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        number = -1

        answering: set[asyncio.Task[Any] | None] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal number
            number += 1
            answering.add(asyncio.current_task())
            with contextlib.suppress(OSError):
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(each[15:]) for each in head.split(b"\r\n") if each.lower().startswith(b"content-length:")
                )
                await reader.readexactly(length)
                writer.write(respond(number))
                await writer.drain()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        port.append(server.sockets[0].getsockname()[1])
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))
        up.set()
        await ended.wait()
        await _turns()
        server.close()
        await asyncio.gather(*(task for task in answering if task is not None))
        await _turns()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="byte-server")
    thread.start()
    up.wait()
    try:
        yield f"http://127.0.0.1:{port[0]}/token"
    finally:
        stop[0]()
        thread.join()


async def _turns() -> None:
    # A connection is accepted, and its socket closed, some turns of the loop after it came or close was called.
    for _ in range(100):
        await asyncio.sleep(0)
