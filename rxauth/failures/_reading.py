"""Read a failure in one walk: its status, its codes and types, its messages, and the parts that carry them.

A failure is an error event, an exception, or the body of an answer, in any of the shapes that providers use: fields of
a mapping or an object, lists of errors, JSON in a text, the Python repr in the text that an SDK's `str()` gives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from rxauth.errors import CredentialError, NeverLiveError, ProviderError, field
from rxauth.failures._words import CODE_IN_TEXT, normal, search

_PARTS = 40  # of one failure that are read: a hostile one has more
_OBJECTS = 10  # among them that are no mapping and no exception: a mock has one under every name, and is slow
_ENTRIES = 64  # of one mapping
_ITEMS = 8  # of one list
_LEAVES = 256  # of one exception group
_LENGTH = 8192  # characters of a text: a refusal says early what it refuses, and a page of HTML is long
_ALL_TEXT = 2 * _LENGTH  # characters of all texts together

# The fields that are read. A number in one of the first two is a status.
_STATUS = frozenset({"status", "status_code", "statusCode", "http_status", "HTTPStatusCode"})
_CODE = frozenset({"code", "error_code", "Code", "errorCode", "errorcode", "errcode"})
_TYPE = frozenset({"type", "error_type", "errorType", "__type"})
_ERROR = frozenset({"error", "Error"})  # a code, a sentence, or an object
_TEXT = frozenset({
    "detail", "message", "Message", "msg", "error_message", "errorMessage", "error_msg", "error_description",
    "errorText", "errmsg", "status_msg", "faultstring", "title",
})  # fmt: skip
_PART = frozenset({
    "errors", "body", "cause", "response", "details", "fault", "innererror", "base_resp", "ResponseMetadata",
})  # fmt: skip
_HEADERS = frozenset({"headers", "HTTPHeaders"})
_WORDS = _STATUS | _CODE | _TYPE | _ERROR | {"reason"}
_KEYS = _WORDS | _TEXT | _PART | _HEADERS | {"metadata"}

_ATTRIBUTES = (
    "status", "status_code", "code", "error_code", "type", "reason", "error", "errors", "body", "cause", "response",
    "details", "detail", "message", "error_message", "errorMessage", "headers",
)  # fmt: skip


class Reading:
    """Hold the status, the codes and the messages of a failure.

    Attributes:
        failure: the one that was read.
        parts: the failure, its fields that are objects, and its causes, nearest first.
        status: the first number from 400 to 599.
        words: every code and type, in normal spelling.
        texts: every message; never what the assistant said.
        types, codes, numbers: types, codes and statuses as they came, for a person to read.
        own_error: the first `ProviderError` among the parts.
        refresh_failed: whether an exception of the credential logic is among the causes.
    """

    def __init__(self, failure: Any) -> None:
        self.failure = failure
        self.parts: list[Any] = [failure]
        self.status: int | None = None
        self.words: set[str] = set()
        self.texts: list[str] = []
        self.types: list[str] = []
        self.codes: list[str | int] = []
        self.numbers: list[int] = []
        self.own_error: ProviderError | None = None
        self.refresh_failed = False
        self._text_left = _ALL_TEXT
        linked: set[int] = set()
        objects = _OBJECTS
        for part in islice(self.parts, _PARTS):  # the parts of a part are added meanwhile
            if type(part) is dict:
                self._take_mapping(part)
            elif isinstance(part, BaseException):
                self._take_exception(part, linked)
            elif isinstance(part, list | tuple):
                for item in part[:_ITEMS]:
                    self._take("message", item)
            elif objects > 0:
                objects -= 1
                self._take_object(part)
        if isinstance(failure, BaseException) and self.status is None:
            self.words.add(normal(type(failure).__name__))  # the class of an SDK's exception may be its only code

    def _take_mapping(self, part: Mapping[str, Any]) -> None:
        for name, value in islice(part.items(), _ENTRIES):
            if name in _KEYS and value is not None:
                self._take(name, value)

    def _take_object(self, part: Any) -> None:
        try:
            if isinstance(part, Mapping):
                self._take_mapping(part)
                return
        except Exception:  # isinstance() can raise on a lazy proxy, and items() on any mapping
            return
        for name in _ATTRIBUTES:
            try:
                value = getattr(part, name, None)
            except Exception:  # noqa: S112 - a foreign property may raise anything
                continue
            if value is not None:
                self._take(name, value)

    def _take_exception(self, part: BaseException, linked: set[int]) -> None:
        if isinstance(part, CredentialError) and part is not self.failure:
            self.refresh_failed = True  # its status and text, and those of its causes, are the token endpoint's
            return
        if isinstance(part, ProviderError) and self.own_error is None:
            self.own_error = part
        before = len(self.parts)
        self._take_object(part)
        if id(part) not in linked:
            # The text of an SDK's exception repeats its body: parsing it again would double the cost.
            has_body = any(isinstance(each, dict) for each in self.parts[before:])
            with suppress(Exception):  # a foreign __str__ may raise anything
                self._take_text(str(part), parse=not has_body)
        cause = field(part, "__cause__")
        if cause is None and not field(part, "__suppress_context__"):
            cause = field(part, "__context__")
        if isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
            cause = cause.exceptions[0]
        if isinstance(cause, BaseException):
            linked.add(id(cause))
            self.parts.append(cause)

    def _take(self, name: str, value: Any) -> None:
        try:
            is_string = isinstance(value, str)
        except Exception:  # isinstance() can raise on a lazy proxy
            return
        if is_string:
            self._take_string(name, value)
        elif isinstance(value, int):
            if (name in _STATUS or name in _CODE) and not isinstance(value, bool):
                self._take_number(name, int(value))
        elif isinstance(value, bytes):
            if name in _PART:
                self._take_text(value[:_LENGTH].decode(errors="replace"))
        elif name == "metadata":
            raw = field(value, "raw")  # OpenRouter: the upstream's own words; anything else is the caller's
            if isinstance(raw, str):
                self._take_text(raw)
        elif name in _HEADERS:
            self._take_headers(value)
        elif name in _TEXT or name in _ERROR or name in _PART:
            self.parts.append(value)

    def _take_headers(self, headers: Any) -> None:
        challenge = _CHALLENGE.search(header(headers, "WWW-Authenticate")[:_LENGTH])
        codes = header(headers, "x-amzn-ErrorType"), challenge[1] if challenge else ""  # Bedrock's body has no code
        self.words.update(normal(code) for code in codes if code)

    def _take_string(self, name: str, value: str) -> None:
        if name in _TEXT or name in _PART:
            self._take_text(value)
            return
        is_code, is_error = name in _CODE, name in _ERROR
        if len(value) == 3 and value.isascii() and value.isdigit() and (is_code or name in _STATUS):
            self._take_number(name, int(value))
            return
        is_sentence = " " in value[:_LENGTH]
        if is_sentence and (is_code or is_error):
            self._take_text(value)
        if not value or name not in _WORDS or (is_error and is_sentence):
            return
        self.words.add(normal(value))
        if is_code:
            self.codes.append(value)
        elif name in _TYPE or is_error or (name in _STATUS and value.isupper()):
            self.types.append(value.rpartition("#")[2])

    def _take_number(self, name: str, number: int) -> None:
        (self.codes if name in _CODE else self.numbers).append(number)
        if self.status is None and 400 <= number <= 599:
            self.status = number

    def _take_text(self, text: str, *, parse: bool = True) -> None:
        text = text[: min(_LENGTH, self._text_left)]
        if not text or text in self.texts:
            return
        self._text_left -= len(text)
        self.texts.append(text)
        code = search(CODE_IN_TEXT, text)
        if code is not None:
            self.words.add(normal(code["grpc"] or code["aws"]))
        if parse and "{" in text:
            self.parts.extend(_bodies(text))


def header(headers: Any, name: str) -> str:
    """Return the value of a header, named as here or in lower case; an empty text if there is none."""
    for spelling in (name, name.lower()):
        try:
            value = headers.get(spelling)
        except Exception:  # not every `headers` is a mapping
            return ""
        if isinstance(value, str):
            return value.strip()
    return ""


def leaves(failure: Any) -> list[Any]:
    """Return the failures to judge: itself, that of a `NeverLiveError`, or each exception of a group."""
    found: list[Any] = []
    waiting: list[Any] = [failure]
    for each in waiting:
        inner = each.failure if isinstance(each, NeverLiveError) else each
        if isinstance(inner, BaseExceptionGroup):
            waiting.extend(inner.exceptions)
        else:
            found.append(inner)
        if len(waiting) > _LEAVES:
            return [None]  # too many to read: `None` is no failure
    return found


def _bodies(text: str) -> Iterator[Any]:
    """Yield the JSON objects and Python dicts inside a text, outermost only."""
    at = text.find("{")
    for _ in range(8):  # a text made of braces must not cost quadratic time
        if at < 0:
            return
        try:
            if text[at + 1 : at + 2] == "'":
                yield _decoder.raw_decode(_REPR.sub(_token_as_json, text[at:]))[0]
                return
            body, end = _decoder.raw_decode(text, at)
        except ValueError:
            end = at + 1
        except RecursionError:  # it would be raised again from the next brace on
            return
        else:
            yield body
        at = text.find("{", end)


_CHALLENGE = re.compile(r"""\berror\s*=\s*"?([\w.-]+)""")  # RFC 6750 section 3

_decoder = json.JSONDecoder(strict=False)

_REPR = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\b(?:None|True|False)\b""", re.DOTALL)
_NAMES = {"None": "null", "True": "true", "False": "false"}


def _token_as_json(token: re.Match[str]) -> str:
    """Rewrite a string or a constant of a Python repr as JSON."""
    found = token[0]
    if found in _NAMES:
        return _NAMES[found]
    if found[0] == "'":
        found = '"' + found[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'
    return found.replace("\\x", "\\u00")
