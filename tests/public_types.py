"""An element type that goes in at the source comes out of `pipe` and of `async for`.

mypy checks this file with the others, and test_public_types.py runs pyright on it. Nothing here is called.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, assert_type

from reactivex import Observable

from rxauth import (
    AssistantEvent,
    AssistantMessage,
    Credential,
    MemoryStore,
    OAuthCredentials,
    anthropic_messages,
    buffer_until_live,
    collect_message,
    flush_on_complete_or_error,
    from_async_iterable,
    openai_chat,
    recover_auth,
    retry_on_first_auth_error,
    suppress_empty_response,
    switch_if_never_live,
    to_async_iterable,
)


class Chunk:
    """An element of a stream that rxauth does not know."""

    type = "chunk"


async def chunks() -> AsyncIterator[Chunk]:
    yield Chunk()


async def refresh(failure: object) -> bool:
    return True


def an_sdk_stream_keeps_its_element_type() -> None:
    source = from_async_iterable(chunks)
    assert_type(source, Observable[Chunk])
    assert_type(source.pipe(recover_auth(refresh)), Observable[Chunk])
    steps = source.pipe(buffer_until_live(), retry_on_first_auth_error(refresh), flush_on_complete_or_error())
    assert_type(steps, Observable[Chunk])
    assert_type(source.pipe(buffer_until_live(), switch_if_never_live(source)), Observable[Chunk])


async def an_sdk_stream_comes_out_of_async_for() -> None:
    async for chunk in to_async_iterable(from_async_iterable(chunks).pipe(recover_auth(refresh))):
        assert_type(chunk, Chunk)


async def our_sources_emit_assistant_events() -> None:
    store = MemoryStore(Credential("a", refresh_token="r"))
    credentials = OAuthCredentials(store, token_url="https://example.com/token", client_id="app")
    request: dict[str, Any] = {}
    source = anthropic_messages(request, base_url="https://example.com", credentials=credentials)
    assert_type(source, Observable[AssistantEvent])
    assert_type(openai_chat(request, base_url="https://e.com", credentials=credentials), Observable[AssistantEvent])
    recovered = source.pipe(recover_auth(credentials.refresh), suppress_empty_response())
    assert_type(recovered, Observable[AssistantEvent])
    assert_type(recovered.pipe(collect_message()), Observable[AssistantMessage])
    assert_type(await credentials.current(), Credential)
    async for event in to_async_iterable(recovered):
        if event.type == "text_delta":
            assert_type(event.delta, str)
        elif event.type == "done":
            assert_type(event.message, AssistantMessage)
