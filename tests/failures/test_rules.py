"""Where a failure says that it is one of a credential, where it does not, and how rules compose."""

from __future__ import annotations

import email.message
import functools
import http
import re
import urllib.error
from types import SimpleNamespace
from typing import Any

import pytest

from rxauth import is_auth_error
from rxauth.errors import (
    AccountChanged,
    CredentialRejected,
    LoginRequired,
    NeverLiveError,
    ProviderUnavailable,
    RefreshFailed,
    RequestRejected,
)
from rxauth.events import AssistantMessage, Error, Text
from rxauth.failures import error_type, judge_known, status, status_of, text

from .made import caused, failure, group, in_band, of_header


def raised_while_handling(inner: Exception, *, from_none: bool = False) -> Exception:
    error = RuntimeError("wrapped")
    error.__context__, error.__suppress_context__ = inner, from_none
    return error


def cyclic(code: int | None) -> Exception:
    one, two = failure("one"), failure("two", status=code)
    one.__cause__, two.__cause__ = two, one
    return one


def event(cause: Exception, *content: Text) -> Error:
    return Error("error", AssistantMessage(content=content), cause)


REJECTED = failure(status=401)


@pytest.mark.parametrize(
    "rejected",
    [
        pytest.param(failure(status=401), id="status"),
        pytest.param(failure(status_code=401), id="status_code"),
        pytest.param(failure(code=401), id="code"),
        pytest.param(failure(code="401"), id="a code of digits"),
        pytest.param(failure(code=http.HTTPStatus.UNAUTHORIZED), id="an IntEnum"),
        pytest.param(failure(response=SimpleNamespace(status_code=401)), id="response.status_code"),
        pytest.param(failure(response={"Error": {"Code": "ExpiredTokenException"}}), id="response.Error.Code"),
        pytest.param(of_header("x-amzn-errortype", "ExpiredTokenException:http://x"), id="a header of the response"),
        pytest.param(of_header("www-authenticate", 'Bearer realm="x", error="invalid_token"'), id="RFC 6750"),
        pytest.param(type("Unauthenticated", (Exception,), {})("m"), id="the name of an exception's class"),
        pytest.param(urllib.error.HTTPError("x", 401, "m", email.message.Message(), None), id="urllib"),
        pytest.param(caused(failure("wrapped"), REJECTED), id="__cause__"),
        pytest.param(raised_while_handling(REJECTED), id="__context__"),
        pytest.param(cyclic(401), id="a cycle of causes"),
        pytest.param(caused(failure("wrapped"), group(REJECTED)), id="a cause that is a group of one"),
        pytest.param(group(REJECTED, group(failure("HTTP 401"), NeverLiveError((), REJECTED))), id="all of a group"),
        pytest.param(NeverLiveError((), REJECTED), id="NeverLiveError"),
        pytest.param(group(NeverLiveError((), in_band(error="invalid_token"))), id="NeverLiveError in a group"),
        pytest.param(failure(str({"message": 'It\'s "x"', "code": "invalid_token"})), id="a repr with both quotes"),
        pytest.param(failure(str({"message": 'the "x"', "code": "invalid_token"})), id="a repr with double quotes"),
        pytest.param(caused(failure(status=401), RefreshFailed("no", type="x", status=503)), id="a refresh failed too"),
        pytest.param(in_band(status=401), id="an event's status"),
        pytest.param(in_band(error={"status": 401}), id="an event's error"),
        pytest.param(in_band(cause=REJECTED), id="an event's cause"),
        pytest.param(in_band(error={"type": "AuthenticationError"}), id="a type in CamelCase"),
        pytest.param(in_band(error="invalid_token"), id="an error that is a code"),
        pytest.param(in_band(error_message="HTTP 401"), id="error_message"),
        pytest.param(in_band(errorMessage="HTTP 401"), id="errorMessage"),
        pytest.param(SimpleNamespace(type="error", status=401), id="an event that is an object"),
        pytest.param({"type": "response.failed", "response": {"error": {"code": "invalid_api_key"}}}, id="responses"),
        pytest.param(event(CredentialRejected("no")), id="rxauth's event, by the class of its cause"),
        pytest.param(failure(status=403, body={"error": {"type": "authentication_error"}}), id="403 with an auth code"),
        pytest.param(failure(status_code=200, body={"error": {"code": "invalid_token"}}), id="200 with an auth code"),
        pytest.param(failure(body=b'{"error": {"code": "invalid_token"}}'), id="a body in bytes"),
    ],
)
def test_auth_failure_is_found_in(rejected: Any) -> None:
    assert is_auth_error(rejected)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(failure(status=403), id="403"),
        pytest.param(failure("token expired", status=503), id="503 that speaks of a token"),
        pytest.param(failure("token expired", status=429), id="429 that speaks of a token"),
        pytest.param(failure(status=200), id="200"),
        pytest.param(failure(status=400, body={"error": {"type": "authentication_error"}}), id="400, a general code"),
        pytest.param(failure(status=404, body={"error": {"code": "invalid_token"}}), id="404 with an auth code"),
        pytest.param(failure(status=True), id="a status that is a bool"),
        pytest.param(failure(status=401.0), id="a status that is a float"),
        pytest.param(failure(code=b"401"), id="a code that is bytes"),
        pytest.param(cyclic(None), id="a cycle of causes"),
        pytest.param(caused(failure("wrapped"), failure("HTTP 401")), id="the text of a cause"),
        pytest.param(in_band(status=503, error={"status": 401}), id="a nearer status"),
        pytest.param(in_band(status=401, error={"code": "The caller does not have permission"}), id="a code in words"),
        pytest.param(raised_while_handling(REJECTED, from_none=True), id="a suppressed context"),
        pytest.param(
            of_header("WWW-Authenticate", "Bearer error=insufficient_scope", status=401), id="a scope that is missing"
        ),
        pytest.param(type("Unauthenticated", (Exception,), {"status": 503})("m"), id="a status against a class's name"),
        pytest.param(group(REJECTED, failure(status=503)), id="a group that does not agree"),
        pytest.param(group(*[REJECTED] * 300), id="a group without end"),
        pytest.param(in_band(error={"type": "overloaded_error", "message": "token expired"}), id="an overload"),
        pytest.param(in_band(error={"type": "RateLimitError", "message": "token expired"}), id="a rate limit"),
        pytest.param(event(RequestRejected("HTTP 401", status=401)), id="RequestRejected"),
        pytest.param(event(ProviderUnavailable("busy"), Text("HTTP 401")), id="the assistant's words"),
        pytest.param(in_band(error={"content": [{"text": "HTTP 401"}]}), id="content"),
        pytest.param({"type": "text_delta", "status": 401}, id="an event that is no error"),
        pytest.param({"type": "done", "message": "HTTP 401"}, id="done"),
        pytest.param("HTTP 401", id="a string"),
        pytest.param(None, id="None"),
        pytest.param(NeverLiveError((), None), id="a completion"),
        pytest.param(LoginRequired("HTTP 401"), id="LoginRequired"),
        pytest.param(RefreshFailed("HTTP 401", type="x", status=401), id="RefreshFailed"),
        pytest.param(AccountChanged("HTTP 401"), id="AccountChanged"),
        pytest.param(event(LoginRequired("HTTP 401")), id="an event with LoginRequired"),
        pytest.param(group(REJECTED, LoginRequired("HTTP 401")), id="a group with LoginRequired"),
        pytest.param(caused(failure("x"), RefreshFailed("no", type="unauthorized", status=401)), id="a failed refresh"),
    ],
)
def test_auth_failure_is_not(other: Any) -> None:
    assert not is_auth_error(other)


@pytest.mark.parametrize("message", [
    "HTTP 401", "HTTP/1.1 401 Unauthorized", "HTTP Error 401: no", "401", "401.", "401: {...}", "[401] no",
    "401 status code (no body)", "401, message='Unauthorized', url='http://127.0.0.1/'",
    "Request failed with status code 401", "It failed with status 401.", "unexpected status 401 Unauthorized: no",
    "Client error '401 Unauthorized' for url 'https://example.org'", "API error 401: no", "api error (401)",
    "invalid x-api-key", "Incorrect API key provided", "token expired", "Reason: token expired or invalid: 401",
    "You are using an invalidated oauth token", "Invalid Authentication", "Your access token is invalid",
    "Unauthorized", "Invalid token.", "The token is invalid", "jwt expired", "Invalid or expired token",
    "Invalid OAuth access token.", "Your credentials are invalid", "Not authenticated", "Invalid JWT",
    "The access token provided is expired, revoked, malformed, or invalid for other reasons",
    "Invalid authorization header", "403: The access token has expired", "400 API key not valid",
])  # fmt: skip
def test_text_means_a_refused_credential(message: str) -> None:
    assert is_auth_error(failure(message))


@pytest.mark.parametrize("message", [
    "", "position 401", "500 upstream gateway said 401", "503: token expired",
    "403 Forbidden: token expired", "after 401 ms", "401 ms elapsed", "401 bytes", "401.5", "HTTP 4010", "HTTP 401.5",
    "HTTP 429", "status 401.5", "error code 4012", "127.0.0.1:401", "connect to localhost:401 failed",
    "https://127.0.0.1:401/v1", "an invalid token is no credential", "invalid token in JSON at position 401",
    "Unexpected token expired", "page token expired", "unauthorized_client",
    '401 {"error": {"type": "permission_error"}}', "API key not found in the environment",
])  # fmt: skip
def test_text_means_something_else(message: str) -> None:
    assert not is_auth_error(failure(message))


ABOUT_A_PLAN = (
    "Your plan doesn\u2019t include this model", "This model requires a Pro plan",
    "It is only available to Max subscribers", "Your subscription has expired", "No active subscription was found",
    "This exceeds the limits of your plan", "You do not have the permission for that",
    "Missing required permission: models.read", "This key is not allowed from your address", "Insufficient balance",
    "The account is out of credits", "Add a payment method", "The trial is over", "You exceeded your monthly quota",
    "Permission denied for the model", "Missing scopes: x", "The token does not meet a scope requirement",
    "insufficient_scope", "It lacks the required role", "Resource not accessible by integration",
    "You don't have access", "There is no access to the model", "This account was deactivated",
    "The tenant of the token does not match", "The header should match organization o",
    "Be a member of an organization", "Your IP is blocked", "Denied by the firewall", "Your region is not supported",
    "It is not supported in your country", "Monthly quota has been exhausted",
    "The model is not available for your account", "Your organization must be verified",
    "Blocked by a security policy", "API access is disabled for this workspace",
)  # fmt: skip
ABOUT_A_KEY = (
    "Access denied due to invalid subscription key. Provide a key for an active subscription.",
    "Your subscription key has expired", "This endpoint requires a valid key. See the page of your plan",
    "Incorrect API key provided. On the coding plan, take the key of that plan",
    "The Slack permission is in the documentation",
)  # fmt: skip


@pytest.mark.parametrize("message", ABOUT_A_PLAN + ABOUT_A_KEY)
def test_401_is_an_auth_failure_unless_about_a_plan(message: str) -> None:
    for refusal in (
        failure(message, status=401),
        failure(status=401, body=message),
        in_band(status=401, error={"message": message}),
    ):
        assert is_auth_error(refusal) is (message in ABOUT_A_KEY)


def test_rules_compose_with_rules_and_functions() -> None:
    stale = is_auth_error | status(403)
    assert stale(failure(status=403))
    assert stale(failure(status=401))
    assert not stale(failure(status=404))
    assert not (stale & ~text("K3"))(failure("no K3", status=401))
    assert (error_type("ExpiredTokenException") | status(418))(in_band(error={"type": "expired_token"}))
    assert not error_type("Exception")(failure(status=401, headers={"x": "y"}))
    assert (status(401) & (lambda failure: "yes" in str(failure)))(failure("yes", status=401))
    assert ((lambda failure: False) | status(401))(failure(status=401))
    assert ((lambda failure: True) | status(401))(failure(status=404))
    assert not ((lambda failure: False) & status(401))(failure(status=401))
    assert repr(is_auth_error | status(403) & ~text("K3")) == "(is_auth_error | (status(403) & ~text('K3')))"


def test_composed_rule_ignores_what_is_no_failure() -> None:
    assert not (~status(403))({"type": "text_delta"})
    assert not (~status(403))(LoginRequired("log in"))


def test_text_rule_keeps_the_flags_of_a_pattern() -> None:
    assert text(re.compile("stale"))(failure("the token is stale"))
    assert not text(re.compile("stale"))(failure("Stale"))
    assert text("stale")(failure("Stale"))


@pytest.mark.parametrize("rule", [is_auth_error, is_auth_error | (lambda _: False), (lambda _: False) | is_auth_error])
def test_known_failure_needs_no_type(rule: Any) -> None:
    judged = functools.partial(judge_known, rule)
    assert not rule({"event": "failed", "status": 401})
    assert judged({"event": "failed", "status": 401})
    assert judged(NeverLiveError((), {"event": "failed", "status": 401}))
    assert not judged({"event": "failed", "status": 503})
    assert not judged({"event": "failed", "status": 401, "cause": LoginRequired("log in")})
    assert not judged(LoginRequired("HTTP 401"))
    assert not judged(None)


def test_known_failure_is_given_to_a_function_as_it_is() -> None:
    assert judge_known(lambda failure: failure == "its own", "its own")


@pytest.mark.parametrize(
    ("of", "code"),
    [
        (failure("HTTP 401"), None),
        (failure('{"error": {"code": 403}}'), 403),
        (group(failure(status=401), failure(status=401)), 401),
        (group(failure(status=401), failure(status=503)), None),
        (NeverLiveError((), in_band(status=529)), 529),
        (RefreshFailed("no", type="x", status=503), 503),
        (None, None),
    ],
)
def test_status_of_reads_fields_and_not_sentences(of: Any, code: int | None) -> None:
    assert status_of(of) == code
