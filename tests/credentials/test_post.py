"""The connections of a token request: broken ones, slow ones, certificates, proxies, and a session of the caller's."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver

from rxauth.credentials._post import EndpointUnavailable
from tests import peers_needed
from tests.credentials.test_token_endpoint import OLD, body, endpoint
from tests.credentials.token_server import TokenServer, running

HOST = "login.example.com"


def http(content: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 200 OK", b"Content-Type: application/json", *headers, b"", content))


_CHUNKED = b"1e\r\n" + body()[:30] + b"\r\n%x\r\n" % (len(body()) - 30) + body()[30:] + b"\r\n0\r\n\r\n"
_ZIPPED = gzip.compress(body())


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(http(body(), b"Content-Length: %d" % len(body())), id="of known length"),
        pytest.param(http(_CHUNKED, b"Transfer-Encoding: chunked"), id="chunked"),
        pytest.param(http(_ZIPPED, b"Content-Encoding: gzip", b"Content-Length: %d" % len(_ZIPPED)), id="compressed"),
    ],
)
async def test_an_answer_cut_at_any_byte_is_tried_again(server: TokenServer, response: bytes) -> None:
    server.answers += [response[:length] for length in range(len(response) + 1)]
    for _ in range(len(response)):
        with pytest.raises(EndpointUnavailable):
            await endpoint(server.url).refresh(OLD)
    assert (await endpoint(server.url).refresh(OLD)).access_token == "new"


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        pytest.param(b"", None, id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", None, id="ssh"),
        pytest.param(b"HTTP/1.1 999999 Odd\r\n\r\n", None, id="status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}", None, id="length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", None, id="header"),
        pytest.param(http(b"zz\r\n", b"Transfer-Encoding: chunked"), None, id="chunk"),
        pytest.param(http(b"not gzip", b"Content-Encoding: gzip", b"Content-Length: 8"), None, id="gzip"),
        pytest.param(http(b" " * (2 << 20), b"Content-Length: %d" % (2 << 20)), "too_long", id="two megabytes"),
        pytest.param(http(gzip.compress(b" " * (64 << 20)), b"Content-Encoding: gzip"), "too_long", id="a gzip bomb"),
    ],
)
async def test_broken_http_is_tried_again(server: TokenServer, response: bytes, kind: str | None) -> None:
    server.answers.append(response)
    with pytest.raises(EndpointUnavailable) as caught:
        await endpoint(server.url).refresh(OLD)
    assert kind in (None, caught.value.type)


async def test_a_server_that_is_down_is_tried_again() -> None:
    with running(TokenServer()) as server:
        pass
    with pytest.raises(EndpointUnavailable) as caught:
        await endpoint(server.url).refresh(OLD)
    assert caught.value.status is None


async def test_an_answer_is_awaited_for_answer_timeout(server: TokenServer) -> None:
    """And not for request_timeout: that is for the connection."""
    server.gate.clear()
    with pytest.raises(EndpointUnavailable, match=r"did not answer within 0\.05 s") as caught:
        await endpoint(server.url, answer_timeout=0.05).refresh(OLD)
    assert caught.value.type == "timeout"


async def test_a_connection_is_awaited_for_request_timeout() -> None:
    class Silent(AbstractResolver):
        async def resolve(self, *arguments: Any, **options: Any) -> Any:
            await asyncio.Event().wait()

        async def close(self) -> None:
            pass

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Silent()))

    with pytest.raises(EndpointUnavailable, match=r"cannot be reached within 0\.02 s") as caught:
        await endpoint("https://login.example.com/token", session=session, request_timeout=0.02).refresh(OLD)
    assert caught.value.type == "timeout"


# A session of the caller's, TLS ---------------------------------------------------------------------------------------


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """A key and its self-signed certificate for HOST."""
    path = tmp_path / "server.pem"
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    words += ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", "-", "-out", "-"]
    done = subprocess.run([peers_needed.program("openssl"), *words], check=True, capture_output=True)
    path.write_bytes(done.stdout)
    return path


@pytest.fixture
def tls_server(pem: Path) -> Iterator[TokenServer]:
    """Over TLS, and only for clients that show the certificate too."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pem))
    context.load_cert_chain(pem)
    context.verify_mode = ssl.CERT_REQUIRED
    with running(TokenServer(), context) as server:
        yield server


def trusting(pem: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pem))
    context.load_cert_chain(pem)
    return context


@contextlib.contextmanager
def tunnel(port: int | None, seen: list[bytes]) -> Iterator[str]:
    """A proxy, on threads, that leads every host to `port`."""

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                seen.append(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    class Tunnel(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            seen.append(self.request.recv(1 << 16))
            with socket.create_connection(("127.0.0.1", port)) as there:
                self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=copy, args=(there, self.request))
                back.start()
                copy(self.request, there)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnel) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        yield f"http://127.0.0.1:{proxy.server_address[1]}"
        proxy.shutdown()
        thread.join()


@pytest.mark.peer
@pytest.mark.parametrize("way", ["session", "session that reads the environment", "function", "coroutine function"])
async def test_a_callers_session_gives_proxy_and_tls(
    tls_server: TokenServer, pem: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Its own headers and cookies belong to another server, and are not sent."""
    tls_server.answers.append({"body": body()})
    seen: list[bytes] = []
    with tunnel(urlsplit(tls_server.url).port, seen) as proxy:
        if way == "session that reads the environment":
            proxied: dict[str, Any] = {"trust_env": True}
            for name in ("no_proxy", "NO_PROXY"):
                monkeypatch.delenv(name, raising=False)
            monkeypatch.setenv("https_proxy", proxy)
        else:
            proxied = {"proxy": proxy}

        def made() -> aiohttp.ClientSession:
            return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting(pem)), **proxied)

        async def made_later() -> aiohttp.ClientSession:
            return made()

        async with made() as given:
            given.headers["Authorization"] = "Bearer of-another-server"
            session = {"function": made, "coroutine function": made_later}.get(way, given)
            asking = endpoint(f"https://{HOST}/token", session=session)
            # On another loop than the session's, as a refresh is.
            await asyncio.to_thread(lambda: asyncio.run(asking.refresh(OLD)))
            assert not given.closed
    assert tls_server.sent == ["old-refresh-secret"]
    assert "Authorization" not in tls_server.headers[0]
    assert seen[0].startswith(f"CONNECT {HOST}:443 ".encode())
    assert b"secret" not in b"".join(seen)


@pytest.mark.peer
async def test_a_sessions_resolver_and_proxy_login_are_used(tls_server: TokenServer, pem: Path) -> None:
    class Resolver(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
            number = urlsplit(tls_server.url).port
            return [{"hostname": host, "host": "127.0.0.1", "port": number, "family": 2, "proto": 0, "flags": 0}]

        async def close(self) -> None:
            raise AssertionError("it is the caller's")

    tls_server.answers.append({"body": body()})
    connector = aiohttp.TCPConnector(ssl=trusting(pem), resolver=Resolver(), local_addr=("127.0.0.1", 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        assert (await endpoint(f"https://{HOST}/token", session=session).refresh(OLD)).access_token == "new"


async def test_a_session_that_cannot_be_copied_is_refused() -> None:
    class Special(aiohttp.TCPConnector):
        pass

    async with aiohttp.ClientSession(connector=Special()) as session:
        with pytest.raises(TypeError, match=r"Special.*give a function"):
            endpoint("https://example.com/token", session=session)


@pytest.mark.peer
async def test_an_unknown_certificate_gets_no_token(tls_server: TokenServer) -> None:
    with pytest.raises(EndpointUnavailable, match="certificate") as caught:
        await endpoint(tls_server.url).refresh(OLD)
    assert caught.value.status is None
    assert tls_server.requests == []
