"""The faults of real servers, over HTTP: the fake provider makes them, and the sources read them."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from rxauth import StaticCredentials, anthropic_messages, openai_chat, recover_auth, to_async_iterable
from rxauth.events import Block, Text, Thinking, ToolCall
from rxauth.testing import FakeProvider, Reply
from rxauth.testing._shapes import ErrorShape, Numbering, numbered

ANSWER: list[Block] = [
    Thinking("Hm.", field="reasoning_content"),
    Text("Let me see."),
    ToolCall("a", "weather", '{"city": "Paris"}'),
    ToolCall("b", "weather", '{"zone": "CET"}'),
]
REQUEST = {"model": "m", "max_tokens": 9, "messages": []}

formats = pytest.mark.parametrize("openai", [False, True], ids=["anthropic", "openai"])


async def streamed(openai: bool, *replies: Reply) -> tuple[Any, int]:
    """The last event, and how often the credential was refreshed."""
    refreshed: list[object] = []

    def refresh(failure: object) -> bool:
        refreshed.append(failure)
        return True

    async with FakeProvider(answer=ANSWER, replies=replies, api_keys=["k"]) as fake:
        source, base_url = (openai_chat, f"{fake.url}/v1") if openai else (anthropic_messages, fake.url)
        stream = source(REQUEST, base_url=base_url, credentials=StaticCredentials("k"))
        events = [event async for event in to_async_iterable(stream.pipe(recover_auth(refresh)))]
        assert [event.type for event in events].count("start") == 1
        return events[-1], len(refreshed)


@formats
@pytest.mark.parametrize("status", [200, 401], ids=["in a stream", "as a status"])
@pytest.mark.parametrize("shape", get_args(ErrorShape))
async def test_an_auth_failure_is_recovered(openai: bool, status: int, shape: ErrorShape) -> None:
    reply = Reply(status=status, error="authentication_error", message="token expired", shape=shape)
    last, refreshed = await streamed(openai, reply, Reply())
    assert (last.type, refreshed) == ("done", 1)


@formats
@pytest.mark.parametrize("numbering", get_args(Numbering))
async def test_tool_calls_are_read_in_any_numbering(openai: bool, numbering: Numbering) -> None:
    last, _ = await streamed(openai, Reply(numbering=numbering))
    if numbering == "no names":
        assert (last.type, last.error.content[-1].arguments_json) == ("error", '{"zone": "CET"}')
        return
    calls = [(block.name, block.arguments) for block in last.message.content if block.type == "toolCall"]
    assert calls == [("weather", {"city": "Paris"}), ("weather", {"zone": "CET"})]


def test_every_numbering_is_one_of_its_own() -> None:
    cut = [numbered(1, "call", "weather", ["{", "}"], numbering) for numbering in (None, *get_args(Numbering))]
    assert len(set(map(repr, cut))) == 12


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed"])
async def test_extras_arrive_on_their_blocks(whole: bool) -> None:
    search = '[{"type":"server_tool_use","id":"s1","name":"web_search","input":{"q":"rain"}}]'
    text = Text("Rain.", extra_json='{"citations":[{"cited_text":"r"}]}', after_json=search)
    last, _ = await streamed(False, Reply(answer=[Thinking("Hm", "sig"), text], whole=whole))
    assert last.message.content == (Thinking("Hm", "sig"), text)

    details = '{"reasoning_details":[{"text":"Hm","signature":"sig"}]}'
    call = ToolCall("c", "shell", "ls", custom=True, extra_json='{"extra_content":{"s":1}}')
    thinking = Thinking("Hm", field="reasoning", extra_json=details)
    last, _ = await streamed(True, Reply(answer=[thinking, call], whole=whole))
    assert (last.message.content[0].signature, last.message.content[0].extra) == ("sig", thinking.extra)
    assert last.message.content[1] == call
