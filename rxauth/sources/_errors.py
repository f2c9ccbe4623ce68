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
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlsplit

from rxauth.errors import CredentialRejected, ProviderError, ProviderUnavailable, RequestRejected
from rxauth.failures import Kind, Reading, kind_of, seconds_to_wait
from rxauth.sources._reports import ErrorReport

if TYPE_CHECKING:
    from rxauth.credentials import Credential

_SENTENCE = 500  # characters: enough for a sentence, not for a page
_WORD = 120

P = TypeVar("P", bound=ProviderError)


class Exchange:
    """Make the exceptions of one request from its credential, the response's headers, and the provider's report.

    Args:
        host: the host of the request, for a person to read.
        credential: the credential of the request; its tokens are scrubbed from every text.
    """

    def __init__(self, host: str, credential: Credential) -> None:
        self.host = host
        self.credential = credential
        self._tokens = [each for each in (credential.access_token, credential.refresh_token) if each and each.strip()]
        self._content_type = ""
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
        message, code = self.clean(report.message), report.code
        http = f"HTTP {self._status}" if self._status and not 200 <= self._status < 300 else None
        details = ", ".join(filter(None, (http, word)))
        if not message:
            message = f"{self.host} answered {details or 'with an error'} and did not say why."
        elif details:
            message = f"{message} ({details})"
        if not isinstance(code, int):
            code = self._clean_word(code)
        elif self._scrub(str(code)) != str(code):
            code = None
        return self.error(_CLASSES[self.kind_of(report)], message, type=word, code=code)

    def kind_of(self, report: ErrorReport) -> Kind:
        error = {"status": self._status, "code": report.code, "type": report.type, "__type": self._error_type}
        return kind_of(Reading({**error, "message": report.message, "body": report.body}))

    def error(self, kind: type[P], sentence: str, *, type: str | None = None, code: str | int | None = None) -> P:
        """Make an exception with all that is known of the request. `sentence` must be clean already."""
        return kind(
            sentence,
            status=self._status,
            code=code,
            type=type,
            retry_after=self._retry_after,
            request_id=self._clean_word(self._request_id),
            credential=self.credential,
        )

    def clean(self, text: object, limit: int = _SENTENCE) -> str:
        """Return one printable line without the credential's tokens, of at most `limit` characters."""
        head = self._scrub(str(text))[: 10 * limit]
        line = " ".join("".join(each if each.isprintable() else " " for each in head).split())
        line = self._scrub(line)  # a token with spaces may have been broken over several lines
        return line if len(line) <= limit else line[: limit - 1] + "…"

    def _clean_word(self, word: str | None) -> str | None:
        return self.clean(word or "", _WORD) or None

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
