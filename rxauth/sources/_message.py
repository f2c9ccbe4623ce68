"""Build the message of a stream, block by block, and emit its events. Pure: knows no provider."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
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
    Ping,
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
    """Collect a block whose start has been emitted, and emit its deltas and its end."""

    __slots__ = ("_emit", "_text", "_write", "after", "extra", "index", "is_open")

    _delta: ClassVar[type[TextDelta | ThinkingDelta | ToolCallDelta]]

    def __init__(self, index: int, emit: Emit) -> None:
        self.index = index
        self.is_open = True
        self.extra: dict[str, Any] | None = None
        self.after: list[ProviderBlock] = []  # blocks without events, in the order in which they came
        self._emit = emit
        self._text = io.StringIO()  # a list would keep an object for every delta
        self._write = self._text.write

    def add(self, delta: str) -> None:
        """Add the next piece, and emit it unless it is empty."""
        if delta:
            self._write(delta)
            self._emit(self._delta(self.index, delta))

    def keep(self, extra: Mapping[str, Any]) -> None:
        """Keep fields of the provider that have no event; pieces of one field are joined."""
        self.extra = joined(self.extra, extra) if self.extra else dict(extra)

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
    def _end(self) -> AssistantEvent: ...

    def _kept_fields(self) -> dict[str, str]:
        after = [block.content for block in self.after]
        return {"extra_json": _encoded(self.extra), "after_json": _encoded(after)}


class OpenText(OpenBlock):
    __slots__ = ()

    _delta = TextDelta

    def block(self) -> Text:
        return Text(self.content, **self._kept_fields())

    def _end(self) -> TextEnd:
        return TextEnd(self.index, self.content)


class OpenThinking(OpenBlock):
    """Collect thinking. `repeated` is its text from fields that repeat it, used if no delta brings the text itself."""

    __slots__ = ("field", "redacted", "repeated", "signature")

    _delta = ThinkingDelta

    def __init__(self, index: int, emit: Emit) -> None:
        super().__init__(index, emit)
        self.signature = ""
        self.redacted = False
        self.field = ""
        self.repeated = ""

    def block(self) -> Thinking:
        text = self.content or self.repeated
        return Thinking(text, self.signature or None, self.redacted and not text, self.field, **self._kept_fields())

    def _end(self) -> ThinkingEnd:
        return ThinkingEnd(self.index, self.content, self.signature or None, self.redacted)


class OpenToolCall(OpenBlock):
    __slots__ = ("custom", "id", "name", "whole")

    _delta = ToolCallDelta

    def __init__(self, index: int, emit: Emit, id: str, name: str, custom: bool) -> None:
        super().__init__(index, emit)
        self.id = id
        self.name = name
        self.custom = custom
        self.whole = ""  # arguments that came in one piece at the start, used if no deltas follow

    def add(self, delta: str) -> None:
        """Add a piece of the arguments, unless it repeats all of them, as some servers do at the end."""
        if (
            delta[:1] == "{"
            and not self.custom
            and len(delta) == self._text.tell()
            and delta == self.content
            and is_complete(delta)
        ):
            return
        super().add(delta)

    def close(self) -> None:
        if self.is_open and not self.content:
            self.add(self.whole)
        super().close()

    def block(self) -> ToolCall:
        return ToolCall(self.id, self.name, self.content or self.whole, self.custom, **self._kept_fields())

    def _end(self) -> ToolCallEnd:
        return ToolCallEnd(self.index, self.block())


class ProviderBlock:
    """Collect a block without events. Its deltas bring its input as JSON, and further fields."""

    __slots__ = ("_data", "input_json")

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = dict(data)
        self.input_json = ""

    def keep(self, extra: Mapping[str, Any]) -> None:
        self._data = joined(self._data, extra)

    @property
    def content(self) -> dict[str, Any]:
        if not self.input_json:
            return self._data
        return self._data | {"input": ToolCall("", "", self.input_json).arguments}


B = TypeVar("B", bound=OpenBlock)


class Answer:
    """Build the message and emit its events. Blocks are numbered as they open; nothing follows `done` or `fail`."""

    __slots__ = ("_blocks", "_emit", "api", "cause", "ended", "id", "model", "stop_details", "stop_reason", "usage")

    def __init__(self, emit: Emit, api: Api | None = None) -> None:
        self.api = api
        self.ended = False
        self.cause: Exception | None = None
        self.id: str | None = None
        self.model: str | None = None
        self.usage = Usage()
        self.stop_reason: DoneReason | None = None
        self.stop_details: str | None = None
        self._emit = emit
        self._blocks: list[OpenBlock] = []

    @property
    def blocks(self) -> tuple[OpenBlock, ...]:
        return tuple(self._blocks)

    def open_text(self) -> OpenText:
        block = OpenText(len(self._blocks), self._emit)
        return self._open(block, TextStart(block.index))

    def open_thinking(self) -> OpenThinking:
        block = OpenThinking(len(self._blocks), self._emit)
        return self._open(block, ThinkingStart(block.index))

    def open_tool_call(self, id: str = "", name: str = "", custom: bool = False) -> OpenToolCall:
        index = len(self._blocks)
        # The caller answers a call by its id: without one it could not tell two calls apart.
        block = OpenToolCall(index, self._emit, id or f"{self.id or 'call'}_{index}", name, custom)
        return self._open(block, ToolCallStart(index, block.id, name))

    def add_provider_block(self, data: Mapping[str, Any]) -> ProviderBlock:
        """Keep a block without events after the last block, or after an empty text if it is the first."""
        if not self._blocks:
            self.open_text().close()
        block = ProviderBlock(data)
        self._blocks[-1].after.append(block)
        return block

    def _open(self, block: B, start: AssistantEvent) -> B:
        self._blocks.append(block)
        self._emit(start)
        return block

    def ping(self) -> None:
        """Emit that the connection is alive."""
        self._emit(Ping())

    def done(self) -> None:
        """Complete the answer: close the open blocks in order, then emit `done`."""
        self.ended = True
        for block in self._blocks:
            block.close()
        reason = self.stop_reason or "stop"
        if reason == "stop" and any(isinstance(block, OpenToolCall) for block in self._blocks):
            # Some providers send "stop" for a forced tool call: a caller that relies on it would not answer the call.
            reason = "toolUse"
        self._emit(Done(reason, self._message(reason)))

    def fail(self, cause: Exception, message: str) -> None:
        """End the answer with an error. Open blocks stay open (half a tool call must not run) and in the message.

        Does nothing once the answer has ended: damage after a complete answer is no failure.
        """
        if self.ended:
            return
        self.ended = True
        self.cause = cause
        self._emit(Error("error", self._message("error", message), cause))

    def _message(self, reason: DoneReason | ErrorReason, error: str | None = None) -> AssistantMessage:
        return AssistantMessage(
            content=tuple(block.block() for block in self._blocks),
            id=self.id,
            model=self.model,
            usage=self.usage,
            stop_reason=reason,
            stop_details=self.stop_details,
            error_message=error,
            api=self.api,
        )


def _encoded(value: object) -> str:
    return msgspec.json.encode(value).decode() if value else ""


def is_complete(text: str) -> bool:
    """Return whether the text is one whole JSON value."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return False
    return True


def joined(old: Any, new: Any) -> Any:
    """Join two pieces of one value: mappings by key, lists by their items' `index`, strings one after the other.

    A string that is repeated as it was, such as an id, stays as it is; so does a value followed by `null`.

    >>> joined({"id": "a", "text": "Hel"}, {"id": "a", "text": "lo", "data": None})
    {'id': 'a', 'text': 'Hello', 'data': None}
    >>> joined([{"index": 0, "text": "a"}], [{"index": 0, "text": "b"}, {"index": 1}])
    [{'index': 0, 'text': 'ab'}, {'index': 1}]
    """
    if new is None or old == new:
        return old
    if isinstance(old, dict) and isinstance(new, Mapping):
        return old | {name: joined(old.get(name), value) for name, value in new.items()}
    if isinstance(old, list) and isinstance(new, list):
        items = list(old)
        for item in new:
            last = items[-1] if items else None
            if _is_continued(last, item):
                items[-1] = joined(last, item)
            else:
                items.append(item)
        return items
    if isinstance(old, str) and isinstance(new, str):
        return old + new
    return new


def _is_continued(last: Any, item: Any) -> bool:
    return (
        isinstance(last, dict)
        and isinstance(item, dict)
        and isinstance(item.get("index"), int)
        and all(last.get(name) == item.get(name) for name in ("index", "type"))
    )
