"""Both readers over generated input: no exception, one terminal, well-formed blocks, cuts anywhere.

More of it: see `tests/conftest.py`.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rxauth.events import Error, to_json
from rxauth.sources._reader import Reader
from tests.sources.streams import check_grammar, formats, read

words = st.sampled_from(
    ["", "a", "text", "\ud800", "\U0001f600", "stop", "error", "authentication_error", "{", "}", "\0"]
)
scalars = st.none() | st.booleans() | st.integers(-2, 3) | st.just(2**70) | st.floats() | words
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=5
)


def shaped(*names: str, **fields: Any) -> st.SearchStrategy[Any]:
    """A mapping of these fields (by default words), some left out, some of another kind than they should be."""
    fields = dict.fromkeys(names, words) | fields
    return st.fixed_dictionaries({}, optional={name: field | anything for name, field in fields.items()})


def kinds(names: str) -> st.SearchStrategy[str]:
    return st.sampled_from(names.split())


usage = shaped(input_tokens=st.integers(0, 9), output_tokens=st.integers(0, 9))
anthropic_events = shaped(
    type=kinds(
        "message_start content_block_start content_block_delta content_block_stop message_delta message_stop ping "
        "error novel"
    ),
    index=st.integers(0, 3),
    content_block=shaped(
        *("text", "thinking", "signature", "data", "id", "name"),
        type=kinds("text thinking redacted_thinking tool_use server_tool_use novel"),
        input=anything,
    ),
    delta=shaped(
        *("text", "thinking", "partial_json", "signature", "stop_reason"),
        type=kinds("text_delta thinking_delta input_json_delta signature_delta novel_delta"),
    ),
    message=shaped("id", "model", usage=usage),
    usage=usage,
    error=shaped("type", "message", "code"),
)
function = shaped("name", "arguments")
calls = st.lists(shaped("id", index=st.integers(0, 2), function=function, custom=shaped("name", "input")), max_size=2)
delta = shaped("content", "reasoning", "reasoning_content", "refusal", tool_calls=calls, function_call=function)
choice = shaped(
    index=st.integers(0, 1),
    delta=delta,
    message=delta,
    finish_reason=st.sampled_from([None, "stop", "tool_calls", "error"]),
    usage=usage,
)
openai_chunks = shaped(
    "object",
    choices=st.lists(choice, max_size=2),
    usage=usage,
    error=st.none() | shaped("type", "message", "code"),
)
payloads = (anthropic_events | openai_chunks | anything).map(lambda payload: json.dumps(payload).encode())
heads = st.sampled_from([b"", b"event: error\n", b"event: ping\n", b": comment\n\n"])
events = st.tuples(heads, st.just(b"data: "), payloads | st.binary(max_size=20), st.just(b"\n\n")).map(b"".join)
bodies = st.lists(events | st.just(b"data: [DONE]\n\n"), max_size=14).map(b"".join)


@formats
@settings(deadline=None)
@given(body=bodies, cuts=st.lists(st.integers(0, 2000), max_size=5))
def test_any_input_cut_anywhere_is_a_well_formed_answer(reader: type[Reader], body: bytes, cuts: list[int]) -> None:
    whole = read(reader, body)
    check_grammar(whole)
    for event in whole:
        to_json(event).encode()
    # Two exceptions are never equal; what they say is.
    assert [repr(event) for event in read(reader, body, cuts=cuts)] == [repr(event) for event in whole]


@formats
@settings(deadline=None)
@given(body=st.binary(max_size=300))
def test_random_bytes_end_in_one_error(reader: type[Reader], body: bytes) -> None:
    events = read(reader, body)
    check_grammar(events)
    assert isinstance(events[-1], Error)
