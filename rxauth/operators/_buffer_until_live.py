from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from reactivex import Observable, abc

from rxauth.errors import NeverLiveError
from rxauth.operators._attempt import Attempt, operator_of
from rxauth.operators._predicates import is_error_event, is_opener

E = TypeVar("E")


def buffer_until_live(
    *,
    is_prelude: Callable[[Any], bool] = is_opener,
    is_error: Callable[[Any], bool] = is_error_event,
    max_held: int = 64,
) -> Callable[[Observable[E]], Observable[E]]:
    """Hold prelude events until the stream is live.

        source   s---a-----b--|     result   ----(sa)--b--|
        source   s---e|             result   ----#          NeverLiveError(held=(s,), failure=e)
        source   s---#              result   ----#          NeverLiveError(held=(s,), failure=the exception)
        source   s---|              result   ----#          NeverLiveError(held=(s,), failure=None)

    From the first live event on each event passes in the call that brings it, error events and later preludes too. A
    stream that ends before it is live emits nothing and fails with a `NeverLiveError`: end the pipe with
    `flush_on_complete_or_error()`. How long it holds is not bounded: put `limit_silence` in front.

    Args:
        is_prelude: whether an event can come before the server has accepted the request.
        is_error: whether an event is a failure.
        max_held: the number of prelude events that are held at most; one more counts as live.

    Returns:
        An operator. If a predicate raises, the stream fails with that exception.

    Raises:
        ValueError: `max_held` is negative.

    >>> import reactivex as rx
    >>> opening = rx.of({"type": "start"}, {"type": "text_delta", "delta": "hi"})
    >>> _ = opening.pipe(buffer_until_live()).subscribe(lambda event: print(event["type"]))
    start
    text_delta
    >>> _ = rx.of({"type": "start"}).pipe(buffer_until_live()).subscribe(print, on_error=print)
    The stream ended before it was live (it completed without an event that counts). End the pipe with ...
    """
    options = HoldingOptions(is_prelude, is_error, max_held)

    return operator_of(lambda observer: Holding(observer, options))


@dataclass(frozen=True, slots=True)
class HoldingOptions(Generic[E]):
    is_prelude: Callable[[E], bool]
    is_error: Callable[[E], bool]
    max_held: int

    def __post_init__(self) -> None:
        if self.max_held < 0:
            raise ValueError(f"max_held is {self.max_held}; it must be 0 or more.")


class Holding(Attempt[E]):
    """Hold the prelude of one subscription until an event is live."""

    def __init__(self, observer: abc.ObserverBase[E], options: HoldingOptions[E]) -> None:
        super().__init__(observer)
        self.options = options
        self.held: list[E] = []

    def judge(self, event: E) -> None:
        options = self.options
        try:
            failed = options.is_error(event)
            prelude = not failed and len(self.held) < options.max_held and options.is_prelude(event)
        except Exception as error:
            self.held = []
            self.leave(partial(self.predicate_raised, error))
            return
        if failed:
            self.leave(partial(self.never_live, event))
        elif prelude:
            self.held.append(event)
        else:
            held, self.held = self.held, []
            self.go_live(event, held)

    def ended(self, error: Exception | None) -> None:
        self.never_live(error)

    def predicate_raised(self, error: Exception) -> None:
        """Handle the exception of a predicate."""
        self.observer.on_error(error)

    def never_live(self, failure: Any) -> None:
        """Handle a failure before live: an error event, an exception, or `None` for a completion."""
        if isinstance(failure, NeverLiveError) and not self.held:
            self.observer.on_error(failure)
        else:
            self.observer.on_error(NeverLiveError(tuple(self.held), failure))
