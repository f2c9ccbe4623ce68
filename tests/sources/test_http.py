"""The sources over real sockets: how each failure ends the stream, and that no token is seen."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from reactivex import Observable

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
from rxauth.events import AssistantEvent, Done, Error, Start, ToolCall, to_json
from rxauth.failures import is_auth_error
from rxauth.sources import anthropic_messages, openai_chat
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

Source = Callable[..., Observable[AssistantEvent]]

SOURCES = [pytest.param(anthropic_messages, "", id="anthropic"), pytest.param(openai_chat, "/v1", id="openai")]
both = pytest.mark.parametrize(("source", "path"), SOURCES)


async def test_start_is_emitted_inside_subscribe() -> None:
    events: list[AssistantEvent] = []
    async with FakeProvider() as fake:
        holder = Holder(fake.credential())
        stream = anthropic_messages(REQUEST, base_url=fake.url, credentials=holder)
        stream.subscribe(events.append).dispose()
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
    ("reply", "kind"),
    [
        pytest.param(Reply(status=401), CredentialRejected, id="401"),
        pytest.param(Reply(status=403), RequestRejected, id="403"),
        pytest.param(Reply(status=413), RequestRejected, id="413"),
        pytest.param(Reply(status=408), ProviderUnavailable, id="408"),
        pytest.param(Reply(status=429), ProviderUnavailable, id="429"),
        pytest.param(Reply(status=529), ProviderUnavailable, id="529"),
        pytest.param(Reply.html(status=502), ProviderUnavailable, id="an error page"),
        pytest.param(Reply(status=503, body=b"\xff\0"), ProviderUnavailable, id="an error that is not text"),
        pytest.param(Reply(status=500, body=b"[" * 50_000), ProviderUnavailable, id="an error that is too deep"),
        pytest.param(Reply.redirect("https://example.org/x"), ProtocolError, id="a redirect"),
        pytest.param(Reply(status=304), ProtocolError, id="not modified"),
        pytest.param(Reply.html(), ProtocolError, id="a page"),
        pytest.param(Reply(body={"content": []}), ProtocolError, id="one JSON object"),
        pytest.param(Reply(status=204, body=()), ProtocolError, id="no content"),
        pytest.param(Reply(headers={"Content-Type": "text/plain"}, body="hello"), ProtocolError, id="plain text"),
        pytest.param(Reply(headers={"Content-Encoding": "gzip"}, body=b"not gzip"), ProtocolError, id="not gzip"),
        pytest.param(Reply(body=b""), StreamCut, id="nothing"),
        pytest.param(Reply(body=b": hello\n\n" * 9), StreamCut, id="comments alone"),
        pytest.param(Reply(body=ANSWER[:200]), StreamCut, id="half an answer"),
        pytest.param(Reply.cut(at=100), StreamCut, id="cut inside a chunk"),
        pytest.param(Reply.cut(at=0), StreamCut, id="cut behind the head"),
        pytest.param(
            Reply(headers={"Content-Length": "9999"}, body=ANSWER[:200], cut_at=200),
            StreamCut,
            id="cut short of its length",
        ),
        pytest.param(Reply.reset(at=100), StreamCut, id="reset inside the stream"),
        pytest.param(Reply.cut(), ConnectionFailed, id="closed before the head"),
        pytest.param(Reply.reset(), ConnectionFailed, id="reset before the head"),
        pytest.param(Reply.in_band_error("authentication_error"), CredentialRejected, id="an auth failure in-band"),
        pytest.param(Reply.in_band_error("overloaded_error"), ProviderUnavailable, id="an overload in-band"),
        pytest.param(
            Reply(body={"error": {"type": "authentication_error"}}), CredentialRejected, id="an error with 200"
        ),
    ],
)
async def test_a_failure_is_one_error_with_a_typed_cause(reply: Reply, kind: type[ProviderError]) -> None:
    async with FakeProvider(replies=[reply]) as fake:
        holder = Holder(fake.credential())
        start, *rest = await collect(anthropic_messages(REQUEST, base_url=fake.url, credentials=holder))
        assert start == Start()
        assert [type(event) for event in rest] == [Error]
        cause = failed(rest).cause
        assert type(cause) is kind
        assert isinstance(cause, ProviderError)
        assert cause.credential is holder.credential
        assert is_auth_error(rest[0]) == (kind is CredentialRejected)
        assert failed(rest).error.error_message == str(cause)
        assert "\n" not in str(cause)
        await fake.until(lambda fake: fake.open_connections == (kind is CredentialRejected))


@both
async def test_an_error_has_retry_after_and_request_id(source: Source, path: str) -> None:
    async with FakeProvider(replies=[Reply.rate_limited(7)]) as fake:
        events = await collect(source(REQUEST, base_url=fake.url + path, credentials=Holder(fake.credential())))
        cause = failed(events).cause
        assert isinstance(cause, ProviderUnavailable)
        assert (cause.status, cause.retry_after, cause.request_id) == (429, 7.0, "req_000001")


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_to_the_same_server_is_followed(status: int) -> None:
    async with FakeProvider(replies=[Reply.redirect("?moved", status=status)]) as fake:
        assert [event.type for event in await collect(messages(fake))][-1] == "done"
        first, second = fake.requests
        assert (second.query, second.body, second.token) == ("moved", first.body, first.token)


@pytest.mark.parametrize("reply", [Reply.redirect("?moved", status=302), Reply(status=307)], ids=["302", "no Location"])
async def test_a_redirect_of_another_kind_is_not_followed(reply: Reply) -> None:
    async with FakeProvider(replies=[reply]) as fake:
        assert isinstance(failed(await collect(messages(fake))).cause, ProtocolError)
        assert len(fake.requests) == 1


async def test_an_endless_redirect_is_a_protocol_error() -> None:
    async with FakeProvider(replies=[Reply.redirect("?moved")] * 9) as fake:
        assert isinstance(failed(await collect(messages(fake))).cause, ProtocolError)
        assert len(fake.requests) == 4


async def test_a_redirect_to_another_server_is_not_followed() -> None:
    async with FakeProvider() as other, FakeProvider(replies=[Reply.redirect(f"{other.url}/v1/messages")]) as fake:
        cause = failed(await collect(messages(fake))).cause
        assert len(fake.requests) == 1
        assert other.requests == []
        assert "redirects to 127.0.0.1" in str(cause)


async def test_a_missing_server_is_a_failed_connection() -> None:
    async with FakeProvider() as fake:
        url = fake.url
    cause = failed(await collect(anthropic_messages(REQUEST, base_url=url, credentials=KEY))).cause
    assert type(cause) is ConnectionFailed
    assert cause.status is None
    assert url.removeprefix("http://") in str(cause)


async def test_an_unknown_name_is_a_failed_connection() -> None:
    connector = aiohttp.TCPConnector(resolver=Resolver(at_once=True))
    async with aiohttp.ClientSession(connector=connector) as session:
        stream = anthropic_messages(REQUEST, base_url="https://nowhere.example", credentials=KEY, session=session)
        cause = failed(await collect(stream)).cause
        assert type(cause) is ConnectionFailed
        assert str(cause) == "No connection to nowhere.example: Name or service not known."


@pytest.mark.looptime
async def test_a_slow_connection_times_out() -> None:
    connector = aiohttp.TCPConnector(resolver=Resolver(at_once=False))
    async with aiohttp.ClientSession(connector=connector) as session:
        loop = asyncio.get_running_loop()
        before = loop.time()
        stream = anthropic_messages(
            REQUEST, base_url="https://slow.example", credentials=KEY, session=session, connect_timeout=20
        )
        cause = failed(await collect(stream)).cause
        assert str(cause) == "No connection to slow.example within 20 s."
        assert loop.time() - before == pytest.approx(20, abs=1)


@pytest.mark.looptime
@pytest.mark.parametrize("after", ["head", 0, 3])
async def test_a_silent_server_times_out(after: Any) -> None:
    async with FakeProvider(replies=[Reply.hang(after=after)]) as fake:
        loop = asyncio.get_running_loop()
        before = loop.time()
        events = await collect(messages(fake, read_timeout=300))
        assert type(failed(events).cause) is ConnectionFailed
        assert "sent nothing for 300 s" in str(failed(events).cause)
        assert 300 <= loop.time() - before < 340
        await fake.until(lambda fake: fake.open_connections == 0)


@pytest.mark.looptime
async def test_a_stream_with_pings_never_times_out() -> None:
    pings = [piece for _ in range(20) for piece in (b": ping\n\n", Pause(290))]
    async with FakeProvider(replies=[Reply(body=[*pings, ANSWER])]) as fake:
        loop = asyncio.get_running_loop()
        before = loop.time()
        assert done(await collect(messages(fake, read_timeout=300))).reason == "stop"
        assert loop.time() - before > 5000


@pytest.mark.looptime
async def test_an_error_whose_body_hangs_takes_seconds() -> None:
    async with FakeProvider(replies=[Reply(status=401, body=["{", Gate()])]) as fake:
        loop = asyncio.get_running_loop()
        before = loop.time()
        cause = failed(await collect(messages(fake))).cause
        assert type(cause) is CredentialRejected
        assert loop.time() - before < 6


async def test_an_error_that_is_too_long_shows_its_status() -> None:
    cause = failed(await answered(Reply(status=500, body="secret " * 20_000))).cause
    assert isinstance(cause, ProviderUnavailable)
    assert "secret" not in str(cause)


async def test_an_event_that_is_too_large_is_an_error() -> None:
    error = failed(await answered(Reply(body=ANSWER[:-60] + b"data: " + b"x" * 5000), max_event_bytes=1000))
    assert type(error.cause) is ProtocolError
    assert "1000 bytes" in str(error.cause)
    assert error.error.text == "Hello"


async def test_a_cut_keeps_a_tool_call_without_an_id() -> None:
    call = {"index": 0, "function": {"name": "f", "arguments": '{"a'}}
    body = sse({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
    async with FakeProvider(replies=[Reply(body=body, cut_at=len(body))]) as fake:
        credentials = Holder(fake.credential())
        error = failed(await collect(openai_chat(REQUEST, base_url=fake.url + "/v1", credentials=credentials)))
    assert type(error.cause) is StreamCut
    assert error.error.content == (ToolCall("call_0", "f", '{"a'),)


async def test_damage_after_a_complete_answer_is_ignored() -> None:
    events = await answered(Reply(body=[ANSWER + b"data: " + b"x" * 5000]), max_event_bytes=1000)
    assert [type(event) for event in events[-1:]] == [Done]


@pytest.mark.parametrize("reply", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\0\1\2\3\r\n\r\n", b"HTTP/1.1 twohundred OK\r\n\r\n"])
async def test_another_protocol_than_http_is_refused(reply: bytes) -> None:
    async with bare_server(reply) as url:
        cause = failed(await collect(anthropic_messages(REQUEST, base_url=url, credentials=KEY))).cause
        assert type(cause) is ProtocolError
        assert "did not answer in HTTP" in str(cause)
        assert len(str(cause)) < 300


async def test_a_proxy_never_sees_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        cause = failed(
            await collect(anthropic_messages(REQUEST, base_url="https://far.invalid", credentials=KEY))
        ).cause
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
    error = failed(await collect(anthropic_messages(REQUEST, base_url="https://h", credentials=KEY, session=session)))
    assert type(error.cause) is RequestRejected
    assert "Session is closed" in str(error.cause)


ECHOES = (
    "body, text, half, in-band, garbage, field, line, words, page, cut, foreign, header, json, redirect, type, http"
)


@pytest.mark.parametrize("where", ECHOES.split(", "))
async def test_an_echoed_token_is_seen_nowhere(where: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    access, refresh = "canary-access-token", "canary-refresh-token"
    echo = f"Bearer {access} and {refresh}"
    reply = {
        "body": Reply(status=401, body={"error": {"type": echo, "code": echo, "message": echo}}),
        "text": Reply(status=500, body=echo),
        "half": Reply(status=500, body=echo, cut_at=20),
        "in-band": Reply(body=sse({"type": "error", "error": {"type": echo, "message": echo}})),
        "garbage": Reply(body=sse(echo)),
        "field": Reply(body=f"error: {echo}\n\n"),
        "line": Reply(body=json.dumps({"error": echo}) + "\n"),
        "words": Reply(body=f"{echo}\n"),
        "page": Reply(body=f"<title>{echo}</title>"),
        "cut": Reply(body=f"Error: {echo}"[:25], cut_at=25),
        "foreign": Reply(body=sse({"hello": echo})),
        "header": Reply(status=400, headers={"request-id": echo, "Retry-After": echo}),
        "json": Reply(body={"detail": echo}),
        "redirect": Reply.redirect(f"https://{access}.example/{access}"),
        "type": Reply(headers={"Content-Type": echo}, body="hello"),
        "http": None,
    }[where]
    holder = Holder(Credential(access, refresh))
    async with (
        FakeProvider(replies=[reply], api_keys=[access]) as fake,
        bare_server(f"{echo}\r\n\r\n".encode()) as bare,
    ):
        url = bare if where == "http" else fake.url
        end = failed(await collect(anthropic_messages(REQUEST, base_url=url, credentials=holder)))
    assert isinstance(end.cause, ProviderError)
    assert end.cause.credential is holder.credential
    shown = traceback.TracebackException.from_exception(end.cause, capture_locals=True)
    fields = {name: value for name, value in vars(end.cause).items() if name != "credential"}
    texts = [repr(end), str(end), to_json(end), *shown.format(), repr(fields), json.dumps(fields), caplog.text]
    assert not [text for text in texts if "canary" in text]
