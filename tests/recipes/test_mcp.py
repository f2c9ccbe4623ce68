"""MCP's client with `httpx_auth`: a session goes on when the server revokes its access token early.

The server is the SDK's own, with its bearer authentication; it accepts the tokens of the fake provider.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rxauth import MemoryStore, OAuthCredentials, httpx_auth
from rxauth.testing import FakeProvider
from tests.peers_needed import package

pytestmark = pytest.mark.peer


@contextmanager
def mcp_server(fake: FakeProvider) -> Iterator[str]:
    """Run an MCP server with one tool, and return its URL."""
    access_token, settings = package("mcp.server.auth.provider").AccessToken, package("mcp.server.auth.settings")
    uvicorn = package("uvicorn")

    class Verifier:
        async def verify_token(self, token: str) -> Any:
            return access_token(token=token, client_id="app", scopes=[]) if fake.accepts(token) else None

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    auth = settings.AuthSettings(issuer_url=fake.url, resource_server_url=f"{url}/mcp", validate_token_resource=False)
    server = package("mcp.server.mcpserver").MCPServer("words", token_verifier=Verifier(), auth=auth)

    @server.tool()  # type: ignore[untyped-decorator]
    def shout(word: str) -> str:
        """Return the word in capitals."""
        return word.upper()

    app = server.streamable_http_app()
    running = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"{url}/mcp"
    finally:
        running.should_exit = True
        thread.join()
        listener.close()


async def test_session_survives_an_early_revoked_token() -> None:
    httpx2, mcp = package("httpx2"), package("mcp")
    transport = package("mcp.client.streamable_http")
    with FakeProvider() as fake, mcp_server(fake) as url:
        store = MemoryStore(fake.credential())
        credentials = OAuthCredentials(store, token_url=fake.token_url, client_id=fake.client_id)
        async with (
            httpx2.AsyncClient(auth=httpx_auth(credentials)) as http_client,
            transport.streamable_http_client(url, http_client=http_client) as (read, write, *_),
            mcp.ClientSession(read, write) as session,
        ):
            await session.initialize()
            for number in range(3):
                fake.invalidate()
                answer = await session.call_tool("shout", {"word": "hello"})
                assert answer.content[0].text == "HELLO"
                assert len(fake.token_requests) == number + 1
