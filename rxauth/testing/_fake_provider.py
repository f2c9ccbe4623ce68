"""A provider and its authorization server on loopback, scripted per request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, replace
from typing import Any, Self

import msgspec
from aiohttp import web

from rxauth.testing._authorization import AuthorizationServer, OAuthError
from rxauth.testing._bodies import Outgoing, answer_body, error_of, json_body, scripted_body
from rxauth.testing._gate import Signal
from rxauth.testing._replies import Reply
from rxauth.testing._requests import Headers, SeenRequest
from rxauth.testing._responses import OPENAI_RESPONSES
from rxauth.testing._server import Server, loop_on_a_thread, send
from rxauth.testing._wires import ANTHROPIC, OPENAI_CHAT, Answer, Wire

_TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path
_DEVICE_PATH = "/oauth/device_authorization"
_WIRES = (ANTHROPIC, OPENAI_CHAT, OPENAI_RESPONSES)


@dataclass(kw_only=True, eq=False, repr=False)
class FakeProvider(AuthorizationServer):
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

    >>> with FakeProvider(answer="Hi", replies=[Reply(status=503)]) as fake:
    ...     fake
    FakeProvider(http://127.0.0.1:..., 0 requests)
    """

    answer: Answer = "Hello, world."
    replies: Iterable[Reply | None] = ()
    token_replies: Iterable[Reply | None] = ()
    device_replies: Iterable[Reply | None] = ()
    latency: float = 0.0
    port: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.latency >= 0:
            raise ValueError(f"latency is {self.latency!r}; it is a number of seconds, 0 or more.")
        self._replies = _script("replies", self.replies)
        self._token_replies = _script("token_replies", self.token_replies)
        self._device_replies = _script("device_replies", self.device_replies)
        self._url: str | None = None
        self._requests: list[SeenRequest] = []
        self._changed = Signal()
        self._connections = 0
        self._handlers: set[asyncio.Task[Any]] = set()
        self._running = AsyncExitStack()
        self._thread = ExitStack()

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
        async with AsyncExitStack() as stack:
            runner = web.ServerRunner(Server(self._handle, self._count), shutdown_timeout=5)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            stack.callback(self._abandon)
            # The default backlog makes thousands of simultaneous clients wait a second for their SYN to be repeated.
            site = web.TCPSite(runner, "127.0.0.1", self.port, backlog=4096)
            await site.start()
            stack.push_async_callback(site.stop)
            self._url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._running = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._url = None
        await self._running.aclose()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            run = stack.enter_context(loop_on_a_thread())
            run(self.__aenter__())
            stack.callback(lambda: run(self.__aexit__()))
            self._thread = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.close()

    def __repr__(self) -> str:
        return f"FakeProvider({self._url or 'not running'}, {len(self._requests)} requests)"

    def _abandon(self) -> None:
        """Cancel the responses that hang, which would keep the server from ending."""
        for handler in self._handlers:
            handler.cancel()

    def _count(self, change: int) -> None:
        self._connections += change
        self._changed.notify()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        if task is not None:
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)
        body = await request.content.read()
        seen = SeenRequest(
            number=len(self._requests) + 1,
            method=request.method,
            path=request.path,
            query=request.query_string,
            headers=Headers(request.headers),
            body=body,
            at=asyncio.get_running_loop().time(),
        )
        self._requests.append(seen)
        self._changed.notify()
        try:
            if self.latency:
                await asyncio.sleep(self.latency)
            return await send(request, seen, *self._answered(seen))
        except (asyncio.CancelledError, ConnectionError) as error:
            # When the server ends, that is not the client's doing.
            seen.client_closed = self._url is not None
            if isinstance(error, ConnectionError):
                return web.Response()  # without one aiohttp logs a traceback
            raise
        finally:
            seen.finished = True
            self._changed.notify()

    def _answered(self, seen: SeenRequest) -> tuple[Reply, Outgoing, Mapping[str, str]]:
        # RFC 6749 section 5.1: a cache must not keep tokens.
        no_store = {"Cache-Control": "no-store", "Pragma": "no-cache"}
        wire = _wire(seen.path)
        if wire is not None:
            reply = self._api_reply(seen)
            return reply, answer_body(reply, wire, seen, self.answer), {wire.request_id: f"req_{seen.number:06}"}
        if seen.path.endswith(_TOKEN_PATH):
            return *self._granted(seen, self._token_replies, self._grant_token), no_store
        if seen.path.endswith(_DEVICE_PATH):
            return *self._granted(seen, self._device_replies, self._start_device_login), no_store
        found = seen.path == "/device"
        reply = Reply.html("<!doctype html><title>Device login</title>Enter the code.") if found else Reply(status=404)
        return reply, answer_body(reply, ANTHROPIC, seen, ""), {}

    def _api_reply(self, seen: SeenRequest) -> Reply:
        if seen.method != "POST":
            return Reply(status=405, headers={"Allow": "POST"})
        if not self.accepts(seen.token):
            return Reply(status=401)
        try:
            is_object = isinstance(seen.json(), Mapping)
        except msgspec.DecodeError:
            is_object = False
        if not is_object:
            return Reply(status=400, message="The body is not a JSON object.")
        return next(self._replies, None) or Reply()

    def _granted(
        self, seen: SeenRequest, script: Iterator[Reply | None], grant: Callable[[SeenRequest], dict[str, Any]]
    ) -> tuple[Reply, Outgoing]:
        """Respond as an OAuth endpoint. A grant stays, however its response is lost."""
        reply = next(script, None) or Reply()
        if reply.body is not None:
            return reply, scripted_body(reply, seen, "application/json")
        if reply.error is not None or not reply.answers:
            error = reply.error or {400: "invalid_grant", 401: "invalid_client"}.get(reply.status, "server_error")
            return reply, json_body({"error": error, "error_description": error_of(reply)[2]})
        try:
            return reply, json_body(grant(seen))
        except OAuthError as error:
            headers = {"WWW-Authenticate": 'Basic realm="fake"'} if error.status == 401 else {}
            # The delays and cuts of the reply hold for a refusal as well.
            return replace(reply, status=error.status, headers=headers | dict(reply.headers)), json_body(error.body)


def _wire(path: str) -> Wire | None:
    return next((wire for wire in _WIRES if path.endswith(wire.path)), None)


def _script(name: str, replies: Iterable[Reply | None]) -> Iterator[Reply | None]:
    if isinstance(replies, Sequence) and not all(each is None or isinstance(each, Reply) for each in replies):
        raise TypeError(f"{name} consists of Reply, and None for the usual answer.")
    return iter(replies)
