"""Turn an assistant's message into the one that the next request has to contain.

    source      message = done.message; run its tool calls
    request     {"messages": [*messages, to_anthropic(message), {"role": "user", "content": [tool_result, ...]}]}

Everything that a provider wants returned goes back as it came: signatures, redacted thinking, ids, blocks of its own
tools, further fields. It goes back to the API that it came from (`message.api`) and to no other: a signature of one
provider is an error at another, so thinking crosses from one API to the other not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rxauth.events import Api, AssistantMessage, Block, Text, Thinking, ToolCall

__all__ = ["to_anthropic", "to_openai"]

# Further fields of an answer that its provider wants back. A request has no others: some servers refuse them.
_WANTED_BACK = re.compile("reasoning|thinking|thought|signature|encrypted|extra_content|audio")


def to_anthropic(message: AssistantMessage, *, unsigned_thinking: bool = False) -> dict[str, Any]:
    """Build the assistant message of an Anthropic Messages request.

    Text without a character that shows is left out, because the API refuses it. A message that an error cut off holds
    what had come; a tool call in it needs its result like any other.

    Args:
        message: of a `done` or `error` event, a transcript or `collect_message`.
        unsigned_thinking: send thinking without a signature, too, for a compatible server that signs none. Anthropic
            refuses it.

    Returns:
        A new dict with `role` and `content`.

    >>> to_anthropic(AssistantMessage(content=(Text("Let me see."), ToolCall("t1", "weather", '{"city": "Paris"}'))))
    {'role': 'assistant', 'content': [{'type': 'text', 'text': 'Let me see.'},
     {'type': 'tool_use', 'id': 't1', 'name': 'weather', 'input': {'city': 'Paris'}}]}
    """
    own = _came_from(message, "anthropic-messages")
    content: list[dict[str, Any]] = []
    for block in message.content:
        content += _anthropic_block(block, own=own, unsigned=unsigned_thinking)
        content += block.after if own else []
    return {"role": "assistant", "content": content}


def _anthropic_block(block: Block, *, own: bool, unsigned: bool) -> Iterator[dict[str, Any]]:
    extra = block.extra if own else {}
    match block:
        case Text():
            if block.text.strip():
                yield {"type": "text", "text": block.text} | extra
        case Thinking(redacted=True):
            if own:
                yield {"type": "redacted_thinking", "data": block.signature or ""} | extra
        case Thinking():
            if own and (block.signature or (unsigned and block.thinking)):
                yield {"type": "thinking", "thinking": block.thinking, "signature": block.signature or ""} | extra
        case ToolCall():
            yield {"type": "tool_use", "id": block.id, "name": block.name, "input": block.arguments} | extra


def to_openai(message: AssistantMessage) -> dict[str, Any]:
    """Build the assistant message of a Chat Completions request.

    Thinking goes back in the field that it came in. The arguments of a tool call are sent as the model wrote them, also
    where they are no JSON.

    Args:
        message: of a `done` or `error` event, a transcript or `collect_message`.

    Returns:
        A new dict with `role` and `content`, and with `tool_calls`, `refusal` and further fields where there are any.

    >>> to_openai(AssistantMessage(content=(Text("Let me see."), ToolCall("c1", "weather", '{"city": "Paris"}'))))
    {'role': 'assistant', 'content': 'Let me see.', 'tool_calls': [{'id': 'c1', 'type': 'function',
     'function': {'name': 'weather', 'arguments': '{"city": "Paris"}'}}]}
    """
    own = _came_from(message, "openai-chat")
    fields: dict[str, Any] = {}
    calls = []
    for block in message.content:
        if isinstance(block, ToolCall):
            calls.append(_openai_call(block, own=own))
        elif own:
            for name, value in block.extra.items():
                if _WANTED_BACK.search(name):
                    fields[name] = [*fields.get(name, []), *value] if isinstance(value, list) else value
            if isinstance(block, Thinking) and block.field not in ("", "content"):
                fields[block.field] = fields.get(block.field, "") + block.thinking
    if isinstance(fields.get("audio"), dict):  # a request names the audio of an answer, it does not repeat it
        fields["audio"] = {"id": fields["audio"].get("id")}
    refused = message.stop_reason == "refusal" and not message.text and not calls and message.stop_details
    fields |= {"refusal": message.stop_details} if refused else {}
    fields |= {"tool_calls": calls} if calls else {}
    return {"role": "assistant", "content": message.text or (None if calls or refused else "")} | fields


def _openai_call(call: ToolCall, *, own: bool) -> dict[str, Any]:
    extra = call.extra if own else {}
    kind = "custom" if call.custom else "function"
    arguments = {"input": call.arguments_json} if call.custom else {"arguments": call.arguments_json or "{}"}
    function = {"name": call.name} | arguments | extra.pop(kind, {})
    return {"id": call.id, "type": kind, kind: function} | extra


def _came_from(message: AssistantMessage, api: Api) -> bool:
    """Whether this API knows the message's signatures and fields; one made by hand is trusted."""
    return message.api in (None, api)
