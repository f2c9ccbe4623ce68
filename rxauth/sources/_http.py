"""One streaming request on aiohttp, from `subscribe` to its one terminal event."""

from __future__ import annotations

import asyncio
import io
import math
import re
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec
from reactivex import Observable

from rxauth._version import __version__
from rxauth.addresses import checked_url, proxy_for
from rxauth.bridge import from_producer
from rxauth.errors import (
    ConnectionFailed,
    CredentialRejected,
    ProtocolError,
    ProviderError,
    RequestRejected,
    RxAuthError,
    StreamCut,
)
from rxauth.events import AssistantEvent, Start
from rxauth.sources._connections import Lease
from rxauth.sources._errors import Exchange, Told, read_error
from rxauth.sources._message import Answer, Emit
from rxauth.sources._payload import NotThisProtocolError, repaired
from rxauth.sources._reader import Reader
from rxauth.sources._sse import EventStreamDecoder, EventTooLargeError

if TYPE_CHECKING:
    import aiohttp

    from rxauth.credentials import CredentialSource

AuthHeader: TypeAlias = Literal["authorization", "x-api-key"]

# The header that carries the token, made for the moment in which it is sent: a consumer's exception is reported with
# the frames of its stream, and by some with their variables.
Authorization: TypeAlias = Callable[[], dict[str, str]]

MAX_EVENT_BYTES = 16 * 2**20

# Bytes that aiohttp holds before it stops reading. Of its default, four times as many, most have left the processor's
# cache when they are looked at: an event in a burst then costs a fifth more.
_READ_BUFFER = 2**14

_ERROR_BODY = 64 * 2**10  # bytes of an error's body that are read
_ERROR_BODY_TIME = 5.0  # seconds that they may take: a person waits for the refresh behind it
_LAST_BYTES_TIME = 0.1  # seconds for the end of a body behind a complete answer: then its connection can be used again

# Content types that a stream never has; anything else is read and judged by what is in it.
_NO_STREAM = frozenset({"text/html", "application/json", "application/xhtml+xml", "application/xml", "text/xml"})

_TOKEN_HEADERS = frozenset({"authorization", "x-api-key", "proxy-authorization"})
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, kw_only=True)
class Call:
    """What each subscription sends, checked. Times in seconds."""

    url: str
    host: str
    body: bytes
    headers: Mapping[str, str]
    auth_header: AuthHeader
    connect_timeout: float | None
    read_timeout: float | None
    max_event_bytes: int


def prepared(
    request: Mapping[str, Any],
    added: Mapping[str, Any],
    *,
    base_url: str,
    path: str,
    fixed_headers: Mapping[str, str],
    headers: Mapping[str, str] | None,
    auth_header: AuthHeader,
    connect_timeout: float | None,
    read_timeout: float | None,
    max_event_bytes: int,
) -> Call:
    """The call, if it can be made.

    Raises:
        TypeError: `request` is not a mapping, or holds what JSON cannot.
        ValueError: anything else that can be told before a connection is made.
    """
    if auth_header not in ("authorization", "x-api-key"):
        raise ValueError("auth_header is 'authorization' or 'x-api-key'.")
    for name, limit in (("connect_timeout", connect_timeout), ("read_timeout", read_timeout)):
        if limit is not None and not (limit > 0 and math.isfinite(limit)):
            raise ValueError(f"{name} is {limit!r}; it is a number of seconds above 0, or None for no limit.")
    if max_event_bytes < 1:
        raise ValueError(f"max_event_bytes is {max_event_bytes!r}; it is at least 1.")
    url = _endpoint(base_url, path)
    return Call(
        url=url,
        host=urlsplit(url).netloc,
        body=_encoded(request, added),
        headers=_merged(fixed_headers, headers or {}),
        auth_header=auth_header,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_event_bytes=max_event_bytes,
    )


def stream(
    call: Call,
    credentials: CredentialSource,
    session: aiohttp.ClientSession | None,
    reader: Callable[[Answer, Exchange], Reader],
) -> Observable[AssistantEvent]:
    """The answer to a call, as a cold stream.

    Raises:
        TypeError: `credentials` is not a credential source.
    """
    if not callable(getattr(credentials, "current", None)):
        # What was given may be a token: it is not shown.
        raise TypeError("credentials is a credential source: StaticCredentials(token), or OAuthCredentials(...).")

    async def produce(emit: Emit) -> None:
        answer = Answer(emit)
        try:
            credential = await credentials.current()
            authorization = _authorization(call.auth_header, credential.access_token)
        except Exception as error:
            sentence = f"The credential source failed ({type(error).__name__})."
            if isinstance(error, RxAuthError):
                sentence = str(error) or sentence
                # Its frames hold the consumer, who may hold the event, which holds it: credentials in a cycle.
                error.__traceback__ = None
            answer.fail(error, sentence)
            return
        exchange = Exchange(call.host, credential)
        listener = reader(answer, exchange)
        conversation = _Conversation(call, exchange, listener)
        lease = Lease()
        async with lease if session is None else nullcontext(session) as connections:
            try:
                # A session that was given has its own settings for proxies.
                proxy = proxy_for(call.url) if session is None else None
                cause = await conversation.hold(connections, authorization, proxy)
                if cause is not None:
                    listener.fail(cause)
            finally:
                lease.comes_back = isinstance(answer.cause, CredentialRejected)

    return from_producer(produce, opening=lambda: (Start(),))


class _Conversation:
    """One request and its response. What goes wrong is returned; what is said is the reader's to tell."""

    def __init__(self, call: Call, exchange: Exchange, reader: Reader) -> None:
        self._call = call
        self._exchange = exchange
        self._reader = reader

    async def hold(
        self, session: aiohttp.ClientSession, authorization: Authorization, proxy: str | None
    ) -> ProviderError | None:
        """Returns why there is no answer; `None` if the reader has told how it ended."""
        try:
            async with asyncio.timeout(self._call.read_timeout) as silence:
                return await self._send(session, authorization, proxy, silence)
        except TimeoutError:
            sentence = f"{self._call.host} sent nothing for {self._call.read_timeout:g} s."
            return self._exchange.error(ConnectionFailed, sentence)

    async def _send(
        self, session: aiohttp.ClientSession, authorization: Authorization, proxy: str | None, silence: asyncio.Timeout
    ) -> ProviderError | None:
        import aiohttp

        body = self._call.body
        try:
            response = await session.post(
                self._call.url,
                data=body if len(body) <= 2**20 else io.BytesIO(body),  # aiohttp warns of long bytes
                headers={**self._call.headers, **authorization()},
                proxy=proxy,
                allow_redirects=False,
                raise_for_status=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=self._call.connect_timeout),
                read_bufsize=_READ_BUFFER,
            )
        except Exception as error:
            return self._unanswered(error)
        try:
            return await self._receive(response, silence)
        finally:
            # Closes the connection, unless the body has been read to its end: then another request may use it.
            response.close()

    async def _receive(self, response: aiohttp.ClientResponse, silence: asyncio.Timeout) -> ProviderError | None:
        self._exchange.answered(response.status, response.headers, now=time.time())
        if not 200 <= response.status < 300:
            return await self._refusal(response)
        if response.status == 204 or self._exchange.is_one_of(_NO_STREAM):
            return await self._no_stream(response)
        return await self._read(response, silence)

    async def _read(self, response: aiohttp.ClientResponse, silence: asyncio.Timeout) -> ProviderError | None:
        import aiohttp
        from aiohttp.http_exceptions import ContentEncodingError

        host, exchange, reader = self._call.host, self._exchange, self._reader
        decoder = EventStreamDecoder(reader.on_event, max_event_bytes=self._call.max_event_bytes)
        answer = reader.answer
        read = response.content.readany
        clock = asyncio.get_running_loop().time
        limit = self._call.read_timeout or math.inf
        # Moving the deadline costs more than reading an event: it is moved now and then, and a little further.
        move_at = clock()
        while not answer.ended:
            now = clock()
            if now >= move_at and limit < math.inf:
                silence.reschedule(now + limit * 9 / 8)
                move_at = now + limit / 8
            try:
                chunk = await read()
            except aiohttp.ClientPayloadError as error:
                if isinstance(error.__cause__, ContentEncodingError):
                    return exchange.error(ProtocolError, f"{host} sent a body that is not encoded as it says.")
                return exchange.error(StreamCut, f"{host} cut the stream off before the answer was complete.")
            except (aiohttp.ClientError, OSError) as error:
                return self._broken(error)
            if not chunk:
                reader.on_end()
                return None
            try:
                decoder.feed(chunk)
            except EventTooLargeError as error:
                return exchange.error(ProtocolError, str(error))
        try:
            async with asyncio.timeout(_LAST_BYTES_TIME):
                while await read():
                    pass
        except (aiohttp.ClientError, OSError):
            pass
        return None

    async def _refusal(self, response: aiohttp.ClientResponse) -> ProviderError:
        """What a response with an error status says."""
        exchange = self._exchange
        if 300 <= response.status < 400:
            # A redirect could take the token, and the prompt, anywhere.
            to = exchange.host_of(response.headers.get("Location", "")) or "another place"
            where = f"{exchange.host} redirects to {to} (HTTP {response.status})"
            return exchange.error(ProtocolError, f"{where}. A token does not follow: correct the base URL.")
        body = await _short_body(response)
        try:
            told = read_error(repaired(body, object))
        except NotThisProtocolError:
            is_page = body.lstrip().startswith(b"<")
            told = None if is_page else Told(body.decode("utf-8", "replace"))
        return exchange.failure(told or Told())

    async def _no_stream(self, response: aiohttp.ClientResponse) -> ProviderError:
        """A success that cannot be a stream. Some providers tell their errors so."""
        body = await _short_body(response)
        try:
            told = read_error(repaired(body, object))
        except NotThisProtocolError:
            told = None
        if told is not None:
            return self._exchange.failure(told)
        return self._reader.not_this_protocol(body.decode("utf-8", "replace"))

    def _unanswered(self, error: Exception) -> ProviderError:
        """No response came. None of aiohttp's exceptions is kept, not as a cause either: they hold the headers."""
        import aiohttp

        host, exchange = self._call.host, self._exchange
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            sentence = f"No connection to {host} within {self._call.connect_timeout:g} s."
            return exchange.error(ConnectionFailed, sentence)
        if isinstance(error, aiohttp.ClientConnectorError):
            reason = getattr(error, "certificate_error", None) or error.os_error
            return exchange.error(ConnectionFailed, f"No connection to {host}: {exchange.clean(_text(reason))}.")
        if isinstance(error, aiohttp.ServerDisconnectedError):
            return exchange.error(ConnectionFailed, f"{host} closed the connection without an answer.")
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return exchange.error(ConnectionFailed, f"The proxy makes no connection to {host} (HTTP {error.status}).")
        if isinstance(error, aiohttp.ClientResponseError):
            shown = exchange.clean(error.message, 80)
            return exchange.error(ProtocolError, f"{host} did not answer in HTTP ({shown}): check the base URL.")
        if isinstance(error, aiohttp.ClientConnectionError | OSError):
            return self._broken(error)
        name = type(error).__name__
        return exchange.error(RequestRejected, f"The request could not be made ({name}): {exchange.clean(error)}")

    def _broken(self, error: Exception) -> ProviderError:
        reason = self._exchange.clean(_text(error))
        return self._exchange.error(ConnectionFailed, f"The connection to {self._call.host} broke: {reason}.")


async def _short_body(response: aiohttp.ClientResponse) -> bytes:
    """The body. Nothing of one that is too long or breaks off: it may end in half a token, which no scrubbing finds."""
    import aiohttp

    body = bytearray()
    try:
        async with asyncio.timeout(_ERROR_BODY_TIME):
            while chunk := await response.content.readany():
                body += chunk
                if len(body) > _ERROR_BODY:
                    return b""
    except (aiohttp.ClientError, OSError):
        return b""
    return bytes(body)


def _text(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


# What is known before there is a connection --------------------------------------------------------------------------


def _endpoint(base_url: str, path: str) -> str:
    if "?" in checked_url(base_url, "base_url"):
        raise ValueError("base_url must not have a query: the path of the request is put behind it.")
    return base_url.rstrip("/") + path


def _encoded(request: Mapping[str, Any], added: Mapping[str, Any]) -> bytes:
    if not isinstance(request, Mapping):
        raise TypeError(f"request is {type(request).__name__}; it is the wire payload, a mapping.")
    if request.get("stream") not in (None, True):
        raise ValueError("The request says that it does not want a stream: leave `stream` out.")
    try:
        return msgspec.json.encode({**added, **request, "stream": True}, enc_hook=_as_dict)
    except UnicodeEncodeError:
        raise ValueError("The request holds text that is not Unicode: half a surrogate pair.") from None


def _as_dict(value: object) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"The request holds {type(value).__name__}, which is not JSON.")


def _merged(fixed: Mapping[str, str], own: Mapping[Any, Any]) -> dict[str, str]:
    merged = {
        "accept": "text/event-stream",
        # A compressed stream comes in lumps.
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": f"rxauth/{__version__}",
        **fixed,
    }
    for name, value in own.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError("headers is a mapping of strings to strings.")
        if name.lower() in _TOKEN_HEADERS:
            raise ValueError(f"The header {name} carries the token: give it as credentials.")
        if not (_HEADER_NAME.fullmatch(name) and value.isascii() and value.isprintable()):
            raise ValueError(f"The header {name!r} cannot be sent: names are tokens, values printable ASCII.")
        merged[name.lower()] = value
    return merged


def _authorization(header: AuthHeader, token: str) -> Authorization:
    return lambda: {"x-api-key": token} if header == "x-api-key" else {"authorization": f"Bearer {token}"}
