"""A provider that refuses the token once, in each of the ways that providers have, and what must have come of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from reactivex import Observable

from rxauth import (
    MemoryStore,
    OAuthCredentials,
    buffer_until_live,
    flush_on_complete_or_error,
    is_auth_error,
    recover_auth,
    retry_on_first_auth_error,
    to_async_iterable,
)
from rxauth.testing import FakeProvider, Reply

REQUEST = {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}
ANSWER = "The whole answer, every word of it, once."

REFUSALS = {
    "a 401": None,
    "an error in-band": Reply.in_band_error("authentication_error", after=0, message="OAuth token has expired"),
    "an error in-band after the prelude": Reply.in_band_error("authentication_error", after=1, message="expired"),
}

every_refusal = pytest.mark.parametrize("refusal", REFUSALS)


async def at_once(seconds: float) -> None:
    """Take the place of a wait."""


@asynccontextmanager
async def refusing(refusal: str, **options: Any) -> AsyncIterator[tuple[FakeProvider, OAuthCredentials]]:
    """A provider, and the credentials that it refuses the first time."""
    reply = REFUSALS[refusal]
    async with FakeProvider(answer=ANSWER, replies=[] if reply is None else [reply], **options) as fake:
        credentials = OAuthCredentials(
            MemoryStore(fake.credential()), token_url=fake.token_url, client_id=fake.client_id, sleep=at_once
        )
        if reply is None:
            fake.invalidate()
        yield fake, credentials


def three_operators(
    refresh: Callable[[Any], Any], *, is_prelude: Any, is_auth_error: Any = is_auth_error, **is_error: Any
) -> Callable[[Observable[Any]], Observable[Any]]:
    """What `recover_auth` does, one step each."""
    return lambda source: source.pipe(
        buffer_until_live(is_prelude=is_prelude, **is_error),
        retry_on_first_auth_error(refresh, is_auth_error=is_auth_error, **is_error),
        flush_on_complete_or_error(),
    )


both_ways = pytest.mark.parametrize("recover", [recover_auth, three_operators], ids=["recover_auth", "three operators"])


async def everything(stream: Observable[Any]) -> list[Any]:
    """The events, to the end. What goes on the error channel is raised."""
    return [event async for event in to_async_iterable(stream)]


def refused_once(fake: FakeProvider) -> None:
    """Two requests for the answer, with two tokens, and one for the token between them."""
    assert len(fake.api_requests) == 2
    assert len(fake.token_requests) == 1
    assert [each.path for each in fake.requests][1] == "/oauth/token"
    refused, accepted = fake.api_requests
    assert refused.token != accepted.token
    assert fake.accepts(accepted.token)
