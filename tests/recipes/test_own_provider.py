"""A provider of your own: what to write.

A function that opens the stream, a function that refreshes, and of the three predicates those that differ:

    is_prelude       events that come before there is an answer      type "start", "message_start", ...
    is_error         events that are failures                        type "error"
    is_auth_error    failures that a new credential mends            401, authentication_error, "token expired", ...
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from rxauth import (
    MemoryStore,
    OAuthCredentials,
    anthropic_messages,
    from_async_iterable,
    is_auth_error,
    recover_auth,
    to_async_iterable,
)
from rxauth.failures import status, text
from rxauth.testing import FakeProvider, Reply

from .answers import FRESH, STALE, ndjson, serving

REQUEST = {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("reply", "rule", "types"),
    [
        pytest.param({"status": 403}, is_auth_error | status(403), ["start", "done"], id="a 403 with a rule for it"),
        pytest.param({"status": 403}, is_auth_error, ["start", "error"], id="a 403 by default"),
        pytest.param(
            {"status": 401, "message": "No seat is left in this workspace."},
            is_auth_error & ~text("no seat"),
            ["start", "error"],
            id="a 401 that a rule excludes",
        ),
    ],
)
async def test_known_wire_needs_one_rule_more_or_less(reply: Any, rule: Any, types: list[str]) -> None:
    """Its source is `anthropic_messages`; one predicate differs."""
    async with FakeProvider(replies=[Reply(**reply)]) as fake:
        store = MemoryStore(fake.credential())
        credentials = OAuthCredentials(store, token_url=fake.token_url, client_id=fake.client_id)
        stream = anthropic_messages(REQUEST, base_url=fake.url, credentials=credentials)
        recovered = stream.pipe(recover_auth(credentials.refresh, is_auth_error=rule))
        events = [event.type async for event in to_async_iterable(recovered)]
        assert [each for each in events if each in {"start", "done", "error"}] == types
        assert len(fake.token_requests) == (types[-1] == "done")


# An unknown provider: one JSON object a line, whose type is under `event`. It sends two before it looks at the token.
OPENING = ({"event": "hello", "server": "words/1"}, {"event": "queued", "position": 1})
FAILED = {"event": "failed", "why": "stale"}
WORDS = ({"event": "word", "word": "Good"}, {"event": "word", "word": "morning"}, {"event": "bye"})


def is_prelude(event: dict[str, Any]) -> bool:
    return event["event"] in {"hello", "queued"}


def is_error(event: dict[str, Any]) -> bool:
    return bool(event["event"] == "failed")


def is_stale(failure: Any) -> bool:
    """It receives exceptions too: a connection may break."""
    return isinstance(failure, dict) and failure["why"] == "stale"


@pytest.mark.parametrize(
    ("new", "shown"),
    [
        pytest.param(FRESH, [*OPENING, *WORDS], id="a new token"),
        pytest.param(None, [*OPENING, FAILED], id="no new token"),
    ],
)
async def test_unknown_wire_needs_ten_lines_and_three_predicates(new: str | None, shown: list[Any]) -> None:
    async with serving(ndjson(*OPENING, FAILED), ndjson(*OPENING, *WORDS)) as (url, accepted):
        tokens = [STALE]

        async def ask() -> AsyncIterator[dict[str, Any]]:
            headers = {"X-Token": tokens[-1]}
            async with aiohttp.ClientSession() as session, session.post(url, headers=headers) as response:
                async for line in response.content:
                    yield json.loads(line)

        def refresh(failure: dict[str, Any]) -> str | None:
            assert failure == FAILED
            tokens.extend([new] if new else [])
            return new

        predicates: Any = {"is_prelude": is_prelude, "is_error": is_error, "is_auth_error": is_auth_error | is_stale}
        recovered = from_async_iterable(ask).pipe(recover_auth(refresh, **predicates))
        assert [event async for event in to_async_iterable(recovered)] == shown
        assert accepted == [False, True][: len(tokens)]
