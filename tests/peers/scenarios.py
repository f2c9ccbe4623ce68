"""The scenarios: how a provider treats a client, and the best that a client can make of it.

Every one is scripted with `rxauth.testing.FakeProvider`: a base URL and a login are all that a client needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rxauth.testing import FakeProvider, Pause, Reply, SeenRequest, anthropic_events, openai_chunks

ANSWER = "Each word of this answer is to be seen once, in this order, in one message, by the one who asked."

FIRST, IDLE = 3.0, 1.0
"""Limits in seconds for all clients: until the first word, and without a byte."""

LIVE = 6
"""So many events of either wire bring some words of the answer."""

KIMI = "The API Key appears to be invalid or may have expired. Please verify your credentials and try again."
PLAN = "Your current subscription does not have access to this model."

Replies = Sequence[Reply | None]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One scenario.

    Args:
        name: what the provider does.
        expected: the best end: the whole answer, or an error that the consumer sees.
        replies: to API requests with a live token, one after the other; then the usual answer.
        token_replies: the same for the token endpoint.
        prepare: called with the provider after the login.
        calls: how many times the consumer asks.
        together: ask all at once instead of one after the other.
        between: called with the provider between two calls.
        clients: so many clients share the login, as processes do; the calls go to them in turn.
        expired: the lifetime of the access token is over, and the stored login says so.
        rotated_elsewhere: between the calls another process refreshes; the store holds its credential.
        leaves: the consumer leaves: after this many words, or while the token is being refreshed.
        max_requests: to the API, for each call.
        max_token_requests: to the token endpoint, for all calls.
        rotate: whether the token endpoint rotates refresh tokens.
    """

    name: str
    expected: Literal["answer", "error", "nothing"]
    replies: Replies = ()
    token_replies: Replies = ()
    prepare: Callable[[FakeProvider], object] | None = None
    calls: int = 1
    together: bool = False
    between: Callable[[FakeProvider], object] | None = None
    clients: int = 1
    expired: bool = False
    rotated_elsewhere: bool = False
    leaves: int | Literal["refresh"] | None = None
    max_requests: int = 4
    max_token_requests: int = 0
    rotate: bool = True


def stale(name: str, *replies: Reply | None, **options: Any) -> Scenario:
    """The access token is dead before its time; the refresh token is alive."""
    usual: dict[str, Any] = {"expected": "answer", "max_token_requests": 1}
    return Scenario(name=name, replies=replies, **(usual | options))


def refused(name: str, reply: Reply) -> Scenario:
    """The provider refuses the token in a form of its own."""
    return stale(name, reply)


def passing(name: str, reply: Reply) -> Scenario:
    """A failure before the first word that passes."""
    return Scenario(name=name, expected="answer", replies=[reply])


def broken(name: str, reply: Reply) -> Scenario:
    """A failure behind some words."""
    return Scenario(name=name, expected="error", replies=[reply], max_requests=1)


def final(name: str, reply: Reply, requests: int = 2) -> Scenario:
    """A failure that neither a refresh nor time mends."""
    return Scenario(name=name, expected="error", replies=[reply] * 9, max_requests=requests)


def invalidate(fake: FakeProvider) -> None:
    fake.invalidate()


def revoke(fake: FakeProvider) -> None:
    fake.revoke()


def events_of(seen: SeenRequest) -> list[Any]:
    return [*(anthropic_events(ANSWER) if seen.path.endswith("/v1/messages") else openai_chunks(ANSWER))]


def thinking(seen: SeenRequest) -> list[Any]:
    """Open the stream, send pings for longer than both limits for silence, then answer."""
    opening, *rest = events_of(seen)
    return [opening, *[": ping\n\n", Pause(IDLE / 4)] * 10, *rest]


def pings_only(seen: SeenRequest) -> list[Any]:
    return [": ping\n\n", Pause(IDLE / 4)] * 80


def without_last_event(seen: SeenRequest) -> list[Any]:
    return events_of(seen)[:-1]


def whole(seen: SeenRequest) -> dict[str, Any]:
    """The answer as it comes to a request without `stream`."""
    if seen.path.endswith("/v1/messages"):
        content = [{"type": "text", "text": ANSWER}]
        usage = {"input_tokens": 1, "output_tokens": 1}
        rest = {"stop_reason": "end_turn", "stop_sequence": None, "usage": usage}
        return {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": content} | rest
    choice = {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
    return {"id": "m", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def after_prelude(word: str) -> Reply:
    return Reply.in_band_error(word, after=1)


def scenarios() -> Iterator[Scenario]:
    # A token that is refused, in every form.
    yield stale("401 as JSON", prepare=invalidate)
    yield refused("401 without a body", Reply(status=401, body=""))
    yield refused("401 in plain text", Reply(status=401, body="Unauthorized"))
    yield refused("401 as a web page", Reply.html("<!doctype html><h1>401 Unauthorized</h1>", status=401))
    yield refused("401 as an OAuth error", Reply(status=401, body={"error": "invalid_token"}))
    yield refused("401 in Kimi's words", Reply(status=401, message=KIMI))
    yield refused("401 after half a second", Reply.unauthorized(delay=0.5))
    yield refused("403 authentication_error", Reply(status=403, error="authentication_error"))
    yield refused("200, refused in-band as the first event", Reply.in_band_error("authentication_error", after=0))
    yield refused("200, refused in-band after the opening", after_prelude("authentication_error"))
    error = {"type": "error", "error": {"type": "authentication_error", "message": "token expired"}}
    yield refused("200 with a JSON error as the body", Reply(body=error))
    yield stale("401 for the second call", between=invalidate, calls=2)
    yield stale("401 for ten calls at once", prepare=invalidate, calls=10, together=True)
    yield stale("401 again after the refresh", *[Reply.unauthorized()] * 9, expected="error", max_token_requests=2)
    yield stale("expired by the clock", expired=True)
    yield stale("expired by the clock, ten calls at once", expired=True, calls=10, together=True)
    # The refresh.
    yield stale("a refresh that takes a second", prepare=invalidate, token_replies=[Reply(delay=1)])
    yield stale("token endpoint 503 once", prepare=invalidate, token_replies=[Reply(status=503)], max_token_requests=2)
    busy = [Reply.rate_limited(retry_after=1)]
    yield stale("token endpoint 429, wait 1 s", prepare=invalidate, token_replies=busy, max_token_requests=2)
    yield stale("no new refresh token", prepare=invalidate, rotate=False)
    yield stale("refreshed by another process", calls=2, rotated_elsewhere=True, max_token_requests=0)
    yield stale("401 for two processes at once", prepare=invalidate, calls=2, clients=2, together=True,
                token_replies=[Reply(delay=0.3)] * 2)  # fmt: skip
    yield stale("dead login", prepare=revoke, expected="error", max_token_requests=2)
    yield stale("dead login, asked five times", prepare=revoke, expected="error", calls=5, max_token_requests=2)
    yield stale("the consumer leaves during the refresh, asks again", prepare=invalidate, calls=2, leaves="refresh",
                token_replies=[Reply(delay=0.5)])  # fmt: skip
    yield stale("token endpoint says nothing", prepare=invalidate, token_replies=[Reply.hang()] * 5, expected="error",
                max_token_requests=5)  # fmt: skip
    # Failures before the first word that pass.
    yield passing("503 once", Reply(status=503))
    yield passing("529 once", Reply(status=529))
    yield passing("429, wait 1 s", Reply.rate_limited(retry_after=1))
    yield passing("overloaded in-band as the first event", Reply.in_band_error("overloaded_error", after=0))
    yield passing("overloaded in-band after the opening", after_prelude("overloaded_error"))
    yield passing("reset before the headers", Reply.reset())
    yield passing("cut after the headers", Reply.cut(at=0))
    yield passing("cut in the opening", Reply.cut(at=60))
    yield passing("silence before the headers", Reply.hang())
    yield passing("silence after the headers", Reply.hang(after=0))
    yield passing("silence after the opening", Reply.hang(after=1))
    yield passing("pings and nothing else", Reply(body=pings_only))
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
                   replies=[Reply(body=whole)])  # fmt: skip
    yield Scenario(name="307 to the same host", expected="answer", replies=[Reply.redirect("?moved")])
    yield Scenario(name="an answer without its last event", expected="answer", max_requests=1,
                   replies=[Reply(body=without_last_event)])  # fmt: skip
    yield Scenario(name="the consumer leaves before the first word", expected="nothing", leaves=0, max_requests=1,
                   replies=[Reply.hang()])  # fmt: skip
    yield Scenario(name="the consumer leaves after some words", expected="nothing", leaves=2, max_requests=1,
                   replies=[Reply.hang(after=LIVE)])  # fmt: skip


SCENARIOS = tuple(scenarios())
