"""Measure in a fresh process: memory, and the time of an import.

idle recover_auth|bare COUNT    prints the bytes of one idle subscription
endless URL EVENTS              prints the bytes that an event of a long stream leaves behind, its text not counted
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import reactivex
from reactivex import Observable
from reactivex.subject import Subject

import rxauth
from rxauth import AssistantEvent, StaticCredentials, anthropic_messages, recover_auth

from .operators import START, Event, refresh
from .provider import FRESH, ROOT
from .rows import Cost, Row, Stage


def rows(stage: Stage) -> Iterator[Row]:
    idle = (printed("idle", kind, 10_000 // stage.scale) for kind in ("recover_auth", "bare"))
    # 2.6 before each subscription kept its context variables for the refresh: 104 bytes.
    yield Row("resident memory per idle recover_auth pipeline / per bare Rx source", *idle, limit="≤ 2.75", rounds=5)
    events = 1_000_000 // stage.scale
    endless = printed("endless", stage.server.answers(events), events)
    # The smallest object has 16 bytes. What is measured is the slack of the buffer that the text is in.
    name = "bytes that an event of a stream of 1,000,000 leaves behind, its text not counted"
    yield Row(name, endless, limit="≤ 4", rounds=3)
    base = importing("import reactivex")
    yield Row("import rxauth / import reactivex", importing("import rxauth"), base, limit="≤ 1.1")
    usual = "from rxauth import recover_auth"
    yield Row(f"{usual} / import reactivex", importing(usual), base)


def printed(*arguments: object) -> Cost:
    command = [sys.executable, "-m", "tests.benchmarks.fresh", *map(str, arguments)]
    return lambda: float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def importing(statement: str) -> Cost:
    # -P, -S and an explicit path: how a package was installed (an editable one has an import hook) is not its cost.
    path = os.pathsep.join(str(Path(module.__file__ or "").parents[1]) for module in (rxauth, reactivex))
    code = f"import time; begun = time.process_time(); {statement}; print(time.process_time() - begun)"
    command = [sys.executable, "-P", "-S", "-c", code]

    def cost() -> float:
        done = subprocess.run(command, env={"PYTHONPATH": path}, check=True, capture_output=True, text=True)
        return float(done.stdout)

    return cost


def resident() -> int:
    """Return the bytes of memory that are resident now; where a system does not tell, the most that ever were."""
    gc.collect()
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def idle(kind: str, count: int) -> float:
    sources: list[Subject[Event]] = []

    def subscribed() -> object:
        source: Subject[Event] = Subject()
        sources.append(source)
        pipeline: Observable[Event] = source.pipe(recover_auth(refresh)) if kind == "recover_auth" else source
        subscription = pipeline.subscribe(lambda event: None)
        source.on_next(START)
        return subscription

    kept = [subscribed() for _ in range(count)]  # they take the room that the imports have left
    before = resident()
    kept += [subscribed() for _ in range(count)]
    return (resident() - before) / count


async def endless(url: str, events: int) -> float:
    ended = asyncio.get_running_loop().create_future()
    seen = text = before = text_before = 0

    def consumer(event: AssistantEvent) -> None:
        nonlocal seen, text, before, text_before
        if event.type == "text_delta":
            seen += 1
            text += len(event.delta)
            if seen == events // 10:
                before, text_before = resident(), text
            elif seen == events:  # `done` would bring the text once more
                ended.set_result((resident() - before - (text - text_before)) / (events - events // 10))

    request = {"model": "any", "max_tokens": 99, "messages": [{"role": "user", "content": "hello"}]}
    credentials = StaticCredentials(FRESH)
    stream = anthropic_messages(request, base_url=url, credentials=credentials).pipe(recover_auth(credentials.refresh))
    subscription = stream.subscribe(consumer, ended.set_exception, lambda: ended.set_result(None))
    bytes_left: float = await ended
    subscription.dispose()
    return bytes_left


if __name__ == "__main__":
    if sys.argv[1] == "idle":
        print(idle(sys.argv[2], int(sys.argv[3])))
    else:
        print(asyncio.run(endless(sys.argv[2], int(sys.argv[3]))))
