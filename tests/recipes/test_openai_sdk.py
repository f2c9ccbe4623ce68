"""The operators on streams of the `openai` package: Chat Completions and Responses.

    source     c--e                       c: a first chunk, or response.created; e: `error` or `response.failed`
    refresh       --r|
    source          c--a--b--|
    result     --------(ca)--b--|         one opening

Chat Completions has no events with a type: its predicates look at the chunks, and every failure is an exception. One
that comes after the 200 has no status, only a code. Responses tells failures as events, `error` and `response.failed`;
the server's other shape of `error`, with the details inside, the SDK throws.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import openai
import pytest
from openai import AsyncOpenAI
from reactivex import operators as ops

from rxauth import LoginRequired, OAuthCredentials, from_async_iterable, is_auth_error, recover_auth
from rxauth.testing import FakeProvider, Gate, Reply, openai_response_events

from .dead_token import ANSWER, both_ways, every_refusal, everything, refused_once, refusing

pytestmark = pytest.mark.peer

Refresh: TypeAlias = Callable[[Any], Awaitable[Any]]


def never(event: Any) -> bool:
    return False


def says_nothing(chunk: Any) -> bool:
    """The first chunk of Chat Completions names the role, and nothing more."""
    return not any(choice.delta.content or choice.delta.tool_calls or choice.finish_reason for choice in chunk.choices)


def is_response_prelude(event: Any) -> bool:
    """What Responses sends before there is an answer."""
    return event.type in {"response.created", "response.queued", "response.in_progress"}


def is_response_error(event: Any) -> bool:
    return event.type in {"error", "response.failed"}


@dataclass(frozen=True)
class Api:
    """One of the two: how to ask, the predicates, and what to look at."""

    ask: Callable[..., Awaitable[Any]]
    predicates: dict[str, Any]
    text: Callable[[list[Any]], str]
    opening: Callable[[Any], bool]
    end: Callable[[Any], bool]


CHAT = Api(
    ask=lambda client, **rest: client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hi"}], stream=True, **rest
    ),
    predicates={"is_prelude": says_nothing, "is_error": never},
    text=lambda chunks: "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
    opening=lambda chunk: bool(chunk.choices[0].delta.role),
    end=lambda chunk: bool(chunk.choices[0].finish_reason),
)

RESPONSES = Api(
    ask=lambda client, **rest: client.responses.create(model="m", input="Hi", stream=True, **rest),
    predicates={"is_prelude": is_response_prelude, "is_error": is_response_error},
    text=lambda events: "".join(event.delta for event in events if event.type == "response.output_text.delta"),
    opening=lambda event: bool(event.type == "response.created"),
    end=lambda event: bool(event.type == "response.completed"),
)

both_apis = pytest.mark.parametrize("api", [CHAT, RESPONSES], ids=["Chat Completions", "Responses"])


# Three ways to put a new token into a client that exists ------------------------------------------------------------


async def asks_for_each_request(
    url: str, credentials: OAuthCredentials
) -> tuple[AsyncOpenAI, Callable[[Api], Awaitable[Any]], Refresh]:
    """`api_key` may be a coroutine function: the client asks it before each request."""

    async def token() -> str:
        return (await credentials.current()).access_token

    client = AsyncOpenAI(api_key=token, base_url=url, max_retries=0)
    return client, lambda api: api.ask(client), credentials.refresh


async def has_an_attribute(
    url: str, credentials: OAuthCredentials
) -> tuple[AsyncOpenAI, Callable[[Api], Awaitable[Any]], Refresh]:
    """The key is an attribute of the client, read for each request."""
    client = AsyncOpenAI(api_key=(await credentials.current()).access_token, base_url=url, max_retries=0)

    async def refresh(failure: Any) -> Any:
        fresh = await credentials.refresh(failure)
        if fresh is not None:
            client.api_key = fresh.access_token
        return fresh

    return client, lambda api: api.ask(client), refresh


async def takes_a_header(
    url: str, credentials: OAuthCredentials
) -> tuple[AsyncOpenAI, Callable[[Api], Awaitable[Any]], Refresh]:
    """The token goes with the request, whatever the client was made with."""
    client = AsyncOpenAI(api_key="replaced", base_url=url, max_retries=0)

    async def ask(api: Api) -> Any:
        token = (await credentials.current()).access_token
        return await api.ask(client, extra_headers={"Authorization": f"Bearer {token}"})

    return client, ask, credentials.refresh


every_client = pytest.mark.parametrize("client_that", [asks_for_each_request, has_an_attribute, takes_a_header])


@both_ways
@every_refusal
@every_client
@both_apis
async def test_one_opening_all_the_text_and_one_end_after_two_requests_and_one_refresh(
    api: Api, client_that: Any, refusal: str, recover: Any
) -> None:
    async with refusing(refusal) as (fake, credentials):
        client, ask, refresh = await client_that(fake.url + "/v1", credentials)
        async with client:
            events = await everything(from_async_iterable(lambda: ask(api)).pipe(recover(refresh, **api.predicates)))

        assert [api.opening(event) for event in events].count(True) == 1
        assert api.opening(events[0])
        assert [api.end(event) for event in events].count(True) == 1
        assert api.end(events[-1])
        assert api.text(events) == ANSWER
        refused_once(fake)


@both_ways
async def test_a_response_that_fails_for_its_key_is_asked_for_once_more(recover: Any) -> None:
    opening, *_, failed = openai_response_events("", failed="invalid_api_key")
    async with FakeProvider(answer=ANSWER, replies=[Reply(body=[opening, failed])], api_keys=["key"]) as fake:
        async with AsyncOpenAI(api_key="key", base_url=fake.url + "/v1", max_retries=0) as client:
            stream = from_async_iterable(lambda: RESPONSES.ask(client))
            events = await everything(stream.pipe(recover(lambda failure: True, **RESPONSES.predicates)))
        assert RESPONSES.text(events) == ANSWER
        assert [event.type for event in events].count("response.created") == 1


@both_ways
@pytest.mark.parametrize("code", ["server_error", "rate_limit_exceeded"])
async def test_a_response_that_fails_for_another_reason_is_shown_with_its_opening(recover: Any, code: str) -> None:
    opening, *_, failed = openai_response_events("", failed=code)
    refreshed: list[Any] = []
    async with FakeProvider(replies=[Reply(body=[opening, failed])], api_keys=["key"]) as fake:
        async with AsyncOpenAI(api_key="key", base_url=fake.url + "/v1", max_retries=0) as client:
            stream = from_async_iterable(lambda: RESPONSES.ask(client))
            events = await everything(stream.pipe(recover(refreshed.append, **RESPONSES.predicates)))
        assert [event.type for event in events] == ["response.created", "response.failed"]
        assert events[1].response.error.code == code
        assert (refreshed, len(fake.api_requests)) == ([], 1)


@both_apis
async def test_a_refresh_in_vain_shows_the_sdks_own_exception(api: Api) -> None:
    async with refusing("a 401") as (fake, credentials):
        fake.revoke()
        client, ask, refresh = await asks_for_each_request(fake.url + "/v1", credentials)
        async with client:
            with pytest.raises(openai.AuthenticationError) as raised:
                await everything(from_async_iterable(lambda: ask(api)).pipe(recover_auth(refresh, **api.predicates)))
        assert isinstance(raised.value.__cause__, LoginRequired)
        assert len(fake.api_requests) == 1


@both_apis
async def test_a_login_that_is_missing_is_told_as_it_is_and_asks_nobody(api: Api) -> None:
    async with FakeProvider() as fake:
        async with AsyncOpenAI(api_key=no_login, base_url=fake.url + "/v1", max_retries=0) as client:
            stream = from_async_iterable(lambda: api.ask(client))
            with pytest.raises(LoginRequired):
                await everything(stream.pipe(recover_auth(lambda failure: True, **api.predicates)))
        assert fake.requests == []


async def no_login() -> str:
    raise LoginRequired("Log in first.")


@both_apis
async def test_a_consumer_that_leaves_closes_the_connection(api: Api) -> None:
    async with (
        FakeProvider(answer=ANSWER, api_keys=["key"], replies=[Reply.hang(Gate(), after=6)]) as fake,
        AsyncOpenAI(api_key="key", base_url=fake.url + "/v1", max_retries=0) as client,
    ):
        stream = from_async_iterable(lambda: api.ask(client))
        first = stream.pipe(recover_auth(lambda failure: True, **api.predicates), ops.take(4))
        assert len(await everything(first)) == 4
        await fake.served()
        assert fake.api_requests[0].client_closed


# What its exceptions and events say ----------------------------------------------------------------------------------

NESTED = {"type": "error", "sequence_number": 0, "error": {"type": "invalid_request_error", "code": "invalid_api_key"}}


@both_apis
@pytest.mark.parametrize(
    ("reply", "judged"),
    [
        pytest.param(Reply.unauthorized(), True, id="a 401 is an auth failure"),
        pytest.param(Reply.in_band_error("authentication_error", after=0), True, id="one after the 200 is one, too"),
        pytest.param(Reply(body=[NESTED]), True, id="so it is with the details inside"),
        pytest.param(Reply(body=[{"error": {"code": 401, "message": "no"}}]), True, id="a code 401 is one"),
        pytest.param(Reply(status=403), False, id="a 403 is none"),
        pytest.param(Reply.rate_limited(), False, id="a rate limit is none"),
        pytest.param(Reply.rate_limited(error="insufficient_quota"), False, id="a quota that is used up is none"),
        pytest.param(Reply(status=503), False, id="an overload is none"),
        pytest.param(Reply.in_band_error("rate_limit_exceeded", after=0), False, id="a rate limit in-band is none"),
        pytest.param(
            Reply.unauthorized(message="current plan supports only kimi-k3 up to 256k context"), False,
            id="a 401 about a plan is none",
        ),
        pytest.param(Reply.html(status=401), True, id="a 401 with a page of HTML is one"),
        pytest.param(Reply.cut(), False, id="a connection that is closed is none"),
    ],
)  # fmt: skip
async def test_its_failures_are_judged_as_they_are(api: Api, reply: Reply, judged: bool) -> None:
    async with (
        FakeProvider(api_keys=["key"], replies=[reply]) as fake,
        AsyncOpenAI(api_key="key", base_url=fake.url + "/v1", max_retries=0) as client,
    ):
        try:
            (failure,) = await everything(from_async_iterable(lambda: api.ask(client)))
        except openai.APIError as error:
            failure = error
        assert is_auth_error(failure) is judged
