"""An answer in the words of a provider: wire payloads as plain dicts. Pure, no I/O.

A `Wire` is one format. The Anthropic Messages, the OpenAI Chat Completions and the OpenAI Responses format are here;
another one is another `Wire` in `WIRES`.
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
        in_band: the event that tells an error, given type, message and how many events come before it.
        request_id: the header that names the request.
    """

    path: str
    stream: Callable[[Sequence[Block], DoneReason, Mapping[str, Any], int], Sequence[Piece]]
    whole: Callable[[Sequence[Block], DoneReason, Mapping[str, Any], int], Payload]
    error: Callable[[str, str], Payload]
    in_band: Callable[[str, str, int], Payload]
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


def openai_response_events(
    answer: Answer, *, stop: DoneReason | None = None, model: str = "fake-model", failed: str | None = None
) -> list[Payload]:
    """The server-sent events of the OpenAI Responses API for an answer.

    With `failed`, a code such as `server_error`, the last event is `response.failed` instead of `response.completed`.

    >>> [event["type"] for event in openai_response_events("Hi")]
    ['response.created', 'response.in_progress', 'response.output_item.added', 'response.content_part.added',
     'response.output_text.delta', 'response.output_text.done', 'response.content_part.done',
     'response.output_item.done', 'response.completed']
    >>> openai_response_events("Hi", failed="server_error")[-1]["response"]["error"]
    {'code': 'server_error', 'message': 'Internal server error.'}
    """
    content = blocks(answer)
    request = {"model": model}
    events = _response_stream(content, stop or usual_stop(content), request, 1)
    if failed is not None:
        error = {"code": failed, "message": _text_of(failed)}
        response = _response([], request, 1) | {"status": "failed", "error": error}
        events[-1] = {"type": "response.failed", "response": response, "sequence_number": len(events) - 1}
    return events


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


def _anthropic_in_band(type: str, message: str, at: int) -> Payload:
    return _anthropic_error(type, message)


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


def _openai_in_band(type: str, message: str, at: int) -> Payload:
    return _openai_error(type, message)


# OpenAI Responses: https://platform.openai.com/docs/api-reference/responses-streaming


def _response(output: Sequence[Payload], request: Mapping[str, Any], number: int) -> Payload:
    return {
        "id": f"resp_{number:06}",
        "object": "response",
        "created_at": 1700000000,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": _model(request),
        "output": list(output),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
    }


def _response_whole(content: Sequence[Block], stop: DoneReason, request: Mapping[str, Any], number: int) -> Payload:
    output = [_response_item(block, index, done=True) for index, block in enumerate(content)]
    taken, given = _input_tokens(request), _output_tokens(content)
    usage = {
        "input_tokens": taken,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": given,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": taken + given,
    }
    cut_short = {"length": "max_output_tokens", "refusal": "content_filter"}.get(stop)
    return _response(output, request, number) | {
        "status": "completed" if cut_short is None else "incomplete",
        "incomplete_details": None if cut_short is None else {"reason": cut_short},
        "usage": usage,
    }


def _response_stream(
    content: Sequence[Block], stop: DoneReason, request: Mapping[str, Any], number: int
) -> list[Payload]:
    opened = _response([], request, number)
    events: list[Payload] = [{"type": f"response.{each}", "response": opened} for each in ("created", "in_progress")]
    for index, block in enumerate(content):
        item, done = (_response_item(block, index, done=done) for done in (False, True))
        place = {"item_id": item["id"], "output_index": index}
        events.append({"type": "response.output_item.added", "output_index": index, "item": item})
        events += (event | place for event in _response_block(block))
        events.append({"type": "response.output_item.done", "output_index": index, "item": done})
    whole = _response_whole(content, stop, request, number)
    events.append({"type": f"response.{whole['status']}", "response": whole})
    return [event | {"sequence_number": at} for at, event in enumerate(events)]


def _response_item(block: Block, index: int, *, done: bool) -> Payload:
    status = "completed" if done else "in_progress"
    if isinstance(block, Text):
        content = [_response_text(block.text)] if done else []
        return {"id": f"msg_{index}", "type": "message", "role": "assistant", "status": status, "content": content}
    if isinstance(block, Thinking):
        summary = [{"type": "summary_text", "text": block.thinking}] if done and block.thinking else []
        return {"id": f"rs_{index}", "type": "reasoning", "summary": summary, "encrypted_content": block.signature}
    return {
        "id": f"fc_{index}",
        "type": "function_call",
        "status": status,
        "call_id": block.id,
        "name": block.name,
        "arguments": block.arguments_json if done else "",
    }


def _response_text(text: str) -> Payload:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response_block(block: Block) -> Iterator[Payload]:
    """The events inside an output item."""
    if isinstance(block, Text):
        part: Payload = {"content_index": 0}
        yield part | {"type": "response.content_part.added", "part": _response_text("")}
        for each in split_words(block.text):
            yield part | {"type": "response.output_text.delta", "delta": each, "logprobs": []}
        yield part | {"type": "response.output_text.done", "text": block.text, "logprobs": []}
        yield part | {"type": "response.content_part.done", "part": _response_text(block.text)}
    elif isinstance(block, ToolCall):
        for each in split_json(block.arguments_json):
            yield {"type": "response.function_call_arguments.delta", "delta": each}
        yield {"type": "response.function_call_arguments.done", "arguments": block.arguments_json}
    elif block.thinking:
        part = {"summary_index": 0}
        name = "response.reasoning_summary"
        yield part | {"type": f"{name}_part.added", "part": {"type": "summary_text", "text": ""}}
        for each in split_words(block.thinking):
            yield part | {"type": f"{name}_text.delta", "delta": each}
        yield part | {"type": f"{name}_text.done", "text": block.thinking}
        yield part | {"type": f"{name}_part.done", "part": {"type": "summary_text", "text": block.thinking}}


def _response_in_band(type: str, message: str, at: int) -> Payload:
    code = "invalid_api_key" if type == "authentication_error" else type
    return {"type": "error", "code": code, "message": message, "param": None, "sequence_number": at}


def _text_of(word: str) -> str:
    """The message for an error of that type or code."""
    return dict(ERROR_TYPES.values()).get(word, ERROR_TYPES[500][1])


def _model(request: Mapping[str, Any]) -> str:
    model = request.get("model")
    return model if isinstance(model, str) else "fake-model"


def _input_tokens(request: Mapping[str, Any]) -> int:
    """Roughly one token for four characters, as the tokenisers have it."""
    return max(1, len(str(request.get("messages") or request.get("input") or "")) // 4)


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
    in_band=_anthropic_in_band,
    request_id="request-id",
)

OPENAI_CHAT = Wire(
    path="/chat/completions",
    stream=_openai_stream,
    whole=_openai_whole,
    error=_openai_error,
    in_band=_openai_in_band,
    request_id="x-request-id",
)

OPENAI_RESPONSES = Wire(
    path="/responses",
    stream=_response_stream,
    whole=_response_whole,
    error=_openai_error,
    in_band=_response_in_band,
    request_id="x-request-id",
)

WIRES = (ANTHROPIC, OPENAI_CHAT, OPENAI_RESPONSES)
