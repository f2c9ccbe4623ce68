"""What went wrong with a request, as a typed exception without secrets. Pure.

Whatever a server sends may hold the token it was sent, a page of HTML or control characters; nothing of it leaves here
unscrubbed, on more than one line or without a bound.
"""

from __future__ import annotations

import base64
import html
import json
import string
from collections.abc import Collection, Iterator, Mapping
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
class Told:
    """An error as the provider words it.

    Args:
        message: for a person; all that the provider says, in its order.
        type: its name of the error.
        code: its code, or else the status that the body tells.
        body: all of it, for the judgement alone: it may hold the token.
    """

    message: str = ""
    type: str | None = None
    code: str | int | None = None
    body: object = field(default=None, repr=False, compare=False)


def read_error(body: object) -> Told | None:
    """Find the error in a decoded JSON body or event, in any of the shapes that providers use.

    Returns:
        `None` if there is none.

    >>> read_error({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    Told(message='Overloaded', type='overloaded_error', code=None)
    >>> read_error({"error": "invalid_token", "error_description": "expired"})
    Told(message='expired', type='invalid_token', code=None)
    >>> read_error({"errors": [{"code": 10000, "message": "Authentication error"}]})
    Told(message='Authentication error', type=None, code=10000)
    >>> read_error([{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}])
    Told(message='API key not valid.', type='INVALID_ARGUMENT', code=400)
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
    # A message that is JSON is there once more, as the messages inside it.
    messages = [text for text in reading.texts if not text.lstrip().startswith(("{", "["))] or reading.texts
    if not messages and types and isinstance(whole.get("error"), str):
        messages, types = [types[0]], types[1:]
    codes = [*(each for each in reading.codes if isinstance(each, str)), *reading.codes, *reading.numbers]
    return Told("; ".join(messages), next(iter(types), None), next(iter(codes), None), whole)


_NO_ERROR: tuple[object, ...] = (None, False, "", [])
_SUCCESS = frozenset({0, 200, "0", "200"})


class Exchange:
    """One request, as far as its failures are concerned: what it was made with, and what came back.

    Args:
        host: where it goes, for a person to read.
        credential: what it is made with; its tokens are scrubbed from everything.
    """

    def __init__(self, host: str, credential: Credential | None = None) -> None:
        self.host = host
        self._content_type = ""
        self._credential = credential
        self._status: int | None = None
        self._retry_after: float | None = None
        self._request_id: str | None = None

    def answered(self, status: int, headers: Mapping[str, str], *, now: float) -> None:
        """The response's head has come. `now`: Unix seconds."""
        self._status = status
        self._content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self._retry_after = seconds_to_wait(headers, now=now)
        self._request_id = headers.get("request-id") or headers.get("x-request-id")

    @property
    def content_type(self) -> str:
        """For a person to read."""
        return self.clean(self._content_type, _WORD)

    @property
    def is_event_stream(self) -> bool:
        return self._content_type == "text/event-stream"

    def is_one_of(self, content_types: Collection[str]) -> bool:
        return self._content_type in content_types

    def host_of(self, url: str) -> str:
        """The host that a server's URL names, for a person to read; nothing if it is no URL."""
        try:
            return self.clean(urlsplit(url).netloc, 80)
        except ValueError:
            return ""

    def failure(self, told: Told) -> ProviderError:
        """What the provider said, as the exception that names the caller's next action."""
        message, word, code = self.clean(told.message), self._clean_word(told.type), self._clean_code(told.code)
        http = f"HTTP {self._status}" if self._status and not 200 <= self._status < 300 else None
        details = ", ".join(filter(None, (http, word)))
        if not message:
            sentence = f"{self.host} answered {details or 'with an error'} and did not say why."
        else:
            sentence = f"{message} ({details})" if details else message
        return self.error(_kind(told, self._status), sentence, type=word, code=code)

    def error(self, kind: type[P], sentence: str, *, type: str | None = None, code: str | int | None = None) -> P:
        """An exception of that kind, with all that is known of the request. What is foreign in `sentence` is clean."""
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
        """One printable line without the credential's tokens, of at most `limit` characters."""
        head = self._scrub(str(text))[: 10 * limit]
        line = " ".join("".join(each if each.isprintable() else " " for each in head).split())
        line = self._scrub(line)  # a token that holds spaces may have been laid out over several lines
        return line if len(line) <= limit else line[: limit - 1] + "…"

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
        # The longest first: what is left of a token once a part of it was removed would not be found any more.
        return sorted(forms, key=len, reverse=True)

    def _scrub(self, text: str) -> str:
        # No form is shorter than the token without its spaces. Most texts are: thousands of streams may fail together.
        if all(len(text) < len("".join(token.split())) for token in self._tokens):
            return text
        for secret in self._secrets:
            text = _without(text, secret)
        return text


_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

_SHORTEST_CODE = 12  # characters of Base64 or hex; fewer are found in what is no token


def _forms(token: str) -> Iterator[str]:
    """How a token may be echoed: as it is, laid out anew, in a URL, in JSON, in HTML, in Base64, in hex."""
    yield from (token, " ".join(token.split()), html.escape(token))
    for quoted in (quote(token, safe=""), quote(token)):
        yield from (quoted, quote(quoted, safe=""))
    quoted = json.dumps(token)[1:-1]
    yield from (quoted, quoted.replace("/", "\\/"))
    data = token.encode("utf-8", "surrogatepass")
    coded = [data.hex()]
    for before in range(3):
        # Three bytes are four characters: what a token is in the middle of a text depends on what is before it.
        within = slice((0, 2, 3)[before], (before + len(data)) * 8 // 6)
        padded = bytes(before) + data
        coded += [base64.b64encode(padded).decode()[within], base64.urlsafe_b64encode(padded).decode()[within]]
    yield from (each for each in coded if len(each) >= _SHORTEST_CODE)


def _lowered(text: str) -> str:
    # Not str.lower(), which makes some letters two.
    return text.translate(_LOWER)


def _without(text: str, secret: str) -> str:
    """`secret` is in lower case and is found in any: content types and hosts are read in lower case."""
    lowered, left, start = _lowered(text), [], 0
    while (at := lowered.find(secret, start)) >= 0:
        left.append(text[start:at])
        start = at + len(secret)
    return "[removed]".join([*left, text[start:]])


def _kind(told: Told, status: int | None) -> type[ProviderError]:
    error = {"status": status, "code": told.code, "type": told.type, "message": told.message, "body": told.body}
    return _CLASSES[kind_of(Reading(error))]


_CLASSES: dict[Kind, type[ProviderError]] = {
    Kind.AUTH: CredentialRejected,
    Kind.BUSY: ProviderUnavailable,
    Kind.REFUSED: RequestRejected,
    Kind.UNKNOWN: ProviderError,
}
