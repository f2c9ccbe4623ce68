"""The sources over real sockets: how each failure ends the stream, and that no token is seen."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from typing import Any
from unittest.mock import ANY

import aiohttp
import pytest

from rxauth.credentials import Credential
from rxauth.errors import (
    ConnectionFailed,
    CredentialRejected,
    ProtocolError,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    StreamCut,
)
from rxauth.events import AssistantEvent, Error, Start, to_json
from rxauth.failures import is_auth_error
from rxauth.sources import anthropic_messages
from rxauth.testing import FakeProvider, Gate, Pause, Reply
from tests.sources.streams import (
    ANSWER,
    KEY,
    REQUEST,
    Holder,
    Resolver,
    answered,
    bare_server,
    collect,
    done,
    failed,
    messages,
    sse,
)


async def failure_at(url: str, **options: Any) -> ProviderError:
    """The cause with which a stream from this URL fails."""
    events = await collect(anthropic_messages(REQUEST, base_url=url, **{"credentials": KEY, **options}))
    cause = failed(events).cause
    assert isinstance(cause, ProviderError)
    return cause


async def test_start_is_emitted_inside_subscribe() -> None:
    events: list[AssistantEvent] = []
    async with FakeProvider() as fake:
        holder = Holder(fake.credential())
        anthropic_messages(REQUEST, base_url=fake.url, credentials=holder).subscribe(events.append).dispose()
        assert (events, holder.asked) == ([Start()], 0)
        await asyncio.sleep(0)
        assert fake.requests == []


def test_without_a_running_loop_there_is_one_error() -> None:
    events: list[AssistantEvent] = []
    errors: list[Exception] = []
    anthropic_messages(REQUEST, base_url="https://h", credentials=KEY).subscribe(events.append, errors.append)
    assert events == []
    assert [type(error) for error in errors] == [RuntimeError]


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        pytest.param(Reply(status=401), CredentialRejected, "HTTP 401", id="401"),
        pytest.param(Reply(status=403), RequestRejected, "HTTP 403", id="403"),
        pytest.param(Reply(status=408), ProviderUnavailable, "HTTP 408", id="408"),
        pytest.param(Reply.rate_limited(7), ProviderUnavailable, "HTTP 429", id="429"),
        pytest.param(Reply.html(status=502), ProviderUnavailable, "Sign in (HTTP 502)", id="an error page"),
        pytest.param(Reply(status=503, body=b"\xff\0"), ProviderUnavailable, "503", id="an error that is not text"),
        pytest.param(Reply(status=500, body=b"[" * 50_000), ProviderUnavailable, "500", id="an error that is too deep"),
        pytest.param(Reply(status=500, body="x " * 40_000), ProviderUnavailable, "not say why", id="one too long"),
        pytest.param(Reply(status=500, body="Too bad."), ProviderUnavailable, "Too bad. (HTTP 500)", id="words"),
        pytest.param(Reply(status=400, body="data: Too bad."), RequestRejected, "Too bad. (HTTP 400)", id="in a frame"),
        pytest.param(Reply.redirect("https://example.org/x"), ProtocolError, "to example.org", id="a redirect"),
        pytest.param(Reply.redirect("?moved", status=302), ProtocolError, "HTTP 302", id="one that loses the body"),
        pytest.param(Reply(status=307), ProtocolError, "to another place", id="one without a location"),
        pytest.param(Reply(status=304), ProtocolError, "HTTP 304", id="not modified"),
        pytest.param(Reply.html(), ProtocolError, "text/html", id="a page"),
        pytest.param(Reply(body={"content": []}), ProtocolError, "application/json", id="one JSON object"),
        pytest.param(Reply(status=204, body=()), ProtocolError, "base URL", id="no content"),
        pytest.param(Reply(headers={"Content-Type": "text/plain"}, body="hello"), ProtocolError, "hello", id="text"),
        pytest.param(Reply(headers={"Content-Encoding": "gzip"}, body=b"no gzip"), ProtocolError, "encoded", id="gzip"),
        pytest.param(Reply(body=b""), StreamCut, "ended", id="nothing"),
        pytest.param(Reply(body=b": hello\n\n" * 9), StreamCut, "ended", id="comments alone"),
        pytest.param(Reply(body=ANSWER[:100]), StreamCut, "ended", id="half an answer"),
        pytest.param(Reply.cut(at=100), StreamCut, "cut", id="cut inside a chunk"),
        pytest.param(Reply.cut(at=0), StreamCut, "cut", id="cut behind the head"),
        pytest.param(
            Reply(headers={"Content-Length": "999"}, body=ANSWER[:99], cut_at=99), StreamCut, "cut", id="short"
        ),
        pytest.param(Reply.reset(at=100), StreamCut, "cut", id="reset inside the stream"),
        pytest.param(Reply.cut(), ConnectionFailed, "closed the connection", id="closed before the head"),
        pytest.param(Reply.reset(), ConnectionFailed, "", id="reset before the head"),
        pytest.param(Reply.in_band_error("authentication_error"), CredentialRejected, "", id="an auth failure in-band"),
        pytest.param(Reply(body={"error": {"code": "invalid_token"}}), CredentialRejected, "", id="an error with 200"),
    ],
)
async def test_a_failure_is_one_error_with_a_typed_cause(reply: Reply, kind: type[ProviderError], words: str) -> None:
    async with FakeProvider(replies=[reply]) as fake:
        holder = Holder(fake.credential())
        start, *rest = await collect(anthropic_messages(REQUEST, base_url=fake.url, credentials=holder))
        assert start == Start()
        assert [type(event) for event in rest] == [Error]
        cause = failed(rest).cause
        assert isinstance(cause, ProviderError)
        assert (type(cause), cause.credential, len(fake.requests)) == (kind, holder.credential, 1)
        assert is_auth_error(rest[0]) == (kind is CredentialRejected)
        assert failed(rest).error.error_message == str(cause)
        assert words in str(cause)
        assert "\n" not in str(cause)
        assert (cause.retry_after, cause.request_id) == ((7, "req_000001") if cause.status == 429 else (None, ANY))
        await fake.until(lambda fake: fake.open_connections == (kind is CredentialRejected))


BOTH_LENGTHS = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", "did not answer in HTTP", id="ssh"),
        pytest.param(b"\0\1\2\3\r\n\r\n", "did not answer in HTTP", id="bytes"),
        pytest.param(b"HTTP/1.1 twohundred OK\r\n\r\n", "did not answer in HTTP", id="a status that is none"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + BOTH_LENGTHS, "both Content-Length and Transfer", id="two lengths"),
    ],
)
async def test_another_protocol_than_http_is_refused(reply: bytes, words: str) -> None:
    async with bare_server(reply) as url:
        cause = await failure_at(url)
    assert type(cause) is ProtocolError
    assert words in str(cause)
    assert ("base URL" in str(cause)) == ("HTTP (" in str(cause))
    assert len(str(cause)) < 300


@pytest.mark.parametrize(("status", "count", "end"), [(307, 1, "done"), (308, 3, "done"), (307, 9, "error")])
async def test_a_redirect_to_the_same_server_is_followed(status: int, count: int, end: str) -> None:
    async with FakeProvider(replies=[Reply.redirect("?moved", status=status)] * count) as fake:
        assert (await collect(messages(fake)))[-1].type == end
        first, *others = fake.requests
        assert len(others) == min(count, 3)
        for other in others:
            assert (other.query, other.body, other.token) == ("moved", first.body, first.token)


async def test_a_redirect_to_another_server_is_not_followed() -> None:
    async with FakeProvider() as other, FakeProvider(replies=[Reply.redirect(f"{other.url}/v1/messages")]) as fake:
        assert "redirects to 127.0.0.1" in str(failed(await collect(messages(fake))).cause)
        assert (len(fake.requests), other.requests) == (1, [])


async def test_a_missing_server_is_a_failed_connection() -> None:
    async with FakeProvider() as fake:
        url = fake.url
    cause = await failure_at(url)
    assert (type(cause), cause.status, cause.request_id) == (ConnectionFailed, None, None)
    assert url.removeprefix("http://") in str(cause)


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("at_once", "words", "seconds"),
    [(True, "No connection to h: Name or service not known.", 0), (False, "No connection to h within 20 s.", 20)],
)
async def test_an_unknown_name_is_a_failed_connection(at_once: bool, words: str, seconds: float) -> None:
    connector = aiohttp.TCPConnector(resolver=Resolver(at_once=at_once))
    async with aiohttp.ClientSession(connector=connector) as session:
        loop = asyncio.get_running_loop()
        before = loop.time()
        cause = await failure_at("https://h", session=session, connect_timeout=20)
        assert (type(cause), str(cause)) == (ConnectionFailed, words)
        assert loop.time() - before == pytest.approx(seconds, abs=1)


@pytest.mark.looptime
@pytest.mark.parametrize("after", ["head", 0, 3])
async def test_a_silent_server_times_out(after: Any) -> None:
    async with FakeProvider(replies=[Reply.hang(after=after)]) as fake:
        loop = asyncio.get_running_loop()
        before = loop.time()
        cause = failed(await collect(messages(fake, read_timeout=300))).cause
        assert type(cause) is ConnectionFailed
        assert "sent nothing for 300 s" in str(cause)
        assert 300 <= loop.time() - before < 340
        await fake.until(lambda fake: fake.open_connections == 0)


@pytest.mark.looptime
async def test_a_stream_with_pings_never_times_out() -> None:
    pings = [piece for _ in range(20) for piece in (b": ping\n\n", Pause(290))]
    assert done(await answered(Reply(body=[*pings, ANSWER]), read_timeout=300)).reason == "stop"


@pytest.mark.looptime
async def test_an_error_whose_body_hangs_takes_seconds() -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    async with FakeProvider(replies=[Reply(status=401, body=["{", Gate()])]) as fake:
        assert type(failed(await collect(messages(fake))).cause) is CredentialRejected
        assert loop.time() - before < 6


async def test_an_event_too_large_fails_what_is_not_complete() -> None:
    large = b"data: " + b"x" * 5000
    done(await answered(Reply(body=ANSWER + large), max_event_bytes=1000))
    error = failed(await answered(Reply(body=ANSWER[:-60] + large), max_event_bytes=1000))
    assert (type(error.cause), error.error.text) == (ProtocolError, "Hello")
    assert "1000 bytes" in str(error.cause)


async def test_a_proxy_never_sees_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []
    async with bare_server(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", heads) as proxy:
        monkeypatch.setenv("https_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        cause = await failure_at("https://far.invalid")
    assert type(cause) is ConnectionFailed
    assert str(cause) == "The proxy makes no connection to far.invalid (HTTP 502)."
    assert [head.split(b"\r\n")[0] for head in heads] == [b"CONNECT far.invalid:443 HTTP/1.1"]
    assert b"static-key" not in heads[0]


async def test_a_body_without_a_length_ends_with_its_connection() -> None:
    async with bare_server(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + ANSWER[:-50]) as url:
        assert done(await collect(anthropic_messages(REQUEST, base_url=url, credentials=KEY))).message.text == "Hello"


async def test_a_closed_session_is_one_sentence() -> None:
    session = aiohttp.ClientSession()
    await session.close()
    cause = await failure_at("https://h", session=session)
    assert type(cause) is RequestRejected
    assert "Session is closed" in str(cause)


ACCESS, REFRESH = "canary-access-token", "canary-refresh-token"
ECHO = f"Bearer {ACCESS} and {REFRESH}"


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(status=401, body={"error": dict.fromkeys(("type", "code", "message"), ECHO)}), id="body"),
        pytest.param(Reply(status=500, body=ECHO, cut_at=20), id="half"),
        pytest.param(Reply(body=sse(ECHO)), id="garbage"),
        pytest.param(Reply(body=f"Error: {ECHO}"[:25], cut_at=25), id="cut"),
        pytest.param(Reply(body=sse({"hello": ECHO})), id="foreign"),
        pytest.param(Reply(status=400, headers={"request-id": ECHO, "Retry-After": ECHO}), id="header"),
        pytest.param(Reply.redirect(f"https://{ACCESS}.example/{ACCESS}"), id="redirect"),
        pytest.param(Reply(headers={"Content-Type": ECHO}, body="hello"), id="type"),
        pytest.param(None, id="http"),
    ],
)
async def test_an_echoed_token_is_seen_nowhere(reply: Reply | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    holder = Holder(Credential(ACCESS, REFRESH))
    async with (
        FakeProvider(replies=[reply], api_keys=[ACCESS]) as fake,
        bare_server(f"{ECHO}\r\n\r\n".encode()) as bare,
    ):
        url = fake.url if reply is not None else bare
        end = failed(await collect(anthropic_messages(REQUEST, base_url=url, credentials=holder)))
    assert isinstance(end.cause, ProviderError)
    assert end.cause.credential is holder.credential
    shown = traceback.TracebackException.from_exception(end.cause, capture_locals=True)
    fields = {name: value for name, value in vars(end.cause).items() if name != "credential"}
    texts = [repr(end), str(end), to_json(end), *shown.format(), repr(fields), json.dumps(fields), caplog.text]
    assert not [text for text in texts if "canary" in text]
