"""Several subscriptions and threads: what holds and what does not. See also the docstring of `rxauth.operators`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.scheduler import EventLoopScheduler, NewThreadScheduler, ThreadPoolScheduler
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
from rxauth.events import AssistantMessage, Error
from rxauth.testing import FakeProvider, marbles
from tests.peers_needed import package

REQUEST: Any = {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}
RECOVERED = ["start", "text_delta", "text_delta"]


class Seen:
    """An observer that knows on which threads it was called, and can be waited for."""

    def __init__(self, stream: Observable[Any]) -> None:
        self.events: list[Any] = []
        self.threads: set[str] = set()
        self.error: Exception | None = None
        self._ended = threading.Event()
        stream.subscribe(self._on_next, self._on_error, self._ended.set)

    def _on_next(self, event: Any) -> None:
        self.threads.add(here())
        self.events.append(event)

    def _on_error(self, error: Exception) -> None:
        self.error = error
        self._ended.set()

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    def to_the_end(self) -> Seen:
        assert self._ended.wait(30)
        return self

    async def on_a_loop(self) -> Seen:
        return await asyncio.to_thread(self.to_the_end)


def here() -> str:
    return threading.current_thread().name


def true(failure: Any) -> bool:
    return True


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


def on_a_thread(source: Observable[Any]) -> Observable[Any]:
    """The same, each attempt on a thread of its own."""

    def subscribe(observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        threading.Thread(target=lambda: source.subscribe(observer), name="the source's").start()
        return Disposable()

    return Observable(subscribe)


refused_both_ways = pytest.mark.parametrize("refused", ["se", "s#"], ids=["in-band", "raised"])


def test_hot_source_that_failed_repeats_its_failure() -> None:
    subject: Subject[Any] = Subject()
    rejected = CredentialRejected("401: the token is dead", status=401)
    refreshed: list[Any] = []

    def refresh(failure: Any) -> bool:
        refreshed.append(failure)
        return True

    seen = Seen(subject.pipe(recover_auth(refresh)))
    subject.on_next(marbles.event("s"))
    subject.on_error(rejected)
    assert (seen.types, seen.error, refreshed) == ([], rejected, [rejected])


def test_hot_source_emits_unheard_during_the_refresh() -> None:
    scheduler = TestScheduler()
    hot = marbles.hot(scheduler, "s-e-s-a---b|")
    refresh = marbles.cold(scheduler, "---r|", {"r": "fresh"})
    assert marbles.draw(marbles.observe(scheduler, hot.pipe(recover_auth(lambda _: refresh)))) == "------a---b|"


recover: Callable[[Observable[Any]], Observable[Any]] = recover_auth(true)


@refused_both_ways
@pytest.mark.parametrize(
    "moved",
    [
        pytest.param(lambda source, there: on_a_thread(source).pipe(recover), id="a source with threads of its own"),
        pytest.param(lambda source, there: source.pipe(ops.subscribe_on(there), recover), id="subscribe_on before"),
        pytest.param(lambda source, there: source.pipe(recover, ops.subscribe_on(there)), id="subscribe_on after"),
        pytest.param(lambda source, there: source.pipe(ops.observe_on(there), recover), id="observe_on before"),
        pytest.param(lambda source, there: source.pipe(recover, ops.observe_on(there)), id="observe_on after"),
    ],
)
def test_source_may_emit_on_any_thread(refused: str, moved: Callable[..., Observable[Any]]) -> None:
    there = EventLoopScheduler()
    seen = Seen(moved(attempts(refused, "sab"), there)).to_the_end()
    there.dispose()
    assert (seen.types, seen.error, len(seen.threads)) == (RECOVERED, None, 1)
    assert here() not in seen.threads


@refused_both_ways
@pytest.mark.parametrize("coroutine", [True, False], ids=["a coroutine", "a plain function"])
async def test_second_attempt_starts_on_the_loop(refused: str, coroutine: bool) -> None:
    refreshed_on: list[str] = []
    subscribed_on: list[str] = []
    source = on_a_thread(attempts(refused, "sab"))

    def refresh(failure: Any) -> bool:
        refreshed_on.append(here())
        return True

    async def refresh_on_the_loop(failure: Any) -> bool:
        return refresh(failure)

    def attempt(_: abc.SchedulerBase) -> Observable[Any]:
        subscribed_on.append(here())
        return source

    stream = rx.defer(attempt).pipe(recover_auth(refresh_on_the_loop if coroutine else refresh))
    assert (await Seen(stream).on_a_loop()).types == RECOVERED
    assert (refreshed_on, subscribed_on) == ([here() if coroutine else "the source's"], [here(), here()])


@refused_both_ways
async def test_subscribe_on_takes_the_loop_from_a_coroutine(refused: str) -> None:
    async def refresh(failure: Any) -> bool:
        return True

    moved = ops.subscribe_on(NewThreadScheduler())
    assert (await Seen(attempts(refused, "sab").pipe(moved, recover_auth(refresh))).on_a_loop()).types == RECOVERED

    seen = await Seen(attempts(refused, "sab").pipe(recover_auth(refresh), moved)).on_a_loop()
    assert seen.types == ["start", "error"][: len(seen.types)]
    failure = seen.error or seen.events[-1].cause
    assert "needs an event loop" in str(failure.__cause__)


def test_observe_on_puts_events_of_several_threads_in_a_row() -> None:
    """Rx forbids such a source, and nothing here is locked against it."""
    subject: Subject[Any] = Subject()
    there = EventLoopScheduler()
    seen = Seen(subject.pipe(ops.observe_on(there), recover_auth(true)))
    subject.on_next(marbles.event("s"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(subject.on_next, [marbles.event("a")] * 400))
    subject.on_completed()
    assert seen.to_the_end().types == ["start"] + ["text_delta"] * 400
    there.dispose()


def dead(fake: FakeProvider) -> OAuthCredentials:
    """Credentials whose access token the provider has just invalidated."""
    credentials = OAuthCredentials(MemoryStore(fake.credential()), token_url=fake.token_url, client_id=fake.client_id)
    fake.invalidate()
    return credentials


def test_loops_on_threads_share_the_refresh_of_a_credential() -> None:
    with FakeProvider(answer="All of it.") as fake, ThreadPoolExecutor(8) as pool:
        credentials = dead(fake)
        stream = anthropic_messages(REQUEST, base_url=fake.url, credentials=credentials)
        recovered = stream.pipe(recover_auth(credentials.refresh))

        async def events() -> list[Any]:
            return [event async for event in to_async_iterable(recovered)]

        for seen in pool.map(lambda _: asyncio.run(events()), range(8)):
            assert [event.type for event in seen].count("start") == 1
            assert seen[-1].message.text == "All of it."
        assert len(fake.token_requests) == 1


async def test_own_source_needs_a_loop_where_it_is_subscribed_to() -> None:
    async with FakeProvider() as fake:
        credentials = dead(fake)
        stream = anthropic_messages(REQUEST, base_url=fake.url, credentials=credentials)
        seen = await Seen(stream.pipe(ops.subscribe_on(NewThreadScheduler()))).on_a_loop()
        assert "where an event loop is running" in str(seen.error)
        assert (seen.types, fake.requests) == ([], [])
        there = EventLoopScheduler()
        seen = await Seen(stream.pipe(recover_auth(credentials.refresh), ops.observe_on(there))).on_a_loop()
        there.dispose()
        assert (seen.types[0], seen.types[-1], len(seen.threads)) == ("start", "done", 1)


@pytest.mark.peer
def test_synchronous_sdk_on_a_pool_makes_one_token_request() -> None:
    streams = 4
    client = package("anthropic").Anthropic
    with FakeProvider() as fake, client(auth_token="replaced", base_url=fake.url, max_retries=0) as sdk:
        credentials = dead(fake)

        def ask(_: abc.SchedulerBase) -> Observable[Any]:
            token = {"Authorization": f"Bearer {asyncio.run(credentials.current()).access_token}"}
            return rx.from_iterable(sdk.messages.create(**REQUEST, stream=True, extra_headers=token))

        def refresh(failure: Any) -> Any:
            return asyncio.run(credentials.refresh(failure))

        recovered = rx.defer(ask).pipe(recover_auth(refresh), ops.subscribe_on(ThreadPoolScheduler(streams)))
        for seen in [Seen(recovered) for _ in range(streams)]:
            types = seen.to_the_end().types
            assert seen.error is None
            assert (types[0], types[-1], types.count("message_start")) == ("message_start", "message_stop", 1)
        assert len(fake.token_requests) == 1
