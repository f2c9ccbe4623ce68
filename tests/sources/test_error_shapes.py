"""Errors in every shape that servers give them, in every place, in both formats: one error event that says it all."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from rxauth.errors import CredentialRejected, ProtocolError, ProviderError, ProviderUnavailable, RequestRejected
from rxauth.failures import is_auth_error, is_transient
from rxauth.sources._reader import Reader
from rxauth.testing._shapes import ErrorShape, shaped_error
from tests.sources.streams import ANTHROPIC, BEGINNING, ENDING, OPENAI, check_grammar, done, failed, formats, read, sse

KINDS = {
    CredentialRejected: (401, "authentication_error", "token expired"),
    RequestRejected: (400, "invalid_request_error", "The prompt is too long"),
    ProviderUnavailable: (529, "overloaded_error", "Overloaded"),
}
# Only the end shows that these have no frame.
UNFRAMED = {"indented", "bare words", "page"}


def cause_of(reader: type[Reader], body: bytes) -> ProviderError:
    events = read(reader, body)
    check_grammar(events)
    end = failed(events)
    assert isinstance(end.cause, ProviderError)
    assert end.error.text == ("Hello" if body.startswith(BEGINNING[reader]) else "")
    return end.cause


@formats
@pytest.mark.parametrize("shape", get_args(ErrorShape))
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_keeps_its_words_and_kind(reader: type[Reader], shape: ErrorShape, kind: type[ProviderError]) -> None:
    """Wherever it comes: a permanent error is never retried, an auth failure is always recovered."""
    error = shaped_error(shape, *KINDS[kind])
    text = BEGINNING[reader]
    ends = [b"", sse("[DONE]")] if shape in UNFRAMED else [b"", sse("[DONE]"), ENDING[reader]]
    for body in (error, error.rstrip(), *(text + error + end for end in ends)):
        cause = cause_of(reader, body)
        assert KINDS[kind][2] in str(cause)
        assert type(cause) is kind
        assert (is_auth_error(cause), is_transient(cause)) == (kind is CredentialRejected, kind is ProviderUnavailable)


@pytest.mark.parametrize(
    ("reader", "payload", "kind"),
    [
        (ANTHROPIC, {"type": "error", "error": "m"}, ProviderError),
        (ANTHROPIC, {"type": "error"}, ProviderError),
        (ANTHROPIC, {"type": "", "error": {"code": 401, "message": "m"}}, CredentialRejected),
        (OPENAI, {"error": "m"}, ProviderError),
        (OPENAI, {"error": {"message": "m", "code": "context_length_exceeded"}, "choices": []}, RequestRejected),
        (OPENAI, {"choices": [], "error_code": 400, "error_message": "m"}, RequestRejected),
        (OPENAI, {"choices": [{"delta": {}, "finish_reason": "insufficient_system_resource"}]}, ProviderUnavailable),
        (OPENAI, {"choices": [{"finish_reason": "error"}, {"delta": {"content": "more"}}]}, ProviderUnavailable),
        (OPENAI, {"choices": [{"error": {"code": 401}, "finish_reason": "error"}]}, CredentialRejected),
        (OPENAI, {"error": {"code": 502}, "choices": [{"finish_reason": "error"}]}, ProviderUnavailable),
    ],
    ids=str,
)
def test_an_error_event_has_a_typed_cause(reader: type[Reader], payload: Any, kind: type[ProviderError]) -> None:
    cause = cause_of(reader, BEGINNING[reader] + sse(payload) + ENDING[reader])
    assert (type(cause), cause.status) == (kind, 200)


@formats
@pytest.mark.parametrize(
    ("notice", "ending"),
    [
        pytest.param(sse({"message": "The model is busy"}), b"", id="an object with a message"),
        pytest.param(b"The model is busy\n", b"", id="words"),
        pytest.param(sse({"detail": "The model is busy"}), sse("[DONE]"), id="before the end mark"),
    ],
)
def test_a_notice_is_the_error_of_a_stream_that_breaks_off(reader: type[Reader], notice: bytes, ending: bytes) -> None:
    assert "The model is busy" in str(cause_of(reader, BEGINNING[reader] + notice + ending))


@formats
@pytest.mark.parametrize(
    "notice",
    [
        sse({"message": "Searching"}),
        sse({"code": 0, "message": "ok"}),
        sse({"type": "status", "message": "Searching"}),
        b"Searching\n",
        b'{"message": "Searching"}\n',
        b"<!-- proxy -->\n",
    ],
    ids=str,
)
def test_a_notice_in_a_complete_answer_is_no_error(reader: type[Reader], notice: bytes) -> None:
    end = done(read(reader, BEGINNING[reader] + notice + ENDING[reader]))
    assert (end.message.text, end.reason) == ("Hello", "stop")


@formats
@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"hello there", "(hello there)", id="words"),
        pytest.param(b"<html><title>Sign in &amp; go</title>", "(Sign in & go)", id="a page without a status"),
        pytest.param(b"data: <p></p>\n\n", "(<p></p>)", id="a page without words"),
        pytest.param(b'{"hello": "there"}', "hello", id="an object"),
        pytest.param(b"[1, 2]", "(", id="a list"),
        pytest.param(sse("[]"), "([])", id="a framed list"),
        pytest.param(sse("7"), "(7)", id="a number"),
        pytest.param(sse("[" * 100_000), "([[[", id="JSON deeper than a stack"),
        pytest.param(sse('{"x": ' + "[" * 100_000 + "]" * 100_000 + "}"), "[[[", id="an object that is as deep"),
        pytest.param(sse('{"error": {"message": "m"}, "x": ' + "9" * 5000 + "}"), "999", id="a number without end"),
        pytest.param(sse({"type": "hello"}), "hello", id="another protocol"),
    ],
)
def test_another_protocol_is_refused_with_advice(reader: type[Reader], body: bytes, words: str) -> None:
    cause = cause_of(reader, body)
    assert type(cause) is ProtocolError
    for part in (words, "base URL and the protocol", reader.protocol):
        assert part in str(cause)


@formats
def test_the_other_format_is_refused_with_advice(reader: type[Reader]) -> None:
    other = OPENAI if reader is ANTHROPIC else ANTHROPIC
    assert type(cause_of(reader, BEGINNING[other] + ENDING[other])) is ProtocolError
