"""Classify events by their `type`, an attribute or the key of a mapping: the default predicates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rxauth.failures import type_of

_OPENERS = frozenset(
    {
        "start",
        "ping",
        # Anthropic Messages
        "message_start",
        # OpenAI Responses
        "response.created",
        "response.queued",
        "response.in_progress",
        # openai-agents: the runner names its first agent before it asks the model
        "agent_updated_stream_event",
    }
)

# LangChain's `astream_events`: the steps that a runnable takes before the model has answered
_LANGCHAIN_OPENERS = frozenset(
    {"on_chain_start", "on_prompt_start", "on_prompt_end", "on_chat_model_start", "on_llm_start"}
)


def is_opener(event: Any) -> bool:
    """Return whether an event can come before the server has accepted the request."""
    kind, openers = type_of(event), _OPENERS
    if kind == "raw_response_event":  # openai-agents wraps an event of the Responses API
        kind = type_of(event.get("data") if isinstance(event, Mapping) else getattr(event, "data", None))
    if kind is None and isinstance(event, Mapping):
        kind, openers = event.get("event"), _LANGCHAIN_OPENERS
    return isinstance(kind, str) and kind in openers  # a value of another type may not be hashable


def label_of(event: Any) -> str:
    """Name an event for a person: by its `type` or LangChain's `event`, if that is a short word, else by its class."""
    kind = type_of(event) or (event.get("event") if isinstance(event, Mapping) else None)
    return kind if isinstance(kind, str) and len(kind) <= 64 else type(event).__name__


def is_error_event(event: Any) -> bool:
    """Return whether an event is a failure."""
    return bool(type_of(event) == "error")


def is_ping_event(event: Any) -> bool:
    """Return whether an event only shows that the connection is alive."""
    return bool(type_of(event) == "ping")
