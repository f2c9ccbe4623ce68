"""A device login against a scripted server, in virtual time."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from rxauth.credentials import Credential, DevicePrompt, DeviceWaiting, device_login
from rxauth.errors import ConnectionFailed, LoginRequired, ProtocolError, RequestRejected
from rxauth.testing import FakeProvider
from tests.credentials.test_device_prompt import PROMPT

TOKEN = {"access_token": "hush-access", "refresh_token": "hush-refresh", "expires_in": 900, "token_type": "Bearer"}

Answer = Mapping[str, Any] | Callable[[web.Request], Awaitable[web.StreamResponse]]


def error(code: str, status: int = 400) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": code, "error_description": "about hush-device-code"}, status=status)

    return answer


def status(code: int, text: str = "<html>hush</html>", **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text=text, content_type="text/html", headers=headers)

    return answer


async def cut(request: web.Request) -> web.StreamResponse:
    assert request.transport
    request.transport.abort()
    return web.Response()


PENDING, SLOW_DOWN, EXPIRED = error("authorization_pending"), error("slow_down"), error("expired_token")


class Server:
    """A login server that gives its answers in turn; the last one again and again."""

    def __init__(self) -> None:
        self.device: list[Answer] = [PROMPT]
        self.token: list[Answer] = [TOKEN]
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.headers: list[Mapping[str, str]] = []
        self.url = ""

    def polls(self) -> list[dict[str, str]]:
        return [form for path, form in self.asked if path == "/token"]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, {name: str(value) for name, value in (await request.post()).items()}))
        self.headers.append(request.headers)
        answers = self.device if request.path == "/device" else self.token
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return await answer(request) if callable(answer) else web.json_response(answer)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    application = web.Application()
    application.router.add_post("/{path}", server.handle)
    async with TestServer(application) as running:
        server.url = f"http://127.0.0.1:{running.port}"
        yield server


class Person:
    """Logs in, and keeps the time that passes meanwhile."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []
        self.prompts: list[DevicePrompt] = []
        self.waits: list[DeviceWaiting] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        assert len(self.slept) < 1000, "polled for ever"

    def login(self, server: Server, **options: Any) -> Awaitable[Credential]:
        usual: dict[str, Any] = {
            "device_url": f"{server.url}/device",
            "token_url": f"{server.url}/token",
            "client_id": "me",
            "on_prompt": self.prompts.append,
            "on_waiting": self.waits.append,
            "clock": lambda: self.time,
            "sleep": self.sleep,
        }
        return device_login(**usual | options)


@pytest.fixture
def person() -> Person:
    return Person()


# A login -------------------------------------------------------------------------------------------------------------


async def test_a_login_shows_a_code_and_gets_a_credential(server: Server, person: Person) -> None:
    server.token = [PENDING, PENDING, TOKEN]
    credential = await person.login(server)
    extra = {"expires_in": 900, "token_url": f"{server.url}/token"}
    assert credential == Credential("hush-access", "hush-refresh", 1021.0 + 900, extra=extra)
    assert [prompt.user_code for prompt in person.prompts] == ["WDJB-MJHT"]
    assert person.slept == [7, 7, 7]
    assert person.waits == [DeviceWaiting(elapsed=each, remaining=1800 - each) for each in (0, 7, 14)]


async def test_a_login_sends_its_arguments(server: Server, person: Person) -> None:
    more: dict[str, Any] = {"client_secret": "hush-secret", "scope": "a b", "extra_params": {"audience": "x"}}
    await person.login(server, headers={"X-Device": "mine"}, **more)
    client = {"client_id": "me", "client_secret": "hush-secret", "audience": "x"}
    grant = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": "hush-device-code"}
    assert server.asked == [("/device", client | {"scope": "a b"}), ("/token", client | grant)]
    assert [headers["X-Device"] for headers in server.headers] == ["mine", "mine"]


async def test_listeners_may_be_coroutine_functions_or_none(server: Server, person: Person) -> None:
    received: list[object] = []

    async def tell(value: object) -> None:
        await asyncio.sleep(0)
        received.append(type(value))

    await person.login(server, on_prompt=tell, on_waiting=tell)
    assert received == [DevicePrompt, DeviceWaiting]
    assert (await person.login(server, on_waiting=None)).access_token == "hush-access"


async def test_a_code_that_cannot_be_shown_is_not_polled(server: Server, person: Person) -> None:
    def broken(prompt: DevicePrompt) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await person.login(server, on_prompt=broken)
    assert server.polls() == []


BUSY = status(429, **{"Retry-After": "100"})
BAD_GATEWAY = status(502)

POLLS = [
    pytest.param([PENDING, SLOW_DOWN, PENDING, SLOW_DOWN, TOKEN], [7, 7, 12, 12, 17], id="slow_down adds 5 s for good"),
    pytest.param(
        [error("authorization_pending", 200), error("slow_down", 200), TOKEN], [7, 7, 12], id="status 200 with an error"
    ),
    pytest.param([cut] * 5 + [PENDING, TOKEN], [7, 14, 28, 56, 60, 60, 7], id="a cut connection doubles the pause"),
    pytest.param([BAD_GATEWAY] * 2 + [TOKEN], [7, 14, 28], id="so does 502"),
    pytest.param([status(408), error("temporarily_unavailable", 503), TOKEN], [7, 14, 28], id="so do 408 and 503"),
    pytest.param([BUSY, TOKEN], [7, 100], id="Retry-After is obeyed"),
]


@pytest.mark.parametrize(("answers", "slept"), POLLS)
async def test_polls_come_at_the_servers_pace(
    server: Server, person: Person, answers: list[Answer], slept: list[float]
) -> None:
    server.token = answers
    await person.login(server)
    assert person.slept == slept
    assert len(person.prompts) == 1
    assert "hush" not in str(person.waits)


async def test_waiting_says_when_the_server_is_unreachable(server: Server, person: Person) -> None:
    server.token = [cut, status(503), PENDING, TOKEN]
    await person.login(server)
    assert [wait.trouble is not None for wait in person.waits] == [False, True, True, False]


# A code that expires -------------------------------------------------------------------------------------------------

SECOND = PROMPT | {"user_code": "SECOND", "device_code": "hush-2", "interval": 3}

EXPIRIES = [
    pytest.param([PROMPT, SECOND], [SLOW_DOWN, EXPIRED, PENDING, TOKEN], [7, 12, 3, 3], id="the server says so"),
    pytest.param([PROMPT | {"expires_in": 20}, SECOND], [PENDING] * 3 + [TOKEN], [7, 7, 7, 3], id="it never says so"),
    pytest.param(
        [PROMPT | {"expires_in": 10}, SECOND], [PENDING, error("invalid_grant"), TOKEN], [7, 7, 3], id="it forgot it"
    ),
    pytest.param(
        [PROMPT | {"expires_in": 30}, SECOND],
        [PENDING, cut, cut, cut, TOKEN],
        [7, 7, 14, 28, 3],
        id="it was cut off at the end",
    ),
    pytest.param(
        [PROMPT, cut, BUSY, SECOND], [EXPIRED, TOKEN], [7, 5, 100, 3], id="and no new code can be had at first"
    ),
]


@pytest.mark.parametrize(("codes", "answers", "slept"), EXPIRIES)
async def test_an_expired_code_is_followed_by_another(
    server: Server, person: Person, codes: list[Answer], answers: list[Answer], slept: list[float]
) -> None:
    server.device, server.token = codes, answers
    await person.login(server)
    assert [prompt.user_code for prompt in person.prompts] == ["WDJB-MJHT", "SECOND"]
    assert server.polls()[-1]["device_code"] == "hush-2"
    assert person.slept == slept


async def test_a_code_is_polled_once_more_as_it_expires(server: Server, person: Person) -> None:
    server.device = [PROMPT | {"expires_in": 14}]
    server.token = [PENDING, PENDING, TOKEN]
    await person.login(server)
    assert len(person.prompts) == 1


# Logins that fail ----------------------------------------------------------------------------------------------------


async def test_a_person_who_says_no_ends_the_login(server: Server, person: Person) -> None:
    server.token = [PENDING, error("access_denied")]
    with pytest.raises(LoginRequired, match="refused"):
        await person.login(server)


async def test_a_server_that_is_down_fails_the_login(person: Person) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = Server()
        nowhere.url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ConnectionFailed, match=r"127.0.0.1:\d+ cannot be reached"):
            await person.login(nowhere)
    assert person.slept == []


@pytest.mark.parametrize(
    ("codes", "answers", "why"),
    [
        pytest.param([PROMPT | {"expires_in": 60}], [cut], r"cannot be reached \(\w+\)", id="for the life of a code"),
        pytest.param([PROMPT, status(503)], [EXPIRED], "status 503", id="for a new code"),
    ],
)
async def test_a_server_that_stays_down_fails_the_login(
    server: Server, person: Person, codes: list[Answer], answers: list[Answer], why: str
) -> None:
    server.device, server.token = codes, answers
    with pytest.raises(ConnectionFailed, match=why):
        await person.login(server)
    assert len(person.prompts) == 1


async def test_a_poll_without_an_answer_is_bounded(server: Server, person: Person) -> None:
    over = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    server.token = [silent, TOKEN]
    await person.login(server, request_timeout=0.2)  # which the other requests must keep
    over.set()
    assert person.slept == [7, 14]


WRONG: list[tuple[Answer, type[Exception], str]] = [
    (error("invalid_client", 401), RequestRejected, r"invalid_client, status 401.*Check client_id"),
    (error("invalid_scope"), RequestRejected, "invalid_scope"),
    (status(404), ProtocolError, "not RFC 8628"),
    (status(200), ProtocolError, "not RFC 8628"),
    (status(200, '["hush"]'), ProtocolError, "not RFC 8628"),
    ({"unexpected": True}, ProtocolError, "not RFC 8628"),
    (status(307, Location="/elsewhere"), ProtocolError, "redirects"),
]


@pytest.mark.parametrize("where", ["device", "token"])
async def test_a_wrong_address_or_client_is_an_error(server: Server, person: Person, where: str) -> None:
    """With the code that the server sent; and a redirect is not followed."""
    for answer, kind, why in WRONG:
        setattr(server, where, [answer])
        with pytest.raises(kind, match=why) as caught:
            await person.login(server)
        if isinstance(caught.value, RequestRejected):
            assert str(caught.value.type) in str(caught.value)
    assert "/elsewhere" not in [path for path, _ in server.asked]


@pytest.mark.parametrize("moment", range(12))
async def test_a_login_can_be_cancelled_at_any_moment(server: Server, person: Person, moment: int) -> None:
    reached = asyncio.Event()
    forever = asyncio.Event()

    async def sleep(seconds: float) -> None:
        reached.set()
        await forever.wait()

    task = asyncio.ensure_future(person.login(server, sleep=sleep))
    if moment == 11:
        await reached.wait()
    for _ in range(moment):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# Arguments, secrets, time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        *[{name: url} for name in ("device_url", "token_url") for url in ("http://example.com/x", "https://a:b@c.d")],
        *[{"extra_params": {name: "x"}} for name in ("client_id", "device_code", "grant_type", "scope")],
        {"client_id": ""},
    ],
    ids=str,
)
async def test_nonsense_is_refused_and_nothing_sent(server: Server, person: Person, arguments: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments.get("extra_params", arguments)))):
        await person.login(server, **arguments)
    assert server.asked == []


async def test_a_login_shows_no_secret(server: Server, person: Person, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = "hush-device-code"
    for answer in (error("invalid_request"), error(echo), status(404), status(200, echo), TOKEN):
        server.token = [SLOW_DOWN, cut, status(503, echo), answer]
        try:
            credential = await person.login(server, client_secret="hush-secret")
            assert "hush" not in repr(credential)
        except (ProtocolError, RequestRejected) as caught:
            assert "hush" not in f"{caught!r} {caught} {caught.__cause__!r} {caught.__context__!r}"  # noqa: PT017
    assert "hush" not in caplog.text
    assert "hush" not in f"{person.prompts} {person.waits}"


@pytest.mark.looptime
async def test_the_loops_own_time_is_kept(server: Server) -> None:
    server.token = [PENDING, SLOW_DOWN, TOKEN]
    loop = asyncio.get_running_loop()
    waits: list[DeviceWaiting] = []
    before = loop.time()
    await device_login(
        device_url=f"{server.url}/device",
        token_url=f"{server.url}/token",
        client_id="me",
        on_prompt=lambda prompt: None,
        on_waiting=waits.append,
        clock=loop.time,
    )
    assert loop.time() - before == pytest.approx(7 + 7 + 12, abs=1)
    assert [wait.elapsed for wait in waits] == pytest.approx([0, 7, 14], abs=1)


async def test_the_fake_provider_logs_in(person: Person) -> None:
    async with FakeProvider(interval=None) as fake:
        credential = await device_login(
            device_url=fake.device_url,
            token_url=fake.token_url,
            client_id=fake.client_id,
            on_prompt=lambda prompt: fake.approve(prompt.user_code),
            sleep=person.sleep,
        )
        assert credential.refresh_token is not None
    assert person.slept == [5]
