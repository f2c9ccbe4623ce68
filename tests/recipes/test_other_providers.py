"""The operators on the streams of other packages, each against a server that refuses a token as its provider does.

    source     o--#                       o: the package's first events, if it has some before the answer
    refresh       --r|
    source          o--a--b--|
    result     --------(oa)--b--|         one answer, with the defaults of recover_auth

`tests/recipes/README.md` lists what each package needs, and its trap.
"""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from rxauth import from_async_iterable, recover_auth, to_async_iterable
from tests.peers_needed import package

from .foreign_server import FRESH, STALE, Answer, aws_event_stream, foreign_server, ndjson, refused, sse

pytestmark = pytest.mark.peer

Token = Callable[[], str]
MESSAGES: Any = [{"role": "user", "content": "hi"}]
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # litellm asks a server on the net when it is imported


@dataclass(frozen=True)
class Recipe:
    """How a package is asked with a token, and what its provider answers to a stale and to a fresh one."""

    open: Callable[[str, Token], Callable[[], Any]]
    refusal: Answer
    answer: Answer
    text: Callable[[Any], str]
    options: dict[str, Any] = field(default_factory=dict)


def chat_chunk(delta: Any, finish: str | None = None) -> Any:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


CHAT = sse(
    chat_chunk({"role": "assistant", "content": ""}),
    chat_chunk({"content": "Hel"}),
    chat_chunk({"content": "lo"}),
    chat_chunk({}, "stop"),
    done=True,
)
OPENAI_REFUSAL = refused(401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}})


def text_of_a_chat_chunk(event: Any) -> str:
    return "".join(choice.delta.content or "" for choice in event.choices)


def google_genai(url: str, token: Token) -> Callable[[], Any]:
    genai = package("google.genai")

    def stream() -> Any:
        client = genai.Client(api_key=token(), http_options={"base_url": url})
        return client.aio.models.generate_content_stream(model="gemini-2.5-flash", contents="hi")

    return stream


def mistralai(url: str, token: Token) -> Callable[[], Any]:
    client = package("mistralai.client")
    return lambda: client.Mistral(api_key=token(), server_url=url).chat.stream_async(model="m", messages=MESSAGES)


def cohere(url: str, token: Token) -> Callable[[], Any]:
    module = package("cohere")
    return lambda: module.AsyncClientV2(api_key=token(), base_url=url).chat_stream(model="m", messages=MESSAGES)


def ollama(url: str, token: Token) -> Callable[[], Any]:
    module = package("ollama")

    def stream() -> Any:
        client = module.AsyncClient(host=url, headers={"Authorization": f"Bearer {token()}"})
        return client.chat(model="m", messages=MESSAGES, stream=True)

    return stream


def huggingface_hub(url: str, token: Token) -> Callable[[], Any]:
    module = package("huggingface_hub")

    def stream() -> Any:
        client = module.AsyncInferenceClient(base_url=url, api_key=token())
        return client.chat_completion(model="m", messages=MESSAGES, stream=True)

    return stream


def litellm(url: str, token: Token) -> Callable[[], Any]:
    module = package("litellm")
    options = {"model": "openai/m", "api_base": f"{url}/v1", "messages": MESSAGES, "stream": True, "max_retries": 0}
    return lambda: module.acompletion(api_key=token(), **options)


def langchain_model(url: str, token: Token) -> Any:
    options = {"model": "m", "base_url": f"{url}/v1", "max_retries": 0, "stream_usage": False}
    return package("langchain_openai").ChatOpenAI(api_key=token(), **options)


def langchain_astream(url: str, token: Token) -> Callable[[], Any]:
    return lambda: langchain_model(url, token).astream("hi")


def langchain_astream_events(url: str, token: Token) -> Callable[[], Any]:
    return lambda: langchain_model(url, token).astream_events("hi", version="v2")


def openai_agents(url: str, token: Token) -> Callable[[], Any]:
    agents, openai = package("agents"), package("openai")
    agents.set_tracing_disabled(True)

    def stream() -> Any:
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=token(), max_retries=0)
        model = agents.OpenAIChatCompletionsModel(model="m", openai_client=client)
        return agents.Runner.run_streamed(agents.Agent(name="agent", model=model), "hi").stream_events()

    return stream


def bedrock(url: str, token: Token) -> Callable[[], Any]:
    session = package("aiobotocore.session").get_session()

    @asynccontextmanager
    async def stream() -> Any:
        keys = {"aws_access_key_id": "id", "aws_secret_access_key": "secret", "aws_session_token": token()}
        async with session.create_client("bedrock-runtime", "us-east-1", endpoint_url=url, **keys) as client:
            question = [{"role": "user", "content": [{"text": "hi"}]}]
            yield (await client.converse_stream(modelId="m", messages=question))["stream"]

    return stream


RECIPES = {
    "google-genai, an invalid key": Recipe(
        google_genai,
        refused(
            400,
            {
                "error": {
                    "code": 400,
                    "message": "API key not valid. Please pass a valid API key.",
                    "status": "INVALID_ARGUMENT",
                    "details": [
                        {
                            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                            "reason": "API_KEY_INVALID",
                            "domain": "x",
                        }
                    ],
                }
            },
        ),
        sse(*({"candidates": [{"content": {"parts": [{"text": each}], "role": "model"}}]} for each in ("Hel", "lo"))),
        lambda event: str(event.text),
    ),
    "google-genai, an expired OAuth token": Recipe(
        google_genai,
        refused(401, {"error": {"code": 401, "message": "Bad credentials.", "status": "UNAUTHENTICATED"}}),
        sse({"candidates": [{"content": {"parts": [{"text": "Hello"}], "role": "model"}}]}),
        lambda event: str(event.text),
    ),
    "mistralai": Recipe(
        mistralai, refused(401, {"message": "Unauthorized"}), CHAT, lambda event: text_of_a_chat_chunk(event.data)
    ),
    "cohere": Recipe(
        cohere,
        refused(401, {"id": "x", "message": "invalid api token"}),
        sse(
            {"type": "message-start", "id": "x", "delta": {"message": {"role": "assistant", "content": []}}},
            {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
            {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hel"}}}},
            {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "lo"}}}},
            {"type": "content-end", "index": 0},
            {"type": "message-end", "id": "x", "delta": {"finish_reason": "COMPLETE"}},
        ),
        lambda event: str(event.delta.message.content.text) if event.type == "content-delta" else "",
    ),
    "ollama": Recipe(
        ollama,
        refused(401, {"error": "unauthorized"}),
        ndjson(
            *(
                {"model": "m", "message": {"role": "assistant", "content": each}, "done": not each}
                for each in ("Hel", "lo", "")
            )
        ),
        lambda event: str(event.message.content),
    ),
    "huggingface_hub": Recipe(
        huggingface_hub, refused(401, {"error": "Invalid username or password."}), CHAT, text_of_a_chat_chunk
    ),
    "litellm": Recipe(litellm, OPENAI_REFUSAL, CHAT, text_of_a_chat_chunk),
    "langchain-openai, astream": Recipe(langchain_astream, OPENAI_REFUSAL, CHAT, lambda event: str(event.content)),
    "langchain-openai, astream_events": Recipe(
        langchain_astream_events,
        OPENAI_REFUSAL,
        CHAT,
        lambda event: str(event["data"]["chunk"].content) if event["event"] == "on_chat_model_stream" else "",
    ),
    "openai-agents": Recipe(
        openai_agents,
        OPENAI_REFUSAL,
        CHAT,
        lambda event: (
            str(event.data.delta)
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
            else ""
        ),
    ),
    "Bedrock, converse_stream": Recipe(
        bedrock,
        refused(
            403,
            {"message": "The security token included in the request is expired"},
            **{"x-amzn-ErrorType": "ExpiredTokenException:http://internal.amazon.com/coral/"},
        ),
        aws_event_stream(
            [
                ("messageStart", {"role": "assistant"}),
                ("contentBlockDelta", {"delta": {"text": "Hel"}, "contentBlockIndex": 0}),
                ("contentBlockDelta", {"delta": {"text": "lo"}, "contentBlockIndex": 0}),
                ("messageStop", {"stopReason": "end_turn"}),
            ]
        ),
        lambda event: str(event.get("contentBlockDelta", {}).get("delta", {}).get("text", "")),
    ),
}


@pytest.fixture(autouse=True)
def no_warnings_of_the_packages() -> Iterator[None]:
    """Ignore deprecations, and the connections that a client leaves open which was made for one request."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()


async def answered(recipe: Recipe, url: str, *, refreshed: bool) -> tuple[list[Any], list[Any]]:
    """Return the events of one stream through recover_auth, and the failures that were refreshed for."""
    tokens, failures = [STALE], []

    def refresh(failure: Any) -> bool:
        failures.append(failure)
        tokens.append(FRESH)
        return refreshed

    source = from_async_iterable(recipe.open(url, lambda: tokens[-1]))
    recovered = source.pipe(recover_auth(refresh, **recipe.options))
    return [event async for event in to_async_iterable(recovered)], failures


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
async def test_a_stale_token_costs_one_refresh(recipe: Recipe) -> None:
    async with foreign_server(recipe.refusal, recipe.answer) as server:
        events, failures = await answered(recipe, server.url, refreshed=True)
        assert "".join(map(recipe.text, events)) == "Hello"
        assert (server.accepted, len(failures)) == ([False, True], 1)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
async def test_a_failed_refresh_raises_the_own_exception(recipe: Recipe) -> None:
    async with foreign_server(recipe.refusal, recipe.answer) as server:
        with pytest.raises(Exception) as raised:  # each package has its own
            await answered(recipe, server.url, refreshed=False)
        assert not type(raised.value).__module__.startswith("rxauth")
        assert server.accepted == [False]
