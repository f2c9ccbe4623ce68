"""Errors in every shape that servers give them, in every place, in both formats: one error event that says it all."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest

from rxauth.errors import CredentialRejected, ProtocolError, ProviderError, ProviderUnavailable, RequestRejected
from rxauth.failures import is_auth_error, is_transient
from rxauth.sources._reader import Reader
from rxauth.testing._shapes import ErrorShape, shaped_error
from tests.sources.streams import ANTHROPIC, OPENAI, check_grammar, done, failed, read, sse, text_of

BEGINNING = {
    ANTHROPIC: sse(
        {"type": "message_start", "message": {"id": "m"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        name=True,
    ),
    OPENAI: sse({"id": "c", "choices": [{"index": 0, "delta": {"content": "Hel"}}]}),
}
ENDING = {
    ANTHROPIC: sse({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"}),
    OPENAI: sse({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, "[DONE]"),
}

Place = Callable[[type[Reader], bytes], bytes]
PLACES: dict[str, Place] = {
    "alone": lambda reader, error: error,
    "alone, its end missing": lambda reader, error: error.rstrip(),
    "after text": lambda reader, error: BEGINNING[reader] + error,
    "after text, before the end mark": lambda reader, error: BEGINNING[reader] + error + sse("[DONE]"),
}

formats = pytest.mark.parametrize("reader", [ANTHROPIC, OPENAI], ids=["anthropic", "openai"])


def cause_of(reader: type[Reader], body: bytes) -> ProviderError:
    events = read(reader, body)
    check_grammar(events)
    end = failed(events)
    assert isinstance(end.cause, ProviderError)
    assert end.error.text == ("Hel" if body.startswith(BEGINNING[reader]) else "")
    return end.cause


@formats
@pytest.mark.parametrize("shape", get_args(ErrorShape))
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize(
    ("code", "name", "words", "kind"),
    [
        pytest.param(400, "invalid_request_error", "The prompt is too long", RequestRejected, id="permanent"),
        pytest.param(401, "authentication_error", "token expired", CredentialRejected, id="auth"),
        pytest.param(529, "overloaded_error", "Overloaded", ProviderUnavailable, id="transient"),
    ],
)
def test_an_error_keeps_its_words_and_kind(
    reader: type[Reader],
    shape: ErrorShape,
    place: Place,
    code: int,
    name: str,
    words: str,
    kind: type[ProviderError],
) -> None:
    """Whatever its shape: a permanent error is never retried, an auth failure is always recovered."""
    cause = cause_of(reader, place(reader, shaped_error(shape, code, name, words)))
    assert words in str(cause)
    assert cause.__class__ is kind
    assert is_auth_error(cause) is (kind is CredentialRejected)
    assert is_transient(cause) is (kind is ProviderUnavailable)


@formats
@pytest.mark.parametrize("shape", sorted({*get_args(ErrorShape)} - {"indented", "bare words", "page"}))
def test_an_error_ends_a_stream_that_goes_on(reader: type[Reader], shape: ErrorShape) -> None:
    """At once; but an error laid out over lines without a frame is seen at the end only."""
    error = shaped_error(shape, 400, "invalid_request_error", "The prompt is too long")
    assert type(cause_of(reader, BEGINNING[reader] + error + ENDING[reader])) is RequestRejected


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
    events = read(reader, BEGINNING[reader] + notice + ENDING[reader])
    check_grammar(events)
    assert (text_of(events), done(events).reason) == ("Hel", "stop")


@formats
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"hello there", id="words"),
        pytest.param(b"<html><title>Sign in</title>", id="a page without a status"),
        pytest.param(b'{"hello": "there"}', id="an object"),
        pytest.param(b"[1, 2]", id="a list"),
        pytest.param(sse("[]"), id="a framed list"),
        pytest.param(sse("7"), id="a number"),
        pytest.param(sse("[" * 100_000), id="JSON deeper than a stack"),
        pytest.param(sse('{"x": ' + "[" * 100_000 + "]" * 100_000 + "}"), id="an object that is as deep"),
        pytest.param(sse('{"error": {"message": "m"}, "x": ' + "9" * 5000 + "}"), id="a number without end"),
        pytest.param(sse({"type": "hello"}), id="another protocol"),
    ],
)
def test_another_protocol_is_refused_with_advice(reader: type[Reader], body: bytes) -> None:
    events = read(reader, body)
    check_grammar(events)
    cause = failed(events).cause
    assert type(cause) is ProtocolError
    assert "base URL and the protocol" in str(cause)
    assert reader.protocol in str(cause)


@formats
def test_the_other_format_is_refused_with_advice(reader: type[Reader]) -> None:
    other = OPENAI if reader is ANTHROPIC else ANTHROPIC
    assert type(failed(read(reader, BEGINNING[other] + ENDING[other])).cause) is ProtocolError


def test_a_page_shows_its_words() -> None:
    body = b"<html><head><title>Sign in &amp; go</title></head></html>"
    assert "(Sign in & go)" in str(failed(read(OPENAI, body, content_type="text/html")).cause)
