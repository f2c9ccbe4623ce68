"""Messages sent back are what the official SDKs' own types describe: ours, and those that were recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from rxauth import to_anthropic, to_openai
from tests.peers_needed import package
from tests.sources.streams import RECORDED, message_of, read
from tests.sources.test_wire_forms import FORMS, reader_of

pytestmark = pytest.mark.peer

anthropic_types = package("anthropic.types")
openai_types = package("openai.types.chat")
pydantic = package("pydantic")

STREAMS = [*sorted(FORMS.glob("*.sse")), *sorted(RECORDED.glob("*.sse"))]


@pytest.mark.parametrize("path", STREAMS, ids=[path.stem for path in STREAMS])
def test_a_message_sent_back_has_the_sdks_type(path: Path) -> None:
    message = message_of(read(reader_of(path.stem), path.read_bytes()))
    if path.stem.startswith("anthropic"):
        block_type = pydantic.TypeAdapter(anthropic_types.ContentBlockParam)
        for block in to_anthropic(message)["content"]:  # one by one: pydantic reads an Iterable only when it is asked
            validated = block_type.validate_python(block)
            assert validated["type"] == block["type"]
            assert set(validated) == set(block), "the API refuses a field that it does not know"
        return
    sent = to_openai(message)
    validated = pydantic.TypeAdapter(openai_types.ChatCompletionAssistantMessageParam).validate_python(sent)
    assert (validated["role"], validated["content"]) == ("assistant", sent["content"])
    call_type = pydantic.TypeAdapter(openai_types.ChatCompletionMessageToolCallUnionParam)
    for call in sent.get("tool_calls", ()):
        assert call_type.validate_python(call) == {
            name: value for name, value in call.items() if name != "extra_content"
        }
