"""Both readers over generated input: no exception, one terminal, well-formed blocks, cuts anywhere.

More of it: see `tests/conftest.py`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxauth.events import Error, to_json
from rxauth.sources._reader import Reader
from tests.sources.streams import ANTHROPIC, OPENAI, check_grammar, read

READERS = [pytest.param(ANTHROPIC, id="anthropic"), pytest.param(OPENAI, id="openai")]

words = st.sampled_from(
    ["", "a", "text", "\ud800", "\U0001f600", "stop", "error", "authentication_error", "{", "}", "\0"]
)
scalars = st.none() | st.booleans() | st.integers(-2, 3) | st.just(2**70) | st.floats() | words
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=5
)


def shaped(**fields: Any) -> st.SearchStrategy[Any]:
    """A mapping of these fields, some left out, some of another kind than they should be."""
    return st.fixed_dictionaries({}, optional={name: field | anything for name, field in fields.items()})


kinds = st.sampled_from(["text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "novel"])
delta_kinds = st.sampled_from(["text_delta", "thinking_delta", "input_json_delta", "signature_delta", "novel_delta"])
usage = shaped(input_tokens=st.integers(0, 9), output_tokens=st.integers(0, 9))
anthropic_events = shaped(
    type=st.sampled_from(
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
            "ping",
            "error",
            "novel",
        ]
    ),
    index=st.integers(0, 3),
    content_block=shaped(
        type=kinds, text=words, thinking=words, signature=words, data=words, id=words, name=words, input=anything
    ),
    delta=shaped(type=delta_kinds, text=words, thinking=words, partial_json=words, signature=words, stop_reason=words),
    message=shaped(id=words, model=words, usage=usage),
    usage=usage,
    error=shaped(type=words, message=words, code=words),
)
function = shaped(name=words, arguments=words)
openai_chunks = shaped(
    choices=st.lists(
        shaped(
            index=st.integers(0, 1),
            delta=shaped(
                content=words,
                reasoning=words,
                reasoning_content=words,
                refusal=words,
                tool_calls=st.lists(shaped(index=st.integers(0, 2), id=words, function=function), max_size=2),
                function_call=function,
            ),
            finish_reason=st.sampled_from([None, "stop", "tool_calls", "error"]),
            usage=usage,
        ),
        max_size=2,
    ),
    usage=usage,
    error=st.none() | shaped(type=words, message=words, code=words),
    object=words,
)
payloads = (anthropic_events | openai_chunks | anything).map(lambda payload: json.dumps(payload).encode())
events = st.tuples(
    st.sampled_from([b"", b"event: error\n", b"event: ping\n", b": comment\n\n"]), payloads | st.binary(max_size=20)
)
bodies = st.lists(
    events.map(lambda event: event[0] + b"data: " + event[1] + b"\n\n") | st.just(b"data: [DONE]\n\n"), max_size=14
).map(b"".join)


@pytest.mark.parametrize("reader", READERS)
@settings(deadline=None)
@given(body=bodies, cuts=st.lists(st.integers(0, 2000), max_size=5))
def test_any_input_cut_anywhere_is_a_well_formed_answer(reader: type[Reader], body: bytes, cuts: list[int]) -> None:
    whole = read(reader, body)
    check_grammar(whole)
    again = read(reader, body, cuts=cuts)
    # Two exceptions are never equal; what they say is.
    assert [repr(event) for event in again] == [repr(event) for event in whole]


@pytest.mark.parametrize("reader", READERS)
@settings(deadline=None)
@given(body=st.binary(max_size=300))
def test_random_bytes_end_in_one_error(reader: type[Reader], body: bytes) -> None:
    events = read(reader, body)
    check_grammar(events)
    assert isinstance(events[-1], Error)


@pytest.mark.parametrize("reader", READERS)
@settings(deadline=None)
@given(body=bodies)
def test_every_event_can_be_encoded(reader: type[Reader], body: bytes) -> None:
    for event in read(reader, body):
        to_json(event).encode()
