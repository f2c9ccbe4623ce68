from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SerialDisposable, SingleAssignmentDisposable

from rxauth import failures, waiting
from rxauth.errors import NeverLiveError
from rxauth.failures import Judge
from rxauth.operators._buffer_until_live import checked_max_held, ignore
from rxauth.operators._predicates import is_error_event, is_start
from rxauth.operators._recovery import OnRecovery, Policy, Recovery, Refresh, unwrapped

if TYPE_CHECKING:
    import tenacity

E = TypeVar("E")


def recover_auth(
    refresh: Refresh,
    *,
    is_prelude: Callable[[E], bool] = is_start,
    is_error: Callable[[E], bool] = is_error_event,
    max_held: int = 64,
    is_auth_error: Judge = failures.is_auth_error,
    retrying: tenacity.Retrying | None = None,
    timeout: float | None = 60.0,
    on_recovery: OnRecovery | None = None,
    discard_on_error: bool = False,
    error_event: Callable[[Exception], E] | None = None,
) -> Callable[[Observable[E]], Observable[E]]:
    """The three operators in one hop: the same notifications at the same times for every source.

        buffer_until_live() | retry_on_first_auth_error(refresh) | flush_on_complete_or_error()

        source    s-e                     e is an auth failure; the consumer has seen nothing yet
        refresh     --r|
        source        s-a----b--|
        result    ------(sa)-b--|         one s

    Once the stream is live it costs one call an event.

    Args:
        refresh: see `retry_on_first_auth_error`; so are `is_auth_error`, `retrying`, `timeout` and `on_recovery`.
        is_prelude: see `buffer_until_live`; so are `is_error` and `max_held`.
        discard_on_error: see `flush_on_complete_or_error`; so is `error_event`.

    Returns:
        An operator.

    Raises:
        TypeError: `refresh` or `retrying` is not what it should be.
        ValueError: `max_held` is negative, `timeout` not positive.

    >>> import reactivex as rx
    >>> tokens = ["stale"]
    >>> def answer(scheduler):
    ...     if tokens[-1] == "stale":
    ...         return rx.of({"type": "start"}, {"type": "error", "status": 401})
    ...     return rx.of({"type": "start"}, {"type": "text_delta", "delta": "hi"}, {"type": "done"})
    >>> def refresh(failure):
    ...     tokens.append("fresh")
    ...     return tokens[-1]
    >>> _ = rx.defer(answer).pipe(recover_auth(refresh)).subscribe(lambda event: print(event["type"]))
    start
    text_delta
    done
    """
    checked_max_held(max_held)
    options = _Options(
        policy=Policy(
            refresh=refresh,
            is_auth_error=is_auth_error,
            retrying=retrying,
            timeout=timeout,
            on_recovery=on_recovery,
        ),
        is_prelude=is_prelude,
        is_error=is_error,
        max_held=max_held,
        discard_on_error=discard_on_error,
        error_event=error_event,
    )

    def operator(source: Observable[E]) -> Observable[E]:
        def subscribe(observer: abc.ObserverBase[E], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            stream = _Stream(source, options, observer, scheduler)
            stream.connect(final=False)
            return stream

        return Observable(subscribe)

    return operator


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options(Generic[E]):
    policy: Policy
    is_prelude: Callable[[E], bool]
    is_error: Callable[[E], bool]
    max_held: int
    discard_on_error: bool
    error_event: Callable[[Exception], E] | None


# The state is in objects, not in closures as elsewhere: a program may hold thousands of streams that wait, and a dozen
# functions with their cells for each of them would take more memory than everything else together.


class _Stream(SerialDisposable, Generic[E]):
    """One subscription of a consumer: an attempt, and perhaps a recovery and a second attempt."""

    def __init__(
        self,
        source: Observable[E],
        options: _Options[E],
        observer: abc.ObserverBase[E],
        scheduler: abc.SchedulerBase | None,
    ) -> None:
        super().__init__()
        self.source = source
        self.options = options
        self.observer = observer
        self.scheduler = scheduler
        self.loop = waiting.running_loop()

    def connect(self, *, final: bool) -> None:
        attempt = _Attempt(self, final=final)
        self.disposable = attempt

        step: Callable[[E], None] = attempt.opening

        def become(behaviour: Callable[[E], None]) -> None:
            nonlocal step
            step = behaviour

        attempt.become = become

        # What runs on every event is a function with its own `step`: it costs less than a method that looks it up.
        def on_next(event: E) -> None:
            try:
                return step(event)  # to return costs less than not to
            except Exception as error:
                # It can come back on the error channel, where it must not be taken for the stream's failure.
                attempt.thrown = error
                raise

        try:
            attempt.disposable = self.source.subscribe(
                on_next, attempt.on_error, attempt.on_completed, scheduler=self.scheduler
            )
        except Exception as error:
            if not attempt.over or error is attempt.thrown:
                raise
            # What attempt 1 raises behind its end must not end attempt 2.

    def connect_again(self) -> None:
        self.connect(final=True)

    def recover(self, failure: object, give_up: Callable[[Any], object]) -> None:
        recovery = Recovery(
            self.options.policy,
            failure,
            scheduler=self.scheduler,
            loop=self.loop,
            resume=self.connect_again,
            give_up=give_up,
        )
        self.disposable = recovery
        recovery.start()

    def fail(self, error: Any) -> None:
        if self.options.error_event is None:
            self.observer.on_error(error)
            return
        try:
            last = self.options.error_event(error)
        except Exception as raised:
            self.observer.on_error(raised)
            return
        self.observer.on_next(last)
        self.observer.on_completed()


class _Attempt(SingleAssignmentDisposable, Generic[E]):
    """One subscription to the source. Its state is its own: a synchronous source goes on after it was disposed."""

    # Rarely anything else, and then set on the instance.
    end: Callable[[], object] | None = None  # a terminal that came while the flush was under way
    thrown: Exception | None = None  # by the consumer

    def __init__(self, stream: _Stream[E], *, final: bool) -> None:
        super().__init__()
        self.stream = stream
        self.final = final
        self.held: list[E] = []
        self.live = False
        self.over = False
        self.flushing = False
        self.become: Callable[[Callable[[E], None]], None]  # how to take the next event

    def opening(self, event: E) -> None:
        options = self.stream.options
        try:
            failed = options.is_error(event)
            prelude = not failed and len(self.held) < options.max_held and options.is_prelude(event)
        except Exception as error:
            self.held.clear()
            self.abandon()
            self.judge(error)
            return
        if failed:
            self.abandon()
            self.judge(event)
        elif prelude:
            if self.held:
                self.held.append(event)
            else:
                self.held = [event]  # no list that has grown: it would have room for three more, in every stream
        else:
            self.go_live(event)

    def abandon(self) -> None:
        self.over = True
        self.become_for_good(ignore)
        self.dispose()

    def become_for_good(self, behaviour: Callable[[E], None]) -> None:
        self.become(behaviour)
        self.become = ignore  # a function for each stream, which nobody needs any more

    def go_live(self, event: E) -> None:
        # Live before the flush: what the consumer throws out of it is not the source's failure.
        self.live = True
        on_next = self.stream.observer.on_next
        if not self.held:
            self.become_for_good(on_next)
            on_next(event)
            return
        queue = deque(self.held)
        queue.append(event)
        self.held.clear()
        self.become(queue.append)  # what the consumer causes to be emitted waits its turn
        self.flushing = True
        try:
            while queue:
                on_next(queue.popleft())
        finally:
            self.become_for_good(on_next)
            self.flushing = False
            if self.end is not None:
                self.end()

    def on_error(self, error: Exception) -> None:
        if self.over:
            if error is self.thrown:
                raise error
            return
        if self.flushing:
            self.end = lambda: self.finish(unwrapped(error))
        elif error is self.thrown:
            self.stream.observer.on_error(error)
        elif self.live:
            self.finish(unwrapped(error))
        else:
            if isinstance(error, NeverLiveError):
                self.held += error.held
            self.judge(unwrapped(error))

    def on_completed(self) -> None:
        if self.over:
            return
        if self.flushing:
            self.end = self.stream.observer.on_completed
        elif self.live:
            self.stream.observer.on_completed()
        else:
            self.judge(None)

    def judge(self, failure: Any) -> None:
        """The attempt ended before it was live, with an event, an exception, or `None`."""
        try:
            rejected = not self.final and failure is not None and self.stream.options.policy.rejects(failure)
        except Exception as raised:
            self.held.clear()
            self.finish(raised)
            return
        if rejected:
            self.abandon()
            try:
                self.stream.recover(failure, self.finish)
            except Exception as raised:
                self.thrown = raised
                raise
        else:
            self.finish(failure)

    def finish(self, failure: Any) -> None:
        observer = self.stream.observer
        if not self.live and not (self.stream.options.discard_on_error and failure is not None):
            for event in self.held:
                observer.on_next(event)
        if failure is None:
            observer.on_completed()
        elif isinstance(failure, BaseException):  # RxPY sends a CancelledError on the error channel
            self.stream.fail(failure)
        else:
            observer.on_next(failure)
            observer.on_completed()
