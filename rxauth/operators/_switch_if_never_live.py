from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from rxauth.errors import NeverLiveError
from rxauth.operators._attempt import Attempt, operator_of

E = TypeVar("E")


def switch_if_never_live(
    other: Observable[E] | Callable[[NeverLiveError], Observable[E]],
) -> Callable[[Observable[E]], Observable[E]]:
    """Continue with another stream if the source never came alive.

        source   s---#                 NeverLiveError: s was never delivered
        other        s--a--|
        result   -------(sa)--|        other has a buffer of its own

    The events that the source held are dropped. Everything else passes, also a failure after live, and a
    `NeverLiveError` after something was delivered.

    `ops.catch` and `ops.retry` in its place take every exception. With rxauth's own sources, which fail in-band once
    they are live, that makes no difference; with one that raises, as the SDKs do, it starts a second message after the
    first:

        source                         s-a-------#
        buffer, ops.catch(other)       --(sa)------(sb)|     a second start, after half an answer
        buffer, switch_if_never_live   --(sa)----#

    Before it belong `limit_silence` and `retry_never_live`, as the latter shows. In a merge give each branch a flush of
    its own. Put `ops.share()` last: operators after it, with their refresh, run once for each subscriber.

    Args:
        other: the stream, or a function from the `NeverLiveError` to one. If it raises, the stream fails with that
            exception.

    Returns:
        An operator. Failover without a phantom:
        `primary.pipe(buffer_until_live(), switch_if_never_live(backup.pipe(buffer_until_live())),
        flush_on_complete_or_error())`.

    >>> import reactivex as rx
    >>> from rxauth.operators import buffer_until_live
    >>> primary = rx.of({"type": "start", "from": "primary"}, {"type": "error"})
    >>> backup = rx.of({"type": "start", "from": "backup"}, {"type": "text_delta", "delta": "hi"})
    >>> _ = primary.pipe(buffer_until_live(), switch_if_never_live(backup)).subscribe(print)
    {'type': 'start', 'from': 'backup'}
    {'type': 'text_delta', 'delta': 'hi'}
    """
    return operator_of(lambda observer: _First(observer, other))


class _First(Attempt[E]):
    def __init__(
        self, observer: abc.ObserverBase[E], other: Observable[E] | Callable[[NeverLiveError], Observable[E]]
    ) -> None:
        super().__init__(observer)
        self.other = other
        self.second = SingleAssignmentDisposable()

    def connect(self, source: Observable[E], scheduler: abc.SchedulerBase | None) -> None:
        self.scheduler = scheduler
        super().connect(source, scheduler)

    def dispose(self) -> None:
        super().dispose()
        self.second.dispose()

    def ended(self, error: Exception | None) -> None:
        if not isinstance(error, NeverLiveError):
            super().ended(error)
            return
        try:
            following: Any = self.other if isinstance(self.other, Observable) else self.other(error)
        except Exception as raised:
            self.observer.on_error(raised)
            return
        if isinstance(following, Observable):
            self.leave(partial(self._follow, following))
        else:  # reported here, because RxPY's sources lose an exception that `on_error` raises
            self.observer.on_error(TypeError(f"other returned {type(following).__name__}, which is not an Observable."))

    def _follow(self, following: Observable[E]) -> None:
        self.second.disposable = following.subscribe(self.observer, scheduler=self.scheduler)
