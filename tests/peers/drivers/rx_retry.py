from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import reactivex as rx
from anthropic import AsyncAnthropic, AuthenticationError
from reactivex import Observable
from reactivex import operators as ops

from rxauth import from_async_iterable, to_async_iterable

from ..running import Ask, Login, Screen
from ..tokens import Tokens
from .anthropic_sdk import show_event

NAME = "ops.catch, ops.retry"
PACKAGES = ("reactivex", "anthropic")
WIRE = "messages"
SETUP = "RxPY over `AsyncAnthropic(max_retries=0)`: `ops.catch` refreshes after a 401 and starts again, `ops.retry(3)`"


@asynccontextmanager
async def connect(login: Login) -> AsyncIterator[Ask]:
    tokens = Tokens(login)
    timeout = httpx2.Timeout(login.first, read=login.idle)
    question: Any = [{"role": "user", "content": "Hi"}]
    async with AsyncAnthropic(auth_token="", base_url=login.base_url, timeout=timeout, max_retries=0) as client:

        async def events() -> Any:
            header = {"Authorization": f"Bearer {await tokens.get()}"}
            return await client.messages.create(
                model="m", max_tokens=999, messages=question, stream=True, extra_headers=header
            )

        async def events_after_a_refresh() -> Any:
            await tokens.credential(rejected=tokens.given_out)
            return await events()

        def refreshed(error: Exception, _: Observable[Any]) -> Observable[Any]:
            is_auth_error = isinstance(error, AuthenticationError)
            return from_async_iterable(events_after_a_refresh) if is_auth_error else rx.throw(error)

        stream = from_async_iterable(events).pipe(ops.catch(refreshed), ops.retry(3))

        async def ask(screen: Screen) -> None:
            async for event in to_async_iterable(stream):
                show_event(event, screen)

        yield ask
