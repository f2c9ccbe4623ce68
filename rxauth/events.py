"""The vocabulary of an assistant's answer: the events of a stream, and the message that they build.

    start  (text_start text_delta* text_end | thinking_start ... | toolcall_start ...)*  done
    start  ...                                                                            error

Every event is immutable and has a `type`. A block's `content_index` is its place in the message's `content`.
Data of a provider that no event announces stay on the blocks, so that a message can be sent back whole: `extra` holds
further fields of a block, `after` the blocks that follow it and belong to the provider, such as a tool that it
ran itself and the tool's result. `to_json` encodes all of it. Nothing here knows a provider or does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from rxauth.errors import field

__all__ = [
    "Api",
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
    "message_from_json",
    "to_json",
    "with_content",
]

Api: TypeAlias = Literal["anthropic-messages", "openai-chat"]
DoneReason: TypeAlias = Literal["stop", "length", "toolUse", "refusal", "pause"]
ErrorReason: TypeAlias = Literal["error", "aborted"]


class _Block(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a block that no event announces, as JSON."""

    extra_json: str = ""
    after_json: str = ""

    @property
    def extra(self) -> dict[str, Any]:
        """The further fields, in a fresh dict."""
        return _object(self.extra_json) or {}

    @property
    def after(self) -> list[dict[str, Any]]:
        """The provider's own blocks that follow, in a fresh list."""
        after: list[dict[str, Any]] = msgspec.json.decode(self.after_json) if self.after_json else []
        return after


class Text(_Block, frozen=True, tag_field="type", tag="text", repr_omit_defaults=True):
    """A block of text."""

    type: ClassVar[Literal["text"]] = "text"
    text: str


class Thinking(_Block, frozen=True, tag_field="type", tag="thinking", repr_omit_defaults=True):
    """A block of thinking.

    `signature` is the provider's proof of it and has to be sent back unchanged. In a `redacted` block it is the
    encrypted thinking itself, and `thinking` is empty. `field` names the field that the thinking came in, where an API
    has several (`reasoning_content`, `reasoning`, ...).
    """

    type: ClassVar[Literal["thinking"]] = "thinking"
    thinking: str
    signature: str | None = None
    redacted: bool = False
    field: str = ""


class ToolCall(_Block, frozen=True, tag_field="type", tag="toolCall", repr_omit_defaults=True):
    """A call of a tool.

    `arguments_json` is the text that the model wrote. A `custom` tool takes free text instead of JSON.

    >>> ToolCall("call_1", "weather", '{"city": "Paris"}').arguments
    {'city': 'Paris'}
    >>> ToolCall("call_1", "weather", '{"city": "Pa').arguments
    {'INVALID_JSON': '{"city": "Pa'}
    >>> ToolCall("call_1", "shell", "ls -la", custom=True).arguments
    {'input': 'ls -la'}
    """

    type: ClassVar[Literal["toolCall"]] = "toolCall"
    id: str
    name: str
    arguments_json: str = ""
    custom: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments, parsed into a fresh dict at each access.

        Text that is no JSON object stands under the key `INVALID_JSON`, because a tool must not run with the empty
        arguments of a broken call. No text, or `null`, means no arguments.
        """
        if self.custom:
            return {"input": self.arguments_json}
        parsed = {} if self.arguments_json.strip() in ("", "null") else _object(self.arguments_json)
        return {"INVALID_JSON": self.arguments_json} if parsed is None else parsed

    @property
    def has_invalid_arguments(self) -> bool:
        """Whether the model wrote something other than a JSON object."""
        return self.arguments == {"INVALID_JSON": self.arguments_json}


Block: TypeAlias = Text | Thinking | ToolCall


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens, as the provider counted them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class AssistantMessage(msgspec.Struct, frozen=True, kw_only=True):
    """An assistant's answer, so far or complete.

    `stop_reason` is `None` while the answer grows; `stop_details` is the provider's own word for why it stopped. After
    `pause` the provider continues as soon as the message is sent back. `api` is the format that the message came in:
    signatures and extras go back to it alone (see `rxauth.messages`).
    """

    role: ClassVar[Literal["assistant"]] = "assistant"
    content: tuple[Block, ...] = ()
    id: str | None = None
    model: str | None = None
    usage: Usage = Usage()
    stop_reason: DoneReason | ErrorReason | None = None
    stop_details: str | None = None
    error_message: str | None = None
    api: Api | None = None

    @property
    def text(self) -> str:
        """The text blocks, joined."""
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
    """The answer failed. Nothing comes after it; the message so far is in `error`.

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
    """Encode as one line of JSON. A tool call's arguments are an object, a cause its type, status and sentence.

    A call whose arguments are no JSON object says so: `"invalid_arguments": true`, and the text itself stands under
    `INVALID_JSON`.

    >>> to_json(TextDelta(0, "hello"))
    '{"type":"text_delta","content_index":0,"delta":"hello"}'
    >>> to_json(ToolCallEnd(0, ToolCall("call_1", "weather", '{"city": "Paris"}')))
    '{"type":"toolcall_end","content_index":0,"tool_call":{"type":"toolCall","id":"call_1","name":"weather","arguments":{"city":"Paris"}}}'
    """
    return msgspec.json.encode(_plain(value)).decode()


def with_content(event: Done | Error, content: tuple[Block, ...]) -> Done | Error:
    """Copy an end of an answer, with other blocks in its message.

    >>> with_content(Done("stop", AssistantMessage(content=(Text("a"), Text("b")))), (Text("b"),))  # doctest: +ELLIPSIS
    Done(reason='stop', message=AssistantMessage(content=(Text(text='b'),), ...
    """
    name = "message" if isinstance(event, Done) else "error"
    message = msgspec.structs.replace(getattr(event, name), content=content)
    return msgspec.structs.replace(event, **{name: message})


_ONLY_IF_SET = {"field", "custom", "extra_json", "after_json"}


def _plain(value: Any) -> Any:
    """Convert an event, and all that is in it, into what JSON has."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Exception):
        facts = ("status", "code", "type", "retry_after", "request_id")
        found = {name: fact for name in facts if (fact := getattr(value, name, None)) is not None}
        return {"class": type(value).__name__, "message": str(value)} | found
    if not isinstance(value, msgspec.Struct):
        return value
    plain = {name: getattr(value, name) for name in ("type", "role") if hasattr(value, name)}
    for name in value.__struct_fields__:
        parsed = name.removesuffix("_json")  # the property that parses a field of JSON text
        if name not in _ONLY_IF_SET or getattr(value, name):
            plain[parsed] = _plain(getattr(value, parsed))
    if isinstance(value, ToolCall) and value.has_invalid_arguments:
        plain["invalid_arguments"] = True
    return plain


def message_from_json(value: object) -> AssistantMessage | None:
    """Read a message from its decoded JSON (see `to_json`); `None` if it is none.

    >>> message_from_json({"content": [{"type": "text", "text": "Hello"}], "stop_reason": "stop"}).text
    'Hello'
    """
    content = value.get("content") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(content, list | tuple):
        return None
    try:
        return msgspec.convert({**value, "content": [_block_fields(each) for each in content]}, AssistantMessage)
    except msgspec.ValidationError:
        return None


def _block_fields(plain: Any) -> Any:
    if not isinstance(plain, Mapping):
        return plain
    fields = {**plain, "extra_json": _json(plain.get("extra")), "after_json": _json(plain.get("after"))}
    return fields | ({"arguments_json": arguments_text(plain)} if plain.get("type") == "toolCall" else {})


def arguments_text(call: Any) -> str:
    """Return the text of a tool call's arguments, given the call as `to_json` encodes it, or an object like that."""
    arguments = field(call, "arguments")
    if isinstance(arguments, Mapping) and (field(call, "custom") or field(call, "invalid_arguments")):
        text = next(iter(arguments.values()), "")
        return text if isinstance(text, str) else ""
    return _json(arguments)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode() if isinstance(value, Mapping | list) else ""


def _object(text: str) -> dict[str, Any] | None:
    """Decode a JSON object; `None` for any other text."""
    try:
        parsed = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):  # a model can write anything
        return None
    return parsed if isinstance(parsed, dict) else None
