"""The crossing between Observables and asyncio: who is closed, when, and where an exception goes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from rxauth import ConsumerTooSlow, bridge, from_async_iterable, to_async_iterable, waiting


class Closing:
    """An async iterable of numbers that says when it was closed."""

    def __init__(self, count: int = 10, gate: asyncio.Event | None = None) -> None:
        self.count = count
        self.gate = gate
        self.given = 0
        self.closed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[int]:
        try:
            for number in range(self.count):
                self.given += 1
                yield number
                if self.gate is not None:
                    await self.gate.wait()
        finally:
            self.closed.set()


class Managed(Closing):
    entered = False

    async def __aenter__(self) -> Managed:
        self.entered = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.entered = False


class Told:
    """An outcome as two functions."""

    def __init__(self, on_result: Callable[[Any], object], on_failed: Callable[[Exception], object]) -> None:
        self.on_result = on_result
        self.on_failed = on_failed

    def succeeded(self, result: Any) -> None:
        self.on_result(result)

    def failed(self, error: Exception) -> None:
        self.on_failed(error)


async def collect(observable: Observable[Any]) -> list[Any]:
    return [each async for each in to_async_iterable(observable)]


class TestFromAsyncIterable:
    async def test_it_gives_every_element_and_completes(self) -> None:
        assert await collect(from_async_iterable(lambda: Closing(3))) == [0, 1, 2]

    async def test_the_factory_is_called_for_each_subscription(self) -> None:
        made: list[Closing] = []

        def factory() -> Closing:
            made.append(Closing(2))
            return made[-1]

        source = from_async_iterable(factory)
        assert made == []
        assert await collect(source) + await collect(source) == [0, 1, 0, 1]
        assert len(made) == 2

    async def test_an_awaitable_of_an_async_iterable_is_awaited(self) -> None:
        async def factory() -> Closing:
            return Closing(2)

        assert await collect(from_async_iterable(factory)) == [0, 1]

    async def test_an_async_context_manager_is_entered_and_left(self) -> None:
        managed = Managed(2)
        seen = await collect(from_async_iterable(lambda: managed).pipe(ops.map(lambda each: (each, managed.entered))))
        assert seen == [(0, True), (1, True)]
        assert not managed.entered

    async def test_an_awaitable_of_a_context_manager_is_awaited_and_entered(self) -> None:
        managed = Managed(1)

        async def factory() -> Managed:
            return managed

        assert await collect(from_async_iterable(factory).pipe(ops.map(lambda _: managed.entered))) == [True]
        assert not managed.entered

    async def test_one_that_can_be_awaited_too_is_entered(self) -> None:
        class Both(Managed):
            """As a request of aiohttp."""

            def __await__(self) -> Iterator[Any]:
                raise AssertionError("what is awaited is not closed")

        managed = Both(1)
        assert await collect(from_async_iterable(lambda: managed).pipe(ops.map(lambda _: managed.entered))) == [True]
        assert not managed.entered

    async def test_what_is_its_own_iterator_is_closed_once(self) -> None:
        closed: list[int] = []

        class Own:
            def __aiter__(self) -> Own:
                return self

            async def __anext__(self) -> int:
                raise StopAsyncIteration

            async def aclose(self) -> None:
                closed.append(1)

        assert await collect(from_async_iterable(Own)) == []
        assert closed == [1]

    async def test_of_two_that_can_be_closed_both_are_the_iterator_first_and_whatever_it_raises(self) -> None:
        closed: list[str] = []

        class Body:
            def __aiter__(self) -> Reader:
                return Reader()

            async def aclose(self) -> None:
                closed.append("body")

        class Reader:
            def __aiter__(self) -> Reader:
                return self

            async def __anext__(self) -> int:
                raise StopAsyncIteration

            async def aclose(self) -> None:
                closed.append("reader")
                raise LookupError("closing")

        with pytest.raises(LookupError, match="closing"):
            await collect(from_async_iterable(Body))
        assert closed == ["reader", "body"]

    async def test_what_cannot_be_closed_needs_not_be(self) -> None:
        class Numbers:
            left = 2

            def __aiter__(self) -> Numbers:
                return self

            async def __anext__(self) -> int:
                self.left -= 1
                if self.left < 0:
                    raise StopAsyncIteration
                return self.left

        assert await collect(from_async_iterable(Numbers)) == [1, 0]

    async def test_dispose_closes_what_was_opened(self) -> None:
        managed = Managed(10, gate=asyncio.Event())
        first = asyncio.Event()
        subscription = from_async_iterable(lambda: managed).subscribe(lambda _: first.set())
        await first.wait()
        subscription.dispose()
        await managed.closed.wait()
        assert managed.given == 1
        await asyncio.sleep(0)
        assert not managed.entered

    async def test_dispose_from_another_thread_closes_what_was_opened(self) -> None:
        closing = Closing(10, gate=asyncio.Event())
        first = asyncio.Event()
        subscription = from_async_iterable(lambda: closing).subscribe(lambda _: first.set())
        await first.wait()
        await asyncio.to_thread(subscription.dispose)
        await closing.closed.wait()
        assert closing.given == 1

    async def test_dispose_closes_an_iterable_that_is_not_its_own_iterator(self) -> None:
        class Body(Closing):
            """As a response's body in httpx."""

            async def aclose(self) -> None:
                assert self.closed.is_set()  # its iterator came first
                body_closed.set()

        body_closed, begun = asyncio.Event(), asyncio.Event()
        subscription = from_async_iterable(lambda: Body(10, asyncio.Event())).subscribe(lambda _: begun.set())
        await begun.wait()
        subscription.dispose()
        await body_closed.wait()

    async def test_an_operator_that_has_enough_closes_it(self) -> None:
        closing = Closing(10)
        assert await collect(from_async_iterable(lambda: closing).pipe(ops.take(2))) == [0, 1]
        await closing.closed.wait()

    async def test_an_exception_of_the_iteration_goes_on_the_error_channel(self) -> None:
        async def failing() -> AsyncIterator[int]:
            yield 1
            raise ValueError("no more")

        with pytest.raises(ValueError, match="no more"):
            await collect(from_async_iterable(failing))

    async def test_an_exception_of_the_factory_goes_on_the_error_channel(self) -> None:
        def factory() -> Closing:
            raise ValueError("cannot open")

        with pytest.raises(ValueError, match="cannot open"):
            await collect(from_async_iterable(factory))

    async def test_what_is_not_iterable_is_refused_with_its_type(self) -> None:
        not_one: Any = lambda: 5  # noqa: E731
        with pytest.raises(TypeError, match="int, which is not an async iterable"):
            await collect(from_async_iterable(not_one))

    def test_without_a_loop_it_fails_on_the_error_channel(self) -> None:
        errors: list[Exception] = []
        from_async_iterable(lambda: Closing(1)).subscribe(on_error=errors.append)
        assert "event loop" in str(errors[0])

    async def test_a_consumers_exception_closes_it_and_reaches_the_loops_handler(self) -> None:
        closing = Closing(10)
        handled: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: handled.set_result(context))
        ended: list[object] = []

        def consumer(_: int) -> None:
            raise LookupError("the consumer's own")

        from_async_iterable(lambda: closing).subscribe(consumer, ended.append, lambda: ended.append("completed"))
        assert isinstance((await handled)["exception"], LookupError)
        await closing.closed.wait()
        assert closing.given == 1
        assert ended == []

    async def test_so_does_one_at_the_end(self) -> None:
        handled: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: handled.set_result(context))

        def consumer() -> None:
            raise LookupError("the consumer's own")

        from_async_iterable(lambda: Closing(1)).subscribe(on_completed=consumer)
        assert isinstance((await handled)["exception"], LookupError)

    async def test_a_task_cancelled_by_somebody_else_is_an_error_not_a_silence(self) -> None:
        gate = asyncio.Event()
        before = asyncio.all_tasks()
        elements = to_async_iterable(from_async_iterable(lambda: Closing(10, gate)))
        assert await anext(elements) == 0
        (task,) = asyncio.all_tasks() - before
        task.cancel()
        with pytest.raises(RuntimeError, match="cancelled"):
            await anext(elements)

    async def test_nor_is_one_that_was_cancelled_before_its_first_step(self) -> None:
        before = asyncio.all_tasks()
        errors: list[Exception] = []
        from_async_iterable(lambda: Closing(10)).subscribe(on_error=errors.append)
        (task,) = asyncio.all_tasks() - before
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert "cancelled" in str(errors[0])

    async def test_nor_is_what_ends_it_and_is_no_exception(self) -> None:
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


class TestFromProducer:
    async def test_the_opening_is_emitted_inside_subscribe(self) -> None:
        seen: list[int] = []

        async def produce(emit: Callable[[int], None]) -> None:
            emit(2)

        subscription = bridge.from_producer(produce, opening=lambda: [1]).subscribe(seen.append)
        assert seen == [1]
        subscription.dispose()

    async def test_a_producer_cannot_take_its_consumers_exception_for_its_own(self) -> None:
        handled = asyncio.Event()
        asyncio.get_running_loop().set_exception_handler(lambda *_: handled.set())
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
        await handled.wait()
        assert (seen, swallowed) == ([1], [])

    async def test_its_task_is_held_until_it_ends_and_no_longer(self) -> None:
        """The loop holds it weakly."""
        gates: list[weakref.ref[Any]] = []
        tasks: list[weakref.ref[Any]] = []

        async def produce(_: Any = None) -> None:
            gate: asyncio.Future[None] = asyncio.Future()
            gates.append(weakref.ref(gate))
            tasks.append(weakref.ref(asyncio.current_task()))
            await gate

        completed: list[Any] = []
        bridge.from_producer(produce).subscribe(on_completed=lambda: completed.append(None))
        waiting.settle(produce(), asyncio.get_running_loop(), Told(completed.append, completed.append))
        await asyncio.sleep(0)
        gc.collect()
        for each in gates:
            each().set_result(None)  # type: ignore[union-attr]
        while len(completed) < 2:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
        assert [each() for each in tasks] == [None, None]


class TestToAsyncIterable:
    async def test_it_subscribes_at_the_first_step(self) -> None:
        subscribed: list[object] = []

        def attempt(_: Any) -> Observable[int]:
            subscribed.append(1)
            return rx.of(1)

        elements = to_async_iterable(rx.defer(attempt))
        assert subscribed == []
        assert await anext(elements) == 1

    async def test_an_error_comes_after_what_was_held(self) -> None:
        elements = to_async_iterable(rx.concat(rx.of(1, 2), rx.throw(ValueError("end"))))
        assert [await anext(elements), await anext(elements)] == [1, 2]
        with pytest.raises(ValueError, match="end"):
            await anext(elements)
        with pytest.raises(StopAsyncIteration):
            await anext(elements)

    async def test_elements_from_another_thread_arrive_in_order(self) -> None:
        subject: Subject[int] = Subject()
        elements = to_async_iterable(subject)
        first = asyncio.ensure_future(anext(elements))
        await asyncio.sleep(0)

        def push() -> None:
            for number in range(1000):
                subject.on_next(number)
            subject.on_completed()

        thread = threading.Thread(target=push)
        thread.start()
        assert [await first] + [each async for each in elements] == list(range(1000))
        thread.join()

    async def test_beyond_max_buffered_it_disposes_gives_what_it_holds_and_says_so(self) -> None:
        disposed: list[bool] = []
        subject: Subject[int] = Subject()
        source = subject.pipe(ops.finally_action(lambda: disposed.append(True)))
        elements = to_async_iterable(source, max_buffered=2)
        first = asyncio.ensure_future(anext(elements))
        await asyncio.sleep(0)
        for number in range(5):
            subject.on_next(number)
        assert disposed == [True]
        assert [await first, await anext(elements)] == [0, 1]
        with pytest.raises(ConsumerTooSlow):
            await anext(elements)

    def test_an_element_that_comes_between_the_look_and_the_wait_is_not_slept_over(self) -> None:
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

    def test_a_limit_below_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="at least 1"):
            to_async_iterable(rx.never(), max_buffered=0)

    async def test_a_limit_of_one_is_one(self) -> None:
        assert [each async for each in to_async_iterable(rx.of(1), max_buffered=1)] == [1]

    async def test_one_that_is_closed_before_the_first_step_subscribes_to_nothing(self) -> None:
        subscribed: list[object] = []

        def attempt(_: Any) -> Observable[int]:
            subscribed.append(1)
            return rx.of(1)

        elements = to_async_iterable(rx.defer(attempt))
        await elements.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(elements)
        assert subscribed == []

    async def test_closing_drops_what_is_held(self) -> None:
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

    async def test_a_step_that_is_cancelled_while_a_thread_wakes_it_disturbs_nobody(self) -> None:
        disturbed: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: disturbed.append(context))
        subject: Subject[int] = Subject()
        elements = to_async_iterable(subject)
        step = asyncio.ensure_future(anext(elements))
        await asyncio.sleep(0)
        pusher = threading.Thread(target=subject.on_next, args=(1,))
        pusher.start()
        pusher.join()
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        assert await anext(elements) == 1
        assert disturbed == []

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

    async def test_a_step_that_is_cancelled_loses_nothing(self) -> None:
        subject: Subject[int] = Subject()
        elements = to_async_iterable(subject)
        step = asyncio.ensure_future(anext(elements))
        await asyncio.sleep(0)
        step.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await step
        subject.on_next(1)
        assert await anext(elements) == 1

    async def test_after_a_step_that_is_cancelled_one_can_wait_again(self) -> None:
        subject: Subject[int] = Subject()
        elements = to_async_iterable(subject)
        for _ in range(2):
            step = asyncio.ensure_future(anext(elements))
            await asyncio.sleep(0)
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step

    async def test_a_thread_leaves_the_waking_to_the_loop(self) -> None:
        asyncio.get_running_loop().set_debug(True)  # then the loop refuses what is not thread-safe
        subject: Subject[int] = Subject()
        elements = to_async_iterable(subject)
        step = asyncio.ensure_future(anext(elements))
        await asyncio.sleep(0)
        await asyncio.to_thread(subject.on_next, 1)
        assert await step == 1

    async def test_two_readers_at_once_are_refused(self) -> None:
        elements = to_async_iterable(rx.never())
        first = asyncio.ensure_future(anext(elements))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(elements)
        first.cancel()


class TestSettle:
    """What a refresh may return."""

    @staticmethod
    async def settled(result: Any) -> Any:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Any] = loop.create_future()
        waiting.settle(result, loop, Told(outcome.set_result, outcome.set_exception))
        return await outcome

    async def test_a_value_is_handed_on_at_once(self) -> None:
        got: list[Any] = []
        waiting.settle(5, None, Told(got.append, got.append))
        assert got == [5]

    async def test_a_coroutine_an_awaitable_and_an_observable_are_waited_for(self) -> None:
        async def coroutine() -> int:
            return 1

        future = asyncio.get_running_loop().create_future()
        future.set_result(2)
        assert [await self.settled(each) for each in (coroutine(), future, rx.of(3, 4), rx.empty())] == [1, 2, 3, None]

    @pytest.mark.parametrize("make", ["coroutine", "observable"])
    async def test_its_exception_is_told(self, make: str) -> None:
        async def coroutine() -> int:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await self.settled(coroutine() if make == "coroutine" else rx.throw(ValueError("no")))

    def test_a_coroutine_without_a_loop_fails_with_a_sentence_and_leaves_no_warning(self) -> None:
        async def coroutine() -> int:
            return 1

        failed: list[Exception] = []
        waiting.settle(coroutine(), None, Told(failed.append, failed.append))
        gc.collect()
        assert "event loop" in str(failed[0])

    async def test_a_coroutine_runs_on_its_loop_whichever_thread_asks(self) -> None:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Any] = loop.create_future()

        async def where() -> Any:
            return asyncio.get_running_loop()

        await asyncio.to_thread(waiting.settle, where(), loop, Told(outcome.set_result, outcome.set_exception))
        assert await outcome is loop

    async def test_a_task_that_is_cancelled_is_a_failure(self) -> None:
        async def coroutine() -> None:
            raise asyncio.CancelledError

        with pytest.raises(RuntimeError, match="cancelled"):
            await self.settled(coroutine())

    async def test_what_ends_a_task_and_is_no_exception_is_a_failure_too(self) -> None:
        class Stop(BaseException):
            pass

        async def coroutine() -> None:
            raise Stop

        with pytest.raises(RuntimeError, match="Stop"):
            await self.settled(coroutine())

    def test_a_coroutine_whose_loop_has_closed_fails_and_leaves_no_warning(self) -> None:
        async def coroutine() -> int:
            return 1

        loop = asyncio.new_event_loop()
        loop.close()
        failed: list[Exception] = []
        waiting.settle(coroutine(), loop, Told(failed.append, failed.append))
        gc.collect()
        assert "event loop" in str(failed[0])

    def test_what_the_callback_throws_comes_back_through_an_observable(self) -> None:
        thrown = LookupError("the callback's own")
        settled: list[Any] = []

        def emits(observer: Any, _: Any = None) -> Any:
            observer.on_next(5)
            return Disposable()

        def callback(value: Any) -> None:
            settled.append(value)
            raise thrown

        with pytest.raises(LookupError) as raised:
            waiting.settle(Observable(emits), None, Told(callback, settled.append))
        assert (raised.value, settled) == (thrown, [5])

    def test_only_the_first_element_counts_and_the_observable_is_disposed(self) -> None:
        source: Subject[int] = Subject()
        settled: list[Any] = []
        waiting.settle(source, None, Told(settled.append, settled.append))
        source.on_next(1)
        assert source.observers == []
        source.on_next(2)
        assert settled == [1]


class TestRunOn:
    async def test_on_the_loop_it_runs_at_once(self) -> None:
        ran: list[int] = []
        assert waiting.run_on(asyncio.get_running_loop(), lambda: ran.append(1))
        assert ran == [1]

    async def test_from_a_thread_it_runs_on_the_loop(self) -> None:
        loop, ran = asyncio.get_running_loop(), asyncio.Event()
        assert await asyncio.to_thread(waiting.run_on, loop, ran.set)
        await ran.wait()

    def test_a_closed_loop_does_not_take_it_and_says_so(self) -> None:
        loop = asyncio.new_event_loop()
        loop.close()
        assert not waiting.run_on(loop, lambda: pytest.fail("it ran"))


class TestWhatIsLeft:
    """No cycle around an exception: it goes when the last who wants it lets it go."""

    class Watched(Exception):
        pass

    @pytest.mark.parametrize("how", ["raised by the iteration", "on the error channel"])
    async def test_nothing_holds_the_exception_that_ended_the_stream(self, how: str) -> None:
        watched: list[weakref.ref[Exception]] = []

        def fail() -> Exception:
            error = self.Watched()
            watched.append(weakref.ref(error))
            return error

        async def failing() -> AsyncIterator[int]:
            yield 1
            raise fail()

        def throwing(observer: Any, _: Any = None) -> Any:
            observer.on_error(fail())
            return Disposable()

        source: Observable[int] = from_async_iterable(failing) if how.startswith("raised") else Observable(throwing)
        gc.collect()
        gc.disable()
        try:
            elements = to_async_iterable(source)
            with contextlib.suppress(self.Watched):
                async for _ in elements:
                    pass
            await asyncio.sleep(0)
            assert watched[0]() is None
        finally:
            gc.enable()

    async def test_no_task_is_left_whoever_leaves_and_when(self) -> None:
        for steps in range(6):
            closing = Closing(2)
            subscription = from_async_iterable(lambda closing=closing: closing).subscribe()  # type: ignore[misc]
            for _ in range(steps):
                await asyncio.sleep(0)
            subscription.dispose()
            for _ in range(5):
                await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert closing.given == 0 or closing.closed.is_set()

    def test_a_subscription_outlives_its_loop_without_a_sound(self) -> None:
        async def main() -> Any:
            return from_async_iterable(lambda: Closing(10, asyncio.Event())).subscribe(on_error=lambda _: None)

        subscription = asyncio.run(main())
        subscription.dispose()
        gc.collect()

    async def test_threads_that_push_and_end_at_once_lose_nothing(self) -> None:
        """The reader looks, finds nothing, and makes its future while another thread pushes."""
        for _ in range(300):
            subject: Subject[int] = Subject()
            elements = to_async_iterable(subject)
            first = asyncio.ensure_future(anext(elements))
            await asyncio.sleep(0)
            thread = threading.Thread(
                target=lambda subject=subject: (*map(subject.on_next, range(5)), subject.on_completed())
            )
            thread.start()
            assert [await first, *[each async for each in elements]] == list(range(5))
            thread.join()
