"""OpenAI Chat Completions: server-sent chunks to assistant events, and the source that makes the request.

Protocol: https://platform.openai.com/docs/api-reference/chat-streaming, and what compatible servers make of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from reactivex import Observable

from rxauth.errors import ProviderError
from rxauth.events import AssistantEvent, DoneReason, Usage
from rxauth.sources._errors import Exchange, Told, read_error
from rxauth.sources._http import MAX_EVENT_BYTES, AuthHeader, prepared, stream
from rxauth.sources._message import Answer, OpenBlock, OpenText, OpenThinking, OpenToolCall
from rxauth.sources._payload import MALFORMED, NotThisProtocolError, repaired
from rxauth.sources._reader import Reader

if TYPE_CHECKING:
    import aiohttp

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
) -> Observable[AssistantEvent]:
    """The answer to a request in the Chat Completions format, as a cold stream of assistant events.

    Each subscription emits `start`, makes one request to `{base_url}/chat/completions`, and ends with exactly one
    `done` or `error`. An error's `cause` is a `ProviderError`, or what `credentials` raised. Dispose closes the
    connection.

    Of several choices only the first (`index` 0) is read. `reasoning_content` and `reasoning` are thinking. A refusal's
    text is in the `stop_details` of the message, and the answer ends with the reason `refusal`.

    Args:
        request: the wire payload; `stream` is set here, and `stream_options` unless it is there. It is taken as it is
            now: changing it later changes nothing.
        base_url: `https://host/v1`, as a rule; plain http for loopback only, since a token goes along.
        credentials: asked once per subscription, just before the request.
        session: used and left open. Without one, connections live as long as there are streams under way on the loop,
            and a little longer after a rejected credential, so that the next attempt need not connect again.
        headers: go with the request and may replace its own, except for those that carry the token.
        auth_header: where the token goes: `Authorization: Bearer`, or `x-api-key`.
        include_usage: ask for the token counts; `False` for a server that refuses `stream_options`.
        connect_timeout: seconds for name, connection and TLS together; `None` for no limit.
        read_timeout: seconds without a byte, from the request on; `None` for no limit. There is no total limit.
        max_event_bytes: a larger server-sent event ends the stream with a `ProtocolError`.

    Raises:
        TypeError: `request` is not a mapping, or holds what JSON cannot; `credentials` is not a credential source.
        ValueError: `stream` is false in the request; the URL, a header or a limit cannot be used.

    >>> from rxauth.credentials import StaticCredentials
    >>> answer = openai_chat(
    ...     {"model": "m", "messages": [{"role": "user", "content": "hello"}]},
    ...     base_url="https://api.openai.com/v1",
    ...     credentials=StaticCredentials("secret"),
    ... )
    """
    call = prepared(
        request,
        {"stream_options": {"include_usage": True}} if include_usage else {},
        base_url=base_url,
        path="/chat/completions",
        fixed_headers={},
        headers=headers,
        auth_header=auth_header,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_event_bytes=max_event_bytes,
    )
    return stream(call, credentials, session, ChatReader)


class _Delta(msgspec.Struct, gc=False):
    """What a server may send as something else than OpenAI does is `Any`, and looked at where it is used."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None


class _Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None
    usage: Any = None
    error: Any = None


class _Chunk(msgspec.Struct, gc=False):
    """What has to be known of every chunk. Each further field would cost more than reading the text does."""

    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None


class _Head(msgspec.Struct, gc=False):
    """What is the same in every chunk."""

    id: Any = None
    model: Any = None


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
}

# Said where a reason for stopping belongs: the server gave up.
_FAILURES = frozenset({"error", "abort", "insufficient_system_resource", "network_error"})


class ChatReader(Reader):
    """Chat Completions chunks to the answer's events.

    Text and thinking take turns: when one begins the other is complete. Tool calls stay open to the end, since some
    servers send the arguments of several in turns.
    """

    protocol = "Chat Completions"

    def __init__(self, answer: Answer, exchange: Exchange) -> None:
        super().__init__(answer, exchange)
        self._headed = False
        self._speaking: OpenBlock | None = None
        self._refusal: list[str] = []
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._last_call: _Call | None = None

    def on_event(self, name: bytes, data: bytes) -> None:
        if self.answer.ended:
            return
        try:
            try:
                chunk = _decode(data)
            except MALFORMED:
                chunk = repaired(data, _Chunk)
            if chunk.choices is None or chunk.error or name == b"error":
                self._other(name, data, chunk)
                return
            if chunk.choices and not self._headed:
                self._head(data)
        except NotThisProtocolError:  # also of what only a closer look finds: a number of thousands of digits
            self._not_a_chunk(name, data)
            return
        self._understood = True
        for choice in chunk.choices:
            if not choice.index and not self.answer.ended:
                self._choice(choice)
        if chunk.usage:
            self._usage(chunk.usage)

    def _head(self, data: bytes) -> None:
        head = repaired(data, _Head)
        self._headed = True
        self.answer.id = _string(head.id)
        self.answer.model = _string(head.model)

    def _other(self, name: bytes, data: bytes, chunk: _Chunk) -> None:
        """An error, the token counts alone, or something strange."""
        body = repaired(data, dict[str, Any])
        if chunk.error or name == b"error" or body.get("object") == "error":
            self.told(read_error(body))
        elif chunk.usage:
            self._usage(chunk.usage)
        else:
            self._strange = True

    def complete(self) -> None:
        self._settle()
        super().complete()

    def fail(self, cause: ProviderError) -> None:
        self._settle()
        super().fail(cause)

    def _settle(self) -> None:
        """Nothing more comes: calls that waited for their id or name are told as they are, and so is a refusal."""
        for call in self._calls:
            call.open(self.answer)
        if self._refusal:
            self.answer.stop_reason, self.answer.stop_details = "refusal", "".join(self._refusal)

    def _not_a_chunk(self, name: bytes, data: bytes) -> None:
        text = data.decode("utf-8", "replace").strip()
        if name == b"error":
            self.told(read_error({"error": text}))
        elif text == "[DONE]":
            # The end by itself, also for servers that never tell a reason; but not if nothing came before it.
            if self._understood:
                self.complete()
            else:
                self.on_end()
        elif text:
            self.fail(self.not_this_protocol(text))

    def _choice(self, choice: _Choice) -> None:
        delta = choice.delta
        if delta is not None:
            thinking = delta.reasoning_content or delta.reasoning
            if thinking:
                self._say(OpenThinking, thinking)
            if delta.content:
                self._say(OpenText, delta.content)
            if delta.tool_calls:
                self._tool_calls(delta.tool_calls)
            if delta.function_call:
                self._function_call(delta.function_call)
            if delta.refusal and isinstance(delta.refusal, str):
                self._refusal.append(delta.refusal)
        if choice.usage:
            self._usage(choice.usage)
        if choice.error:
            self.told(read_error({"error": choice.error}))
        elif choice.finish_reason:
            self._finish(choice.finish_reason)

    def _say(self, kind: type[OpenText | OpenThinking], said: object) -> None:
        """`said`: a string, or a list of parts."""
        if isinstance(said, str):
            block = self._speaking
            if block.__class__ is not kind or block is None:
                self._be_quiet()
                block = self._speaking = self.answer.open_text() if kind is OpenText else self.answer.open_thinking()
            block.add(said)
            return
        for part in said if isinstance(said, list) else ():
            if isinstance(part, dict):
                thinking = part.get("thinking")
                self._say(OpenThinking if thinking else kind, thinking or part.get("text") or [])

    def _be_quiet(self) -> None:
        if self._speaking is not None:
            self._speaking.close()
            self._speaking = None

    def _tool_calls(self, wire: object) -> None:
        for each in wire if isinstance(wire, list) else ():
            if isinstance(each, dict):
                told = each.get("function")
                function = told if isinstance(told, dict) else {}
                call_id, name = _string(each.get("id")), _string(function.get("name"))
                call = self._call(each.get("index"), call_id, name)
                self._hear(call, call_id, name, function.get("arguments"))

    def _function_call(self, wire: object) -> None:
        """The older form: one call, without an id."""
        if isinstance(wire, dict):
            call_id = f"{self.answer.id or 'call'}_function"
            call = self._call(None, call_id, None)
            self._hear(call, call_id, _string(wire.get("name")), wire.get("arguments"))

    def _call(self, index: object, call_id: str | None, name: str | None) -> _Call:
        """The call that a delta belongs to. Some servers leave the index out, some give the same one to every call."""
        call: _Call | None
        if isinstance(index, int):
            call = self._by_index.get(index)
            if call is not None and call_id and name and call.id and call.id != call_id:
                call = None
        elif call_id:
            call = self._by_id.get(call_id)
        else:
            call = self._last_call
            if call is not None and call.name and name:
                call = None
        if call is None:
            call = _Call()
            self._calls.append(call)
        if isinstance(index, int):
            self._by_index[index] = call
        if call_id:
            self._by_id[call_id] = call
        self._last_call = call
        return call

    def _hear(self, call: _Call, call_id: str | None, name: str | None, arguments: object) -> None:
        call.id = call.id or call_id or ""
        call.name = call.name or name or ""
        if isinstance(arguments, dict | list):
            arguments = msgspec.json.encode(arguments).decode()
        delta = arguments if isinstance(arguments, str) else ""
        if call.block is not None:
            call.block.add(delta)
            return
        call.held.append(delta)
        if call.id and call.name:
            self._be_quiet()
            call.open(self.answer)

    def _finish(self, reason: str) -> None:
        if reason in _FAILURES:
            self.told(Told(f"The provider stopped the answer: {reason}.", "server_error", reason))
            return
        self.answer.stop_reason = _FINISH_REASONS.get(reason, "stop")
        self.answer.stop_details = reason

    def _usage(self, wire: object) -> None:
        if not isinstance(wire, dict):
            return
        told = wire.get("prompt_tokens_details")
        details = told if isinstance(told, dict) else {}
        old = self.answer.usage
        self.answer.usage = Usage(
            input_tokens=_count(wire.get("prompt_tokens"), old.input_tokens),
            output_tokens=_count(wire.get("completion_tokens"), old.output_tokens),
            cache_read_tokens=_count(
                details.get("cached_tokens", wire.get("prompt_cache_hit_tokens", wire.get("cached_tokens"))),
                old.cache_read_tokens,
            ),
            cache_write_tokens=_count(details.get("cache_write_tokens"), old.cache_write_tokens),
        )


class _Call:
    """A tool call of which the id and the name may be still to come; it opens when both are known."""

    __slots__ = ("block", "held", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.held: list[str] = []
        self.block: OpenToolCall | None = None

    def open(self, answer: Answer) -> None:
        if self.block is None:
            self.block = answer.open_tool_call(self.id, self.name)
            self.block.add("".join(self.held))
            self.held.clear()


def _string(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: object, otherwise: int) -> int:
    return value if type(value) is int and value >= 0 else otherwise


_decode = msgspec.json.Decoder(_Chunk).decode
