"""Errors of a provider as typed exceptions that are safe to show."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxauth.credentials import Credential
from rxauth.errors import CredentialRejected, ProviderError, ProviderUnavailable, RequestRejected, TransientError
from rxauth.failures import is_auth_error
from rxauth.sources._errors import Exchange
from rxauth.sources._reports import ErrorReport as Report
from rxauth.sources._reports import read_body, read_error
from tests.sources.streams import NO_TOKENS

from ..failures.refusals import AUTH, REFUSED, TRANSIENT


def exchange(status: int = 200, headers: dict[str, str] | None = None, credential: Any = NO_TOKENS) -> Exchange:
    made = Exchange("api.example.com", credential)
    made.answered(status, headers or {}, now=0)
    return made


# fmt: off
@pytest.mark.parametrize(("body", "report"), [
    ({"error": {"message": "m", "code": 401, "type": None, "param": None}}, Report("m", None, 401)),
    ({"error": {"message": "m", "status": "UNAUTHENTICATED", "code": 401}}, Report("m", "UNAUTHENTICATED", 401)),
    ({"error": {"message": "m", "code": "c", "status_code": 401}}, Report("m", None, "c")),
    ({"error": {"message": "m"}, "code": 401, "status": 500}, Report("m", None, 401)),
    ({"message": "m", "status": "failed", "code": True, "status_code": False}, Report("m")),
    ([{"error": {"message": "m", "status": "INVALID_ARGUMENT", "code": 400}}], Report("m", "INVALID_ARGUMENT", 400)),
    ({"error": [{"message": "m"}]}, Report("m")),
    ({"error": "invalid_token", "error_description": "m"}, Report("m", "invalid_token")),
    ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, Report("m", "BadRequestError", 400)),
    ({"code": 401, "msg": "m"}, Report("m", None, 401)),
    ({"choices": None, "error": {"error": {"type": "a", "message": "m"}}}, Report("m", "a")),
    ({"errors": [{"code": 1, "message": "m"}, {"message": "n"}]}, Report("m; n", None, 1)),
    ({"errors": ["m", "n"]}, Report("m; n")),
    ({"detail": [{"loc": ["body"], "msg": "m", "type": "a"}]}, Report("m", "a")),
    ({"Message": "m", "__type": "com.amazon#A"}, Report("m", "A")),
    ({"Error": {"Code": "C", "Message": "m"}}, Report("m", None, "C")),
    ({"error": "a sentence", "code": "c"}, Report("a sentence", None, "c")),
    ({"status": 401, "title": "t", "detail": "m"}, Report("t; m", None, 401)),
    ({"fault": {"faultstring": "m", "detail": {"errorcode": "c"}}}, Report("m", None, "c")),
    ({"base_resp": {"status_code": 2049, "status_msg": "m"}}, Report("m", None, 2049)),
    ({"error": {"message": "m", "metadata": {"raw": "n"}}}, Report("m; n")),
    ({"error": {"message": '{"error": {"message": "m", "type": "a"}}', "code": 400}}, Report("m", "a", 400)),
    ({"error": {"message": {"code": "c", "message": "m"}}}, Report("m", None, "c")),
    ({"error": {"message": {"deep": 1}, "type": 3, "code": [1]}}, Report()),
    ({"error": True}, Report()),
    ({"code": 0, "msg": "success"}, None),
    ({"error": None, "choices": []}, None),
    ([], None),
    (["error"], None),
    ("error", None),
])
def test_read_error_reads_the_shape(body: Any, report: Report | None) -> None:
    assert read_error(body) == report
    assert read_body(json.dumps(body).encode()) == report


@pytest.mark.parametrize(("body", "report"), [
    (b"error: 401 token expired", Report("401 token expired", None, 401)),
    (b": ping\ndata: {}\n\nerror: {}\ndata: <h1>401 no</h1>", Report("401 no", None, 401)),
    (b"data: x\n\ndata: y\n\n", Report("x")),
    (b"<html><style>401</style>no <b>way</b>\ndata: x", Report("no way data: x")),
    (b"data: \n\n", None),
    (b" \n", None),
])
def test_read_body_reads_what_is_not_json(body: bytes, report: Report | None) -> None:
    assert read_body(body) == report


@pytest.mark.parametrize(("status", "report", "kind"), [
    (401, Report("Invalid key", "authentication_error"), CredentialRejected),
    (401, Report("Your current subscription does not have access to K3"), RequestRejected),
    (403, Report("no", "permission_error"), RequestRejected),
    (403, Report("no", "authentication_error"), CredentialRejected),
    (429, Report("slow down", "rate_limit_error"), ProviderUnavailable),
    (503, Report("401 from upstream"), ProviderUnavailable),
    (200, Report("no", None, 401), CredentialRejected),
    (200, Report("invalid x-api-key"), CredentialRejected),
    (200, Report("too long", "invalid_request_error", "context_length_exceeded"), RequestRejected),
    (200, Report("what?"), ProviderError),
    (200, Report(), ProviderError),
])
def test_failure_has_the_class_of_the_next_action(status: int, report: Report, kind: type[ProviderError]) -> None:
    """And `is_auth_error` agrees with it."""
    cause = exchange(status).failure(report)
    assert (type(cause), cause.status, cause.type) == (kind, status, report.type)
    assert is_auth_error(cause) == (kind is CredentialRejected)
    assert isinstance(cause, TransientError) == (kind is ProviderUnavailable)
# fmt: on


def test_failure_carries_the_facts_of_the_request() -> None:
    credential = Credential("secret-access")
    headers = {"Retry-After": "3", "request-id": "req_1", "Content-Type": "application/json"}
    cause = exchange(429, headers, credential).failure(Report("Slow down", "rate_limit_error", "c"))
    assert str(cause) == "Slow down (HTTP 429, rate_limit_error)"
    assert (cause.status, cause.type, cause.code) == (429, "rate_limit_error", "c")
    assert (cause.retry_after, cause.request_id, cause.credential) == (3.0, "req_1", credential)
    silent = exchange(503, {"x-request-id": "req_2"}).failure(Report())
    assert (silent.request_id, str(silent)) == ("req_2", "api.example.com answered HTTP 503 and did not say why.")


@pytest.mark.parametrize(
    ("type_", "kind"), [("ExpiredTokenException", CredentialRejected), ("AccessDeniedException", RequestRejected)]
)
def test_failure_reads_the_error_type_in_a_header(type_: str, kind: type[ProviderError]) -> None:
    """Bedrock names its errors there, and in the body only in words."""
    cause = exchange(403, {"x-amzn-errortype": f"{type_}:http://x"}).failure(Report("no"))
    assert (type(cause), cause.type) == (kind, type_)


def test_failure_is_judged_by_the_whole_body() -> None:
    """Gemini says in a detail what its message and its codes leave open."""
    stale = {"error": {"code": 400, "message": "no", "details": [{"reason": "API_KEY_INVALID"}]}}
    assert type(exchange(400).failure(read_error(stale) or Report())) is CredentialRejected


CLASSES = {RequestRejected: REFUSED, ProviderUnavailable: TRANSIENT, CredentialRejected: AUTH}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_real_refusal_keeps_its_words_and_gets_its_class(kind: type[ProviderError]) -> None:
    """A few that no rule can know may be of another class."""
    wrong = []
    for name, status, body in CLASSES[kind]:
        report = Report(body) if isinstance(body, str) else read_error(body)
        assert report is not None
        cause = exchange(status or 200).failure(report)
        wrong += [name] if type(cause) not in (kind, ProviderError) else []
        assert all(" ".join(words.split())[:200] in str(cause) for words in messages(body)), name
    assert len(wrong) <= len(CLASSES[kind]) / 20, wrong


def messages(body: Any) -> list[str]:
    """Every message in a body, JSON inside a message opened."""
    if isinstance(body, list):
        return [found for each in body for found in messages(each)]
    if not isinstance(body, dict):
        return []
    found = []
    for name, value in body.items():
        if isinstance(value, str) and name.lower() in ("message", "msg", "error_message", "error_description", "title"):
            found += messages(json.loads(value)) if value.startswith("{") else [value.partition("{")[0]]
        found += messages(value)
    return found


TOKENS = Credential("canary-access/+%\"'", refresh_token="canary  refresh")


@pytest.mark.parametrize(
    "echo",
    [
        pytest.param("token canary-access/+%\"' is dead", id="as it is"),
        pytest.param("Bearer canary-access%2F%2B%25%22%27", id="percent-encoded"),
        pytest.param('{"token": "canary-access/+%\\"\'"}', id="inside JSON"),
        pytest.param("canary\n   refresh", id="the refresh token over two lines"),
        pytest.param("x" * 490 + "canary  refresh", id="where the message is cut"),
        pytest.param(" " * 4990 + "canary-access/+%\"'", id="after much space"),
        pytest.param("canary-access/+%\"'" * 100, id="many times"),
    ],
)
def test_token_is_scrubbed_from_every_text(echo: str) -> None:
    cause = exchange(401, {"request-id": echo, "Content-Type": echo}, TOKENS).failure(Report(echo, echo, echo))
    for text in (str(cause), repr(cause), repr(cause.args), cause.type, cause.code, cause.request_id):
        assert "canary" not in str(text)
    assert cause.credential is TOKENS


def test_token_of_digits_is_scrubbed_from_the_code() -> None:
    made = exchange(401, credential=Credential("123456"))
    assert [made.failure(Report("m", None, code)).code for code in (123456, 5)] == [None, 5]


def test_token_that_begins_another_leaves_no_rest_of_it() -> None:
    made = exchange(401, credential=Credential("canary", refresh_token="canary-and-more"))
    assert made.clean("canary-and-more, canary") == "[removed], [removed]"


@settings(deadline=None)
@given(st.text(), st.integers(1, 50))
def test_clean_text_is_one_printable_line_within_its_bound(text: str, limit: int) -> None:
    line = exchange().clean(text, limit)
    assert len(line) <= limit
    assert line.isprintable()
    assert line == line.strip()


def test_huge_message_is_cut_before_it_is_read() -> None:
    huge = Report("x" * 10_000_000)
    tracemalloc.start()
    try:
        assert len(str(exchange(500).failure(huge))) < 600
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
