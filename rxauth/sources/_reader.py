"""Read the body of a response, which may be of another protocol, and decide how its answer ends. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from rxauth.errors import ProtocolError, ProviderError, StreamCut
from rxauth.events import Api, Ping
from rxauth.failures import Kind
from rxauth.sources._errors import Exchange
from rxauth.sources._json import NotJSONError, decoded
from rxauth.sources._message import Answer, Emit, OpenToolCall
from rxauth.sources._reports import ErrorReport, is_error, read_body, read_error, read_words

_WORDS = 64 * 2**10  # bytes of unframed lines that are kept, enough for an error and its page
_JSON = 16 * 2**20  # bytes of them if they are JSON, which can be a whole answer


class Reader(ABC):
    """Turn the parts of an event stream into the events of an answer, until `answer.ended`.

    The content decides, not the frame: JSON outside of an event is read like an event, and a text outside of one is the
    error of an answer that is not complete.

    Args:
        emit: receives the events.
        exchange: makes the causes of errors.
        pings: whether a ping or a comment of the server is a `ping` event.
    """

    protocol: ClassVar[str]
    api: ClassVar[Api]

    def __init__(self, emit: Emit, exchange: Exchange, *, pings: bool = False) -> None:
        self.answer = Answer(emit, self.api)
        self.exchange = exchange
        self.is_cut = False  # set before `on_end` where the connection broke off
        self._pings = pings
        self._recognized = False  # the body has had an event of this protocol
        self._foreign_text = ""  # the first object of another protocol, as text
        self._warning: ErrorReport | None = None  # an object that is an error if the answer does not become complete
        self._lines = bytearray()  # unframed lines

    @abstractmethod
    def on_event(self, name: bytes, data: bytes) -> None:
        """Handle the next event of the stream, unless the answer has ended."""

    @abstractmethod
    def on_object(self, body: dict[str, Any], name: str) -> None:
        """Handle an event whose data is decoded."""

    @abstractmethod
    def settle(self) -> None:
        """Settle what waits for the end: the answer is about to be completed, or to fail."""

    def on_data(self, name: bytes, data: bytes) -> None:
        """Handle an event of any kind: a ping, an object of any protocol, an error, the end mark, a text."""
        if name == b"ping":
            self.on_ping()
            return
        try:
            body = decoded(data)
        except NotJSONError:
            self._on_words(name, data.strip())
            return
        report = read_error(body) if isinstance(body, list) or name == b"error" else None
        if report is not None or name == b"error":
            self.on_error(report)
        elif isinstance(body, dict):
            self.on_object(body, name.decode("utf-8", "replace"))
        else:
            self.fail(self.not_this_protocol(data.decode("utf-8", "replace")))

    def on_ping(self) -> None:
        """Handle a ping or a comment; its content is ignored."""
        if self._pings and not self.answer.ended:
            self.answer.emit(Ping())

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
            self._fail_incomplete()

    def complete(self) -> None:
        """Complete the answer, unless it has a tool call that no program can run."""
        self.settle()
        if all(block.name for block in self.answer.blocks if isinstance(block, OpenToolCall)):
            self.answer.done()
        else:
            sentence = f"{self.exchange.host} sent a tool call without a name; its arguments are in the message."
            self.fail(self.exchange.error(ProtocolError, sentence))

    def fail(self, cause: ProviderError) -> None:
        """End the answer with an error, unless it has ended: damage after a complete answer is no failure."""
        if not self.answer.ended:
            self.settle()
            self.answer.fail(cause, str(cause))

    def on_error(self, report: ErrorReport | None) -> None:
        """End the answer with an error of the provider."""
        self.fail(self.exchange.failure(report or ErrorReport()))

    def on_foreign_object(self, body: dict[str, Any]) -> None:
        """Handle an object of another protocol: an error, or a warning that is one if the answer stays incomplete."""
        report = read_error(body)
        if report is not None and is_error(body, report):
            self.on_error(report)
            return
        self._warning = self._warning or report
        self._foreign_text = self._foreign_text or str(body)[:_WORDS]

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

    def _on_words(self, name: bytes, data: bytes) -> None:
        if data == b"[DONE]":
            self._on_end_mark()
            return
        report = read_words(data)
        if name == b"error" or (report is not None and (self._recognized or self._is_known(report))):
            self.on_error(report)
        elif data:
            self.fail(self.not_this_protocol(report.message if report is not None else data.decode("utf-8", "replace")))

    def _on_end_mark(self) -> None:
        """Handle `[DONE]`: the answer is complete if it has begun and no error came instead of its end."""
        report = read_body(bytes(self._lines))
        is_failed = self._warning is not None or (report is not None and self._is_known(report))
        if self._recognized and (self.answer.stop_reason is not None or not is_failed):
            self.complete()
        else:
            self._fail_incomplete()

    def _fail_incomplete(self) -> None:
        """Fail an answer that is not complete, with the server's text if there is one."""
        exchange = self.exchange
        report = self._warning or read_body(bytes(self._lines))
        if report is not None and (self._recognized or self._warning or self._is_known(report)):
            self.on_error(report)
            return
        words = report.message if report is not None else self._foreign_text
        if not self._recognized and (words or not exchange.is_event_stream):
            self.fail(self.not_this_protocol(words))
            return
        ended = "cut the stream off" if self.is_cut else "ended the stream"
        self.fail(exchange.error(StreamCut, f"{exchange.host} {ended} before the answer was complete."))

    def _is_known(self, report: ErrorReport) -> bool:
        """Return whether the text of a report shows by itself that it is an error."""
        is_called_error = report.message.lstrip().casefold().startswith("error")
        return report.code is not None or is_called_error or self.exchange.kind_of(report) is not Kind.UNKNOWN


_BRACKETS = (b"{", b"[")


def _is_whole(text: bytes) -> bool:
    """Return whether the text is one JSON object or list, or the end mark."""
    if text[:1] + text[-1:] not in (b"{}", b"[]"):
        return False
    try:
        decoded(text)
    except NotJSONError:
        return text == b"[DONE]"
    return True
