"""Marked tokens are seen in the request, the token request and the store, and in no text."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
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
from rxauth.cli import main
from rxauth.credentials import device_login
from rxauth.events import Error, to_json
from rxauth.testing import FakeProvider, Reply
from tests.hostile.network import serving

pytestmark = pytest.mark.slow

REQUEST = {"model": "any", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}

ACCESS = "Canary-Access/+Q7_x=="
REFRESH = "Canary-Refresh/+R8-y=="
SECRET = "Canary-Client-Secret-S9"
CREDENTIAL = Credential(ACCESS, refresh_token=REFRESH)
CLIENT: Any = {"client_id": "app", "client_secret": SECRET}

ECHOES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "percent-encoded": lambda token: quote(token, safe=""),
    "in Base64": lambda token: base64.b64encode(token.encode()).decode(),
    "in lower case": str.lower,
    "in upper case": str.upper,
    "percent-encoded but for the slashes": quote,
    "percent-encoded in lower case": lambda token: re.sub("%..", lambda m: m[0].lower(), quote(token, safe="")),
    "percent-encoded twice": lambda token: quote(quote(token, safe=""), safe=""),
    "in JSON": json.dumps,
    "in JSON with slashes escaped": lambda token: json.dumps(token).replace("/", "\\/"),
    "in Base64 for URLs": lambda token: base64.urlsafe_b64encode(token.encode()).decode(),
    "in Base64 behind Bearer": lambda token: base64.b64encode(f"Bearer {token}".encode()).decode(),
    "in Base64 behind a name": lambda token: base64.b64encode(f"ab:{token}:c".encode()).decode(),
    "in hex": lambda token: token.encode().hex(),
}


def marks() -> Iterator[str]:
    """Parts of the tokens that no text may hold, in each way to write them."""
    for token in (ACCESS, REFRESH, SECRET):
        for echo in ECHOES.values():
            said = echo(token).strip('"').lower()
            # Of Base64 and of what stands in front of it, the first and last characters are shared.
            yield said[len(said) // 2 - 6 : len(said) // 2 + 6]


MARKS = frozenset(marks())


def seen_in(*texts: str) -> list[str]:
    return [text for text in texts if any(mark in text.lower() for mark in MARKS)][:1]


def test_each_echo_would_be_found() -> None:
    assert all(seen_in(f"{echo(token)} is bad") for token in (ACCESS, REFRESH, SECRET) for echo in ECHOES.values())


class Shown:
    """Every text that a scenario leaves behind; what is logged at DEBUG, by a loop in debug mode too, is one."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.texts: list[str] = []
        self.exceptions: list[BaseException] = []
        self.objects: list[object] = []
        self._caplog = caplog
        caplog.clear()
        for name in (None, "asyncio", "aiohttp", "rxauth", "filelock"):
            caplog.set_level(logging.DEBUG, logger=name)
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.set_exception_handler(self._reported)

    def _reported(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.texts.append(repr(context))
        if "exception" in context:
            self.exceptions.append(context["exception"])

    def secrets(self) -> list[str]:
        return seen_in(*self._all())

    def _all(self) -> Iterator[str]:
        yield from (*self.texts, self._caplog.text, *(repr(vars(record)) for record in self._caplog.records))
        for error in self.exceptions:
            yield from traceback.format_exception(error)
            # As those show it who report an error with the variables of its frames.
            yield from traceback.TracebackException.from_exception(error, capture_locals=True).format()
            yield repr(error.args)
        for each in (*self.exceptions, *self.objects):
            yield from texts_of(each)


def texts_of(each: object) -> Iterator[str]:
    yield from (repr(each), str(each), f"{each}")
    yield from (f"{name}={value!r}" for name, value in getattr(each, "__dict__", {}).items())


def log_each_step() -> None:
    """Let the running loop log each step, as asyncio's debug mode logs slow ones."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0


class Watched(FileStore):
    """Also logs each step of the loop that loads it."""

    async def load(self) -> Credential | None:
        log_each_step()
        return await super().load()


async def no_time(seconds: float) -> None:
    await asyncio.sleep(0)


def replies(how: str) -> dict[str, tuple[list[Reply], list[Reply]]]:
    """The places where a server can echo a token: in replies of the API, and of the token endpoint."""
    access, refresh = ECHOES[how](ACCESS), ECHOES[how](REFRESH)
    words = f"the token {access} is bad"
    error = {"type": "error", "error": {"type": words, "code": words, "message": words}, "request_id": words}
    oauth = {"error": refresh, "error_description": refresh, "error_uri": refresh, "message": f"a token: {refresh}"}
    host = access.replace("/", "-")
    stale = [Reply.unauthorized()]
    return {
        "401 in JSON": ([Reply(status=401, body=error)] * 2, []),
        "500 in JSON": ([Reply(status=500, body=error)], []),
        "401 as text": ([Reply(status=401, body=words)] * 2, []),
        "400 as text": ([Reply(status=400, body=words)], []),
        "an error in-band": ([Reply(body=[error])], []),
        "JSON where a stream should be": ([Reply(body=error)], []),
        "HTML": ([Reply.html(f"<html>{access}")], []),
        "a request id": ([Reply(status=403, headers={"request-id": access, "x-request-id": access})], []),
        "a content type": ([Reply(headers={"Content-Type": access}, body="hello")], []),
        "a time to wait": ([Reply(status=429, headers={"Retry-After": access})], []),
        "a redirect to another host": ([Reply.redirect(f"https://{host}.example/{access}?t={access}")], []),
        "a redirect to no URL": ([Reply.redirect(f"http://[{host}/{access}")], []),
        "a cut": ([Reply.cut(300)], []),
        "a reset": ([Reply.reset(10)], []),
        "a refusal of the refresh": (stale, [Reply(status=400, body=oauth)]),
        "a 403 of the token endpoint": (stale, [Reply(status=403, body=oauth)]),
        "a dead refresh token": (stale, [Reply(status=401, body=oauth)] * 2),
        "trouble at the token endpoint": (stale, [Reply(status=503, body=oauth)] * 3),
        "a redirect of the token endpoint": (stale, [Reply.redirect(f"https://x.example/{access}")]),
        "a token endpoint that hangs up": (stale, [Reply.reset()] * 3),
    }


@pytest.mark.parametrize("ways", [list(ECHOES)[:3], list(ECHOES)[3:]], ids=["usual echoes", "other echoes"])
@pytest.mark.parametrize("place", replies("as it is"))
async def test_a_token_is_in_no_text(
    place: str, ways: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, how in enumerate(ways):
        source, path = ((anthropic_messages, ""), (openai_chat, "/v1"))[number % 2]
        seen = Shown(caplog)
        await leave_texts(seen, place, how, tmp_path / f"{number}.json", source, path)
        assert (how, seen.secrets()) == (how, [])


async def leave_texts(seen: Shown, place: str, how: str, file: Path, source: Any, path: str) -> None:
    api_replies, token_replies = replies(how)[place]
    step_by_step = how == "as it is"  # takes its time, and is the same for all
    if step_by_step:
        log_each_step()
    async with FakeProvider(
        replies=api_replies, token_replies=token_replies, api_keys=[ACCESS], client_secret=SECRET
    ) as fake:
        store = (Watched if step_by_step else FileStore)(file, "key")
        await store.save(CREDENTIAL)
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
        seen.texts += [f"{fake!r} {fake.requests} {fake.requests[0].headers}", *map(to_json, events)]
        for event in events:
            if isinstance(event, Error):
                assert event.cause is not None
                seen.exceptions.append(event.cause)
                seen.objects.append(event.error)
        # Where it belongs it was.
        assert fake.api_requests[0].token == ACCESS
        assert all(REFRESH in each.form()["refresh_token"] for each in fake.token_requests)
    assert "Canary" in file.read_text()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"%s", id="no HTTP"),
        pytest.param(b"HTTP/1.1 %s\r\n\r\n", id="a status line"),
        pytest.param(b"HTTP/1.1 400 %s\r\nContent-Length: 0\r\n\r\n", id="a reason"),
        pytest.param(b"HTTP/1.1 200 OK\r\n(%s\r\n\r\n", id="a header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nSet-Cookie: (%s=x; y\r\nContent-Length: 0\r\n\r\n", id="a cookie"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n", id="a length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n", id="a chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n%s", id="what is not gzip"),
    ],
)
@pytest.mark.parametrize("client_auth", ["body", "basic"])
async def test_an_answer_that_is_no_http_is_not_quoted(
    answer: bytes, client_auth: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def parrot(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer with the request, head and body in one line."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
        assert length is not None
        request = head + await reader.readexactly(int(length[1]))
        writer.write(answer % b" ".join(request.split(b"\r\n")))

    seen = Shown(caplog)
    log_each_step()
    async with serving(parrot) as url:
        for source in (anthropic_messages, openai_chat):
            stream = source(REQUEST, base_url=url, credentials=StaticCredentials(CREDENTIAL))
            *_, last = [event async for event in to_async_iterable(stream)]
            assert isinstance(last, Error)
            assert last.cause is not None
            seen.exceptions.append(last.cause)
        store = rxauth.MemoryStore(CREDENTIAL)
        credentials = OAuthCredentials(store, token_url=url, client_auth=client_auth, sleep=no_time, **CLIENT)
        with pytest.raises(rxauth.CredentialError) as not_refreshed:
            await credentials.refresh(None)
        seen.exceptions.append(not_refreshed.value)
        with pytest.raises(rxauth.RxAuthError) as not_logged_in:
            await device_login(device_url=url, token_url=url, on_prompt=seen.objects.append, **CLIENT)
        # Not its frames' variables: the secret is an argument of the call that failed.
        seen.texts += [*traceback.format_exception(not_logged_in.value), repr(not_logged_in.value)]
    assert seen.secrets() == []


@pytest.mark.parametrize("source", [anthropic_messages, openai_chat], ids=["anthropic", "openai"])
async def test_a_consumers_exception_has_no_token_in_a_frame(source: Any, caplog: pytest.LogCaptureFixture) -> None:
    seen = Shown(caplog)

    def consume(event: Any) -> None:
        if event.type == "text_delta":
            raise ValueError(event.delta)

    async with FakeProvider(api_keys=[ACCESS]) as fake:
        base_url = fake.url + ("/v1" if source is openai_chat else "")
        source(REQUEST, base_url=base_url, credentials=StaticCredentials(ACCESS)).subscribe(consume)
        while not seen.exceptions:
            await asyncio.sleep(0)
    assert seen.secrets() == []


PUBLIC: dict[str, Callable[[], object]] = {
    "a credential": lambda: Credential(ACCESS, refresh_token=REFRESH, extra={"id_token": ACCESS}),
    "static credentials": lambda: StaticCredentials(ACCESS),
    "a memory store": lambda: rxauth.MemoryStore(CREDENTIAL),
    "oauth credentials": lambda: OAuthCredentials(
        rxauth.MemoryStore(CREDENTIAL),
        token_url="https://example.com/token", client_id="app", client_secret=SECRET, headers={"x": ACCESS},
    ),
    "a stream": lambda: anthropic_messages(
        REQUEST, base_url="https://example.com", credentials=StaticCredentials(ACCESS)
    ),
    "a rejected credential": lambda: rxauth.CredentialRejected("401", credential=Credential(ACCESS)),
}  # fmt: skip


@pytest.mark.parametrize("make", PUBLIC.values(), ids=PUBLIC)
def test_no_public_object_shows_a_token(make: Callable[[], object]) -> None:
    assert seen_in(*texts_of(make())) == []


def test_a_stream_that_was_never_live_shows_no_token() -> None:
    error = rxauth.NeverLiveError((ACCESS,), {"type": ACCESS, "message": ACCESS})
    assert seen_in(repr(error), str(error), f"{error}") == []


CRASH = """
import asyncio, logging, sys
logging.basicConfig(level=logging.DEBUG)
from rxauth import FileStore, OAuthCredentials, anthropic_messages, recover_auth, to_async_iterable
url, token_url, path = sys.argv[1:]

async def main():
    asyncio.get_running_loop().set_debug(True)
    credentials = OAuthCredentials(FileStore(path, "key"), token_url=token_url, client_id="app")
    stream = anthropic_messages({"model": "m", "messages": []}, base_url=url, credentials=credentials)
    events = [event async for event in to_async_iterable(stream.pipe(recover_auth(credentials.refresh)))]
    raise RuntimeError("a crash", events, credentials, await credentials.current()) from events[-1].cause

asyncio.run(main())
"""


def test_a_program_that_crashes_shows_no_token(tmp_path: Path) -> None:
    error = {"type": "authentication_error", "message": f"{ACCESS} and {REFRESH} are bad"}
    path = tmp_path / "auth.json"
    with FakeProvider(api_keys=[ACCESS], replies=[Reply(status=401, body={"error": error})]) as fake:
        asyncio.run(FileStore(path, "key").save(CREDENTIAL))
        command = [sys.executable, "-X", "dev", "-c", CRASH, fake.url, fake.token_url, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "a crash" in done.stderr
    assert seen_in(done.stdout + done.stderr) == []


@pytest.mark.parametrize(
    "command",
    ["stream hi", "stream hi --json", "status", "status --json", "login anthropic", "logout kimi"],
)
@pytest.mark.parametrize("refused", [False, True], ids=["accepted", "refused with an echo"])
def test_the_command_line_prints_no_token(
    command: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RXAUTH_HOME", str(tmp_path / "rxauth"))
    keys = {"KIMI_API_KEY": ACCESS, "ANTHROPIC_API_KEY": SECRET, "OPENAI_API_KEY": REFRESH, "RXAUTH_TOKEN": ACCESS}
    for name, key in keys.items():
        monkeypatch.setenv(name, key)
    echo = replies("as it is")["401 in JSON"][0][:1] if refused else []
    with FakeProvider(api_keys=[ACCESS], replies=echo) as fake:
        main([*command.split(), *(["--base-url", fake.url] if command.startswith("stream") else [])])
    printed = "".join(capsys.readouterr())
    assert printed
    assert seen_in(printed) == []
