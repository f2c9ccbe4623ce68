"""Run a pipeline and draw the output of each operator."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Generator, Sequence
from concurrent import futures
from typing import Any, TypeAlias

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable
from reactivex.scheduler import VirtualTimeScheduler

from rxauth.marbles._diagram import Diagram
from rxauth.marbles._record import Recorder, Timeline
from rxauth.waiting import running_loop, waiting_scheduler

Operator: TypeAlias = Callable[[Observable[Any]], Observable[Any]]


class Explanation(Diagram):
    """A pipeline that runs, or has run, and can be drawn at any time; `diagram` is the picture as of now.

    Awaited, it waits for the end of the stream and returns the last picture; `wait` does so on another thread than the
    stream's.
    """

    def __init__(self, recorders: Sequence[Recorder], title: str) -> None:
        super().__init__(title=title)
        self._recorders = recorders
        self._end: futures.Future[None] = futures.Future()
        self._subscription = CompositeDisposable()

    @property
    def rows(self) -> tuple[Timeline, ...]:
        """The timelines so far."""
        return tuple(row for recorder in self._recorders for row in recorder.timelines)

    @property
    def diagram(self) -> Diagram:
        """The picture as of now."""
        return Diagram(*self.rows, title=self.title)

    @property
    def ended(self) -> bool:
        """Whether the stream has ended or was disposed."""
        return self._end.done()

    def dispose(self, *_: object) -> None:
        """Unsubscribe from the stream; the picture stays."""
        self._subscription.dispose()
        with contextlib.suppress(futures.InvalidStateError):
            self._end.set_result(None)

    def wait(self, timeout: float | None = None) -> Diagram:
        """Block until the stream has ended, `timeout` seconds at most; not on the stream's own loop."""
        futures.wait([self._end], timeout)
        return self.diagram

    def __await__(self) -> Generator[Any, None, Diagram]:
        yield from asyncio.shield(asyncio.wrap_future(self._end))
        return self.diagram

    def _run(self, stream: Observable[Any], scheduler: abc.SchedulerBase | None, until: float | None) -> None:
        self._subscription.add(stream.subscribe(None, self.dispose, self.dispose, scheduler=scheduler))
        if until is not None:
            clock = waiting_scheduler(scheduler, running_loop())
            self._subscription.add(clock.schedule_relative(until, self.dispose))
        if isinstance(scheduler, VirtualTimeScheduler):
            VirtualTimeScheduler.start(scheduler)  # a TestScheduler's own `start` goes on to tick 1000


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
    names = ["source", *(labels or map(_name_of, operators))]
    stages = [Recorder(name, scheduler=scheduler, on_change=lambda: changed()) for name in names]
    explanation = Explanation([*stages, *beside], title)
    changed = _watcher(explanation, watch) if watch else lambda: None
    stream = source.pipe(stages[0])
    for operator, recorder in zip(operators, stages[1:], strict=True):
        stream = recorder(operator(stream))
    explanation._run(stream, scheduler, until)
    return explanation


def _watcher(explanation: Explanation, watch: Callable[[Diagram], object]) -> Callable[[], object]:
    """Show the picture as it changes, without slowing a loop's stream down to the speed of drawing."""
    loop = running_loop()
    if loop is None:
        return lambda: watch(explanation.diagram)
    woken, pause = False, 0.1  # seconds
    timer: asyncio.TimerHandle | None = None

    def changed() -> None:
        nonlocal woken
        if not woken:  # one wake-up is enough for a burst: the picture shows all of it
            woken = True
            loop.call_soon_threadsafe(later)

    def later() -> None:
        nonlocal woken, timer
        woken = False
        if explanation.ended:
            if timer is not None:
                timer.cancel()
            draw()
        elif timer is None:
            timer = loop.call_later(pause, draw)

    def draw() -> None:
        nonlocal timer, pause
        timer, begun = None, loop.time()
        watch(explanation.diagram)
        pause = max(0.1, 4 * (loop.time() - begun))  # a long stream takes long to draw

    return changed


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
