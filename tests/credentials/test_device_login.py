from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint, DeviceCodeGrant, DeviceCredentialDict
from flask import Flask
from werkzeug.serving import make_server

from rxauth.credentials._credential import Credential
from rxauth.credentials._device_login import DevicePrompt, DeviceWaiting, device_login
from rxauth.errors import ConnectionFailed, LoginRequired, ProtocolError, RequestRejected
from rxauth.testing import FakeProvider

# Authlib serves loopback here, which has no certificate.
os.environ.setdefault("AUTHLIB_INSECURE_TRANSPORT", "1")

DEVICE_CODE = "hush-device-code"
PROMPT = {
    "device_code": DEVICE_CODE,
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://example.com/device",
    "verification_uri_complete": "https://example.com/device?user_code=WDJB-MJHT",
    "expires_in": 1800,
    "interval": 7,
}
TOKEN = {"access_token": "hush-access", "refresh_token": "hush-refresh", "expires_in": 900, "token_type": "Bearer"}

Answer = Mapping[str, Any] | Callable[[web.Request], Awaitable[web.StreamResponse]]


def error(code: str, status: int = 400) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": code, "error_description": f"about {DEVICE_CODE}"}, status=status)

    return answer


def status(code: int, text: str = "<html>hush</html>", **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text=text, content_type="text/html", headers=headers)

    return answer


async def cut(request: web.Request) -> web.StreamResponse:
    assert request.transport
    request.transport.abort()
    return web.Response()


class Server:
    """A login server that answers what it is told to; the last answer again and again."""

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
    """Whoever logs in, and the time that passes meanwhile."""

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


class TestTheWayToACredential:
    async def test_asks_shows_waits_and_gets_one(self, server: Server, person: Person) -> None:
        server.token = [error("authorization_pending"), error("authorization_pending"), TOKEN]
        credential = await person.login(server)
        assert credential == Credential(
            "hush-access", "hush-refresh", 1021.0 + 900, extra={"expires_in": 900, "token_url": f"{server.url}/token"}
        )
        assert person.prompts == [
            DevicePrompt(
                user_code="WDJB-MJHT",
                verification_uri="https://example.com/device",
                verification_uri_complete="https://example.com/device?user_code=WDJB-MJHT",
                expires_in=1800,
                interval=7,
            )
        ]
        assert person.slept == [7, 7, 7]
        assert person.waits == [DeviceWaiting(elapsed=each, remaining=1800 - each) for each in (0, 7, 14)]

    async def test_sends_what_the_rfc_says_and_what_it_is_told(self, server: Server, person: Person) -> None:
        await person.login(
            server,
            client_secret="hush-secret",
            scope="a b",
            extra_params={"audience": "x"},
            headers={"X-Device": "mine"},
        )
        client = {"client_id": "me", "client_secret": "hush-secret", "audience": "x"}
        grant = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": DEVICE_CODE}
        assert server.asked == [("/device", client | {"scope": "a b"}), ("/token", client | grant)]
        assert [headers["X-Device"] for headers in server.headers] == ["mine", "mine"]

    async def test_takes_coroutine_functions_for_what_it_tells(self, server: Server, person: Person) -> None:
        told: list[object] = []

        async def tell(value: object) -> None:
            await asyncio.sleep(0)
            told.append(type(value))

        await person.login(server, on_prompt=tell, on_waiting=tell)
        assert told == [DevicePrompt, DeviceWaiting]

    async def test_goes_without_anybody_who_wants_to_know_how_long_it_takes(
        self, server: Server, person: Person
    ) -> None:
        assert (await person.login(server, on_waiting=None)).access_token == "hush-access"

    async def test_that_cannot_be_shown_is_not_waited_for(self, server: Server, person: Person) -> None:
        def broken(prompt: DevicePrompt) -> None:
            raise BrokenPipeError

        with pytest.raises(BrokenPipeError):
            await person.login(server, on_prompt=broken)
        assert server.polls() == []

    @pytest.mark.parametrize(
        ("said", "interval"),
        [
            pytest.param({"interval": None}, 5, id="none"),
            pytest.param({"interval": "9"}, 9, id="a string"),
            pytest.param({"interval": 2.5}, 2.5, id="a fraction"),
            pytest.param({"interval": 0.01}, 1, id="one that would be a flood"),
            pytest.param({"interval": 0}, 5, id="zero"),
            pytest.param({"interval": -3}, 5, id="a negative one"),
            pytest.param({"interval": True}, 5, id="a truth"),
            pytest.param({"interval": "soon"}, 5, id="a word"),
        ],
    )
    async def test_polls_at_the_interval_of_the_server_or_every_five_seconds(
        self, server: Server, person: Person, said: dict[str, Any], interval: float
    ) -> None:
        server.device = [PROMPT | said]
        server.token = [error("authorization_pending"), TOKEN]
        await person.login(server)
        assert person.slept == [interval, interval]

    async def test_is_five_seconds_slower_from_each_slow_down_on(self, server: Server, person: Person) -> None:
        pending, slow_down = error("authorization_pending"), error("slow_down")
        server.token = [pending, slow_down, pending, slow_down, pending, TOKEN]
        await person.login(server)
        assert person.slept == [7, 7, 12, 12, 17, 17]

    async def test_takes_the_status_200_with_an_error_for_the_error(self, server: Server, person: Person) -> None:
        server.token = [error("authorization_pending", 200), error("slow_down", 200), TOKEN]
        await person.login(server)
        assert person.slept == [7, 7, 12]

    async def test_begins_again_when_the_code_has_expired(self, server: Server, person: Person) -> None:
        server.device = [PROMPT, PROMPT | {"user_code": "SECOND", "device_code": "hush-2", "interval": 3}]
        server.token = [error("slow_down"), error("expired_token"), error("authorization_pending"), TOKEN]
        await person.login(server)
        assert [prompt.user_code for prompt in person.prompts] == ["WDJB-MJHT", "SECOND"]
        assert [form["device_code"] for form in server.polls()] == [DEVICE_CODE, DEVICE_CODE, "hush-2", "hush-2"]
        assert person.slept == [7, 12, 3, 3], "what one code was slowed down by is not the next one's"
        assert [wait.elapsed for wait in person.waits] == [0, 7, 0, 3]

    async def test_begins_again_by_itself_when_the_server_never_says_that_the_code_expired(
        self, server: Server, person: Person
    ) -> None:
        """After one last look, for the person who was quick enough in the last seconds."""
        server.device = [PROMPT | {"expires_in": 20}]
        server.token = [*[error("authorization_pending")] * 3, error("authorization_pending"), TOKEN]
        await person.login(server)
        assert len(person.prompts) == 2
        assert person.slept == [7, 7, 7, 7, 7]
        assert [wait.remaining for wait in person.waits] == [20, 13, 6, 20, 13]

    async def test_begins_again_when_the_server_has_forgotten_a_code_that_expired(
        self, server: Server, person: Person
    ) -> None:
        server.device = [PROMPT | {"expires_in": 10}]
        server.token = [error("authorization_pending"), error("invalid_grant"), TOKEN]
        await person.login(server)
        assert len(person.prompts) == 2

    async def test_gives_a_code_without_a_lifetime_a_quarter_of_an_hour(self, server: Server, person: Person) -> None:
        server.device = [PROMPT | {"expires_in": "never"}]
        server.token = [*[error("authorization_pending")] * 129, TOKEN]
        await person.login(server)
        assert person.prompts[0].expires_in == 900
        assert len(person.prompts) == 2

    async def test_looks_once_more_in_the_moment_in_which_the_code_expires(
        self, server: Server, person: Person
    ) -> None:
        server.device = [PROMPT | {"expires_in": 14}]
        server.token = [*[error("authorization_pending")] * 2, TOKEN]
        await person.login(server)
        assert len(person.prompts) == 1

    async def test_ends_when_the_person_says_no(self, server: Server, person: Person) -> None:
        server.token = [error("authorization_pending"), error("access_denied")]
        with pytest.raises(LoginRequired, match="refused"):
            await person.login(server)

    @pytest.mark.parametrize("moment", range(12))
    async def test_can_be_left_at_any_moment(self, server: Server, person: Person, moment: int) -> None:
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


class TestTrouble:
    @pytest.mark.parametrize(
        "trouble",
        [
            pytest.param(cut, id="a connection that breaks"),
            pytest.param(status(500), id="500"),
            pytest.param(status(503), id="503"),
            pytest.param(status(502), id="502 with a page"),
            pytest.param(error("temporarily_unavailable", 503), id="503 with a code"),
            pytest.param(status(429), id="429"),
            pytest.param(status(408), id="408"),
        ],
    )
    async def test_while_polling_is_waited_out_twice_as_long_each_time(
        self, server: Server, person: Person, trouble: Answer
    ) -> None:
        server.token = [*[trouble] * 5, error("authorization_pending"), TOKEN]
        await person.login(server)
        assert person.slept == [7, 14, 28, 56, 60, 60, 7]
        assert len(person.prompts) == 1
        said = [wait.trouble for wait in person.waits]
        assert [trouble is not None for trouble in said] == [False, True, True, True, True, True, False]
        assert "hush" not in str(said)

    async def test_lasts_as_long_as_the_server_asks(self, server: Server, person: Person) -> None:
        server.token = [status(429, **{"Retry-After": "100"}), TOKEN]
        await person.login(server)
        assert person.slept == [7, 100]

    async def test_that_lasts_as_long_as_the_code_ends_the_login(self, server: Server, person: Person) -> None:
        server.device = [PROMPT | {"expires_in": 60}]
        server.token = [cut]
        with pytest.raises(ConnectionFailed, match=r"cannot be reached \(\w+\)"):
            await person.login(server)
        assert len(person.prompts) == 1

    async def test_at_the_end_of_a_code_that_was_answered_for_begins_again(
        self, server: Server, person: Person
    ) -> None:
        server.device = [PROMPT | {"expires_in": 30}]
        server.token = [error("authorization_pending"), cut, cut, cut, TOKEN]
        await person.login(server)
        assert len(person.prompts) == 2

    async def test_with_the_first_question_is_told_at_once(self, person: Person) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            nowhere = Server()
            nowhere.url = f"http://127.0.0.1:{unused.getsockname()[1]}"
            with pytest.raises(ConnectionFailed, match=r"127.0.0.1:\d+ cannot be reached"):
                await person.login(nowhere)
        assert person.slept == []

    async def test_with_the_second_code_is_waited_out(self, server: Server, person: Person) -> None:
        server.device = [PROMPT, cut, status(503, **{"Retry-After": "30"}), PROMPT]
        server.token = [error("expired_token"), TOKEN]
        await person.login(server)
        assert person.slept == [7, 5, 30, 7]

    async def test_with_the_second_code_that_does_not_end_ends_the_login(self, server: Server, person: Person) -> None:
        server.device = [PROMPT, status(503)]
        server.token = [error("expired_token")]
        with pytest.raises(ConnectionFailed, match="status 503"):
            await person.login(server)
        assert person.slept == [7, 5, 10, 20, 40]

    async def test_of_a_server_that_does_not_answer_is_bounded(self, server: Server, person: Person) -> None:
        over = asyncio.Event()

        async def silent(request: web.Request) -> web.StreamResponse:
            await over.wait()
            return web.Response()

        server.token = [silent, TOKEN]
        await person.login(server, request_timeout=0.5)  # which the other requests of it must keep
        over.set()
        assert person.slept == [7, 14]

    @pytest.mark.parametrize(
        "code", ["invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type"]
    )
    @pytest.mark.parametrize("where", ["device", "token"])
    async def test_of_the_configuration_is_told_with_its_code(
        self, server: Server, person: Person, where: str, code: str
    ) -> None:
        setattr(server, where, [error(code, 401)])
        with pytest.raises(RequestRejected, match=code) as caught:
            await person.login(server)
        assert (caught.value.type, caught.value.status) == (code, 401)

    @pytest.mark.parametrize("where", ["device", "token"])
    async def test_of_a_wrong_address_is_told(self, server: Server, person: Person, where: str) -> None:
        for answer in (status(404), status(200), {"unexpected": True}, status(200, '["hush"]')):
            setattr(server, where, [answer])
            with pytest.raises(ProtocolError, match="not RFC 8628"):
                await person.login(server)

    @pytest.mark.parametrize("where", ["device", "token"])
    async def test_of_a_redirect_is_told_and_nothing_is_sent_along_it(
        self, server: Server, person: Person, where: str
    ) -> None:
        setattr(server, where, [status(307, Location="/elsewhere")])
        with pytest.raises(ProtocolError, match="redirects"):
            await person.login(server)
        assert "/elsewhere" not in [path for path, _ in server.asked]


class TestThePrompt:
    @pytest.mark.parametrize(
        "uri",
        [
            "javascript:alert(1)",
            "file:///etc/passwd",
            "javascript://example.com/%0aalert(1)",
            "file://example.com/etc/passwd",
            "example.com/device",
            "https://",
            "https://ann@example.com/",
            "https://example.com/\x1b[2J",
            "https://[",
            7,
        ],
    )
    @pytest.mark.parametrize("field", ["verification_uri", "verification_uri_complete"])
    async def test_has_no_address_that_is_not_a_web_page(
        self, server: Server, person: Person, field: str, uri: object
    ) -> None:
        server.device = [PROMPT | {field: uri}]
        with pytest.raises(ProtocolError, match="no http"):
            await person.login(server)
        assert person.prompts == []

    @pytest.mark.parametrize("code", ["", None, 7, "AB\x1b]0;owned\x07", "A\nB"])
    async def test_has_no_code_that_a_terminal_would_obey(self, server: Server, person: Person, code: object) -> None:
        server.device = [PROMPT | {"user_code": code}]
        with pytest.raises(ProtocolError, match="user_code"):
            await person.login(server)

    @pytest.mark.parametrize("code", ["", None, 7])
    async def test_needs_a_device_code(self, server: Server, person: Person, code: object) -> None:
        server.device = [PROMPT | {"device_code": code}]
        with pytest.raises(ProtocolError, match="device_code"):
            await person.login(server)

    async def test_is_refused_when_its_code_expires_before_it_could_be_used(
        self, server: Server, person: Person
    ) -> None:
        server.device = [PROMPT | {"interval": 1e9}]
        with pytest.raises(ProtocolError, match="interval"):
            await person.login(server)

    @pytest.mark.parametrize(
        ("said", "uri", "complete"),
        [
            pytest.param(
                {"verification_uri": "", "verification_uri_complete": "https://example.com/?c=1"},
                "https://example.com/?c=1",
                "https://example.com/?c=1",
                id="only the complete address",
            ),
            pytest.param(
                {
                    "verification_url": "https://example.com/old",
                    "verification_uri": None,
                    "verification_uri_complete": "",
                },
                "https://example.com/old",
                None,
                id="the name from the drafts",
            ),
        ],
    )
    async def test_makes_do_with_what_servers_call_the_address(
        self, server: Server, person: Person, said: dict[str, Any], uri: str, complete: str | None
    ) -> None:
        server.device = [PROMPT | said]
        await person.login(server)
        (prompt,) = person.prompts
        assert (prompt.verification_uri, prompt.verification_uri_complete) == (uri, complete)


class TestSecrets:
    async def test_are_in_no_error_and_no_log(
        self, server: Server, person: Person, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        answers = [error("invalid_request"), error(DEVICE_CODE), status(404), status(200, DEVICE_CODE), TOKEN]
        for answer in answers:
            server.token = [error("slow_down"), cut, status(503, DEVICE_CODE), answer]
            try:
                credential = await person.login(server, client_secret="hush-secret")
                assert "hush" not in repr(credential)
            except (ProtocolError, RequestRejected) as caught:
                assert "hush" not in f"{caught!r} {caught} {caught.__cause__!r} {caught.__context__!r}"  # noqa: PT017
        assert "hush" not in caplog.text
        assert "hush" not in f"{person.prompts} {person.waits}"

    @pytest.mark.parametrize("name", ["device_url", "token_url"])
    @pytest.mark.parametrize(
        "url", ["http://example.com/x", "ftp://example.com", "example.com", "https://a:b@example.com"]
    )
    async def test_go_nowhere_unencrypted(self, server: Server, person: Person, name: str, url: str) -> None:
        with pytest.raises(ValueError, match=name):
            await person.login(server, **{name: url})
        assert server.asked == []

    @pytest.mark.parametrize("name", ["client_id", "device_code", "grant_type", "scope", "client_secret"])
    async def test_cannot_be_replaced_by_an_extra_parameter(self, server: Server, person: Person, name: str) -> None:
        with pytest.raises(ValueError, match=name):
            await person.login(server, extra_params={name: "x"})

    async def test_go_with_a_client_that_has_a_name(self, server: Server, person: Person) -> None:
        with pytest.raises(ValueError, match="client_id"):
            await person.login(server, client_id="")


@pytest.mark.looptime
async def test_in_real_seconds_nothing_is_polled_before_its_time(server: Server) -> None:
    """With the loop's own time and its own sleep."""
    server.token = [error("authorization_pending"), error("slow_down"), TOKEN]
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


async def test_the_fake_provider_logs_in_like_a_real_one(person: Person) -> None:
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


# Authlib, a server that is not ours -----------------------------------------------------------------------------------


class Client:
    """A public client, as Authlib asks for it."""

    client_id = "me"

    def get_client_id(self) -> str:
        return self.client_id

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "none"

    def check_grant_type(self, grant_type: str) -> bool:
        return bool(grant_type == DeviceCodeGrant.GRANT_TYPE)

    def check_client_secret(self, client_secret: str) -> bool:
        return False

    def get_allowed_scope(self, scope: str) -> str:
        return scope


class AuthlibServer:
    """Authlib's authorization server on a thread, with the device grant."""

    def __init__(self) -> None:
        self.codes: dict[str, dict[str, Any]] = {}
        self.granted: dict[str, bool] = {}
        self.time = 1000.0
        self.polls = 0
        state = self

        class Endpoint(DeviceAuthorizationEndpoint):  # type: ignore[misc]
            EXPIRES_IN = 60
            CLIENT_AUTH_METHODS = ("none",)

            def get_verification_uri(self) -> str:
                return "https://example.com/active"

            def save_device_credential(self, client_id: str, scope: str, data: dict[str, Any]) -> None:
                state.codes[data["device_code"]] = data | {
                    "client_id": client_id,
                    "scope": scope,
                    "expires_at": state.time + data["expires_in"],
                }

        class Grant(DeviceCodeGrant):  # type: ignore[misc]
            TOKEN_ENDPOINT_AUTH_METHODS = ("none",)

            def query_device_credential(self, device_code: str) -> DeviceCredentialDict | None:
                state.polls += 1
                data = state.codes.get(device_code)
                return None if data is None else Code(data)

            def query_user_grant(self, user_code: str) -> tuple[str, bool] | None:
                return ("ann", state.granted[user_code]) if user_code in state.granted else None

            def should_slow_down(self, credential: DeviceCredentialDict) -> bool:
                return state.polls == 2

        class Code(DeviceCredentialDict):  # type: ignore[misc]
            def is_expired(self) -> bool:
                return bool(state.time > self["expires_at"])

        app = Flask("authlib")
        server = AuthorizationServer(
            app,
            query_client=lambda client_id: Client() if client_id == "me" else None,
            save_token=lambda token, request: None,
        )
        server.register_endpoint(Endpoint)
        server.register_grant(Grant)
        server.register_token_generator("default", self.token)

        @app.post("/device")
        def device() -> Any:
            return server.create_endpoint_response("device_authorization")

        @app.post("/token")
        def token() -> Any:
            return server.create_token_response()

        self.wsgi = make_server("127.0.0.1", 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{self.wsgi.port}"

    @staticmethod
    def token(**about: Any) -> dict[str, Any]:
        return {
            "access_token": secrets.token_hex(),
            "refresh_token": secrets.token_hex(),
            "expires_in": 864,
            "token_type": "Bearer",
        }


@pytest.fixture
def authlib() -> Iterator[AuthlibServer]:
    server = AuthlibServer()
    thread = threading.Thread(target=server.wsgi.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.wsgi.shutdown()
    thread.join()
    server.wsgi.server_close()


class TestWithAuthlib:
    def login(self, authlib: AuthlibServer, person: Person, **options: Any) -> Awaitable[Credential]:
        async def sleep(seconds: float) -> None:
            await person.sleep(seconds)
            authlib.time += seconds

        usual: dict[str, Any] = {
            "device_url": f"{authlib.url}/device",
            "token_url": f"{authlib.url}/token",
            "client_id": "me",
            "scope": "profile",
            "on_prompt": person.prompts.append,
            "clock": lambda: authlib.time,
            "sleep": sleep,
        }
        return device_login(**usual | options)

    async def test_a_person_who_takes_their_time_is_waited_for(self, authlib: AuthlibServer, person: Person) -> None:
        def tell(waiting: DeviceWaiting) -> None:
            if len(person.slept) == 3:
                authlib.granted[person.prompts[0].user_code] = True

        credential = await self.login(authlib, person, on_waiting=tell)
        assert person.slept == [5, 5, 10, 10], "pending, slow_down, pending, granted"
        assert credential.refresh_token is not None
        assert credential.expires_at == 1030 + 864

    async def test_a_person_who_says_no_ends_it(self, authlib: AuthlibServer, person: Person) -> None:
        def say_no(prompt: DevicePrompt) -> None:
            authlib.granted[prompt.user_code] = False

        with pytest.raises(LoginRequired):
            await self.login(authlib, person, on_prompt=say_no)

    async def test_a_person_who_is_too_slow_gets_another_code(self, authlib: AuthlibServer, person: Person) -> None:
        def be_quicker_the_second_time(prompt: DevicePrompt) -> None:
            person.prompts.append(prompt)
            if len(person.prompts) == 2:
                authlib.granted[prompt.user_code] = True

        await self.login(authlib, person, on_prompt=be_quicker_the_second_time)
        first, second = person.prompts
        assert first.user_code != second.user_code

    async def test_a_client_that_it_does_not_know_is_told_so(self, authlib: AuthlibServer, person: Person) -> None:
        with pytest.raises(RequestRejected, match="invalid_client"):
            await self.login(authlib, person, client_id="stranger")
