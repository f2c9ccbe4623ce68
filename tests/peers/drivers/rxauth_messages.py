from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from reactivex import Observable

from rxauth import (
    OAuthCredentials,
    anthropic_messages,
    buffer_until_live,
    flush_on_complete_or_error,
    limit_silence,
    openai_chat,
    retry_never_live,
    retry_on_first_auth_error,
    to_async_iterable,
)

from ..running import Ask, Login, Screen

NAME = "rxauth"
PACKAGES = ("rxauth",)
WIRE = "messages"
SETUP = "`anthropic_messages(pings=True)` with `OAuthCredentials`; its operators in the documented order"

REQUEST: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def messages(login: Login, credentials: OAuthCredentials) -> Observable[Any]:
    request = REQUEST | {"max_tokens": 999}
    return anthropic_messages(request, base_url=login.base_url, credentials=credentials, pings=True)


def chat(login: Login, credentials: OAuthCredentials) -> Observable[Any]:
    return openai_chat(REQUEST, base_url=login.base_url, credentials=credentials, pings=True)


@asynccontextmanager
async def connected(source: Callable[..., Observable[Any]], login: Login) -> AsyncIterator[Ask]:
    credentials = OAuthCredentials(login.store, token_url=login.token_url, client_id=login.client_id)
    stream = source(login, credentials).pipe(
        limit_silence(first=login.first, idle=login.idle),
        buffer_until_live(),
        retry_on_first_auth_error(credentials.refresh, timeout=login.first),
        retry_never_live(),
        flush_on_complete_or_error(),
    )

    async def ask(screen: Screen) -> None:
        async for event in to_async_iterable(stream):
            if event.type == "start":
                screen.start()
            elif event.type == "text_delta":
                screen.text(event.delta)
            elif event.type == "error":
                screen.fail(event.cause)

    yield ask


def connect(login: Login) -> Any:
    return connected(messages, login)
