"""What real servers do beside the protocol, over HTTP: the fake provider does it, and the sources read it."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from rxauth import StaticCredentials, anthropic_messages, openai_chat, recover_auth, to_async_iterable
from rxauth.events import Block, Text, Thinking, ToolCall
from rxauth.testing import FakeProvider, Reply
from rxauth.testing._shapes import ErrorShape, Numbering

ANSWER: list[Block] = [
    Thinking("Hm.", field="reasoning_content"),
    Text("Let me see."),
    ToolCall("a", "weather", '{"city": "Paris"}'),
    ToolCall("b", "time", '{"zone": "CET"}'),
]
REQUEST = {"model": "m", "max_tokens": 9, "messages": []}

formats = pytest.mark.parametrize("openai", [False, True], ids=["anthropic", "openai"])


async def streamed(openai: bool, *replies: Reply) -> tuple[Any, int]:
    """The last event, and how often the credential was refreshed."""
    refreshed = 0

    def refresh(failure: object) -> bool:
        nonlocal refreshed
        refreshed += 1
        return True

    async with FakeProvider(answer=ANSWER, replies=replies, api_keys=["k"]) as fake:
        keys = StaticCredentials("k")
        stream = (
            openai_chat(REQUEST, base_url=f"{fake.url}/v1", credentials=keys)
            if openai
            else anthropic_messages(REQUEST, base_url=fake.url, credentials=keys)
        )
        events = [event async for event in to_async_iterable(stream.pipe(recover_auth(refresh)))]
        assert [event.type for event in events].count("start") == 1
        return events[-1], refreshed


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
    assert calls == [("weather", {"city": "Paris"}), ("time", {"zone": "CET"})]


@formats
@pytest.mark.parametrize("reply", [Reply(whole=True), Reply()], ids=["whole", "streamed"])
@pytest.mark.parametrize("label", ["application/json", "text/plain", "text/html", "text/event-stream"])
async def test_an_answer_counts_under_any_label(openai: bool, reply: Reply, label: str) -> None:
    last, _ = await streamed(openai, Reply(whole=reply.whole, headers={"Content-Type": label}))
    assert [block.type for block in last.message.content] == ["thinking", "text", "toolCall", "toolCall"]
    assert last.message.content[2].arguments == {"city": "Paris"}
    assert last.reason == "toolUse"


@formats
async def test_extras_arrive_on_their_blocks(openai: bool) -> None:
    search = [{"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"q": "rain"}}]
    answer: list[Block] = (
        [
            Thinking("Hm", field="reasoning", extra_json='{"reasoning_details":[{"text":"Hm","signature":"sig"}]}'),
            ToolCall("c", "shell", "ls", custom=True, extra_json='{"extra_content":{"s":1}}'),
        ]
        if openai
        else [
            Thinking("Hm", "sig"),
            Text(
                "Rain.",
                extra_json='{"citations":[{"cited_text":"r"}]}',
                after_json=json.dumps(search, separators=(",", ":")),
            ),
        ]
    )
    for whole in (False, True):
        last, _ = await streamed(openai, Reply(answer=answer, whole=whole))
        content = last.message.content
        assert content[0].signature == "sig"
        if openai:
            assert content[0].extra == answer[0].extra
            assert content[1] == answer[1]
        else:
            assert content == tuple(answer)


def test_shapes_and_numberings_are_checked() -> None:
    for nonsense in ({"shape": "round", "error": "e"}, {"shape": "bare"}, {"numbering": "by hand"}):
        with pytest.raises(ValueError, match=r"shape|numbering"):
            Reply(**nonsense)  # type: ignore[arg-type]
