"""Run one scenario with one client, and record what its consumer and the provider see."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack, suppress

from rxauth import MemoryStore
from rxauth.testing import FakeProvider

from .drivers import Ask, Driver
from .login import Login
from .scenarios import ANSWER, Scenario
from .verdict import Result, Screen

LIMIT = 8.0
"""Seconds after which a call that has not ended counts as a hang."""


async def run(driver: Driver, scenario: Scenario) -> Result:
    with FakeProvider(
        answer=ANSWER, replies=scenario.replies, token_replies=scenario.token_replies, rotate=scenario.rotate
    ) as fake:
        login = Login(driver.base_url(fake.url), MemoryStore(fake.credential()), fake.token_url, fake.client_id)
        if scenario.prepare is not None:
            await scenario.prepare(fake, login)
        screens: list[Screen] = []
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(driver.connect(login)) for _ in range(scenario.clients)]
            asks = [clients[number % scenario.clients] for number in range(scenario.calls)]
            if scenario.together:
                screens = list(await asyncio.gather(*(call(ask, scenario, fake) for ask in asks)))
            else:
                for number, ask in enumerate(asks):
                    if number and scenario.between is not None:
                        await scenario.between(fake, login)
                    leaves = scenario.leaves != "refresh" or number == 0
                    screens.append(await call(ask, scenario, fake, leaves=leaves))
            left_open = scenario.leaves is not None and not await is_closed(fake)
            reused = spent_again(fake) if scenario.rotate else 0
            return Result(screens, len(fake.api_requests), len(fake.token_requests), reused, left_open)


def spent_again(fake: FakeProvider) -> int:
    """Count the requests with a refresh token that an earlier request has spent."""
    spent: set[str] = set()
    count = 0
    for each in fake.token_requests:
        [token] = each.form()["refresh_token"]
        count += token in spent
        if each.status == 200:
            spent.add(token)
    return count


async def call(ask: Ask, scenario: Scenario, fake: FakeProvider, *, leaves: bool = True) -> Screen:
    screen = Screen()

    async def shown() -> None:
        try:
            await ask(screen)
        except Exception as error:
            screen.error = type(error).__name__
        else:
            screen.ended = screen.error is None

    task = asyncio.ensure_future(shown())
    if scenario.leaves is not None and leaves:
        if scenario.leaves == "refresh":
            gone: Awaitable[None] = fake.until(lambda fake: bool(fake.token_requests) or bool(fake.api_requests[1:]))
        elif scenario.leaves == 0:
            gone = fake.until(lambda fake: bool(fake.api_requests))
        else:
            gone = screen.until_words(scenario.leaves)
        waiting = asyncio.ensure_future(gone)
        await asyncio.wait({task, waiting}, timeout=LIMIT, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
    else:
        await asyncio.wait({task}, timeout=LIMIT)
        screen.hung = not task.done()
    task.cancel()
    with suppress(BaseException):
        await asyncio.wait({task}, timeout=2)
    return screen


async def is_closed(fake: FakeProvider) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(fake.until(lambda fake: all(each.finished for each in fake.api_requests)), 2)
    return all(each.finished for each in fake.api_requests)
