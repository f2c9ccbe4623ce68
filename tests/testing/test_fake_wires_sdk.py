"""Answers of the fake provider, read by the official SDK."""

from __future__ import annotations

from typing import Any

import pytest

from rxauth.testing import FakeProvider, Reply, openai_response_events
from rxauth.testing._responses import OPENAI_RESPONSES
from tests.peers_needed import package
from tests.testing.test_fake_wires import ANSWER

pytestmark = pytest.mark.peer

openai = package("openai")
responses = package("openai.types.responses")
pydantic = package("pydantic")


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(openai_response_events(ANSWER), id="an answer"),
        pytest.param(openai_response_events([]), id="nothing"),
        pytest.param(openai_response_events("cut", stop="length"), id="an answer that is too long"),
        pytest.param(openai_response_events("no", failed="server_error"), id="a failure"),
        pytest.param([OPENAI_RESPONSES.in_band("authentication_error", "expired", 0)], id="an error"),
    ],
)
def test_responses_have_the_sdks_types(events: list[dict[str, Any]]) -> None:
    model = pydantic.TypeAdapter(responses.ResponseStreamEvent)
    for at, event in enumerate(events):
        assert model.validate_python(event).type == event["type"]
        assert event["sequence_number"] == at


async def test_a_response_without_a_stream_is_one_object() -> None:
    async with (
        FakeProvider(answer=ANSWER, api_keys=["key"], replies=[None, Reply.in_band_error("server_error")]) as fake,
        openai.AsyncOpenAI(api_key="key", base_url=fake.url + "/v1", max_retries=0) as client,
    ):
        response = await client.responses.create(model="m", input="Hi")
        assert (response.output_text, response.status) == ("It is sunny.", "completed")
        stream = await client.responses.create(model="m", input="Hi", stream=True)
        assert [event.type async for event in stream] == ["response.created", "error"]
