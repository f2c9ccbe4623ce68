from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from langchain_openai import ChatOpenAI

from ..running import Ask, Login, Screen
from ..tokens import Tokens

NAME = "langchain-openai"
PACKAGES = ("langchain-openai", "openai")
WIRE = "chat"
SETUP = "`ChatOpenAI(api_key=provider).astream()`; `read` timeout; 2 retries"


@asynccontextmanager
async def connect(login: Login) -> AsyncIterator[Ask]:
    timeout = httpx2.Timeout(login.first, read=login.idle)
    model = ChatOpenAI(model="m", base_url=login.base_url, api_key=Tokens(login).get, timeout=timeout)

    async def ask(screen: Screen) -> None:
        opened = False
        async for chunk in model.astream("Hi"):
            if not opened:
                opened = True
                screen.start()
            screen.text(str(chunk.content))

    yield ask
