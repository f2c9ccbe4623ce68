"""One tool call is one call, however a server numbers it, in both formats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rxauth.errors import ProtocolError
from rxauth.events import ToolCall, ToolCallEnd, to_json
from rxauth.sources._reader import Reader
from tests.sources.streams import ANTHROPIC, OPENAI, check_grammar, done, failed, read, sse

PARIS, ROME = '{"city":"Paris"}', '{"city":"Rome"}'
Pieces = list[tuple[Any, Any, Any, Any]]  # index, id, name, arguments
Calls = list[tuple[str, str]]  # name, arguments


def openai(pieces: list[Any]) -> bytes:
    chunks = []
    for piece in pieces:
        if isinstance(piece, str):
            chunks.append({"id": "c", "choices": [{"index": 0, "delta": {"content": piece}}]})
            continue
        index, id, name, arguments = piece
        call = {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
        wire = {field: value for field, value in call.items() if value is not None}
        wire["function"] = {field: value for field, value in call["function"].items() if value is not None}
        chunks.append({"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [wire]}}]})
    end = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    return sse(*chunks, end, "[DONE]")


def anthropic(pieces: list[Any], *, stops: bool = True) -> bytes:
    """A piece with an id or a name starts a block; `None` stops the last one."""
    events: list[Any] = [{"type": "message_start", "message": {"id": "m"}}]
    for piece in pieces:
        if isinstance(piece, str):
            delta = {"type": "text_delta", "text": piece}
            events.append({"type": "content_block_delta", "index": 0, "delta": delta})
            continue
        if piece is None or isinstance(piece, int):
            events.append({"type": "content_block_stop", "index": piece or 0})
            continue
        index, id, name, arguments = piece
        place = {} if index is None else {"index": index}
        if id is not None or name is not None:
            block = {"type": "tool_use", "id": id, "name": name, "input": {}}
            events.append({"type": "content_block_start", **place, "content_block": block})
        if arguments is not None:
            delta = {"type": "input_json_delta", "partial_json": arguments}
            events.append({"type": "content_block_delta", **place, "delta": delta})
    return sse(*events, {"type": "message_delta", "delta": {"stop_reason": "tool_use"}}, {"type": "message_stop"})


def calls_of(reader: type[Reader], body: bytes) -> Calls:
    events = read(reader, body)
    check_grammar(events)
    ended = [event.tool_call for event in events if isinstance(event, ToolCallEnd)]
    calls = [block for block in done(events).message.content if isinstance(block, ToolCall)]
    assert sorted(ended, key=repr) == sorted(calls, key=repr)
    assert all(call.id for call in calls)
    return [(call.name, call.arguments_json) for call in calls]


# fmt: off
OPENAI_CALLS = [
    pytest.param(
        [(0, "a", "f", ""), (0, None, None, '{"city"'), (0, None, None, ':"Paris"}')],
        [("f", PARIS)],
        id="as the protocol has it",
    ),
    pytest.param(
        [(0, "a", "f", '{"city"'), (0, "b", "f", ':"Par'), (0, "c", "f", 'is"}')],
        [("f", PARIS)],
        id="a new id and the name in every chunk",
    ),
    pytest.param(
        [(0, "a", "f", '{"city"'), (0, "b", "f", ':"Paris"}'), (0, "c", "f", "")],
        [("f", PARIS)],
        id="a new id in every chunk, the last one empty",
    ),
    pytest.param(
        [(0, "a", "f", '{"city"'), (0, "b", None, ':"Par'), (0, "c", None, 'is"}')],
        [("f", PARIS)],
        id="a new id in every chunk, the name once",
    ),
    pytest.param(
        [(0, "a", "f", '{"city"'), (1, "a", None, ':"Par'), (2, "a", None, 'is"}')],
        [("f", PARIS)],
        id="one id under several indexes",
    ),
    pytest.param(
        [(0, "a", "f", PARIS), (0, "b", "f", ROME)],
        [("f", PARIS), ("f", ROME)],
        id="index 0 for all, whole",
    ),
    pytest.param(
        [(0, "a", "f", ""), (0, None, None, PARIS), (0, "b", "f", ""), (0, None, None, ROME)],
        [("f", PARIS), ("f", ROME)],
        id="index 0 for all, in pieces",
    ),
    pytest.param(
        [(0, "a", "f", '{"ci'), (0, "b", "g", ROME), (0, None, None, "")],
        [("f", '{"ci'), ("g", ROME)],
        id="index 0 for all, another name",
    ),
    pytest.param(
        [(None, "a", "f", '{"city"'), (None, None, None, ':"Paris"}'), (None, "b", "f", ROME)],
        [("f", PARIS), ("f", ROME)],
        id="no index",
    ),
    pytest.param(
        [(None, "a", "f", PARIS), (None, "b", "f", '{"ci'), (None, "a", None, ""), (None, "b", None, 'ty":"Rome"}')],
        [("f", PARIS), ("f", ROME)],
        id="no index, in turns by id",
    ),
    pytest.param(
        [(0, None, "f", PARIS), (1, None, "g", ROME)],
        [("f", PARIS), ("g", ROME)],
        id="no id",
    ),
    pytest.param(
        [(0, "", "f", '{"city"'), (0, "", "", ':"Paris"}'), (1, "", "g", ROME)],
        [("f", PARIS), ("g", ROME)],
        id="empty ids and names",
    ),
    pytest.param(
        [(None, None, "f", PARIS), (None, None, "f", ROME)],
        [("f", PARIS), ("f", ROME)],
        id="neither index nor id, whole",
    ),
    pytest.param(
        [(None, None, "f", '{"city"'), (None, None, "f", ':"Paris"}'), (None, None, "g", ROME)],
        [("f", PARIS), ("g", ROME)],
        id="neither index nor id, the name in every chunk",
    ),
    pytest.param(
        [(0, "call", "f", PARIS), (1, "call", "g", ROME), (2, "call", "g", PARIS)],
        [("f", PARIS), ("g", ROME), ("g", PARIS)],
        id="one id for all calls",
    ),
    pytest.param(
        [(0, "a", "f", ""), (0, None, None, PARIS), (0, None, None, PARIS)],
        [("f", PARIS)],
        id="all arguments listener twice",
    ),
    pytest.param(
        [(0, "a", "f", '{"city"'), (0, None, None, ':"Paris"}'), (0, None, None, PARIS)],
        [("f", PARIS)],
        id="all arguments repeated at the end",
    ),
    pytest.param(
        [(0, "a", "f", ""), (0, None, None, PARIS), (0, None, None, ROME)],
        [("f", PARIS + ROME)],
        id="a second complete object on one index",
    ),
    pytest.param(
        [(0, "a", "f", '{"city"'), " and ", (0, None, None, ':"Paris"}')],
        [("f", PARIS)],
        id="text between the arguments",
    ),
    pytest.param(
        [(0, None, None, '{"city"'), (0, "a", None, ":"), (0, None, "f", '"Paris"}')],
        [("f", PARIS)],
        id="the arguments before the name",
    ),
    pytest.param(
        [(0, "a", "f", {"city": "Paris"})],
        [("f", PARIS)],
        id="arguments as an object",
    ),
    pytest.param(
        [(0, "a", "f", PARIS), (1, None, None, ""), (1, "b", None, None)],
        [("f", PARIS)],
        id="pieces of nothing",
    ),
]

ANTHROPIC_CALLS = [
    pytest.param(
        [(0, "a", "f", '{"city"'), (0, None, None, ':"Paris"}'), 0, (1, "b", "g", ROME), 1],
        [("f", PARIS), ("g", ROME)],
        id="as the protocol has it",
    ),
    pytest.param(
        [(0, "a", "f", '{"city"'), (0, "b", "f", ':"Paris"}'), 0],
        [("f", PARIS)],
        id="a new id in every start",
    ),
    pytest.param(
        [(0, "a", "f", '{"city"'), (0, "a", "f", ':"Paris"}'), 0],
        [("f", PARIS)],
        id="the start repeated",
    ),
    pytest.param(
        [(0, "a", "f", '{"city"'), (1, "a", "f", ':"Paris"}'), 0, 1],
        [("f", PARIS)],
        id="one id under several indexes",
    ),
    pytest.param(
        [(0, "a", "f", '{"city"'), (1, "a", "f", None), 0, (1, None, None, ':"Paris"}'), 1],
        [("f", PARIS)],
        id="one id under several indexes, stopped one by one",
    ),
    pytest.param(
        [(0, "a", "f", '{"city"'), " and ", " so ", (0, None, None, ':"Par'), " on", (0, None, None, 'is"}'), 0],
        [("f", PARIS)],
        id="text between the arguments",
    ),
    pytest.param(
        ["Hi", 0, (1, "a", "f", '{"city"'), (0, None, None, ':"Paris"}'), 1],
        [("f", PARIS)],
        id="arguments under another index",
    ),
    pytest.param(
        [(0, "a", "f", PARIS), 0, (0, "b", "f", ROME), 0],
        [("f", PARIS), ("f", ROME)],
        id="index 0 for all",
    ),
    pytest.param(
        [(0, "a", "f", PARIS), (0, "b", "f", ROME), 0],
        [("f", PARIS), ("f", ROME)],
        id="index 0 for all, without stops",
    ),
    pytest.param(
        [(None, "a", "f", PARIS), (None, "b", "g", ROME)],
        [("f", PARIS), ("g", ROME)],
        id="no index",
    ),
    pytest.param(
        [(0, "", "f", PARIS), 0, (1, None, "g", ROME), 1],
        [("f", PARIS), ("g", ROME)],
        id="no id",
    ),
    pytest.param(
        [(0, "a", "f", PARIS), (0, None, None, PARIS), 0],
        [("f", PARIS)],
        id="all arguments listener twice",
    ),
    pytest.param(
        [(0, "a", "f", PARIS), (0, None, None, ROME), 0],
        [("f", PARIS + ROME)],
        id="a second complete object on one index",
    ),
]
# fmt: on


@pytest.mark.parametrize(("pieces", "calls"), OPENAI_CALLS)
def test_openai_pieces_make(pieces: list[Any], calls: Calls) -> None:
    assert calls_of(OPENAI, openai(pieces)) == calls


@pytest.mark.parametrize(("pieces", "calls"), ANTHROPIC_CALLS)
def test_anthropic_pieces_make(pieces: list[Any], calls: Calls) -> None:
    assert calls_of(ANTHROPIC, anthropic(pieces)) == calls


@pytest.mark.parametrize(
    ("reader", "body"),
    [
        (OPENAI, openai([(0, "a", None, PARIS)])),
        (OPENAI, openai([(0, "a", "f", PARIS), (1, None, None, ROME)])),
        (ANTHROPIC, anthropic([(0, None, None, PARIS), 0])),
        (ANTHROPIC, anthropic([(0, "a", "", PARIS), 0])),
    ],
    ids=["openai", "openai, the second", "anthropic, no start", "anthropic"],
)
def test_a_call_without_a_name_is_an_error(reader: type[Reader], body: bytes) -> None:
    """No program can run it, and its text stays."""
    end = failed(read(reader, body))
    assert type(end.cause) is ProtocolError
    assert "without a name" in str(end.cause)
    last = end.error.content[-1]
    assert isinstance(last, ToolCall)
    assert last.arguments_json in (PARIS, ROME)


@pytest.mark.parametrize(
    ("reader", "body"),
    [(OPENAI, openai([(0, "a", "f", PARIS + ROME)])), (ANTHROPIC, anthropic([(0, "a", "f", PARIS + ROME), 0]))],
    ids=["openai", "anthropic"],
)
def test_broken_arguments_say_so_everywhere(reader: type[Reader], body: bytes) -> None:
    """In the event, in the message and in the JSON of both."""
    *events, end = read(reader, body)
    (event,) = (event for event in events if isinstance(event, ToolCallEnd))
    for call in (event.tool_call, *done([end]).message.content):
        assert isinstance(call, ToolCall)
        assert call.has_invalid_arguments
        assert call.arguments == {"INVALID_JSON": PARIS + ROME}
    for encoded in (json.loads(to_json(event))["tool_call"], json.loads(to_json(end))["message"]["content"][0]):
        assert encoded["invalid_arguments"] is True
        assert encoded["arguments"] == {"INVALID_JSON": PARIS + ROME}
