"""Put an answer in the words of a provider: wire payloads as plain dicts. Pure, no I/O.

A `Wire` is one format. Anthropic Messages and OpenAI Chat Completions are here, OpenAI Responses in `_responses`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rxauth.events import Block, DoneReason, Text, Thinking, ToolCall
from rxauth.testing._replies import Answer, Piece
from rxauth.testing._shapes import Numbering, as_delta, numbered

Payload: TypeAlias = dict[str, Any]

ERROR_TYPES = {
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


@dataclass(frozen=True, kw_only=True)
class Speech:
    """An answer to one request.

    Args:
        content: its blocks.
        stop: why it ends; by default what fits the blocks.
        request: the decoded request.
        number: of the request.
        numbering: how the pieces of tool calls are numbered; by default as the protocol says.
    """

    content: Sequence[Block]
    stop: DoneReason
    request: Mapping[str, Any] = field(default_factory=dict)
    number: int = 1
    numbering: Numbering | None = None

    @property
    def model(self) -> str:
        model = self.request.get("model")
        return model if isinstance(model, str) else "fake-model"

    @property
    def input_tokens(self) -> int:
        """Roughly one token for four characters, as the tokenisers have it."""
        return max(1, len(str(self.request.get("messages") or self.request.get("input") or "")) // 4)

    @property
    def output_tokens(self) -> int:
        return max(1, sum(len(_pieces(block)) for block in self.content))


@dataclass(frozen=True, kw_only=True)
class Wire:
    """One format.

    Args:
        path: where its requests go: the end of the path.
        stream: the events of an answer.
        whole: the same as one object, for a request that does not ask for a stream.
        error: the body of an error response, given type and message.
        in_band: an error event, given type, message and how many events come before it.
        request_id: the header that names the request.
    """

    path: str
    stream: Callable[[Speech], Sequence[Piece]]
    whole: Callable[[Speech], Payload]
    error: Callable[[str, str], Payload]
    in_band: Callable[[str, str, int], Payload]
    request_id: str


def speech(answer: Answer, stop: DoneReason | None, request: Mapping[str, Any], number: int = 1) -> Speech:
    """Make a speech of an answer: a text is one block."""
    content = (Text(answer),) if isinstance(answer, str) else answer
    calls = any(isinstance(block, ToolCall) for block in content)
    return Speech(content=content, stop=stop or ("toolUse" if calls else "stop"), request=request, number=number)


def split_words(text: str) -> list[str]:
    """Cut a text into pieces as a model makes them: a word with the space before it.

    >>> split_words("Hello, big  world. ")
    ['Hello,', ' big', '  world.', ' ']
    """
    return re.findall(r"\s*\S+|\s+", text)


def split_json(text: str) -> list[str]:
    """Cut JSON into pieces that end in the middle of anything."""
    return [text[at : at + 7] for at in range(0, len(text), 7)]


def _pieces(block: Block) -> list[str]:
    if isinstance(block, ToolCall):
        return split_json(block.arguments_json)
    return split_words(block.text if isinstance(block, Text) else block.thinking)


def anthropic_events(answer: Answer, *, stop: DoneReason | None = None, model: str = "fake-model") -> list[Payload]:
    """Return the server-sent events of the Anthropic Messages API for an answer, as mappings.

    Cut, doubled or shuffled, they make the body of a broken stream: `Reply(body=anthropic_events("Hello")[:-1])`.

    >>> [event["type"] for event in anthropic_events("Hello")]
    ['message_start', 'content_block_start', 'ping', 'content_block_delta', 'content_block_stop', 'message_delta',
     'message_stop']
    """
    return _anthropic_events(speech(answer, stop, {"model": model}))


def openai_chunks(answer: Answer, *, stop: DoneReason | None = None, model: str = "fake-model") -> list[Payload | str]:
    """Return the chunks of the OpenAI Chat Completions API for an answer, usage and `[DONE]` included.

    >>> [chunk if isinstance(chunk, str) else chunk["choices"] for chunk in openai_chunks("Hi")][1:3]
    [[{'index': 0, 'delta': {'content': 'Hi'}, 'logprobs': None, 'finish_reason': None}],
     [{'index': 0, 'delta': {}, 'logprobs': None, 'finish_reason': 'stop'}]]
    """
    return _openai_stream(speech(answer, stop, {"model": model, "stream_options": {"include_usage": True}}))


# Anthropic Messages: https://platform.claude.com/docs/en/build-with-claude/streaming

_ANTHROPIC_STOP: Mapping[DoneReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "toolUse": "tool_use",
    "refusal": "refusal",
    "pause": "pause_turn",
}


def _anthropic_message(speech: Speech, output: int) -> Payload:
    return {
        "id": f"msg_{speech.number:06}",
        "type": "message",
        "role": "assistant",
        "model": speech.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _anthropic_usage(speech, output),
    }


def _anthropic_usage(speech: Speech, output: int) -> Payload:
    cached = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {"input_tokens": speech.input_tokens, **cached, "output_tokens": output}


def _anthropic_events(speech: Speech) -> list[Payload]:
    blocks: list[Payload] = []
    for block in speech.content:
        for opened, deltas in _anthropic_blocks(block):
            index = sum(event["type"] == "content_block_stop" for event in blocks)
            if isinstance(block, ToolCall) and speech.numbering not in (None, "late names"):
                blocks += _renumbered(block, index, speech.numbering)
                continue
            blocks.append({"type": "content_block_start", "index": index, "content_block": opened})
            blocks += ({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
            blocks.append({"type": "content_block_stop", "index": index})
    blocks.insert(1 if blocks else 0, {"type": "ping"})
    delta = {"stop_reason": _ANTHROPIC_STOP[speech.stop], "stop_sequence": None}
    usage = _anthropic_usage(speech, speech.output_tokens)
    return [
        {"type": "message_start", "message": _anthropic_message(speech, 1)},
        *blocks,
        {"type": "message_delta", "delta": delta, "usage": usage},
        {"type": "message_stop"},
    ]


def _anthropic_blocks(block: Block) -> Iterator[tuple[Payload, list[Payload]]]:
    """Return a block as it is opened, and its deltas; then the provider's own blocks that follow it."""
    pieces = _pieces(block)
    match block:
        case Text():
            deltas: list[Payload] = [{"type": "text_delta", "text": each} for each in pieces]
            extra = block.extra
            deltas += ({"type": "citations_delta", "citation": each} for each in extra.pop("citations", ()))
            yield {"type": "text", "text": "", **extra}, deltas
        case Thinking(redacted=True):
            yield {"type": "redacted_thinking", "data": block.signature or "", **block.extra}, []
        case Thinking():
            deltas = [{"type": "thinking_delta", "thinking": each} for each in pieces]
            deltas += [] if block.signature is None else [{"type": "signature_delta", "signature": block.signature}]
            yield {"type": "thinking", "thinking": "", "signature": "", **block.extra}, deltas
        case ToolCall():
            deltas = [{"type": "input_json_delta", "partial_json": each} for each in ["", *pieces]]
            yield {"type": "tool_use", "id": block.id, "name": block.name, "input": {}, **block.extra}, deltas
    yield from ((after, []) for after in block.after)


def _renumbered(call: ToolCall, index: int, numbering: Numbering | None) -> Iterator[Payload]:
    used = []
    for place, call_id, name, arguments in numbered([(call.id, call.name, _pieces(call))], numbering):
        where = {} if place is None else {"index": index + place}
        used.append(index + (place or 0))
        if call_id or name:
            opened = {"type": "tool_use", "id": call_id or "", "name": name or "", "input": {}}
            yield {"type": "content_block_start", **where, "content_block": opened}
        if arguments is not None:
            delta = {"type": "input_json_delta", "partial_json": arguments}
            yield {"type": "content_block_delta", **where, "delta": delta}
    yield from ({"type": "content_block_stop", "index": place} for place in sorted({*used}))


def _anthropic_whole(speech: Speech) -> Payload:
    pieces: list[Payload] = []
    for block in speech.content:
        opened, *after = (opened for opened, _ in _anthropic_blocks(block))
        match block:
            case Text():
                opened |= {"text": block.text, **block.extra}
            case ToolCall():
                opened["input"] = block.arguments
            case Thinking(redacted=False):
                opened |= {"thinking": block.thinking, "signature": block.signature or ""}
        pieces += [opened, *after]
    end = {"content": pieces, "stop_reason": _ANTHROPIC_STOP[speech.stop]}
    return _anthropic_message(speech, speech.output_tokens) | end


def _anthropic_error(type: str, message: str) -> Payload:
    return {"type": "error", "error": {"type": type, "message": message}}


# OpenAI Chat Completions: https://platform.openai.com/docs/api-reference/chat-streaming

_OPENAI_STOP: Mapping[DoneReason, str] = {
    "stop": "stop",
    "length": "length",
    "toolUse": "tool_calls",
    "refusal": "content_filter",
    "pause": "pause_turn",
}


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
    chunks.append(chunk({}, _OPENAI_STOP[speech.stop]))
    if wants_usage:
        chunks.append(head | {"choices": [], "usage": _openai_usage(speech)})
    chunks.append("data: [DONE]\n\n")
    return chunks


def _openai_deltas(speech: Speech) -> Iterator[Payload]:
    calls = [block for block in speech.content if isinstance(block, ToolCall)]
    functions = [call for call in calls if not call.custom]
    for block in speech.content:
        match block:
            case Text():
                yield from ({"content": each} for each in _pieces(block))
            case Thinking():
                yield from ({block.field or "reasoning_content": each} for each in _pieces(block))
            case ToolCall(custom=True):
                opened = {"index": calls.index(block), "id": block.id, "type": "custom"}
                yield {"tool_calls": [opened | {"custom": {"name": block.name, "input": ""}} | block.extra]}
                for each in _pieces(block):
                    yield {"tool_calls": [{"index": calls.index(block), "custom": {"input": each}}]}
            case ToolCall() if block is functions[0]:
                listed = [(call.id, call.name, _pieces(call)) for call in functions]
                for delta in map(as_delta, numbered(listed, speech.numbering)):
                    (piece,) = delta["tool_calls"]
                    extra = next((call.extra for call in functions if call.id == piece.get("id")), {})
                    yield {"tool_calls": [piece | extra]}
        if block.extra and not isinstance(block, ToolCall):
            yield block.extra


def _openai_usage(speech: Speech) -> Payload:
    taken, given = speech.input_tokens, speech.output_tokens
    return {"prompt_tokens": taken, "completion_tokens": given, "total_tokens": taken + given}


def _openai_whole(speech: Speech) -> Payload:
    message: Payload = {"role": "assistant", "content": None, "refusal": None}
    for block in speech.content:
        match block:
            case Text():
                message["content"] = (message["content"] or "") + block.text
            case Thinking():
                field = block.field or "reasoning_content"
                message[field] = message.get(field, "") + block.thinking
            case ToolCall():
                kind, arguments = ("custom", "input") if block.custom else ("function", "arguments")
                inner = {"name": block.name, arguments: block.arguments_json}
                call = {"id": block.id, "type": kind, kind: inner, **block.extra}
                message["tool_calls"] = [*message.get("tool_calls", ()), call]
        message |= {} if isinstance(block, ToolCall) else block.extra
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _OPENAI_STOP[speech.stop]}
    return _openai_head(speech, "chat.completion") | {"choices": [choice], "usage": _openai_usage(speech)}


def openai_error(type: str, message: str) -> Payload:
    """Return the body of an error response of OpenAI."""
    code = "invalid_api_key" if type == "authentication_error" else None
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


ANTHROPIC = Wire(
    path="/v1/messages",
    stream=_anthropic_events,
    whole=_anthropic_whole,
    error=_anthropic_error,
    in_band=lambda name, message, at: _anthropic_error(name, message),
    request_id="request-id",
)

OPENAI_CHAT = Wire(
    path="/chat/completions",
    stream=_openai_stream,
    whole=_openai_whole,
    error=openai_error,
    in_band=lambda name, message, at: openai_error(name, message),
    request_id="x-request-id",
)
