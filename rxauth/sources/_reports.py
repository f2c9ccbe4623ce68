"""Read an error as a server reports it: JSON in any shape, a framed error, a web page, plain words. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rxauth.failures import Reading
from rxauth.sources._json import NotJSONError, decoded
from rxauth.sources._sse import EventStreamDecoder


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


def read_body(body: bytes) -> ErrorReport | None:
    """Read the error of a whole body, whatever form it has; `None` if there is none.

    >>> read_body(b'{"error": {"type": "overloaded_error", "message": "Overloaded"}}')
    ErrorReport(message='Overloaded', type='overloaded_error', code=None)
    >>> read_body(b'event: error\\ndata: {"code": 401, "msg": "token expired"}\\n\\n')
    ErrorReport(message='token expired', type=None, code=401)
    """
    if _FIELD.search(body) and not _is_page(body):
        return next(filter(None, map(_read_unframed, _unframed(body))), None)
    return _read_unframed(body)


def read_error(body: object) -> ErrorReport | None:
    """Find the error in a decoded JSON body or event, in any of the shapes that providers use; `None` without one.

    >>> read_error({"error": "invalid_token", "error_description": "expired"})
    ErrorReport(message='expired', type='invalid_token', code=None)
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


def read_words(words: bytes) -> ErrorReport | None:
    """Read an error out of a page or a plain text; a status at its beginning is the code.

    >>> read_words(b"<html><head><title>502 Bad Gateway</title></head></html>")
    ErrorReport(message='502 Bad Gateway', type=None, code=502)
    >>> read_words(b"Error: 401 token expired")
    ErrorReport(message='Error: 401 token expired', type=None, code=401)
    """
    text = words.decode("utf-8", "replace").strip()
    if _is_page(words):
        found = _HEADLINE.search(text)
        text = " ".join(html.unescape(_TAG.sub(" ", found[2] if found else text)).split())
    status = _STATUS.match(text)
    return ErrorReport(text, None, int(status[1]) if status else None) if text else None


def is_error(body: Mapping[str, Any], report: ErrorReport) -> bool:
    """Return whether an object is an error for certain; one that has only a message may be a notice."""
    if any(body.get(name) for name in ("error", "errors", "error_message", "error_type", "errorMessage")):
        return True
    if isinstance(report.code, int):
        return report.code != 0 and not 200 <= report.code < 300
    if isinstance(report.code, str):
        return report.code.casefold() not in ("ok", "success", "succeeded")
    return "error" in str(body.get("type")).casefold() or body.get("object") == "error" or body.get("success") is False


def _is_page(body: bytes) -> bool:
    return body.lstrip()[:1] == b"<"


def _read_unframed(body: bytes) -> ErrorReport | None:
    try:
        return read_error(decoded(body))
    except NotJSONError:
        return read_words(body)


def _unframed(body: bytes) -> list[bytes]:
    """Return the data of all events in a body, and of the lines that name an error."""
    found: list[bytes] = []

    def on_line(line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"error":
            found.append(value)

    decoder = EventStreamDecoder(lambda _, data: found.append(data), on_line=on_line, max_event_bytes=len(body) + 1)
    decoder.feed(body)
    last = decoder.finish()
    return found if last is None else [*found, last[1]]


_NO_ERROR: tuple[object, ...] = (None, False, "", [])
_SUCCESS = frozenset({0, 200, "0", "200"})
_STATUS = re.compile(r"\W*(?:(?:error|failed|http(?:/\d(?:\.\d)?)?|status|code)\b[\s:=(]*)*([45]\d\d)\b", re.IGNORECASE)
_HEADLINE = re.compile(r"<(title|h1)\b[^>]*>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_FIELD = re.compile(rb"^(?:data|error):", re.MULTILINE)
