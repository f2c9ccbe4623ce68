"""Write an answer in the form of a provider: wire payloads as plain dicts. Pure, no I/O.

A `Wire` is one format. Anthropic Messages and OpenAI Chat Completions are here, OpenAI Responses in `_responses`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rxauth.events import Block, DoneReason, Text, Thinking, ToolCall
from rxauth.testing._shapes import Numbering, numbered

Answer: TypeAlias = str | Sequence[Block]
Payload: TypeAlias = dict[str, Any]

ERRORS = {
    400: ("invalid_request_error", "The request is not valid."),
    401: ("authentication_error", "The API Key appears to be invalid or may have expired."),
    403: ("permission_error", "The API Key does not have permission to do this."),
    404: ("not_found_error", "Nothing is here."),
    405: ("invalid_request_error", "This method is not allowed here."),
    413: ("request_too_large", "The request is too large."),
    429: ("rate_limit_error", "The rate limit is exceeded."),
    500: ("api_error", "Internal server error."),
    503: ("api_error", "Service unavailable."),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded."),
}
"""The type and the text of an error, by status."""


# Of Anthropic Messages and of Chat Completions.
_STOPS: Mapping[DoneReason, tuple[str, str]] = {
    "stop": ("end_turn", "stop"),
    "length": ("max_tokens", "length"),
    "toolUse": ("tool_use", "tool_calls"),
    "refusal": ("refusal", "content_filter"),
    "pause": ("pause_turn", "pause_turn"),
}


class Speech:
    """An answer to one request, with what a provider's payloads say about it."""

    def __init__(
        self,
        answer: Answer,
        stop: DoneReason | None,
        request: Mapping[str, Any],
        number: int = 1,
        numbering: Numbering | None = None,
    ) -> None:
        self.content = (Text(answer),) if isinstance(answer, str) else answer
        calls = any(isinstance(block, ToolCall) for block in self.content)
        self.stop: DoneReason = stop or ("toolUse" if calls else "stop")
        self.request = request
        self.number = number
        self.numbering = numbering
        model = request.get("model")
        self.model = model if isinstance(model, str) else "fake-model"
        # Roughly one token for four characters, as the tokenisers have it.
        self.input_tokens = max(1, len(str(request.get("messages") or request.get("input") or "")) // 4)
        self.output_tokens = max(1, sum(len(split(block)) for block in self.content))


@dataclass(frozen=True, kw_only=True)
class Wire:
    """Describe one wire format.

    Args:
        path: where its requests go: the end of the path.
        stream: the events of an answer.
        whole: the same as one object, for a request that does not ask for a stream.
        error: an error, given type and message; as an event also how many come before it, as a body `None`.
        request_id: the header that names the request.
    """

    path: str
    stream: Callable[[Speech], Sequence[Payload | str]]
    whole: Callable[[Speech], Payload]
    error: Callable[[str, str, int | None], Payload]
    request_id: str


def split(block: Block) -> list[str]:
    """Cut a block as a model writes it: words with the space before them, JSON anywhere.

    >>> split(Text("Hello, big  world. ")), split(ToolCall("c1", "weather", '{"city": "Paris"}'))
    (['Hello,', ' big', '  world.', ' '], ['{"city"', ': "Pari', 's"}'])
    """
    if isinstance(block, ToolCall):
        return re.findall(r"(?s).{1,7}", block.arguments_json)
    return re.findall(r"\s*\S+|\s+", block.text if isinstance(block, Text) else block.thinking)


def anthropic_events(answer: Answer, *, stop: DoneReason | None = None, model: str = "fake-model") -> list[Payload]:
    """Return the server-sent events of the Anthropic Messages API for an answer, as mappings.

    Cut, doubled or shuffled, they make the body of a broken stream: `Reply(body=anthropic_events("Hello")[:-1])`.

    >>> [event["type"] for event in anthropic_events("Hello")]
    ['message_start', 'content_block_start', 'ping', 'content_block_delta', 'content_block_stop', 'message_delta',
     'message_stop']
    """
    return _anthropic_stream(Speech(answer, stop, {"model": model}))


def openai_chunks(answer: Answer, *, stop: DoneReason | None = None, model: str = "fake-model") -> list[Payload | str]:
    """Return the chunks of the OpenAI Chat Completions API for an answer, usage and `[DONE]` included.

    >>> [chunk if isinstance(chunk, str) else chunk["choices"] for chunk in openai_chunks("Hi")][1:3]
    [[{'index': 0, 'delta': {'content': 'Hi'}, 'logprobs': None, 'finish_reason': None}],
     [{'index': 0, 'delta': {}, 'logprobs': None, 'finish_reason': 'stop'}]]
    """
    return _openai_stream(Speech(answer, stop, {"model": model, "stream_options": {"include_usage": True}}))


# Anthropic Messages: https://platform.claude.com/docs/en/build-with-claude/streaming


def _anthropic_message(speech: Speech) -> Payload:
    usage = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}
    return {
        "id": f"msg_{speech.number:06}",
        "type": "message",
        "role": "assistant",
        "model": speech.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": speech.input_tokens, **usage},
    }


def _anthropic_stream(speech: Speech) -> list[Payload]:
    message, blocks, index = _anthropic_message(speech), list[Payload](), 0
    for block in speech.content:
        if isinstance(block, ToolCall) and speech.numbering not in (None, "late names"):
            call, index = _renumbered(block, index, speech.numbering)
            blocks += call
            continue
        for opened, _, deltas in _anthropic_blocks(block):
            blocks.append({"type": "content_block_start", "index": index, "content_block": opened})
            blocks += ({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
            blocks.append({"type": "content_block_stop", "index": index})
            index += 1
    blocks.insert(1 if blocks else 0, {"type": "ping"})
    end = {"stop_reason": _STOPS[speech.stop][0], "stop_sequence": None}
    usage = message["usage"] | {"output_tokens": speech.output_tokens}
    return [
        {"type": "message_start", "message": message},
        *blocks,
        {"type": "message_delta", "delta": end, "usage": usage},
        {"type": "message_stop"},
    ]


def _anthropic_blocks(block: Block) -> Iterator[tuple[Payload, Payload, list[Payload]]]:
    """Yield a block as it is opened, what a whole answer has in it, and its deltas; then what follows of its own."""
    said = split(block)
    match block:
        case Text():
            extra = block.extra
            whole = {"text": block.text, **extra}
            deltas: list[Payload] = [{"type": "text_delta", "text": each} for each in said]
            deltas += ({"type": "citations_delta", "citation": each} for each in extra.pop("citations", ()))
            yield {"type": "text", "text": "", **extra}, whole, deltas
        case Thinking(redacted=True):
            yield {"type": "redacted_thinking", "data": block.signature or "", **block.extra}, {}, []
        case Thinking():
            whole = {"thinking": block.thinking, "signature": block.signature or ""}
            deltas = [{"type": "thinking_delta", "thinking": each} for each in said]
            deltas += [] if block.signature is None else [{"type": "signature_delta", "signature": block.signature}]
            yield {"type": "thinking", "thinking": "", "signature": "", **block.extra}, whole, deltas
        case ToolCall():
            opened = {"type": "tool_use", "id": block.id, "name": block.name, "input": {}, **block.extra}
            deltas = [{"type": "input_json_delta", "partial_json": each} for each in ["", *said]]
            yield opened, {"input": block.arguments}, deltas
    yield from ((after, {}, []) for after in block.after)


def _renumbered(call: ToolCall, index: int, numbering: Numbering | None) -> tuple[list[Payload], int]:
    """Return the events of a call that begins at an index, and the index after it."""
    events: list[Payload] = []
    last = index
    for place, call_id, name, arguments in numbered(0, call.id, call.name, split(call), numbering):
        where = {} if place is None else {"index": index + place}
        last = max(last, index + (place or 0))
        if call_id or name:
            opened = {"type": "tool_use", "id": call_id or "", "name": name or "", "input": {}}
            events.append({"type": "content_block_start", **where, "content_block": opened})
        delta = {"type": "input_json_delta", "partial_json": arguments}
        events.append({"type": "content_block_delta", **where, "delta": delta})
    events += ({"type": "content_block_stop", "index": each} for each in range(index, last + 1))
    return events, last + 1


def _anthropic_whole(speech: Speech) -> Payload:
    message = _anthropic_message(speech)
    content = [opened | whole for block in speech.content for opened, whole, _ in _anthropic_blocks(block)]
    usage = message["usage"] | {"output_tokens": speech.output_tokens}
    return message | {"content": content, "stop_reason": _STOPS[speech.stop][0], "usage": usage}


def _anthropic_error(type: str, message: str, at: int | None) -> Payload:
    return {"type": "error", "error": {"type": type, "message": message}}


# OpenAI Chat Completions: https://platform.openai.com/docs/api-reference/chat-streaming


def _openai_head(speech: Speech, kind: str) -> Payload:
    return {"id": f"chatcmpl-{speech.number:06}", "object": kind, "created": 1700000000, "model": speech.model}


def _openai_stream(speech: Speech) -> list[Payload | str]:
    head = _openai_head(speech, "chat.completion.chunk")
    options = speech.request.get("stream_options")
    wants_usage = isinstance(options, Mapping) and bool(options.get("include_usage"))
    empty = {"usage": None} if wants_usage else {}

    def chunk(delta: Payload, reason: str | None = None) -> Payload:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return head | {"choices": [choice]} | empty

    chunks: list[Payload | str] = [chunk({"role": "assistant", "content": ""})]
    chunks += map(chunk, _openai_deltas(speech))
    chunks.append(chunk({}, _STOPS[speech.stop][1]))
    if wants_usage:
        chunks.append(head | {"choices": [], "usage": _openai_usage(speech)})
    return [*chunks, "data: [DONE]\n\n"]


def _openai_deltas(speech: Speech) -> Iterator[Payload]:
    calls = 0
    for block in speech.content:
        if isinstance(block, ToolCall):
            first, *rest = _openai_call(block, calls, speech.numbering)
            yield from ({"tool_calls": [each]} for each in (first | block.extra, *rest))
            calls += 1
            continue
        name = "content" if isinstance(block, Text) else block.field or "reasoning_content"
        yield from ({name: each} for each in split(block))
        if block.extra:
            yield block.extra


def _openai_call(call: ToolCall, index: int, numbering: Numbering | None) -> list[Payload]:
    if call.custom:
        opened = {"index": index, "id": call.id, "type": "custom", "custom": {"name": call.name, "input": ""}}
        return [opened, *({"index": index, "custom": {"input": each}} for each in split(call))]
    payloads = []
    for place, call_id, name, arguments in numbered(index, call.id, call.name, split(call), numbering):
        payload = {"index": place, "id": call_id, "type": "function"}
        function = {"name": name, "arguments": arguments}
        payloads.append(_present(payload) | {"function": _present(function)})
    return payloads


def _present(fields: Payload) -> Payload:
    return {name: value for name, value in fields.items() if value is not None}


def _openai_usage(speech: Speech) -> Payload:
    taken, given = speech.input_tokens, speech.output_tokens
    return {"prompt_tokens": taken, "completion_tokens": given, "total_tokens": taken + given}


def _openai_whole(speech: Speech) -> Payload:
    message: Payload = {"role": "assistant", "content": None, "refusal": None}
    for block in speech.content:
        if isinstance(block, ToolCall):
            kind, arguments = ("custom", "input") if block.custom else ("function", "arguments")
            inner = {"name": block.name, arguments: block.arguments_json}
            call = {"id": block.id, "type": kind, kind: inner, **block.extra}
            message["tool_calls"] = [*message.get("tool_calls", ()), call]
            continue
        name = "content" if isinstance(block, Text) else block.field or "reasoning_content"
        said = block.text if isinstance(block, Text) else block.thinking
        message |= {name: (message.get(name) or "") + said, **block.extra}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _STOPS[speech.stop][1]}
    return _openai_head(speech, "chat.completion") | {"choices": [choice], "usage": _openai_usage(speech)}


def openai_error(type: str, message: str, at: int | None = None) -> Payload:
    """Return an error of Chat Completions, and the body of one of Responses."""
    code = "invalid_api_key" if type == "authentication_error" else None
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


ANTHROPIC = Wire(
    path="/v1/messages",
    stream=_anthropic_stream,
    whole=_anthropic_whole,
    error=_anthropic_error,
    request_id="request-id",
)

OPENAI_CHAT = Wire(
    path="/chat/completions",
    stream=_openai_stream,
    whole=_openai_whole,
    error=openai_error,
    request_id="x-request-id",
)
