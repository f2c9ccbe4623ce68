"""Check that a process holds nothing afterwards that it did not hold before."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from rxauth.credentials._single_flight import flights

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, and nothing is left: no task that it would have had to cancel, no thread, no file descriptor."""
    gc.collect()
    threads, files = set(threading.enumerate()), _descriptors()
    outcome = asyncio.run(_and_no_task(work))
    if flights._thread is not None:  # a refresh in the background
        flights._thread.join(10)
    gc.collect()
    assert _descriptors() <= files
    assert set(threading.enumerate()) <= threads
    return outcome


def _descriptors() -> set[str]:
    # One of them is of the directory itself, under the lowest number that is free: the same before and after.
    return {each.name for each in Path("/dev/fd").iterdir()}


async def _and_no_task(work: Coroutine[Any, Any, T]) -> T:
    outcome = await work
    for _ in range(3):  # cancelled tasks need a turn to end
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return outcome
