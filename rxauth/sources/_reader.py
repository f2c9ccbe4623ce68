"""What the readers of the protocols share: how an answer ends that does not end well. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from rxauth.errors import ProtocolError, ProviderError, StreamCut
from rxauth.sources._errors import Exchange, Told
from rxauth.sources._message import Answer


class Reader(ABC):
    """Server-sent events in, the events of an answer out. The answer's `ended` says when there is no more to read.

    Args:
        answer: emits the events.
        exchange: makes the causes of errors.
    """

    protocol: ClassVar[str]

    def __init__(self, answer: Answer, exchange: Exchange) -> None:
        self.answer = answer
        self.exchange = exchange
        self._understood = False  # something came that only this protocol sends
        self._strange = False  # something came that it does not send

    @abstractmethod
    def on_event(self, name: bytes, data: bytes) -> None:
        """The next event of the stream. Ignored once the answer has ended."""

    def on_end(self) -> None:
        """The body has ended, cleanly. That is an end of the answer too, if the reason for stopping was told."""
        if self.answer.ended:
            return
        if self.answer.stop_reason is not None:
            self.complete()
        elif not self._understood and (self._strange or not self.exchange.is_event_stream):
            self.fail(self.not_this_protocol())
        else:
            sentence = f"{self.exchange.host} ended the stream before the answer was complete."
            self.fail(self.exchange.error(StreamCut, sentence))

    def complete(self) -> None:
        """The answer is complete."""
        self.answer.done()

    def not_this_protocol(self, what: str = "") -> ProtocolError:
        """What came is not of this protocol. `what`: its beginning is shown, for a person to recognise."""
        exchange = self.exchange
        shown = exchange.clean(what, 80)
        sentence = (
            f"{exchange.host} did not answer with {self.protocol} events, but with "
            f"{exchange.content_type or 'no content type'}{f' ({shown})' if shown else ''}: "
            "check the base URL and the protocol."
        )
        return exchange.error(ProtocolError, sentence)

    def told(self, error: Told | None) -> None:
        """The provider told an error in-band."""
        self.fail(self.exchange.failure(error or Told()))

    def fail(self, cause: ProviderError) -> None:
        self.answer.fail(cause, str(cause))
