"""What counts as an auth failure: each rule, and what it must not be taken in by."""

from __future__ import annotations

import email.message
import enum
import functools
import http
import re
import urllib.error
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import hypothesis.strategies as st
import pytest
from hypothesis import given

from rxauth import is_auth_error
from rxauth.errors import (
    AccountChanged,
    CredentialRejected,
    LoginRequired,
    NeverLiveError,
    ProviderUnavailable,
    RefreshFailed,
)
from rxauth.events import AssistantMessage, Error, Text
from rxauth.failures import error_type, judge_known, status, status_of, text


def failure(message: str = "", **attributes: Any) -> Exception:
    error = Exception(message)
    vars(error).update(attributes)
    return error


def caused(outer: Exception, inner: BaseException) -> Exception:
    outer.__cause__ = inner
    return outer


def in_band(**fields: Any) -> dict[str, Any]:
    return {"type": "error", **fields}


def cyclic(code: int | None) -> Exception:
    one, two = failure("one"), failure("two", status=code)
    one.__cause__, two.__cause__ = two, one
    return one


@pytest.mark.parametrize(
    "rejected",
    [
        pytest.param(failure(status=401), id="an exception's status"),
        pytest.param(failure(status_code=401), id="an exception's status_code"),
        pytest.param(failure(code=401), id="a numeric code"),
        pytest.param(failure(code="401"), id="a numeric code that is a string"),
        pytest.param(failure(response=SimpleNamespace(status=401)), id="the status of its response"),
        pytest.param(failure(response=SimpleNamespace(status_code=401)), id="the status_code of its response"),
        pytest.param(caused(failure("wrapped"), failure(status=401)), id="the status of its cause"),
        pytest.param(cyclic(401), id="a cycle of causes"),
        pytest.param(
            caused(failure(status=401), RefreshFailed("no", type="access_denied", status=503)),
            id="whatever came of a refresh before",
        ),
        pytest.param(in_band(status=401), id="the status of an error event"),
        pytest.param(in_band(error={"status": 401}), id="the status of an event's error"),
        pytest.param(in_band(cause=failure(status=401)), id="the status of an event's cause"),
        pytest.param(SimpleNamespace(type="error", status=401), id="an event that is an object"),
        pytest.param(Error("error", AssistantMessage(), CredentialRejected("no", status=401)), id="rxauth's own event"),
        pytest.param(
            Error("error", AssistantMessage(), CredentialRejected("no", status=200, type="authentication_error")),
            id="rxauth's own event for an error that came after the 200",
        ),
        pytest.param(NeverLiveError((), failure(status=401)), id="the failure of a NeverLiveError"),
        pytest.param(in_band(error={"type": "authentication_error"}), id="an error's type"),
        pytest.param(in_band(error={"type": "invalid_request_error", "code": "invalid_api_key"}), id="an error's code"),
        pytest.param(in_band(error={"status": "UNAUTHENTICATED"}), id="an error's status in words"),
        pytest.param(in_band(error={"type": "AuthenticationError"}), id="an error's type as a class is named"),
        pytest.param(in_band(error="invalid_token"), id="an error that is a code"),
        pytest.param(
            {"type": "response.failed", "response": {"status": "failed", "error": {"code": "invalid_api_key"}}},
            id="the error of the response that an event ends with",
        ),
        pytest.param(
            failure(status_code=200, body={"type": "error", "error": {"type": "authentication_error"}}),
            id="the body of an SDK's exception for an error that came after the 200",
        ),
        pytest.param(failure('{"error": {"type": "authentication_error"}}'), id="JSON inside the text"),
        pytest.param(in_band(error_message="HTTP 401"), id="an event's error_message"),
        pytest.param(in_band(errorMessage="HTTP 401"), id="an event's errorMessage"),
        pytest.param(in_band(error={"message": "token expired"}), id="the message of an event's error"),
    ],
)
def test_it_is_an_auth_failure(rejected: Any) -> None:
    assert is_auth_error(rejected)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(failure(status=403), id="403 unless a rule says so"),
        pytest.param(failure(status=500), id="another status"),
        pytest.param(failure("token expired", status=503), id="another status, whatever the text says"),
        pytest.param(failure(status=200), id="a status that is no failure says nothing"),
        pytest.param(failure(status=True), id="a status that is no number"),
        pytest.param(cyclic(None), id="a cycle of causes without a status"),
        pytest.param(in_band(status=401, error={"type": "permission_error"}), id="a 401 about a permission"),
        pytest.param(
            failure("Your current subscription does not have access to K3", status=401), id="a 401 about a subscription"
        ),
        pytest.param(
            failure("current plan supports only kimi-k3 up to 256k context", status=401), id="a 401 about a plan"
        ),
        pytest.param(in_band(error={"type": "rate_limit_error"}), id="a rate limit"),
        pytest.param(in_band(error={"type": "overloaded_error", "message": "token expired"}), id="an overload"),
        pytest.param(in_band(error={"type": "RateLimitError", "message": "token expired"}), id="as a class is named"),
        pytest.param(
            {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "token expired"}}},
            id="a server's error in the response that an event ends with",
        ),
        pytest.param(LoginRequired("HTTP 401"), id="the credential logic's own end"),
        pytest.param(RefreshFailed("HTTP 401", type="invalid_client", status=401), id="a refresh that failed"),
        pytest.param(AccountChanged("HTTP 401"), id="another account"),
        pytest.param(
            caused(failure("Connection error."), RefreshFailed("no", type="unauthorized", status=401)),
            id="an SDK's exception for a refresh that failed",
        ),
        pytest.param(Error("error", AssistantMessage(), LoginRequired("HTTP 401")), id="a stream without a credential"),
        pytest.param({"type": "text_delta", "status": 401}, id="an event that is not an error"),
        pytest.param({"type": "done", "message": "HTTP 401"}, id="the end of an answer"),
        pytest.param("HTTP 401", id="a string"),
        pytest.param(None, id="nothing"),
        pytest.param(NeverLiveError((), None), id="a stream that only completed"),
        pytest.param(
            Error("error", AssistantMessage(content=(Text("HTTP 401"),)), ProviderUnavailable("busy", status=529)),
            id="what the assistant said",
        ),
        pytest.param(in_band(error={"content": [{"text": "HTTP 401"}], "message": None}), id="what was said"),
    ],
)
def test_it_is_no_auth_failure(other: Any) -> None:
    assert not is_auth_error(other)


@pytest.mark.parametrize(
    "message",
    [
        "HTTP 401",
        "HTTP/1.1 401 Unauthorized",
        "401",
        "401: {...}",
        '401 {"error": {"message": "no"}}',
        "401 status code (no body)",
        "401, message='Unauthorized', url='http://127.0.0.1/'",
        "Error code: 401 - {'error': {'message': 'no'}}",
        "Request failed with status code 401",
        "Client error '401 Unauthorized' for url 'https://example.org'",
        "invalid x-api-key",
        "Incorrect API key provided",
        "token expired",
        "OAuth token has expired. Please obtain a new token or refresh your existing token.",
        "You are using an invalidated oauth token",
        "Invalid Authentication",
        "Your access token is invalid",
        "Unauthorized",
        "The API Key appears to be invalid or may have expired. Please verify your credentials and try again.",
        "The provider answered HTTP 401.",
        "It failed with status 401.",
        "401.",
        "API error 401: no",
        "api error (401)",
        "Invalid token.",
        "The token is invalid",
        "jwt expired",
        "The access token provided is expired, revoked, malformed, or invalid for other reasons",
        "Invalid authorization header",
        "Authentication Fails, Your api key: ****1234 is invalid",
    ],
)
def test_the_text_says_that_the_credential_was_refused(message: str) -> None:
    assert is_auth_error(failure(message))


@pytest.mark.parametrize(
    "message",
    [
        "position 401",
        "500 upstream gateway said 401",
        "503: token expired",
        "after 401 ms",
        "401 ms elapsed",
        "401 bytes",
        "127.0.0.1:401",
        "connect to localhost:401 failed",
        "HTTP 4010",
        "HTTP 401.5",
        "status 401.5",
        "401.5",
        "error code 4012",
        "https://127.0.0.1:401/v1",
        "an invalid token is what it is not",
        "HTTP 429",
        "invalid token in JSON at position 401",
        "Unexpected token expired",
        "page token expired",
        "unauthorized_client",
        '401 {"error": {"type": "permission_error"}}',
        "403 Forbidden: token expired",
        "{" * 5000,
        "",
    ],
)
def test_the_text_says_nothing_of_a_credential(message: str) -> None:
    assert not is_auth_error(failure(message))


def test_a_hostile_text_is_judged_in_linear_time() -> None:
    assert not is_auth_error(failure("token " * 100_000))
    assert not is_auth_error(failure("plan " * 20_000))
    assert not is_auth_error(failure('{"a":' * 50_000))


def test_rules_compose_with_each_other_and_with_functions() -> None:
    stale = is_auth_error | status(403)
    assert stale(failure(status=403))
    assert stale(failure(status=401))
    assert not stale(failure(status=404))
    assert not (stale & ~text("K3"))(failure("no K3", status=401))
    assert (error_type("ExpiredTokenException") | status(418))(in_band(error={"type": "expiredtokenexception"}))
    assert (status(401) & (lambda failure: "yes" in str(failure)))(failure("yes", status=401))
    assert ((lambda failure: False) | status(401))(failure(status=401))
    assert not ((lambda failure: False) & status(401))(failure(status=401))


def test_a_compiled_pattern_has_its_own_flags() -> None:
    assert text(re.compile("stale"))(failure("the token is stale"))
    assert not text(re.compile("stale"))(failure("Stale"))
    assert text("stale")(failure("Stale"))


def test_a_rule_says_what_it_is() -> None:
    assert repr(is_auth_error | status(403) & ~text("K3")) == "(is_auth_error | (status(403) & ~text('K3')))"


def test_composed_rules_never_judge_what_is_no_failure() -> None:
    assert not (~status(403))({"type": "text_delta"})
    assert not (~status(403))(LoginRequired("log in"))


@pytest.mark.parametrize("rule", [is_auth_error, is_auth_error | (lambda _: False), (lambda _: False) | is_auth_error])
def test_what_an_operator_knows_to_be_a_failure_needs_no_type(rule: Any) -> None:
    judged = functools.partial(judge_known, rule)
    assert not rule({"event": "failed", "status": 401})
    assert judged({"event": "failed", "status": 401})
    assert judged(NeverLiveError((), {"event": "failed", "status": 401}))
    assert not judged({"event": "failed", "status": 503})
    assert not judged({"event": "failed", "status": 401, "cause": LoginRequired("log in")})
    assert not judged(LoginRequired("HTTP 401"))
    assert not judged(None)


def test_a_function_of_ones_own_is_asked_as_it_is() -> None:
    assert judge_known(lambda failure: failure == "its own", "its own")


def test_a_response_that_is_a_proxy_for_nothing_says_nothing() -> None:
    class Proxy:
        @property
        def __class__(self) -> Any:
            raise RuntimeError("outside of a request")

        @__class__.setter
        def __class__(self, _: Any) -> None: ...

    error = RuntimeError("401 Unauthorized")
    vars(error)["response"] = Proxy()
    assert is_auth_error(error)


def test_a_property_that_raises_says_nothing() -> None:
    class Unsent(Exception):
        @property
        def response(self) -> Any:
            raise RuntimeError("The request was not sent.")

    assert status_of(Unsent("HTTP 401")) is None
    assert is_auth_error(Unsent("HTTP 401"))


# Errors as libraries raise them ---------------------------------------------------------------------------------------


class BotoError(Exception):
    """As botocore's ClientError: everything is in a mapping."""

    def __init__(self, code: str) -> None:
        super().__init__(f"An error occurred ({code}) when calling the Converse operation: The token is not good")
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 403}}


class RpcError(Exception):
    """As grpc's AioRpcError: the status is what a method returns, and stands in the text."""

    def __init__(self, status: str) -> None:
        self._status = status

    def code(self) -> str:
        return self._status

    def __str__(self) -> str:
        return f'<AioRpcError of RPC that terminated with:\n\tstatus = StatusCode.{self._status}\n\tdetails = "no"\n>'


class Wordless(Exception):
    """Its text cannot be had: aiohttp's ClientResponseError is so where it was made without a request."""

    def __str__(self) -> str:
        raise AttributeError("'NoneType' object has no attribute 'real_url'")


class Unanswering(dict[str, Any]):
    def get(self, *_: Any) -> Any:
        raise RuntimeError("closed")


class Spoken(enum.StrEnum):
    UNAUTHENTICATED = "UNAUTHENTICATED"


def http_error(code: int) -> Exception:
    return urllib.error.HTTPError("http://127.0.0.1/", code, "said", email.message.Message(), None)


@pytest.mark.parametrize(
    ("raised", "rejected"),
    [
        pytest.param(http_error(401), True, id="urllib: 401"),
        pytest.param(http_error(403), False, id="urllib: 403"),
        pytest.param(RpcError("UNAUTHENTICATED"), True, id="grpc: unauthenticated"),
        pytest.param(RpcError("PERMISSION_DENIED"), False, id="grpc: permission denied"),
        pytest.param(
            failure(code=http.HTTPStatus.UNAUTHORIZED), True, id="google.api_core: a status that is an IntEnum"
        ),
        pytest.param(failure(code=Spoken.UNAUTHENTICATED), True, id="a code that is an enum of words"),
        pytest.param(BotoError("ExpiredTokenException"), True, id="botocore: an expired token"),
        pytest.param(BotoError("AccessDeniedException"), False, id="botocore: access denied"),
        pytest.param(failure(status=401.0), False, id="a status that is no integer"),
        pytest.param(failure(code=b"401"), False, id="a code that is bytes"),
        pytest.param(Wordless(), False, id="no text to be had"),
        pytest.param(SimpleNamespace(type="error", cause=Wordless(), status=401), True, id="no text, but a status"),
        pytest.param(Unanswering(type="error"), False, id="a mapping that raises"),
        pytest.param(failure(response=MagicMock(status_code=401)), True, id="a mock of a response"),
        pytest.param(failure(error=MagicMock(), body=MagicMock()), False, id="mocks that have every attribute"),
        pytest.param(MagicMock(spec=Exception), False, id="a mock of an exception"),
        pytest.param(MagicMock(), False, id="a mock"),
    ],
)
def test_errors_as_libraries_raise_them(raised: Any, rejected: bool) -> None:
    assert is_auth_error(raised) is rejected


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "current plan supports only kimi-k3 up to 256k context"}},
        {"message": "Your current subscription does not have access to K3"},
        '{"error": {"type": "permission_error"}}',
        b'{"error": {"type": "permission_error"}}',
        "Your plan does not include this model",
        "Your plan doesn\u2019t include this model",
        "K3 is not available on your current plan",
        "It is only available to Max subscribers",
        "This model requires a Pro plan",
        "Your subscription has expired",
        "No active subscription was found",
        "This exceeds the limits of your plan",
        "You don't have permission to access this resource",
        "You do not have the permission that this takes",
        "The key lacks the required permissions",
        "Missing required permission: models.read",
        "Insufficient permissions",
    ],
    ids=str,
)
def test_a_401_whose_body_says_permission_or_plan_is_none(body: Any) -> None:
    assert not is_auth_error(failure("Unauthorized", status=401, body=body))
    assert not is_auth_error(in_band(cause=failure("Unauthorized", status=401, body=body)))


@pytest.mark.parametrize(
    "message",
    [
        "Access denied due to invalid subscription key. Provide a valid key for an active subscription.",
        "Your subscription key has expired",
        "This endpoint requires a valid key. See the page of your plan",
        "No token was sent. Look at your permissions",
        "Incorrect API key provided. On the coding plan, take the key of that plan",
        "User not found",
    ],
)
def test_a_401_that_only_mentions_them_is_one(message: str) -> None:
    assert is_auth_error(failure(message, status=401))


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(failure("x" * 20_000_000), id="a long text"),
        pytest.param({"type": "error" + "x" * 20_000_000}, id="a long type of an event"),
        pytest.param(
            in_band(error={"type": "a-" * 10_000_000, "code": " " * 20_000_000}), id="a long type of an error"
        ),
        *(
            pytest.param(failure(text * (10_000 // len(text))), id=repr(text))
            for text in (
                "token ",
                "token has  ",
                "api key is ",
                "plan no ",
                "upgrade plan ",
                "HTTP ",
                "401 ",
                "{",
                '{"a":',
            )
        ),
        pytest.param(failure("token" + " " * 10_000), id="spaces"),
        pytest.param(
            failure(body={"a": 1, "error": {"message": "plan " * 10_000}}), id="a body that goes on about plans"
        ),
    ],
)
def test_no_hostile_failure_costs_more_than_a_moment(hostile: Any) -> None:
    """Linear time on a bounded part of it: quadratic time would take minutes, and run into the time limit."""
    assert not is_auth_error(hostile)


def test_a_failure_that_contains_itself_is_judged() -> None:
    endless: dict[str, Any] = {"type": "error"}
    endless.update(error=endless, body=endless, cause=endless, response=endless)
    assert not is_auth_error(endless)
    endless["status"] = 401
    assert is_auth_error(endless)


@given(st.text(max_size=300))
def test_no_text_raises(said: str) -> None:
    assert is_auth_error(failure(said)) in (True, False)
    assert is_auth_error(in_band(error={"type": said, "message": said, "code": said}, status=said)) in (True, False)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "error", "code", "status", "message", "body", "cause", "response"]),
            inner,
            max_size=4,
        )
    ),
)


@given(json_like)
def test_no_shape_of_a_failure_raises(shape: Any) -> None:
    assert is_auth_error({"type": "error", "error": shape, "body": shape, "cause": shape}) in (True, False)
    assert is_auth_error(failure(error=shape, body=shape, response=shape, code=shape, status=shape)) in (True, False)
