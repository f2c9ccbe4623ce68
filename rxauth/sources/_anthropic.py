"""Read Anthropic Messages: server-sent events to assistant events, and the source that makes the request.

Protocol: https://docs.anthropic.com/en/docs/build-with-claude/streaming.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import aiohttp
import msgspec
from reactivex import Observable

from rxauth.events import AssistantEvent, DoneReason
from rxauth.sources._errors import Exchange
from rxauth.sources._http import stream
from rxauth.sources._json import MALFORMED, is_complete, joined, mapping, string
from rxauth.sources._message import Emit, OpenBlock, OpenText, OpenThinking, OpenToolCall, ProviderBlock
from rxauth.sources._reader import Reader
from rxauth.sources._reports import read_error
from rxauth.sources._request import MAX_EVENT_BYTES, AuthHeader, Call, encoded, endpoint, merged

if TYPE_CHECKING:
    from rxauth.credentials import CredentialSource


def anthropic_messages(
    request: Mapping[str, Any],
    *,
    base_url: str,
    credentials: CredentialSource,
    session: aiohttp.ClientSession | None = None,
    headers: Mapping[str, str] | None = None,
    auth_header: AuthHeader = "authorization",
    connect_timeout: float | None = 30.0,
    read_timeout: float | None = 300.0,
    max_event_bytes: int = MAX_EVENT_BYTES,
    pings: bool = False,
) -> Observable[AssistantEvent]:
    """Stream the answer to a request in the Anthropic Messages format, as a cold Observable of assistant events.

    Each subscription emits `start`, makes one request to `{base_url}/v1/messages`, and ends with exactly one `done` or
    `error`. An error's `cause` is a `ProviderError`, or what `credentials` raised. Dispose closes the connection.

    Args:
        request: the wire payload; `stream` is set here. It is copied now: changing it later changes nothing.
        base_url: `https://host` and perhaps a path; plain http for loopback only, since a token goes along.
        credentials: asked once per subscription, just before the request.
        session: is used, and left open. Without one, connections are kept while streams run on the loop, and a little
            longer after a rejected credential, so that the next attempt need not connect again.
        headers: more headers of the request; they may replace its own, except for those that carry the token.
        auth_header: where the token goes: `Authorization: Bearer`, or `x-api-key`.
        connect_timeout: seconds for name, connection and TLS together; `None` for no limit.
        read_timeout: seconds without a byte, from the request on; `None` for no limit. There is no total limit.
        max_event_bytes: a larger server-sent event ends the stream with a `ProtocolError`.
        pings: emit a `ping` event for each ping and comment of the server (see `limit_silence`).

    Raises:
        TypeError: `request` is not a mapping, or holds what JSON cannot; `credentials` is not a credential source.
        ValueError: `stream` is false in the request; the URL, a header or a limit cannot be used.

    A tool that the provider runs itself, and the tool's result, have no events; they are kept in the `after` of the
    block before them. After the reason `pause`, send the message back and the provider continues.

    >>> from rxauth.credentials import StaticCredentials
    >>> answer = anthropic_messages(
    ...     {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "hello"}]},
    ...     base_url="https://api.anthropic.com",
    ...     credentials=StaticCredentials("secret"),
    ...     auth_header="x-api-key",
    ... )
    """
    call = Call(
        url=endpoint(base_url, "/v1/messages"),
        body=encoded(request, {}),
        headers=merged({"anthropic-version": "2023-06-01"}, headers),
        auth_header=auth_header,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_event_bytes=max_event_bytes,
    )
    return stream(call, credentials, session, partial(MessagesReader, pings=pings))


class _TextDelta(msgspec.Struct, gc=False, tag_field="type", tag="text_delta"):
    for_block = OpenText
    piece: str = msgspec.field(name="text")


class _InputDelta(msgspec.Struct, gc=False, tag_field="type", tag="input_json_delta"):
    for_block = OpenToolCall
    piece: str = msgspec.field(name="partial_json")


class _ThinkingDelta(msgspec.Struct, gc=False, tag_field="type", tag="thinking_delta", forbid_unknown_fields=True):
    for_block = OpenThinking
    piece: str = msgspec.field(name="thinking")


class _DeltaEvent(msgspec.Struct, gc=False, tag_field="type", tag="content_block_delta"):
    """Type the frequent deltas: to decode each into a dict would cost as much as emitting its event."""

    index: int
    delta: _TextDelta | _InputDelta | _ThinkingDelta


_decode_delta = msgspec.json.Decoder(_DeltaEvent).decode

_DELTAS: dict[str, tuple[type[OpenBlock], str]] = {  # the block of each delta, and the field of its piece
    "text_delta": (OpenText, "text"),
    "input_json_delta": (OpenToolCall, "partial_json"),
    "thinking_delta": (OpenThinking, "thinking"),
    "signature_delta": (OpenThinking, ""),
}

_STOP_REASONS: dict[str, DoneReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "pause",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "toolUse",
    "refusal": "refusal",
}

_BLOCK_FIELDS = {  # fields of a block that have an attribute here; the others are kept as extra
    "text": ("type", "text"),
    "thinking": ("type", "thinking", "signature"),
    "redacted_thinking": ("type", "data"),
    "tool_use": ("type", "id", "name", "input"),
}


class MessagesReader(Reader):
    """Turn Anthropic's server-sent events into the events of the answer."""

    protocol: ClassVar[str] = "Anthropic Messages"
    api = "anthropic-messages"

    def __init__(self, emit: Emit, exchange: Exchange, *, pings: bool = False) -> None:
        super().__init__(emit, exchange, pings=pings)
        self._blocks: dict[int, OpenBlock | ProviderBlock] = {}  # the open blocks, by the provider's index
        self._block_at = self._blocks.get

    def on_event(self, name: bytes, data: bytes) -> None:
        if name == b"content_block_delta":
            try:
                event = _decode_delta(data)
            except MALFORMED:
                pass  # another delta, or one that on_data can repair
            else:
                block = self._block_at(event.index)  # `None` once the answer has ended
                if block is not None and block.__class__ is event.delta.for_block:
                    block.add(event.delta.piece)
                    return
        if not self.answer.ended:
            self.on_data(name, data)

    def settle(self) -> None:
        self._blocks.clear()

    def on_object(self, body: dict[str, Any], name: str) -> None:
        place = body.get("index")
        index = place if isinstance(place, int) else 0
        match string(body.get("type")) or name:
            case "content_block_delta":
                self._on_block_delta(index, mapping(body.get("delta")))
            case "content_block_start":
                self._on_block_start(index, mapping(body.get("content_block")))
            case "content_block_stop":
                self._on_block_stop(index)
            case "message_start":
                self._on_message_start(mapping(body.get("message")))
            case "message_delta":
                self._on_message_delta(mapping(body.get("delta")), body.get("usage"))
            case "message_stop":
                self.complete()
            case "message" if isinstance(body.get("content"), list | str):  # a whole answer in place of a stream
                self._on_message_start(body)
                self._on_message_delta(body, None)
                self.complete()
            case "ping":
                self.on_ping()
            case "error":
                self.on_error(read_error(body))
            case _:
                self.on_foreign_object(body)  # ignored unless it is an error: the protocol may grow

    def _on_message_start(self, message: dict[str, Any]) -> None:
        self._recognized = True
        self.answer.id = string(message.get("id")) or self.answer.id
        self.answer.model = string(message.get("model")) or self.answer.model
        self._count(message.get("usage"))
        content = message.get("content")  # empty at the start of a stream, as a rule
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) and content else content
        for index, block in enumerate(blocks if isinstance(blocks, list) else ()):
            self._on_block_start(index, mapping(block))
            self._on_block_stop(index)

    def _on_message_delta(self, delta: dict[str, Any], usage: object) -> None:
        self._recognized = True
        self._count(usage)
        reason = string(delta.get("stop_reason"))
        if reason is not None:
            explanation = string(mapping(delta.get("stop_details")).get("explanation"))
            self.answer.stop_reason = _STOP_REASONS.get(reason, "stop")
            self.answer.stop_details = explanation or reason

    def _count(self, usage: object) -> None:
        wire = mapping(usage)
        self.answer.count(
            input_tokens=wire.get("input_tokens"),
            output_tokens=wire.get("output_tokens"),
            cache_read_tokens=wire.get("cache_read_input_tokens"),
            cache_write_tokens=wire.get("cache_creation_input_tokens"),
        )

    def _on_block_start(self, index: int, wire: dict[str, Any]) -> None:
        kind = wire.get("type")
        if not wire or (kind == "tool_use" and self._continues(index, wire)):
            return  # without a block, the first delta opens one
        self._recognized = True
        self._on_block_stop(index)
        block: OpenBlock
        match kind:
            case "text":
                block = self.answer.open(OpenText())
                block.add(string(wire.get("text")) or "")
            case "thinking" | "redacted_thinking":
                block = self.answer.open(OpenThinking())
                block.redacted = kind == "redacted_thinking"
                block.signature = string(wire.get("data" if block.redacted else "signature")) or ""
                block.add(string(wire.get("thinking")) or "")
            case "tool_use":
                block = OpenToolCall(string(wire.get("id")) or "", string(wire.get("name")) or "")
                if whole := wire.get("input"):
                    block.whole = whole if isinstance(whole, str) else msgspec.json.encode(whole).decode()
                self.answer.open(block)
            case _:
                self._blocks[index] = self.answer.add_provider_block(wire)
                return
        block.extra = {name: value for name, value in wire.items() if name not in _BLOCK_FIELDS[kind] and value}
        self._blocks[index] = block

    def _continues(self, index: int, wire: dict[str, Any]) -> bool:
        """Return whether this start belongs to an open call: some servers repeat it, or give one call two indexes."""
        call_id, name = string(wire.get("id")), string(wire.get("name")) or ""
        for place, block in self._blocks.items():
            if not isinstance(block, OpenToolCall) or name not in ("", block.name):
                continue
            is_begun = not name or (block.content and not is_complete(block.content))
            if block.id == call_id or (place == index and is_begun):
                self._blocks[index] = block
                return True
        return False

    def _on_block_delta(self, index: int, delta: dict[str, Any]) -> None:
        block = self._blocks.get(index)
        kind, field = _DELTAS.get(str(delta.get("type")), (None, ""))
        if kind is None:
            if block is not None:
                extra = {name: value for name, value in delta.items() if name != "type"}
                if delta.get("type") == "citations_delta":
                    extra = {"citations": [delta.get("citation")]}
                block.extra = joined(block.extra, extra)
            return
        piece, signature = string(delta.get(field)), string(delta.get("signature"))
        if isinstance(block, ProviderBlock):
            block.input_json += piece or ""
            return
        if piece is not None:
            if block.__class__ is not kind or block is None:
                block = self._other_block(index, kind)
            block.add(piece)
        if signature is not None:
            self._sign(index, block, signature)

    def _sign(self, index: int, block: OpenBlock | None, signature: str) -> None:
        """Keep a signature on the block that it came with, or else on the last thinking."""
        if block is None:
            thinking = [each for each in self.answer.blocks if isinstance(each, OpenThinking)]
            block = thinking[-1] if thinking else self._other_block(index, OpenThinking)
        if isinstance(block, OpenThinking):
            block.signature += signature
        else:
            block.extra = joined(block.extra, {"signature": signature})

    def _other_block(self, index: int, kind: type[OpenBlock]) -> OpenBlock:
        """Return the block for a delta whose index has no block, or one of another kind."""
        self._recognized = True
        calls = [each for each in self.answer.blocks if isinstance(each, OpenToolCall) and each.is_open]
        if kind is OpenToolCall and calls:
            return calls[-1]  # a wrong index: arguments without the name of a call could not be run
        if isinstance(self._blocks.get(index), OpenToolCall):
            # Text between arguments leaves the call open.
            last = self.answer.blocks[-1]
            return last if last.__class__ is kind and last.is_open else self.answer.open(kind())
        self._on_block_stop(index)
        block = self._blocks[index] = self.answer.open(kind())
        return block

    def _on_block_stop(self, index: int) -> None:
        block = self._blocks.pop(index, None)
        if isinstance(block, OpenBlock) and block not in self._blocks.values():  # one call may have several indexes
            block.close()
