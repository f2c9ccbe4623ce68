"""Work that is done once for all waiters, on a private thread."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextvars import ContextVar

import pytest

from rxauth.credentials._single_flight import SingleFlight, flights


class Work:
    """Counts how often it runs, and waits for `go`."""

    def __init__(self) -> None:
        self.runs = 0
        self.began = threading.Event()
        self.go = threading.Event()
        self.threads: set[threading.Thread] = set()

    async def __call__(self) -> int:
        self.runs += 1
        self.threads.add(threading.current_thread())
        self.began.set()
        while not self.go.is_set():
            await asyncio.sleep(0.001)
        return self.runs


def test_other_keys_run_beside_it_on_the_same_thread() -> None:
    flights, one, other = SingleFlight(), Work(), Work()
    first, second = flights.run("one", one), flights.run("other", other)
    for each in (one, other):
        each.began.wait(10)
    for each in (one, other):
        each.go.set()
    assert (first.result(10), second.result(10)) == (1, 1)
    (thread,) = one.threads | other.threads
    assert thread.daemon


def test_a_later_caller_gets_a_new_run() -> None:
    """Also one that asks because of the outcome; and no thread is left."""
    flights, work = SingleFlight(), Work()
    assert flights.close(), "there is nothing to wait for"
    before = threading.active_count()
    work.go.set()
    joined_the_old: list[bool] = []
    first = flights.run("key", work)
    first.add_done_callback(lambda _: joined_the_old.append(flights.run("key", work) is first))
    first.result(10)
    while not joined_the_old:
        os.sched_yield()
    assert joined_the_old == [False]
    for number in range(20):
        flights.run(number, work).result(10)
    assert flights._thread is not None
    flights._thread.join(10)
    assert not flights._thread.is_alive()
    assert work.runs == 22
    while threading.active_count() > before:  # the thread that resolves names ends by itself
        os.sched_yield()


def test_the_work_has_no_callers_context() -> None:
    flights = SingleFlight()
    variable: ContextVar[str] = ContextVar("variable", default="the default")
    variable.set("mine")

    async def look() -> str:
        return variable.get()

    assert flights.run("key", look).result(10) == "the default"


async def test_a_failure_of_the_work_is_its_callers() -> None:
    async def fails() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await SingleFlight().join("key", fails, within=60)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="warns of every fork beside a thread")
def test_a_forked_child_has_no_work() -> None:
    async def done() -> str:
        return "done"

    work = Work()
    parents = flights.run("key", work)
    work.began.wait()
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if flights.run("key", done).result(10) == "done" else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    work.go.set()
    assert parents.result(10) == 1
