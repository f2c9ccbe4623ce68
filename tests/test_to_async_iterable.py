"""Observable to async iterator: nothing is lost, and leaving disposes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from rxauth import ConsumerTooSlow, from_async_iterable, to_async_iterable

from .async_sources import Source, collect, reports_of_the_loop


class TestToAsyncIterable:
    async def test_subscribes_at_the_first_step(self) -> None:
        subscribed: list[object] = []

        def attempt(_: Any) -> Observable[int]:
            subscribed.append(1)
            return rx.of(1)

        elements = to_async_iterable(rx.defer(attempt))
        assert subscribed == []
        assert await anext(elements) == 1
        closed = to_async_iterable(rx.defer(attempt))
        await closed.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(closed)
        assert subscribed == [1]

    def test_without_asyncio_names_the_way_from_trio(self) -> None:
        with pytest.raises(RuntimeError, match=r"asyncio.*trio_asyncio\.open_loop"):
            to_async_iterable(rx.of(1)).__anext__().send(None)

    async def test_raises_the_error_after_the_held_elements(self) -> None:
        elements = to_async_iterable(rx.concat(rx.of(1, 2), rx.throw(ValueError("end"))))
        assert [await anext(elements), await anext(elements)] == [1, 2]
        with pytest.raises(ValueError, match="end"):
            await anext(elements)
        with pytest.raises(StopAsyncIteration):
            await anext(elements)

    def test_sees_an_element_between_its_look_and_its_wait(self) -> None:
        subject: Subject[int] = Subject()
        pushing = [threading.Thread(target=subject.on_next, args=(1,))]

        class Loop(asyncio.SelectorEventLoop):
            """The future to wait on is made when the look is over: that is the moment."""

            def create_future(self) -> asyncio.Future[Any]:
                if subject.observers and pushing:
                    thread = pushing.pop()
                    thread.start()
                    thread.join()
                return super().create_future()

        async def main() -> int:
            return await asyncio.wait_for(anext(to_async_iterable(subject)), 5)

        with asyncio.Runner(loop_factory=Loop) as runner:
            assert runner.run(main()) == 1

    async def test_wakes_its_loop_thread_safely(self) -> None:
        asyncio.get_running_loop().set_debug(True)  # then the loop refuses a call that is not thread-safe
        subject: Subject[int] = Subject()
        elements = to_async_iterable(subject)
        step = asyncio.ensure_future(anext(elements))
        await asyncio.sleep(0)
        await asyncio.to_thread(subject.on_next, 1)
        assert await step == 1

    @pytest.mark.parametrize("wake", [False, True], ids=["while it waits", "while a thread wakes it"])
    async def test_a_cancelled_step_loses_nothing(self, wake: bool) -> None:
        reported = reports_of_the_loop()
        subject: Subject[int] = Subject()
        elements = to_async_iterable(subject)
        for _ in range(2):
            step = asyncio.ensure_future(anext(elements))
            await asyncio.sleep(0)
            if wake:
                pusher = threading.Thread(target=subject.on_next, args=(1,))
                pusher.start()
                pusher.join()
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step
            step = asyncio.ensure_future(anext(elements))
            await asyncio.sleep(0)
            if not wake:
                subject.on_next(1)
            assert await step == 1
        assert reported == []

    async def test_refuses_two_readers_at_once(self) -> None:
        elements = to_async_iterable(rx.never())
        first = asyncio.ensure_future(anext(elements))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(elements)
        first.cancel()

    @pytest.mark.parametrize("leave", ["aclose", "drop", "break"])
    async def test_leaving_disposes(self, leave: str) -> None:
        disposed: list[bool] = []
        source: Observable[int] = rx.create(
            lambda observer, _: (observer.on_next(1), Disposable(lambda: disposed.append(True)))[1]
        )
        elements: Any = to_async_iterable(source)
        if leave == "break":
            async for _ in elements:
                break
        else:
            await anext(elements)
        if leave == "aclose":
            await elements.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(elements)
        del elements
        gc.collect()
        assert disposed == [True]

    async def test_aclose_drops_the_held_elements(self) -> None:
        class Element:
            pass

        subject: Subject[Element] = Subject()
        elements = to_async_iterable(subject)
        first = asyncio.ensure_future(anext(elements))
        await asyncio.sleep(0)
        subject.on_next(Element())
        held = Element()
        watched = weakref.ref(held)
        subject.on_next(held)
        del held
        await first
        await elements.aclose()
        assert watched() is None

    @pytest.mark.usefixtures("no_collections")
    @pytest.mark.parametrize("how", ["raised by the iteration", "on the error channel"])
    async def test_holds_no_exception_that_ended_it(self, how: str) -> None:
        class Watched(Exception):
            pass

        watched: list[weakref.ref[Exception]] = []

        def fail() -> Exception:
            error = Watched()
            watched.append(weakref.ref(error))
            return error

        async def failing() -> AsyncIterator[int]:
            yield 1
            raise fail()

        def throwing(observer: Any, _: Any = None) -> Any:
            observer.on_error(fail())
            return Disposable()

        source: Observable[int] = from_async_iterable(failing) if how.startswith("raised") else Observable(throwing)
        with contextlib.suppress(Watched):
            await collect(source)
        await asyncio.sleep(0)
        assert watched[0]() is None


class TestMaxBuffered:
    def test_below_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="at least 1"):
            to_async_iterable(rx.never(), max_buffered=0)

    async def test_one_holds_one(self) -> None:
        assert [each async for each in to_async_iterable(rx.of(1), max_buffered=1)] == [1]

    @pytest.mark.parametrize(
        ("bursts", "turns", "seen", "text"),
        [
            pytest.param([3], 0, [0, 1], "More than 2 .* in one burst, before the reader could run", id="a burst"),
            pytest.param([1, 1, 1, 1], 3, [0, 0, 0], "2 events were waiting .* while the reader was busy", id="busy"),
        ],
    )
    async def test_only_a_busy_reader_is_blamed(
        self, bursts: list[int], turns: int, seen: list[int], text: str
    ) -> None:
        subject: Subject[int] = Subject()
        elements = to_async_iterable(subject, max_buffered=2)
        first = asyncio.ensure_future(anext(elements))
        await asyncio.sleep(0)
        for count in bursts:
            for number in range(count):
                subject.on_next(number)
            for _ in range(turns):
                await asyncio.sleep(0)
        assert subject.observers == []
        read = [await first]
        with pytest.raises(ConsumerTooSlow, match=text):
            async for each in elements:
                read.append(each)
        assert read == seen

    async def test_a_later_burst_is_a_burst_too(self) -> None:
        subject: Subject[int] = Subject()
        elements = to_async_iterable(subject, max_buffered=2)
        for count in (1, 3):
            step = asyncio.ensure_future(anext(elements))
            await asyncio.sleep(0)
            for number in range(count):
                subject.on_next(number)
            assert await step == 0
        assert await anext(elements) == 1
        with pytest.raises(ConsumerTooSlow, match="burst"):
            await anext(elements)

    async def test_a_burst_inside_subscribe_is_a_burst(self) -> None:
        with pytest.raises(ConsumerTooSlow, match="burst"):
            _ = [each async for each in to_async_iterable(rx.of(1, 2, 3), max_buffered=2)]

    async def test_ends_an_endless_iterable_that_never_waits(self) -> None:
        source = Source(10**9)
        seen: list[int] = []
        with pytest.raises(ConsumerTooSlow):
            async for number in to_async_iterable(from_async_iterable(lambda: source), max_buffered=10):
                seen.append(number)
        await source.closed.wait()
        assert (len(seen), source.asked) == (10, 11)
