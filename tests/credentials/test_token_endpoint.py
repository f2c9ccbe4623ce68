"""Token requests against real servers, scripted down to the byte."""

from __future__ import annotations

import asyncio
import base64
import gzip
import itertools
import json
import traceback
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver

from rxauth.credentials._post import EndpointUnavailable
from rxauth.credentials._token_endpoint import DeadRefreshToken, TokenEndpoint
from rxauth.errors import RefreshFailed
from tests.credentials.test_token_answer import NO_TOKEN_RESPONSE, NOW, OLD, body, error
from tests.credentials.token_server import TokenServer, running, serving, serving_bytes


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with running(TokenServer()) as server:
        yield server


def endpoint(url: str, **options: Any) -> TokenEndpoint:
    usual: dict[str, Any] = {"client_id": "app", "clock": lambda: NOW}
    return TokenEndpoint(url, **usual | options)


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
            id="a secret goes, form-encoded, into a Basic header",
        ),
        pytest.param(
            {"scope": "read write", "extra_params": {"resource": "https://api.example"}},
            {"client_id": "app", "scope": "read write", "resource": "https://api.example"},
            None,
            id="scope and extra parameters are sent along",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["form", "json"])
async def test_a_refresh_is_one_post(
    server: TokenServer, options: dict[str, Any], form: dict[str, str], authorization: str | None, kind: str
) -> None:
    server.answers.append({"body": body()})
    await endpoint(server.url, headers={"X-Device": "laptop"}, body=kind, **options).refresh(OLD)
    assert server.requests == [form | {"grant_type": "refresh_token", "refresh_token": "old-refresh-secret"}]
    headers = server.headers[0]
    media_type = {"form": "application/x-www-form-urlencoded", "json": "application/json"}[kind]
    assert (headers.get("Authorization"), headers["Content-Type"]) == (authorization, media_type)
    assert (headers["Accept"], headers["X-Device"]) == ("application/json", "laptop")


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_extra_params_are_computed_for_each_request(server: TokenServer, asynchronous: bool) -> None:
    """A client assertion is good for one request (RFC 7523 section 3)."""
    server.answers += [{"body": body()}] * 2
    numbers = itertools.count(1)

    def assertion() -> dict[str, str]:
        return {"client_assertion": f"signed-{next(numbers)}"}

    async def assertion_later() -> dict[str, str]:
        return assertion()

    asking = endpoint(server.url, extra_params=assertion_later if asynchronous else assertion)
    for _ in range(2):
        await asking.refresh(OLD)
    assert [each["client_assertion"] for each in server.requests] == ["signed-1", "signed-2"]


@pytest.mark.parametrize(
    "made", [{"grant_type": "x"}, {"n": 1}, None, ValueError("private-key")], ids=["ours", "number", "none", "raises"]
)
async def test_extra_params_that_fail_send_nothing(server: TokenServer, made: Any) -> None:
    def assertion() -> Any:
        if isinstance(made, Exception):
            raise made
        return made

    with pytest.raises(RefreshFailed, match="extra_params failed") as caught:
        await endpoint(server.url, extra_params=assertion).refresh(OLD)
    assert server.requests == []
    assert "private-key" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param({"url": "http://example.com/token"}, ValueError, id="unencrypted"),
        pytest.param({"url": "https://ann:secret@example.com/token"}, ValueError, id="a password in the address"),
        pytest.param({"url": None}, ValueError, id="no address"),
        pytest.param({"client_id": ""}, ValueError, id="no client"),
        pytest.param({"client_secret": ""}, ValueError, id="an empty secret"),
        pytest.param({"client_auth": "header"}, ValueError, id="unknown client_auth"),
        pytest.param({"client_auth": "basic"}, ValueError, id="basic without a secret"),
        pytest.param({"scope": ["read"]}, TypeError, id="scope as a list"),
        pytest.param({"extra_params": {"n": 1}}, TypeError, id="a parameter that is no text"),
        pytest.param({"extra_params": {"grant_type": "x"}}, ValueError, id="a parameter with an argument of its own"),
        pytest.param({"headers": {"X-Device": "a\r\nX-Evil: 1"}}, ValueError, id="a header that is two"),
        pytest.param({"headers": {"X-Device": 7}}, ValueError, id="a header that is no text"),
        pytest.param({"body": "xml"}, ValueError, id="an unknown body"),
        pytest.param({"session": 7}, TypeError, id="a number for a session"),
    ],
)
def test_nonsense_is_refused_at_construction(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        endpoint(arguments.pop("url", "https://example.com/token"), **arguments)


async def test_a_redirect_is_not_followed(server: TokenServer) -> None:
    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": server.url})

    with serving({"/token": redirect}) as base, pytest.raises(RefreshFailed, match="redirect") as caught:
        await endpoint(base + "/token").refresh(OLD)
    assert server.requests == []
    assert caught.value.status == 307


async def test_a_lifetime_counts_from_before_the_request(server: TokenServer) -> None:
    server.answers.append({"body": body()})
    times = itertools.count(NOW, 60)
    assert (await endpoint(server.url, clock=lambda: next(times)).refresh(OLD)).expires_at == NOW + 900


# Refusals ------------------------------------------------------------------------------------------------------------

DEAD, WRONG, LATER = DeadRefreshToken, RefreshFailed, EndpointUnavailable
HTML = b"<html>old-refresh-secret</html>"
REUSED = {"type": "authentication_error", "code": "refresh_token_reused"}
REGION = {"code": "unsupported_country_region_territory", "type": "request_forbidden"}

REFUSALS: list[tuple[int, bytes, type[Exception]]] = [
    (400, error("invalid_grant"), DEAD),
    (200, error("invalid_grant"), DEAD),
    (200, error("bad_refresh_token"), DEAD),
    (401, error("invalid_token"), DEAD),
    (401, error(REUSED), DEAD),
    (401, error("something_of_their_own"), DEAD),
    (400, error("refresh_token_expired"), DEAD),
    (403, error("invalid_grant"), DEAD),
    (429, error("invalid_grant"), DEAD),
    (500, error("invalid_grant"), DEAD),
    (401, error("invalid_client"), WRONG),
    (403, error("unauthorized_client"), WRONG),
    (200, error("incorrect_client_credentials"), WRONG),
    (400, error("invalid_request"), WRONG),
    (400, error("unsupported_grant_type"), WRONG),
    (400, error("invalid_scope"), WRONG),
    (400, error("something_of_their_own"), WRONG),
    (404, error("not_found"), WRONG),
    (302, HTML, WRONG),
    (403, error(REGION), WRONG),
    (403, error("access_denied"), WRONG),
    (403, HTML, WRONG),
    (403, b"", WRONG),
    (408, b"", LATER),
    (425, b"", LATER),
    (429, error("rate_limited"), LATER),
    (500, HTML, LATER),
    (503, error("temporarily_unavailable"), LATER),
    (599, b"", LATER),
    (400, error("temporarily_unavailable"), LATER),
    (400, HTML, LATER),
    (400, body(), LATER),
    (401, HTML, LATER),
    (404, HTML, LATER),
    (204, b"", LATER),
]


async def test_every_refusal_means_one_of_three_things(server: TokenServer) -> None:
    """The login is over, the request is wrong (here and now), or the same request may succeed later."""
    for status, content, outcome in REFUSALS:
        server.answers.append({"status": status, "body": content})
        with pytest.raises(Exception, match=r".") as caught:
            await endpoint(server.url).refresh(OLD)
        seen = type(caught.value), getattr(caught.value, "status", None)
        assert seen == (outcome, status), (status, content)


async def test_a_session_that_raises_for_a_status_is_read(server: TokenServer) -> None:
    server.answers.append({"status": 400, "body": error("invalid_grant")})
    with pytest.raises(DeadRefreshToken):
        await endpoint(server.url, session=lambda: aiohttp.ClientSession(raise_for_status=True)).refresh(OLD)


async def test_a_403_is_reported_in_the_servers_words(server: TokenServer) -> None:
    server.answers.append({"status": 403, "body": json.dumps({"error": REGION | {"message": "Not here."}}).encode()})
    with pytest.raises(RefreshFailed, match=r"unsupported_country_region_territory, status 403\): Not here. The login"):
        await endpoint(server.url).refresh(OLD)


async def test_retry_after_is_kept_with_the_failure(server: TokenServer) -> None:
    server.answers.append({"status": 429, "headers": {"Retry-After": "7"}})
    with pytest.raises(EndpointUnavailable) as caught:
        await endpoint(server.url).refresh(OLD)
    assert caught.value.retry_after == 7


async def test_no_token_response_is_worth_another_try(server: TokenServer) -> None:
    for content in NO_TOKEN_RESPONSE:
        server.answers.append({"body": content if isinstance(content, bytes) else content.encode()})
        with pytest.raises(EndpointUnavailable) as caught:
            await endpoint(server.url).refresh(OLD)
        assert (caught.value.type, caught.value.status) == ("malformed_response", 200)


_SECRETS = ("old-refresh-secret", "old-access-secret", "client-secret", "assertion-secret", "refresh-secret")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(error("invalid_scope"), id="in the description"),
        pytest.param(error("OLD-ACCESS-SECRET"), id="as the code"),
        pytest.param(error("assertion-secret"), id="an extra parameter as the code"),
        pytest.param(error({"code": "refresh-secret", "message": "old-access-secret"}), id="in an object"),
        pytest.param(b"<title>old-refresh-secret</title>", id="as a title"),
    ],
)
async def test_a_token_that_is_echoed_is_not_shown(
    server: TokenServer, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="rxauth")
    asking = endpoint(server.url, client_secret=_SECRETS[2], extra_params=lambda: {"assertion": _SECRETS[3]})
    for status in (200, 302, 400, 401, 403, 429, 500):
        server.answers.append({"status": status, "body": content, "reason": "old-refresh-secret"})
        with pytest.raises(Exception, match=r".") as caught:
            await asking.refresh(OLD)
        said = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
        assert not [secret for secret in _SECRETS if secret in (said + caplog.text).lower()]


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
async def test_an_answer_cut_at_any_byte_is_tried_again(response: bytes) -> None:
    with serving_bytes(lambda number: response[:number]) as url:
        for _ in range(len(response)):
            with pytest.raises(EndpointUnavailable):
                await endpoint(url).refresh(OLD)
        assert (await endpoint(url).refresh(OLD)).access_token == "new"


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
async def test_broken_http_is_tried_again(response: bytes, kind: str | None) -> None:
    with serving_bytes(lambda number: response) as url, pytest.raises(EndpointUnavailable) as caught:
        await endpoint(url).refresh(OLD)
    assert kind in (None, caught.value.type)


async def test_a_server_that_is_down_is_tried_again() -> None:
    with serving({}) as base:
        pass
    with pytest.raises(EndpointUnavailable) as caught:
        await endpoint(base + "/token").refresh(OLD)
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
