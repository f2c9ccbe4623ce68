"""Marked tokens are seen in the request, the token request and the store, and in no text."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import rxauth
from rxauth import (
    Credential,
    FileStore,
    OAuthCredentials,
    StaticCredentials,
    anthropic_messages,
    openai_chat,
    recover_auth,
    to_async_iterable,
)
from rxauth.credentials import device_login
from rxauth.events import Error, to_json
from rxauth.testing import FakeProvider, Reply, SeenRequest
from tests.hostile.endless import parroting

pytestmark = pytest.mark.slow

REQUEST = {"model": "any", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}

ACCESS = "Canary-Access/+Q7_x=="
REFRESH = "Canary-Refresh/+R8-y=="
SECRET = "Canary-Client-Secret-S9"
SECRETS = (ACCESS, REFRESH, SECRET)

ECHOES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in lower case": str.lower,
    "in upper case": str.upper,
    "percent-encoded": lambda token: quote(token, safe=""),
    "percent-encoded but for the slashes": quote,
    "percent-encoded in lower case": lambda token: re.sub("%..", lambda m: m[0].lower(), quote(token, safe="")),
    "percent-encoded twice": lambda token: quote(quote(token, safe=""), safe=""),
    "in JSON": json.dumps,
    "in JSON with slashes escaped": lambda token: json.dumps(token).replace("/", "\\/"),
    "in Base64": lambda token: base64.b64encode(token.encode()).decode(),
    "in Base64 for URLs": lambda token: base64.urlsafe_b64encode(token.encode()).decode(),
    "in Base64 behind Bearer": lambda token: base64.b64encode(f"Bearer {token}".encode()).decode(),
    "in Base64 behind a name": lambda token: base64.b64encode(f"ab:{token}:c".encode()).decode(),
    "in hex": lambda token: token.encode().hex(),
}


def marks() -> Iterator[str]:
    """Parts of the tokens that no text may hold, in each way to write them."""
    for token in SECRETS:
        for echo in ECHOES.values():
            said = echo(token).strip('"').lower()
            # Of Base64 and of what stands in front of it, the first and last characters are shared.
            yield said[len(said) // 2 - 6 : len(said) // 2 + 6]


MARKS = frozenset(marks())


def seen_in(text: str) -> list[str]:
    lowered = text.lower()
    return [mark for mark in MARKS if mark in lowered]


@dataclass
class Shown:
    """Every text that a scenario leaves behind."""

    texts: list[str] = field(default_factory=list)
    exceptions: list[BaseException] = field(default_factory=list)
    objects: list[object] = field(default_factory=list)

    def all(self) -> Iterator[str]:
        yield from self.texts
        for error in self.exceptions:
            yield from traceback.format_exception(error)
            # As those show it who report an error with the variables of its frames.
            yield from traceback.TracebackException.from_exception(error, capture_locals=True).format()
            yield from (repr(error), str(error), f"{error}", repr(error.args))
            yield from shown(vars(error))
        for each in self.objects:
            yield from (repr(each), str(each), f"{each}")
            yield from shown(getattr(each, "__dict__", {}))


def shown(variables: dict[str, Any]) -> Iterator[str]:
    for name, value in variables.items():
        yield f"{name}={value!r}"


def echo_of(token: str, how: str) -> str:
    return f"the token {ECHOES[how](token)} is bad"


Scene = tuple[list[Reply | None], list[Reply | None]]


def scene(name: str, how: str) -> Scene:
    """The replies of the API and of the token endpoint."""

    def echo(seen: SeenRequest) -> dict[str, Any]:
        said = echo_of(seen.token or "", how)
        return {"type": "error", "error": {"type": said, "code": said, "message": said}, "request_id": said}

    def text(seen: SeenRequest) -> str:
        return echo_of(seen.token or "", how)

    def in_band(seen: SeenRequest) -> list[Any]:
        return [echo(seen)]

    def oauth(seen: SeenRequest) -> dict[str, Any]:
        said = ECHOES[how](REFRESH)
        return {"error": said, "error_description": said, "error_uri": said, "message": f"a token: {said}"}

    said = ECHOES[how](ACCESS)
    one_line = said.replace("/", "-")
    scenes: dict[str, Scene] = {
        "401 in JSON": ([Reply(status=401, body=echo)] * 2, []),
        "500 in JSON": ([Reply(status=500, body=echo)], []),
        "401 as text": ([Reply(status=401, body=text)] * 2, []),
        "400 as text": ([Reply(status=400, body=text)], []),
        "an error in-band": ([Reply(body=in_band)], []),
        "JSON where a stream should be": ([Reply(body=echo)], []),
        "HTML": ([Reply.html(f"<html>{said}")], []),
        "a request id": ([Reply(status=403, headers={"request-id": said, "x-request-id": said})], []),
        "a content type": ([Reply(headers={"Content-Type": said}, body="hello")], []),
        "a time to wait": ([Reply(status=429, headers={"Retry-After": said})], []),
        "a redirect to another host": ([Reply.redirect(f"https://{one_line}.example/{said}?t={said}")], []),
        "a redirect to no URL": ([Reply.redirect(f"http://[{one_line}/{said}")], []),
        "a cut": ([Reply.cut(300)], []),
        "a reset": ([Reply.reset(10)], []),
        "a refusal of the refresh": ([Reply.unauthorized()], [Reply(status=400, body=oauth)]),
        "a dead refresh token": ([Reply.unauthorized()], [Reply(status=401, body=oauth)] * 2),
        "a 403 of the token endpoint": ([Reply.unauthorized()], [Reply(status=403, body=oauth)]),
        "trouble at the token endpoint": ([Reply.unauthorized()], [Reply(status=503, body=oauth)] * 3),
        "a redirect of the token endpoint": ([Reply.unauthorized()], [Reply.redirect(f"https://x.example/{said}")]),
        "a token endpoint that hangs up": ([Reply.unauthorized()], [Reply.reset()] * 3),
    }
    return scenes[name]


NAMES = [
    "401 in JSON", "500 in JSON", "401 as text", "400 as text", "an error in-band", "JSON where a stream should be",
    "HTML", "a request id", "a content type", "a time to wait", "a redirect to another host", "a redirect to no URL",
    "a cut", "a reset", "a refusal of the refresh", "a 403 of the token endpoint",
    "a dead refresh token", "trouble at the token endpoint",
    "a redirect of the token endpoint", "a token endpoint that hangs up",
]  # fmt: skip


@contextmanager
def everything_logged() -> Iterator[list[str]]:
    """The root logger at DEBUG, with the records' arguments and tracebacks."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.extend((self.format(record), repr(record.__dict__)))

    root, keep = logging.getLogger(), Keep(logging.DEBUG)
    levels = {name: logging.getLogger(name).level for name in (None, "asyncio", "aiohttp", "rxauth", "filelock")}
    root.addHandler(keep)
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(keep)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


async def no_time(seconds: float) -> None:
    await asyncio.sleep(0)


class Watched(FileStore):
    """Lets the loop that loads it log each of its steps, as asyncio's debug mode logs slow ones."""

    async def load(self) -> Credential | None:
        watched()
        return await super().load()


def watched() -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0


async def shown_in(name: str, how: str, home: Path, *, source: Any = anthropic_messages, path: str = "") -> Shown:
    replies, token_replies = scene(name, how)
    seen = Shown()
    step_by_step = how == "as it is"  # takes its time, and is the same for all
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.set_exception_handler(lambda _, context: seen.texts.append(repr(context)))
    if step_by_step:
        watched()
    with everything_logged() as lines:
        async with FakeProvider(
            replies=replies, token_replies=token_replies, api_keys=[ACCESS], client_secret=SECRET
        ) as fake:
            store = (Watched if step_by_step else FileStore)(home / "auth.json", "key")
            await store.save(Credential(ACCESS, refresh_token=REFRESH))
            credentials = OAuthCredentials(
                store, token_url=fake.token_url, client_id=fake.client_id, client_secret=SECRET, sleep=no_time
            )

            async def refresh(failure: object) -> Credential | None:
                seen.objects.append(failure)
                try:
                    return await credentials.refresh(failure)
                except Exception as error:
                    seen.exceptions.append(error)
                    raise

            stream = source(REQUEST, base_url=fake.url + path, credentials=credentials)
            recovered = stream.pipe(recover_auth(refresh, on_recovery=seen.objects.append))
            events = [event async for event in to_async_iterable(recovered)]
            assert events[-1].type in ("error", "done")
            seen.objects += [*events, store, credentials, recovered, await store.load()]
            seen.texts += [f"{fake!r} {fake.requests} {fake.requests[0].headers}"]
            seen.texts += [to_json(event) for event in events]
            for event in events:
                if isinstance(event, Error):
                    assert event.cause is not None
                    seen.exceptions.append(event.cause)
                    seen.objects.append(event.error)
            # Where it belongs it was.
            assert fake.api_requests[0].token == ACCESS
            assert all(REFRESH in each.form()["refresh_token"] for each in fake.token_requests)
    seen.texts += lines
    assert any("Canary" in each for each in (home / "auth.json").read_text().splitlines())
    return seen


USUAL = ("as it is", "percent-encoded", "in Base64")


@pytest.mark.parametrize(
    "ways",
    [
        pytest.param(USUAL, id="usual echoes"),
        pytest.param([each for each in ECHOES if each not in USUAL], id="other echoes", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", NAMES)
async def test_a_token_is_in_no_text(name: str, ways: Sequence[str], tmp_path: Path) -> None:
    for number, how in enumerate(ways):
        source, path = ((anthropic_messages, ""), (openai_chat, "/v1"))[number % 2]
        seen = await shown_in(name, how, tmp_path / str(number), source=source, path=path)
        assert [(how, text, seen_in(text)) for text in seen.all() if seen_in(text)][:1] == []


NO_HTTP: dict[str, Callable[[bytes], bytes]] = {
    "no HTTP": lambda said: said,
    "a status line": lambda said: b"HTTP/1.1 " + said + b"\r\n\r\n",
    "a reason": lambda said: b"HTTP/1.1 400 " + said + b"\r\nContent-Length: 0\r\n\r\n",
    "a header": lambda said: b"HTTP/1.1 200 OK\r\n(" + said + b"\r\n\r\n",
    "a cookie": lambda said: b"HTTP/1.1 200 OK\r\nSet-Cookie: (" + said + b"=x; y\r\nContent-Length: 0\r\n\r\n",
    "a length": lambda said: b"HTTP/1.1 200 OK\r\nContent-Length: " + said + b"\r\n\r\n",
    "a chunk": lambda said: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + said + b"\r\n",
    "what is not gzip": lambda said: b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + said,
}


@pytest.mark.parametrize("answer", NO_HTTP.values(), ids=NO_HTTP)
@pytest.mark.parametrize("client_auth", ["body", "basic"])
async def test_an_answer_that_is_no_http_is_not_quoted(answer: Any, client_auth: Any) -> None:
    seen = Shown()
    watched()
    credential = Credential(ACCESS, refresh_token=REFRESH)
    with everything_logged() as lines:
        async with parroting(answer) as url:
            for source in (anthropic_messages, openai_chat):
                stream = source(REQUEST, base_url=url, credentials=StaticCredentials(credential))
                *_, last = [event async for event in to_async_iterable(stream)]
                assert isinstance(last, Error)
                assert last.cause is not None
                seen.exceptions.append(last.cause)
            credentials = OAuthCredentials(
                rxauth.MemoryStore(credential), token_url=url, client_id="app", client_secret=SECRET,
                client_auth=client_auth, sleep=no_time,
            )  # fmt: skip
            login = device_login(
                device_url=url, token_url=url, client_id="app", client_secret=SECRET, on_prompt=seen.objects.append
            )
            with pytest.raises(rxauth.CredentialError) as not_refreshed:
                await credentials.refresh(None)
            seen.exceptions.append(not_refreshed.value)
            with pytest.raises(rxauth.RxAuthError) as not_logged_in:
                await login
            # Not its frames' variables: the secret is an argument of the call that failed.
            seen.texts += [*traceback.format_exception(not_logged_in.value), repr(not_logged_in.value)]
    seen.texts += lines
    assert [(text, seen_in(text)) for text in seen.all() if seen_in(text)][:1] == []


@pytest.mark.parametrize("source", [anthropic_messages, openai_chat], ids=["anthropic", "openai"])
async def test_a_consumers_exception_has_no_token_in_a_frame(source: Any) -> None:
    seen = Shown()
    thrown = asyncio.Event()

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        seen.exceptions.append(context["exception"])
        seen.texts.append(repr(context))
        thrown.set()

    def consume(event: Any) -> None:
        if event.type == "text_delta":
            raise ValueError(event.delta)

    asyncio.get_running_loop().set_exception_handler(handle)
    async with FakeProvider(api_keys=[ACCESS]) as fake:
        base_url = fake.url + ("/v1" if source is openai_chat else "")
        source(REQUEST, base_url=base_url, credentials=StaticCredentials(ACCESS)).subscribe(consume)
        await thrown.wait()
    assert [(text, seen_in(text)) for text in seen.all() if seen_in(text)][:1] == []


def test_each_echo_would_be_found() -> None:
    for token in SECRETS:
        for how in ECHOES:
            assert seen_in(echo_of(token, how)), how


PUBLIC: dict[str, Callable[[], object]] = {
    "a credential": lambda: Credential(ACCESS, refresh_token=REFRESH, extra={"id_token": ACCESS}),
    "static credentials": lambda: StaticCredentials(ACCESS),
    "a memory store": lambda: rxauth.MemoryStore(Credential(ACCESS, refresh_token=REFRESH)),
    "oauth credentials": lambda: OAuthCredentials(
        rxauth.MemoryStore(Credential(ACCESS, refresh_token=REFRESH)),
        token_url="https://example.com/token", client_id="app", client_secret=SECRET, headers={"x": ACCESS},
    ),
    "a stream": lambda: anthropic_messages(
        REQUEST, base_url="https://example.com", credentials=StaticCredentials(ACCESS)
    ),
    "a rejected credential": lambda: rxauth.CredentialRejected("401", credential=Credential(ACCESS)),
    "a stream that was never live": lambda: rxauth.NeverLiveError((ACCESS,), {"type": ACCESS, "message": ACCESS}),
}  # fmt: skip


@pytest.mark.parametrize("make", PUBLIC.values(), ids=PUBLIC)
def test_no_public_object_shows_a_token(make: Callable[[], object]) -> None:
    made = make()
    if isinstance(made, rxauth.NeverLiveError):
        texts = [repr(made), str(made), f"{made}"]
    else:
        texts = [repr(made), str(made), f"{made}", *shown(getattr(made, "__dict__", {}))]
    assert [text for text in texts if seen_in(text)] == []
