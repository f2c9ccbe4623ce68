from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from openai import AsyncOpenAI

from ..running import Ask, Login, Screen
from ..tokens import Tokens

NAME = "openai"
PACKAGES = ("openai",)
WIRE = "chat"
SETUP = (
    "`AsyncOpenAI(api_key=provider)`, which is asked before each request (its retry after a 401 is for workload "
    "identities); `read` timeout; 2 retries"
)


def client_of(login: Login) -> AsyncOpenAI:
    timeout = httpx2.Timeout(login.first, read=login.idle)
    return AsyncOpenAI(api_key=Tokens(login).get, base_url=login.base_url, timeout=timeout)


@asynccontextmanager
async def connect(login: Login) -> AsyncIterator[Ask]:
    async with client_of(login) as client:

        async def ask(screen: Screen) -> None:
            question: Any = [{"role": "user", "content": "Hi"}]
            chunks = await client.chat.completions.create(model="m", messages=question, stream=True)
            await show(chunks, screen)

        yield ask


async def show(chunks: Any, screen: Screen) -> None:
    """Show the chunks of a stream; the first one opens the message."""
    opened = False
    async for chunk in chunks:
        if not opened:
            opened = True
            screen.start()
        for choice in chunk.choices:
            screen.text(choice.delta.content or "")
