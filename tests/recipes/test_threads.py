"""Several subscriptions and threads: what holds and what does not. See also the docstring of `rxauth.operators`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.scheduler import EventLoopScheduler, NewThreadScheduler, ThreadPoolScheduler
from reactivex.scheduler.eventloop import AsyncIOThreadSafeScheduler
from reactivex.subject import Subject
from reactivex.testing import TestScheduler

from rxauth import (
    CredentialRejected,
    MemoryStore,
    OAuthCredentials,
    anthropic_messages,
    recover_auth,
    to_async_iterable,
)
from rxauth.events import AssistantMessage, Done, Error
from rxauth.testing import FakeProvider, marbles

from .dead_token import ANSWER, REQUEST, everything

rejected = CredentialRejected("401: the token is dead", status=401)


class Seen:
    """An observer that knows on which thread it was called, and can be waited for."""

    def __init__(self) -> None:
        self.types: list[str] = []
        self.threads: set[str] = set()
        self.error: Exception | None = None
        self._ended = threading.Event()

    def on_next(self, event: Any) -> None:
        self.threads.add(threading.current_thread().name)
        self.types.append(event.type)

    def on_error(self, error: Exception) -> None:
        self.error = error
        self._ended.set()

    def on_completed(self) -> None:
        self._ended.set()

    def of(self, stream: Observable[Any]) -> Seen:
        stream.subscribe(self.on_next, self.on_error, self.on_completed)
        return self

    def to_the_end(self) -> Seen:
        assert self._ended.wait(30)
        return self

    async def on_a_loop(self) -> Seen:
        return await asyncio.to_thread(self.to_the_end)


def attempts(*diagrams: str) -> Observable[Any]:
    """A cold source that emits inside `subscribe`: `e` is an auth failure, `#` throws one."""
    left = iter(diagrams)

    def attempt(_: abc.SchedulerBase) -> Observable[Any]:
        diagram = next(left)
        # A failure of its own each time: a refresh that fails becomes the cause of the one that goes on.
        refused = CredentialRejected("401: the token is dead", status=401)
        error = Error("error", AssistantMessage(), refused)
        events = rx.from_iterable(error if each == "e" else marbles.event(each) for each in diagram.removesuffix("#"))
        return rx.concat(events, rx.throw(refused)) if diagram.endswith("#") else events

    return rx.defer(attempt)


def on_a_thread(*diagrams: str) -> Observable[Any]:
    """The same, each attempt on a thread of its own."""
    source = attempts(*diagrams)

    def subscribe(observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        threading.Thread(target=lambda: source.subscribe(observer), name="the source's").start()
        return Disposable()

    return Observable(subscribe)


@contextmanager
def a_thread() -> Iterator[EventLoopScheduler]:
    scheduler = EventLoopScheduler()
    try:
        yield scheduler
    finally:
        scheduler.dispose()


def true(failure: Any) -> bool:
    return True


RECOVERED = ["start", "text_delta", "text_delta"]


class TestAHotSource:
    """A second subscription does not start it again."""

    def test_that_has_failed_only_repeats_its_failure(self) -> None:
        subject: Subject[Any] = Subject()
        refreshed: list[Any] = []

        def refresh(failure: Any) -> bool:
            refreshed.append(failure)
            return True

        seen = Seen().of(subject.pipe(recover_auth(refresh)))
        subject.on_next(marbles.event("s"))
        subject.on_error(rejected)
        assert (seen.types, seen.error, refreshed) == ([], rejected, [rejected])

    def test_emits_unheard_during_the_refresh(self) -> None:
        scheduler = TestScheduler()
        hot = marbles.hot(scheduler, "s-e-s-a---b|")
        refresh = marbles.cold(scheduler, "---r|", {"r": "fresh"})
        assert marbles.draw(marbles.observe(scheduler, hot.pipe(recover_auth(lambda _: refresh)))) == "------a---b|"

    def test_that_is_deferred_is_cold(self) -> None:
        subjects: list[Subject[Any]] = []

        def connect(_: abc.SchedulerBase) -> Observable[Any]:
            subjects.append(Subject())
            return subjects[-1]

        seen = Seen().of(rx.defer(connect).pipe(recover_auth(true)))
        subjects[0].on_error(rejected)
        for letter in "sab":
            subjects[1].on_next(marbles.event(letter))
        subjects[1].on_completed()
        assert seen.to_the_end().types == RECOVERED


@pytest.mark.parametrize("refused", ["se", "s#"], ids=["in-band", "raised"])
class TestASourceOnAnotherThread:
    """The events come on the thread that the source emits them on."""

    def test_may_emit_there(self, refused: str) -> None:
        seen = Seen().of(on_a_thread(refused, "sab").pipe(recover_auth(true))).to_the_end()
        assert (seen.types, seen.error, seen.threads) == (RECOVERED, None, {"the source's"})

    @pytest.mark.parametrize("threads", [NewThreadScheduler, lambda: ThreadPoolScheduler(2)], ids=["new", "pool"])
    @pytest.mark.parametrize("where", ["before", "after"])
    def test_may_be_subscribed_to_there(self, refused: str, threads: Callable[[], Any], where: str) -> None:
        steps: list[Any] = [recover_auth(true), ops.subscribe_on(threads())]
        seen = Seen().of(attempts(refused, "sab").pipe(*(steps if where == "after" else reversed(steps))))
        assert (seen.to_the_end().types, seen.error) == (RECOVERED, None)
        assert threading.current_thread().name not in seen.threads

    @pytest.mark.parametrize("where", ["before", "after"])
    def test_may_be_observed_there_in_order(self, refused: str, where: str) -> None:
        with a_thread() as there:
            steps: list[Any] = [recover_auth(true), ops.observe_on(there)]
            seen = Seen().of(attempts(refused, "sab").pipe(*(steps if where == "after" else reversed(steps))))
            assert (seen.to_the_end().types, seen.error) == (RECOVERED, None)
            assert len(seen.threads) == 1

    async def test_is_refreshed_by_a_coroutine_on_the_loop(self, refused: str) -> None:
        here = threading.current_thread().name
        refreshed_on: list[str] = []

        async def refresh(failure: Any) -> bool:
            refreshed_on.append(threading.current_thread().name)
            return True

        subscribed_on: list[str] = []

        def attempt(_: abc.SchedulerBase) -> Observable[Any]:
            subscribed_on.append(threading.current_thread().name)
            return source

        source = on_a_thread(refused, "sab")
        seen = Seen().of(rx.defer(attempt).pipe(recover_auth(refresh)))
        assert (await seen.on_a_loop()).types == RECOVERED
        assert (refreshed_on, subscribed_on) == ([here], [here, here])

    async def test_starts_again_on_the_loop_after_a_plain_refresh(self, refused: str) -> None:
        refreshed_on: list[str] = []
        subscribed_on: list[str] = []

        def refresh(failure: Any) -> bool:
            refreshed_on.append(threading.current_thread().name)
            return True

        def attempt(_: abc.SchedulerBase) -> Observable[Any]:
            subscribed_on.append(threading.current_thread().name)
            return source

        source = on_a_thread(refused, "sab")
        seen = Seen().of(rx.defer(attempt).pipe(recover_auth(refresh)))
        assert (await seen.on_a_loop()).types == RECOVERED
        assert (refreshed_on, subscribed_on) == (["the source's"], [threading.current_thread().name] * 2)

    async def test_moved_alone_lets_a_coroutine_find_the_loop(self, refused: str) -> None:
        async def refresh(failure: Any) -> bool:
            return True

        stream: Observable[Any] = attempts(refused, "sab").pipe(
            ops.subscribe_on(NewThreadScheduler()), recover_auth(refresh)
        )
        assert (await Seen().of(stream).on_a_loop()).types == RECOVERED

    async def test_moved_with_the_operator_has_no_loop(self, refused: str) -> None:
        async def refresh(failure: Any) -> bool:
            return True

        failed: list[Any] = []

        def to_event(error: Exception) -> Any:
            failed.append(error)
            return marbles.event("e")

        stream = attempts(refused, "sab").pipe(
            recover_auth(refresh, error_event=to_event),
            ops.do_action(lambda event: failed.append(getattr(event, "cause", None))),
            ops.subscribe_on(NewThreadScheduler()),
        )
        assert (await Seen().of(stream).on_a_loop()).types == ["start", "error"]
        assert any("needs an event loop" in str(each.__cause__) for each in failed if each is not None)

    async def test_may_come_back_to_the_loop(self, refused: str) -> None:
        here = AsyncIOThreadSafeScheduler(asyncio.get_running_loop())
        seen = Seen().of(on_a_thread(refused, "sab").pipe(recover_auth(true), ops.observe_on(here)))
        await seen.on_a_loop()
        assert (seen.types, seen.threads) == (RECOVERED, {threading.current_thread().name})


class TestDisposeFromAnotherThread:
    def test_is_the_end_of_delivery(self) -> None:
        emitted, disposed, over = threading.Event(), threading.Event(), threading.Event()

        def run(observer: abc.ObserverBase[Any]) -> None:
            observer.on_next(marbles.event("s"))
            observer.on_next(marbles.event("a"))
            emitted.set()
            assert disposed.wait(30)
            observer.on_next(marbles.event("b"))
            observer.on_completed()
            over.set()

        def subscribe(observer: Any, scheduler: Any = None) -> abc.DisposableBase:
            threading.Thread(target=run, args=[observer]).start()
            return Disposable()

        seen = Seen()
        subscription = Observable(subscribe).pipe(recover_auth(true)).subscribe(seen.on_next)
        assert emitted.wait(30)
        subscription.dispose()
        disposed.set()
        assert over.wait(30)
        assert seen.types == ["start", "text_delta"]


class TestASourceThatEmitsFromSeveralThreadsAtOnce:
    """Rx forbids it, and nothing here is locked against it. `ops.observe_on` in front puts the events in a row."""

    def test_is_put_in_a_row_by_observe_on(self) -> None:
        subject: Subject[Any] = Subject()
        seen = Seen()
        with a_thread() as there, ThreadPoolExecutor(4) as pool:
            seen.of(subject.pipe(ops.observe_on(there), recover_auth(true)))
            subject.on_next(marbles.event("s"))
            list(pool.map(subject.on_next, [marbles.event("a")] * 400))
            subject.on_completed()
            seen.to_the_end()
        assert seen.types == ["start"] + ["text_delta"] * 400


class TestTwoSubscribersOfOnePipedObservable:
    def test_they_never_meet(self) -> None:
        scheduler = TestScheduler()
        cold = [marbles.cold(scheduler, each) for each in ("s-e", "s--e", "s-a---|", "s-b---|")]
        left = iter(cold)
        stream = rx.defer(lambda _: next(left)).pipe(
            recover_auth(lambda _: marbles.cold(scheduler, "-r|", {"r": "fresh"}))
        )
        observers = [scheduler.create_observer() for _ in range(2)]
        for observer in observers:
            stream.subscribe(observer, scheduler=scheduler)
        scheduler.start()
        assert [marbles.draw(each.messages) for each in observers] == ["-----(sa)|", "------(sb)|"]

    async def test_share_the_refresh_of_one_credential(self) -> None:
        async with FakeProvider(answer=ANSWER) as fake:
            credentials = dead(fake)
            stream = anthropic_messages(REQUEST, base_url=fake.url, credentials=credentials)
            recovered = stream.pipe(recover_auth(credentials.refresh))
            both = await asyncio.gather(everything(recovered), everything(recovered))
            for events in both:
                assert [event.type for event in events].count("start") == 1
                assert events[-1].message.text == ANSWER
            assert (len(fake.api_requests), len(fake.token_requests)) == (4, 1)

    def test_share_it_from_loops_of_their_own(self) -> None:
        with FakeProvider(answer=ANSWER) as fake, ThreadPoolExecutor(8) as pool:
            credentials = dead(fake)
            stream = anthropic_messages(REQUEST, base_url=fake.url, credentials=credentials)
            recovered = stream.pipe(recover_auth(credentials.refresh))
            for events in pool.map(lambda _: asyncio.run(everything(recovered)), range(8)):
                assert [event.type for event in events].count("start") == 1
                assert events[-1].message.text == ANSWER
            assert len(fake.token_requests) == 1


class TestRxauthsOwnSources:
    async def test_need_a_loop_where_they_are_subscribed_to(self) -> None:
        async with FakeProvider(answer=ANSWER) as fake:
            stream = anthropic_messages(REQUEST, base_url=fake.url, credentials=dead(fake))
            seen = await Seen().of(stream.pipe(ops.subscribe_on(NewThreadScheduler()))).on_a_loop()
            assert "where an event loop is running" in str(seen.error)
            assert (seen.types, fake.requests) == ([], [])

    async def test_can_be_observed_on_any_thread(self) -> None:
        async with FakeProvider(answer=ANSWER) as fake:
            credentials = dead(fake)
            stream = anthropic_messages(REQUEST, base_url=fake.url, credentials=credentials)
            with a_thread() as there:
                recovered = stream.pipe(recover_auth(credentials.refresh), ops.observe_on(there))
                events = [event async for event in to_async_iterable(recovered)]
            assert isinstance(events[-1], Done)
            assert (events[0].type, events[-1].message.text) == ("start", ANSWER)


def dead(fake: FakeProvider) -> OAuthCredentials:
    """Credentials whose access token the provider has just invalidated."""
    credentials = OAuthCredentials(MemoryStore(fake.credential()), token_url=fake.token_url, client_id=fake.client_id)
    fake.invalidate()
    return credentials
