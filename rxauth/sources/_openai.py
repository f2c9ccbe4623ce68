"""Read OpenAI Chat Completions: server-sent chunks to assistant events, and the source that makes the request.

Protocol: https://platform.openai.com/docs/api-reference/chat-streaming, and its variants at compatible servers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import aiohttp
import msgspec
from reactivex import Observable

from rxauth.events import AssistantEvent, DoneReason
from rxauth.sources._errors import Exchange
from rxauth.sources._http import stream
from rxauth.sources._json import MALFORMED, joined, mapping, string
from rxauth.sources._message import Emit, OpenBlock, OpenText, OpenThinking, OpenToolCall
from rxauth.sources._reader import Reader
from rxauth.sources._reports import ErrorReport, is_error, read_error
from rxauth.sources._request import MAX_EVENT_BYTES, AuthHeader, Call, encoded, endpoint, merged
from rxauth.sources._tool_calls import ToolCalls

if TYPE_CHECKING:
    from rxauth.credentials import CredentialSource


def openai_chat(
    request: Mapping[str, Any],
    *,
    base_url: str,
    credentials: CredentialSource,
    session: aiohttp.ClientSession | None = None,
    headers: Mapping[str, str] | None = None,
    auth_header: AuthHeader = "authorization",
    include_usage: bool = True,
    connect_timeout: float | None = 30.0,
    read_timeout: float | None = 300.0,
    max_event_bytes: int = MAX_EVENT_BYTES,
    pings: bool = False,
) -> Observable[AssistantEvent]:
    """Stream the answer to a request in the Chat Completions format, as a cold Observable of assistant events.

    Each subscription emits `start`, makes one request to `{base_url}/chat/completions`, and ends with exactly one
    `done` or `error`. An error's `cause` is a `ProviderError`, or what `credentials` raised. Dispose closes the
    connection.

    Of several choices only the first (`index` 0) is read. `reasoning_content`, `reasoning`, `reasoning_text` and
    `thinking` become thinking events. `reasoning_details`, which repeat them, are kept on their block. A refusal's text
    is in the `stop_details` of the message, and the answer ends with the reason `refusal`.

    Args:
        request: the wire payload; `stream` is set here, and `stream_options` unless it is there. It is copied now:
            changing it later changes nothing.
        base_url: `https://host/v1`, as a rule; plain http for loopback only, since a token goes along.
        include_usage: request the token counts; `False` for a server that refuses `stream_options`.

    The other arguments, and what is raised, are those of `anthropic_messages`.

    >>> from rxauth.credentials import StaticCredentials
    >>> answer = openai_chat(
    ...     {"model": "m", "messages": [{"role": "user", "content": "hello"}]},
    ...     base_url="https://api.openai.com/v1",
    ...     credentials=StaticCredentials("secret"),
    ... )
    """
    call = Call(
        url=endpoint(base_url, "/chat/completions"),
        body=encoded(request, {"stream_options": {"include_usage": True}} if include_usage else {}),
        headers=merged({}, headers),
        auth_header=auth_header,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_event_bytes=max_event_bytes,
    )
    return stream(call, credentials, session, partial(ChatReader, pings=pings))


class _Piece(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    content: str


class _PieceOfChoice(msgspec.Struct, gc=False):
    delta: _Piece
    index: Literal[0] = 0
    finish_reason: None = None
    error: None = None


class _PieceOfText(msgspec.Struct, gc=False):
    """Type the most frequent chunk: to decode each into a dict would cost a third of the client's time."""

    choices: tuple[_PieceOfChoice]
    usage: None = None
    error: None = None


_decode_piece = msgspec.json.Decoder(_PieceOfText).decode

_FINISH_REASONS: dict[str, DoneReason] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_calls": "toolUse",
    "function_call": "toolUse",
    "content_filter": "refusal",
    "refusal": "refusal",
    "sensitive": "refusal",
    "pause_turn": "pause",
}

# Finish reasons by which a server reports a failure of its own.
_FAILURES = frozenset({"error", "abort", "insufficient_system_resource", "network_error"})

_READ_FIELDS = frozenset({"role", "content", "refusal", "tool_calls", "function_call"})
_SIGNATURE = re.compile("signature|opaque|encrypted")
_THINKING = re.compile("reasoning|thinking|thought")
_ANSWER_FIELDS = ("citations", "search_results")  # fields of a chunk, not of its delta; each chunk repeats them whole


class ChatReader(Reader):
    """Turn Chat Completions chunks into the answer's events.

    The start of text closes thinking, and the other way round. Tool calls stay open to the end, since some servers
    alternate between the arguments of several.
    """

    protocol: ClassVar[str] = "Chat Completions"
    api = "openai-chat"

    def __init__(self, emit: Emit, exchange: Exchange, *, pings: bool = False) -> None:
        super().__init__(emit, exchange, pings=pings)
        self._current: OpenBlock | None = None  # the open text or thinking
        self._last: dict[type[OpenBlock], Any] = {}  # the last block of each kind, open or closed
        self._calls = ToolCalls(self._open_call)
        self._refusal = ""
        self._had_delta = False
        self._answer_fields: dict[str, Any] = {}

    def on_event(self, name: bytes, data: bytes) -> None:
        if self.answer.ended:
            return
        block = self._current
        if block.__class__ is OpenText and not name:
            try:
                piece = _decode_piece(data).choices[0].delta.content
            except MALFORMED:
                pass  # another kind of chunk, or one that on_data can repair
            else:
                block.add(piece)
                return
        self.on_data(name, data)

    def settle(self) -> None:
        self._calls.settle()
        if self._refusal:
            self.answer.stop_reason, self.answer.stop_details = "refusal", self._refusal
        if self._answer_fields and OpenText in self._last:
            self._last[OpenText].extra |= self._answer_fields

    def on_object(self, body: dict[str, Any], name: str) -> None:
        choices = body.get("choices")
        if not isinstance(choices, list) or body.get("error"):
            self._without_choices(body)
            return
        self.answer.id = self.answer.id or string(body.get("id"))
        self.answer.model = self.answer.model or string(body.get("model"))
        self._recognized = self._recognized or bool(choices) or "usage" in body or "id" in body
        for choice in choices:
            if isinstance(choice, dict) and not choice.get("index") and not self.answer.ended:
                self._choice(choice)
        self._count(body.get("usage"))
        self._answer_fields |= {field: body[field] for field in _ANSWER_FIELDS if body.get(field)}
        if not choices and not body.get("usage") and (report := read_error(body)) and is_error(body, report):
            self.on_error(report)

    def _without_choices(self, body: dict[str, Any]) -> None:
        """Handle a body without choices: an error, the token counts alone, a ping, or a foreign object."""
        if body.get("error") or body.get("object") == "error":
            self.on_error(read_error(body))
        elif isinstance(body.get("usage"), dict):
            self._count(body["usage"])
        elif body.get("type") == "ping":
            self.on_ping()
        else:
            self.on_foreign_object(body)

    def _choice(self, choice: dict[str, Any]) -> None:
        delta, message = choice.get("delta"), choice.get("message")
        if isinstance(delta, dict) and (delta or not message):
            self._had_delta = True
            self._delta(delta)
        elif isinstance(message, dict):
            self._delta(self._not_yet_emitted(message) if self._had_delta else message)
        elif isinstance(text := choice.get("text"), str):  # the older Completions API
            self._add(OpenText, text)
        self._count(choice.get("usage"))
        reason = string(choice.get("finish_reason"))
        if choice.get("error"):
            self.on_error(read_error({"error": choice["error"]}))
        elif reason in _FAILURES:
            self.on_error(ErrorReport(f"The provider stopped the answer: {reason}.", "server_error", reason))
        elif reason is not None:
            self.answer.stop_reason = _FINISH_REASONS.get(reason, "stop")
            self.answer.stop_details = reason

    def _delta(self, delta: dict[str, Any]) -> None:
        thinking = [field for field, value in delta.items() if value and _is_thinking(field, value)]
        if thinking:  # the first alone: servers repeat the text under a second name
            self._add(OpenThinking, delta[thinking[0]], thinking[0])
        self._add(OpenText, delta.get("content"))
        if isinstance(calls := delta.get("tool_calls"), list):
            self._tool_calls([each for each in calls if isinstance(each, dict)])
        if isinstance(function := delta.get("function_call"), dict):  # the older form: one call, without an id
            call_id = f"{self.answer.id or 'call'}_function"
            self._calls.on_piece({"index": -1, "id": call_id, "function": function})
        self._refusal += string(delta.get("refusal")) or ""
        for field, value in delta.items():
            if value and field not in _READ_FIELDS and field not in thinking:
                self._keep(field, value)

    def _tool_calls(self, pieces: list[dict[str, Any]]) -> None:
        tools_of_the_provider = []
        for piece in pieces:
            if isinstance(piece.get("custom"), dict) or piece.get("type") in (None, "", "function", "custom"):
                self._calls.on_piece(piece)
            else:
                tools_of_the_provider.append(piece)
        if tools_of_the_provider:
            self._keep("tool_calls", tools_of_the_provider)

    def _not_yet_emitted(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return the rest of a whole message at the end, which repeats what the deltas have brought."""
        emitted = "".join(block.content for block in self.answer.blocks if isinstance(block, OpenText))
        had_thinking = OpenThinking in self._last
        new = {field: value for field, value in message.items() if not (had_thinking and _is_thinking(field, value))}
        if isinstance(content := message.get("content"), str):
            new["content"] = content.removeprefix(emitted)
        if self._calls:
            new.pop("tool_calls", None)
        if self._refusal:
            new.pop("refusal", None)
        return new

    def _add(self, kind: type[OpenBlock], piece: object, field: str = "") -> None:
        """Add a piece of text or thinking: a string, or a list of parts."""
        if isinstance(piece, str) and piece:
            block = self._current
            if block.__class__ is not kind or block is None:
                block = self._open(kind)
            if isinstance(block, OpenThinking):
                block.field = block.field or field
            block.add(piece)
        for part in piece if isinstance(piece, list) else ():
            if not isinstance(part, dict):
                continue
            if refusal := string(part.get("refusal")):
                self._refusal += refusal
            elif thinking := part.get("thinking"):
                self._add(OpenThinking, thinking, "content")
            else:
                self._add(kind, part.get("text") or [])

    def _open(self, kind: type[OpenBlock]) -> OpenBlock:
        self._close_current()
        self._current = self._last[kind] = self.answer.open(kind())
        return self._current

    def _open_call(self, call: OpenToolCall) -> None:
        self._close_current()
        self.answer.open(call)

    def _close_current(self) -> None:
        if self._current is not None:
            self._current.close()
            self._current = None

    def _keep(self, field: str, value: Any) -> None:
        """Keep a field that has no event, on the block that it belongs to."""
        is_signature, is_thinking = _SIGNATURE.search(field), _THINKING.search(field)
        thinking = self._last.get(OpenThinking)
        if is_signature or is_thinking:
            block = thinking or self._open(OpenThinking)
        else:
            block = self._current or self._last.get(OpenText) or thinking or self._open(OpenText)
        block.extra = joined(block.extra, {field: value})
        if not isinstance(block, OpenThinking):
            return
        if isinstance(value, str) and is_signature:
            block.signature += value
        for detail in filter(None, map(mapping, value)) if isinstance(value, list) and is_thinking else ():
            block.signature += string(detail.get("signature")) or ""
            texts = (string(detail.get(name)) for name in ("text", "thinking", "summary"))
            block.whole += next(filter(None, texts), "")
            block.redacted = block.redacted or detail.get("type") == "reasoning.encrypted"

    def _count(self, usage: object) -> None:
        wire = mapping(usage)
        details = mapping(wire.get("prompt_tokens_details"))
        self.answer.count(
            input_tokens=wire.get("prompt_tokens"),
            output_tokens=wire.get("completion_tokens"),
            cache_read_tokens=details.get(
                "cached_tokens", wire.get("prompt_cache_hit_tokens", wire.get("cached_tokens"))
            ),
            cache_write_tokens=details.get("cache_write_tokens"),
        )


def _is_thinking(field: str, value: object) -> bool:
    """Return whether a field of a delta is a piece of thinking, for which servers have many names."""
    return isinstance(value, str) and bool(_THINKING.search(field)) and not _SIGNATURE.search(field)
