"""Build the message of a stream, block by block, and emit its events. Pure: knows no provider."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias, TypeVar

import msgspec

from rxauth.events import (
    Api,
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
from rxauth.sources._json import is_complete

Emit: TypeAlias = Callable[[AssistantEvent], None]


class OpenBlock(ABC):
    """Collect a block, and emit its start, its deltas and its end; until it is opened, collect only.

    Attributes:
        whole: the text from a field that holds all of it; used if no delta brings the text.
        extra: fields of the provider that have no event.
        after: blocks without events that follow, in the order in which they came.
    """

    _delta: ClassVar[type[TextDelta | ThinkingDelta | ToolCallDelta]]

    def __init__(self) -> None:
        self.index = -1
        self.is_open = False
        self.whole = ""
        self.extra: dict[str, Any] = {}
        self.after: list[ProviderBlock] = []
        self._emit: Emit = lambda _: None
        self._text = io.StringIO()  # a list would keep an object for every delta
        self._write = self._text.write

    def open(self, index: int, emit: Emit) -> None:
        self.index, self.is_open, self._emit = index, True, emit
        emit(self._start())
        if self.content:
            emit(self._delta(index, self.content))

    def add(self, delta: str) -> None:
        """Add the next piece, and emit it unless it is empty."""
        if delta:
            self._write(delta)
            self._emit(self._delta(self.index, delta))

    def close(self) -> None:
        """Emit the end of the block, unless it is closed already."""
        if self.is_open:
            self.is_open = False
            self._emit(self._end())

    @property
    def content(self) -> str:
        return self._text.getvalue()

    @abstractmethod
    def block(self) -> Block:
        """Return the block with all pieces so far."""

    @abstractmethod
    def _start(self) -> AssistantEvent: ...

    @abstractmethod
    def _end(self) -> AssistantEvent: ...

    def _kept_fields(self) -> dict[str, str]:
        after = [block.content for block in self.after]
        return {"extra_json": _encoded(self.extra), "after_json": _encoded(after)}


class OpenText(OpenBlock):
    _delta = TextDelta

    def block(self) -> Text:
        return Text(self.content, **self._kept_fields())

    def _start(self) -> TextStart:
        return TextStart(self.index)

    def _end(self) -> TextEnd:
        return TextEnd(self.index, self.content)


class OpenThinking(OpenBlock):
    _delta = ThinkingDelta

    def __init__(self) -> None:
        super().__init__()
        self.signature = ""
        self.redacted = False
        self.field = ""

    def block(self) -> Thinking:
        text = self.content or self.whole
        return Thinking(text, self.signature or None, self.redacted and not text, self.field, **self._kept_fields())

    def _start(self) -> ThinkingStart:
        return ThinkingStart(self.index)

    def _end(self) -> ThinkingEnd:
        return ThinkingEnd(self.index, self.content, self.signature or None, self.redacted)


class OpenToolCall(OpenBlock):
    _delta = ToolCallDelta

    def __init__(self, id: str = "", name: str = "") -> None:
        super().__init__()
        self.id = id
        self.name = name
        self.custom = False

    def add(self, delta: str) -> None:
        """Add a piece of the arguments, unless it repeats all of them, as some servers do at the end."""
        may_repeat = delta[:1] == "{" and not self.custom and len(delta) == self._text.tell()
        if not (may_repeat and delta == self.content and is_complete(delta)):
            super().add(delta)

    def close(self) -> None:
        if self.is_open and not self.content:
            self.add(self.whole)
        super().close()

    def block(self) -> ToolCall:
        return ToolCall(self.id, self.name, self.content or self.whole, self.custom, **self._kept_fields())

    def _start(self) -> ToolCallStart:
        return ToolCallStart(self.index, self.id, self.name)

    def _end(self) -> ToolCallEnd:
        return ToolCallEnd(self.index, self.block())


class ProviderBlock:
    """Collect a block without events. Its deltas bring its input as JSON, and further fields (`extra`)."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.extra = data
        self.input_json = ""

    @property
    def content(self) -> dict[str, Any]:
        if not self.input_json:
            return self.extra
        return self.extra | {"input": ToolCall("", "", self.input_json).arguments}


B = TypeVar("B", bound=OpenBlock)


class Answer:
    """Build the message and emit its events. Blocks are numbered as they open; nothing follows `done` or `fail`."""

    def __init__(self, emit: Emit, api: Api | None = None) -> None:
        self.emit = emit
        self.blocks: list[OpenBlock] = []
        self.ended = False
        self.cause: Exception | None = None
        self.id: str | None = None
        self.model: str | None = None
        self.usage = Usage()
        self.stop_reason: DoneReason | None = None
        self.stop_details: str | None = None
        self._api = api

    def open(self, block: B) -> B:
        """Emit the start of a block, and what it has collected."""
        index = len(self.blocks)
        if isinstance(block, OpenToolCall) and not block.id:
            # The caller answers a call by its id: without one it could not tell two calls apart.
            block.id = f"{self.id or 'call'}_{index}"
        self.blocks.append(block)
        block.open(index, self.emit)
        return block

    def add_provider_block(self, data: dict[str, Any]) -> ProviderBlock:
        """Keep a block without events after the last block, or after an empty text if it is the first."""
        if not self.blocks:
            self.open(OpenText()).close()
        block = ProviderBlock(data)
        self.blocks[-1].after.append(block)
        return block

    def count(self, **tokens: object) -> None:
        """Store the numbers of tokens that are given, by the fields of `Usage`."""
        numbers = {name: count for name, count in tokens.items() if type(count) is int and count >= 0}
        self.usage = msgspec.structs.replace(self.usage, **numbers)

    def done(self) -> None:
        """Complete the answer: close the open blocks in order, then emit `done`."""
        self.ended = True
        for block in self.blocks:
            block.close()
        reason = self.stop_reason or "stop"
        if reason == "stop" and any(isinstance(block, OpenToolCall) for block in self.blocks):
            # Some providers send "stop" for a forced tool call: a caller that relies on it would not answer the call.
            reason = "toolUse"
        self.emit(Done(reason, self._message(reason)))

    def fail(self, cause: Exception, message: str) -> None:
        """End the answer with an error. Open blocks stay open (half a tool call must not run) and in the message."""
        self.ended = True
        self.cause = cause
        self.emit(Error("error", self._message("error", message), cause))

    def _message(self, reason: DoneReason | ErrorReason, error: str | None = None) -> AssistantMessage:
        return AssistantMessage(
            content=tuple(block.block() for block in self.blocks),
            id=self.id,
            model=self.model,
            usage=self.usage,
            stop_reason=reason,
            stop_details=self.stop_details,
            error_message=error,
            api=self._api,
        )


def _encoded(value: object) -> str:
    return msgspec.json.encode(value).decode() if value else ""
