"""Make typed exceptions, free of secrets, from the errors that a server sends. Pure.

A server may send back the token that it was sent, a page of HTML or control characters. All of it is scrubbed, put on
one line and cut to a bound before it goes into an exception.
"""

from __future__ import annotations

import base64
import html
import json
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlsplit

from rxauth.errors import (
    CredentialRejected,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
)
from rxauth.failures import Kind, Reading, kind_of, seconds_to_wait

if TYPE_CHECKING:
    from rxauth.credentials import Credential

_SENTENCE = 500  # characters: enough for a sentence, not for a page
_WORD = 120

P = TypeVar("P", bound=ProviderError)


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """Hold an error as the provider reports it.

    Args:
        message: all messages in the body, in order.
        type: the provider's name of the error.
        code: the provider's code, or else the status in the body.
        body: the whole body, only to judge it: it may hold the token.
    """

    message: str = ""
    type: str | None = None
    code: str | int | None = None
    body: object = field(default=None, repr=False, compare=False)


def read_error(body: object) -> ErrorReport | None:
    """Find the error in a decoded JSON body or event, in any of the shapes that providers use.

    Returns:
        `None` if there is none.

    >>> read_error({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    ErrorReport(message='Overloaded', type='overloaded_error', code=None)
    >>> read_error({"error": "invalid_token", "error_description": "expired"})
    ErrorReport(message='expired', type='invalid_token', code=None)
    >>> read_error({"errors": [{"code": 10000, "message": "Authentication error"}]})
    ErrorReport(message='Authentication error', type=None, code=10000)
    >>> read_error([{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}])
    ErrorReport(message='API key not valid.', type='INVALID_ARGUMENT', code=400)
    >>> read_error({"choices": []})
    """
    whole = body[0] if isinstance(body, list) and body else body
    if not isinstance(whole, Mapping):
        return None
    reading = Reading(whole)
    has_error = any(whole.get(name) not in _NO_ERROR for name in ("error", "Error", "errors", "fault"))
    if not has_error and (not (reading.texts or reading.status) or _SUCCESS.intersection(reading.codes)):
        return None
    types = [word for word in reading.types if word != "error" and "." not in word]
    # A message that is JSON is followed by the messages inside it.
    messages = [text for text in reading.texts if not text.lstrip().startswith(("{", "["))] or reading.texts
    if not messages and types and isinstance(whole.get("error"), str):
        messages, types = [types[0]], types[1:]
    codes = [*(each for each in reading.codes if isinstance(each, str)), *reading.codes, *reading.numbers]
    return ErrorReport("; ".join(messages), next(iter(types), None), next(iter(codes), None), whole)


_NO_ERROR: tuple[object, ...] = (None, False, "", [])
_SUCCESS = frozenset({0, 200, "0", "200"})


class Exchange:
    """Make the exceptions of one request from its credential, the response's headers, and the provider's report.

    Args:
        host: the host of the request, for a person to read.
        credential: the credential of the request; its tokens are scrubbed from every text.
    """

    def __init__(self, host: str, credential: Credential | None = None) -> None:
        self.host = host
        self._content_type = ""
        self._credential = credential
        self._status: int | None = None
        self._retry_after: float | None = None
        self._request_id: str | None = None
        self._error_type: str | None = None

    def answered(self, status: int, headers: Mapping[str, str], *, now: float) -> None:
        """Store the status and the headers of the response. `now`: Unix seconds."""
        self._status = status
        self._content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self._retry_after = seconds_to_wait(headers, now=now)
        self._request_id = headers.get("request-id") or headers.get("x-request-id")
        # Bedrock names the error here and nowhere else: "ExpiredTokenException:http://internal.amazon.com/..."
        self._error_type = headers.get("x-amzn-errortype", "").partition(":")[0] or None

    @property
    def content_type(self) -> str:
        """The content type, for a person to read."""
        return self.clean(self._content_type, _WORD)

    @property
    def is_event_stream(self) -> bool:
        return self._content_type == "text/event-stream"

    def host_of(self, url: str) -> str:
        """Return the host of a server's URL, for a person to read; an empty text if it is no URL."""
        try:
            return self.clean(urlsplit(url).netloc, 80)
        except ValueError:
            return ""

    def failure(self, report: ErrorReport) -> ProviderError:
        """Make the exception that names the caller's next action."""
        word = self._clean_word(report.type or self._error_type)
        message, code = self.clean(report.message), self._clean_code(report.code)
        http = f"HTTP {self._status}" if self._status and not 200 <= self._status < 300 else None
        details = ", ".join(filter(None, (http, word)))
        if not message:
            sentence = f"{self.host} answered {details or 'with an error'} and did not say why."
        else:
            sentence = f"{message} ({details})" if details else message
        return self.error(self._class(report), sentence, type=word, code=code)

    def error(self, kind: type[P], sentence: str, *, type: str | None = None, code: str | int | None = None) -> P:
        """Make an exception with all that is known of the request. `sentence` must be clean already."""
        return kind(
            sentence,
            status=self._status,
            code=code,
            type=type,
            retry_after=self._retry_after,
            request_id=self._clean_word(self._request_id),
            credential=self._credential,
        )

    def clean(self, text: object, limit: int = _SENTENCE) -> str:
        """Return one printable line without the credential's tokens, of at most `limit` characters."""
        head = self._scrub(str(text))[: 10 * limit]
        line = " ".join("".join(each if each.isprintable() else " " for each in head).split())
        line = self._scrub(line)  # a token with spaces may have been broken over several lines
        return line if len(line) <= limit else line[: limit - 1] + "…"

    def _class(self, report: ErrorReport) -> type[ProviderError]:
        error = {"status": self._status, "code": report.code, "type": report.type, "__type": self._error_type}
        return _CLASSES[kind_of(Reading({**error, "message": report.message, "body": report.body}))]

    def _clean_word(self, word: str | None) -> str | None:
        return self.clean(word or "", _WORD) or None

    def _clean_code(self, code: str | int | None) -> str | int | None:
        if isinstance(code, int):
            return code if self._scrub(str(code)) == str(code) else None
        return self._clean_word(code)

    @cached_property
    def _tokens(self) -> list[str]:
        credential = self._credential
        tokens = (credential.access_token, credential.refresh_token) if credential is not None else ()
        return [token for token in tokens if token and not token.isspace()]

    @cached_property
    def _secrets(self) -> list[str]:
        forms = {_lowered(form) for token in self._tokens for form in _forms(token)}
        # The longest first: once a part of a token is removed, the token is not found.
        return sorted(forms, key=len, reverse=True)

    def _scrub(self, text: str) -> str:
        # Most texts are shorter than any form of the token and need no search: thousands of streams may fail together.
        if all(len(text) < len("".join(token.split())) for token in self._tokens):
            return text
        for secret in self._secrets:
            text = _without(text, secret)
        return text


_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

_SHORTEST_CODE = 12  # characters of Base64 or hex; fewer also occur in other words


def _forms(token: str) -> Iterator[str]:
    """Yield the forms in which a server may echo a token: in a URL, in JSON, in HTML, in Base64, in hex, respaced."""
    yield from (token, " ".join(token.split()), html.escape(token))
    for quoted in (quote(token, safe=""), quote(token)):
        yield from (quoted, quote(quoted, safe=""))
    quoted = json.dumps(token)[1:-1]
    yield from (quoted, quoted.replace("/", "\\/"))
    data = token.encode("utf-8", "surrogatepass")
    coded = [data.hex()]
    for before in range(3):
        # Three bytes are four characters: the form of a token depends on how many bytes precede it.
        within = slice((0, 2, 3)[before], (before + len(data)) * 8 // 6)
        padded = bytes(before) + data
        coded += [base64.b64encode(padded).decode()[within], base64.urlsafe_b64encode(padded).decode()[within]]
    yield from (each for each in coded if len(each) >= _SHORTEST_CODE)


def _lowered(text: str) -> str:
    # Not str.lower(), which lengthens some letters, so that positions would differ.
    return text.translate(_LOWER)


def _without(text: str, secret: str) -> str:
    """Remove a secret, given in lower case, in any case: content types and hosts are read in lower case."""
    lowered, left, start = _lowered(text), [], 0
    while (at := lowered.find(secret, start)) >= 0:
        left.append(text[start:at])
        start = at + len(secret)
    return "[removed]".join([*left, text[start:]])


_CLASSES: dict[Kind, type[ProviderError]] = {
    Kind.AUTH: CredentialRejected,
    Kind.BUSY: ProviderUnavailable,
    Kind.REFUSED: RequestRejected,
    Kind.UNKNOWN: ProviderError,
}
