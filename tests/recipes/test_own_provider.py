"""A provider of your own: what to write.

A function that opens the stream, a function that refreshes, and of the three predicates those that differ:

    is_prelude       events that come before there is an answer      type "start", "message_start", ...
    is_error         events that are failures                        type "error"
    is_auth_error    failures that a new credential mends            401, authentication_error, "token expired", ...
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from rxauth import (
    MemoryStore,
    OAuthCredentials,
    RequestRejected,
    anthropic_messages,
    from_async_iterable,
    is_auth_error,
    recover_auth,
)
from rxauth.failures import error_type, status, text
from rxauth.testing import FakeProvider, Reply

from .dead_token import ANSWER, REQUEST, both_ways, everything, refused_once


class TestAProviderThatAnswers403ForAStaleToken:
    """Its wire is known, so its source is `anthropic_messages`. One predicate differs."""

    STALE = Reply(status=403, error="permission_error", message="The token is stale.")

    async def ask(self, fake: FakeProvider, **predicates: Any) -> list[Any]:
        credentials = OAuthCredentials(
            MemoryStore(fake.credential()), token_url=fake.token_url, client_id=fake.client_id
        )
        stream = anthropic_messages(REQUEST, base_url=fake.url, credentials=credentials)
        return await everything(stream.pipe(recover_auth(credentials.refresh, **predicates)))

    @pytest.mark.parametrize(
        "rule",
        [is_auth_error | status(403), is_auth_error | error_type("permission_error"), is_auth_error | text("is stale")],
        ids=repr,
    )
    async def test_is_recovered_with_one_rule_more(self, rule: Any) -> None:
        async with FakeProvider(answer=ANSWER, replies=[self.STALE]) as fake:
            events = await self.ask(fake, is_auth_error=rule)
            types = [event.type for event in events]
            assert (types.count("start"), types[-1], events[-1].message.text) == (1, "done", ANSWER)
            refused_once(fake)

    async def test_by_default_is_not_recovered(self) -> None:
        async with FakeProvider(replies=[self.STALE]) as fake:
            start, error = await self.ask(fake)
            assert (start.type, error.type) == ("start", "error")
            assert isinstance(error.cause, RequestRejected)
            assert fake.token_requests == []

    async def test_one_rule_less_excludes_a_message(self) -> None:
        reply = Reply.unauthorized(message="No seat is left in this workspace.")
        async with FakeProvider(replies=[reply]) as fake:
            assert [each.type for each in await self.ask(fake, is_auth_error=is_auth_error & ~text("no seat"))] == [
                "start",
                "error",
            ]
            assert fake.token_requests == []


@asynccontextmanager
async def words(answer: str, token: str) -> AsyncIterator[tuple[str, list[str]]]:
    """An unknown provider: one JSON object a line, whose type is under `event`. It sends two before it looks at the
    token. Yields its URL, and the tokens that it has received."""
    seen: list[str] = []

    async def answer_request(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers["X-Token"])
        response = web.StreamResponse()
        await response.prepare(request)

        async def send(**event: Any) -> None:
            await response.write(json.dumps(event).encode() + b"\n")

        await send(event="hello", server="words/1")
        await send(event="queued", position=1)
        if seen[-1] == token:
            for word in answer.split():
                await send(event="word", word=word)
            await send(event="bye")
        else:
            await send(event="failed", why="stale")
        return response

    app = web.Application()
    app.router.add_post("/say", answer_request)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/say", seen
    finally:
        await runner.cleanup()


def is_prelude(event: dict[str, Any]) -> bool:
    return event["event"] in {"hello", "queued"}


def is_error(event: dict[str, Any]) -> bool:
    return bool(event["event"] == "failed")


def is_stale(failure: Any) -> bool:
    """It receives exceptions too: a connection may break."""
    return isinstance(failure, dict) and failure["why"] == "stale"


PREDICATES: Any = {"is_prelude": is_prelude, "is_error": is_error, "is_auth_error": is_auth_error | is_stale}


class TestAProviderWhosePreludeHasTwoEvents:
    """Ten lines that read it, and three predicates."""

    @both_ways
    async def test_shows_both_once_with_the_first_word(self, recover: Any) -> None:
        async with words(ANSWER, token="fresh") as (url, seen):
            tokens = ["stale"]

            async def ask() -> AsyncIterator[dict[str, Any]]:
                async with (
                    aiohttp.ClientSession() as session,
                    session.post(url, headers={"X-Token": tokens[-1]}) as response,
                ):
                    async for line in response.content:
                        yield json.loads(line)

            def refresh(failure: dict[str, Any]) -> str:
                assert failure == {"event": "failed", "why": "stale"}
                tokens.append("fresh")
                return tokens[-1]

            events = await everything(from_async_iterable(ask).pipe(recover(refresh, **PREDICATES)))
            names = [event["event"] for event in events]
            assert names[:3] == ["hello", "queued", "word"]
            assert [names.count(each) for each in ("hello", "queued", "failed", "bye")] == [1, 1, 0, 1]
            assert " ".join(event["word"] for event in events if event["event"] == "word") == ANSWER
            assert seen == ["stale", "fresh"]

    @both_ways
    async def test_shows_a_lasting_failure_after_both(self, recover: Any) -> None:
        async with words(ANSWER, token="fresh") as (url, seen):

            async def ask() -> AsyncIterator[dict[str, Any]]:
                async with (
                    aiohttp.ClientSession() as session,
                    session.post(url, headers={"X-Token": "stale"}) as response,
                ):
                    async for line in response.content:
                        yield json.loads(line)

            events = await everything(from_async_iterable(ask).pipe(recover(lambda _: None, **PREDICATES)))
            assert [event["event"] for event in events] == ["hello", "queued", "failed"]
            assert seen == ["stale"]
