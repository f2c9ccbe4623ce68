"""Device logins at Authlib's server, which is not ours."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest

from rxauth.credentials import Credential, DevicePrompt, DeviceWaiting, device_login
from rxauth.errors import LoginRequired, RequestRejected
from tests import peers_needed
from tests.credentials.test_device_login import Person

pytestmark = pytest.mark.peer

os.environ.setdefault("AUTHLIB_INSECURE_TRANSPORT", "1")  # it serves loopback here, which has no certificate
peers_needed.package("authlib")
peers_needed.package("flask")

from authlib.integrations.flask_oauth2 import AuthorizationServer  # noqa: E402
from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint, DeviceCodeGrant, DeviceCredentialDict  # noqa: E402
from flask import Flask  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402


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


@pytest.fixture
def person() -> Person:
    return Person()


def login(authlib: AuthlibServer, person: Person, **options: Any) -> Awaitable[Credential]:
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


async def test_a_slow_person_is_waited_for(authlib: AuthlibServer, person: Person) -> None:
    def tell(waiting: DeviceWaiting) -> None:
        if len(person.slept) == 3:
            authlib.granted[person.prompts[0].user_code] = True

    credential = await login(authlib, person, on_waiting=tell)
    assert person.slept == [5, 5, 10, 10], "pending, slow_down, pending, granted"
    assert credential.refresh_token is not None
    assert credential.expires_at == 1030 + 864


async def test_a_person_who_says_no_ends_the_login(authlib: AuthlibServer, person: Person) -> None:
    def say_no(prompt: DevicePrompt) -> None:
        authlib.granted[prompt.user_code] = False

    with pytest.raises(LoginRequired):
        await login(authlib, person, on_prompt=say_no)


async def test_an_expired_code_is_followed_by_another(authlib: AuthlibServer, person: Person) -> None:
    def be_quicker_the_second_time(prompt: DevicePrompt) -> None:
        person.prompts.append(prompt)
        if len(person.prompts) == 2:
            authlib.granted[prompt.user_code] = True

    await login(authlib, person, on_prompt=be_quicker_the_second_time)
    first, second = person.prompts
    assert first.user_code != second.user_code


async def test_an_unknown_client_is_refused(authlib: AuthlibServer, person: Person) -> None:
    with pytest.raises(RequestRejected, match="invalid_client"):
        await login(authlib, person, client_id="stranger")
