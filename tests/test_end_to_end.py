"""The main job on real bytes: a token that the server has invalidated costs one refresh, and the user sees nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import aiohttp
import pytest
from reactivex import Observable
from reactivex import operators as ops

from rxauth import (
    AssistantMessage,
    MemoryStore,
    OAuthCredentials,
    Transcript,
    anthropic_messages,
    buffer_until_live,
    flush_on_complete_or_error,
    from_async_iterable,
    openai_chat,
    recover_auth,
    retry_on_first_auth_error,
    to_async_iterable,
)
from rxauth.events import Error, Start
from rxauth.testing import FakeProvider, Reply

ANSWER = "The whole answer, every word of it, once."
REQUEST = {"model": "any", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}

Pipe: TypeAlias = Callable[[Any], tuple[Any, ...]]
Source: TypeAlias = Callable[[FakeProvider, OAuthCredentials], Observable[Any]]


def login(fake: FakeProvider) -> OAuthCredentials:
    return OAuthCredentials(MemoryStore(fake.credential()), token_url=fake.token_url, client_id=fake.client_id)


def anthropic(fake: FakeProvider, credentials: OAuthCredentials) -> Observable[Any]:
    return anthropic_messages(REQUEST, base_url=fake.url, credentials=credentials)


def openai(fake: FakeProvider, credentials: OAuthCredentials) -> Observable[Any]:
    return openai_chat(REQUEST, base_url=fake.url + "/v1", credentials=credentials)


def thrown(fake: FakeProvider, credentials: OAuthCredentials) -> Observable[Any]:
    """Emit `start`, and raise the 401 of the connection instead of an error event."""

    async def events() -> AsyncIterator[Any]:
        yield Start(AssistantMessage())
        token = (await credentials.current()).access_token
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}, raise_for_status=True) as session,
            session.post(fake.url + "/v1/messages", json=REQUEST | {"stream": True}),
        ):
            pass
        async for event in to_async_iterable(anthropic(fake, credentials).pipe(ops.skip(1))):
            yield event

    return from_async_iterable(events)


both = pytest.mark.parametrize(
    "pipe",
    [
        pytest.param(
            lambda refresh: (buffer_until_live(), retry_on_first_auth_error(refresh), flush_on_complete_or_error()),
            id="three operators",
        ),
        pytest.param(lambda refresh: (recover_auth(refresh),), id="recover_auth"),
    ],
)


@both
@pytest.mark.parametrize(
    ("source", "kind", "statuses"),
    [
        pytest.param(anthropic, "a status", [401, 200], id="anthropic_messages, a status"),
        pytest.param(anthropic, "in-band", [200, 200], id="anthropic_messages, in-band"),
        pytest.param(openai, "a status", [401, 200], id="openai_chat, a status"),
        pytest.param(openai, "in-band", [200, 200], id="openai_chat, in-band"),
        pytest.param(thrown, "a status", [401, 200, 200], id="a raised 401"),
    ],
)
async def test_a_dead_token_costs_one_refresh_and_shows_nothing(
    pipe: Pipe, source: Source, kind: str, statuses: list[int]
) -> None:
    in_band = Reply.in_band_error("authentication_error", after=0, message="OAuth token has expired")
    async with FakeProvider(answer=ANSWER, replies=[in_band] if kind == "in-band" else []) as fake:
        credentials = login(fake)
        if kind == "a status":
            fake.invalidate()
        transcript = Transcript()
        stream = source(fake, credentials).pipe(*pipe(credentials.refresh)).pipe(ops.do(transcript))
        events = [event async for event in to_async_iterable(stream)]

        ends = [event.type for event in events if event.type in ("start", "done", "error")]
        assert ends == ["start", "done"]
        assert "".join(event.delta for event in events if event.type == "text_delta") == ANSWER
        assert (events[-1].message.text, events[-1].message.stop_reason) == (ANSWER, "stop")
        assert [(entry.open, entry.message.text) for entry in transcript.entries] == [(False, ANSWER)]
        assert [each.status for each in fake.api_requests] == statuses
        assert len(fake.token_requests) == 1
        assert fake.api_requests[0].token != fake.api_requests[1].token


@both
async def test_a_refused_refresh_shows_the_401_and_its_reason(pipe: Pipe) -> None:
    async with FakeProvider(token_replies=[Reply(status=400, error="invalid_client")]) as fake:
        credentials = login(fake)
        fake.invalidate()
        stream = anthropic(fake, credentials).pipe(*pipe(credentials.refresh))
        events = [event async for event in to_async_iterable(stream)]
        assert [event.type for event in events] == ["start", "error"]
        assert isinstance(events[1], Error)
        assert "invalid_client" in str(getattr(events[1].cause, "__cause__", None))
        assert len(fake.api_requests) == 1
