from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from anthropic import APIConnectionError, AsyncAnthropic, AuthenticationError, InternalServerError, RateLimitError

from ..running import Ask, Login, Screen
from ..tokens import Tokens
from .anthropic_sdk import show_event

NAME = "async generator"
PACKAGES = ("anthropic",)
WIRE = "messages"
SETUP = "by hand over `AsyncAnthropic(max_retries=0)`: one refresh after a 401, 3 tries on 429, 5xx, lost connections"


@asynccontextmanager
async def connect(login: Login) -> AsyncIterator[Ask]:
    tokens = Tokens(login)
    timeout = httpx2.Timeout(login.first, read=login.idle)
    async with AsyncAnthropic(auth_token="", base_url=login.base_url, timeout=timeout, max_retries=0) as client:

        async def ask(screen: Screen) -> None:
            async for event in answer(client, tokens):
                show_event(event, screen)

        yield ask


async def answer(client: AsyncAnthropic, tokens: Tokens) -> AsyncIterator[Any]:
    question: Any = [{"role": "user", "content": "Hi"}]
    refreshed = False
    tries = 0
    while True:
        token = await tokens.get()
        header = {"Authorization": f"Bearer {token}"}
        try:
            events = await client.messages.create(
                model="m", max_tokens=999, messages=question, stream=True, extra_headers=header
            )
            async for event in events:
                yield event
            return
        except AuthenticationError:
            if refreshed:
                raise
            refreshed = True
            await tokens.credential(rejected=token)
        except (APIConnectionError, InternalServerError, RateLimitError):
            tries += 1
            if tries == 3:
                raise
