"""The operators on streams of the `anthropic` package: its own events, its own exceptions, its own client.

    source     m--#                       m: message_start; #: an exception of the SDK that says authentication_error
    refresh       --r|
    source          m--a--b--|
    result     --------(ma)--b--|         one message_start

The SDK tells an error that comes after the 200 as an exception too, with `status_code` 200 and the body.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.lib.credentials import AccessToken
from reactivex import operators as ops

from rxauth import OAuthCredentials, from_async_iterable, is_auth_error, recover_auth
from rxauth.testing import FakeProvider, Gate, Reply

from .dead_token import ANSWER, both_ways, every_refusal, everything, refused_once, refusing

pytestmark = pytest.mark.peer

QUESTION: Any = {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}

Open: TypeAlias = Callable[[], Awaitable[Any]]
Refresh: TypeAlias = Callable[[Any], Awaitable[Any]]


def is_prelude(event: Any) -> bool:
    """The one event that Anthropic sends before there is an answer."""
    return bool(event.type == "message_start")


def text_of(events: list[Any]) -> str:
    return "".join(event.delta.text for event in events if event.type == "content_block_delta")


# Three ways to put a new token into a client that exists ------------------------------------------------------------


async def asks_for_each_request(url: str, credentials: OAuthCredentials) -> tuple[AsyncAnthropic, Open, Refresh]:
    """The client asks for the token before each request. `expires_at=0` tells it to keep none itself."""

    async def token(*, force_refresh: bool = False) -> AccessToken:
        return AccessToken((await credentials.current()).access_token, expires_at=0)

    client = AsyncAnthropic(credentials=token, base_url=url, max_retries=0)
    return client, lambda: client.messages.create(**QUESTION, stream=True), credentials.refresh


async def has_an_attribute(url: str, credentials: OAuthCredentials) -> tuple[AsyncAnthropic, Open, Refresh]:
    """The token is an attribute of the client, read for each request."""
    client = AsyncAnthropic(auth_token=(await credentials.current()).access_token, base_url=url, max_retries=0)

    async def refresh(failure: Any) -> Any:
        fresh = await credentials.refresh(failure)
        if fresh is not None:
            client.auth_token = fresh.access_token
        return fresh

    return client, lambda: client.messages.create(**QUESTION, stream=True), refresh


async def takes_a_header(url: str, credentials: OAuthCredentials) -> tuple[AsyncAnthropic, Open, Refresh]:
    """The token goes with the request, whatever the client was made with."""
    client = AsyncAnthropic(auth_token="replaced", base_url=url, max_retries=0)

    async def ask() -> Any:
        token = (await credentials.current()).access_token
        return await client.messages.create(**QUESTION, stream=True, extra_headers={"Authorization": f"Bearer {token}"})

    return client, ask, credentials.refresh


every_client = pytest.mark.parametrize("client_that", [asks_for_each_request, has_an_attribute, takes_a_header])


@both_ways
@every_refusal
@every_client
async def test_one_opening_all_the_text_and_one_end_after_two_requests_and_one_refresh(
    client_that: Any, refusal: str, recover: Any
) -> None:
    async with refusing(refusal) as (fake, credentials):
        client, ask, refresh = await client_that(fake.url, credentials)
        async with client:
            events = await everything(from_async_iterable(ask).pipe(recover(refresh, is_prelude=is_prelude)))

        types = [event.type for event in events]
        assert (types[0], types[-1]) == ("message_start", "message_stop")
        assert (types.count("message_start"), types.count("message_stop")) == (1, 1)
        assert text_of(events) == ANSWER
        refused_once(fake)


@every_refusal
async def test_the_helper_that_accumulates_is_an_async_context_manager_and_works_the_same(refusal: str) -> None:
    async with refusing(refusal) as (fake, credentials):
        client, _, _ = await asks_for_each_request(fake.url, credentials)
        async with client:
            stream = from_async_iterable(lambda: client.messages.stream(**QUESTION))
            events = await everything(stream.pipe(recover_auth(credentials.refresh, is_prelude=is_prelude)))

        assert [event.type for event in events].count("message_start") == 1
        assert "".join(event.text for event in events if event.type == "text") == ANSWER
        assert events[-1].message.content[0].text == ANSWER
        refused_once(fake)


async def test_a_refresh_in_vain_shows_the_sdks_own_exception() -> None:
    async with refusing("a 401") as (fake, credentials):
        fake.revoke()
        client, ask, refresh = await asks_for_each_request(fake.url, credentials)
        async with client:
            with pytest.raises(anthropic.AuthenticationError) as raised:
                await everything(from_async_iterable(ask).pipe(recover_auth(refresh, is_prelude=is_prelude)))
        assert "log in" in str(raised.value.__cause__).lower()
        assert len(fake.api_requests) == 1


async def test_nothing_is_asked_again_once_something_was_shown() -> None:
    late = Reply.in_band_error("authentication_error", after=5)
    async with FakeProvider(answer=ANSWER, api_keys=["key"], replies=[late]) as fake:
        seen: list[Any] = []
        async with AsyncAnthropic(auth_token="key", base_url=fake.url, max_retries=0) as client:
            stream = from_async_iterable(lambda: client.messages.create(**QUESTION, stream=True))
            recovered = stream.pipe(recover_auth(lambda _: True, is_prelude=is_prelude), ops.do_action(seen.append))
            with pytest.raises(anthropic.APIStatusError):
                await everything(recovered)
        assert text_of(seen) == "The whole"
        assert len(fake.api_requests) == 1


async def test_a_consumer_that_leaves_closes_the_connection() -> None:
    async with (
        FakeProvider(answer=ANSWER, api_keys=["key"], replies=[Reply.hang(Gate(), after=5)]) as fake,
        AsyncAnthropic(auth_token="key", base_url=fake.url, max_retries=0) as client,
    ):
        stream = from_async_iterable(lambda: client.messages.create(**QUESTION, stream=True))
        first = stream.pipe(recover_auth(lambda failure: True, is_prelude=is_prelude), ops.take(4))
        assert len(await everything(first)) == 4
        await fake.served()
        assert fake.api_requests[0].client_closed


# What its exceptions say ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "judged"),
    [
        pytest.param(Reply.unauthorized(), True, id="a 401 is an auth failure"),
        pytest.param(Reply.in_band_error("authentication_error"), True, id="one after the 200 is one, too"),
        pytest.param(Reply(status=403), False, id="a 403 is none"),
        pytest.param(Reply.rate_limited(), False, id="a rate limit is none"),
        pytest.param(Reply(status=529), False, id="an overload is none"),
        pytest.param(Reply.in_band_error("overloaded_error"), False, id="an overload after the 200 is none"),
        pytest.param(Reply.in_band_error("permission_error"), False, id="a permission that is missing is none"),
        pytest.param(
            Reply.unauthorized(message="Your current subscription does not have access to K3"), False,
            id="a 401 about a plan is none",
        ),
        pytest.param(Reply.html(status=401), True, id="a 401 with a page of HTML is one"),
        pytest.param(Reply.cut(), False, id="a connection that is closed is none"),
    ],
)  # fmt: skip
async def test_its_exceptions_are_judged_as_they_are(reply: Reply, judged: bool) -> None:
    async with FakeProvider(api_keys=["key"], replies=[reply]) as fake:
        async with AsyncAnthropic(auth_token="key", base_url=fake.url, max_retries=0) as client:
            with pytest.raises(anthropic.APIError) as raised:
                await everything(from_async_iterable(lambda: client.messages.create(**QUESTION, stream=True)))
        assert is_auth_error(raised.value) is judged
