"""Make one streaming request on aiohttp, from `subscribe` to its one terminal event."""

from __future__ import annotations

import asyncio
import io
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError
from reactivex import Observable

from rxauth.addresses import proxy_for
from rxauth.bridge import from_producer
from rxauth.errors import (
    ConnectionFailed,
    CredentialRejected,
    ProtocolError,
    ProviderError,
    RequestRejected,
    RxAuthError,
)
from rxauth.events import AssistantEvent, Start
from rxauth.sources._connections import pool_of_running_loop
from rxauth.sources._errors import Exchange
from rxauth.sources._message import Answer, Emit
from rxauth.sources._reader import Reader
from rxauth.sources._reports import ErrorReport, read_body
from rxauth.sources._request import Call
from rxauth.sources._sse import EventStreamDecoder, EventTooLargeError

if TYPE_CHECKING:
    from rxauth.credentials import CredentialSource

# Bytes that aiohttp buffers before it stops reading. With its default, four times as many, most have left the
# processor's cache when they are read: an event in a burst then costs a fifth more.
_READ_BUFFER = 2**14

_ERROR_BODY = 64 * 2**10  # bytes of an error's body that are read
_ERROR_BODY_TIME = 5.0  # seconds to read them: a refresh waits for it, and a person for the refresh
_REDIRECTS = 3  # redirects within one server that are followed
_LAST_BYTES_TIME = 0.1  # seconds to read the end of the body after the answer, so that the connection can be reused


def stream(
    call: Call,
    credentials: CredentialSource,
    session: aiohttp.ClientSession | None,
    make_reader: Callable[[Emit, Exchange], Reader],
) -> Observable[AssistantEvent]:
    """Stream the answer to a call, as a cold Observable."""
    if not callable(getattr(credentials, "current", None)):
        # Without the value, which may be a token.
        raise TypeError("credentials is a credential source: StaticCredentials(token), or OAuthCredentials(...).")

    async def produce(emit: Emit) -> None:
        try:
            exchange = Exchange(call.host, await credentials.current())
        except Exception as error:
            sentence = f"The credential source failed ({type(error).__name__})."
            if isinstance(error, RxAuthError):
                sentence = str(error) or sentence
                # Its frames may lead to the event that holds it: a cycle, which would keep the credential.
                error.__traceback__ = None
            Answer(emit).fail(error, sentence)
            return
        reader = make_reader(emit, exchange)
        conversation = _Conversation(call, exchange, reader)
        if session is not None:
            await conversation.run(session, proxy=None)  # a caller's session has proxy settings of its own
            return
        pool = pool_of_running_loop()
        try:
            await conversation.run(await pool.take(), proxy=proxy_for(call.url))
        finally:
            await pool.give_back(comes_back=isinstance(reader.answer.cause, CredentialRejected))

    return from_producer(produce, opening=lambda: (Start(),))


class _Conversation:
    """Make one request and read its response.

    The methods return why there is no answer, or `None` if the reader has emitted its end.
    """

    def __init__(self, call: Call, exchange: Exchange, reader: Reader) -> None:
        self._call = call
        self._exchange = exchange
        self._reader = reader

    async def run(self, session: aiohttp.ClientSession, proxy: str | None) -> None:
        try:
            async with asyncio.timeout(self._call.read_timeout) as silence:
                cause = await self._send(session, proxy, silence)
        except TimeoutError:
            sentence = f"{self._call.host} sent nothing for {self._call.read_timeout:g} s."
            cause = self._exchange.error(ConnectionFailed, sentence)
        if cause is not None:
            self._reader.fail(cause)

    async def _send(
        self, session: aiohttp.ClientSession, proxy: str | None, silence: asyncio.Timeout
    ) -> ProviderError | None:
        call = self._call
        url = call.url
        for redirects_left in range(_REDIRECTS, -1, -1):
            try:
                response = await session.post(
                    url,
                    data=call.body if len(call.body) <= 2**20 else io.BytesIO(call.body),  # aiohttp warns of long bytes
                    headers=call.headers_with(self._exchange.credential),
                    proxy=proxy,
                    allow_redirects=False,
                    raise_for_status=False,
                    timeout=aiohttp.ClientTimeout(total=None, connect=call.connect_timeout),
                    read_bufsize=_READ_BUFFER,
                )
            except Exception as error:
                return self._unanswered(error)
            try:
                redirected = _redirect_target(response, url) if redirects_left else None
                if redirected is None:
                    return await self._receive(response, silence)
            finally:
                # Closes the connection, unless the body has been read to its end: then another request may use it.
                response.close()
            url = redirected
        return None

    async def _receive(self, response: aiohttp.ClientResponse, silence: asyncio.Timeout) -> ProviderError | None:
        exchange = self._exchange
        exchange.answered(response.status, response.headers, now=time.time())
        if response.status == 204:
            return self._reader.not_this_protocol()
        if 200 <= response.status < 300:
            return await self._read(response, silence)
        if 300 <= response.status < 400:
            # Not followed: it could take the token and the prompt to any server.
            to = exchange.host_of(response.headers.get("Location", "")) or "another place"
            where = f"{exchange.host} redirects to {to} (HTTP {response.status})"
            return exchange.error(ProtocolError, f"{where}. A token does not follow: correct the base URL.")
        return exchange.failure(read_body(await _short_body(response)) or ErrorReport())

    async def _read(self, response: aiohttp.ClientResponse, silence: asyncio.Timeout) -> ProviderError | None:
        exchange, reader, answer = self._exchange, self._reader, self._reader.answer
        decoder = EventStreamDecoder(
            reader.on_event,
            on_line=reader.on_line,
            on_comment=reader.on_ping,
            max_event_bytes=self._call.max_event_bytes,
        )
        read = response.content.readany
        clock = asyncio.get_running_loop().time
        limit = self._call.read_timeout or math.inf
        # Moving the deadline costs more than reading an event: it moves every eighth of the limit, by an eighth more.
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
                    sentence = f"{exchange.host} sent a body that is not encoded as it says."
                    return exchange.error(ProtocolError, sentence)
                reader.is_cut, chunk = True, b""
            except (aiohttp.ClientError, OSError) as error:
                return self._unanswered(error)
            try:
                if not chunk:
                    reader.on_end(decoder.finish())
                    return None
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

    def _unanswered(self, error: Exception) -> ProviderError:
        """Return the error of a request without a response, or without all of it.

        aiohttp's exception is not kept, not even as its cause: it refers to the headers.
        """
        host, exchange = self._exchange.host, self._exchange
        match error:
            case aiohttp.ConnectionTimeoutError():
                sentence = f"No connection to {host} within {self._call.connect_timeout:g} s."
            case aiohttp.ClientConnectorError():
                reason = getattr(error, "certificate_error", None) or error.os_error
                sentence = f"No connection to {host}: {exchange.clean(_text(reason))}."
            case aiohttp.ServerDisconnectedError():
                sentence = f"{host} closed the connection without an answer."
            case aiohttp.ClientHttpProxyError():
                sentence = f"The proxy makes no connection to {host} (HTTP {error.status})."
            case aiohttp.ClientResponseError():
                return exchange.error(ProtocolError, self._not_http(error.message))
            case aiohttp.ClientConnectionError() | OSError():
                sentence = f"The connection to {host} broke: {exchange.clean(_text(error))}."
            case _:
                sentence = f"The request could not be made ({type(error).__name__}): {exchange.clean(error)}"
                return exchange.error(RequestRejected, sentence)
        return exchange.error(ConnectionFailed, sentence)

    def _not_http(self, message: str) -> str:
        host = self._exchange.host
        if "Content-Length" in message and "Transfer-Encoding" in message:
            return (
                f"{host} sent both Content-Length and Transfer-Encoding, which HTTP forbids because proxies disagree "
                "on where such a body ends (RFC 9112, section 6.3): mend the server or the proxy in front of it."
            )
        return f"{host} did not answer in HTTP ({self._exchange.clean(message, 80)}): check the base URL."


def _redirect_target(response: aiohttp.ClientResponse, url: str) -> str | None:
    """Return where a 307 or 308 points, if that is the same server: RFC 9110 section 15.4 keeps method and body."""
    location = response.headers.get("Location")
    if response.status not in (307, 308) or location is None:
        return None
    try:
        target = urljoin(url, location)
        same_server = urlsplit(target)[:2] == urlsplit(url)[:2]
    except ValueError:
        return None
    return target if same_server else None


async def _short_body(response: aiohttp.ClientResponse) -> bytes:
    """Read the body; return nothing if it is too long or breaks off: half a token could not be found and removed."""
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
