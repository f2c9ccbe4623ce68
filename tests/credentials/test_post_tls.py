"""The connections of a token request: certificates, proxies, and a session of the caller's."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from rxauth.credentials._post import EndpointUnavailable
from tests import peers_needed
from tests.credentials.test_token_answer import OLD, body
from tests.credentials.test_token_endpoint import endpoint
from tests.credentials.token_server import TokenServer, serving

pytestmark = pytest.mark.peer

peers_needed.package("cryptography")

from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat  # noqa: E402

HOST = "login.example.com"


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """A key and its self-signed certificate for HOST."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return path


@pytest.fixture
def server(pem: Path) -> Iterator[TokenServer]:
    """Over TLS, and only for clients that show the certificate too."""
    server = TokenServer()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pem))
    context.load_cert_chain(pem)
    context.verify_mode = ssl.CERT_REQUIRED
    with serving({"/token": server._token}, context) as base:
        server.url = base
        yield server


def trusting(pem: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pem))
    context.load_cert_chain(pem)
    return context


@asynccontextmanager
async def tunnel(port: str, seen: list[bytes]) -> AsyncIterator[str]:
    """A proxy that leads every host to `port`."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            seen.append(data)
            writer.write(data)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        there, back = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as proxy:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("way", ["session", "session that reads the environment", "function", "coroutine function"])
async def test_a_callers_session_gives_proxy_and_tls(
    server: TokenServer, pem: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Its own headers and cookies belong to another server, and are not sent."""
    server.answers.append({"body": body()})
    seen: list[bytes] = []
    async with tunnel(server.url.rpartition(":")[2], seen) as proxy:
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
    assert [each["refresh_token"] for each in server.requests] == ["old-refresh-secret"]
    assert "Authorization" not in server.headers[0]
    assert seen[0].startswith(f"CONNECT {HOST}:443 ".encode())
    assert b"secret" not in b"".join(seen)


async def test_a_sessions_resolver_and_proxy_login_are_used(server: TokenServer, pem: Path) -> None:
    class Resolver(aiohttp.abc.AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
            number = int(server.url.rpartition(":")[2])
            return [{"hostname": host, "host": "127.0.0.1", "port": number, "family": 2, "proto": 0, "flags": 0}]

        async def close(self) -> None:
            raise AssertionError("it is the caller's")

    server.answers.append({"body": body()})
    connector = aiohttp.TCPConnector(ssl=trusting(pem), resolver=Resolver(), local_addr=("127.0.0.1", 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        assert (await endpoint(f"https://{HOST}/token", session=session).refresh(OLD)).access_token == "new"


async def test_a_session_that_cannot_be_copied_is_refused() -> None:
    class Special(aiohttp.TCPConnector):
        pass

    async with aiohttp.ClientSession(connector=Special()) as session:
        with pytest.raises(TypeError, match=r"Special.*give a function"):
            endpoint("https://example.com/token", session=session)


async def test_an_unknown_certificate_gets_no_token(server: TokenServer) -> None:
    with pytest.raises(EndpointUnavailable, match="certificate") as caught:
        await endpoint(server.url + "/token").refresh(OLD)
    assert caught.value.status is None
    assert server.requests == []
