"""Read the body of a response, which may be of another protocol, and decide how its answer ends. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from rxauth.errors import ProtocolError, ProviderError, StreamCut
from rxauth.events import Api
from rxauth.sources._errors import ErrorReport, Exchange, read_error
from rxauth.sources._message import Answer, OpenToolCall
from rxauth.sources._payload import NotJSONError, decoded
from rxauth.sources._unframed import headline, is_page, read_body, read_words

_WORDS = 64 * 2**10  # bytes of unframed lines that are kept, enough for an error and its page
_JSON = 16 * 2**20  # bytes of them if they are JSON, which can be a whole answer


class Reader(ABC):
    """Turn the parts of an event stream into the events of an answer, until `answer.ended`.

    The content decides, not the frame: JSON outside of an event is read like an event, and a text outside of one is the
    error of an answer that is not complete.

    Args:
        answer: emits the events.
        exchange: makes the causes of errors.
        pings: whether a ping or a comment of the server is a `ping` event.
    """

    protocol: ClassVar[str]
    api: ClassVar[Api]

    def __init__(self, answer: Answer, exchange: Exchange, *, pings: bool = False) -> None:
        answer.api = self.api
        self.answer = answer
        self.exchange = exchange
        self._pings = pings
        self._recognized = False  # the body has had an event of this protocol
        self._foreign_text = ""  # the first object of another protocol, as text
        self._warning: ErrorReport | None = None  # an object that is an error if the answer does not become complete
        self._lines = bytearray()  # unframed lines
        self.is_cut = False  # set before `on_end` where the connection broke off

    @abstractmethod
    def on_event(self, name: bytes, data: bytes) -> None:
        """Handle the next event of the stream, unless the answer has ended."""

    @abstractmethod
    def on_object(self, body: dict[str, Any], name: str) -> None:
        """Handle an event whose data is decoded."""

    def on_data(self, name: bytes, data: bytes) -> None:
        """Handle an event of any kind: a ping, an object of any protocol, an error, the end mark, a text."""
        if name == b"ping":
            self.on_ping()
            return
        try:
            body = decoded(data)
        except NotJSONError:
            self._on_words(name, data)
            return
        report = read_error(body) if isinstance(body, list) or name == b"error" else None
        if report is not None or name == b"error":
            self.on_error(report or read_body(data))
        elif isinstance(body, dict):
            self.on_object(body, name.decode("utf-8", "replace"))
        else:
            self.fail(self.not_this_protocol(data.decode("utf-8", "replace")))

    def on_ping(self) -> None:
        """Handle a ping or a comment; its content is ignored."""
        if self._pings and not self.answer.ended:
            self.answer.ping()

    def on_line(self, line: bytes) -> None:
        """Handle a line outside of an event: an error, a page of HTML, a text."""
        if self.answer.ended:
            return
        field, _, value = line.partition(b":")
        text = line.strip()
        if field == b"error" and value:
            self.on_data(b"error", value.strip())
        elif self._lines[:1] not in _BRACKETS and _is_whole(text):
            self.on_data(b"", text)
        elif not self.is_cut:
            room = _JSON if (self._lines or text)[:1] in _BRACKETS else _WORDS
            self._lines += (line + b"\n")[: max(0, room - len(self._lines))]

    def on_end(self, rest: tuple[bytes, bytes] | None = None) -> None:
        """Handle the end of the body: the answer is complete if the end is clean and the reason for stopping is known.

        Args:
            rest: a last event without its empty line, which is read if its data is whole. A text is whole at a
                clean end only: otherwise it may end in half a token, which is not recognized and removed.
        """
        if rest is not None and (_is_whole(rest[1]) or not (self.is_cut or rest[1][:1] in _BRACKETS)):
            self.on_event(*rest)
        lines = bytes(self._lines).strip()
        if _is_whole(lines):
            self._lines.clear()
            self.on_event(b"", lines)
        if self.answer.ended:
            return
        if self.answer.stop_reason is not None and not self.is_cut:
            self.complete()
        else:
            self.fail(self.incomplete())

    def incomplete(self) -> ProviderError:
        """Return the error of an answer that is not complete, with the server's text if there is one."""
        lines = bytes(self._lines)
        report = self._warning or read_body(lines)
        if report is not None and (self._recognized or self._warning or self._is_known(report)):
            return self.exchange.failure(report)
        words = report.message if report is not None else self._foreign_text
        if not self._recognized and (words or not self.exchange.is_event_stream):
            return self.not_this_protocol(words)
        ended = "cut the stream off" if self.is_cut else "ended the stream"
        return self.exchange.error(StreamCut, f"{self.exchange.host} {ended} before the answer was complete.")

    def complete(self) -> None:
        """Complete the answer, unless it has a tool call that no program can run."""
        calls = [block for block in self.answer.blocks if isinstance(block, OpenToolCall)]
        if all(call.name for call in calls):
            self.answer.done()
        else:
            sentence = f"{self.exchange.host} sent a tool call without a name; its arguments are in the message."
            self.fail(self.exchange.error(ProtocolError, sentence))

    def not_this_protocol(self, words: str = "") -> ProtocolError:
        """Return the error of a body of another protocol; its text quotes the beginning of `words`."""
        exchange = self.exchange
        shown = exchange.clean(words, 80)
        sentence = (
            f"{exchange.host} did not answer with {self.protocol} events, but with "
            f"{exchange.content_type or 'no content type'}{f' ({shown})' if shown else ''}: "
            "check the base URL and the protocol."
        )
        return exchange.error(ProtocolError, sentence)

    def on_error(self, report: ErrorReport | None) -> None:
        """End the answer with an error of the provider."""
        self.fail(self.exchange.failure(report or ErrorReport()))

    def fail(self, cause: ProviderError) -> None:
        self.answer.fail(cause, str(cause))

    def on_foreign_object(self, body: Mapping[str, Any]) -> None:
        """Handle an object of another protocol: an error, or a warning that is one if the answer stays incomplete."""
        report = read_error(body)
        if report is not None and is_error(body, report):
            self.on_error(report)
            return
        self._warning = self._warning or report
        self._foreign_text = self._foreign_text or str(body)[:_WORDS]

    def _on_words(self, name: bytes, data: bytes) -> None:
        text = data.decode("utf-8", "replace").strip()
        if text == "[DONE]":
            self.on_end_mark()
        elif name == b"error" and not text:
            self.on_error(None)
        elif text:
            report = read_words(headline(data) if is_page(data) else text)
            if report is not None and (name == b"error" or self._recognized or self._is_known(report)):
                self.on_error(report)
            else:
                self.fail(self.not_this_protocol(text if report is None else report.message))

    def on_end_mark(self) -> None:
        """Handle `[DONE]`: the answer is complete if it has begun."""
        report = read_body(bytes(self._lines))
        is_failed = self._warning is not None or (report is not None and self._is_known(report))
        if self._recognized and (self.answer.stop_reason is not None or not is_failed):
            self.complete()
        else:
            self.fail(self.incomplete())

    def _is_known(self, report: ErrorReport) -> bool:
        """Return whether the text of a report shows by itself that it is an error."""
        is_called_error = report.message.lstrip().casefold().startswith("error")
        return report.code is not None or is_called_error or type(self.exchange.failure(report)) is not ProviderError


_BRACKETS = (b"{", b"[")
_SUCCESS = ("ok", "success", "succeeded")


def is_error(body: Mapping[str, Any], report: ErrorReport) -> bool:
    """Return whether an object is an error for certain; one that has only a message may be a notice."""
    if any(body.get(name) for name in ("error", "errors", "error_message", "error_type", "errorMessage")):
        return True
    if isinstance(report.code, int):
        return report.code != 0 and not 200 <= report.code < 300
    if isinstance(report.code, str):
        return report.code.casefold() not in _SUCCESS
    return "error" in str(body.get("type")).casefold() or body.get("object") == "error" or body.get("success") is False


def _is_whole(text: bytes) -> bool:
    """Return whether the text is one JSON object or list, or the end mark."""
    if text[:1] + text[-1:] in (b"{}", b"[]"):
        try:
            decoded(text)
        except NotJSONError:
            return text == b"[DONE]"
        return True
    return False
