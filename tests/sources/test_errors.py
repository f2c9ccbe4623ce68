"""What a provider says went wrong, as a typed exception that is safe to show."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxauth.credentials import Credential
from rxauth.errors import (
    ConnectionFailed,
    CredentialRejected,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    TransientError,
)
from rxauth.failures import is_auth_error
from rxauth.sources._errors import Exchange, Told, read_error


def exchange(
    status: int = 200, headers: dict[str, str] | None = None, credential: Credential | None = None
) -> Exchange:
    made = Exchange("api.example.com", credential)
    made.answered(status, headers or {}, now=0)
    return made


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"error": {"type": "a", "message": "m", "code": "c"}}, Told("m", "a", "c")),
        ({"type": "error", "error": {"type": "a", "message": "m"}}, Told("m", "a")),
        ({"error": {"message": "m", "code": 401}}, Told("m", None, 401)),
        ({"error": {"message": "m", "code": None, "type": None, "param": None}}, Told("m")),
        ({"error": {"message": "m", "status": "UNAUTHENTICATED", "code": 401}}, Told("m", "UNAUTHENTICATED", 401)),
        ({"error": {"message": "m", "status": 401}}, Told("m", None, 401)),
        ({"error": {"message": "m", "code": "c", "status_code": 401}}, Told("m", None, "c")),
        ({"error": {"message": "m"}, "code": 401, "status": 500}, Told("m", None, 401)),
        ({"error": "m", "status": 401}, Told("m", None, 401)),
        ({"message": "m", "status_code": 401}, Told("m", None, 401)),
        ({"message": "m", "status": "failed", "code": True, "status_code": False}, Told("m")),
        ({"error": [{"message": "m"}]}, Told("m")),
        ([{"error": {"message": "m", "status": "INVALID_ARGUMENT", "code": 400}}], Told("m", "INVALID_ARGUMENT", 400)),
        ({"error": "m"}, Told("m")),
        ({"error": "invalid_token", "error_description": "m"}, Told("m", "invalid_token")),
        (
            {"object": "error", "message": "m", "type": "BadRequestError", "code": 400},
            Told("m", "BadRequestError", 400),
        ),
        ({"detail": "m"}, Told("m")),
        ({"error": {}}, Told()),
        ({"error": {"message": {"deep": 1}, "type": 3, "code": [1]}}, Told()),
        ({"error": True}, Told()),
        ({"error": None, "choices": []}, None),
        ([], None),
        (["error"], None),
        ("error", None),
        (None, None),
    ],
)
def test_an_error_is_found_in_every_shape_that_providers_use(body: Any, told: Told | None) -> None:
    assert read_error(body) == told


@pytest.mark.parametrize(
    ("status", "told", "kind"),
    [
        (401, Told("Invalid key", "authentication_error"), CredentialRejected),
        (401, Told(), CredentialRejected),
        (401, Told("Your current subscription does not have access to K3"), RequestRejected),
        (403, Told("no", "permission_error"), RequestRejected),
        (403, Told("no", "authentication_error"), CredentialRejected),
        (400, Told("no", "invalid_request_error"), RequestRejected),
        (404, Told(), RequestRejected),
        (408, Told(), ProviderUnavailable),
        (425, Told(), ProviderUnavailable),
        (429, Told("slow down", "rate_limit_error"), ProviderUnavailable),
        (500, Told("oops", "api_error"), ProviderUnavailable),
        (503, Told("401 from upstream"), ProviderUnavailable),
        (529, Told("Overloaded", "overloaded_error"), ProviderUnavailable),
        (200, Told("no", "authentication_error"), CredentialRejected),
        (200, Told("no", None, "invalid_api_key"), CredentialRejected),
        (200, Told("no", None, 401), CredentialRejected),
        (200, Told("no", None, "401"), CredentialRejected),
        (200, Told("invalid x-api-key"), CredentialRejected),
        (200, Told("Overloaded", "overloaded_error"), ProviderUnavailable),
        (200, Told("slow down", None, "rate_limit_exceeded"), ProviderUnavailable),
        (200, Told("bad gateway", None, 502), ProviderUnavailable),
        (200, Told("too long", "invalid_request_error", "context_length_exceeded"), RequestRejected),
        (200, Told("no", "permission_error"), RequestRejected),
        (200, Told("what?"), ProviderError),
        (200, Told(), ProviderError),
    ],
)
def test_the_class_names_the_next_action_and_agrees_with_the_rule_for_auth_failures(
    status: int, told: Told, kind: type[ProviderError]
) -> None:
    cause = exchange(status).failure(told)
    assert type(cause) is kind
    assert is_auth_error(cause) == (kind is CredentialRejected)
    assert isinstance(cause, TransientError) == (kind is ProviderUnavailable)
    assert (cause.status, cause.type) == (status, told.type)


def test_a_cause_carries_what_is_known_of_the_request() -> None:
    credential = Credential("secret-access")
    cause = exchange(
        429, {"Retry-After": "3", "request-id": "req_1", "Content-Type": "application/json"}, credential
    ).failure(Told("Slow down", "rate_limit_error", "c"))
    assert str(cause) == "Slow down (HTTP 429, rate_limit_error)"
    assert (cause.status, cause.type, cause.code) == (429, "rate_limit_error", "c")
    assert (cause.retry_after, cause.request_id, cause.credential) == (3.0, "req_1", credential)
    assert exchange(500, {"x-request-id": "req_2"}).failure(Told()).request_id == "req_2"


def test_an_error_without_a_message_names_the_host_and_the_status() -> None:
    assert "api.example.com" in str(exchange(503).failure(Told()))
    assert "HTTP 503" in str(exchange(503).failure(Told()))


TOKENS = Credential("canary-access/+%\"'", refresh_token="canary  refresh")


@pytest.mark.parametrize(
    "echo",
    [
        pytest.param("token canary-access/+%\"' is dead", id="as it is"),
        pytest.param("Bearer canary-access%2F%2B%25%22%27", id="percent-encoded"),
        pytest.param('{"token": "canary-access/+%\\"\'"}', id="inside JSON"),
        pytest.param("canary  refresh", id="the refresh token"),
        pytest.param("canary\n   refresh", id="the refresh token over two lines"),
        pytest.param("x" * 490 + "canary  refresh", id="where the message is cut"),
        pytest.param(" " * 4990 + "canary-access/+%\"'", id="behind much space"),
        pytest.param("canary-access/+%\"'" * 100, id="many times"),
    ],
)
def test_no_token_leaves_in_any_text(echo: str) -> None:
    made = exchange(401, {"request-id": echo, "Content-Type": echo}, TOKENS)
    cause = made.failure(Told(echo, echo, echo))
    shown = [str(cause), repr(cause), repr(cause.args), cause.type, cause.code, cause.request_id]
    for text in shown:
        assert "canary" not in str(text)
    assert cause.credential is TOKENS


def test_a_number_that_is_the_token_is_not_a_code() -> None:
    made = exchange(401, credential=Credential("123456"))
    assert made.failure(Told("m", None, 123456)).code is None
    assert made.failure(Told("m", None, 5)).code == 5


@settings(deadline=None)
@given(st.text(), st.integers(1, 50))
def test_a_message_is_one_printable_line_within_its_bound(text: str, limit: int) -> None:
    line = exchange().clean(text, limit)
    assert len(line) <= limit
    assert line.isprintable()
    assert line == line.strip()


def test_a_huge_message_is_cut_before_it_is_looked_at() -> None:
    huge = Told("x" * 10_000_000)
    tracemalloc.start()
    try:
        assert len(str(exchange(500).failure(huge))) < 600
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_connection_that_failed_says_so_without_a_status() -> None:
    cause = Exchange("api.example.com").error(ConnectionFailed, "No connection to api.example.com.")
    assert (cause.status, cause.retry_after, cause.request_id) == (None, None, None)
