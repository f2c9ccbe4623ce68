"""A provider and its authorization server on loopback, scripted per request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web

from rxauth.credentials import Credential
from rxauth.testing._bodies import Outgoing, error_body, json_body, message_of, scripted_body, shaped_body
from rxauth.testing._fake_oauth import FakeOAuth, OAuthError
from rxauth.testing._replies import Answer, Reply, encoded
from rxauth.testing._requests import SeenRequest
from rxauth.testing._responses import OPENAI_RESPONSES
from rxauth.testing._server import LoopThread, Server, send
from rxauth.testing._signal import Signal
from rxauth.testing._wires import ANTHROPIC, ERROR_TYPES, OPENAI_CHAT, Wire, speech

_TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path
_DEVICE_PATH = "/oauth/device_authorization"
_PAGE_PATH = "/device"
_WIRES = (ANTHROPIC, OPENAI_CHAT, OPENAI_RESPONSES)


class FakeProvider:
    """Serve real HTTP on 127.0.0.1 as a provider does, scripted per request.

    It answers `POST .../v1/messages` (Anthropic Messages), `POST .../chat/completions` (OpenAI Chat Completions) and
    `POST .../responses` (OpenAI Responses), as server-sent events or, without `"stream": true`, as one JSON object; a
    token endpoint (RFC 6749) with rotating refresh tokens and reuse detection; a device authorization endpoint
    (RFC 8628). A request without a live token gets a 401 and uses up no reply; every other one takes the next of
    `replies`, and the usual answer when there are none left. A `Reply` can break the protocol as real
    servers do: errors in eighteen shapes, tool calls in eleven numberings, whole answers, pings, cuts.

    Use it with `async with`, in the event loop of the test, or with `with`, on a thread of its own.

    Args:
        answer: what the assistant says: a text, or content blocks (`Text`, `Thinking`, `ToolCall` of `rxauth.events`).
        replies: what to do with API requests, one after the other; `None` is the usual answer. Any iterable, also an
            endless one.
        token_replies: the same for the token endpoint. A reply without a body of its own and with a success status is
            the true token response: a token that was rotated stays rotated, however the response is cut.
        device_replies: the same for the device authorization endpoint.
        expires_in: seconds that access tokens live; `None`: for ever, and the token response does not say.
        rotate: whether a refresh spends the refresh token and returns another. Otherwise the response has none.
        interval: seconds between two polls of a device login, on the event loop's clock; `None`: 5, and not spoken.
        client_id: of the OAuth client.
        client_secret: of the OAuth client; `None` for a public one.
        api_keys: more tokens that are accepted, and never die.
        extra: more fields of every token response, e.g. `account_id`.
        latency: seconds before every response, on the server's event loop's clock: how far away it is.
        clock: Unix time in seconds, for the life of access tokens.
        port: 0 for one that the system chooses.

    >>> import asyncio, aiohttp
    >>> async def main():
    ...     provider = FakeProvider(answer="Hi", replies=[Reply(status=503)])
    ...     async with provider as fake, aiohttp.ClientSession() as session:
    ...         headers = {"Authorization": f"Bearer {fake.credential().access_token}"}
    ...         for _ in range(2):
    ...             request = {"model": "any", "stream": True, "messages": []}
    ...             async with session.post(fake.url + "/v1/messages", json=request, headers=headers) as response:
    ...                 print(response.status, (await response.text()).splitlines()[0][:40])
    ...         return fake.requests
    >>> asyncio.run(main())
    503 {"type":"error","error":{"type":"api_err
    200 event: message_start
    [SeenRequest(POST /v1/messages, 503), SeenRequest(POST /v1/messages, 200)]
    """

    def __init__(
        self,
        *,
        answer: Answer = "Hello, world.",
        replies: Iterable[Reply | None] = (),
        token_replies: Iterable[Reply | None] = (),
        device_replies: Iterable[Reply | None] = (),
        expires_in: float | None = 900,
        rotate: bool = True,
        interval: float | None = 5,
        client_id: str = "fake-client",
        client_secret: str | None = None,
        api_keys: Collection[str] = (),
        extra: Mapping[str, Any] | None = None,
        latency: float = 0.0,
        clock: Callable[[], float] = time.time,
        port: int = 0,
    ) -> None:
        if not latency >= 0:
            raise ValueError(f"latency is {latency!r}; it is a number of seconds, 0 or more.")
        self._latency = latency
        self._answer = answer
        self._replies = _script("replies", replies)
        self._token_replies = _script("token_replies", token_replies)
        self._device_replies = _script("device_replies", device_replies)
        self._oauth = FakeOAuth(
            client_id=client_id,
            client_secret=client_secret,
            expires_in=expires_in,
            rotate=rotate,
            interval=interval,
            extra=dict(extra or {}),
            clock=clock,
        )
        self._api_keys = frozenset(api_keys)
        self._port = port
        self._url: str | None = None
        self._requests: list[SeenRequest] = []
        self._changed = Signal()
        self._connections = 0
        self._handlers: set[asyncio.Task[Any]] = set()
        self._running = AsyncExitStack()
        self._thread: LoopThread | None = None

    # Addresses and tokens.

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`: the base URL for Anthropic's format; with `/v1` appended for OpenAI's."""
        if self._url is None:
            raise RuntimeError("The provider has no address before it is entered: use `async with` or `with`.")
        return self._url

    @property
    def token_url(self) -> str:
        """The token endpoint."""
        return self.url + _TOKEN_PATH

    @property
    def device_url(self) -> str:
        """The device authorization endpoint."""
        return self.url + _DEVICE_PATH

    @property
    def client_id(self) -> str:
        """Of the OAuth client."""
        return self._oauth.client_id

    @property
    def client_secret(self) -> str | None:
        """Of the OAuth client; `None` for a public one."""
        return self._oauth.client_secret

    def credential(self, *, scope: str | None = None) -> Credential:
        """A fresh, valid credential, as a new login leaves it."""
        return self._oauth.credential(scope)

    def accepts(self, token: str | None) -> bool:
        """Whether an API request with this token would be let in now."""
        return token in self._api_keys or self._oauth.accepts(token)

    def invalidate(self) -> None:
        """Every access token issued so far is dead, although the client's clock says otherwise."""
        self._oauth.invalidate()

    def revoke(self) -> None:
        """Every login so far is over: its refresh token is dead too."""
        self._oauth.revoke()

    def approve(self, user_code: str | None = None) -> None:
        """Approve the device login with this code, or to all that wait.

        Raises:
            LookupError: none is waiting.
        """
        self._oauth.decide(user_code, "approved")

    def deny(self, user_code: str | None = None) -> None:
        """Deny the device login with this code, or to all that wait.

        Raises:
            LookupError: none is waiting.
        """
        self._oauth.decide(user_code, "denied")

    def expire_devices(self) -> None:
        """The time of every device login that waits is up."""
        self._oauth.expire_devices()

    # Requests.

    @property
    def requests(self) -> list[SeenRequest]:
        """Every request so far, in the order they came."""
        return list(self._requests)

    @property
    def api_requests(self) -> list[SeenRequest]:
        """Those for an answer."""
        return [each for each in self._requests if _wire(each.path) is not None]

    @property
    def token_requests(self) -> list[SeenRequest]:
        """Those to the token endpoint."""
        return [each for each in self._requests if each.path.endswith(_TOKEN_PATH)]

    @property
    def device_requests(self) -> list[SeenRequest]:
        """Those to the device authorization endpoint."""
        return [each for each in self._requests if each.path.endswith(_DEVICE_PATH)]

    @property
    def open_connections(self) -> int:
        """TCP connections that are open now, idle ones included."""
        return self._connections

    async def until(self, condition: Callable[[FakeProvider], bool]) -> None:
        """Return as soon as `condition(self)` is true. It is looked at whenever something happens here.

        `await fake.until(lambda fake: fake.open_connections == 0)`
        """
        await self._changed.until(lambda: condition(self))

    async def seen(self, count: int = 1) -> None:
        """Return as soon as `count` requests have come in."""
        await self.until(lambda fake: len(fake._requests) >= count)

    async def served(self, count: int = 1) -> None:
        """Return as soon as the server is done with `count` requests: answered, cut, or left by the client."""
        await self.until(lambda fake: sum(each.finished for each in fake._requests) >= count)

    async def __aenter__(self) -> Self:
        if self._url is not None:
            raise RuntimeError("The provider is running already.")
        runner = web.ServerRunner(Server(self._handle, self._count), shutdown_timeout=5)
        await runner.setup()
        # The default backlog makes thousands of simultaneous clients wait a second for their SYN to be repeated.
        site = web.TCPSite(runner, "127.0.0.1", self._port, backlog=4096)
        await site.start()
        stack = AsyncExitStack()
        stack.push_async_callback(runner.cleanup)
        stack.push_async_callback(self._abandon)
        stack.push_async_callback(site.stop)
        self._url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._running = stack
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._url = None
        await self._running.aclose()

    def __enter__(self) -> Self:
        thread = LoopThread()
        try:
            thread.run(self.__aenter__)
        except BaseException:
            thread.stop()
            raise
        self._thread = thread
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            try:
                thread.run(self.__aexit__)
            finally:
                thread.stop()

    def __repr__(self) -> str:
        return f"FakeProvider({self._url or 'not running'}, {len(self._requests)} requests)"

    async def _abandon(self) -> None:
        """A response that hangs must not keep the server from ending."""
        for handler in self._handlers:
            handler.cancel()

    def _count(self, change: int) -> None:
        self._connections += change
        self._changed.notify()

    # Answering.

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        if task is not None:
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)
        body = await request.read()
        seen = SeenRequest(
            number=len(self._requests) + 1,
            method=request.method,
            path=request.path,
            query=request.query_string,
            headers=request.headers,
            body=body,
            at=asyncio.get_running_loop().time(),
        )
        self._requests.append(seen)
        self._changed.notify()
        try:
            if self._latency:
                await asyncio.sleep(self._latency)
            return await self._respond(request, seen)
        except asyncio.CancelledError:
            # By the end of the connection or of the server; only the first is the client's doing.
            seen.client_closed = self._url is not None
            raise
        except ConnectionError:
            seen.client_closed = self._url is not None
            return web.Response()  # the client has left; without a response aiohttp logs a traceback
        finally:
            seen.finished = True
            self._changed.notify()

    async def _respond(self, request: web.BaseRequest, seen: SeenRequest) -> web.StreamResponse:
        wire = _wire(seen.path)
        if wire is not None:
            reply, pieces = self._api(wire, seen)
            headers = {wire.request_id: f"req_{seen.number:06}"}
        elif seen.path.endswith(_TOKEN_PATH):
            reply, pieces = self._grant(seen, self._token_replies, self._oauth.token)
            # RFC 6749 section 5.1: a cache must not keep tokens.
            headers = {"Cache-Control": "no-store", "Pragma": "no-cache"}
        elif seen.path.endswith(_DEVICE_PATH):
            reply, pieces = self._grant(seen, self._device_replies, self._start_device_login)
            headers = {"Cache-Control": "no-store"}
        elif seen.path == _PAGE_PATH:
            reply, headers = Reply.html("<!doctype html><title>Device login</title>Enter the code."), {}
            pieces = scripted_body(reply, seen)
        else:
            reply, headers = Reply(status=404), {}
            pieces = json_body(ANTHROPIC.error(*ERROR_TYPES[404]))
        return await send(request, seen, reply, pieces, headers)

    def _api(self, wire: Wire, seen: SeenRequest) -> tuple[Reply, Outgoing]:
        if seen.method != "POST":
            return Reply(status=405, headers={"Allow": "POST"}), json_body(wire.error(*ERROR_TYPES[405]))
        if not self.accepts(seen.token):
            return Reply(status=401), json_body(wire.error(*ERROR_TYPES[401]))
        try:
            payload = seen.json()
        except msgspec.DecodeError:
            payload = None
        if not isinstance(payload, Mapping):
            return Reply(status=400), json_body(wire.error("invalid_request_error", "The body is not a JSON object."))
        reply = next(self._replies, None) or Reply()
        if reply.body is not None:
            return reply, scripted_body(reply, seen)
        if not reply.answers:
            return reply, error_body(reply, wire)
        answer = self._answer if reply.answer is None else reply.answer
        spoken = replace(speech(answer, reply.stop, payload, seen.number), numbering=reply.numbering)
        if reply.whole or not payload.get("stream"):
            is_error = reply.error is not None
            return reply, json_body(
                wire.error(reply.error or "", message_of(reply)) if is_error else wire.whole(spoken)
            )
        events = wire.stream(spoken)
        if reply.error is not None:
            before = events[: 1 if reply.error_after is None else reply.error_after]
            shaped = shaped_body(reply) if reply.shape is not None else None
            events = [*before, shaped or wire.in_band(reply.error, message_of(reply), len(before))]
        return reply, Outgoing(list(encoded(events)), "text/event-stream; charset=utf-8", length=False)

    def _grant(
        self,
        seen: SeenRequest,
        script: Iterator[Reply | None],
        grant: Callable[[Mapping[str, list[str]], str | None, float], dict[str, Any]],
    ) -> tuple[Reply, Outgoing]:
        """Respond as an OAuth endpoint. A grant stays, however its response is lost."""
        reply = next(script, None) or Reply()
        if reply.body is not None:
            return reply, scripted_body(reply, seen, "application/json")
        if reply.error is not None or not reply.answers:
            error = reply.error or {400: "invalid_grant", 401: "invalid_client"}.get(reply.status, "server_error")
            return reply, json_body({"error": error, "error_description": message_of(reply)})
        try:
            if seen.method != "POST":
                raise OAuthError("invalid_request", "Only POST is allowed here.", status=405)  # noqa: TRY301
            return reply, json_body(grant(seen.form(), seen.headers.get("Authorization"), seen.at))
        except OAuthError as error:
            headers = {"WWW-Authenticate": 'Basic realm="fake"'} if error.status == 401 else {}
            # The delays and cuts of the reply hold for a refusal as well.
            return replace(reply, status=error.status, headers=headers | dict(reply.headers)), json_body(error.body)

    def _start_device_login(
        self, form: Mapping[str, list[str]], authorization: str | None, now: float
    ) -> dict[str, Any]:
        return self._oauth.device(form, authorization, now, self.url + _PAGE_PATH)


def _wire(path: str) -> Wire | None:
    return next((wire for wire in _WIRES if path.endswith(wire.path)), None)


def _script(name: str, replies: Iterable[Reply | None]) -> Iterator[Reply | None]:
    if isinstance(replies, Sequence) and not all(each is None or isinstance(each, Reply) for each in replies):
        raise TypeError(f"{name} consists of Reply, and None for the usual answer.")
    return iter(replies)
