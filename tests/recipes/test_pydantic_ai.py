"""The operators on the event stream of a pydantic-ai agent: `event_kind` instead of `type`, exceptions of its own.

    source     #                          ModelAuthenticationError, whether it came with the status or after it
    refresh    --r|
    source       p-f-d--r|                p: part_start, f: final_result, d: part_delta, r: agent_run_result
    result     --p-f-d--r|

Nothing comes before the model has answered, so there is no prelude. A run is a whole conversation: after a tool call
the agent asks the model again, and by then something was shown. Let the SDK's client ask for the token each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from anthropic.lib.credentials import AccessToken
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from reactivex import Observable
from reactivex import operators as ops

from rxauth import CredentialSource, StaticCredentials, from_async_iterable, is_auth_error, recover_auth
from rxauth.testing import FakeProvider, Reply

from .dead_token import ANSWER, both_ways, every_refusal, everything, refused_once, refusing

pytestmark = pytest.mark.peer


def never(event: Any) -> bool:
    return False


def anthropic_model(url: str, credentials: CredentialSource) -> tuple[Any, Model]:
    async def token(*, force_refresh: bool = False) -> AccessToken:
        return AccessToken((await credentials.current()).access_token, expires_at=0)

    client = AsyncAnthropic(credentials=token, base_url=url, max_retries=0)
    return client, AnthropicModel("m", provider=AnthropicProvider(anthropic_client=client))


def openai_client(url: str, credentials: CredentialSource) -> AsyncOpenAI:
    async def token() -> str:
        return (await credentials.current()).access_token

    return AsyncOpenAI(api_key=token, base_url=url + "/v1", max_retries=0)


def chat_model(url: str, credentials: CredentialSource) -> tuple[Any, Model]:
    client = openai_client(url, credentials)
    return client, OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client))


def responses_model(url: str, credentials: CredentialSource) -> tuple[Any, Model]:
    client = openai_client(url, credentials)
    return client, OpenAIResponsesModel("m", provider=OpenAIProvider(openai_client=client))


every_model = pytest.mark.parametrize(
    "model_of", [anthropic_model, chat_model, responses_model], ids=["Anthropic", "Chat Completions", "Responses"]
)


def text_of(events: list[Any]) -> str:
    """What the parts began with, and what was added."""
    said = ""
    for event in events:
        if event.event_kind == "part_start":
            said += event.part.content
        elif event.event_kind == "part_delta":
            said += event.delta.content_delta
    return said


@both_ways
@every_refusal
@every_model
async def test_one_opening_all_the_text_and_one_end_after_two_requests_and_one_refresh(
    model_of: Callable[..., tuple[Any, Model]], refusal: str, recover: Any
) -> None:
    async with refusing(refusal) as (fake, credentials):
        client, model = model_of(fake.url, credentials)
        agent = Agent(model)
        async with client:
            stream = from_async_iterable(lambda: agent.run_stream_events("Hi"))
            events = await everything(stream.pipe(recover(credentials.refresh, is_prelude=never, is_error=never)))

        kinds = [event.event_kind for event in events]
        assert (kinds[0], kinds[-1]) == ("part_start", "agent_run_result")
        assert (kinds.count("part_start"), kinds.count("agent_run_result")) == (1, 1)
        assert text_of(events) == ANSWER
        assert events[-1].result.output == ANSWER
        refused_once(fake)


@every_refusal
async def test_an_opening_of_ones_own_is_shown_once(refusal: str) -> None:
    async with refusing(refusal) as (fake, credentials):
        client, model = anthropic_model(fake.url, credentials)
        agent = Agent(model)
        async with client:
            stream: Observable[Any] = from_async_iterable(lambda: agent.run_stream_events("Hi"))
            recovered = stream.pipe(
                ops.start_with("thinking..."),
                recover_auth(credentials.refresh, is_prelude=lambda event: isinstance(event, str), is_error=never),
            )
            events = await everything(recovered)
        assert events.count("thinking...") == 1
        assert (events[0], text_of(events[1:])) == ("thinking...", ANSWER)
        refused_once(fake)


@pytest.mark.parametrize(
    ("reply", "judged"),
    [
        pytest.param(Reply.unauthorized(), True, id="a 401 is an auth failure"),
        pytest.param(Reply.in_band_error("authentication_error"), True, id="one after the 200 is one, too"),
        pytest.param(Reply(status=403), False, id="a 403 is none, although its class is ModelAuthenticationError"),
        pytest.param(Reply(status=529), False, id="an overload is none"),
        pytest.param(
            Reply.unauthorized(message="Your current subscription does not have access to K3"), False,
            id="a 401 about a plan is none",
        ),
    ],
)  # fmt: skip
@every_model
async def test_its_exceptions_are_judged_as_they_are(
    model_of: Callable[..., tuple[Any, Model]], reply: Reply, judged: bool
) -> None:
    async with FakeProvider(replies=[reply]) as fake:
        client, model = model_of(fake.url, StaticCredentials(fake.credential()))
        agent = Agent(model)
        async with client:
            with pytest.raises(Exception) as raised:
                await everything(from_async_iterable(lambda: agent.run_stream_events("Hi")))
        assert is_auth_error(raised.value) is judged
