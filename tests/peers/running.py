"""Run one scenario with one client, and record what its consumer and the provider see."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
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
                screens = list(await asyncio.gather(*(call(ask, fake) for ask in asks)))
            else:
                for number, ask in enumerate(asks):
                    if number and scenario.between is not None:
                        await scenario.between(fake, login)
                    screens.append(await call(ask, fake, None if number else scenario.leaves))
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


async def call(ask: Ask, fake: FakeProvider, leaves: Callable[..., Awaitable[None]] | None = None) -> Screen:
    screen = Screen()

    async def shown() -> None:
        try:
            await screen.show(ask())
        except Exception as error:
            screen.error = type(error).__name__
        else:
            screen.ended = True

    task = asyncio.ensure_future(shown())
    leaving = {asyncio.ensure_future(leaves(fake, screen))} if leaves is not None else set()
    await asyncio.wait({task, *leaving}, timeout=LIMIT, return_when=asyncio.FIRST_COMPLETED)
    screen.hung = not leaving and not task.done()
    for each in (task, *leaving):
        each.cancel()
    await asyncio.wait({task}, timeout=2)
    return screen


async def is_closed(fake: FakeProvider) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(fake.until(lambda fake: all(each.finished for each in fake.api_requests)), 2)
    return all(each.finished for each in fake.api_requests)
