"""Write an answer in the form of the OpenAI Responses API. Pure, no I/O.

Protocol: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

from collections.abc import Sequence

from rxauth.events import Block, DoneReason, Text, Thinking
from rxauth.testing._wires import ERRORS, Answer, Payload, Speech, Wire, openai_error, split


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
    speech = Speech(answer, stop, {"model": model})
    events = _stream(speech)
    if failed is not None:
        message = dict(ERRORS.values()).get(failed, ERRORS[500][1])
        response = _response([], speech) | {"status": "failed", "error": {"code": failed, "message": message}}
        events[-1] |= {"type": "response.failed", "response": response}
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
    taken, given = speech.input_tokens, speech.output_tokens
    usage = {
        "input_tokens": taken,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": given,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": taken + given,
    }
    cut_short = {"length": "max_output_tokens", "refusal": "content_filter"}.get(speech.stop)
    return _response([_item(block, index)[1] for index, block in enumerate(speech.content)], speech) | {
        "status": "completed" if cut_short is None else "incomplete",
        "incomplete_details": None if cut_short is None else {"reason": cut_short},
        "usage": usage,
    }


def _stream(speech: Speech) -> list[Payload]:
    opened, whole = _response([], speech), _whole(speech)
    events: list[Payload] = [{"type": f"response.{each}", "response": opened} for each in ("created", "in_progress")]
    for index, block in enumerate(speech.content):
        added, done, within = _item(block, index)
        events.append({"type": "response.output_item.added", "output_index": index, "item": added})
        events += (event | {"item_id": added["id"], "output_index": index} for event in within)
        events.append({"type": "response.output_item.done", "output_index": index, "item": done})
    events.append({"type": f"response.{whole['status']}", "response": whole})
    return [event | {"sequence_number": at} for at, event in enumerate(events)]


def _item(block: Block, index: int) -> tuple[Payload, Payload, list[Payload]]:
    """Return an output item as it is added, as it is when it is done, and the events between the two."""
    status = {"status": "in_progress"}, {"status": "completed"}
    if isinstance(block, Text):
        item: Payload = {"id": f"msg_{index}", "type": "message", "role": "assistant", "content": []}
        part: Payload = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        whole = part | {"text": block.text}
        events: list[Payload] = [
            {"type": "response.content_part.added", "part": part},
            *({"type": "response.output_text.delta", "delta": each, "logprobs": []} for each in split(block)),
            {"type": "response.output_text.done", "text": block.text, "logprobs": []},
            {"type": "response.content_part.done", "part": whole},
        ]
        events = [event | {"content_index": 0} for event in events]
        return item | status[0], item | {"content": [whole]} | status[1], events
    if isinstance(block, Thinking):
        item = {"id": f"rs_{index}", "type": "reasoning", "summary": [], "encrypted_content": block.signature}
        if not block.thinking:
            return item, item, []
        part = {"type": "summary_text", "text": ""}
        whole = part | {"text": block.thinking}
        name = "response.reasoning_summary"
        events = [
            {"type": f"{name}_part.added", "part": part},
            *({"type": f"{name}_text.delta", "delta": each} for each in split(block)),
            {"type": f"{name}_text.done", "text": block.thinking},
            {"type": f"{name}_part.done", "part": whole},
        ]
        return item, item | {"summary": [whole]}, [event | {"summary_index": 0} for event in events]
    item = {"id": f"fc_{index}", "type": "function_call", "call_id": block.id, "name": block.name, "arguments": ""}
    name = "response.function_call_arguments"
    events = [{"type": f"{name}.delta", "delta": each} for each in split(block)]
    done: Payload = {"type": f"{name}.done", "arguments": block.arguments_json}
    return item | status[0], item | {"arguments": block.arguments_json} | status[1], [*events, done]


def _error(type: str, message: str, at: int | None) -> Payload:
    if at is None:
        return openai_error(type, message)
    code = "invalid_api_key" if type == "authentication_error" else type
    return {"type": "error", "code": code, "message": message, "param": None, "sequence_number": at}


OPENAI_RESPONSES = Wire(
    path="/responses",
    stream=_stream,
    whole=_whole,
    error=_error,
    request_id="x-request-id",
)
