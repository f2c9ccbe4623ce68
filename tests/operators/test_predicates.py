"""The events that are prelude by default, in the shapes in which SDKs and frameworks give them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import reactivex as rx
from reactivex import operators as ops

from rxauth import buffer_until_live, recover_auth
from rxauth.testing import marbles


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


@pytest.mark.parametrize("event", OPENERS, ids=repr)
def test_an_opener_is_held_and_shown_once(event: Any) -> None:
    attempts = [[event, {"type": "error", "status": 401}], [event, {"type": "text_delta"}]]
    seen: list[Any] = []
    stream = rx.defer(lambda _: rx.of(*attempts.pop(0)))
    stream.pipe(recover_auth(lambda _: True)).subscribe(seen.append)
    assert seen == [event, {"type": "text_delta"}]


@pytest.mark.parametrize("event", OTHERS, ids=repr)
def test_any_other_event_is_live(event: Any) -> None:
    seen: list[Any] = []
    rx.of(event).pipe(ops.concat(rx.never()), buffer_until_live()).subscribe(seen.append)
    assert seen == [event]


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
def test_the_live_event_is_named_by_type_event_or_class(event: Any, name: str) -> None:
    reported: list[Any] = []
    recovered = recover_auth(lambda _: True, is_prelude=lambda _: False, on_recovery=reported.append)
    rx.concat(rx.of(event), rx.throw(marbles.failure)).pipe(recovered).subscribe(on_error=lambda _: None)
    assert [each.live_type for each in reported] == [name]
