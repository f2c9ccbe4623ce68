"""Read an error out of bytes that are no event of the protocol: JSON, a framed error, a web page, plain words. Pure."""

from __future__ import annotations

import html
import re

from rxauth.sources._errors import ErrorReport, read_error
from rxauth.sources._payload import NotJSONError, decoded
from rxauth.sources._sse import EventStreamDecoder, EventTooLargeError

_STATUS = re.compile(r"\W*(?:(?:error|failed|http(?:/\d(?:\.\d)?)?|status|code)\b[\s:=(]*)*([45]\d\d)\b", re.IGNORECASE)
_HEADLINE = re.compile(r"<(title|h1)\b[^>]*>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_FIELD = re.compile(rb"^(?:data|error):", re.MULTILINE)


def read_body(body: bytes) -> ErrorReport | None:
    """Read the error of a whole body, whatever form it has; `None` if the body says nothing.

    >>> read_body(b'{"error": {"type": "overloaded_error", "message": "Overloaded"}}')
    ErrorReport(message='Overloaded', type='overloaded_error', code=None)
    >>> read_body(b'event: error\\ndata: {"code": 401, "msg": "token expired"}\\n\\n')
    ErrorReport(message='token expired', type=None, code=401)
    >>> read_body(b"<html><head><title>502 Bad Gateway</title></head></html>")
    ErrorReport(message='502 Bad Gateway', type=None, code=502)
    >>> read_body(b"Error: 401 token expired")
    ErrorReport(message='Error: 401 token expired', type=None, code=401)
    """
    try:
        return read_error(decoded(body))
    except NotJSONError:
        pass
    if is_page(body):
        return read_words(headline(body))
    if _FIELD.search(body):
        return _read_framed(body)
    return read_words(body.decode("utf-8", "replace"))


def read_words(text: str) -> ErrorReport | None:
    """Read an error out of a plain text; a status at its beginning is the code."""
    if not text.strip():
        return None
    status = _STATUS.match(text)
    return ErrorReport(text, None, int(status[1]) if status else None)


def is_page(body: bytes) -> bool:
    """Return whether the body is HTML or XML."""
    return body.lstrip()[:1] == b"<"


def headline(page: bytes) -> str:
    """Return the title of a page, or else its first heading, or else its text."""
    text = page.decode("utf-8", "replace")
    found = _HEADLINE.search(text)
    return " ".join(html.unescape(_TAG.sub(" ", found[2] if found else text)).split())


def _read_framed(body: bytes) -> ErrorReport | None:
    found: list[ErrorReport | None] = []

    def on_line(line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field == b"error":
            found.append(read_body(value))

    decoder = EventStreamDecoder(
        lambda _, data: found.append(read_body(data)), on_line=on_line, max_event_bytes=len(body) + 1
    )
    try:
        decoder.feed(body)
        if (last := decoder.finish()) is not None:
            found.append(read_body(last[1]))
    except (EventTooLargeError, RecursionError):
        return None
    return next((each for each in found if each is not None), None)
