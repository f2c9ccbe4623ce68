"""Async iterable to Observable: what is asked for and closed, when, and where an exception goes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from reactivex import Observable
from reactivex import operators as ops

from rxauth import bridge, from_async_iterable, to_async_iterable

from .async_sources import Managed, Source, collect, reports_of_the_loop, until

needs_eager_tasks = pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 has eager tasks")


async def failing() -> AsyncIterator[int]:
    yield 1
    raise ValueError("no more")


class TestFromAsyncIterable:
    async def test_opens_one_iterable_per_subscription(self) -> None:
        made: list[Source] = []

        def factory() -> Source:
            made.append(Source(2))
            return made[-1]

        source = from_async_iterable(factory)
        assert made == []
        assert await collect(source) + await collect(source) == [0, 1, 0, 1]
        assert len(made) == 2

    @pytest.mark.parametrize("awaited", [False, True])
    async def test_enters_and_leaves_a_context_manager(self, awaited: bool) -> None:
        class Both(Managed):
            """As a request of aiohttp: it could also be awaited, and would then not be closed."""

            def __await__(self) -> Iterator[Any]:
                raise AssertionError("it was awaited")

        managed = Both(2)

        async def factory() -> Managed:
            return managed

        stream: Observable[int] = from_async_iterable(factory if awaited else lambda: managed)
        assert await collect(stream.pipe(ops.map(lambda each: (each, managed.entered)))) == [(0, True), (1, True)]
        assert (managed.entered, managed.closed.is_set()) == (False, True)

    async def test_awaits_an_awaitable_of_an_iterable(self) -> None:
        async def factory() -> Source:
            return Source(2)

        assert await collect(from_async_iterable(factory)) == [0, 1]

    @pytest.mark.parametrize(
        ("factory", "error"),
        [
            (lambda: 5, "int, which is not an async iterable"),
            (lambda: 1 / 0, "division by zero"),
            (failing, "no more"),
        ],
        ids=["not an iterable", "the factory raises", "the iteration raises"],
    )
    async def test_fails_with_the_exception_of_the_iterable(self, factory: Any, error: str) -> None:
        with pytest.raises((TypeError, ArithmeticError, ValueError), match=error):
            await collect(from_async_iterable(factory))

    def test_without_a_loop_fails_on_the_error_channel(self) -> None:
        errors: list[Exception] = []
        from_async_iterable(lambda: Source(1)).subscribe(on_error=errors.append)
        assert "event loop" in str(errors[0])

    async def test_a_base_exception_is_an_error_not_a_hang(self) -> None:
        class Stop(BaseException):
            pass

        async def words() -> AsyncIterator[str]:
            yield "one"
            raise Stop

        elements = to_async_iterable(from_async_iterable(words))
        assert await anext(elements) == "one"
        with pytest.raises(RuntimeError, match="Stop") as raised:
            await anext(elements)
        assert isinstance(raised.value.__cause__, Stop)

    @pytest.mark.parametrize("steps", [0, 3], ids=["before its first step", "while it waits"])
    async def test_a_task_that_is_cancelled_is_an_error(self, steps: int) -> None:
        before = asyncio.all_tasks()
        errors: list[Exception] = []
        from_async_iterable(lambda: Source(10, asyncio.Event())).subscribe(on_error=errors.append)
        (task,) = asyncio.all_tasks() - before
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert "cancelled" in str(errors[0])


class TestAnIterableThatNeverWaits:
    """A cached answer, a generator over a list: nothing but the bridge gives the loop a turn."""

    @pytest.mark.parametrize("eager", [False, pytest.param(True, marks=needs_eager_tasks)], ids=["", "an eager task"])
    async def test_take_asks_for_no_element_too_many(self, eager: bool) -> None:
        if eager:
            asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009
        source = Source(1000)
        assert await collect(from_async_iterable(lambda: source).pipe(ops.take(2))) == [0, 1]
        await source.closed.wait()
        assert source.asked == 2

    async def test_break_ends_an_endless_one(self) -> None:
        source = Source(10**9)
        async for number in to_async_iterable(from_async_iterable(lambda: source)):
            if number == 2:
                break
        await source.closed.wait()
        assert source.asked <= 64

    async def test_a_dispose_from_a_thread_is_seen_at_once(self) -> None:
        asked: list[int] = []

        async def numbers() -> AsyncIterator[int]:
            for number in range(10**9):
                asked.append(number)
                yield number

        def consumer(number: int) -> None:
            if number == 5:
                thread = threading.Thread(target=subscription.dispose)
                thread.start()
                thread.join()

        subscription = from_async_iterable(numbers).subscribe(consumer)
        await until(lambda: len(asyncio.all_tasks()) == 1)
        assert asked == list(range(6))


class TestFromProducer:
    async def test_emits_the_opening_inside_subscribe(self) -> None:
        seen: list[int] = []

        async def produce(emit: Callable[[int], None]) -> None:
            emit(2)

        subscription = bridge.from_producer(produce, opening=lambda: [1]).subscribe(seen.append)
        assert seen == [1]
        subscription.dispose()

    async def test_hides_the_consumers_exception_from_it(self) -> None:
        reported = reports_of_the_loop()
        swallowed: list[Exception] = []
        seen: list[int] = []

        async def produce(emit: Callable[[int], None]) -> None:
            try:
                emit(1)
            except Exception as error:
                swallowed.append(error)
                emit(2)

        def consumer(number: int) -> None:
            seen.append(number)
            raise LookupError

        bridge.from_producer(produce).subscribe(consumer)
        await until(lambda: reported)
        assert (seen, swallowed) == ([1], [])

    async def test_holds_its_task_until_it_ends(self) -> None:
        """The loop holds it weakly."""
        gates: list[weakref.ref[Any]] = []
        tasks: list[weakref.ref[Any]] = []

        async def produce(_: Any) -> None:
            gate: asyncio.Future[None] = asyncio.Future()
            gates.append(weakref.ref(gate))
            tasks.append(weakref.ref(asyncio.current_task()))
            await gate

        completed: list[Any] = []
        bridge.from_producer(produce).subscribe(on_completed=lambda: completed.append(None))
        await asyncio.sleep(0)
        gc.collect()
        gates[0]().set_result(None)  # type: ignore[union-attr]
        await until(lambda: completed)
        await asyncio.sleep(0)
        gc.collect()
        assert tasks[0]() is None
