"""A server that gives a byte now and then, or never stops."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import reactivex as rx
from reactivex import operators as ops
from reactivex.scheduler.eventloop import AsyncIOScheduler

from rxauth import (
    Credential,
    MemoryStore,
    OAuthCredentials,
    RefreshFailed,
    StaticCredentials,
    anthropic_messages,
    openai_chat,
    recover_auth,
    to_async_iterable,
)
from rxauth.testing import FakeProvider, Pause, Reply
from tests.hostile.endless import SUCCESS, Write, serving
from tests.hostile.leaks import run

REQUEST = {"model": "any", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}
PATIENCE = 0.3  # seconds for one token request
TOKEN = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"access_token": "'

PINGS = {
    "pings": b'event: ping\ndata: {"type": "ping"}\n\n',
    "comments": b": still here\n\n",
    "empty lines": b"\n",
    "fields that mean nothing": b"retry: 5\nid: 1\n",
    "events of another protocol": b'event: hello\ndata: {"type": "hello"}\n\n',
    "openings": b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":{}}}\n\n',
}


async def slowly(write: Write) -> None:
    """A byte, a while later the next: never as late as the limit."""
    for byte in TOKEN * 1000:
        await write(bytes([byte]))
        await asyncio.sleep(PATIENCE / 20)


async def slowly_from_the_body_on(write: Write) -> None:
    await write(TOKEN)
    while True:
        await write(b"x")
        await asyncio.sleep(PATIENCE / 20)


@pytest.mark.parametrize("talk", [slowly, slowly_from_the_body_on], ids=["from the first byte", "in the body"])
def test_a_token_endpoint_that_gives_a_byte_now_and_then_is_left_in_time(talk: Any) -> None:
    async def scenario() -> float:
        async with serving(talk) as url:
            tries = 0

            async def no_time(seconds: float) -> None:
                nonlocal tries
                tries += 1

            old = Credential("old", refresh_token="r")
            store = MemoryStore(old)
            source = OAuthCredentials(store, token_url=url, client_id="app", request_timeout=PATIENCE, sleep=no_time)
            clock = asyncio.get_running_loop().time
            began = clock()
            with pytest.raises(RefreshFailed, match=f"within {PATIENCE:g} s") as failed:
                await source.refresh(None)
            assert (failed.value.type, tries) == ("timeout", 2)
            assert await store.load() == old
            return clock() - began

    assert 3 * PATIENCE <= run(scenario()) < 3 * PATIENCE + 3


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
def test_a_stream_that_never_comes_alive_takes_no_memory_and_is_left_at_once(line: bytes, source: Any) -> None:
    async def scenario() -> None:
        sent = [0]
        async with serving(endless(line, sent)) as url:
            events: list[Any] = []
            stream = source(REQUEST, base_url=url, credentials=StaticCredentials("t"))
            tracemalloc.start()
            try:
                subscription = stream.pipe(recover_auth(lambda failure: None)).subscribe(events.append)
                await sent_at_least(sent, 2**17)
                before, _ = tracemalloc.get_traced_memory()
                await sent_at_least(sent, 2**19)
                after, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            subscription.dispose()
            assert after - before < 2**17
            # A few turns of the loop, not a time: what is under way is cut off.
            for _ in range(20):
                await asyncio.sleep(0)
            at = sent[0]
            for _ in range(20):
                await asyncio.sleep(0)
            assert sent[0] == at
            assert {event.type for event in events} <= {"start"}

    run(scenario())


@pytest.mark.parametrize("line", [PINGS["pings"], PINGS["comments"]], ids=["pings", "comments"])
def test_who_wants_a_limit_for_the_first_live_event_puts_one_in(line: bytes) -> None:
    async def scenario() -> list[Any]:
        sent = [0]
        async with serving(endless(line, sent)) as url:
            loop = asyncio.get_running_loop()
            stream = anthropic_messages(REQUEST, base_url=url, credentials=StaticCredentials("t"))
            first = rx.timer(0.2, scheduler=AsyncIOScheduler(loop))
            limit: Any = ops.timeout_with_mapper(first, lambda event: rx.never(), rx.of("gave up"))
            limited = stream.pipe(recover_auth(lambda failure: None), limit)
            async with asyncio.timeout(10):
                return [event async for event in to_async_iterable(limited)]

    assert run(scenario()) == ["gave up"]


def test_ctrl_c_leaves_an_endless_stream_at_once(tmp_path: Path) -> None:
    pings = [each for _ in range(10_000) for each in ({"type": "ping"}, Pause(0.005))]
    with FakeProvider(api_keys=["k"], replies=[Reply(body=pings)]) as fake:
        environment = os.environ | {"RXAUTH_HOME": str(tmp_path), "HOME": str(tmp_path), "RXAUTH_TOKEN": "k"}
        command = [sys.executable, "-m", "rxauth", "stream", "--base-url", fake.url, "--json", "hello"]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                asyncio.run(fake.seen())
                process.send_signal(signal.SIGINT)
                _, errors = process.communicate(timeout=20)
            finally:
                process.kill()
        assert (process.returncode, b"Traceback" in errors) == (130, False)
        asyncio.run(fake.until(lambda fake: fake.open_connections == 0))
