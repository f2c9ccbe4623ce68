"""The message that a stream builds, block by block, and the events that say so. Pure: knows no provider."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeAlias, TypeVar

from rxauth.events import (
    AssistantEvent,
    AssistantMessage,
    Block,
    Done,
    DoneReason,
    Error,
    ErrorReason,
    Text,
    TextDelta,
    TextEnd,
    TextStart,
    Thinking,
    ThinkingDelta,
    ThinkingEnd,
    ThinkingStart,
    ToolCall,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
)

Emit: TypeAlias = Callable[[AssistantEvent], None]


class OpenBlock(ABC):
    """A block that is being said: its start has been emitted; deltas and one end follow."""

    __slots__ = ("_emit", "_text", "_write", "index", "is_open")

    _delta: ClassVar[type[TextDelta | ThinkingDelta | ToolCallDelta]]

    def __init__(self, index: int, emit: Emit) -> None:
        self.index = index
        self.is_open = True
        self._emit = emit
        self._text = io.StringIO()  # grows with the text alone; a list would keep an object for every delta
        self._write = self._text.write

    def add(self, delta: str) -> None:
        """The next piece. An empty one is not an event."""
        if delta:
            self._write(delta)
            self._emit(self._delta(self.index, delta))

    def close(self) -> None:
        """The block is complete. A second time does nothing."""
        if self.is_open:
            self.is_open = False
            self._emit(self._end())

    @property
    def content(self) -> str:
        return self._text.getvalue()

    @abstractmethod
    def said(self) -> Block:
        """The block as far as it has been said."""

    @abstractmethod
    def _end(self) -> AssistantEvent: ...


class OpenText(OpenBlock):
    __slots__ = ()

    _delta = TextDelta

    def said(self) -> Text:
        return Text(self.content)

    def _end(self) -> TextEnd:
        return TextEnd(self.index, self.content)


class OpenThinking(OpenBlock):
    __slots__ = ("redacted", "signature")

    _delta = ThinkingDelta

    def __init__(self, index: int, emit: Emit) -> None:
        super().__init__(index, emit)
        self.signature: list[str] = []
        self.redacted = False

    def said(self) -> Thinking:
        return Thinking(self.content, "".join(self.signature) or None, self.redacted)

    def _end(self) -> ThinkingEnd:
        said = self.said()
        return ThinkingEnd(self.index, said.thinking, said.signature, said.redacted)


class OpenToolCall(OpenBlock):
    __slots__ = ("id", "name", "whole")

    _delta = ToolCallDelta

    def __init__(self, index: int, emit: Emit, id: str, name: str) -> None:
        super().__init__(index, emit)
        self.id = id
        self.name = name
        self.whole = ""  # arguments that came in one piece at the start; they count if no deltas follow

    def close(self) -> None:
        if not self.content:
            self.add(self.whole)
        super().close()

    def said(self) -> ToolCall:
        return ToolCall(self.id, self.name, self.content or self.whole)

    def _end(self) -> ToolCallEnd:
        return ToolCallEnd(self.index, self.said())


B = TypeVar("B", bound=OpenBlock)


class Answer:
    """The message so far. Blocks are numbered in the order in which they open; nothing follows `done` or `fail`."""

    __slots__ = ("_blocks", "_emit", "cause", "ended", "id", "model", "stop_details", "stop_reason", "usage")

    def __init__(self, emit: Emit) -> None:
        self.ended = False
        self.cause: Exception | None = None
        self.id: str | None = None
        self.model: str | None = None
        self.usage = Usage()
        self.stop_reason: DoneReason | None = None
        self.stop_details: str | None = None
        self._emit = emit
        self._blocks: list[OpenBlock] = []

    def open_text(self) -> OpenText:
        block = OpenText(len(self._blocks), self._emit)
        return self._open(block, TextStart(block.index))

    def open_thinking(self) -> OpenThinking:
        block = OpenThinking(len(self._blocks), self._emit)
        return self._open(block, ThinkingStart(block.index))

    def open_tool_call(self, id: str = "", name: str = "") -> OpenToolCall:
        index = len(self._blocks)
        # The caller answers a call by its id; one without could not be told from the next.
        block = OpenToolCall(index, self._emit, id or f"{self.id or 'call'}_{index}", name)
        return self._open(block, ToolCallStart(index, block.id, name))

    def _open(self, block: B, start: AssistantEvent) -> B:
        self._blocks.append(block)
        self._emit(start)
        return block

    def done(self) -> None:
        """Complete: close what is open, in order, and say so."""
        self.ended = True
        for block in self._blocks:
            block.close()
        reason = self.stop_reason or "stop"
        if reason == "stop" and any(isinstance(block, OpenToolCall) for block in self._blocks):
            # Some providers say "stop" for a forced tool call; a caller who believes it would not answer the call.
            reason = "toolUse"
        self._emit(Done(reason, self._message(reason)))

    def fail(self, cause: Exception, message: str) -> None:
        """Failed: what is open stays open (a tool call cut off is not one to run), and is kept in the message.

        Does nothing once the answer has ended: what is broken behind a complete answer breaks nothing.
        """
        if self.ended:
            return
        self.ended = True
        self.cause = cause
        self._emit(Error("error", self._message("error", message), cause))

    def _message(self, reason: DoneReason | ErrorReason, error: str | None = None) -> AssistantMessage:
        return AssistantMessage(
            content=tuple(block.said() for block in self._blocks),
            id=self.id,
            model=self.model,
            usage=self.usage,
            stop_reason=reason,
            stop_details=self.stop_details,
            error_message=error,
        )
