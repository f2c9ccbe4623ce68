"""Async iterables are closed at their end and at dispose, and exceptions of the clean-up are reported."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rxauth import from_async_iterable

from .async_sources import Managed, Source, collect, reports_of_the_loop, until


class TestClosing:
    class Reader:
        """An iterator that is empty, or waits for ever; closed by the methods it is given."""

        def __init__(self, gate: asyncio.Event | None = None) -> None:
            self.gate = gate

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> int:
            if self.gate is not None:
                await self.gate.wait()
            raise StopAsyncIteration

    @pytest.mark.usefixtures("no_collections")
    async def test_that_fails_keeps_no_stream(self) -> None:
        class Broken(TestClosing.Reader):
            async def aclose(self) -> None:
                raise OSError("the connection has gone")

        made: list[weakref.ref[Broken]] = []

        def factory() -> Broken:
            stream = Broken()
            made.append(weakref.ref(stream))
            return stream

        ends: list[str] = []
        from_async_iterable(factory).subscribe(on_error=lambda error: ends.append(str(error)))
        await until(lambda: ends)
        await asyncio.sleep(0)
        assert (ends, made[0]()) == (["the connection has gone"], None)

    @pytest.mark.parametrize(
        ("body", "reader", "closed"),
        [
            pytest.param([], [], [], id="nothing can be closed"),
            pytest.param([], ["aclose"], ["reader aclose"], id="the iterator"),
            pytest.param(["aclose"], ["aclose"], ["reader aclose", "body aclose"], id="both, the iterator first"),
            pytest.param(["close"], ["aclose"], ["reader aclose", "body close"], id="close alone, not asynchronous"),
            pytest.param(["async close"], [], ["body async close"], id="close alone, asynchronous"),
            pytest.param(["close", "aclose"], [], ["body aclose"], id="aclose is preferred to close"),
        ],
    )
    @pytest.mark.parametrize("leave", ["end", "dispose"])
    async def test_closes_iterator_and_iterable(
        self, body: list[str], reader: list[str], closed: list[str], leave: str
    ) -> None:
        calls: list[str] = []
        gate = asyncio.Event() if leave == "dispose" else None

        def closable(name: str, methods: list[str], base: Any) -> Any:
            made = base()
            for method in methods:

                async def aclose(method: str = method) -> None:
                    await asyncio.sleep(0)
                    calls.append(f"{name} {method}")

                def close(method: str = method) -> None:
                    calls.append(f"{name} {method}")

                setattr(made, method.removeprefix("async "), close if method == "close" else aclose)
            return made

        class Body:
            def __aiter__(self) -> Any:
                return closable("reader", reader, lambda: TestClosing.Reader(gate))

        subscription = from_async_iterable(lambda: closable("body", body, Body)).subscribe()
        await asyncio.sleep(0)
        if leave == "dispose":
            subscription.dispose()
        await until(lambda: len(asyncio.all_tasks()) == 1)
        assert calls == closed

    async def test_closes_its_own_iterator_once(self) -> None:
        closed: list[int] = []

        class Own(TestClosing.Reader):
            async def aclose(self) -> None:
                closed.append(1)

        assert await collect(from_async_iterable(Own)) == []
        assert closed == [1]

    async def test_closes_the_iterable_if_closing_its_iterator_fails(self) -> None:
        closed: list[str] = []

        class Failing(TestClosing.Reader):
            async def aclose(self) -> None:
                raise LookupError("closing")

        class Body:
            def __aiter__(self) -> Any:
                return Failing()

            def close(self) -> None:
                closed.append("body")

        with pytest.raises(LookupError, match="closing"):
            await collect(from_async_iterable(Body))
        assert closed == ["body"]

    @pytest.mark.parametrize("thread", [False, True], ids=["the loop's thread", "another"])
    async def test_dispose_closes_a_waiting_iterable(self, thread: bool) -> None:
        managed, first = Managed(10, gate=asyncio.Event()), asyncio.Event()
        subscription = from_async_iterable(lambda: managed).subscribe(lambda _: first.set())
        await first.wait()
        await asyncio.to_thread(subscription.dispose) if thread else subscription.dispose()
        await managed.closed.wait()
        await until(lambda: not managed.entered)
        assert managed.asked == 1

    @pytest.mark.parametrize("how", ["while it waits", "in on_next", "by the consumer's exception"])
    async def test_an_exception_of_the_clean_up_is_reported(self, how: str) -> None:
        reported = reports_of_the_loop()

        async def words() -> AsyncIterator[str]:
            try:
                yield "one"
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                raise LookupError("closing")

        seen: list[str] = []

        def consumer(word: str) -> None:
            seen.append(word)
            if how == "in on_next":
                subscription.dispose()
            elif how == "by the consumer's exception":
                raise ValueError("the consumer's own")

        subscription = from_async_iterable(words).subscribe(consumer, lambda _: pytest.fail("it was disposed"))
        await until(lambda: seen)
        subscription.dispose()
        await until(lambda: reported and len(asyncio.all_tasks()) == 1)
        assert [str(each["exception"]) for each in reported] == [
            "closing",
            *(["the consumer's own"] if how == "by the consumer's exception" else []),
        ]

    @pytest.mark.parametrize("moment", ["an element", "the end"])
    async def test_a_consumers_exception_closes_and_is_reported(self, moment: str) -> None:
        reported = reports_of_the_loop()
        source, ended = Source(10 if moment == "an element" else 0), list[object]()

        def raises(*_: int) -> None:
            raise LookupError("the consumer's own")

        consumer: Any = {"on_next": raises} if moment == "an element" else {"on_completed": raises}
        from_async_iterable(lambda: source).subscribe(on_error=ended.append, **consumer)
        await until(lambda: reported)
        assert (str(reported[0]["exception"]), source.asked, ended) == ("the consumer's own", source.asked and 1, [])
        await source.closed.wait()

    async def test_leaves_no_task_at_any_step(self) -> None:
        for steps in range(6):
            source = Source(2)
            subscription = from_async_iterable(lambda source=source: source).subscribe()  # type: ignore[misc]
            for _ in range(steps):
                await asyncio.sleep(0)
            subscription.dispose()
            for _ in range(5):
                await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert source.asked == 0 or source.closed.is_set()

    def test_a_subscription_may_outlive_its_loop(self) -> None:
        async def main() -> Any:
            return from_async_iterable(lambda: Source(10, asyncio.Event())).subscribe(on_error=lambda _: None)

        subscription = asyncio.run(main())
        subscription.dispose()
        gc.collect()
