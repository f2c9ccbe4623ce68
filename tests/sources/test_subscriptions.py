"""A subscription and what it holds: the credential, the connection, the session."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import aiohttp
import pytest

from rxauth.credentials import Credential
from rxauth.errors import CredentialRejected, LoginRequired
from rxauth.events import AssistantEvent, Done, Error, Start, TextDelta
from rxauth.failures import is_auth_error
from rxauth.sources import anthropic_messages
from rxauth.testing import FakeProvider, Gate, Pause, Reply
from tests.sources.streams import (
    ANSWER,
    KEY,
    REQUEST,
    Counted,
    Holder,
    Resolver,
    collect,
    done,
    failed,
    messages,
    text_of,
)


class Broken(Holder):
    """A credential source that raises an exception, or gives what is no credential."""

    def __init__(self, given: Any) -> None:
        self.given = given

    async def current(self) -> Any:
        if isinstance(self.given, Exception):
            raise self.given
        return None


LOGGED_OUT = LoginRequired("Log in again: rxauth login kimi")


@pytest.mark.parametrize(
    ("given", "kind", "sentence"),
    [
        pytest.param(LOGGED_OUT, LoginRequired, str(LOGGED_OUT), id="an error of rxauth"),
        pytest.param(KeyError("canary"), KeyError, "The credential source failed (KeyError).", id="a foreign one"),
        pytest.param(None, AttributeError, "The credential source failed (AttributeError).", id="no credential"),
    ],
)
async def test_a_failed_credential_source_is_the_cause(given: Any, kind: type[Exception], sentence: str) -> None:
    """The text of a foreign exception is not shown: it may be a token."""
    end = failed(await collect(anthropic_messages(REQUEST, base_url="https://h", credentials=Broken(given))))
    assert (type(end.cause), end.error.error_message, is_auth_error(end)) == (kind, sentence, False)
    assert end.cause is given or given is None


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("source", [Holder, Broken])
async def test_a_credential_is_freed_with_its_stream(source: type[Holder]) -> None:
    async def streamed(fake: FakeProvider) -> weakref.ref[Any]:
        credentials = Holder(Credential("dead")) if source is Holder else Broken(LoginRequired("Log in."))
        failed(await collect(anthropic_messages(REQUEST, base_url=fake.url, credentials=credentials)))
        return weakref.ref(credentials)

    async with FakeProvider() as fake:
        gone = await streamed(fake)
        await fake.until(lambda fake: fake.open_connections == bool(fake.requests))
        assert gone() is None


@pytest.mark.parametrize("in_thread", [False, True], ids=["here", "from another thread"])
@pytest.mark.parametrize("after", ["head", 3])
async def test_dispose_closes_the_connection_at_once(after: Any, in_thread: bool) -> None:
    async with FakeProvider(answer="one two three", replies=[Reply.hang(gate := Gate(), after=after)]) as fake:
        events: list[AssistantEvent] = []
        subscription = messages(fake).subscribe(events.append)
        await gate.reached()
        assert fake.open_connections == 1
        seen = len(events)
        if in_thread:
            await asyncio.to_thread(subscription.dispose)
        else:
            subscription.dispose()
        await fake.until(lambda fake: fake.open_connections == 0)
        await fake.served()
        assert fake.requests[0].client_closed
        assert in_thread or len(events) == seen


async def test_dispose_while_connecting_leaves_no_task() -> None:
    resolver = Resolver(at_once=False)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver)) as session:
        stream = anthropic_messages(REQUEST, base_url="https://slow.example", credentials=KEY, session=session)
        tasks = asyncio.all_tasks()
        events: list[AssistantEvent] = []
        subscription = stream.subscribe(events.append)
        await resolver.asked.wait()
        subscription.dispose()
        resolver.fail.set()  # aiohttp lets a resolution that is under way come to its end
        while asyncio.all_tasks() - tasks:
            await asyncio.sleep(0)
        assert events == [Start()]


async def test_dispose_inside_an_event_stops_the_stream() -> None:
    async with FakeProvider(answer="one two three", replies=[Reply(events_per_write=99)]) as fake:
        events: list[AssistantEvent] = []

        def on_next(event: AssistantEvent) -> None:
            events.append(event)
            if isinstance(event, TextDelta):
                subscription.dispose()

        subscription = messages(fake).subscribe(on_next)
        await fake.until(lambda fake: bool(fake.requests) and fake.open_connections == 0)
        assert isinstance(events[-1], TextDelta)
        assert sum(isinstance(event, TextDelta) for event in events) == 1


async def test_a_consumers_exception_goes_to_the_loops_handler() -> None:
    async with FakeProvider(answer="one two three four", replies=[Reply.hang(after=5)]) as fake:
        handled: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: handled.set_result(context["exception"]))
        ends: list[object] = []
        error = CredentialRejected("not the provider's", status=401)

        def on_next(event: AssistantEvent) -> None:
            if isinstance(event, TextDelta):
                raise error
            if isinstance(event, Done | Error):
                ends.append(event)

        messages(fake).subscribe(on_next, ends.append)
        assert await handled is error
        await fake.until(lambda fake: fake.open_connections == 0)
        assert ends == []


@pytest.mark.looptime
async def test_a_given_session_is_used_and_left_open() -> None:
    late = Reply(body=[ANSWER, Pause(0.05)])  # its body ends after the answer
    async with Counted(replies=[None, late, None]) as fake, aiohttp.ClientSession(headers={"X-Mine": "1"}) as session:
        for _ in range(3):
            done(await collect(messages(fake, session=session)))
        assert not session.closed
        assert fake.requests[0].headers["X-Mine"] == "1"
        assert fake.connections_made == 1, "a connection whose answer was read to its end is used again"


async def test_a_session_that_raises_for_status_is_usable() -> None:
    refused = Reply(status=401, body={"error": {"type": "authentication_error", "message": "No."}})
    async with FakeProvider(replies=[refused]) as fake, aiohttp.ClientSession(raise_for_status=True) as session:
        cause = failed(await collect(messages(fake, session=session))).cause
    assert (type(cause), str(cause)) == (CredentialRejected, "No. (HTTP 401, authentication_error)")


@pytest.mark.looptime
async def test_an_answer_ends_although_the_body_does_not() -> None:
    async with FakeProvider(replies=[Reply(body=[ANSWER, Gate()])]) as fake:
        loop = asyncio.get_running_loop()
        before = loop.time()
        done(await collect(messages(fake)))
        assert loop.time() - before < 1
        await fake.until(lambda fake: fake.open_connections == 0)


async def test_two_subscribers_never_meet() -> None:
    async with FakeProvider(replies=[Reply(answer="a " * 50), Reply(answer="b " * 50)]) as fake:
        stream = messages(fake)
        first, second = await asyncio.gather(collect(stream), collect(stream))
        assert {text_of(first), text_of(second)} == {"a " * 50, "b " * 50}
