"""One tool call is one call, however a server numbers it, in both formats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rxauth.errors import ProtocolError
from rxauth.events import ToolCall, ToolCallEnd, to_json
from rxauth.sources._reader import Reader
from tests.sources.streams import ANTHROPIC, OPENAI, check_grammar, done, failed, read, sse

HEAD, TAIL = '{"city"', ':"Paris"}'
PARIS, ROME = HEAD + TAIL, '{"city":"Rome"}'
Calls = list[tuple[str, str]]  # name, arguments


def openai(pieces: list[Any]) -> bytes:
    """A piece is an index, an id, a name and arguments, `None` left out; a text between the pieces is content."""

    def given(**fields: Any) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if value is not None}

    deltas: list[Any] = []
    for piece in pieces:
        if isinstance(piece, str):
            deltas.append({"content": piece})
        else:
            index, id, name, arguments = piece
            function = given(name=name, arguments=arguments)
            deltas.append({"tool_calls": [given(index=index, id=id, type="function", function=function)]})
    chunks = [{"id": "c", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    return sse(*chunks, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}, "[DONE]")


def anthropic(pieces: list[Any]) -> bytes:
    """A piece with an id or a name starts a block, a number stops one."""
    events: list[Any] = [{"type": "message_start", "message": {"id": "m"}}]

    def add(kind: str, index: int | None, **fields: Any) -> None:
        events.append({"type": f"content_block_{kind}", **({} if index is None else {"index": index}), **fields})

    for piece in pieces:
        if isinstance(piece, str):
            add("delta", 0, delta={"type": "text_delta", "text": piece})
        elif isinstance(piece, int):
            add("stop", piece)
        else:
            index, id, name, arguments = piece
            if id is not None or name is not None:
                add("start", index, content_block={"type": "tool_use", "id": id, "name": name, "input": {}})
            if arguments is not None:
                add("delta", index, delta={"type": "input_json_delta", "partial_json": arguments})
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
N = None


@pytest.mark.parametrize(("pieces", "calls"), [
    pytest.param([(0, "a", "f", PARIS), (0, "b", "f", ROME)], [("f", PARIS), ("f", ROME)], id="index 0 for all, whole"),
    pytest.param([(0, "a", "f", '{"ci'), (0, "b", "g", ROME), (0, N, N, "")], [("f", '{"ci'), ("g", ROME)],
                 id="index 0 for all, another name"),
    pytest.param([(0, "a", "f", HEAD), (0, "b", "f", TAIL), (0, "c", "f", "")], [("f", PARIS)],
                 id="a new id in every piece, the last one empty"),
    pytest.param([(N, "a", "f", PARIS), (N, "b", "f", HEAD), (N, "a", N, ""), (N, "b", N, TAIL)],
                 [("f", PARIS), ("f", PARIS)], id="no index, in turns by id"),
    pytest.param([(N, N, "f", HEAD), (N, N, "f", TAIL), (N, N, "g", ROME)], [("f", PARIS), ("g", ROME)],
                 id="neither index nor id, the name in every chunk"),
    pytest.param([(0, "call", "f", PARIS), (1, "call", "g", ROME), (2, "call", "g", PARIS)],
                 [("f", PARIS), ("g", ROME), ("g", PARIS)], id="one id for all calls"),
    pytest.param([(0, "a", "f", ""), (0, N, N, PARIS), (0, N, N, ROME)], [("f", PARIS + ROME)],
                 id="a second complete object on one index"),
    pytest.param([(0, "a", "f", HEAD), " and ", (0, N, N, TAIL)], [("f", PARIS)], id="text between the arguments"),
    pytest.param([(0, N, N, HEAD), (0, "a", N, ":"), (0, N, "f", '"Paris"}')], [("f", PARIS)],
                 id="the arguments before id and name"),
    pytest.param([(0, "a", "f", {"city": "Paris"})], [("f", PARIS)], id="arguments as an object"),
    pytest.param([(0, "a", "f", PARIS), (1, N, N, ""), (1, "b", N, N)], [("f", PARIS)], id="pieces of nothing"),
])
def test_openai_pieces_make(pieces: list[Any], calls: Calls) -> None:
    assert calls_of(OPENAI, openai(pieces)) == calls


@pytest.mark.parametrize(("pieces", "calls"), [
    pytest.param([(0, "a", "f", HEAD), (0, N, N, TAIL), 0, (1, "b", "g", ROME), 1], [("f", PARIS), ("g", ROME)],
                 id="as the protocol has it"),
    pytest.param([(0, "a", "f", HEAD), (0, "b", "f", TAIL), 0], [("f", PARIS)], id="a new id in every start"),
    pytest.param([(0, "a", "f", HEAD), (0, "a", "f", TAIL), 0], [("f", PARIS)], id="the start repeated"),
    pytest.param([(0, "a", "f", HEAD), (1, "a", "f", TAIL), 0, 1], [("f", PARIS)], id="one id under several indexes"),
    pytest.param([(0, "a", "f", HEAD), (1, "a", "f", N), 0, (1, N, N, TAIL), 1], [("f", PARIS)],
                 id="one id under several indexes, stopped one by one"),
    pytest.param([(0, "a", "f", HEAD), " and ", " so ", (0, N, N, ':"Par'), " on", (0, N, N, 'is"}'), 0],
                 [("f", PARIS)], id="text between the arguments"),
    pytest.param(["Hi", 0, (1, "a", "f", HEAD), (0, N, N, TAIL), 1], [("f", PARIS)],
                 id="arguments under another index"),
    pytest.param([(0, "a", "f", PARIS), 0, (0, "b", "f", ROME), 0], [("f", PARIS), ("f", ROME)], id="index 0 for all"),
    pytest.param([(0, "a", "f", PARIS), (0, "b", "f", ROME), 0], [("f", PARIS), ("f", ROME)],
                 id="index 0 for all, without stops"),
    pytest.param([(N, "a", "f", PARIS), (N, "b", "g", ROME)], [("f", PARIS), ("g", ROME)], id="no index"),
    pytest.param([(0, "", "f", PARIS), 0, (1, N, "g", ROME), 1], [("f", PARIS), ("g", ROME)], id="no id"),
    pytest.param([(0, "a", "f", PARIS), (0, N, N, PARIS), 0], [("f", PARIS)], id="all arguments sent twice"),
    pytest.param([(0, "a", "f", PARIS), (0, N, N, ROME), 0], [("f", PARIS + ROME)],
                 id="a second complete object on one index"),
])
def test_anthropic_pieces_make(pieces: list[Any], calls: Calls) -> None:
    assert calls_of(ANTHROPIC, anthropic(pieces)) == calls
# fmt: on


@pytest.mark.parametrize(
    ("reader", "body"),
    [
        pytest.param(OPENAI, openai([(0, "a", "f", ROME), (1, None, None, PARIS)]), id="openai, the second"),
        pytest.param(OPENAI, openai([(0, "a", None, PARIS)]), id="openai"),
        pytest.param(ANTHROPIC, anthropic([(0, None, None, PARIS), 0]), id="anthropic, no start"),
        pytest.param(ANTHROPIC, anthropic([(0, "a", "", PARIS), 0]), id="anthropic"),
    ],
)
def test_a_call_without_a_name_is_an_error(reader: type[Reader], body: bytes) -> None:
    """No program can run it, and its text stays."""
    end = failed(read(reader, body))
    assert type(end.cause) is ProtocolError
    assert "without a name" in str(end.cause)
    assert isinstance(end.error.content[-1], ToolCall)
    assert end.error.content[-1].arguments_json == PARIS


@pytest.mark.parametrize("reader", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
def test_broken_arguments_say_so_everywhere(reader: type[Reader]) -> None:
    """In the event, in the message and in the JSON of both."""
    pieces = [(0, "a", "f", PARIS + ROME)]
    *events, end = read(reader, openai(pieces) if reader is OPENAI else anthropic(pieces))
    (event,) = (event for event in events if isinstance(event, ToolCallEnd))
    for call in (event.tool_call, *done([end]).message.content):
        assert isinstance(call, ToolCall)
        assert (call.has_invalid_arguments, call.arguments) == (True, {"INVALID_JSON": PARIS + ROME})
    for encoded in (json.loads(to_json(event))["tool_call"], json.loads(to_json(end))["message"]["content"][0]):
        assert (encoded["invalid_arguments"], encoded["arguments"]) == (True, {"INVALID_JSON": PARIS + ROME})
