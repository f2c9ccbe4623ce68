"""The vocabulary of an assistant's answer: what a stream consists of.

    start  (text_start text_delta* text_end | thinking_start ... | toolcall_start ...)*  done
    start  ...                                                                            error

Every event is immutable and has a `type`. Blocks are numbered by `content_index`, their place in the message's
`content`. All of it encodes with `to_json`; nothing here knows a provider or does I/O.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

__all__ = [
    "AssistantMessage",
    "AssistantEvent",
    "Block",
    "Text",
    "Thinking",
    "ToolCall",
    "Usage",
    "Start",
    "TextStart",
    "TextDelta",
    "TextEnd",
    "ThinkingStart",
    "ThinkingDelta",
    "ThinkingEnd",
    "ToolCallStart",
    "ToolCallDelta",
    "ToolCallEnd",
    "Done",
    "DoneReason",
    "Error",
    "ErrorReason",
    "Ping",
    "to_json",
    "with_content",
]

DoneReason: TypeAlias = Literal["stop", "length", "toolUse", "refusal"]
ErrorReason: TypeAlias = Literal["error", "aborted"]


class Text(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """A block of text."""

    type: ClassVar[Literal["text"]] = "text"
    text: str


class Thinking(msgspec.Struct, frozen=True, tag_field="type", tag="thinking"):
    """A block of thinking.

    `signature` is the provider's proof of it, to be sent back unchanged; for a `redacted` block it is the encrypted
    thinking itself and `thinking` is empty.
    """

    type: ClassVar[Literal["thinking"]] = "thinking"
    thinking: str
    signature: str | None = None
    redacted: bool = False


class ToolCall(msgspec.Struct, frozen=True, tag_field="type", tag="toolCall"):
    """A call of a tool.

    `arguments_json` is what the model wrote. `arguments` is a fresh dict of it at each access, so nobody can change
    what somebody else was given; it is empty where the model wrote no JSON object (an answer cut off by its length
    limit).

    >>> ToolCall("call_1", "weather", '{"city": "Paris"}').arguments
    {'city': 'Paris'}
    >>> ToolCall("call_1", "weather", '{"city": "Pa').arguments
    {}
    """

    type: ClassVar[Literal["toolCall"]] = "toolCall"
    id: str
    name: str
    arguments_json: str = ""

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments, parsed."""
        try:
            parsed = msgspec.json.decode(self.arguments_json)
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):  # a model can write anything
            return {}
        return parsed if isinstance(parsed, dict) else {}


Block: TypeAlias = Text | Thinking | ToolCall


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens, as the provider counted them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class AssistantMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What the assistant said: so far, or in the end.

    `stop_reason` is `None` while it is being said; `stop_details` is the provider's own word for why it stopped.
    """

    role: ClassVar[Literal["assistant"]] = "assistant"
    content: tuple[Block, ...] = ()
    id: str | None = None
    model: str | None = None
    usage: Usage = Usage()
    stop_reason: DoneReason | ErrorReason | None = None
    stop_details: str | None = None
    error_message: str | None = None

    @property
    def text(self) -> str:
        """All its text blocks, joined."""
        return "".join(block.text for block in self.content if isinstance(block, Text))


class Start(msgspec.Struct, frozen=True, tag_field="type", tag="start"):
    """The stream was subscribed to. The provider has not necessarily answered."""

    type: ClassVar[Literal["start"]] = "start"
    message: AssistantMessage = AssistantMessage()


class TextStart(msgspec.Struct, frozen=True, tag_field="type", tag="text_start"):
    """A block of text begins."""

    type: ClassVar[Literal["text_start"]] = "text_start"
    content_index: int


class TextDelta(msgspec.Struct, frozen=True, tag_field="type", tag="text_delta"):
    """The next piece of a block of text."""

    type: ClassVar[Literal["text_delta"]] = "text_delta"
    content_index: int
    delta: str


class TextEnd(msgspec.Struct, frozen=True, tag_field="type", tag="text_end"):
    """A block of text is complete: `content` is its deltas joined."""

    type: ClassVar[Literal["text_end"]] = "text_end"
    content_index: int
    content: str


class ThinkingStart(msgspec.Struct, frozen=True, tag_field="type", tag="thinking_start"):
    """A block of thinking begins."""

    type: ClassVar[Literal["thinking_start"]] = "thinking_start"
    content_index: int


class ThinkingDelta(msgspec.Struct, frozen=True, tag_field="type", tag="thinking_delta"):
    """The next piece of a block of thinking."""

    type: ClassVar[Literal["thinking_delta"]] = "thinking_delta"
    content_index: int
    delta: str


class ThinkingEnd(msgspec.Struct, frozen=True, tag_field="type", tag="thinking_end"):
    """A block of thinking is complete: `content` is its deltas joined."""

    type: ClassVar[Literal["thinking_end"]] = "thinking_end"
    content_index: int
    content: str
    signature: str | None = None
    redacted: bool = False


class ToolCallStart(msgspec.Struct, frozen=True, tag_field="type", tag="toolcall_start"):
    """A tool call begins."""

    type: ClassVar[Literal["toolcall_start"]] = "toolcall_start"
    content_index: int
    id: str
    name: str


class ToolCallDelta(msgspec.Struct, frozen=True, tag_field="type", tag="toolcall_delta"):
    """The next piece of a tool call's arguments: partial JSON."""

    type: ClassVar[Literal["toolcall_delta"]] = "toolcall_delta"
    content_index: int
    delta: str


class ToolCallEnd(msgspec.Struct, frozen=True, tag_field="type", tag="toolcall_end"):
    """A tool call is complete."""

    type: ClassVar[Literal["toolcall_end"]] = "toolcall_end"
    content_index: int
    tool_call: ToolCall


class Done(msgspec.Struct, frozen=True, tag_field="type", tag="done"):
    """The answer is complete. Nothing comes after it."""

    type: ClassVar[Literal["done"]] = "done"
    reason: DoneReason
    message: AssistantMessage


class Error(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    """The answer failed. Nothing comes after it; what had been said so far is in `error`.

    `cause` is the typed exception (see `rxauth.errors`).
    """

    type: ClassVar[Literal["error"]] = "error"
    reason: ErrorReason
    error: AssistantMessage
    cause: Exception | None = None


class Ping(msgspec.Struct, frozen=True, tag_field="type", tag="ping"):
    """Report that the connection is alive; the answer is unchanged. Sources emit it only with `pings=True`."""

    type: ClassVar[Literal["ping"]] = "ping"


AssistantEvent: TypeAlias = (
    Start
    | TextStart
    | TextDelta
    | TextEnd
    | ThinkingStart
    | ThinkingDelta
    | ThinkingEnd
    | ToolCallStart
    | ToolCallDelta
    | ToolCallEnd
    | Done
    | Error
    | Ping
)


def to_json(value: AssistantEvent | AssistantMessage) -> str:
    """One line of JSON. A tool call's arguments are an object, a cause its type, status and sentence.

    >>> to_json(TextDelta(0, "hello"))
    '{"type":"text_delta","content_index":0,"delta":"hello"}'
    >>> to_json(ToolCallEnd(0, ToolCall("call_1", "weather", '{"city": "Paris"}')))
    '{"type":"toolcall_end","content_index":0,"tool_call":{"type":"toolCall","id":"call_1","name":"weather","arguments":{"city":"Paris"}}}'
    """
    return msgspec.json.encode(_plain(msgspec.to_builtins(value, enc_hook=_cause))).decode()


def with_content(event: Done | Error, content: tuple[Block, ...]) -> Done | Error:
    """The same end of an answer, of a message with other blocks.

    >>> with_content(Done("stop", AssistantMessage(content=(Text("a"), Text("b")))), (Text("b"),))  # doctest: +ELLIPSIS
    Done(reason='stop', message=AssistantMessage(content=(Text(text='b'),), ...
    """
    if isinstance(event, Done):
        return msgspec.structs.replace(event, message=msgspec.structs.replace(event.message, content=content))
    return msgspec.structs.replace(event, error=msgspec.structs.replace(event.error, content=content))


def _cause(value: object) -> Any:
    if isinstance(value, Exception):
        names = ("status", "code", "type", "retry_after", "request_id")
        told = {name: getattr(value, name, None) for name in names}
        return {"class": type(value).__name__, "message": str(value)} | {k: v for k, v in told.items() if v is not None}
    raise NotImplementedError


def _plain(value: Any) -> Any:
    """Tool calls with their arguments parsed, messages with their role, wherever they are inside."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        if value.get("type") == "toolCall":
            call = ToolCall(value["id"], value["name"], value["arguments_json"])
            return {"type": "toolCall", "id": call.id, "name": call.name, "arguments": call.arguments}
        plain = {name: _plain(each) for name, each in value.items()}
        return {"role": "assistant"} | plain if "stop_reason" in value else plain
    return value
