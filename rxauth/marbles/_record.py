"""Record the notifications of a stream and their times, without changing the stream."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable
from reactivex.scheduler import VirtualTimeScheduler

from rxauth.waiting import running_loop

E = TypeVar("E")
Clock: TypeAlias = Callable[[], float]
Kind: TypeAlias = Literal["subscribed", "next", "error", "completed", "disposed", "mark", "note"]
Unit: TypeAlias = Literal["ticks", "s"]

ENDS = ("error", "completed", "disposed")

_log = logging.getLogger("rxauth.marbles")


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a time.

    `kind` is `subscribed`, `next`, `error`, `completed` or `disposed` for a stream, `mark` for something beside the
    stream (a request, for instance), `note` for a remark. `value` is the element, the exception, or the text.
    """

    time: float
    kind: Kind
    value: Any = field(default=None, repr=False)  # an element may be a credential, an exception's text may quote one


@dataclass(frozen=True, slots=True)
class Timeline:
    """One row of a diagram: one subscription of a stream, or labelled marks in time.

    Args:
        label: the text in front of the row.
        marks: in any order; they are sorted by time.
        unit: of the times: virtual `ticks`, or seconds.
        open_until: the time up to which a stream that has not ended was watched.

    >>> requests = Timeline.of_marks("server", [(0.0, "POST /v1/messages 401"), (0.5, "POST /oauth/token 200")])
    >>> [mark.time for mark in requests.marks]
    [0.0, 0.5]
    """

    label: str
    marks: tuple[Mark, ...] = ()
    unit: Unit = "s"
    open_until: float | None = None

    def __post_init__(self) -> None:
        marks = tuple(sorted(self.marks, key=lambda mark: mark.time))
        if not all(math.isfinite(mark.time) for mark in marks):
            raise ValueError("the time of a mark is a finite number")
        object.__setattr__(self, "marks", marks)

    @classmethod
    def of_marks(cls, label: str, marks: Iterable[tuple[float, str]], *, unit: Unit = "s") -> Timeline:
        """Make a row of labelled marks, such as the requests that a server saw. The texts are drawn as they are."""
        return cls(label, tuple(Mark(at, "mark", text) for at, text in marks), unit)

    @property
    def notifications(self) -> tuple[Mark, ...]:
        """The elements and the end, without the other marks."""
        return tuple(mark for mark in self.marks if mark.kind in ("next", "error", "completed"))

    @property
    def values(self) -> tuple[Any, ...]:
        """The elements."""
        return tuple(mark.value for mark in self.marks if mark.kind == "next")

    @property
    def is_open(self) -> bool:
        """Whether this is a stream that has neither ended nor been disposed."""
        kinds = {mark.kind for mark in self.marks}
        return "subscribed" in kinds and kinds.isdisjoint(ENDS)

    def with_note(self, text: str, *, at: float) -> Timeline:
        """Return the same row with a remark that hangs from the mark at this time."""
        return replace(self, marks=(*self.marks, Mark(at, "note", text)))

    def labelled(self, label: str) -> Timeline:
        """Return the same row under another label."""
        return replace(self, label=label)


class Recorder:
    """Record a stream as an Rx operator that changes nothing: `source.pipe(recorder)`.

        source     s---a--b--|
        result     s---a--b--|      the same elements, in the same calls; recorder.timelines has them with their times

    Each subscription becomes a `Timeline` of its own. `mark` records an event beside the stream on the same clock; it
    can be given as `on_recovery`.

    Args:
        label: the row's label; a second subscription makes it "label, attempt 1" and "label, attempt 2".
        clock: seconds, or ticks with `unit="ticks"`. Without one: the `scheduler` given here or to `subscribe`, if it
            is a virtual one; else the running loop's clock; else the monotonic one. All rows of a diagram share one.
        on_change: called after each notification was passed on; an exception from it is logged, the stream goes on.

    >>> import reactivex as rx
    >>> recorder = Recorder("letters")
    >>> rx.of("a", "b").pipe(recorder).run()
    'b'
    >>> [(mark.kind, mark.value) for mark in recorder.timelines[0].notifications]
    [('next', 'a'), ('next', 'b'), ('completed', None)]
    """

    def __init__(
        self,
        label: str,
        *,
        scheduler: abc.SchedulerBase | None = None,
        clock: Clock | None = None,
        unit: Unit = "s",
        on_change: Callable[[], object] | None = None,
    ) -> None:
        self._label = label
        self._clock = clock
        self._unit: Unit = unit
        self._on_change = on_change
        self._attempts: list[list[Mark]] = []
        self._marks: list[Mark] = []
        if scheduler is not None:
            self._now(scheduler)

    def __call__(self, source: Observable[E]) -> Observable[E]:
        """Return the same stream, recorded."""

        def subscribe(observer: abc.ObserverBase[E], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            marks = [Mark(self._now(scheduler), "subscribed")]
            self._attempts.append(marks)

            def record(kind: Kind, pass_on: Callable[..., None], *value: Any) -> None:
                marks.append(Mark(self._now(), kind, *value))
                pass_on(*value)
                self._changed()

            subscription = source.subscribe(
                partial(record, "next", observer.on_next),
                partial(record, "error", observer.on_error),
                partial(record, "completed", observer.on_completed),
                scheduler=scheduler,
            )

            def dispose() -> None:
                if not any(mark.kind in ENDS for mark in marks):  # RxPY also disposes a stream that has ended by itself
                    marks.append(Mark(self._now(), "disposed"))
                    self._changed()
                subscription.dispose()

            return Disposable(dispose)

        return Observable(subscribe)

    def mark(self, what: object) -> None:
        """Record that something happened now: a text, or an object, of which only type and status are drawn."""
        self._marks.append(Mark(self._now(), "mark", what))
        self._changed()

    @property
    def timelines(self) -> tuple[Timeline, ...]:
        """The record so far: one timeline per subscription, then one for the marks, if there are any."""
        rows = []
        for number, marks in enumerate([tuple(marks) for marks in self._attempts], 1):
            label = f"{self._label}, attempt {number}" if len(self._attempts) > 1 else self._label
            row = Timeline(label, marks, self._unit)
            # A virtual clock also runs on to timers that were cancelled: no sign of how long the stream was watched.
            rows.append(replace(row, open_until=self._now()) if row.is_open and self._unit == "s" else row)
        if self._marks:
            rows.append(Timeline(self._label, tuple(self._marks), self._unit))
        return tuple(rows)

    def _now(self, scheduler: abc.SchedulerBase | None = None) -> float:
        if self._clock is None:
            loop = running_loop()
            self._clock = loop.time if loop is not None else time.monotonic  # RxPY's thread schedulers: the wall clock
            if isinstance(scheduler, VirtualTimeScheduler):
                self._clock = lambda: scheduler.to_seconds(scheduler.now)
                self._unit = "s" if isinstance(scheduler.clock, datetime) else "ticks"
        return self._clock()

    def _changed(self) -> None:
        if self._on_change is None:
            return
        try:
            self._on_change()
        except Exception as error:
            _log.warning("on_change raised %s; the stream goes on", type(error).__name__)
