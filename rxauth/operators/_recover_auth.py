from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from reactivex import Observable, abc

from rxauth import failures
from rxauth.errors import NeverLiveError
from rxauth.failures import Judge
from rxauth.operators._attempt import operator_of, unwrapped
from rxauth.operators._buffer_until_live import Holding, HoldingOptions
from rxauth.operators._flush_on_complete_or_error import Flush
from rxauth.operators._predicates import is_error_event, is_opener
from rxauth.operators._recovery import FirstAttempt, OnRecovery, Policy, Refresh

if TYPE_CHECKING:
    from rxauth.backoff import Retrying

E = TypeVar("E")


def recover_auth(
    refresh: Refresh,
    *,
    is_prelude: Callable[[Any], bool] = is_opener,
    is_error: Callable[[Any], bool] = is_error_event,
    max_held: int = 64,
    is_auth_error: Judge = failures.is_auth_error,
    retrying: Retrying | None = None,
    timeout: float | None = 60.0,
    on_recovery: OnRecovery | None = None,
    discard_on_error: bool = False,
    error_event: Callable[[Exception], Any] | None = None,
) -> Callable[[Observable[E]], Observable[E]]:
    """Hold the prelude; on an auth failure before live, refresh the credential and subscribe once more.

        the same as   .pipe(buffer_until_live(), retry_on_first_auth_error(refresh), flush_on_complete_or_error())

        source    s-e                     e is an auth failure; the consumer has seen nothing yet
        refresh     --r|
        source        s-a----b--|
        result    ------(sa)-b--|         one start

    After live it costs one call per event; the three operators cost one each.

    Args:
        refresh: a function or coroutine function of the failure; a truthy result means that there is a new credential.
            More of it, and `is_auth_error`, `retrying`, `timeout`, `on_recovery`: see `retry_on_first_auth_error`.
        is_prelude, is_error, max_held: see `buffer_until_live`; the others: see `flush_on_complete_or_error`.

    Returns:
        An operator.

    Raises:
        TypeError: `refresh` is not callable, or `retrying` is not a `tenacity.Retrying`.
        ValueError: `max_held` is negative, `timeout` not positive.

    >>> import reactivex as rx
    >>> answers = iter([
    ...     rx.of({"type": "start"}, {"type": "error", "status": 401}),
    ...     rx.of({"type": "start"}, {"type": "text_delta", "delta": "hi"}),
    ... ])
    >>> _ = rx.defer(lambda _: next(answers)).pipe(recover_auth(lambda failure: "a new token")).subscribe(print)
    {'type': 'start'}
    {'type': 'text_delta', 'delta': 'hi'}
    """
    policy = Policy(
        refresh=refresh, is_auth_error=is_auth_error, retrying=retrying, timeout=timeout, on_recovery=on_recovery
    )
    holding = HoldingOptions(is_prelude, is_error, max_held)
    flush = Flush(discard_on_error, error_event)
    return operator_of(lambda observer: _Recovering(observer, holding, flush, policy=policy, is_error=is_error))


class _HoldAndFlush(Holding[E]):
    """Hold the prelude, and flush it at the end: a buffer and a flush in one."""

    def __init__(self, observer: abc.ObserverBase[E], holding: HoldingOptions[E], flush: Flush[E]) -> None:
        super().__init__(observer, holding)
        self.flush = flush

    def predicate_raised(self, error: Exception) -> None:
        self.give_up(error)

    def never_live(self, failure: Any) -> None:
        if isinstance(failure, NeverLiveError):
            self.held += failure.held
        self.give_up(unwrapped(failure))

    def give_up(self, failure: Any) -> None:
        self.flush.flush(self.observer, self.held, failure)

    def failed(self, error: Exception) -> None:
        self.flush.finish(self.observer, unwrapped(error))


class _Recovering(FirstAttempt[E], _HoldAndFlush[E]):
    def second(self) -> _HoldAndFlush[E]:
        return _HoldAndFlush(self.observer, self.options, self.flush)

    def give_up(self, failure: Any) -> None:
        give_up = super().give_up
        try:
            rejected = failure is not None and self.policy.rejects(failure)
        except Exception as raised:
            self.held = []
            give_up(raised)
            return
        if rejected:
            self.recover(failure, partial(give_up, failure))
        else:
            give_up(failure)
