from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from anthropic import AccessToken, AsyncAnthropic

from ..running import Ask, Login, Screen
from ..tokens import Tokens

NAME = "anthropic"
PACKAGES = ("anthropic",)
WIRE = "messages"
SETUP = "`AsyncAnthropic(credentials=provider)`, which asks for a new token after a 401; `read` timeout; 2 retries"


@asynccontextmanager
async def connect(login: Login) -> AsyncIterator[Ask]:
    tokens = Tokens(login)

    async def provider(*, force_refresh: bool = False) -> AccessToken:
        credential = await tokens.credential(rejected=tokens.given_out if force_refresh else None)
        return AccessToken(credential.access_token, int(credential.expires_at or 0) or None)

    timeout = httpx2.Timeout(login.first, read=login.idle)
    async with AsyncAnthropic(credentials=provider, base_url=login.base_url, timeout=timeout) as client:

        async def ask(screen: Screen) -> None:
            await show(client, screen)

        yield ask


async def show(client: AsyncAnthropic, screen: Screen, **options: Any) -> None:
    question: Any = [{"role": "user", "content": "Hi"}]
    events = await client.messages.create(model="m", max_tokens=999, messages=question, stream=True, **options)
    async for event in events:
        show_event(event, screen)


def show_event(event: Any, screen: Screen) -> None:
    if event.type == "message_start":
        screen.start()
    elif event.type == "content_block_delta" and event.delta.type == "text_delta":
        screen.text(event.delta.text)
