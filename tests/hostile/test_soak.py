"""Nothing is left and memory is flat: after many streams of which a third fail, and behind a server that never stops.

The same eight crowds every time. For as many streams as you like:

    RXAUTH_CASES=100000 pytest -m slow --timeout=0 tests/hostile/test_soak.py
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from rxauth import (
    FileStore,
    OAuthCredentials,
    StaticCredentials,
    anthropic_messages,
    openai_chat,
    recover_auth,
    to_async_iterable,
)
from rxauth.testing import FakeProvider, Reply
from tests.hostile.leaks import run
from tests.hostile.network import serving

pytestmark = pytest.mark.slow

REQUEST = {"model": "any", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}
FAILURES = [
    Reply(status=500),
    Reply.unauthorized(),  # the refresh brings a new credential, and the next of these
    Reply.rate_limited(1),
    Reply.cut(200),
    Reply.in_band_error("overloaded_error", after=3),
    Reply.reset(),
    Reply.html("<html>"),
]
CROWD = 99
CROWDS = max(8, int(os.environ.get("RXAUTH_CASES", "0")) // CROWD)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log nothing: the records that pytest keeps would be most of what is left."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


async def logged_in(fake: FakeProvider, path: Path) -> OAuthCredentials:
    store = FileStore(path, "key")
    await store.save(fake.credential())
    fake.invalidate()
    return OAuthCredentials(store, token_url=fake.token_url, client_id=fake.client_id)


async def end_of_a_stream(number: int, fake: FakeProvider, credentials: OAuthCredentials) -> str:
    source, path = (anthropic_messages, "") if number % 2 else (openai_chat, "/v1")
    observable = source(REQUEST, base_url=fake.url + path, credentials=credentials)
    stream: Any = to_async_iterable(observable.pipe(recover_auth(credentials.refresh)))
    async for event in stream:
        if event.type in ("done", "error"):
            return str(event.type)
        if event.type == "text_delta" and number % 9 == 1:
            await stream.aclose()
    return "left"


async def a_crowd(home: Path, ports: list[int]) -> Counter[str]:
    """Run streams: a third at a provider that fails; a ninth are left in the middle."""
    failing = FakeProvider(replies=cycle(FAILURES), port=ports[1])
    async with FakeProvider(port=ports[0]) as good, failing as bad:
        ports[:] = [urlsplit(fake.url).port or 0 for fake in (good, bad)]
        both = [(fake, await logged_in(fake, home / f"{name}.json")) for name, fake in (("good", good), ("bad", bad))]
        work = [end_of_a_stream(number, *both[number % 3 == 0]) for number in range(CROWD)]
        ends = Counter(await asyncio.gather(*work))
        assert len(good.token_requests) == 1
        return ends


def test_a_soak_leaves_nothing(tmp_path: Path) -> None:
    blocks: list[int] = []
    ports = [0, 0]  # the same for all: URLs are cached
    for _ in range(CROWDS):
        assert run(a_crowd(tmp_path, ports)) == {"done": CROWD * 5 // 9, "error": CROWD // 3, "left": CROWD // 9}
        blocks.append(sys.getallocatedblocks())
    # The least of a quarter: what is cached for a while is in it or not. A loop leaves Python a block or two.
    quarter = CROWDS // 4
    before, after = min(blocks[quarter : 2 * quarter]), min(blocks[-quarter:])
    assert (after - before) / (CROWDS - 2 * quarter) < CROWD // 3, blocks


@pytest.mark.parametrize("source", [anthropic_messages, openai_chat], ids=["anthropic", "openai"])
@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b'event: ping\ndata: {"type": "ping"}\n\n', id="pings"),
        pytest.param(b": still here\n\n", id="comments"),
        pytest.param(b"\n", id="empty lines"),
        pytest.param(b"retry: 5\nid: 1\n", id="fields that mean nothing"),
        pytest.param(b'event: hello\ndata: {"type": "hello"}\n\n', id="events of another protocol"),
        pytest.param(b"still here\n", id="words"),
        pytest.param(b'{"hello": "there"}\n', id="objects"),
        pytest.param(
            b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":{}}}\n\n', id="openings"
        ),
    ],
)
def test_an_endless_prelude_takes_no_memory(line: bytes, source: Any) -> None:
    """And dispose ends it at once."""
    sent = 0

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        block = line * (2**14 // len(line))
        while True:
            writer.write(block)
            await writer.drain()
            await asyncio.sleep(0)
            sent += len(block)

    async def traced_after(count: int) -> int:
        while sent < count:
            await asyncio.sleep(0)
        return tracemalloc.get_traced_memory()[0]

    async def sent_after_some_turns() -> int:
        for _ in range(20):
            await asyncio.sleep(0)
        return sent

    async def scenario() -> None:
        async with serving(talk) as url:
            types: set[str] = set()
            stream = source(REQUEST, base_url=url, credentials=StaticCredentials("t"))
            tracemalloc.start()
            try:
                subscription = stream.pipe(recover_auth(lambda failure: None)).subscribe(
                    lambda event: types.add(event.type)
                )
                before = await traced_after(2**16)
                assert await traced_after(2**18) - before < 2**16
            finally:
                tracemalloc.stop()
            subscription.dispose()
            assert await sent_after_some_turns() == await sent_after_some_turns()
            assert types <= {"start"}

    run(scenario())
