"""Authlib's OAuth server: device logins, and rotation with reuse detection that revokes the whole login."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("AUTHLIB_INSECURE_TRANSPORT", "1")  # it serves loopback here, which has no certificate

import flask
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin, grants
from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint, DeviceCodeGrant, DeviceCredentialDict
from werkzeug.serving import make_server

METHODS = ("none", "client_secret_basic", "client_secret_post")


@dataclass
class Client(ClientMixin):  # type: ignore[misc]
    client_id: str = "app"
    client_secret: str = ""
    auth_method: str = "none"
    scope: str = "read write"

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str) -> str:
        return " ".join(each for each in (scope or "").split() if each in self.scope.split())

    def check_client_secret(self, client_secret: str) -> bool:
        return self.client_secret == client_secret

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == self.auth_method

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in ("refresh_token", DeviceCodeGrant.GRANT_TYPE)


@dataclass
class Token(TokenMixin):  # type: ignore[misc]
    fields: dict[str, Any]
    client_id: str
    family: int
    spent: bool = False

    def check_client(self, client: Client) -> bool:
        return client.client_id == self.client_id

    def get_scope(self) -> str:
        return str(self.fields.get("scope", ""))

    def get_expires_in(self) -> int:
        return int(self.fields["expires_in"])

    def is_expired(self) -> bool:
        return False

    def is_revoked(self) -> bool:
        return self.spent


@dataclass
class AuthlibServer:
    """Hold the issued tokens and the granted device codes; use it inside `authlib_server()`."""

    client: Client
    url: str = ""
    tokens: list[Token] = field(default_factory=list)
    revoked: set[int] = field(default_factory=set)
    statuses: list[int] = field(default_factory=list)
    codes: dict[str, dict[str, Any]] = field(default_factory=dict)
    granted: dict[str, bool] = field(default_factory=dict)
    time: float = 1000.0
    polls: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def log_in(self, server: AuthorizationServer) -> dict[str, Any]:
        """Log in: issue the first token of a new family."""
        fields = server.generate_token(
            grant_type="device", client=self.client, user="ann", scope="read write", expires_in=900
        )
        self.tokens.append(Token(dict(fields), self.client.client_id, family=len(self.tokens)))
        return dict(fields)

    def valid(self, access_token: str) -> bool:
        """Whether an API would take it."""
        return any(
            token.fields["access_token"] == access_token and not token.spent and token.family not in self.revoked
            for token in self.tokens
        )


def _application(state: AuthlibServer) -> tuple[flask.Flask, AuthorizationServer]:
    app = flask.Flask("authlib")
    app.config["OAUTH2_REFRESH_TOKEN_GENERATOR"] = True

    def save_token(fields: dict[str, Any], request: Any) -> None:
        family = request.refresh_token.family if request.refresh_token else len(state.tokens)
        state.tokens.append(Token(dict(fields), request.client.client_id, family))

    class RefreshTokenGrant(grants.RefreshTokenGrant):  # type: ignore[misc]
        INCLUDE_NEW_REFRESH_TOKEN = True
        TOKEN_ENDPOINT_AUTH_METHODS = METHODS

        def authenticate_refresh_token(self, refresh_token: str) -> Token | None:
            for token in state.tokens:
                if token.fields.get("refresh_token") == refresh_token:
                    if token.spent:
                        # RFC 9700 section 4.14.2: a spent token revokes its whole family.
                        state.revoked.add(token.family)
                    return None if token.family in state.revoked else token
            return None

        def authenticate_user(self, refresh_token: Token) -> str:
            return "ann"

        def revoke_old_credential(self, refresh_token: Token) -> None:
            refresh_token.spent = True

    class Code(DeviceCredentialDict):  # type: ignore[misc]
        def is_expired(self) -> bool:
            return bool(state.time > self["expires_at"])

    class Endpoint(DeviceAuthorizationEndpoint):  # type: ignore[misc]
        EXPIRES_IN = 60
        CLIENT_AUTH_METHODS = METHODS

        def get_verification_uri(self) -> str:
            return "https://example.com/active"

        def save_device_credential(self, client_id: str, scope: str, data: dict[str, Any]) -> None:
            about = {"client_id": client_id, "scope": scope, "expires_at": state.time + data["expires_in"]}
            state.codes[data["device_code"]] = data | about

    class DeviceGrant(DeviceCodeGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = METHODS

        def query_device_credential(self, device_code: str) -> Code | None:
            state.polls += 1
            data = state.codes.get(device_code)
            return None if data is None else Code(data)

        def query_user_grant(self, user_code: str) -> tuple[str, bool] | None:
            return ("ann", state.granted[user_code]) if user_code in state.granted else None

        def should_slow_down(self, credential: DeviceCredentialDict) -> bool:
            return state.polls == 2

    query_client = {state.client.client_id: state.client}.get
    server = AuthorizationServer(app, query_client=query_client, save_token=save_token)
    server.register_grant(RefreshTokenGrant)
    server.register_grant(DeviceGrant)
    server.register_endpoint(Endpoint)

    @app.post("/token")
    def token() -> Any:
        with state.lock:
            response = server.create_token_response()
            state.statuses.append(response.status_code)
            return response

    @app.post("/device")
    def device() -> Any:
        return server.create_endpoint_response("device_authorization")

    return app, server


@contextlib.contextmanager
def authlib_server(client: Client) -> Iterator[tuple[AuthlibServer, AuthorizationServer]]:
    """The server on loopback, on a thread."""
    state = AuthlibServer(client)
    app, server = _application(state)
    web = make_server("127.0.0.1", 0, app, threaded=True)
    state.url = f"http://127.0.0.1:{web.server_port}"
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with app.app_context():
            yield state, server
    finally:
        web.shutdown()
        thread.join()
        web.server_close()
