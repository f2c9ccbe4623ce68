"""Promises that several operators make alike: one table for each."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from typing import Any

import pytest
import reactivex as rx
import tenacity
from reactivex.scheduler import CurrentThreadScheduler
from reactivex.testing import TestScheduler

from rxauth import (
    NeverLiveError,
    buffer_until_live,
    limit_silence,
    recover_auth,
    retry_never_live,
    retry_on_first_auth_error,
    suppress_empty_response,
    switch_if_never_live,
)
from rxauth.testing import marbles

from .marble_table import Row, unavailable

two_ticks = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(2), reraise=True)
many_tries = tenacity.Retrying(stop=tenacity.stop_after_attempt(2000))
busy = NeverLiveError((), unavailable)


def raises(_: Any) -> Any:
    raise OSError("the caller's own")


@pytest.mark.parametrize(
    ("source", "operators", "seen"),
    [
        pytest.param("s-a----|", [buffer_until_live()], "--(sa)-|", id="what is held"),
        pytest.param("s----a|", [limit_silence(first=5)], "s----a|", id="a limit"),
        pytest.param("s-#", [recover_auth(raises, retrying=two_ticks)], "------(s#)", id="tries of a refresh"),
        pytest.param("s-x", [buffer_until_live(), retry_never_live(retrying=two_ticks)], "----------#", id="attempts"),
    ],
)
def test_two_subscribers_share_nothing(source: str, operators: list[Any], seen: str) -> None:
    row = Row(source)
    shared = row.source.pipe(*operators)
    observers = [row.scheduler.create_observer() for _ in range(2)]
    for at, observer in enumerate(observers, 1):
        row.scheduler.schedule_absolute(
            at, lambda *_, observer=observer: shared.subscribe(observer, scheduler=row.scheduler)
        )
    row.scheduler.start()
    assert [marbles.draw(each.messages) for each in observers] == ["-" + seen, "--" + seen]


recovering, retrying_once = partial(recover_auth, raises), partial(retry_on_first_auth_error, raises)


@pytest.mark.parametrize(
    ("source", "operator", "predicates"),
    [
        pytest.param("-s-a|", buffer_until_live, ["is_prelude", "is_error"], id="buffer_until_live"),
        pytest.param("-s-a|", limit_silence, ["is_prelude", "is_error", "is_ping"], id="limit_silence"),
        pytest.param("-s-a|", recovering, ["is_prelude", "is_error"], id="recover_auth"),
        pytest.param("-e-a|", recovering, ["is_auth_error"], id="recover_auth, an error event"),
        pytest.param("-e-a|", retrying_once, ["is_error", "is_auth_error"], id="retry_on_first_auth_error"),
    ],
)
def test_a_predicate_that_raises_fails_the_stream(source: str, operator: Any, predicates: list[str]) -> None:
    def undecided(_: Any) -> bool:
        raise LookupError("cannot say")

    for predicate in predicates:
        row = Row(source)
        assert isinstance(row.ends(operator(**{predicate: undecided})), LookupError), predicate
        assert row.subscriptions() == ["^!"]


@pytest.mark.parametrize(
    "operator",
    [recovering, retrying_once, retry_never_live],
    ids=["recover_auth", "retry_on_first_auth_error", "retry_never_live"],
)
def test_an_async_retrying_is_refused(operator: Any) -> None:
    with pytest.raises(TypeError, match=r"AsyncRetrying; give a tenacity\.Retrying"):
        operator(retrying=tenacity.AsyncRetrying())


def test_each_source_is_given_the_scheduler() -> None:
    """Also one on which nothing can wait. The laws check the other operators."""
    given: list[Any] = []
    scheduler = CurrentThreadScheduler()

    def fail(observer: Any, scheduler: Any) -> Any:
        given.append(scheduler)
        observer.on_error(NeverLiveError((), None))

    source = rx.create(fail)
    for operator in (limit_silence(first=5), suppress_empty_response(), switch_if_never_live(source)):
        source.pipe(operator).subscribe(on_error=lambda _: None, scheduler=scheduler)
    assert given == [scheduler] * 4


@pytest.mark.parametrize(
    "operator",
    [switch_if_never_live(lambda _: rx.of("other")), retry_never_live(retrying=two_ticks)],
    ids=["switch_if_never_live", "retry_never_live"],
)
def test_a_never_live_error_after_an_event_passes(operator: Any) -> None:
    """One branch of a merge has failed; the other was shown."""
    seen: list[Any] = []
    rx.concat(rx.of("shown"), rx.throw(busy)).pipe(operator).subscribe(seen.append, seen.append)
    assert seen == ["shown", busy]


@pytest.mark.parametrize(
    ("failure", "operator"),
    [
        pytest.param(busy, retry_never_live(retrying=two_ticks, on_retry=raises), id="on_retry"),
        pytest.param(marbles.failure, recover_auth(raises, retrying=two_ticks, on_recovery=raises), id="on_recovery"),
    ],
)
def test_a_listener_that_raises_is_logged(failure: Exception, operator: Any, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []
    rx.throw(failure).pipe(operator).subscribe(on_error=seen.append, scheduler=(clock := TestScheduler()))
    clock.start()
    assert seen == [failure]
    assert "A listener failed at" in caplog.text


@pytest.mark.parametrize("failure", [busy, marbles.failure], ids=["attempts", "tries of a refresh"])
def test_many_tries_at_once_do_not_grow_the_stack(failure: Exception) -> None:
    calls: list[Any] = []
    seen: list[Any] = []

    def failing(_: Any) -> Any:
        calls.append(1)
        return rx.throw(failure)

    stream = rx.defer(failing).pipe(retry_never_live(retrying=many_tries))
    if failure is not busy:
        stream = rx.throw(failure).pipe(recover_auth(failing, retrying=many_tries))
    stream.subscribe(on_error=seen.append)
    assert (len(calls), seen) == (2000, [failure])


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("source", "operator", "leave"),
    [
        pytest.param(rx.of("a"), limit_silence(first=900, idle=900), False, id="an end"),
        pytest.param(rx.throw(busy), retry_never_live(retrying=two_ticks), True, id="a dispose"),
    ],
)
async def test_a_timer_keeps_no_consumer_after(source: Any, operator: Any, leave: bool) -> None:
    class Consumer:
        def on_next(self, event: Any) -> None:
            """Take an event."""

    consumer = Consumer()
    subscription = source.pipe(operator).subscribe(consumer.on_next)
    if leave:
        subscription.dispose()
    freed = weakref.ref(consumer)
    del consumer, subscription
    gc.collect()
    assert freed() is None
