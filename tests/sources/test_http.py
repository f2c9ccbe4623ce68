"""The sources over real sockets: what is sent, how each failure is told, and what becomes of the connection."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import logging
import threading
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import aiohttp
import pytest
from reactivex import Observable

from rxauth.credentials import Credential, StaticCredentials
from rxauth.errors import (
    ConnectionFailed,
    CredentialRejected,
    LoginRequired,
    ProtocolError,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    StreamCut,
)
from rxauth.events import AssistantEvent, Done, Error, Start, TextDelta, ToolCall, to_json
from rxauth.failures import is_auth_error
from rxauth.sources import anthropic_messages, openai_chat
from rxauth.testing import FakeProvider, Gate, Pause, Reply
from tests.sources.streams import REQUEST, Counted, Holder, collect, done, failed, sse, text_of

Source = Callable[..., Observable[AssistantEvent]]

KEY = StaticCredentials("a-static-key")

SOURCES = [pytest.param(anthropic_messages, "", id="Anthropic"), pytest.param(openai_chat, "/v1", id="OpenAI")]
both = pytest.mark.parametrize(("source", "path"), SOURCES)

ANSWER = sse(
    {"type": "message_start", "message": {"id": "m"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    {"type": "message_stop"},
    name=True,
)


def messages(fake: FakeProvider, **options: Any) -> Observable[AssistantEvent]:
    return anthropic_messages(REQUEST, base_url=fake.url, credentials=Holder(fake.credential()), **options)


async def answered(*replies: Reply | None, **options: Any) -> list[AssistantEvent]:
    async with FakeProvider(replies=replies) as fake:
        return await collect(messages(fake, **options))


# What is sent


@both
async def test_one_subscription_is_one_request_with_the_payload_and_the_token(source: Source, path: str) -> None:
    async with FakeProvider(answer="Hi") as fake:
        holder = Holder(fake.credential())
        stream = source(REQUEST, base_url=fake.url + path, credentials=holder)
        assert (holder.asked, fake.requests) == (0, [])
        for count in (1, 2):
            events = await collect(stream)
            assert (events[0], text_of(events), done(events).reason) == (Start(), "Hi", "stop")
            assert (holder.asked, len(fake.requests)) == (count, count)
        request = fake.requests[0]
        assert request.method == "POST"
        assert request.path == ("/v1/chat/completions" if path else "/v1/messages")
        assert request.headers["Authorization"] == f"Bearer {holder.credential.access_token}"
        assert request.headers["Accept"] == "text/event-stream"
        assert request.headers["Accept-Encoding"] == "identity"
        assert request.headers["Content-Type"] == "application/json"
        assert request.headers["User-Agent"].startswith("rxauth/")
        options = {"stream_options": {"include_usage": True}} if path else {}
        assert request.json() == {**REQUEST, "stream": True, **options}


async def test_the_version_of_the_protocol_goes_along_and_the_key_where_it_is_said() -> None:
    async with FakeProvider(api_keys=["a-static-key"]) as fake:
        await collect(anthropic_messages(REQUEST, base_url=fake.url, credentials=KEY, auth_header="x-api-key"))
        headers = fake.requests[0].headers
        assert headers["x-api-key"] == "a-static-key"
        assert headers["anthropic-version"] == "2023-06-01"
        assert "Authorization" not in headers


async def test_own_headers_replace_ours_whatever_their_case() -> None:
    own = {"Anthropic-Version": "2099-01-01", "USER-AGENT": "mine/1", "anthropic-beta": "x"}
    async with FakeProvider() as fake:
        await collect(messages(fake, headers=own))
        headers = fake.requests[0].headers
        assert {name: headers.getall(name) for name in own} == {name: [value] for name, value in own.items()}


async def test_own_stream_options_are_left_alone_and_may_be_left_out() -> None:
    async with FakeProvider() as fake:
        holder = Holder(fake.credential())
        own = {**REQUEST, "stream_options": {"include_usage": False}}
        await collect(openai_chat(own, base_url=f"{fake.url}/v1/", credentials=holder))
        await collect(openai_chat(REQUEST, base_url=f"{fake.url}/v1", credentials=holder, include_usage=False))
        first, second = fake.requests
        assert first.json()["stream_options"] == {"include_usage": False}
        assert "stream_options" not in second.json()


@both
async def test_the_request_is_taken_as_it_is_at_the_call_and_is_never_changed(source: Source, path: str) -> None:
    message = {"role": "user", "content": "before"}
    request = {"model": "m", "messages": [message]}
    async with FakeProvider() as fake:
        stream = source(request, base_url=fake.url + path, credentials=Holder(fake.credential()))
        assert request == {"model": "m", "messages": [message]}
        message["content"] = "after"
        await collect(stream)
        assert fake.requests[0].json()["messages"][0]["content"] == "before"


async def test_any_mapping_is_a_request_also_inside() -> None:
    message = MappingProxyType({"role": "user", "content": "é\u2028"})
    request = MappingProxyType({"model": "m", "messages": [message], "stream": None})
    async with FakeProvider() as fake:
        await collect(anthropic_messages(request, base_url=fake.url, credentials=Holder(fake.credential())))
        sent = fake.requests[0].json()
    assert sent == {"model": "m", "messages": [{"role": "user", "content": "é\u2028"}], "stream": True}


async def test_a_request_of_many_megabytes_is_sent_without_a_warning() -> None:
    async with FakeProvider() as fake:
        request = {"model": "m", "messages": [{"role": "user", "content": "x" * 3_000_000}]}
        await collect(anthropic_messages(request, base_url=fake.url, credentials=Holder(fake.credential())))
        assert len(fake.requests[0].body) > 3_000_000


# What is refused before any connection


@both
@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        pytest.param(None, TypeError, id="nothing"),
        pytest.param([("model", "m")], TypeError, id="pairs"),
        pytest.param("{}", TypeError, id="text"),
        pytest.param({"model": object()}, TypeError, id="what JSON cannot hold"),
        pytest.param({"stream": False}, ValueError, id="no stream"),
        pytest.param({"stream": 0}, ValueError, id="no stream, as a number"),
        pytest.param({"messages": "\ud800"}, ValueError, id="half a character"),
    ],
)
def test_a_request_that_cannot_be_made_is_refused_at_the_call(
    source: Source, path: str, request_: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        source(request_, base_url="https://example.com" + path, credentials=KEY)


@both
@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "sk-canary-key",
            "example.com",
            "/v1",
            "ftp://example.com",
            "https://",
            "https:///v1",
            "https://host:port",
        ),
        *("https://host:99999", "https://ho st", "https://host\n", "http://example.com", "http://10.0.0.1"),
        *("https://user:canary@host", "https://canary@host", "https://host?key=canary", "https://host#canary"),
        *("http://127.0.0.1.example.com", "http://localhost.example.com", None, 7, b"https://host"),
    ],
)
def test_a_base_url_that_no_token_can_go_to_is_refused_in_one_sentence(source: Source, path: str, url: Any) -> None:
    with pytest.raises(ValueError, match=r"^base_url [^\n]*\.$") as refused:
        source(REQUEST, base_url=url, credentials=KEY)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://h",
        "https://h:8443/path/",
        "HTTPS://H",
        "http://127.0.0.1:1",
        "http://127.8.8.8",
        "http://[::1]:80",
        "http://localhost",
        "http://a.localhost",
    ],
)
def test_a_base_url_is_https_or_loopback(url: str) -> None:
    anthropic_messages(REQUEST, base_url=url, credentials=KEY)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"credentials": "canary"}, TypeError),
        ({"credentials": Credential("canary")}, TypeError),
        ({"credentials": None}, TypeError),
        ({"headers": {"Authorization": "Bearer canary"}}, ValueError),
        ({"headers": {"X-Api-Key": "canary"}}, ValueError),
        ({"headers": {"x": "canary\r\nHost: evil"}}, ValueError),
        ({"headers": {"x y": "canary"}}, ValueError),
        ({"headers": {"": "canary"}}, ValueError),
        ({"headers": {"x": 1}}, TypeError),
        ({"auth_header": "cookie"}, ValueError),
        ({"read_timeout": 0}, ValueError),
        ({"connect_timeout": float("nan")}, ValueError),
        ({"max_event_bytes": 0}, ValueError),
    ],
)
def test_options_that_make_no_sense_are_refused_without_showing_what_may_be_secret(
    options: Mapping[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind) as refused:
        anthropic_messages(REQUEST, **{"base_url": "https://h", "credentials": KEY, **options})
    assert "canary" not in str(refused.value)


# The start


async def test_start_is_emitted_inside_subscribe_before_the_token_is_asked_for() -> None:
    events: list[AssistantEvent] = []
    async with FakeProvider() as fake:
        holder = Holder(fake.credential())
        stream = anthropic_messages(REQUEST, base_url=fake.url, credentials=holder)
        stream.subscribe(events.append).dispose()
        assert (events, holder.asked) == ([Start()], 0)
        await asyncio.sleep(0)
        assert fake.requests == []


def test_without_a_running_loop_there_is_an_error_and_nothing_before_it() -> None:
    events: list[AssistantEvent] = []
    errors: list[Exception] = []
    anthropic_messages(REQUEST, base_url="https://h", credentials=KEY).subscribe(events.append, errors.append)
    assert events == []
    assert [type(error) for error in errors] == [RuntimeError]


# How failures are told


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(Reply(status=401), CredentialRejected, id="401"),
        pytest.param(Reply(status=403), RequestRejected, id="403"),
        pytest.param(Reply(status=400), RequestRejected, id="400"),
        pytest.param(Reply(status=404), RequestRejected, id="404"),
        pytest.param(Reply(status=413), RequestRejected, id="413"),
        pytest.param(Reply(status=408), ProviderUnavailable, id="408"),
        pytest.param(Reply(status=429), ProviderUnavailable, id="429"),
        pytest.param(Reply(status=500), ProviderUnavailable, id="500"),
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
async def test_every_failure_is_one_error_event_with_a_typed_cause(reply: Reply, kind: type[ProviderError]) -> None:
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
async def test_the_headers_of_an_error_say_when_to_come_back_and_who_to_ask(source: Source, path: str) -> None:
    async with FakeProvider(replies=[Reply.rate_limited(7)]) as fake:
        events = await collect(source(REQUEST, base_url=fake.url + path, credentials=Holder(fake.credential())))
        cause = failed(events).cause
        assert isinstance(cause, ProviderUnavailable)
        assert (cause.status, cause.retry_after, cause.request_id) == (429, 7.0, "req_000001")


async def test_a_redirect_is_not_followed() -> None:
    async with FakeProvider() as other, FakeProvider(replies=[Reply.redirect(f"{other.url}/v1/messages")]) as fake:
        cause = failed(await collect(messages(fake))).cause
        assert len(fake.requests) == 1
        assert other.requests == []
        assert "redirects to 127.0.0.1" in str(cause)


async def test_a_server_that_is_not_there_is_a_failed_connection() -> None:
    async with FakeProvider() as fake:
        url = fake.url
    cause = failed(await collect(anthropic_messages(REQUEST, base_url=url, credentials=KEY))).cause
    assert type(cause) is ConnectionFailed
    assert cause.status is None
    assert url.removeprefix("http://") in str(cause)


class Resolver(aiohttp.abc.AbstractResolver):
    """Name resolution that fails, when a test says so."""

    def __init__(self, *, at_once: bool) -> None:
        self.asked = asyncio.Event()
        self.fail = asyncio.Event()
        if at_once:
            self.fail.set()

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
        self.asked.set()
        await self.fail.wait()
        raise OSError(-2, "Name or service not known")

    async def close(self) -> None: ...


async def test_a_name_that_does_not_exist_is_a_failed_connection() -> None:
    connector = aiohttp.TCPConnector(resolver=Resolver(at_once=True))
    async with aiohttp.ClientSession(connector=connector) as session:
        stream = anthropic_messages(REQUEST, base_url="https://nowhere.example", credentials=KEY, session=session)
        cause = failed(await collect(stream)).cause
        assert type(cause) is ConnectionFailed
        assert str(cause) == "No connection to nowhere.example: Name or service not known."


@pytest.mark.looptime
async def test_a_connection_that_takes_too_long_is_given_up() -> None:
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
async def test_a_server_that_falls_silent_is_given_up(after: Any) -> None:
    async with FakeProvider(replies=[Reply.hang(after=after)]) as fake:
        loop = asyncio.get_running_loop()
        before = loop.time()
        events = await collect(messages(fake, read_timeout=300))
        assert type(failed(events).cause) is ConnectionFailed
        assert "sent nothing for 300 s" in str(failed(events).cause)
        assert 300 <= loop.time() - before < 340
        await fake.until(lambda fake: fake.open_connections == 0)


@pytest.mark.looptime
async def test_there_is_no_limit_for_a_stream_that_keeps_coming() -> None:
    pings = [piece for _ in range(20) for piece in (b": ping\n\n", Pause(290))]
    async with FakeProvider(replies=[Reply(body=[*pings, ANSWER])]) as fake:
        loop = asyncio.get_running_loop()
        before = loop.time()
        assert done(await collect(messages(fake, read_timeout=300))).reason == "stop"
        assert loop.time() - before > 5000


@pytest.mark.looptime
async def test_an_error_whose_body_hangs_is_told_within_seconds() -> None:
    async with FakeProvider(replies=[Reply(status=401, body=["{", Gate()])]) as fake:
        loop = asyncio.get_running_loop()
        before = loop.time()
        cause = failed(await collect(messages(fake))).cause
        assert type(cause) is CredentialRejected
        assert loop.time() - before < 6


async def test_of_an_error_page_only_the_status_is_told() -> None:
    cause = failed(await answered(Reply.html("<h1>Bad gateway</h1>", status=502))).cause
    assert "HTTP 502" in str(cause)
    assert "<" not in str(cause)


async def test_a_server_that_hangs_up_is_told_so() -> None:
    assert "closed the connection without an answer" in str(failed(await answered(Reply.cut())).cause)


async def test_of_an_error_that_is_too_long_only_the_status_is_told() -> None:
    cause = failed(await answered(Reply(status=500, body="secret " * 20_000))).cause
    assert isinstance(cause, ProviderUnavailable)
    assert "secret" not in str(cause)


async def test_an_event_that_is_too_large_ends_the_stream_and_keeps_what_was_said() -> None:
    error = failed(await answered(Reply(body=ANSWER[:-60] + b"data: " + b"x" * 5000), max_event_bytes=1000))
    assert type(error.cause) is ProtocolError
    assert "1000 bytes" in str(error.cause)
    assert error.error.text == "Hello"


async def test_a_tool_call_that_waits_for_its_id_is_kept_when_the_connection_breaks() -> None:
    call = {"index": 0, "function": {"name": "f", "arguments": '{"a'}}
    body = sse({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
    async with FakeProvider(replies=[Reply(body=body, cut_at=len(body))]) as fake:
        credentials = Holder(fake.credential())
        error = failed(await collect(openai_chat(REQUEST, base_url=fake.url + "/v1", credentials=credentials)))
    assert type(error.cause) is StreamCut
    assert error.error.content == (ToolCall("call_0", "f", '{"a'),)


async def test_what_is_too_large_behind_a_complete_answer_breaks_nothing() -> None:
    events = await answered(Reply(body=[ANSWER + b"data: " + b"x" * 5000]), max_event_bytes=1000)
    assert [type(event) for event in events[-1:]] == [Done]


async def test_a_compressed_stream_is_read() -> None:
    events = await answered(Reply(headers={"Content-Encoding": "gzip"}, body=gzip.compress(ANSWER)))
    assert text_of(events) == "Hello"
    assert done(events).reason == "stop"


@asynccontextmanager
async def bare_server(reply: bytes) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("reply", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\0\1\2\3\r\n\r\n", b"HTTP/1.1 twohundred OK\r\n\r\n"])
async def test_a_server_that_does_not_speak_http_is_not_the_right_one(reply: bytes) -> None:
    async with bare_server(reply) as url:
        cause = failed(await collect(anthropic_messages(REQUEST, base_url=url, credentials=KEY))).cause
        assert type(cause) is ProtocolError
        assert "did not answer in HTTP" in str(cause)
        assert len(str(cause)) < 300


async def test_the_proxy_of_the_environment_is_asked_and_never_given_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_a_body_of_unknown_length_ends_with_its_connection() -> None:
    async with bare_server(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + ANSWER[:-50]) as url:
        assert done(await collect(anthropic_messages(REQUEST, base_url=url, credentials=KEY))).message.text == "Hello"


async def test_a_session_that_is_closed_is_told_in_one_sentence() -> None:
    session = aiohttp.ClientSession()
    await session.close()
    error = failed(await collect(anthropic_messages(REQUEST, base_url="https://h", credentials=KEY, session=session)))
    assert type(error.cause) is RequestRejected
    assert "Session is closed" in str(error.cause)


# The credential source


class Broken:
    def __init__(self, error: Exception) -> None:
        self.error = error

    async def current(self) -> Credential:
        raise self.error

    async def refresh(self, failure: object) -> None: ...


async def test_what_the_credential_source_raises_is_the_cause() -> None:
    error = LoginRequired("Log in again: rxauth login kimi")
    end = failed(await collect(anthropic_messages(REQUEST, base_url="https://h", credentials=Broken(error))))
    assert end.cause is error
    assert end.error.error_message == "Log in again: rxauth login kimi"
    assert not is_auth_error(end)


async def test_the_text_of_a_foreign_exception_is_not_shown() -> None:
    error = KeyError("canary-token")
    end = failed(await collect(anthropic_messages(REQUEST, base_url="https://h", credentials=Broken(error))))
    assert end.cause is error
    assert end.error.error_message == "The credential source failed (KeyError)."


class LoggedOut(Holder):
    async def current(self) -> Credential:
        raise LoginRequired("Log in.")


@pytest.mark.parametrize("source", [Holder, LoggedOut])
async def test_a_credential_goes_with_its_stream_and_needs_no_collector(source: type[Holder]) -> None:
    async def streamed(fake: FakeProvider) -> weakref.ref[Any]:
        credentials = source(Credential("dead"))
        failed(await collect(anthropic_messages(REQUEST, base_url=fake.url, credentials=credentials)))
        return weakref.ref(credentials)

    async with FakeProvider() as fake:
        gc.collect()
        gc.disable()
        try:
            gone = await streamed(fake)
            await fake.until(lambda fake: fake.open_connections == bool(fake.requests))
            assert gone() is None
        finally:
            gc.enable()


async def test_a_credential_source_that_gives_none_is_told() -> None:
    class Nothing(Broken):
        async def current(self) -> Any:
            return None

    end = failed(await collect(anthropic_messages(REQUEST, base_url="https://h", credentials=Nothing(KeyError()))))
    assert type(end.cause) is AttributeError


# What becomes of the connection


async def test_dispose_closes_the_connection_at_once_and_nothing_more_is_emitted() -> None:
    async with FakeProvider(answer="one two three", replies=[Reply.hang(gate := Gate(), after=3)]) as fake:
        events: list[AssistantEvent] = []
        subscription = messages(fake).subscribe(events.append)
        await gate.reached()
        assert fake.open_connections == 1
        subscription.dispose()
        seen = len(events)
        await fake.until(lambda fake: fake.open_connections == 0)
        await fake.served()
        assert fake.requests[0].client_closed
        assert len(events) == seen


@pytest.mark.parametrize("after", ["head", 1])
async def test_dispose_from_another_thread_closes_it_too(after: Any) -> None:
    async with FakeProvider(replies=[Reply.hang(gate := Gate(), after=after)]) as fake:
        subscription = messages(fake).subscribe()
        await gate.reached()
        thread = threading.Thread(target=subscription.dispose)
        thread.start()
        await fake.until(lambda fake: fake.open_connections == 0)
        thread.join()


async def test_dispose_while_connecting_leaves_no_task() -> None:
    resolver = Resolver(at_once=False)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver)) as session:
        stream = anthropic_messages(REQUEST, base_url="https://slow.example", credentials=KEY, session=session)
        tasks = asyncio.all_tasks()
        events: list[AssistantEvent] = []
        subscription = stream.subscribe(events.append)
        await resolver.asked.wait()
        subscription.dispose()
        resolver.fail.set()  # aiohttp lets a resolution that is under way come to its end
        while asyncio.all_tasks() - tasks:
            await asyncio.sleep(0)
        assert events == [Start()]


async def test_dispose_inside_an_event_stops_the_stream_there() -> None:
    async with FakeProvider(answer="one two three", replies=[Reply(events_per_write=99)]) as fake:
        events: list[AssistantEvent] = []

        def on_next(event: AssistantEvent) -> None:
            events.append(event)
            if isinstance(event, TextDelta):
                subscription.dispose()

        subscription = messages(fake).subscribe(on_next)
        await fake.until(lambda fake: bool(fake.requests) and fake.open_connections == 0)
        assert isinstance(events[-1], TextDelta)
        assert sum(isinstance(event, TextDelta) for event in events) == 1


async def test_a_consumers_exception_closes_the_connection_and_goes_to_the_loops_handler() -> None:
    async with FakeProvider(answer="one two three four", replies=[Reply.hang(after=5)]) as fake:
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.set_result(context["exception"]))
        ends: list[object] = []
        error = CredentialRejected("not the provider's", status=401)

        def on_next(event: AssistantEvent) -> None:
            if isinstance(event, TextDelta):
                raise error
            if isinstance(event, Done | Error):
                ends.append(event)

        messages(fake).subscribe(on_next, ends.append)
        assert await told is error
        await fake.until(lambda fake: fake.open_connections == 0)
        assert ends == []


async def test_a_session_that_was_given_is_used_and_left_open() -> None:
    async with FakeProvider() as fake, aiohttp.ClientSession(headers={"X-Mine": "1"}) as session:
        for _ in range(3):
            done(await collect(messages(fake, session=session)))
        assert not session.closed
        assert fake.requests[0].headers["X-Mine"] == "1"
        assert fake.open_connections == 1, "a connection whose answer was read to its end is used again"


async def test_a_session_that_raises_for_an_error_status_changes_nothing() -> None:
    refused = {"error": {"type": "authentication_error", "message": "No."}}
    async with (
        FakeProvider(replies=[Reply(status=401, body=refused)]) as fake,
        aiohttp.ClientSession(raise_for_status=True) as session,
    ):
        cause = failed(await collect(messages(fake, session=session))).cause
    assert type(cause) is CredentialRejected
    assert str(cause) == "No. (HTTP 401, authentication_error)"


@pytest.mark.looptime
async def test_a_connection_whose_body_ends_a_little_later_is_used_again() -> None:
    late = Reply(body=[ANSWER, Pause(0.05)])
    async with Counted(replies=[late, late]) as fake, aiohttp.ClientSession() as session:
        for _ in range(2):
            done(await collect(messages(fake, session=session)))
        assert fake.connections_made == 1


async def test_without_a_session_no_connection_is_left_behind() -> None:
    async with FakeProvider() as fake:
        done(await collect(messages(fake)))
        await fake.until(lambda fake: fake.open_connections == 0)


@pytest.mark.looptime
async def test_an_answer_is_complete_although_the_server_keeps_its_connection_open() -> None:
    async with FakeProvider(replies=[Reply(body=[ANSWER, Gate()])]) as fake:
        loop = asyncio.get_running_loop()
        before = loop.time()
        done(await collect(messages(fake)))
        assert loop.time() - before < 1
        await fake.until(lambda fake: fake.open_connections == 0)


async def test_streams_do_not_meet() -> None:
    async with FakeProvider(replies=[Reply(answer="a " * 50), Reply(answer="b " * 50, status=200)]) as fake:
        stream = messages(fake)
        first, second = await asyncio.gather(collect(stream), collect(stream))
        assert {text_of(first), text_of(second)} == {"a " * 50, "b " * 50}


async def test_more_than_a_hundred_streams_run_at_once() -> None:
    gate = Gate()
    async with FakeProvider(replies=[Reply.hang(gate, after=1) for _ in range(150)]) as fake:
        streams = asyncio.gather(*(collect(messages(fake)) for _ in range(150)))
        await gate.reached(150)
        gate.open()
        assert all(done(events).reason == "stop" for events in await streams)


# Secrets


@pytest.mark.parametrize(
    "where", ["body", "text", "half of it", "in-band", "garbage", "header", "json", "redirect", "content type", "http"]
)
async def test_a_token_that_the_server_echoes_is_seen_nowhere(where: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    access, refresh = "canary-access-token", "canary-refresh-token"
    echo = f"Bearer {access} and {refresh}"
    reply = {
        "body": Reply(status=401, body={"error": {"type": echo, "code": echo, "message": echo}}),
        "text": Reply(status=500, body=echo),
        "half of it": Reply(status=500, body=echo, cut_at=20),
        "in-band": Reply(body=sse({"type": "error", "error": {"type": echo, "message": echo}})),
        "garbage": Reply(body=sse(echo)),
        "header": Reply(status=400, headers={"request-id": echo, "Retry-After": echo}),
        "json": Reply(body={"detail": echo}),
        "redirect": Reply.redirect(f"https://{access}.example/{access}"),
        "content type": Reply(headers={"Content-Type": echo}, body="hello"),
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
    told = {name: value for name, value in vars(end.cause).items() if name != "credential"}
    texts = [repr(end), str(end), to_json(end), *shown.format(), repr(told), json.dumps(told), caplog.text]
    assert not [text for text in texts if "canary" in text]
