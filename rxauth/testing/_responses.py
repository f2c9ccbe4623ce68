"""Put an answer in the words of the OpenAI Responses API. Pure, no I/O.

Protocol: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rxauth.events import Block, DoneReason, Text, Thinking
from rxauth.testing._replies import Answer
from rxauth.testing._wires import ERROR_TYPES, Payload, Speech, Wire, openai_error, speech, split_json, split_words


def openai_response_events(
    answer: Answer, *, stop: DoneReason | None = None, model: str = "fake-model", failed: str | None = None
) -> list[Payload]:
    """Return the server-sent events of the OpenAI Responses API for an answer.

    With `failed`, a code such as `server_error`, the last event is `response.failed` instead of `response.completed`.

    >>> [event["type"] for event in openai_response_events("Hi")]
    ['response.created', 'response.in_progress', 'response.output_item.added', 'response.content_part.added',
     'response.output_text.delta', 'response.output_text.done', 'response.content_part.done',
     'response.output_item.done', 'response.completed']
    >>> openai_response_events("Hi", failed="server_error")[-1]["response"]["error"]
    {'code': 'server_error', 'message': 'Internal server error.'}
    """
    spoken = speech(answer, stop, {"model": model})
    events = _stream(spoken)
    if failed is not None:
        message = dict(ERROR_TYPES.values()).get(failed, ERROR_TYPES[500][1])
        response = _response([], spoken) | {"status": "failed", "error": {"code": failed, "message": message}}
        events[-1] = {"type": "response.failed", "response": response, "sequence_number": len(events) - 1}
    return events


def _response(output: Sequence[Payload], speech: Speech) -> Payload:
    return {
        "id": f"resp_{speech.number:06}",
        "object": "response",
        "created_at": 1700000000,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": speech.model,
        "output": list(output),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
    }


def _whole(speech: Speech) -> Payload:
    output = [_item(block, index, done=True) for index, block in enumerate(speech.content)]
    taken, given = speech.input_tokens, speech.output_tokens
    usage = {
        "input_tokens": taken,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": given,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": taken + given,
    }
    cut_short = {"length": "max_output_tokens", "refusal": "content_filter"}.get(speech.stop)
    return _response(output, speech) | {
        "status": "completed" if cut_short is None else "incomplete",
        "incomplete_details": None if cut_short is None else {"reason": cut_short},
        "usage": usage,
    }


def _stream(speech: Speech) -> list[Payload]:
    opened = _response([], speech)
    events: list[Payload] = [{"type": f"response.{each}", "response": opened} for each in ("created", "in_progress")]
    for index, block in enumerate(speech.content):
        item, done = (_item(block, index, done=done) for done in (False, True))
        place = {"item_id": item["id"], "output_index": index}
        events.append({"type": "response.output_item.added", "output_index": index, "item": item})
        events += (event | place for event in _block_events(block))
        events.append({"type": "response.output_item.done", "output_index": index, "item": done})
    whole = _whole(speech)
    events.append({"type": f"response.{whole['status']}", "response": whole})
    return [event | {"sequence_number": at} for at, event in enumerate(events)]


def _item(block: Block, index: int, *, done: bool) -> Payload:
    status = "completed" if done else "in_progress"
    if isinstance(block, Text):
        content = [_text(block.text)] if done else []
        return {"id": f"msg_{index}", "type": "message", "role": "assistant", "status": status, "content": content}
    if isinstance(block, Thinking):
        summary = [{"type": "summary_text", "text": block.thinking}] if done and block.thinking else []
        return {"id": f"rs_{index}", "type": "reasoning", "summary": summary, "encrypted_content": block.signature}
    call = {"call_id": block.id, "name": block.name, "arguments": block.arguments_json if done else ""}
    return {"id": f"fc_{index}", "type": "function_call", "status": status, **call}


def _text(text: str) -> Payload:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _block_events(block: Block) -> Iterator[Payload]:
    """Return the events inside an output item."""
    if isinstance(block, Text):
        part: Payload = {"content_index": 0}
        yield part | {"type": "response.content_part.added", "part": _text("")}
        for each in split_words(block.text):
            yield part | {"type": "response.output_text.delta", "delta": each, "logprobs": []}
        yield part | {"type": "response.output_text.done", "text": block.text, "logprobs": []}
        yield part | {"type": "response.content_part.done", "part": _text(block.text)}
    elif not isinstance(block, Thinking):
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


def _in_band(type: str, message: str, at: int) -> Payload:
    code = "invalid_api_key" if type == "authentication_error" else type
    return {"type": "error", "code": code, "message": message, "param": None, "sequence_number": at}


OPENAI_RESPONSES = Wire(
    path="/responses",
    stream=_stream,
    whole=_whole,
    error=openai_error,
    in_band=_in_band,
    request_id="x-request-id",
)
