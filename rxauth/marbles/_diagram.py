"""Rows of timelines under one another, and the picture of a whole pipeline."""

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

from rxauth.marbles._record import Recorder, Timeline
from rxauth.marbles._svg import draw_svg
from rxauth.marbles._text import draw_text

__all__ = ["Diagram", "Explanation", "explain"]

Operator: TypeAlias = Callable[[Observable[Any]], Observable[Any]]


class _Picture:
    """What has rows can be drawn."""

    @property
    def rows(self) -> tuple[Timeline, ...]:
        """The timelines, from top to bottom."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """The line above them."""
        raise NotImplementedError

    def text(self, width: int = 80, *, color: bool = False, ascii_only: bool = False) -> str:
        """The picture in characters.

        Args:
            width: columns; at least 24.
            color: ANSI colours, for a terminal. Everything is readable without them.
            ascii_only: nothing outside ASCII.
        """
        return draw_text(self.rows, title=self.title, width=width, color=color, ascii_only=ascii_only)

    def svg(self, width: int = 640) -> str:
        """The picture as an SVG document, for light and dark backgrounds.

        Args:
            width: pixels; at least 240. On a page that is narrower it shrinks.
        """
        return draw_svg(self.rows, title=self.title, width=width)

    def _repr_svg_(self) -> str:
        return self.svg()

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__  # as the last line of a cell or at a prompt, the picture is what one wants to see


class Diagram(_Picture):
    """Timelines under one another on one time axis, with a legend. Immutable; the same rows give the same bytes.

    Args:
        rows: the timelines, from top to bottom, timed by one clock and in one unit.
        title: a line above it.

    >>> row = Timeline.of_marks("server", [(0, "POST /v1/messages 401"), (2, "POST /oauth/token 200")], unit="ticks")
    >>> print(Diagram(row))
    server  ●           ●
            │           ╰ POST /oauth/token 200
            ╰ POST /v1/messages 401
    ticks   0     1     2
    """

    def __init__(self, *rows: Timeline, title: str = "") -> None:
        if len({row.unit for row in rows}) > 1:
            raise ValueError("the rows of a diagram share one clock: all ticks, or all seconds")
        self._rows = rows
        self._title = title

    @property
    def rows(self) -> tuple[Timeline, ...]:
        """The timelines, from top to bottom."""
        return self._rows

    @property
    def title(self) -> str:
        """The line above it."""
        return self._title


class Explanation(_Picture):
    """A pipeline that runs, or has run, and can be drawn at any time; `diagram` is the picture as of now, for keeps.

    Awaited, it waits for the end of the stream and gives the last picture; `wait` does so on another thread than the
    stream's.
    """

    def __init__(self, recorders: Sequence[Recorder], title: str) -> None:
        self._recorders = recorders
        self._title = title
        self._ended = threading.Event()
        self._waiting: list[Callable[[], None]] = []
        self._timer = SingleAssignmentDisposable()
        self._subscription: abc.DisposableBase | None = None

    @property
    def rows(self) -> tuple[Timeline, ...]:
        """The timelines so far."""
        return tuple(row for recorder in self._recorders for row in recorder.timelines)

    @property
    def title(self) -> str:
        """The line above it."""
        return self._title

    @property
    def diagram(self) -> Diagram:
        """What has happened so far."""
        return Diagram(*self.rows, title=self._title)

    @property
    def ended(self) -> bool:
        """Whether the stream has ended or was disposed."""
        return self._ended.is_set()

    def dispose(self) -> None:
        """Leave the stream; the picture stays."""
        if self._subscription is not None:
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
        if self._ended.is_set():
            wake()
        yield from ended
        return self.diagram

    def _run(self, stream: Observable[Any], scheduler: abc.SchedulerBase | None, until: float | None) -> None:
        self._subscription = stream.subscribe(None, self._end, self._end, scheduler=scheduler)
        if until is not None and not self.ended:
            self._timer.disposable = _timing(scheduler).schedule_relative(until, lambda *_: self.dispose())
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
    """Run `source.pipe(*operators)` and draw the source and what comes out of each operator on one time axis.

    A stage that is subscribed to twice (a retry) has a row for each attempt.

    With a virtual `scheduler` everything has happened when this returns. Without one the stream is subscribed to here
    and now: inside a running loop, go on with `await explanation`, or draw it while it arrives.

    Args:
        scheduler: passed to `subscribe`; a virtual one (`TestScheduler`) is also started, until nothing is left to do.
        labels: names for the operators' rows, where their own do not say enough.
        beside: recorders of what happens beside the stream; their rows come last.
        until: seconds or ticks after which to leave a stream that does not end by itself.
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
    changed = _Watcher(watch) if watch is not None else None
    on_change = changed.changed if changed is not None else None
    stages = [Recorder(name, scheduler=scheduler, on_change=on_change) for name in names]
    explanation = Explanation([*stages, *beside], title)
    if changed is not None:
        changed.explanation = explanation
    stream = source.pipe(stages[0])
    for operator, recorder in zip(operators, stages[1:], strict=True):
        stream = recorder(operator(stream))
    explanation._run(stream, scheduler, until)
    return explanation


class _Watcher:
    """Shows the picture as it changes, without slowing a loop's stream down to the speed of drawing."""

    _EVERY = 0.1  # seconds
    _SHARE = 4  # times as long as the last drawing took, the loop belongs to others: long streams take long to draw

    def __init__(self, watch: Callable[[Diagram], object]) -> None:
        self.explanation: Explanation | None = None
        self._watch = watch
        self._pending: asyncio.TimerHandle | None = None
        self._pause = self._EVERY
        self._told = False
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    def changed(self) -> None:
        if self._loop is None:
            self._draw()
        elif not self._told:  # one wake-up is enough for a burst: the picture shows all of it
            self._told = True
            self._loop.call_soon_threadsafe(self._later)

    def _later(self) -> None:
        assert self._loop is not None
        self._told = False
        if self.explanation is not None and self.explanation.ended:
            if self._pending is not None:
                self._pending.cancel()
            self._draw()
        elif self._pending is None:
            self._pending = self._loop.call_later(self._pause, self._draw)

    def _draw(self) -> None:
        self._pending = None
        if self.explanation is not None:
            begun = self._loop.time() if self._loop is not None else 0.0
            self._watch(self.explanation.diagram)
            if self._loop is not None:
                self._pause = max(self._EVERY, self._SHARE * (self._loop.time() - begun))


def _timing(scheduler: abc.SchedulerBase | None) -> abc.SchedulerBase:
    if scheduler is not None:
        return scheduler
    try:
        return AsyncIOScheduler(asyncio.get_running_loop())
    except RuntimeError:
        return TimeoutScheduler.singleton()


_INNER_NAMES = {"operator", "op", "apply", "inner", "wrapper", "wrapped", "<lambda>"}


def _name_of(operator: Operator) -> str:
    """The name that stands in the pipe: what made the function, not what the function is called inside it."""
    try:
        outer = inspect.getclosurevars(operator).nonlocals.get("fun", operator)  # RxPY's curried operators
    except TypeError:
        outer = operator
    name = getattr(outer, "__qualname__", type(outer).__name__)
    *makers, own = str(name).split(".<locals>.")
    anonymous = own in _INNER_NAMES or own.startswith("_")
    return (makers[-1] if makers and anonymous else own).rpartition(".")[2].strip("_<>")
