"""A server that never stops, and never sends a live event."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest

from rxauth import (
    StaticCredentials,
    anthropic_messages,
    openai_chat,
    recover_auth,
)
from tests.hostile.endless import SUCCESS, Write, serving
from tests.hostile.leaks import run

pytestmark = pytest.mark.slow

REQUEST = {"model": "any", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}

PINGS = {
    "pings": b'event: ping\ndata: {"type": "ping"}\n\n',
    "comments": b": still here\n\n",
    "empty lines": b"\n",
    "fields that mean nothing": b"retry: 5\nid: 1\n",
    "events of another protocol": b'event: hello\ndata: {"type": "hello"}\n\n',
    "words": b"still here\n",
    "objects": b'{"hello": "there"}\n',
    "openings": b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":{}}}\n\n',
}


def endless(line: bytes, sent: list[int]) -> Any:
    async def talk(write: Write) -> None:
        await write(SUCCESS)
        block = line * (2**14 // len(line))
        while True:
            await write(block)
            sent[0] += len(block)

    return talk


async def sent_at_least(sent: list[int], count: int) -> None:
    while sent[0] < count:
        await asyncio.sleep(0)


@pytest.mark.parametrize("source", [anthropic_messages, openai_chat], ids=["anthropic", "openai"])
@pytest.mark.parametrize("line", PINGS.values(), ids=PINGS)
def test_an_endless_prelude_takes_no_memory(line: bytes, source: Any) -> None:
    """And dispose ends it at once."""

    async def scenario() -> None:
        sent = [0]
        async with serving(endless(line, sent)) as url:
            events: list[Any] = []
            stream = source(REQUEST, base_url=url, credentials=StaticCredentials("t"))
            tracemalloc.start()
            try:
                subscription = stream.pipe(recover_auth(lambda failure: None)).subscribe(events.append)
                await sent_at_least(sent, 2**16)
                before, _ = tracemalloc.get_traced_memory()
                await sent_at_least(sent, 2**18)
                after, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            subscription.dispose()
            assert after - before < 2**16
            # A few turns of the loop, not a time.
            for _ in range(20):
                await asyncio.sleep(0)
            at = sent[0]
            for _ in range(20):
                await asyncio.sleep(0)
            assert sent[0] == at
            assert {event.type for event in events} <= {"start"}

    run(scenario())
