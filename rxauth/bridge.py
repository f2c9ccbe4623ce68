"""Turn async iterables into Observables, and Observables into async iterables."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxauth.errors import ConsumerTooSlow
from rxauth.waiting import Outcome as Outcome  # an alias: it moved
from rxauth.waiting import as_exception, run_on, running_loop, start_task
from rxauth.waiting import settle as settle

__all__ = ["Elements", "from_async_iterable", "from_producer", "to_async_iterable"]

E = TypeVar("E")

Producer: TypeAlias = Callable[[Callable[[E], None]], Coroutine[Any, Any, None]]

_PER_TURN = 64  # elements of an async iterable between two turns of the loop

_BURST = (
    "More than {} events came in one burst, before the reader could run: "
    "set max_buffered above the largest burst of the source."
)
_BUSY = "{} events were waiting and one more came while the reader was busy: read faster, or raise max_buffered."


class _StopProducing(BaseException):
    """End a producer: `emit` raises it, and no `except Exception` of the producer catches it."""


def from_producer(
    produce: Producer[E],
    *,
    opening: Callable[[], Iterable[E]] | None = None,
) -> Observable[E]:
    """Make a cold Observable of the elements that a coroutine emits.

    For each subscription `produce(emit)` runs as a task on the loop that is running at `subscribe`. Its return
    completes the stream, its exception fails it, dispose (from any thread) cancels it. After dispose `emit` does not
    return. A consumer's exception closes the producer and goes to the loop's exception handler; so does an exception
    that the producer raises after dispose.

    Args:
        produce: the coroutine function; it receives `emit`.
        opening: called at each subscription; the events it returns are emitted inside `subscribe`, before the task
            starts.
    """

    def subscribe(observer: abc.ObserverBase[E], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        loop = running_loop()
        if loop is None:
            observer.on_error(
                RuntimeError("This stream needs asyncio: subscribe to it where an event loop is running.")
            )
            return Disposable()
        for event in opening() if opening is not None else ():
            observer.on_next(event)
        return _Production(produce, observer, loop)

    return Observable(subscribe)


class _Production(abc.DisposableBase, Generic[E]):
    """Run a producer for one subscription. An object with few closures, because thousands may run at once."""

    def __init__(
        self,
        produce: Producer[E],
        observer: abc.ObserverBase[E],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._observer = observer
        self._loop = loop
        self._closed = False  # nothing more is emitted
        self._emitting = False
        self._subscribed = False
        self._task = start_task(loop, self._run(produce), self._done)
        self._subscribed = True

    def dispose(self) -> None:
        self._closed = True
        run_on(self._loop, self._cancel)

    def _cancel(self) -> None:
        if not self._emitting:  # else `emit` raises, and a cancellation would cut the clean-up
            self._task.cancel()

    async def _run(self, produce: Producer[E]) -> None:
        observer = self._observer
        thrown: Exception | None = None

        def emit(event: E) -> None:
            nonlocal thrown
            self._emitting = True
            try:
                observer.on_next(event)
            except Exception as error:
                thrown = error
                self._closed = True
            if self._closed:
                raise _StopProducing
            self._emitting = False

        if not self._subscribed:
            await asyncio.sleep(0)  # an eager task runs inside `subscribe`, where the consumer cannot dispose yet
        try:
            await produce(emit)
        except _StopProducing:
            pass
        except Exception as error:
            self._fail(error)
        else:
            self._end(observer.on_completed)
        if thrown is not None:
            self._report("A consumer of a stream failed", thrown)

    def _done(self, task: asyncio.Task[None]) -> None:
        # Without an end the consumer would wait for ever. RxPY drops the end if the consumer has disposed.
        if task.cancelled():  # perhaps by another task, and before its first step
            self._end(self._observer.on_error, RuntimeError("The task that reads the stream was cancelled."))
        elif (error := task.exception()) is not None:  # a BaseException
            self._fail(as_exception(error))

    def _fail(self, error: Exception) -> None:
        if self._closed:
            self._report("Closing a stream failed after it was disposed", error)
        else:
            self._end(self._observer.on_error, error)

    def _end(self, notify: Callable[..., None], *error: Exception) -> None:
        try:
            notify(*error)
        except Exception as raised:
            self._report("A consumer of a stream failed", raised)

    def _report(self, message: str, error: Exception) -> None:
        # No "task" here: Python 3.12 would enter the task's context for the handler, and it is entered already.
        self._loop.call_exception_handler({"message": message, "exception": error})


def from_async_iterable(
    factory: Callable[
        [], AsyncIterable[E] | Awaitable[AsyncIterable[E]] | AbstractAsyncContextManager[AsyncIterable[E]]
    ],
) -> Observable[E]:
    """Make a cold Observable of an async iterable's elements: an SDK's stream, an async generator.

    `factory` is called for each subscription, on the running loop. When the stream ends, and on dispose, the iterator
    and the iterable are closed, by `aclose` or else `close`. No element is requested after dispose. An exception of the
    factory or the iteration goes on Rx's error channel; one of the closing after dispose goes to the loop's exception
    handler. After 64 elements the loop gets a turn, so an iterable that never waits does not block it.

    With an official SDK, whose own retries are off because they would only send the refused token again:

        client = AsyncAnthropic(auth_token=token, max_retries=0)
        stream = from_async_iterable(lambda: client.messages.create(**request, stream=True))
        stream.pipe(recover_auth(refresh))

        API                 is_prelude                                                   is_error
        Messages            the default                                                  (raised)
        Chat Completions    a chunk without content, tool calls and finish_reason        (raised)
        Responses           the default                                                  type "error", "response.failed"
        openai-agents       the default                                                  (raised)
        LangChain           the default, for `astream_events`                            (raised)
        pydantic-ai         none: `lambda event: False`                                  (raised)

    A new token needs no new client: `client.auth_token` (Anthropic) and `client.api_key` (OpenAI) are read for each
    request, may be coroutine functions (`credentials`, `api_key`), and `extra_headers={"Authorization": ...}` of a
    request overrides them. `tests/recipes` runs every one of these.

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

    return from_producer(lambda emit: _emit_each_opened(factory(), emit))


async def _emit_each_opened(opened: Any, emit: Callable[[E], None]) -> None:
    if inspect.isawaitable(opened) and not isinstance(opened, AbstractAsyncContextManager):
        opened = await opened
    if isinstance(opened, AbstractAsyncContextManager):
        async with opened as entered:
            await _emit_each(entered, emit)
    else:
        await _emit_each(opened, emit)


async def _emit_each(iterable: Any, emit: Callable[[E], None]) -> None:
    if not isinstance(iterable, AsyncIterable):
        raise TypeError(f"The factory returned {type(iterable).__name__}, which is not an async iterable.")
    iterator = aiter(iterable)
    left = _PER_TURN
    # No exit stack: an exception of the closing would keep the stream in a cycle.
    try:
        async for event in iterator:
            emit(event)
            left -= 1
            if not left:
                left = _PER_TURN
                await asyncio.sleep(0)
    finally:
        try:
            await _close(iterator)
        finally:
            if iterator is not iterable:  # a generator is its own iterator; a response's body is not
                await _close(iterable)


async def _close(opened: Any) -> None:
    close = getattr(opened, "aclose", None) or getattr(opened, "close", None)
    if callable(close):
        closing = close()
        if inspect.isawaitable(closing):
            await closing


def to_async_iterable(observable: Observable[E], *, max_buffered: int | None = None) -> Elements[E]:
    """Iterate over the elements of an Observable with `async for`.

    Subscribes at the first step and disposes when the iterator is closed or dropped. Rx has no backpressure: elements
    that come faster than they are read are held, without a limit unless `max_buffered` sets one.

    Args:
        observable: may emit from any thread.
        max_buffered: when more elements than this wait, the subscription is disposed; the iterator yields the waiting
            ones and then raises `ConsumerTooSlow`. It bounds memory at every moment, so it must be larger than the
            largest burst: elements that come within one turn of the event loop wait until the reader has its turn. One
            chunk of a response may hold dozens of events, and `from_async_iterable` emits up to 64 in one turn. At
            least 1.

    Returns:
        An async iterator, to be used once, by one task at a time. `await iterator.aclose()` disposes.

    Raises:
        ValueError: `max_buffered` is less than 1.
        RuntimeError: at the first step, without a running asyncio loop.

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
    """Hold elements until they are read. The subscription refers to this alone, so a dropped iterator is collected."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.elements: deque[E] = deque()
        self.end: BaseException | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.reader_waits = True  # for an element, or for its turn
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
            text = _BURST if self.reader_waits else _BUSY
            self.finish(ConsumerTooSlow(text.format(limit)))
            self.subscription.dispose()
            return
        self.on_next(element)

    def finish(self, end: BaseException) -> None:
        if self.end is None:
            self.end = end
            self.wake()

    def take_end(self) -> BaseException:
        # Not kept: an exception that is kept here would be in a cycle with the frame that raises it.
        end, self.end = self.end or StopAsyncIteration(), StopAsyncIteration()
        return end

    def wake(self) -> None:
        # Once: an element that comes before the reader runs must not wake it a second time.
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
    """The async iterator of `to_async_iterable`; it can be closed."""

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
            buffer.reader_waits = True
            try:
                # A thread may have emitted between the check and the future, when it had no waiter to wake.
                if not buffer.elements and buffer.end is None:
                    await waiter
            finally:
                if buffer.waiter is waiter:
                    buffer.waiter = None
        buffer.reader_waits = False
        return buffer.elements.popleft()

    def _subscribed(self) -> _Buffer[E]:
        loop = running_loop()
        if loop is None:
            raise RuntimeError(
                "to_async_iterable needs a running asyncio loop. In trio, open one with trio_asyncio.open_loop() and "
                "iterate over trio_asyncio.aio_as_trio(elements); with anyio, choose the asyncio backend."
            )
        buffer = self._buffer = _Buffer[E](loop)
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
        # `break` out of an `async for` does not close the iterator, but drops it.
        self._dispose()
