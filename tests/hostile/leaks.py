"""What a process holds, before and after."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from rxauth.credentials._single_flight import flights

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, and nothing is left: no task that it would have had to cancel, no thread, no file descriptor."""
    with nothing_left():
        return asyncio.run(_and_no_task(work))


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """No thread and no file descriptor that was not there before."""
    gc.collect()
    threads, files = set(threading.enumerate()), descriptors()
    yield
    background()
    gc.collect()
    assert descriptors() <= files
    assert set(threading.enumerate()) <= threads


def background() -> None:
    """Wait for the end of a refresh in the background."""
    thread = flights._thread
    if thread is not None:
        thread.join(10)


def descriptors() -> set[str]:
    # One of them is of the directory itself, under the lowest number that is free: the same before and after.
    return {each.name for each in Path("/dev/fd").iterdir()}


async def _and_no_task(work: Coroutine[Any, Any, T]) -> T:
    outcome = await work
    # Cancelled tasks need a turn to end.
    for _ in range(3):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert left == set()
    return outcome
