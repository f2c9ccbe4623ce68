"""Work that is done once for all waiters, on a private thread."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextvars import ContextVar

import pytest

from rxauth.credentials._single_flight import Interrupted, SingleFlight, flights


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


def ended(flights: SingleFlight) -> bool:
    """Wait for the thread, if there is one; whether it has ended."""
    if flights._thread is not None:
        flights._thread.join(10)
        return not flights._thread.is_alive()
    return True


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
    assert ended(flights)
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


# The end of the program ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("goes_well", [True, False])
def test_close_waits_for_unbroken_work(goes_well: bool) -> None:
    """And cancels the rest, such as another try."""
    flights, work = SingleFlight(), Work()
    assert flights.close(), "there is nothing to wait for"
    steps = []

    async def spend_and_try_again() -> str:
        try:
            with flights.unbroken():
                steps.append(await work())
                if not goes_well:
                    raise OSError
        except OSError:
            steps.append(await work())
        finally:
            steps.append(await asyncio.sleep(0, -1))  # the lock is released
        return "done"

    flight = flights.run("key", spend_and_try_again)
    work.began.wait()
    closing = threading.Thread(target=flights.close)
    closing.start()
    while True not in flights._unbroken.values():
        os.sched_yield()
    work.go.set()
    closing.join(10)
    assert steps == [1, -1]
    if goes_well:
        assert flight.result(0) == "done"
    else:
        assert isinstance(flight.exception(0), Interrupted)
    assert not flights.unbreakable


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
