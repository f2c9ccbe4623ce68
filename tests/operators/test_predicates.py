"""The events that are prelude by default, in the shapes in which SDKs and frameworks give them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import reactivex as rx

from rxauth import recover_auth
from rxauth.operators._predicates import is_error_event, is_opener, label_of


def agents(kind: str) -> SimpleNamespace:
    """As openai-agents wraps an event of the Responses API."""
    return SimpleNamespace(type="raw_response_event", data=SimpleNamespace(type=kind))


def langchain(kind: str) -> dict[str, Any]:
    """As `astream_events(version="v2")` gives them."""
    return {"event": kind, "name": "any", "run_id": "1", "parent_ids": [], "tags": [], "metadata": {}, "data": {}}


OPENERS = [
    {"type": "start"},
    SimpleNamespace(type="start"),
    {"type": "ping"},
    {"type": "message_start", "message": {}},
    SimpleNamespace(type="response.created"),
    SimpleNamespace(type="response.queued"),
    SimpleNamespace(type="response.in_progress"),
    SimpleNamespace(type="agent_updated_stream_event"),
    agents("response.created"),
    {"type": "raw_response_event", "data": {"type": "response.in_progress"}},
    *map(langchain, ("on_chain_start", "on_prompt_start", "on_prompt_end", "on_chat_model_start", "on_llm_start")),
]
OTHERS = [
    {"type": "text_delta"},
    {"type": "error"},
    SimpleNamespace(type="response.output_text.delta"),
    SimpleNamespace(type="run_item_stream_event"),
    agents("response.output_text.delta"),
    SimpleNamespace(type="raw_response_event", data=None),
    *map(langchain, ("on_chat_model_stream", "on_tool_start", "on_chain_stream", "on_chain_end")),
    {"event": "start"},
    {"type": ["start"]},
    {},
    "start",
    None,
]


@pytest.mark.parametrize("event", OPENERS, ids=label_of)
def test_an_opener_is_held_and_shown_once(event: Any) -> None:
    attempts = [[event, {"type": "error", "status": 401}], [event, {"type": "text_delta"}]]
    seen: list[Any] = []
    stream = rx.defer(lambda _: rx.of(*attempts.pop(0)))
    stream.pipe(recover_auth(lambda _: True)).subscribe(seen.append)
    assert seen == [event, {"type": "text_delta"}]


@pytest.mark.parametrize("event", OTHERS, ids=repr)
def test_any_other_event_is_live_or_an_error(event: Any) -> None:
    assert not is_opener(event)
    assert is_error_event(event) is (event == {"type": "error"})


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ({"type": "start"}, "start"),
        (langchain("on_tool_start"), "on_tool_start"),
        (SimpleNamespace(), "SimpleNamespace"),
        ({"type": 5}, "dict"),
        ({"type": "a text " * 99}, "dict"),
    ],
)
def test_an_event_is_named_by_type_event_or_class(event: Any, name: str) -> None:
    assert label_of(event) == name
