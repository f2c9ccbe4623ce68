"""How each package is asked with a token, and what its provider answers to a stale one and to a fresh one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rxauth import presets
from rxauth.testing import anthropic_events, openai_chunks
from tests.peers_needed import package

from .answers import Answer, aws_event_stream, ndjson, refused, sse

Token: TypeAlias = Callable[[], str]
Open: TypeAlias = Callable[[str, Token], Callable[[], Any]]

MESSAGES: Any = [{"role": "user", "content": "hi"}]
CHAT: Any = {"model": "m", "messages": MESSAGES, "stream": True}
QUESTION: Any = CHAT | {"max_tokens": 99}
ASKED: Any = {"model": "m", "messages": MESSAGES, "max_tokens": 99}
RESPOND: Any = {"model": "m", "input": "hi", "stream": True}
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # litellm asks a server on the net when it is imported


@dataclass(frozen=True)
class Recipe:
    """A package's stream, the forms in which a stale token is refused, an answer, and options of `recover_auth`."""

    open: Open
    refusals: Mapping[str, Answer]
    answer: Answer
    options: Mapping[str, Any] = field(default_factory=dict)


# The official SDKs, and pydantic-ai on top of them


def anthropic_client(url: str, token: Token) -> Any:
    module, credentials = package("anthropic"), package("anthropic.lib.credentials")

    async def provider(*, force_refresh: bool = False) -> Any:
        return credentials.AccessToken(token(), expires_at=0)  # which tells the client to keep none itself

    return module.AsyncAnthropic(credentials=provider, base_url=url, max_retries=0)


def openai_client(url: str, token: Token) -> Any:
    async def provider() -> str:
        return token()

    return package("openai").AsyncOpenAI(api_key=provider, base_url=f"{url}/v1", max_retries=0)


def asked(client: Callable[[str, Token], Any], ask: Callable[[Any], Any]) -> Open:
    """Make one client, which gets its token for each request."""

    def open(url: str, token: Token) -> Callable[[], Any]:
        made = client(url, token)
        return lambda: ask(made)

    return open


def anthropic_attribute(url: str, token: Token) -> Callable[[], Any]:
    client = package("anthropic").AsyncAnthropic(auth_token=token(), base_url=url, max_retries=0)

    def stream() -> Any:
        client.auth_token = token()  # read for each request, as openai's `api_key` is
        return client.messages.create(**QUESTION)

    return stream


def openai_header(url: str, token: Token) -> Callable[[], Any]:
    client = package("openai").AsyncOpenAI(api_key="replaced", base_url=f"{url}/v1", max_retries=0)
    return lambda: client.chat.completions.create(**CHAT, extra_headers={"Authorization": f"Bearer {token()}"})


def pydantic_ai(provider: str, client: Callable[[str, Token], Any]) -> Open:
    def ask(made: Any) -> Any:
        models, providers = package(f"pydantic_ai.models.{provider}"), package(f"pydantic_ai.providers.{provider}")
        if provider == "anthropic":
            model = models.AnthropicModel("m", provider=providers.AnthropicProvider(anthropic_client=made))
        else:
            model = models.OpenAIChatModel("m", provider=providers.OpenAIProvider(openai_client=made))
        return package("pydantic_ai").Agent(model).run_stream_events("hi")

    return asked(client, ask)


# Other packages


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
    return lambda: module.AsyncClient(host=url, headers={"Authorization": f"Bearer {token()}"}).chat(**CHAT)


def huggingface_hub(url: str, token: Token) -> Callable[[], Any]:
    module = package("huggingface_hub")
    return lambda: module.AsyncInferenceClient(base_url=url, api_key=token()).chat_completion(**CHAT)


def litellm(url: str, token: Token) -> Callable[[], Any]:
    options = CHAT | {"model": "openai/m", "api_base": f"{url}/v1", "max_retries": 0}
    return lambda: package("litellm").acompletion(api_key=token(), **options)


def langchain(url: str, token: Token) -> Any:
    options = {"model": "m", "base_url": f"{url}/v1", "max_retries": 0, "stream_usage": False}
    return package("langchain_openai").ChatOpenAI(api_key=token(), **options)


def langchain_astream(url: str, token: Token) -> Callable[[], Any]:
    return lambda: langchain(url, token).astream("hi")


def langchain_astream_events(url: str, token: Token) -> Callable[[], Any]:
    return lambda: langchain(url, token).astream_events("hi", version="v2")


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


# The bytes of the providers


def only(status: int, body: Any, **headers: str) -> dict[str, Answer]:
    return {f"a {status}": refused(status, body, **headers)}


def forms(body: Any, opening: Any, error: Any) -> dict[str, Answer]:
    """A 401, an error in place of the answer, and one after the opening."""
    return only(401, body) | {"in-band": sse(error), "after the opening": sse(opening, error)}


ANTHROPIC_ERROR = {"type": "error", "error": {"type": "authentication_error", "message": "OAuth token expired"}}
ANTHROPIC_EVENTS = anthropic_events("Hello you")
ANTHROPIC: Any = (forms(ANTHROPIC_ERROR, ANTHROPIC_EVENTS[0], ANTHROPIC_ERROR), sse(*ANTHROPIC_EVENTS))

OPENAI_ERROR = {"error": {"message": "Incorrect API key provided", "type": "authentication_error", "code": None}}
OPENAI_401 = only(401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}})
CHUNKS = openai_chunks("Hello you")
ANSWER = sse(*CHUNKS)
OPENAI: Any = (forms(OPENAI_ERROR, CHUNKS[0], OPENAI_ERROR), ANSWER, presets.OPENAI_CHAT)

RESPONSE = {"id": "r", "object": "response", "created_at": 1, "model": "m", "output": [], "tools": []}
CREATED = {"type": "response.created", "sequence_number": 0, "response": RESPONSE | {"status": "in_progress"}}
DELTA = {"type": "response.output_text.delta", "sequence_number": 1, "delta": "Hello", "item_id": "i"}
COMPLETED = {"type": "response.completed", "sequence_number": 2, "response": RESPONSE | {"status": "completed"}}
RESPONSES_ERROR = {"type": "error", "code": "invalid_api_key", "message": "OAuth token expired", "param": None}
RESPONSES_FORMS = forms(OPENAI_ERROR, CREATED, RESPONSES_ERROR)
RESPONSES: Any = (RESPONSES_FORMS, sse(CREATED, DELTA, COMPLETED), presets.OPENAI_RESPONSES)

GEMINI = sse(*({"candidates": [{"content": {"parts": [{"text": each}], "role": "model"}}]} for each in ("Hel", "lo")))
API_KEY_INVALID = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "x"}
INVALID_KEY = {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"}
GEMINI_400 = only(400, {"error": INVALID_KEY | {"details": [API_KEY_INVALID]}})
GEMINI_401 = only(401, {"error": {"code": 401, "message": "Bad credentials.", "status": "UNAUTHENTICATED"}})

COHERE = sse(
    {"type": "message-start", "id": "x", "delta": {"message": {"role": "assistant", "content": []}}},
    {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hello"}}}},
    {"type": "content-end", "index": 0},
    {"type": "message-end", "id": "x", "delta": {"finish_reason": "COMPLETE"}},
)
OLLAMA = ndjson(*({"model": "m", "message": {"role": "assistant", "content": each}} for each in ("Hel", "lo")))
EXPIRED = {"message": "The security token included in the request is expired"}
AWS_403 = only(403, EXPIRED, **{"x-amzn-ErrorType": "ExpiredTokenException:http://internal.amazon.com/coral/"})
AWS = aws_event_stream(
    [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"delta": {"text": "Hello"}, "contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
    ]
)

RECIPES = {
    "anthropic, create": Recipe(asked(anthropic_client, lambda client: client.messages.create(**QUESTION)), *ANTHROPIC),
    "anthropic, stream": Recipe(asked(anthropic_client, lambda client: client.messages.stream(**ASKED)), *ANTHROPIC),
    "openai, Chat Completions": Recipe(asked(openai_client, lambda at: at.chat.completions.create(**CHAT)), *OPENAI),
    "openai, Responses": Recipe(asked(openai_client, lambda at: at.responses.create(**RESPOND)), *RESPONSES),
    "pydantic-ai, Anthropic": Recipe(pydantic_ai("anthropic", anthropic_client), *ANTHROPIC),
    "pydantic-ai, OpenAI": Recipe(pydantic_ai("openai", openai_client), *OPENAI[:2]),
    "anthropic, through auth_token": Recipe(anthropic_attribute, *ANTHROPIC),
    "openai, through a header": Recipe(openai_header, *OPENAI),
    "google-genai, an invalid key": Recipe(google_genai, GEMINI_400, GEMINI),
    "google-genai, an expired OAuth token": Recipe(google_genai, GEMINI_401, GEMINI),
    "mistralai": Recipe(mistralai, only(401, {"message": "Unauthorized"}), ANSWER),
    "cohere": Recipe(cohere, only(401, {"id": "x", "message": "invalid api token"}), COHERE),
    "ollama": Recipe(ollama, only(401, {"error": "unauthorized"}), OLLAMA),
    "huggingface_hub": Recipe(huggingface_hub, only(401, {"error": "Invalid username or password."}), ANSWER),
    "litellm": Recipe(litellm, OPENAI_401, ANSWER),
    "langchain-openai, astream": Recipe(langchain_astream, OPENAI_401, ANSWER),
    "langchain-openai, astream_events": Recipe(langchain_astream_events, OPENAI_401, ANSWER),
    "openai-agents": Recipe(openai_agents, OPENAI_401, ANSWER),
    "Bedrock, converse_stream": Recipe(bedrock, AWS_403, AWS),
}
