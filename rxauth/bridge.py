"""The crossing between Observables and asyncio: async iterables in, async iterables out."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxauth.errors import ConsumerTooSlow
from rxauth.waiting import as_exception, run_on, running_loop, start_task

__all__ = [
    "Elements",
    "from_async_iterable",
    "from_producer",
    "to_async_iterable",
]

E = TypeVar("E")


class _ConsumerFailed(BaseException):
    """Carries a consumer's exception through a producer, past every `except Exception` that is meant for its own."""


def from_producer(
    produce: Callable[[Callable[[E], None]], Coroutine[Any, Any, None]],
    *,
    opening: Callable[[], Iterable[E]] | None = None,
) -> Observable[E]:
    """A cold Observable of what a coroutine emits.

    For each subscription `produce(emit)` runs as a task on the loop that is running at `subscribe`. Its return
    completes the stream, its exception fails it, dispose (from any thread) cancels it. What a consumer throws closes
    the producer and goes to the loop's exception handler.

    Args:
        produce: the coroutine function; it is given `emit`.
        opening: called at each subscription; what it returns is emitted inside `subscribe`, before the task starts.
    """

    def subscribe(observer: abc.ObserverBase[E], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        loop = running_loop()
        if loop is None:
            observer.on_error(
                RuntimeError("This stream needs asyncio: subscribe to it where an event loop is running.")
            )
            return Disposable()
        if opening is not None:
            for event in opening():
                observer.on_next(event)

        return _Production(produce, observer, loop)

    return Observable(subscribe)


class _Production(abc.DisposableBase, Generic[E]):
    """A producer at work for one subscription. (An object, and few closures: there may be thousands.)"""

    def __init__(
        self,
        produce: Callable[[Callable[[E], None]], Coroutine[Any, Any, None]],
        observer: abc.ObserverBase[E],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._observer = observer
        self._loop = loop
        self._task = start_task(loop, self._run(produce), self._done)

    def dispose(self) -> None:
        run_on(self._loop, self._task.cancel)

    async def _run(self, produce: Callable[[Callable[[E], None]], Coroutine[Any, Any, None]]) -> None:
        observer = self._observer

        def emit(event: E) -> None:
            try:
                return observer.on_next(event)
            except Exception as error:
                raise _ConsumerFailed(error) from error

        try:
            await produce(emit)
        except _ConsumerFailed as failed:
            self._report(failed.args[0])
        except Exception as error:
            self._end(observer.on_error, error)
        else:
            self._end(observer.on_completed)

    def _done(self, task: asyncio.Task[None]) -> None:
        # Silence would be a hang for the consumer. One that has disposed hears nothing any more: RxPY sees to that.
        if task.cancelled():  # by somebody else, perhaps before its first step
            self._end(self._observer.on_error, RuntimeError("The task that reads the stream was cancelled."))
        elif (error := task.exception()) is not None:  # what no `except Exception` sees
            self._end(self._observer.on_error, as_exception(error))

    def _end(self, notify: Callable[..., None], *error: Exception) -> None:
        try:
            notify(*error)
        except Exception as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        # Without the task: Python 3.12 would enter its context for the handler, and this is inside it already.
        self._loop.call_exception_handler({"message": "A consumer of a stream failed", "exception": error})


def from_async_iterable(
    factory: Callable[
        [], AsyncIterable[E] | Awaitable[AsyncIterable[E]] | AbstractAsyncContextManager[AsyncIterable[E]]
    ],
) -> Observable[E]:
    """A cold Observable of an async iterable's elements: an SDK's stream, an async generator.

    `factory` is called for each subscription, on the running loop; what it opened is closed when the stream ends and on
    dispose. An exception of the factory or the iteration goes on Rx's error channel.

    With an official SDK, whose own retries are off because they would only spend the refused token again:

        client = AsyncAnthropic(auth_token=token, max_retries=0)
        stream = from_async_iterable(lambda: client.messages.create(**request, stream=True))
        stream.pipe(recover_auth(refresh, is_prelude=lambda event: event.type == "message_start"))

        what is asked       is_prelude                                                   is_error
        Messages            type "message_start"                                         (thrown)
        Chat Completions    a chunk without content, tool calls and finish_reason        (thrown)
        Responses           type "response.created", ".queued" or ".in_progress"         type "error", "response.failed"
        pydantic-ai         none: `lambda event: False`                                  (thrown)

    A new token needs no new client: `client.auth_token` (Anthropic) and `client.api_key` (OpenAI) can be set and are
    read for each request; OpenAI's `api_key` and Anthropic's `credentials` can also be coroutine functions, which are
    asked before each; and `extra_headers={"Authorization": ...}` of a request comes before all of them. `tests/recipes`
    has every one of these.

    Args:
        factory: returns an async iterable, an awaitable of one, or an async context manager of one.

    Raises:
        RuntimeError: on the error channel, where no event loop is running: see `rxauth.operators` for threads.

    >>> import asyncio
    >>> async def words():
    ...     yield "hello"
    ...     yield "world"
    >>> async def main():
    ...     return [word async for word in to_async_iterable(from_async_iterable(words))]
    >>> asyncio.run(main())
    ['hello', 'world']
    """

    def produce(emit: Callable[[E], None]) -> Coroutine[Any, Any, None]:
        opened: Any = factory()
        if isinstance(opened, AbstractAsyncContextManager) or inspect.isawaitable(opened):
            return _emit_each_opened(opened, emit)
        return _emit_each(opened, emit)

    return from_producer(produce)


async def _emit_each_opened(opened: Any, emit: Callable[[E], None]) -> None:
    if not isinstance(opened, AbstractAsyncContextManager):
        opened = await opened
    if isinstance(opened, AbstractAsyncContextManager):
        async with opened as entered:
            await _emit_each(entered, emit)
    else:
        await _emit_each(opened, emit)


async def _emit_each(iterable: Any, emit: Callable[[E], None]) -> None:
    """Every element; closed at the end are the iterator and then, if that is another one, the iterable."""
    if not isinstance(iterable, AsyncIterable):
        raise TypeError(f"The factory gave {type(iterable).__name__}, which is not an async iterable.")
    iterator: Any = aiter(iterable)
    try:
        async for event in iterator:
            emit(event)
    finally:
        try:
            if hasattr(iterator, "aclose"):
                await iterator.aclose()
        finally:
            # A generator is its own iterator; of a response's body both are to be closed.
            if iterator is not iterable and hasattr(iterable, "aclose"):
                await iterable.aclose()


def to_async_iterable(observable: Observable[E], *, max_buffered: int | None = None) -> Elements[E]:
    """The elements of an Observable, for `async for`.

    Subscribes at the first step and disposes when the iterator is closed or dropped. Rx has no backpressure: what comes
    faster than it is read is held, without a limit unless `max_buffered` says one.

    Args:
        observable: may emit from any thread.
        max_buffered: with more elements than this waiting, the subscription is disposed; the iterator gives what it
            holds and then raises `ConsumerTooSlow`. At least 1.

    Returns:
        An async iterator, to be used once, by one task at a time. `await iterator.aclose()` disposes.

    Raises:
        ValueError: `max_buffered` is less than 1.

    >>> import asyncio
    >>> from contextlib import aclosing
    >>> import reactivex as rx
    >>> async def first():
    ...     async with aclosing(to_async_iterable(rx.of(1, 2, 3))) as numbers:
    ...         async for number in numbers:
    ...             return number  # and the rest is disposed
    >>> asyncio.run(first())
    1
    """
    if max_buffered is not None and max_buffered < 1:
        raise ValueError(f"max_buffered is {max_buffered}; it must be at least 1, or None for no limit.")
    return Elements(observable, max_buffered)


class _Buffer(Generic[E]):
    """What waits between the two worlds. The subscription holds this, not the iterator, so a dropped one is noticed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.elements: deque[E] = deque()
        self.end: BaseException | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.subscription = SingleAssignmentDisposable()
        self._thread = threading.get_ident()

    def on_next(self, element: E) -> None:
        self.elements.append(element)
        if self.waiter is not None:
            self.wake()

    def on_next_within(self, limit: int, element: E) -> None:
        if self.end is not None:
            return
        if len(self.elements) >= limit:
            self.finish(ConsumerTooSlow(f"{limit} events were waiting and one more came: read faster."))
            self.subscription.dispose()
            return
        self.on_next(element)

    def finish(self, end: BaseException) -> None:
        if self.end is None:
            self.end = end
            self.wake()

    def take_end(self) -> BaseException:
        # Given away: an exception and the frame that raises it must not hold each other.
        end, self.end = self.end or StopAsyncIteration(), StopAsyncIteration()
        return end

    def wake(self) -> None:
        # Once: what comes before the reader has run finds nobody waiting.
        waiter, self.waiter = self.waiter, None
        if waiter is None:
            return
        if threading.get_ident() == self._thread:
            _release(waiter)
        else:
            run_on(self.loop, partial(_release, waiter))


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Elements(AsyncIterator[E]):
    """What `to_async_iterable` gives: an async iterator that can be closed."""

    def __init__(self, observable: Observable[E], limit: int | None) -> None:
        self._observable = observable
        self._limit = limit
        self._buffer: _Buffer[E] | None = None
        self._elements: deque[E] | tuple[()] = ()  # the buffer's, while there is one to read
        self._closed = False

    async def __anext__(self) -> E:
        if self._elements:
            return self._elements.popleft()
        return await self._next()

    async def _next(self) -> E:
        if self._closed:
            raise StopAsyncIteration
        buffer = self._buffer or self._subscribed()
        while not buffer.elements:
            if buffer.end is not None:
                raise buffer.take_end()
            if buffer.waiter is not None:
                raise RuntimeError("This iterator is already being read by another task.")
            waiter = buffer.waiter = buffer.loop.create_future()
            try:
                # A thread may have pushed between the look and the future: it saw no waiter to wake.
                if not buffer.elements and buffer.end is None:
                    await waiter
            finally:
                if buffer.waiter is waiter:
                    buffer.waiter = None
        return buffer.elements.popleft()

    def _subscribed(self) -> _Buffer[E]:
        buffer = self._buffer = _Buffer[E](asyncio.get_running_loop())
        self._elements = buffer.elements
        buffer.subscription.disposable = self._observable.subscribe(
            buffer.on_next if self._limit is None else partial(buffer.on_next_within, self._limit),
            buffer.finish,
            lambda: buffer.finish(StopAsyncIteration()),
        )
        return buffer

    async def aclose(self) -> None:
        """Dispose the subscription; what is still held is dropped."""
        self._dispose()

    def _dispose(self) -> None:
        self._closed = True
        self._elements = ()
        if self._buffer is not None:
            self._buffer.elements.clear()
            self._buffer.finish(StopAsyncIteration())
            self._buffer.subscription.dispose()

    def __del__(self) -> None:
        # `async for` with a break closes nothing: the last reference going is all there is to notice.
        self._dispose()
