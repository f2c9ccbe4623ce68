"""A question, its answer, and the checks that the recipes with rxauth's own sources share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from reactivex import Observable

from rxauth import (
    buffer_until_live,
    flush_on_complete_or_error,
    is_auth_error,
    recover_auth,
    retry_on_first_auth_error,
    to_async_iterable,
)
from rxauth.testing import FakeProvider

REQUEST = {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}
ANSWER = "The whole answer, every word of it, once."


def three_operators(
    refresh: Callable[[Any], Any], *, is_prelude: Any, is_auth_error: Any = is_auth_error, **is_error: Any
) -> Callable[[Observable[Any]], Observable[Any]]:
    """Compose the three operators that `recover_auth` stands for."""
    return lambda source: source.pipe(
        buffer_until_live(is_prelude=is_prelude, **is_error),
        retry_on_first_auth_error(refresh, is_auth_error=is_auth_error, **is_error),
        flush_on_complete_or_error(),
    )


both_ways = pytest.mark.parametrize("recover", [recover_auth, three_operators], ids=["recover_auth", "three operators"])


async def everything(stream: Observable[Any]) -> list[Any]:
    """Return the events of a stream; raise the exception of its error channel."""
    return [event async for event in to_async_iterable(stream)]


def refused_once(fake: FakeProvider) -> None:
    """Assert two requests for the answer with two tokens, and one token request between them."""
    assert len(fake.api_requests) == 2
    assert len(fake.token_requests) == 1
    assert [each.path for each in fake.requests][1] == "/oauth/token"
    refused, accepted = fake.api_requests
    assert refused.token != accepted.token
    assert fake.accepts(accepted.token)
