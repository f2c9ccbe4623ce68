"""A small stream of each provider's own form: read, cut anywhere, and sent back. The files are ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rxauth import to_anthropic, to_openai
from rxauth.events import AssistantMessage
from rxauth.sources._reader import Reader
from tests.sources.streams import ANTHROPIC, OPENAI, check_grammar, message_of, read, trace

FORMS = Path(__file__).parent / "wire_forms"

# fmt: off
TRACES = {
    "anthropic-pause": "0<text 0+Searching. 0> pause",
    "anthropic-redacted-thinking": "0<thinking 0> 1<thinking 1> 2<text 2+I can 2+not say. 2> stop",
    "anthropic-search-and-citations": "0<text 0+Let me search. 0> 1<text 1+It rains. 1> stop",
    "anthropic-thinking-and-code": "0<thinking 0+Let me 0+ compute. 0> 1<text 1+Computing. 1> "
                                   "2<text 2+It is 2+ 42. 2> stop",
    "anthropic-tool-search": "0<text 0+Let me 0+ look. 0> 1<text 1+Found. 1> "
                             '2<rate#toolu_1 2+{"of":  2+"EUR"} 2> toolUse',
    "anthropic-two-tools-at-once": "0<text 0+Two files. 0> 1<text 1+Done. 1> stop",
    "copilot": "0<thinking 0+The user 0+ greets. 0> 1<text 1+Hello 1> stop",
    "custom-tool": "0<shell#call_1 0+ls  0+-la 0> toolUse",
    "deepseek": "0<thinking 0+H 0+m 0> 1<text 1+Hi 1+! 1> stop",
    "gateway": "0<text 0+4 0> stop",
    "gateway-details": "0<thinking 0> 1<text 1+405 1> stop",
    "gemini": '0<bash#f1 0+{"cmd":"ls"} 0> toolUse',
    "glm": "0<thinking 0+\n1 0+. 0> 1<text 1+Hi 1> stop",
    "groq": '0<thinking 0+We 0+ call. 0> 1<get#fc_1 1+{"name":"x"} 1> toolUse',
    "metrics": "0<text 0+Paris 0> stop",
    "openai-length": '0<text 0+{" 0+city 0> length',
    "openai-moderation": "0<text 0+Paris 0> stop",
    "openai-one-call": '0<weather#call_1 0+{" 0+city":"Paris"} 0> toolUse',
    "openai-refusal": "refusal",
    "openai-two-calls": '0<weather#call_1 0+{"city":"Paris"} 1<time#call_2 1+{} 0> 1> toolUse',
    "openrouter-comments": "0<text 0+Hello 0+ there 0> stop",
    "openrouter-encrypted": "0<thinking 0> 1<text 1+Hi 1> stop",
    "openrouter-signed": "0<thinking 0+H 0+m 0> 1<text 1+Hi 1> stop",
    "vllm": "0<text 0+1 0+, 2 0> stop",
}
# The fields that a provider wants back, byte for byte.
RETURNED = {
    "anthropic-pause": ['"srvtoolu_1"', '"query": "rain"'],
    "anthropic-redacted-thinking": ['"data": "EroBCkYIBhgC/w=="', '"data": "EvUBCkYIBhgD+w=="'],
    "anthropic-search-and-citations": ['"EpQBCioI/w=="', '"Eo8BCioI/w=="', '"web_search_tool_result"'],
    "anthropic-thinking-and-code": ['"signature": "EqQBCkYIBRgCIkD/+w=="', '"stdout": "42\\n"'],
    "anthropic-tool-search": ['"tool_reference"', '"srvtoolu_1"', '"input": {"of": "EUR"}'],
    "copilot": ['"reasoning_opaque": "SIG/+w=="', '"reasoning_text": "The user greets."'],
    "custom-tool": ['"custom": {"name": "shell", "input": "ls -la"}'],
    "deepseek": ['"reasoning_content": "Hm"'],
    "gateway-details": ['"text": "15 * 27"'],
    "gemini": ['"extra_content": {"google": {"thought_signature": "SIG/+w=="}}'],
    "groq": ['"reasoning": "We call."'],
    "openai-refusal": ['"refusal": "I\'m sorry."'],
    "openrouter-encrypted": ['"data": "gAAAAAB+/w=="', '"format": "openai-responses-v1"'],
    "openrouter-signed": ['"text": "Hm"', '"signature": "EqQB/w=="'],
}
# fmt: on


def reader_of(name: str) -> type[Reader]:
    return ANTHROPIC if name.startswith("anthropic") else OPENAI


def sent_back(name: str, message: AssistantMessage) -> str:
    return json.dumps(to_anthropic(message) if name.startswith("anthropic") else to_openai(message))


def test_every_form_has_a_row() -> None:
    assert sorted(path.stem for path in FORMS.glob("*.sse")) == sorted(TRACES)


@pytest.mark.parametrize("name", TRACES)
def test_a_form_becomes_events(name: str) -> None:
    """In one piece, byte by byte, and cut in two anywhere."""
    body = (FORMS / f"{name}.sse").read_bytes()
    whole = read(reader_of(name), body)
    check_grammar(whole)
    assert trace(whole) == TRACES[name]
    for cuts in (range(len(body)), *([cut] for cut in range(0, len(body), 97))):
        assert read(reader_of(name), body, cuts=cuts) == whole


@pytest.mark.parametrize("name", RETURNED)
def test_a_form_is_sent_back_byte_for_byte(name: str) -> None:
    message = message_of(read(reader_of(name), (FORMS / f"{name}.sse").read_bytes()))
    for piece in RETURNED[name]:
        assert piece in sent_back(name, message)
