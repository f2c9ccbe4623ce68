"""HTTP servers on threads of their own: they go on when the loop that asks them ends."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias, TypeVar
from urllib.parse import parse_qsl

from rxauth.credentials import Credential

# `status`, `reason`, `headers`, `body`; or bytes, which are sent as they are before the connection is closed.
Answer: TypeAlias = Mapping[str, Any] | bytes

S = TypeVar("S", bound="Endpoint")


class Endpoint:
    """Reads forms and JSON objects, and answers as a subclass says. Use it inside `running()`.

    `gate` holds every answer back until it is set, after it was decided.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, str]] = []
        self.headers: list[Mapping[str, str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()
        self._mutex = threading.Lock()

    def respond(self, path: str, form: dict[str, str]) -> Answer:
        raise NotImplementedError

    def answer(self, path: str, headers: Mapping[str, str], body: str) -> Answer:
        form = json.loads(body) if headers["Content-Type"] == "application/json" else dict(parse_qsl(body))
        with self._mutex:
            self.requests.append(form)
            self.headers.append(headers)
            answer = self.respond(path, form)
        self.asked.set()
        self.gate.wait()
        return answer


class TokenServer(Endpoint):
    """Rotates refresh tokens and knows when one is used twice. `answers` are given first, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.reused: list[str] = []
        self.answers: list[Answer] = []
        self.expires_in: Any = 900
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

    def respond(self, path: str, form: dict[str, str]) -> Answer:
        if self.answers:
            return self.answers.pop(0)
        token = form.get("refresh_token", "")
        if token in self._spent:
            self.reused.append(token)
            self.revoked = True
        if self.revoked or self.valid is None or token != self.valid.refresh_token:
            return {"status": 400, "body": b'{"error": "invalid_grant"}'}
        renewed = self.rotate()
        body = {
            "access_token": renewed.access_token,
            "refresh_token": renewed.refresh_token,
            "token_type": "Bearer",
            "expires_in": self.expires_in,
        }
        return {"body": json.dumps({name: value for name, value in body.items() if value is not None}).encode()}


@contextlib.contextmanager
def running(server: S, tls: ssl.SSLContext | None = None) -> Iterator[S]:
    """Serve on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            answer = server.answer(self.path, dict(self.headers), body)
            if isinstance(answer, bytes):
                self.wfile.write(answer)
                return
            content = answer.get("body", b"")
            self.send_response(answer.get("status", 200), answer.get("reason"))
            for name, value in ({"Content-Length": str(len(content))} | dict(answer.get("headers", {}))).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # the client has gone

    with Server(("127.0.0.1", 0), Handler) as http:
        if tls is not None:
            http.socket = tls.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
        server.url = f"{'https' if tls else 'http'}://127.0.0.1:{http.server_port}/token"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.005}, name="token-server")
        thread.start()
        try:
            yield server
        finally:
            server.gate.set()
            http.shutdown()
            thread.join()
