"""An answer in the words of a provider: wire payloads as plain dicts. Pure, no I/O.

A `Wire` is one format. The Anthropic Messages and the OpenAI Chat Completions format are here; another one is another
`Wire` in `WIRES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rxauth.events import Block, DoneReason, Text, Thinking, ToolCall
from rxauth.testing._replies import Answer, Piece

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
class Wire:
    """One format.

    Args:
        path: where its requests go: the end of the path.
        stream: the events of an answer, given the blocks, the reason it ends, the request and its number.
        whole: the same as one object, for a request that does not ask for a stream.
        error: the body of an error response, given type and message.
        in_band: the event that tells an error, given type and message.
        request_id: the header that names the request.
    """

    path: str
    stream: Callable[[Sequence[Block], DoneReason, Mapping[str, Any], int], Sequence[Piece]]
    whole: Callable[[Sequence[Block], DoneReason, Mapping[str, Any], int], Payload]
    error: Callable[[str, str], Payload]
    in_band: Callable[[str, str], Payload]
    request_id: str


def blocks(answer: Answer) -> Sequence[Block]:
    """The content blocks of an answer: a text is one block."""
    return (Text(answer),) if isinstance(answer, str) else answer


def usual_stop(content: Sequence[Block]) -> DoneReason:
    """Why an answer ends when nothing special happened."""
    return "toolUse" if any(isinstance(block, ToolCall) for block in content) else "stop"


def split_words(text: str) -> list[str]:
    """Pieces as a model makes them: a word with the space before it.

    >>> split_words("Hello, big  world. ")
    ['Hello,', ' big', '  world.', ' ']
    """
    return re.findall(r"\s*\S+|\s+", text)


def split_json(text: str) -> list[str]:
    """Pieces of JSON that end in the middle of anything."""
    return [text[at : at + 7] for at in range(0, len(text), 7)]


def anthropic_events(answer: Answer, *, stop: DoneReason | None = None, model: str = "fake-model") -> list[Payload]:
    """The server-sent events of the Anthropic Messages API for an answer, as mappings.

    Cut, doubled or shuffled, they make the body of a broken stream: `Reply(body=anthropic_events("Hello")[:-1])`.

    >>> [event["type"] for event in anthropic_events("Hello")]
    ['message_start', 'content_block_start', 'ping', 'content_block_delta', 'content_block_stop', 'message_delta',
     'message_stop']
    """
    content = blocks(answer)
    return _anthropic_events(content, stop or usual_stop(content), {"model": model}, 1)


def openai_chunks(answer: Answer, *, stop: DoneReason | None = None, model: str = "fake-model") -> list[Payload | str]:
    """The chunks of the OpenAI Chat Completions API for an answer, usage and `[DONE]` included.

    >>> [chunk if isinstance(chunk, str) else chunk["choices"] for chunk in openai_chunks("Hi")][1:3]
    [[{'index': 0, 'delta': {'content': 'Hi'}, 'logprobs': None, 'finish_reason': None}],
     [{'index': 0, 'delta': {}, 'logprobs': None, 'finish_reason': 'stop'}]]
    """
    content = blocks(answer)
    request = {"model": model, "stream_options": {"include_usage": True}}
    return _openai_stream(content, stop or usual_stop(content), request, 1)


# Anthropic Messages: https://platform.claude.com/docs/en/build-with-claude/streaming

_ANTHROPIC_STOP: Mapping[DoneReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "toolUse": "tool_use",
    "refusal": "refusal",
}


def _anthropic_message(request: Mapping[str, Any], number: int) -> Payload:
    return {
        "id": f"msg_{number:06}",
        "type": "message",
        "role": "assistant",
        "model": _model(request),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _anthropic_usage(request: Mapping[str, Any], output: int) -> Payload:
    return {
        "input_tokens": _input_tokens(request),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output,
    }


def _anthropic_events(
    content: Sequence[Block], stop: DoneReason, request: Mapping[str, Any], number: int
) -> list[Payload]:
    message = _anthropic_message(request, number) | {"usage": _anthropic_usage(request, 1)}
    events: list[Payload] = [{"type": "message_start", "message": message}]
    for index, block in enumerate(content):
        opened, deltas = _anthropic_block(block)
        events.append({"type": "content_block_start", "index": index, "content_block": opened})
        if index == 0:
            events.append({"type": "ping"})
        events += ({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
        events.append({"type": "content_block_stop", "index": index})
    if not content:
        events.append({"type": "ping"})
    delta = {"stop_reason": _ANTHROPIC_STOP[stop], "stop_sequence": None}
    usage = _anthropic_usage(request, _output_tokens(content))
    events.append({"type": "message_delta", "delta": delta, "usage": usage})
    events.append({"type": "message_stop"})
    return events


def _anthropic_block(block: Block) -> tuple[Payload, list[Payload]]:
    """A content block as it is opened, and its deltas."""
    if isinstance(block, Text):
        return {"type": "text", "text": ""}, [{"type": "text_delta", "text": each} for each in split_words(block.text)]
    if isinstance(block, Thinking):
        if block.redacted:
            return {"type": "redacted_thinking", "data": block.signature or ""}, []
        deltas = [{"type": "thinking_delta", "thinking": each} for each in split_words(block.thinking)]
        if block.signature is not None:
            deltas.append({"type": "signature_delta", "signature": block.signature})
        return {"type": "thinking", "thinking": "", "signature": ""}, deltas
    parts = ["", *split_json(block.arguments_json)]
    return (
        {"type": "tool_use", "id": block.id, "name": block.name, "input": {}},
        [{"type": "input_json_delta", "partial_json": each} for each in parts],
    )


def _anthropic_whole(content: Sequence[Block], stop: DoneReason, request: Mapping[str, Any], number: int) -> Payload:
    said: list[Payload] = []
    for block in content:
        opened, _ = _anthropic_block(block)
        if isinstance(block, Text):
            opened["text"] = block.text
        elif isinstance(block, ToolCall):
            opened["input"] = block.arguments
        elif not block.redacted:
            opened |= {"thinking": block.thinking, "signature": block.signature or ""}
        said.append(opened)
    usage = _anthropic_usage(request, _output_tokens(content))
    end = {"content": said, "stop_reason": _ANTHROPIC_STOP[stop], "usage": usage}
    return _anthropic_message(request, number) | end


def _anthropic_error(type: str, message: str) -> Payload:
    return {"type": "error", "error": {"type": type, "message": message}}


# OpenAI Chat Completions: https://platform.openai.com/docs/api-reference/chat-streaming

_OPENAI_STOP: Mapping[DoneReason, str] = {
    "stop": "stop",
    "length": "length",
    "toolUse": "tool_calls",
    "refusal": "content_filter",
}


def _openai_head(request: Mapping[str, Any], number: int, kind: str) -> Payload:
    return {"id": f"chatcmpl-{number:06}", "object": kind, "created": 1700000000, "model": _model(request)}


def _openai_stream(
    content: Sequence[Block], stop: DoneReason, request: Mapping[str, Any], number: int
) -> list[Payload | str]:
    head = _openai_head(request, number, "chat.completion.chunk")
    options = request.get("stream_options")
    wants_usage = isinstance(options, Mapping) and bool(options.get("include_usage"))
    empty = {"usage": None} if wants_usage else {}

    def chunk(delta: Payload, reason: str | None = None) -> Payload:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return head | {"choices": [choice]} | empty

    chunks: list[Payload | str] = [chunk({"role": "assistant", "content": ""})]
    chunks += map(chunk, _openai_deltas(content))
    chunks.append(chunk({}, _OPENAI_STOP[stop]))
    if wants_usage:
        chunks.append(head | {"choices": [], "usage": _openai_usage(content, request)})
    chunks.append("data: [DONE]\n\n")
    return chunks


def _openai_deltas(content: Sequence[Block]) -> Iterator[Payload]:
    calls = 0
    for block in content:
        if isinstance(block, Text):
            yield from ({"content": each} for each in split_words(block.text))
        elif isinstance(block, Thinking):
            yield from ({"reasoning_content": each} for each in split_words(block.thinking))
        else:
            function = {"name": block.name, "arguments": ""}
            yield {"tool_calls": [{"index": calls, "id": block.id, "type": "function", "function": function}]}
            for each in split_json(block.arguments_json):
                yield {"tool_calls": [{"index": calls, "function": {"arguments": each}}]}
            calls += 1


def _openai_usage(content: Sequence[Block], request: Mapping[str, Any]) -> Payload:
    taken, given = _input_tokens(request), _output_tokens(content)
    return {"prompt_tokens": taken, "completion_tokens": given, "total_tokens": taken + given}


def _openai_whole(content: Sequence[Block], stop: DoneReason, request: Mapping[str, Any], number: int) -> Payload:
    texts = [block.text for block in content if isinstance(block, Text)]
    thoughts = [block.thinking for block in content if isinstance(block, Thinking)]
    calls = [
        {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": block.arguments_json}}
        for block in content
        if isinstance(block, ToolCall)
    ]
    message: Payload = {"role": "assistant", "content": "".join(texts) if texts else None, "refusal": None}
    message |= {"reasoning_content": "".join(thoughts)} if thoughts else {}
    message |= {"tool_calls": calls} if calls else {}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _OPENAI_STOP[stop]}
    return _openai_head(request, number, "chat.completion") | {
        "choices": [choice],
        "usage": _openai_usage(content, request),
    }


def _openai_error(type: str, message: str) -> Payload:
    code = "invalid_api_key" if type == "authentication_error" else None
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


def _model(request: Mapping[str, Any]) -> str:
    model = request.get("model")
    return model if isinstance(model, str) else "fake-model"


def _input_tokens(request: Mapping[str, Any]) -> int:
    """Roughly one token for four characters, as the tokenisers have it."""
    return max(1, len(str(request.get("messages", ""))) // 4)


def _output_tokens(content: Sequence[Block]) -> int:
    spoken = 0
    for block in content:
        if isinstance(block, Text):
            spoken += len(split_words(block.text))
        elif isinstance(block, Thinking):
            spoken += len(split_words(block.thinking))
        else:
            spoken += len(split_json(block.arguments_json))
    return max(1, spoken)


ANTHROPIC = Wire(
    path="/v1/messages",
    stream=_anthropic_events,
    whole=_anthropic_whole,
    error=_anthropic_error,
    in_band=_anthropic_error,
    request_id="request-id",
)

OPENAI_CHAT = Wire(
    path="/chat/completions",
    stream=_openai_stream,
    whole=_openai_whole,
    error=_openai_error,
    in_band=_openai_error,
    request_id="x-request-id",
)

WIRES = (ANTHROPIC, OPENAI_CHAT)
