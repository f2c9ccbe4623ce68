"""Time to the first word with a stale token, CPU per event and memory per open stream of one client, as JSON.

Run as a program, one client at a time, so that no client pays for the modules of another:

    python -m tests.peers.speed anthropic_sdk
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
import tracemalloc
from contextlib import AsyncExitStack

from rxauth import Credential, MemoryStore
from rxauth.testing import FakeProvider, Reply

from ..benchmarks.provider import FRESH, provider
from .drivers import DRIVERS, Ask, Driver
from .login import Login
from .running import run
from .scenarios import ANSWER, SCENARIOS
from .verdict import Screen, faults

EVENTS = 5_000
STREAMS = 50  # httpx2 opens 100 connections at most


async def first_word(client: Driver) -> float | None:
    """Seconds from the question to the first word, a 401 and a refresh included: the best of fifteen."""
    [scenario] = [each for each in SCENARIOS if each.name == "401 as JSON"]
    results = [await run(client, scenario) for _ in range(15)]
    if faults(scenario, results[-1]):
        return None
    return min(result.first_word for result in results if result.first_word is not None)


async def cpu_per_event(client: Driver) -> float:
    """Seconds of processor time for each event; the provider is another process."""
    with provider() as server:
        url = client.base_url(server.answers(EVENTS))
        login = Login(url, MemoryStore(Credential(FRESH)), server.token_url, "client", first=60, idle=60)
        async with client.connect(login) as ask:
            await Screen().show(ask())
            began = time.process_time()
            await Screen().show(ask())
            return (time.process_time() - began) / EVENTS


async def memory_per_stream(client: Driver) -> float:
    """Bytes that Python holds for each stream that waits for its next event, the server's half included."""
    with FakeProvider(answer=ANSWER, replies=[Reply.hang(after=6)] * (STREAMS + 1)) as fake:
        url = client.base_url(fake.url)
        login = Login(url, MemoryStore(fake.credential()), fake.token_url, fake.client_id, first=60, idle=60)
        async with AsyncExitStack() as stack:
            ask = await stack.enter_async_context(client.connect(login))
            tasks = [await reading(ask)]
            gc.collect()
            tracemalloc.start()
            tasks += [await reading(ask) for _ in range(STREAMS)]
            gc.collect()
            used, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            return used / STREAMS


async def reading(ask: Ask) -> asyncio.Future[None]:
    screen = Screen()
    task = asyncio.ensure_future(screen.show(ask()))
    await screen.until_words(2)
    return task


async def measured(name: str) -> dict[str, float | None]:
    client = DRIVERS[name]
    return {
        "first_word": await first_word(client),
        "cpu": await cpu_per_event(client),
        "memory": await memory_per_stream(client),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(measured(sys.argv[1]))))
