"""Run a pipeline and draw the output of each operator."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable
from reactivex.scheduler import TimeoutScheduler, VirtualTimeScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler

from rxauth.marbles._diagram import Diagram, Picture
from rxauth.marbles._record import Recorder, Timeline

__all__ = ["Explanation", "Operator", "explain"]

Operator: TypeAlias = Callable[[Observable[Any]], Observable[Any]]


class Explanation(Picture):
    """A pipeline that runs, or has run, and can be drawn at any time; `diagram` is the picture as of now.

    Awaited, it waits for the end of the stream and returns the last picture; `wait` does so on another thread than the
    stream's.
    """

    def __init__(self, recorders: Sequence[Recorder], title: str) -> None:
        self._recorders = recorders
        self._title = title
        self._ended = threading.Event()
        self._waiting: list[Callable[[], None]] = []
        self._timer = SingleAssignmentDisposable()
        self._subscription = SingleAssignmentDisposable()

    @property
    def rows(self) -> tuple[Timeline, ...]:
        """The timelines so far."""
        return tuple(row for recorder in self._recorders for row in recorder.timelines)

    @property
    def title(self) -> str:
        """The line above the rows."""
        return self._title

    @property
    def diagram(self) -> Diagram:
        """The picture as of now."""
        return Diagram(*self.rows, title=self._title)

    @property
    def ended(self) -> bool:
        """Whether the stream has ended or was disposed."""
        return self._ended.is_set()

    def dispose(self) -> None:
        """Unsubscribe from the stream; the picture stays."""
        self._subscription.dispose()
        self._end()

    def wait(self, timeout: float | None = None) -> Diagram:
        """Block until the stream has ended, `timeout` seconds at most; not on the stream's own loop."""
        self._ended.wait(timeout)
        return self.diagram

    def __await__(self) -> Generator[Any, None, Diagram]:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            loop.call_soon_threadsafe(lambda: None if ended.done() else ended.set_result(None))

        self._waiting.append(wake)
        if self.ended:
            wake()
        yield from ended
        return self.diagram

    def _run(self, stream: Observable[Any], scheduler: abc.SchedulerBase | None, until: float | None) -> None:
        self._subscription.disposable = stream.subscribe(None, self._end, self._end, scheduler=scheduler)
        if until is not None and not self.ended:
            self._timer.disposable = _clock(scheduler).schedule_relative(until, lambda *_: self.dispose())
        if isinstance(scheduler, VirtualTimeScheduler):
            VirtualTimeScheduler.start(scheduler)  # a TestScheduler's own `start` goes on to tick 1000

    def _end(self, _: object = None) -> None:
        self._ended.set()
        self._timer.dispose()
        while self._waiting:
            self._waiting.pop()()


def explain(
    source: Observable[Any],
    *operators: Operator,
    scheduler: abc.SchedulerBase | None = None,
    labels: Sequence[str] = (),
    beside: Sequence[Recorder] = (),
    until: float | None = None,
    watch: Callable[[Diagram], object] | None = None,
    title: str = "",
) -> Explanation:
    """Run `source.pipe(*operators)` and draw the source and the output of each operator on one time axis.

    A stage that is subscribed to twice (a retry) has a row for each attempt.

    With a virtual `scheduler` the stream has run when this returns. Without one it is subscribed to here and now:
    inside a running loop, go on with `await explanation`, or draw it while it arrives.

    Args:
        scheduler: passed to `subscribe`; a virtual one (`TestScheduler`) is also started, until it has nothing to do.
        labels: names for the operators' rows, where their own are not clear enough.
        beside: recorders of events beside the stream; their rows come last.
        until: seconds or ticks after which to dispose a stream that does not end by itself.
        watch: called with the picture as it changes: at each change without a running loop, else at most ten times a
            second, and at the end. In a notebook: `display(display_id=True).update`.
        title: a line above the picture.

    >>> from reactivex import operators as ops
    >>> from reactivex.testing import ReactiveTest, TestScheduler
    >>> scheduler = TestScheduler()
    >>> letters = scheduler.create_cold_observable(
    ...     ReactiveTest.on_next(1, "a"), ReactiveTest.on_next(3, "b"), ReactiveTest.on_completed(4)
    ... )
    >>> explain(letters, ops.map(str.upper), ops.delay(1), scheduler=scheduler)  # doctest: -NORMALIZE_WHITESPACE
    source  ──────a───────────b─────|
    map     ──────A───────────B─────|
    delay   ────────────A───────────B─────|
    ticks   0     1     2     3     4     5
    <BLANKLINE>
    | completed
    """
    if labels and len(labels) != len(operators):
        raise ValueError(f"{len(operators)} operators need {len(operators)} labels, not {len(labels)}")
    watcher = _Watcher(watch) if watch is not None else None
    on_change = watcher.changed if watcher is not None else None
    names = ["source", *(labels or map(_name_of, operators))]
    stages = [Recorder(name, scheduler=scheduler, on_change=on_change) for name in names]
    explanation = Explanation([*stages, *beside], title)
    if watcher is not None:
        watcher.explanation = explanation
    stream = source.pipe(stages[0])
    for operator, recorder in zip(operators, stages[1:], strict=True):
        stream = recorder(operator(stream))
    explanation._run(stream, scheduler, until)
    return explanation


class _Watcher:
    """Show the picture as it changes, without slowing a loop's stream down to the speed of drawing."""

    explanation: Explanation

    def __init__(self, watch: Callable[[Diagram], object]) -> None:
        self._watch = watch
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._pause = 0.1  # seconds
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    def changed(self) -> None:
        if self._loop is None:
            self._watch(self.explanation.diagram)
        elif not self._scheduled:  # one wake-up is enough for a burst: the picture shows all of it
            self._scheduled = True
            self._loop.call_soon_threadsafe(self._later, self._loop)

    def _later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled = False
        if self.explanation.ended:
            if self._timer is not None:
                self._timer.cancel()
            self._draw(loop)
        elif self._timer is None:
            self._timer = loop.call_later(self._pause, self._draw, loop)

    def _draw(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        begun = loop.time()
        self._watch(self.explanation.diagram)
        self._pause = max(0.1, 4 * (loop.time() - begun))  # a long stream takes long to draw


def _clock(scheduler: abc.SchedulerBase | None) -> abc.SchedulerBase:
    if scheduler is not None:
        return scheduler
    try:
        return AsyncIOScheduler(asyncio.get_running_loop())
    except RuntimeError:
        return TimeoutScheduler.singleton()


_INNER_NAMES = {"operator", "op", "apply", "inner", "wrapper", "wrapped", "<lambda>"}


def _name_of(operator: Operator) -> str:
    """Return the name in the pipe: of the function that made the operator, not of a function inside it."""
    try:
        outer = inspect.getclosurevars(operator).nonlocals.get("fun", operator)  # RxPY's curried operators
    except TypeError:
        outer = operator
    name = getattr(outer, "__qualname__", type(outer).__name__)
    *makers, own = str(name).split(".<locals>.")
    inner = own in _INNER_NAMES or own.startswith("_")
    return (makers[-1] if makers and inner else own).rpartition(".")[2].strip("_<>")
