"""Token requests against real servers, scripted down to the byte: what an answer means."""

from __future__ import annotations

import base64
import itertools
import json
import traceback
from typing import Any

import aiohttp
import pytest

from rxauth.credentials import Credential
from rxauth.credentials._post import EndpointUnavailable
from rxauth.credentials._token_endpoint import DeadRefreshToken, TokenEndpoint
from rxauth.errors import RefreshFailed
from tests.credentials.token_server import TokenServer

NOW = 1_700_000_000.0
OLD = Credential(
    "old-access-secret",
    refresh_token="old-refresh-secret",
    expires_at=NOW - 1,
    scope="read",
    extra={"account_id": "ann", "expires_in": 60},
)
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


def endpoint(url: str, **options: Any) -> TokenEndpoint:
    usual: dict[str, Any] = {"client_id": "app", "clock": lambda: NOW}
    return TokenEndpoint(url, **usual | options)


def body(**fields: Any) -> bytes:
    return json.dumps({"access_token": "new", "token_type": "Bearer", "expires_in": 900} | fields).encode()


def error(code: Any) -> bytes:
    return json.dumps({"error": code, "error_description": "the old-refresh-secret was odd"}).encode()


async def answered(server: TokenServer, **answer: Any) -> Credential:
    server.answers.append(answer)
    return await endpoint(server.url).refresh(OLD)


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


# The credential in an answer -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "options", "fields"),
    [
        pytest.param(
            body(refresh_token="r", scope="read write", id_token="x", plan={"a": [1]}),
            {},
            {"refresh_token": "r", "scope": "read write", "extra": {"id_token": "x", "plan": {"a": [1]}}},
            id="every field",
        ),
        pytest.param(b"\xef\xbb\xbf" + body(), {}, {}, id="behind a byte order mark"),
        pytest.param(b" \r\n\t" + body(), {}, {}, id="behind white space"),
        pytest.param(body(refresh_token="", token_type={"a": 1}, scope=7), {}, {}, id="nonsense is left out"),
        pytest.param(body(token_url="https://evil.example/token"), {}, {}, id="its endpoint is not believed"),
        pytest.param(
            b'{"access_token": "new", "expires_in": 900, "half": "\\ud800", "huge": 1e400, "fine": "\\ud83d\\ude00",'
            b' "scope": "\\udc00"}',
            {},
            {"extra": {"fine": "😀"}},
            id="a field that no file can hold is dropped",
        ),
        pytest.param(
            b"access_token=new&expires_in=900&refresh_token=r%2B1&scope=&token_type=bearer",
            {"headers": FORM},
            {"refresh_token": "r+1", "token_type": "bearer"},
            id="a form that is labelled as one, GitHub's default",
        ),
    ],
)
async def test_an_answer_becomes_the_credential(
    server: TokenServer, content: bytes, options: dict[str, Any], fields: dict[str, Any]
) -> None:
    """A field that is missing is kept from the old credential, but for its lifetime."""
    new = await answered(server, body=content, **options)
    usual: dict[str, Any] = {"refresh_token": "old-refresh-secret", "expires_at": NOW + 900, "scope": "read"}
    extra = {"account_id": "ann", "expires_in": 900, "token_url": server.url} | fields.pop("extra", {})
    assert new == Credential("new", **usual | fields, extra=extra)


@pytest.mark.parametrize(
    ("fields", "lifetime"),
    [
        ('"expires_in": 900', 900),
        ('"expires_in": " 900 "', 900),
        ('"expires_in": 900.5', 900.5),
        ('"expires_in": 1e3', 1000),
        ('"expires_at": 1700000900', 900),
        ('"expires_at": 1700000900000', 900),  # milliseconds
        ('"expires_in": 60, "expires_at": 1700000900', 60),
        *[(f'"expires_in": {odd}', None) for odd in ("0", "-1", "1e400", "NaN", '"inf"', "9" * 5000, "true", "null")],
        *[(f'"expires_in": {odd}', None) for odd in ('"soon"', "[900]")],
    ],
)
async def test_a_lifetime_is_seconds_or_unknown(server: TokenServer, fields: str, lifetime: float | None) -> None:
    new = await answered(server, body=f'{{"access_token": "new", {fields}}}'.encode())
    assert new.expires_at == (None if lifetime is None else NOW + lifetime)
    assert new.extra.get("expires_in") == lifetime


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
    *[(status, error("invalid_grant"), DEAD) for status in (200, 400, 403, 429, 500)],
    (200, error("bad_refresh_token"), DEAD),
    (401, error("invalid_token"), DEAD),
    (401, error(REUSED), DEAD),
    (401, error("something_of_their_own"), DEAD),
    (400, error("refresh_token_expired"), DEAD),
    (401, error("invalid_client"), WRONG),
    (403, error("unauthorized_client"), WRONG),
    (200, error("incorrect_client_credentials"), WRONG),
    *[(400, error(code), WRONG) for code in ("invalid_request", "unsupported_grant_type", "invalid_scope", "odd")],
    (404, error("not_found"), WRONG),
    (302, HTML, WRONG),
    *[(403, content, WRONG) for content in (error(REGION), error("access_denied"), HTML, b"")],
    *[(status, b"", LATER) for status in (408, 425, 599, 204)],
    (429, error("rate_limited"), LATER),
    (503, error("temporarily_unavailable"), LATER),
    (400, error("temporarily_unavailable"), LATER),
    (401, error("temporarily_unavailable"), LATER),
    (400, body(), LATER),
    *[(status, HTML, LATER) for status in (400, 401, 404, 500)],
]


async def test_every_refusal_means_one_of_three_things(server: TokenServer) -> None:
    """The login is over, the request is wrong (here and now), or the same request may succeed later."""
    for status, content, outcome in REFUSALS:
        with pytest.raises(Exception, match=r".") as caught:
            await answered(server, status=status, body=content)
        seen = type(caught.value), getattr(caught.value, "status", None)
        assert seen == (outcome, status), (status, content)


async def test_a_dead_token_is_seen_in_a_form(server: TokenServer) -> None:
    with pytest.raises(DeadRefreshToken):
        await answered(server, body=b"error=bad_refresh_token&error_description=x", headers=FORM)


async def test_a_session_that_raises_for_a_status_hides_no_answer(server: TokenServer) -> None:
    server.answers.append({"status": 400, "body": error("invalid_grant")})
    with pytest.raises(DeadRefreshToken):
        await endpoint(server.url, session=lambda: aiohttp.ClientSession(raise_for_status=True)).refresh(OLD)


NO_TOKEN_RESPONSE: list[str | bytes] = [
    "", "[]", "null", '"new"', "{}", '{"access_token": ""}', '{"access_token": 1}', '{"access_token": "zwölf"}',
    '{"access_token": "a\\r\\nX-Evil: 1"}', '{"access_token": "a\\u0000"}',
    '{"access_token": "new", "refresh_token": 7}',
    '{"access_token": "new", "refresh_token": "\\ud800"}', '{"access_token": "new"', "access_token=new",
    "<html><body>Sign in to the hotel's network</body></html>", "[" * 100_000, b"\xff\xfe", b"\x1f\x8b\x08\x00",
]  # fmt: skip


async def test_no_token_response_is_worth_another_try(server: TokenServer) -> None:
    """With the wait that it asks for."""
    for content in NO_TOKEN_RESPONSE:
        with pytest.raises(EndpointUnavailable) as caught:
            await answered(
                server,
                body=content if isinstance(content, bytes) else content.encode(),
                headers={"Retry-After": "7"},
            )
        seen = caught.value.type, caught.value.status, caught.value.retry_after
        assert seen == ("malformed_response", 200, 7), content


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("quota_spent", "quota_spent"),
        ("access", "unknown_error"),  # a part of a token that was sent
        ("OLD-REFRESH-SECRET", "unknown_error"),
        ("Token 7 is odd", "unknown_error"),
        ({"type": "some_type", "code": "a_code"}, "a_code"),
        ({"type": "some_type"}, "some_type"),
        ({"message": "no"}, "unknown_error"),
    ],
)
async def test_an_error_code_is_a_code_and_no_echo(server: TokenServer, said: Any, code: str) -> None:
    with pytest.raises(RefreshFailed) as caught:
        await answered(server, status=400, body=error(said))
    assert caught.value.type == code


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"error": {"message": "Country, region, or territory not supported"}}',
         ": Country, region, or territory not supported."),
        (b'{"error": "x", "error_description": "The account\'s plan has ended."}', ": The account's plan has ended."),
        (b'{"message": "Not here."}', ": Not here."),
        ('{"detail": "您所在的地区不受支持"}'.encode(), ": 您所在的地区不受支持."),
        (b"<html><head><title>Attention Required! | Firewall</title></head>", ": Attention Required! | Firewall."),
        (b'{"message": "see https://e.example/?t=1 4f2a Zm9v= a_b"}', ": see ... ... ..."),
        (b'{"message": "the old-refresh-secret is bad"}', "403). The"),
        (b'{"message": 7}', "403). The"),
        (b"plain text", "403). The"),
    ],
)  # fmt: skip
async def test_a_403_is_reported_in_the_servers_words(server: TokenServer, content: bytes, said: str) -> None:
    """In ordinary words only."""
    with pytest.raises(RefreshFailed) as caught:
        await answered(server, status=403, body=content)
    assert said in str(caught.value)


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


async def test_a_redirect_is_not_followed(server: TokenServer) -> None:
    with pytest.raises(RefreshFailed, match="redirect"):
        await answered(server, status=307, headers={"Location": server.url})
    assert len(server.requests) == 1
