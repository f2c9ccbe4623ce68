"""Authlib's OAuth server, with rotation, and reuse detection that revokes the family."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import flask
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin, grants
from werkzeug.serving import make_server

# It serves loopback.
os.environ.setdefault("AUTHLIB_INSECURE_TRANSPORT", "1")


@dataclass
class Client(ClientMixin):  # type: ignore[misc]
    client_id: str
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
        return grant_type == "refresh_token"


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
    """What it has issued; use it inside `authlib_server()`."""

    clients: dict[str, Client]
    url: str = ""
    tokens: list[Token] = field(default_factory=list)
    revoked: set[int] = field(default_factory=set)
    requests: int = 0
    statuses: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def log_in(self, server: AuthorizationServer, client_id: str) -> dict[str, Any]:
        """What a login gives: the first token of a new family."""
        fields = server.generate_token(
            grant_type="device", client=self.clients[client_id], user="ann", scope="read write", expires_in=900
        )
        self.tokens.append(Token(dict(fields), client_id, family=len(self.tokens)))
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
        state.tokens.append(Token(dict(fields), request.client.client_id, family=request.refresh_token.family))

    class RefreshTokenGrant(grants.RefreshTokenGrant):  # type: ignore[misc]
        INCLUDE_NEW_REFRESH_TOKEN = True
        TOKEN_ENDPOINT_AUTH_METHODS = ("none", "client_secret_basic", "client_secret_post")

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

    server = AuthorizationServer(app, query_client=state.clients.get, save_token=save_token)
    server.register_grant(RefreshTokenGrant)

    @app.post("/token")
    def token() -> Any:
        with state.lock:
            state.requests += 1
            response = server.create_token_response()
            state.statuses.append(response.status_code)
            return response

    return app, server


@contextlib.contextmanager
def authlib_server(*clients: Client) -> Iterator[tuple[AuthlibServer, AuthorizationServer]]:
    """The server on loopback, on a thread."""
    state = AuthlibServer({client.client_id: client for client in clients})
    app, server = _application(state)
    web = make_server("127.0.0.1", 0, app, threaded=True)
    state.url = f"http://127.0.0.1:{web.server_port}/token"
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    try:
        with app.app_context():
            yield state, server
    finally:
        web.shutdown()
        thread.join()
        web.server_close()
