"""Reading an answer of a token endpoint, without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from rxauth.credentials import Credential
from rxauth.credentials._post import Answer
from rxauth.credentials._token_endpoint import _words as words
from rxauth.credentials._token_endpoint import error_code, granted

NOW = 1_700_000_000.0
URL = "https://example.com/token"
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
OLD = Credential(
    "old-access-secret",
    refresh_token="old-refresh-secret",
    expires_at=NOW - 1,
    scope="read",
    extra={"account_id": "ann", "expires_in": 60},
)


def answer(content: bytes | str, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, headers or {}, content.encode() if isinstance(content, str) else content)


def read(content: bytes | str, *, previous: Credential | None = None, **options: Any) -> Credential | None:
    return granted(answer(content, **options), now=NOW, token_url=URL, previous=previous)


def body(**fields: Any) -> bytes:
    return json.dumps({"access_token": "new", "token_type": "Bearer", "expires_in": 900} | fields).encode()


def error(code: Any, **more: Any) -> bytes:
    return json.dumps({"error": code, "error_description": "the old-refresh-secret was odd"} | more).encode()


# The credential ------------------------------------------------------------------------------------------------------


def test_a_full_answer_becomes_the_credential() -> None:
    new = read(body(refresh_token="new-refresh", scope="read write", id_token="x", plan={"a": [1]}), previous=OLD)
    extra = {"account_id": "ann", "id_token": "x", "plan": {"a": [1]}, "expires_in": 900, "token_url": URL}
    assert new == Credential("new", "new-refresh", NOW + 900, scope="read write", extra=extra)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'{"access_token": "new"}', id="left out"),
        pytest.param(b'{"access_token": "new", "refresh_token": "", "token_type": {"a": 1}}', id="nonsense"),
    ],
)
def test_a_missing_field_is_kept_from_the_old_credential(content: bytes) -> None:
    new = read(content, previous=OLD)
    assert new == Credential(
        "new", "old-refresh-secret", scope="read", extra={"account_id": "ann", "token_url": URL}
    ), "the old lifetime is not kept"


def test_the_endpoint_in_an_answer_is_not_believed() -> None:
    new = read(body(token_url="https://evil.example/token"))
    assert new is not None
    assert new.token_url == URL


def test_a_form_is_read_where_it_is_labelled_as_one() -> None:
    """GitHub's default. Without the label a form that breaks off would pass for a shorter token."""
    content = b"access_token=new&expires_in=900&refresh_token=r%2B1&scope=&token_type=bearer"
    new = read(content, headers=FORM)
    assert new is not None
    assert (new.access_token, new.refresh_token, new.expires_at) == ("new", "r+1", NOW + 900)
    assert read(content) is None
    assert error_code(answer("error=bad_refresh_token&error_description=x", headers=FORM)) == "bad_refresh_token"


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
        ('"expires_in": 0', None),
        ('"expires_in": -1', None),
        ('"expires_in": 1e400', None),
        ('"expires_in": NaN', None),
        ('"expires_in": "inf"', None),
        ('"expires_in": ' + "9" * 5000, None),
        ('"expires_in": true', None),
        ('"expires_in": null', None),
        ('"expires_in": "soon"', None),
        ('"expires_in": [900]', None),
    ],
)
def test_a_lifetime_is_seconds_or_unknown(fields: str, lifetime: float | None) -> None:
    new = read(f'{{"access_token": "new", {fields}}}')
    assert new is not None
    assert new.expires_at == (None if lifetime is None else NOW + lifetime)
    assert new.extra.get("expires_in") == lifetime


NO_TOKEN_RESPONSE: list[str | bytes] = [
    "", "[]", "null", '"new"', "{}", '{"access_token": ""}', '{"access_token": 1}', '{"access_token": "zwölf"}',
    '{"access_token": "a\\r\\nX-Evil: 1"}', '{"access_token": "a\\u0000"}',
    '{"access_token": "new", "refresh_token": 7}',
    '{"access_token": "new", "refresh_token": "\\ud800"}', '{"access_token": "new"', "access_token=new",
    "<html><body>Sign in to the hotel's network</body></html>", "[" * 100_000, b"\xff\xfe", b"\x1f\x8b\x08\x00",
]  # fmt: skip


@pytest.mark.parametrize("content", NO_TOKEN_RESPONSE, ids=range(len(NO_TOKEN_RESPONSE)))
def test_anything_else_is_no_token_response(content: str | bytes) -> None:
    assert read(content) is None


def test_a_field_that_no_file_can_hold_is_dropped() -> None:
    new = read(
        '{"access_token": "new", "half": "\\ud800", "huge": 1e400, "fine": "\\ud83d\\ude00", "scope": "\\udc00"}'
    )
    assert new is not None
    assert dict(new.extra) == {"fine": "😀", "token_url": URL}
    assert new.scope is None


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b" \r\n\t"], ids=["byte order mark", "white space"])
def test_a_start_that_is_no_json_is_skipped(start: bytes) -> None:
    assert read(start + body()) is not None


# Errors and words ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "secrets", "code"),
    [
        (error("invalid_grant"), ("grant", "invalid_grant"), "invalid_grant"),  # a standard code is no echo
        (error("quota_spent"), (), "quota_spent"),
        (error("quota_spent"), ("quota",), "unknown_error"),
        (error("old-refresh-secret"), ("old-refresh-secret",), "unknown_error"),
        (error("OLD-REFRESH-SECRET"), ("old-refresh-secret",), "unknown_error"),
        (error("Token 7 is odd"), (), "unknown_error"),
        (error({"type": "some_type", "code": "a_code"}), (), "a_code"),
        (error({"type": "some_type"}), (), "some_type"),
        (error({"message": "no"}), (), "unknown_error"),
        (error(None), (), None),
        (b"<html>", (), None),
    ],
)
def test_an_error_code_is_a_code_and_no_echo(content: bytes, secrets: tuple[str, ...], code: str | None) -> None:
    assert error_code(answer(content, 400), secrets) == code


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"error": {"message": "Country, region, or territory not supported"}}',
         "Country, region, or territory not supported"),
        (b'{"error": "x", "error_description": "The account\'s plan has ended."}', "The account's plan has ended."),
        (b'{"message": "Not here."}', "Not here."),
        ('{"detail": "您所在的地区不受支持"}'.encode(), "您所在的地区不受支持"),
        (b"<html><head><title>Attention Required! | Firewall</title></head>", "Attention Required! | Firewall"),
        (b'{"message": "see https://e.example/?t=1 4f2a Zm9v= a_b"}', "see ... ... ... ..."),
        (b'{"message": "the old-refresh-secret is bad"}', ""),
        (b'{"message": 7}', ""),
        (b"plain text", ""),
    ],
)  # fmt: skip
def test_words_are_ordinary_words_only(content: bytes, said: str) -> None:
    assert words(answer(content, 403), ("old-refresh-secret",)) == said
