"""A device login against a scripted server, in virtual time."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest

from rxauth.credentials import Credential, DevicePrompt, DeviceWaiting, device_login
from rxauth.errors import ConnectionFailed, LoginRequired, ProtocolError, RequestRejected
from tests.credentials.token_server import Answer, Endpoint, running

TOKEN = {"access_token": "hush-access", "refresh_token": "hush-refresh", "expires_in": 900, "token_type": "Bearer"}
PROMPT = {
    "device_code": "hush-device-code",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://example.com/device",
    "verification_uri_complete": "https://example.com/device?user_code=WDJB-MJHT",
    "expires_in": 1800,
    "interval": 7,
}
LIVES = {seconds: PROMPT | {"expires_in": seconds} for seconds in (10, 14, 30, 60)}
SECOND = PROMPT | {"user_code": "SECOND", "device_code": "hush-2", "interval": 3}


def error(code: str, status: int = 400) -> Answer:
    body = {"error": code, "error_description": "about hush-device-code"}
    return {"status": status, "body": json.dumps(body).encode()}


def page(status: int, text: str = "<html>hush</html>", **headers: str) -> Answer:
    return {"status": status, "body": text.encode(), "headers": headers}


CUT = b""
PENDING, SLOW_DOWN, EXPIRED = error("authorization_pending"), error("slow_down"), error("expired_token")
BUSY = page(429, **{"Retry-After": "100"})


class Server(Endpoint):
    """A login server that gives its answers in turn, or the fields in them; the last one again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.device: list[Answer] = [PROMPT]
        self.token: list[Answer] = [TOKEN]
        self.calls: list[tuple[str, dict[str, str]]] = []

    def respond(self, path: str, form: dict[str, str]) -> Answer:
        self.calls.append((path, form))
        answers = self.device if path == "/device" else self.token
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer if isinstance(answer, bytes) or "body" in answer else {"body": json.dumps(answer).encode()}


@pytest.fixture
def server() -> Iterator[Server]:
    with running(Server()) as server:
        server.url = server.url.removesuffix("/token")
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

    def login(self, server: Any, **options: Any) -> Awaitable[Credential]:
        usual: dict[str, Any] = {
            "device_url": f"{server.url}/device",
            "token_url": f"{server.url}/token",
            "client_id": "app",
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
    shown = {name: value for name, value in PROMPT.items() if name != "device_code"}
    assert person.prompts == [DevicePrompt(**shown)]  # type: ignore[arg-type]
    assert person.slept == [7, 7, 7]
    assert person.waits == [DeviceWaiting(elapsed=each, remaining=1800 - each) for each in (0, 7, 14)]


async def test_a_login_sends_its_arguments(server: Server, person: Person) -> None:
    more: dict[str, Any] = {"client_secret": "hush-secret", "scope": "a b", "extra_params": {"audience": "x"}}
    await person.login(server, headers={"X-Device": "mine"}, **more)
    client = {"client_id": "app", "client_secret": "hush-secret", "audience": "x"}
    grant = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": "hush-device-code"}
    assert server.calls == [("/device", client | {"scope": "a b"}), ("/token", client | grant)]
    assert [headers["X-Device"] for headers in server.headers] == ["mine", "mine"]


async def test_listeners_may_be_coroutine_functions_or_none(server: Server, person: Person) -> None:
    received: list[object] = []

    async def tell(value: object) -> None:
        await asyncio.sleep(0)
        received.append(type(value))

    await person.login(server, on_prompt=tell, on_waiting=tell)
    assert received == [DevicePrompt, DeviceWaiting]
    assert (await person.login(server, on_waiting=None)).access_token == "hush-access"


@pytest.mark.parametrize(
    ("answers", "slept"),
    [
        pytest.param([PENDING, SLOW_DOWN, PENDING, SLOW_DOWN, TOKEN], [7, 7, 12, 12, 17], id="5 s more for good"),
        pytest.param([error("slow_down", 200), PENDING, TOKEN], [7, 12, 12], id="status 200 with an error"),
        pytest.param([CUT] * 5 + [PENDING, TOKEN], [7, 14, 28, 56, 60, 60, 7], id="a cut connection doubles it"),
        pytest.param([page(502), page(408), error("odd", 503), TOKEN], [7, 14, 28, 56], id="so do 502, 408, 503"),
        pytest.param([BUSY, TOKEN], [7, 100], id="Retry-After is obeyed"),
    ],
)
async def test_polls_come_at_the_servers_pace(
    server: Server, person: Person, answers: list[Answer], slept: list[float]
) -> None:
    """And each wait says whether the server could be reached."""
    unreachable = [answer is CUT or answer is BUSY or len(answers) == 4 for answer in answers]
    server.token = list(answers)
    await person.login(server)
    assert person.slept == slept
    assert len(person.prompts) == 1
    assert [wait.trouble is not None for wait in person.waits] == [False, *unreachable[:-1]]
    assert "hush" not in str(person.waits)


@pytest.mark.parametrize(
    ("codes", "answers", "slept"),
    [
        pytest.param([PROMPT, SECOND], [SLOW_DOWN, EXPIRED, PENDING, TOKEN], [7, 12, 3, 3], id="the server says so"),
        pytest.param([LIVES[14], SECOND], [PENDING] * 3 + [TOKEN], [7, 7, 7, 3], id="once more as it expires"),
        pytest.param([LIVES[10], SECOND], [PENDING, error("invalid_grant"), TOKEN], [7, 7, 3], id="it is forgotten"),
        pytest.param([LIVES[30], SECOND], [PENDING, CUT, CUT, CUT, TOKEN], [7, 7, 14, 28, 3], id="cut at the end"),
        pytest.param([PROMPT, CUT, BUSY, SECOND], [EXPIRED, TOKEN], [7, 5, 100, 3], id="no new code at first"),
    ],
)
async def test_an_expired_code_is_followed_by_another(
    server: Server, person: Person, codes: list[Answer], answers: list[Answer], slept: list[float]
) -> None:
    server.device, server.token = list(codes), list(answers)
    await person.login(server)
    assert [prompt.user_code for prompt in person.prompts] == ["WDJB-MJHT", "SECOND"]
    assert server.calls[-1][1]["device_code"] == "hush-2"
    assert person.slept == slept


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        *[({"interval": odd}, {"interval": 5}) for odd in (None, 0, -3, True, "soon")],
        ({"interval": "9"}, {"interval": 9}),
        ({"interval": 2.5}, {"interval": 2.5}),
        ({"interval": 0.01}, {"interval": 1}),  # or it would be a flood
        ({"expires_in": "never"}, {"expires_in": 900}),
        ({"verification_uri": ""}, {"verification_uri": PROMPT["verification_uri_complete"]}),
        (
            {"verification_uri": None, "verification_url": "https://e.com/old", "verification_uri_complete": ""},
            {"verification_uri": "https://e.com/old", "verification_uri_complete": None},
        ),
    ],
    ids=str,
)
async def test_a_prompt_has_defaults(server: Server, person: Person, fields: Any, shown: dict[str, Any]) -> None:
    server.device = [PROMPT | fields]
    await person.login(server)
    assert {name: getattr(person.prompts[0], name) for name in shown} == shown


# Logins that fail ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        *[
            ({name: uri}, "no http")
            for name in ("verification_uri", "verification_uri_complete")
            for uri in (
                "javascript:alert(1)",
                "javascript://example.com/%0aalert(1)",
                "file:///etc/passwd",
                "file://example.com/etc/passwd",
                "example.com/device",
                "https://",
                "https://ann@example.com/",
                "https://example.com/\x1b[2J",
                "https://[",
                7,
            )
        ],
        *[({"user_code": code}, "user_code") for code in ("", None, 7, "AB\x1b]0;owned\x07", "A\nB")],
        *[({"device_code": code}, "device_code") for code in ("", None, 7)],
        ({"interval": 1e9}, "interval"),
    ],
)
async def test_a_prompt_that_cannot_be_used_is_refused(
    server: Server, person: Person, fields: dict[str, Any], wrong: str
) -> None:
    """No terminal or browser obeys a server; a code that expires before the first poll is no code."""
    server.device = [PROMPT | fields]
    with pytest.raises(ProtocolError, match=wrong) as caught:
        await person.login(server)
    assert "hush" not in str(caught.value)
    assert person.prompts == []


@pytest.mark.parametrize(
    ("codes", "answers", "error", "why"),
    [
        pytest.param([PROMPT], [PENDING, error("access_denied")], LoginRequired, "refused", id="a person says no"),
        pytest.param([CUT], [], ConnectionFailed, r"127.0.0.1:\d+ cannot be reached", id="the server is down"),
        pytest.param([LIVES[60]], [CUT], ConnectionFailed, r"reached \(\w+\)", id="and stays down"),
        pytest.param([PROMPT, page(503)], [EXPIRED], ConnectionFailed, "status 503", id="no new code can be had"),
    ],
)
async def test_a_login_that_cannot_go_on_fails(
    server: Server, person: Person, codes: list[Answer], answers: list[Answer], error: type[Exception], why: str
) -> None:
    server.device, server.token = list(codes), list(answers)
    with pytest.raises(error, match=why):
        await person.login(server)
    assert len(person.prompts) == (codes != [CUT])


async def test_a_code_that_cannot_be_shown_is_not_polled(server: Server, person: Person) -> None:
    def broken(prompt: DevicePrompt) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await person.login(server, on_prompt=broken)
    assert [path for path, _ in server.calls] == ["/device"]


async def test_a_poll_without_an_answer_is_bounded(server: Server, person: Person) -> None:
    async def sleep(seconds: float) -> None:
        await person.sleep(seconds)
        (server.gate.clear if len(person.slept) == 1 else server.gate.set)()

    await person.login(server, request_timeout=0.2, sleep=sleep)  # which the other requests must keep
    assert person.slept == [7, 14]


@pytest.mark.parametrize("where", ["device", "token"])
@pytest.mark.parametrize(
    ("answer", "kind", "why"),
    [
        pytest.param(error("invalid_client", 401), RequestRejected, "invalid_client, status 401.*Check", id="client"),
        pytest.param(error("invalid_scope"), RequestRejected, "invalid_scope", id="scope"),
        pytest.param(page(404), ProtocolError, "not RFC 8628", id="404"),
        pytest.param(page(200), ProtocolError, "not RFC 8628", id="a page"),
        pytest.param(page(200, '["hush"]'), ProtocolError, "not RFC 8628", id="an array"),
        pytest.param({"unexpected": True}, ProtocolError, "not RFC 8628", id="another object"),
        pytest.param(page(307, Location="/elsewhere"), ProtocolError, "redirects", id="a redirect"),
    ],
)
async def test_a_wrong_address_or_client_is_an_error(
    server: Server, person: Person, where: str, answer: Answer, kind: type[Exception], why: str
) -> None:
    """With the code that the server sent; and a redirect is not followed."""
    setattr(server, where, [answer])
    with pytest.raises(kind, match=why) as caught:
        await person.login(server)
    if isinstance(caught.value, RequestRejected):
        assert str(caught.value.type) in why
    assert "/elsewhere" not in [path for path, _ in server.calls]


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
    assert server.calls == []


async def test_a_login_shows_no_secret(server: Server, person: Person, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = "hush-device-code"
    for answer in (error("invalid_request"), error(echo), page(404), page(200, echo), TOKEN):
        server.token = [SLOW_DOWN, CUT, page(503, echo), answer]
        try:
            credential = await person.login(server, client_secret="hush-secret")
            assert "hush" not in repr(credential)
        except (ProtocolError, RequestRejected) as caught:
            assert "hush" not in f"{caught!r} {caught} {caught.__cause__!r} {caught.__context__!r}"  # noqa: PT017
    assert "hush" not in caplog.text
    assert "hush" not in f"{person.prompts} {person.waits}"
