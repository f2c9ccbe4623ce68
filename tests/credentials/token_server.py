"""A token endpoint on a thread of its own: it goes on when the loop that asks it ends."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from aiohttp import web

from rxauth.credentials import Credential

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Stop = Callable[[], Awaitable[object]]


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
        """Rotate the tokens, as for another client of the same login."""
        assert self.valid is not None
        self._spent.add(self.valid.refresh_token or "")
        self._issued += 1
        self.valid = Credential(f"access-{self._issued}", f"refresh-{self._issued}", extra=self.valid.extra)
        return self.valid

    @property
    def sent(self) -> list[str]:
        """The refresh tokens that came, in order."""
        return [form["refresh_token"] for form in self.requests]

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

    async def start() -> tuple[int, Stop]:
        app = web.Application(client_max_size=1 << 24)
        for path, handler in handlers.items():
            app.router.add_post(path, handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        return runner.addresses[0][1], runner.cleanup

    with _on_a_thread(start) as port:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"


@contextlib.contextmanager
def serving_bytes(respond: Callable[[int], bytes]) -> Iterator[str]:
    """Read a request, send `respond(number)` as it is, hang up; gives the URL."""
    numbers = itertools.count()
    answering: list[asyncio.Task[Any]] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        answering.append(task)
        with contextlib.suppress(OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = (each[15:] for each in head.split(b"\r\n") if each.lower().startswith(b"content-length:"))
            await reader.readexactly(int(next(lengths)))
            writer.write(respond(next(numbers)))
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def start() -> tuple[int, Stop]:
        server = await asyncio.start_server(connected, "127.0.0.1", 0)

        async def stop() -> None:
            server.close()
            await asyncio.gather(*answering)

        return server.sockets[0].getsockname()[1], stop

    with _on_a_thread(start) as port:
        yield f"http://127.0.0.1:{port}/token"


@contextlib.contextmanager
def _on_a_thread(start: Callable[[], Awaitable[tuple[int, Stop]]]) -> Iterator[int]:
    """Run a server on a thread with a loop of its own; gives its port."""
    begun: concurrent.futures.Future[tuple[int, Callable[[], object]]] = concurrent.futures.Future()

    async def serve() -> None:
        port, stop = await start()
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        begun.set_result((port, lambda: loop.call_soon_threadsafe(ended.set)))
        await ended.wait()
        await _turns()
        await stop()
        await _turns()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="token-server")
    thread.start()
    port, end = begun.result(10)
    try:
        yield port
    finally:
        end()
        thread.join()


async def _turns() -> None:
    # A connection is accepted, and its socket closed, some turns of the loop after it came or close was called.
    for _ in range(100):
        await asyncio.sleep(0)
