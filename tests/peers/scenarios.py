"""The scenarios: how a provider treats a client, and the best that a client can make of it.

Every one is scripted with `rxauth.testing.FakeProvider`: a base URL and a login are all that a client needs.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rxauth import Credential
from rxauth.testing import FakeProvider, Pause, Reply, SeenRequest, anthropic_events, openai_chunks

from .login import IDLE, Login

ANSWER = "Each word of this answer is to be seen once, in this order, in one message, by the one who asked."

LIVE = 6
"""So many events of either wire bring some words of the answer."""

KIMI = "The API Key appears to be invalid or may have expired. Please verify your credentials and try again."
PLAN = "Your current subscription does not have access to this model."

Replies: TypeAlias = Sequence[Reply | None]
Step: TypeAlias = Callable[[FakeProvider, Login], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Describe what the provider does, and the best end that a client can bring about.

    Args:
        expected: the whole answer, or an error that the consumer sees.
        replies: to API requests with a live token, one after the other; then the usual answer.
        token_replies: the same for the token endpoint.
        prepare: called after the login.
        calls: how many times the consumer asks: one after the other, or `together`.
        between: called between two calls.
        clients: so many clients share the login, as processes do; the calls go to them in turn.
        leaves: returns when the consumer leaves the first call; given the provider and the consumer's screen.
        max_requests: to the API, for each call.
        max_token_requests: to the token endpoint, for all calls and processes.
        rotate: whether the token endpoint rotates refresh tokens.
    """

    name: str
    expected: Literal["answer", "error", "nothing"]
    replies: Replies = ()
    token_replies: Replies = ()
    prepare: Step | None = None
    calls: int = 1
    together: bool = False
    between: Step | None = None
    clients: int = 1
    leaves: Callable[[FakeProvider, Any], Awaitable[None]] | None = None
    max_requests: int = 4
    max_token_requests: int = 0
    rotate: bool = True


def stale(name: str, *replies: Reply | None, **options: Any) -> Scenario:
    """The access token is dead before its time; the refresh token is alive."""
    usual: dict[str, Any] = {"expected": "answer", "max_token_requests": 1}
    return Scenario(name=name, replies=replies, **(usual | options))


def passing(name: str, reply: Reply) -> Scenario:
    """A failure before the first word that passes."""
    return Scenario(name=name, expected="answer", replies=[reply])


def broken(name: str, reply: Reply) -> Scenario:
    """A failure behind some words."""
    return Scenario(name=name, expected="error", replies=[reply], max_requests=1)


def final(name: str, reply: Reply, requests: int = 2) -> Scenario:
    """A failure that neither a refresh nor time mends."""
    return Scenario(name=name, expected="error", replies=[reply] * 9, max_requests=requests)


async def invalidate(fake: FakeProvider, login: Login) -> None:
    fake.invalidate()


async def revoke(fake: FakeProvider, login: Login) -> None:
    fake.revoke()


async def expire(fake: FakeProvider, login: Login) -> None:
    """End the lifetime of the access token; the stored login says so."""
    stored = await login.credential()
    await login.store.save(Credential(stored.access_token, stored.refresh_token, time.time() - 1))
    fake.invalidate()


async def refresh_elsewhere(fake: FakeProvider, login: Login) -> None:
    """Refresh as another process does; the store holds its credential."""
    fake.invalidate()
    await login.renewed()


async def asked(fake: FakeProvider, screen: Any) -> None:
    await fake.until(lambda fake: bool(fake.api_requests))


async def two_words(fake: FakeProvider, screen: Any) -> None:
    await screen.until_words(2)


async def refreshing(fake: FakeProvider, screen: Any) -> None:
    await fake.until(lambda fake: bool(fake.token_requests) or len(fake.api_requests) > 1)


def events_of(seen: SeenRequest) -> list[Any]:
    return [*(anthropic_events(ANSWER) if seen.path.endswith("/v1/messages") else openai_chunks(ANSWER))]


def thinking(seen: SeenRequest) -> list[Any]:
    """Open the stream, send pings for longer than both limits for silence, then answer."""
    opening, *rest = events_of(seen)
    return [opening, *[": ping\n\n", Pause(IDLE / 4)] * 10, *rest]


def scenarios() -> Iterator[Scenario]:
    # A token that is refused, in every form.
    yield stale("401 as JSON", prepare=invalidate)
    yield stale("401 without a body", Reply(status=401, body=""))
    yield stale("401 in plain text", Reply(status=401, body="Unauthorized"))
    yield stale("401 as a web page", Reply.html("<!doctype html><h1>401 Unauthorized</h1>", status=401))
    yield stale("401 as an OAuth error", Reply(status=401, body={"error": "invalid_token"}))
    yield stale("401 in Kimi's words", Reply(status=401, message=KIMI))
    yield stale("401 after half a second", Reply.unauthorized(delay=0.5))
    yield stale("403 authentication_error", Reply(status=403, error="authentication_error"))
    yield stale("200, refused in-band as the first event", Reply.in_band_error("authentication_error", after=0))
    yield stale("200, refused in-band after the opening", Reply.in_band_error("authentication_error", after=1))
    error = {"type": "error", "error": {"type": "authentication_error", "message": "token expired"}}
    yield stale("200 with a JSON error as the body", Reply(body=error))
    yield stale("401 for the second call", between=invalidate, calls=2)
    yield stale("401 for ten calls at once", prepare=invalidate, calls=10, together=True)
    yield stale("401 again after the refresh", *[Reply.unauthorized()] * 9, expected="error", max_token_requests=2)
    yield stale("expired by the clock", prepare=expire)
    yield stale("expired by the clock, ten calls at once", prepare=expire, calls=10, together=True)
    # The refresh.
    yield stale("a refresh that takes a second", prepare=invalidate, token_replies=[Reply(delay=1)])
    yield stale("token endpoint 503 once", prepare=invalidate, token_replies=[Reply(status=503)], max_token_requests=2)
    busy = [Reply.rate_limited(retry_after=1)]
    yield stale("token endpoint 429, wait 1 s", prepare=invalidate, token_replies=busy, max_token_requests=2)
    yield stale("no new refresh token", prepare=invalidate, rotate=False)
    yield stale("refreshed by another process", calls=2, between=refresh_elsewhere)
    yield stale("401 for two processes at once", prepare=invalidate, calls=2, clients=2, together=True,
                token_replies=[Reply(delay=0.3)] * 2)  # fmt: skip
    yield stale("dead login", prepare=revoke, expected="error", max_token_requests=2)
    yield stale("dead login, asked five times", prepare=revoke, expected="error", calls=5, max_token_requests=2)
    yield stale("the consumer leaves during the refresh, asks again", prepare=invalidate, calls=2, leaves=refreshing,
                token_replies=[Reply(delay=0.5)])  # fmt: skip
    yield stale("token endpoint says nothing", prepare=invalidate, token_replies=[Reply.hang()] * 5, expected="error",
                max_token_requests=5)  # fmt: skip
    # Failures before the first word that pass.
    yield passing("503 once", Reply(status=503))
    yield passing("529 once", Reply(status=529))
    yield passing("429, wait 1 s", Reply.rate_limited(retry_after=1))
    yield passing("overloaded in-band as the first event", Reply.in_band_error("overloaded_error", after=0))
    yield passing("overloaded in-band after the opening", Reply.in_band_error("overloaded_error", after=1))
    yield passing("reset before the headers", Reply.reset())
    yield passing("cut after the headers", Reply.cut(at=0))
    yield passing("cut in the opening", Reply.cut(at=60))
    yield passing("silence before the headers", Reply.hang())
    yield passing("silence after the headers", Reply.hang(after=0))
    yield passing("silence after the opening", Reply.hang(after=1))
    yield passing("pings and nothing else", Reply(body=[": ping\n\n", Pause(IDLE / 4)] * 80))
    yield stale("401, then 503", Reply(status=503), prepare=invalidate)
    yield stale("503, then 401", Reply(status=503), Reply.unauthorized())
    # Failures behind some words.
    yield broken("refused in-band in the middle", Reply.in_band_error("authentication_error", after=LIVE))
    yield broken("overloaded in-band in the middle", Reply.in_band_error("overloaded_error", after=LIVE))
    yield broken("cut in the middle", Reply.cut(at=900))
    yield broken("reset in the middle", Reply.reset(at=900))
    yield broken("silence in the middle", Reply.hang(after=LIVE))
    # Failures for good.
    yield final("401 for a plan limit", Reply(status=401, message=PLAN))
    yield final("403 permission_error", Reply(status=403, error="permission_error"))
    yield final("400", Reply(status=400))
    yield final("404", Reply(status=404))
    yield final("500 for ever", Reply(status=500), requests=6)
    quota = {"error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "Quota exceeded."}}
    yield final("429, wait an hour", Reply.rate_limited(retry_after=3600), requests=6)
    scope = {"error": {"type": "insufficient_scope", "message": "The token lacks the scope."}}
    yield final("401 insufficient_scope", Reply(status=401, body=scope))
    yield final("429 for a used-up quota", Reply(status=429, body=quota), requests=6)
    # Nothing is wrong with the provider.
    yield Scenario(name="an answer", expected="answer", max_requests=1)
    yield Scenario(name="a long pause with pings", expected="answer", replies=[Reply(body=thinking)], max_requests=1)
    yield Scenario(name="connections closed between two calls", expected="answer", calls=2, max_requests=2,
                   replies=[Reply(headers={"Connection": "close"})])  # fmt: skip
    yield Scenario(name="the whole answer as one JSON body", expected="answer", max_requests=1,
                   replies=[Reply(whole=True)])  # fmt: skip
    yield Scenario(name="307 to the same host", expected="answer", replies=[Reply.redirect("?moved")])
    yield Scenario(name="an answer without its last event", expected="answer", max_requests=1,
                   replies=[Reply(body=lambda seen: events_of(seen)[:-1])])  # fmt: skip
    yield Scenario(name="the consumer leaves before the first word", expected="nothing", leaves=asked, max_requests=1,
                   replies=[Reply.hang()])  # fmt: skip
    yield Scenario(name="the consumer leaves after some words", expected="nothing", leaves=two_words, max_requests=1,
                   replies=[Reply.hang(after=LIVE)])  # fmt: skip


SCENARIOS = tuple(scenarios())
