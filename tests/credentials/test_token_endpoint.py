"""The token endpoint's client against real servers, scripted down to the byte."""

from __future__ import annotations

import asyncio
import base64
import datetime
import gzip
import itertools
import json
import ssl
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from rxauth.credentials import Credential
from rxauth.credentials._token_endpoint import (
    Answer,
    DeadRefreshToken,
    EndpointUnavailable,
    TokenEndpoint,
    error_code,
    granted,
)
from rxauth.errors import RefreshFailed
from tests.credentials.token_server import TokenServer, running, serving, serving_bytes

NOW = 1_700_000_000.0

OLD = Credential(
    "old-access-secret",
    refresh_token="old-refresh-secret",
    expires_at=NOW - 1,
    scope="read",
    extra={"account_id": "ann", "expires_in": 60},
)


def endpoint(url: str, **options: Any) -> TokenEndpoint:
    return TokenEndpoint(url, client_id=options.pop("client_id", "app"), clock=lambda: NOW, **options)


def body(**fields: Any) -> bytes:
    return json.dumps({"access_token": "new", "token_type": "Bearer", "expires_in": 900} | fields).encode()


def answer(content: bytes | str, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, headers or {}, content.encode() if isinstance(content, str) else content)


# The request ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "form", "authorization"),
    [
        pytest.param({}, {"client_id": "app"}, None, id="a public client sends its id"),
        pytest.param(
            {"client_secret": "s&cret"},
            {"client_id": "app", "client_secret": "s&cret"},
            None,
            id="a secret goes into the body",
        ),
        pytest.param(
            {"client_id": "a:b", "client_secret": "s c%", "client_auth": "basic"},
            {},
            "Basic " + base64.b64encode(b"a%3Ab:s+c%25").decode(),
            id="or, form-encoded, into a Basic header and not into the body",
        ),
        pytest.param(
            {"scope": "read write", "extra_params": {"resource": "https://api.example"}},
            {"client_id": "app", "scope": "read write", "resource": "https://api.example"},
            None,
            id="scope and extra parameters are sent along",
        ),
    ],
)
async def test_a_refresh_is_one_form_post(
    options: dict[str, Any], form: dict[str, str], authorization: str | None
) -> None:
    server = TokenServer()
    server.answers.append({"body": body()})
    with running(server):
        await endpoint(server.url, **options).refresh(OLD)
    assert server.requests == [form | {"grant_type": "refresh_token", "refresh_token": "old-refresh-secret"}]
    headers = server.headers[0]
    assert headers.get("Authorization") == authorization
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert headers["Accept"] == "application/json"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param({"url": "http://example.com/token"}, ValueError, id="unencrypted"),
        pytest.param({"url": "ftp://example.com/token"}, ValueError, id="not http"),
        pytest.param({"url": "example.com/token"}, ValueError, id="no scheme"),
        pytest.param({"url": "https:///token"}, ValueError, id="no host"),
        pytest.param({"url": "https://ann:secret@example.com/token"}, ValueError, id="a password in the address"),
        pytest.param({"url": "https://example.com/token#here"}, ValueError, id="a fragment"),
        pytest.param({"url": "https://example.com:port/token"}, ValueError, id="no port number"),
        pytest.param({"url": "http://127.0.0.1.example.com/"}, ValueError, id="a name that looks like loopback"),
        pytest.param({"url": "http://localhost.example.com/"}, ValueError, id="a name that starts like localhost"),
        pytest.param({"url": "http://10.0.0.1/"}, ValueError, id="a private address is not loopback"),
        pytest.param({"url": None}, ValueError, id="no text"),
        pytest.param({"client_id": ""}, ValueError, id="no client"),
        pytest.param({"client_id": None}, ValueError, id="client is None"),
        pytest.param({"client_secret": ""}, ValueError, id="an empty secret"),
        pytest.param({"client_auth": "header"}, ValueError, id="unknown client_auth"),
        pytest.param({"client_auth": "basic"}, ValueError, id="basic without a secret"),
        pytest.param({"scope": ["read"]}, TypeError, id="scope as a list"),
        pytest.param({"extra_params": {"n": 1}}, TypeError, id="a parameter that is no text"),
        pytest.param({"headers": {"X-Device": "a\r\nX-Evil: 1"}}, ValueError, id="a header that is two"),
        pytest.param({"headers": {"X-Device": 7}}, ValueError, id="a header that is no text"),
        pytest.param({"extra_params": {"grant_type": "x"}}, ValueError, id="a parameter that is ours"),
    ],
)
def test_nonsense_is_refused_at_construction(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        endpoint(arguments.pop("url", "https://example.com/token"), **arguments)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://127.9.9.9/", "http://[::1]:80/t", "http://localhost/"])
def test_loopback_needs_no_tls(url: str) -> None:
    assert endpoint(url).url == url


async def test_more_headers_are_sent_along() -> None:
    server = TokenServer()
    server.answers.append({"body": body()})
    with running(server):
        await endpoint(server.url, headers={"X-Device": "laptop"}).refresh(OLD)
    assert server.headers[0]["X-Device"] == "laptop"
    assert server.headers[0]["Accept"] == "application/json"


async def test_a_redirect_is_not_followed_with_the_token() -> None:
    elsewhere = TokenServer()

    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": elsewhere.url})

    with (
        running(elsewhere),
        serving({"/token": redirect}) as base,
        pytest.raises(RefreshFailed, match="redirect") as caught,
    ):
        await endpoint(base + "/token").refresh(OLD)
    assert elsewhere.requests == []
    assert caught.value.status == 307


# The answer ----------------------------------------------------------------------------------------------------------


async def test_a_full_answer_becomes_the_credential() -> None:
    server = TokenServer()
    server.answers.append(
        {"body": body(refresh_token="new-refresh", scope="read write", id_token="x", plan={"a": [1]})}
    )
    with running(server):
        new = await endpoint(server.url).refresh(OLD)
    assert (new.access_token, new.refresh_token, new.expires_at) == ("new", "new-refresh", NOW + 900)
    assert (new.token_type, new.scope) == ("Bearer", "read write")
    assert dict(new.extra) == {"account_id": "ann", "id_token": "x", "plan": {"a": [1]}, "expires_in": 900}


async def test_a_lifetime_counts_from_before_the_request() -> None:
    server = TokenServer()
    server.answers.append({"body": body()})
    times = itertools.count(NOW, 60)
    with running(server):
        new = await TokenEndpoint(server.url, client_id="app", clock=lambda: next(times)).refresh(OLD)
    assert new.expires_at == NOW + 900


def test_what_the_answer_leaves_out_is_kept() -> None:
    new = granted(answer('{"access_token": "new"}'), now=NOW, previous=OLD)
    assert new is not None
    assert (new.refresh_token, new.scope, new.expires_at) == ("old-refresh-secret", "read", None)
    assert dict(new.extra) == {"account_id": "ann"}


def test_an_empty_refresh_token_keeps_the_old_one() -> None:
    new = granted(answer(body(refresh_token="")), now=NOW, previous=OLD)
    assert new is not None
    assert new.refresh_token == "old-refresh-secret"


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        ("900", 900),
        ('"900"', 900),
        ('" 900 "', 900),
        ("900.5", 900.5),
        ("1e3", 1000),
        ("0", None),
        ("-1", None),
        ("1e400", None),
        ("-1e400", None),
        ("NaN", None),
        ('"NaN"', None),
        ('"inf"', None),
        ("9" * 5000, None),
        ("true", None),
        ("null", None),
        ('"soon"', None),
        ('""', None),
        ("[900]", None),
        ("{}", None),
    ],
)
def test_expires_in_is_a_lifetime_or_unknown(expires_in: str, lifetime: float | None) -> None:
    new = granted(answer(f'{{"access_token": "new", "expires_in": {expires_in}}}'), now=NOW)
    assert new is not None
    assert new.expires_at == (None if lifetime is None else NOW + lifetime)
    assert new.extra.get("expires_in") == lifetime


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "true",
        '"new"',
        "{}",
        '{"access_token": ""}',
        '{"access_token": 1}',
        '{"access_token": null}',
        '{"access_token": "zwölf"}',
        '{"access_token": "a\\r\\nX-Evil: 1"}',
        '{"access_token": "a\\u0000"}',
        '{"access_token": "new", "refresh_token": 7}',
        '{"access_token": "new", "refresh_token": "\\ud800"}',
        '{"access_token": "new"',
        "access_token=new&expires_in=900",
        "<html><body>Sign in to the hotel's network</body></html>",
        "[" * 100_000,
        b"\xff\xfe",
        b"\x1f\x8b\x08\x00",
    ],
)
async def test_what_is_no_token_response_is_worth_another_try(content: str | bytes) -> None:
    server = TokenServer()
    server.answers.append({"body": content if isinstance(content, bytes) else content.encode()})
    with running(server), pytest.raises(EndpointUnavailable) as caught:
        await endpoint(server.url).refresh(OLD)
    assert (caught.value.type, caught.value.status) == ("malformed_response", 200)


def test_what_cannot_be_stored_is_not_kept() -> None:
    content = '{"access_token": "new", "half": "\\ud800", "huge": 1e400, "fine": "\\ud83d\\ude00", "scope": "\\udc00"}'
    new = granted(answer(content), now=NOW)
    assert new is not None
    assert dict(new.extra) == {"fine": "😀"}
    assert new.scope is None


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b" \r\n\t"])
def test_a_byte_order_mark_and_white_space_are_no_obstacle(start: bytes) -> None:
    assert granted(answer(start + body()), now=NOW) is not None


def test_a_token_type_that_is_none_is_the_old_one() -> None:
    new = granted(answer(body(token_type={"a": 1})), now=NOW, previous=OLD)
    assert new is not None
    assert new.token_type == "Bearer"


def error(code: Any, **more: Any) -> bytes:
    return json.dumps({"error": code, "error_description": "the old-refresh-secret was odd"} | more).encode()


DEAD, WRONG, LATER = DeadRefreshToken, RefreshFailed, EndpointUnavailable
HTML = b"<html>old-refresh-secret</html>"


@pytest.mark.parametrize(
    ("status", "content", "outcome"),
    [
        (400, error("invalid_grant"), DEAD),
        (401, error("invalid_grant"), DEAD),
        (403, error("invalid_grant"), DEAD),
        (200, error("invalid_grant"), DEAD),  # some servers know no other status
        (401, error("invalid_token"), DEAD),
        (401, error({"type": "authentication_error", "code": "refresh_token_reused"}), DEAD),
        (403, error("access_denied"), DEAD),
        (403, error({"message": "no"}), DEAD),
        (401, error("invalid_client"), WRONG),
        (403, error("unauthorized_client"), WRONG),
        (400, error("invalid_client"), WRONG),
        (400, error("unauthorized_client"), WRONG),
        (400, error("invalid_request"), WRONG),
        (400, error("unsupported_grant_type"), WRONG),
        (400, error("invalid_scope"), WRONG),
        (400, error("something_of_their_own"), WRONG),
        (404, error("not_found"), WRONG),
        (302, HTML, WRONG),
        (408, b"", LATER),
        (425, b"", LATER),
        (429, error("rate_limited"), LATER),
        (429, error("invalid_grant"), LATER),
        (500, error("invalid_grant"), LATER),
        (500, HTML, LATER),
        (502, HTML, LATER),
        (503, error("temporarily_unavailable"), LATER),
        (599, b"", LATER),
        (400, error("temporarily_unavailable"), LATER),
        (400, HTML, LATER),
        (400, body(), LATER),
        (401, HTML, LATER),
        (403, HTML, LATER),
        (403, b"{}", LATER),
        (404, HTML, LATER),
        (204, b"", LATER),
    ],
)
async def test_every_refusal_means_one_of_three_things(status: int, content: bytes, outcome: type[Exception]) -> None:
    server = TokenServer()
    server.answers.append({"status": status, "body": content})
    with running(server), pytest.raises(outcome) as caught:
        await endpoint(server.url).refresh(OLD)
    assert getattr(caught.value, "status", None) == status


async def test_retry_after_is_told() -> None:
    server = TokenServer()
    server.answers.append({"status": 429, "headers": {"Retry-After": "7"}})
    with running(server), pytest.raises(EndpointUnavailable) as caught:
        await endpoint(server.url).refresh(OLD)
    assert caught.value.retry_after == 7


# Bad connections -----------------------------------------------------------------------------------------------------


def http(content: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 200 OK", b"Content-Type: application/json", *headers, b"", content))


_CHUNKED = (
    b"1e\r\n" + body()[:30] + b"\r\n" + f"{len(body()) - 30:x}".encode() + b"\r\n" + body()[30:] + b"\r\n0\r\n\r\n"
)
_ZIPPED = gzip.compress(body())


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(http(body(), b"Content-Length: %d" % len(body())), id="of known length"),
        pytest.param(http(_CHUNKED, b"Transfer-Encoding: chunked"), id="chunked"),
        pytest.param(http(_ZIPPED, b"Content-Encoding: gzip", b"Content-Length: %d" % len(_ZIPPED)), id="compressed"),
    ],
)
async def test_an_answer_cut_at_any_byte_is_worth_another_try(response: bytes) -> None:
    with serving_bytes(lambda number: response[:number]) as url:
        for _ in range(len(response)):
            with pytest.raises(EndpointUnavailable):
                await endpoint(url).refresh(OLD)
        assert (await endpoint(url).refresh(OLD)).access_token == "new"


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 999999 Odd\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        http(b"zz\r\n", b"Transfer-Encoding: chunked"),
        http(b"not gzip", b"Content-Encoding: gzip", b"Content-Length: 8"),
    ],
    ids=["nothing", "ssh", "status", "length", "header", "chunk", "gzip"],
)
async def test_whatever_speaks_no_http_is_worth_another_try(response: bytes) -> None:
    with serving_bytes(lambda number: response) as url, pytest.raises(EndpointUnavailable):
        await endpoint(url).refresh(OLD)


@pytest.mark.parametrize(
    "response",
    [
        http(b" " * (2 << 20), b"Content-Length: %d" % (2 << 20)),
        http(gzip.compress(b" " * (64 << 20)), b"Content-Encoding: gzip"),
    ],
    ids=["plain", "compressed"],
)
async def test_an_answer_that_does_not_end_is_not_read_to_its_end(response: bytes) -> None:
    with serving_bytes(lambda number: response) as url, pytest.raises(EndpointUnavailable) as caught:
        await endpoint(url).refresh(OLD)
    assert caught.value.type == "too_long"


async def test_nobody_there_is_worth_another_try() -> None:
    with serving({}) as base:
        pass
    with pytest.raises(EndpointUnavailable) as caught:
        await endpoint(base + "/token").refresh(OLD)
    assert caught.value.status is None


async def test_a_certificate_that_nobody_vouches_for_gets_no_token(tmp_path: Path) -> None:
    server = TokenServer()
    with (
        serving({"/token": server._token}, self_signed(tmp_path)) as base,
        pytest.raises(EndpointUnavailable, match="certificate") as caught,
    ):
        await endpoint(base + "/token").refresh(OLD)
    assert caught.value.status is None
    assert server.requests == []


def self_signed(directory: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = directory / "server.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@pytest.mark.looptime
async def test_a_proxy_is_asked_for_a_tunnel_and_sees_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = bytearray()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as proxy:
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        with pytest.raises(EndpointUnavailable):
            await endpoint("https://login.example.com/token").refresh(OLD)
    assert seen.startswith(b"CONNECT login.example.com:443 ")
    assert b"secret" not in seen


async def test_a_server_that_never_answers_is_given_up_in_time() -> None:
    server = TokenServer()
    server.gate.clear()
    with running(server), pytest.raises(EndpointUnavailable, match="within 10 s") as caught:
        await endpoint(server.url).refresh(OLD)
    assert caught.value.type == "timeout"


# Secrets -------------------------------------------------------------------------------------------------------------


def test_a_code_of_the_standard_is_no_echo_whatever_the_token_is() -> None:
    assert error_code(answer(error("invalid_grant"), 400), ("grant", "invalid_grant")) == "invalid_grant"
    assert error_code(answer(error("quota_spent"), 400), ("quota",)) == "unknown_error"


_SECRETS = ("old-refresh-secret", "old-access-secret", "client-secret", "refresh-secret")


@pytest.mark.parametrize(
    "content",
    [
        error("invalid_scope"),
        error("old-refresh-secret"),
        error("OLD-ACCESS-SECRET"),
        error("client-secret"),
        error("refresh-secret"),
        error({"code": "old-refresh-secret", "message": "old-access-secret"}),
        HTML,
        b"old-refresh-secret",
    ],
)
async def test_no_text_holds_what_the_server_echoes(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="rxauth")
    server = TokenServer()
    with running(server):
        asking = endpoint(server.url, client_secret=_SECRETS[2])
        for status in (200, 302, 400, 401, 403, 429, 500):
            server.answers.append({"status": status, "body": content, "reason": "old-refresh-secret"})
            with pytest.raises(Exception, match=r".") as caught:
                await asking.refresh(OLD)
            said = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
            assert not [secret for secret in _SECRETS if secret in (said + caplog.text).lower()]
