"""Work that is done once for all who ask, on a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from rxauth.credentials._single_flight import Interrupted, SingleFlight


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


async def test_ten_thousand_waiters_share_one_piece_of_work() -> None:
    flights, work = SingleFlight(), Work()
    waiting = [asyncio.ensure_future(flights.join("key", work, within=60)) for _ in range(10_000)]
    await asyncio.sleep(0)
    work.go.set()
    assert set(await asyncio.gather(*waiting)) == {1}
    assert work.runs == 1
    assert ended(flights)


def test_waiters_on_several_loops_and_threads_share_it() -> None:
    flights, work = SingleFlight(), Work()
    together = threading.Barrier(8)

    async def ask() -> list[int]:
        waiting = [asyncio.ensure_future(flights.join("key", work, within=60)) for _ in range(100)]
        await asyncio.sleep(0)
        together.wait()
        work.go.set()
        return await asyncio.gather(*waiting)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(asyncio.run, ask()) for _ in range(8)]
        assert {each for one in asked for each in one.result()} == {1}
    assert work.runs == 1
    assert {thread.daemon for thread in work.threads} == {True}


def test_other_keys_run_side_by_side_on_the_same_thread() -> None:
    flights, one, other = SingleFlight(), Work(), Work()
    first, second = flights.run("one", one), flights.run("other", other)
    one.began.wait(10)
    other.began.wait(10)
    one.go.set()
    other.go.set()
    assert (first.result(10), second.result(10)) == (1, 1)
    assert len(one.threads | other.threads) == 1


def test_who_asks_after_the_end_gets_new_work_on_a_new_thread() -> None:
    flights, work = SingleFlight(), Work()
    work.go.set()
    assert [flights.run("key", work).result(10) for _ in range(3)] == [1, 2, 3]
    assert ended(flights)


def test_asking_again_the_moment_the_outcome_is_known_does_not_join_what_has_ended() -> None:
    flights, work = SingleFlight(), Work()
    work.go.set()
    again: list[int] = []
    first = flights.run("key", work)
    first.add_done_callback(lambda _: again.append(1 if flights.run("key", work) is first else 0))
    first.result(10)
    while not again:
        os.sched_yield()
    assert again == [0]
    assert ended(flights)


async def test_a_cancelled_waiter_cancels_itself_alone() -> None:
    flights, work = SingleFlight(), Work()
    tasks = [asyncio.ensure_future(flights.join("key", work, within=60)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.wait([tasks[0]])
    work.go.set()
    assert await asyncio.gather(*tasks[1:]) == [1, 1]
    assert tasks[0].cancelled()


async def test_all_who_wait_get_what_it_raises() -> None:
    flights = SingleFlight()

    async def work() -> None:
        raise LookupError("the work's own")

    waiting = [flights.join("key", work, within=60) for _ in range(3)]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(each) for each in outcomes] == ["the work's own"] * 3


def test_the_end_of_an_askers_loop_ends_nothing() -> None:
    flights, work = SingleFlight(), Work()

    async def ask() -> None:
        task = asyncio.ensure_future(flights.join("key", work, within=60))
        await asyncio.to_thread(work.began.wait)
        assert not task.done()

    asyncio.run(ask())
    joined = flights.run("key", work)
    work.go.set()
    assert joined.result(10) == 1
    assert ended(flights)


def test_the_askers_context_is_not_the_works() -> None:
    from contextvars import ContextVar

    flights = SingleFlight()
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")
    variable.set("mine")

    async def look() -> str:
        return variable.get()

    assert flights.run("key", look).result(10) == "nobody's"


def test_a_failure_is_shared() -> None:
    flights, go = SingleFlight(), threading.Event()

    async def fail() -> None:
        await asyncio.to_thread(go.wait)
        raise LookupError

    first, second = flights.run("key", fail), flights.run("key", fail)
    go.set()
    assert first.exception(10) is second.exception(10)
    assert isinstance(first.exception(), LookupError)


# The end of the program ----------------------------------------------------------------------------------------------


def test_closing_cancels_what_may_be_cancelled_and_waits() -> None:
    flights, work = SingleFlight(), Work()
    flight = flights.run("key", work)
    work.began.wait()
    flights.close()
    assert isinstance(flight.exception(0), Interrupted)
    assert ended(flights)


def test_closing_before_the_first_step_ends_it_too() -> None:
    flights, work = SingleFlight(), Work()
    held = threading.Event()

    async def hold() -> None:
        held.wait()  # keeps the loop busy, so that the next one has not begun when it is cancelled

    flights.run("other", hold)
    flight = flights.run("key", work)
    closing = threading.Thread(target=flights.close)
    closing.start()
    held.set()
    closing.join(10)
    assert isinstance(flight.exception(10), Interrupted)


@pytest.mark.parametrize("goes_well", [True, False])
def test_closing_waits_for_what_must_not_be_broken_off(goes_well: bool) -> None:
    flights, work = SingleFlight(), Work()
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
            steps.append(await asyncio.sleep(0, -1))  # the lock is given back
        return "done"

    flight = flights.run("key", spend_and_try_again)
    work.began.wait()
    closing = threading.Thread(target=flights.close)
    closing.start()
    while not flights._put_off:
        os.sched_yield()
    work.go.set()
    closing.join(10)
    assert steps == [1, -1]
    if goes_well:
        assert flight.result(0) == "done"
    else:
        assert isinstance(flight.exception(0), Interrupted)
    assert (flights._unbroken, flights._put_off) == (set(), set())


def test_closing_without_work_does_nothing() -> None:
    SingleFlight().close()


def test_no_thread_is_left_when_the_work_has_ended() -> None:
    flights, work = SingleFlight(), Work()
    work.go.set()
    before = threading.active_count()
    for number in range(20):
        flights.run(number, work).result(10)
    assert ended(flights)
    while threading.active_count() > before:  # the thread that resolves names is told to end, and not waited for
        os.sched_yield()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="warns of every fork beside a thread")
def test_a_forked_child_starts_with_nothing_under_way() -> None:
    from rxauth.credentials._single_flight import flights

    work = Work()
    parents = flights.run("key", work)
    work.began.wait()
    child = os.fork()
    if child == 0:
        try:
            done: Callable[[], Coroutine[Any, Any, str]] = _done
            os._exit(0 if flights.run("key", done).result(10) == "done" else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    work.go.set()
    assert parents.result(10) == 1


async def _done() -> str:
    return "done"
