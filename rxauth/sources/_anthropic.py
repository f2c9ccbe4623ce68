"""Anthropic Messages: server-sent events to assistant events, and the source that makes the request.

Protocol: https://docs.anthropic.com/en/docs/build-with-claude/streaming.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from reactivex import Observable

from rxauth.events import AssistantEvent, DoneReason, Usage
from rxauth.sources._errors import Exchange, read_error
from rxauth.sources._http import MAX_EVENT_BYTES, AuthHeader, prepared, stream
from rxauth.sources._message import Answer, OpenBlock, OpenText, OpenThinking, OpenToolCall
from rxauth.sources._payload import MALFORMED, NotThisProtocolError, repaired
from rxauth.sources._reader import Reader

if TYPE_CHECKING:
    import aiohttp

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
) -> Observable[AssistantEvent]:
    """The answer to a request in the Anthropic Messages format, as a cold stream of assistant events.

    Each subscription emits `start`, makes one request to `{base_url}/v1/messages`, and ends with exactly one `done` or
    `error`. An error's `cause` is a `ProviderError`, or what `credentials` raised. Dispose closes the connection.

    Args:
        request: the wire payload; `stream` is set here. It is taken as it is now: changing it later changes nothing.
        base_url: `https://host` and perhaps a path; plain http for loopback only, since a token goes along.
        credentials: asked once per subscription, just before the request.
        session: used and left open. Without one, connections live as long as there are streams under way on the loop,
            and a little longer after a rejected credential, so that the next attempt need not connect again.
        headers: go with the request and may replace its own, except for those that carry the token.
        auth_header: where the token goes: `Authorization: Bearer`, or `x-api-key`.
        connect_timeout: seconds for name, connection and TLS together; `None` for no limit.
        read_timeout: seconds without a byte, from the request on; `None` for no limit. There is no total limit.
        max_event_bytes: a larger server-sent event ends the stream with a `ProtocolError`.

    Raises:
        TypeError: `request` is not a mapping, or holds what JSON cannot; `credentials` is not a credential source.
        ValueError: `stream` is false in the request; the URL, a header or a limit cannot be used.

    Blocks of tools that run at the provider (`server_tool_use` and their results) are not part of the answer's events.

    >>> from rxauth.credentials import StaticCredentials
    >>> answer = anthropic_messages(
    ...     {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "hello"}]},
    ...     base_url="https://api.anthropic.com",
    ...     credentials=StaticCredentials("secret"),
    ...     auth_header="x-api-key",
    ... )
    """
    call = prepared(
        request,
        {},
        base_url=base_url,
        path="/v1/messages",
        fixed_headers={"anthropic-version": "2023-06-01"},
        headers=headers,
        auth_header=auth_header,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_event_bytes=max_event_bytes,
    )
    return stream(call, credentials, session, MessagesReader)


class _Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None
    stop_details: Any = None


class _Event(msgspec.Struct, gc=False):
    """Every event in one shape. What is not needed to follow the answer may be anything."""

    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: Any = None
    message: Any = None
    usage: Any = None
    error: Any = None


_STOP_REASONS: dict[str, DoneReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "toolUse",
    "refusal": "refusal",
}


class MessagesReader(Reader):
    """Anthropic's events to the answer's."""

    protocol = "Anthropic Messages"

    def __init__(self, answer: Answer, exchange: Exchange) -> None:
        super().__init__(answer, exchange)
        self._blocks: dict[int, OpenBlock] = {}  # by the provider's index
        self._foreign: set[int] = set()  # blocks that are not part of the answer's vocabulary

    def on_event(self, name: bytes, data: bytes) -> None:
        if self.answer.ended:
            return
        try:
            event = _decode(data)
        except MALFORMED:
            try:
                event = repaired(data, _Event)
            except NotThisProtocolError:
                self._not_an_event(name, data)
                return
        kind = event.type or name.decode("utf-8", "replace")
        if kind == "content_block_delta":
            if event.delta is not None:
                self._delta(event.index, event.delta)
        elif kind == "content_block_start":
            self._start(event.index, event.content_block)
        elif kind == "content_block_stop":
            block = self._blocks.pop(event.index, None)
            if block is not None:
                block.close()
        elif kind == "message_start":
            self._message(event.message)
        elif kind == "message_delta":
            self._stop(event)
        elif kind == "message_stop":
            self.answer.done()
        elif kind == "error" or event.error:
            self._error(name, data)
        elif kind != "ping":
            self._strange = True  # ignored: the protocol may grow

    def _error(self, name: bytes, data: bytes) -> None:
        try:
            body = repaired(data, dict[str, Any])
        except NotThisProtocolError:  # a closer look finds more: a number of thousands of digits
            self._not_an_event(name, data)
        else:
            self.told(read_error(body))

    def _not_an_event(self, name: bytes, data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        if name == b"error":
            self.told(read_error({"error": text}))
        elif text.strip() == "[DONE]" and self._understood:
            self.answer.done()
        elif text.strip():
            self.fail(self.not_this_protocol(text))

    def _message(self, message: object) -> None:
        self._understood = True
        if isinstance(message, dict):
            self.answer.id = _string(message.get("id")) or self.answer.id
            self.answer.model = _string(message.get("model")) or self.answer.model
            self._usage(message.get("usage"))

    def _stop(self, event: _Event) -> None:
        self._understood = True
        self._usage(event.usage)
        reason = event.delta.stop_reason if event.delta is not None else None
        if event.delta is not None and reason:
            details = event.delta.stop_details
            said = _string(details.get("explanation")) if isinstance(details, dict) else None
            self.answer.stop_reason = _STOP_REASONS.get(reason, "stop")
            self.answer.stop_details = said or reason

    def _usage(self, wire: object) -> None:
        if isinstance(wire, dict):
            old = self.answer.usage
            self.answer.usage = Usage(
                input_tokens=_count(wire.get("input_tokens"), old.input_tokens),
                output_tokens=_count(wire.get("output_tokens"), old.output_tokens),
                cache_read_tokens=_count(wire.get("cache_read_input_tokens"), old.cache_read_tokens),
                cache_write_tokens=_count(wire.get("cache_creation_input_tokens"), old.cache_write_tokens),
            )

    def _start(self, index: int, wire: object) -> None:
        if not isinstance(wire, dict):
            return  # its deltas will say what it is
        self._understood = True
        self._close(index)
        kind = wire.get("type")
        if kind == "text":
            text = self._blocks[index] = self.answer.open_text()
            text.add(_string(wire.get("text")) or "")
        elif kind == "thinking":
            thinking = self._blocks[index] = self.answer.open_thinking()
            thinking.signature.append(_string(wire.get("signature")) or "")
            thinking.add(_string(wire.get("thinking")) or "")
        elif kind == "redacted_thinking":
            thinking = self._blocks[index] = self.answer.open_thinking()
            thinking.redacted = True
            thinking.signature.append(_string(wire.get("data")) or "")
        elif kind == "tool_use":
            call = self.answer.open_tool_call(_string(wire.get("id")) or "", _string(wire.get("name")) or "")
            self._blocks[index] = call
            if wire.get("input"):
                call.whole = msgspec.json.encode(wire["input"]).decode()
        else:
            self._foreign.add(index)

    def _delta(self, index: int, delta: _Delta) -> None:
        kind: type[OpenBlock]
        block = self._blocks.get(index)
        if delta.type == "text_delta":
            kind, said = OpenText, delta.text
        elif delta.type == "input_json_delta":
            kind, said = OpenToolCall, delta.partial_json
        elif delta.type == "thinking_delta":
            kind, said = OpenThinking, delta.thinking
        else:
            if delta.type == "signature_delta" and isinstance(block, OpenThinking):
                block.signature.append(delta.signature or "")
            return
        if not said:
            return
        if block is None or block.__class__ is not kind:
            if index in self._foreign:
                return
            # Never opened, closed already, or opened as something else: what is said is kept, in a block of its own.
            self._close(index)
            block = self._blocks[index] = self._opened(kind)
        block.add(said)

    def _opened(self, kind: type[OpenBlock]) -> OpenBlock:
        self._understood = True
        if kind is OpenText:
            return self.answer.open_text()
        return self.answer.open_thinking() if kind is OpenThinking else self.answer.open_tool_call()

    def _close(self, index: int) -> None:
        self._foreign.discard(index)
        block = self._blocks.pop(index, None)
        if block is not None:
            block.close()


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object, otherwise: int) -> int:
    return value if type(value) is int and value >= 0 else otherwise


_decode = msgspec.json.Decoder(_Event).decode
