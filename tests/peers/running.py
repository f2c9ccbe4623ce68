"""Run one scenario with one client, and record what its consumer and the provider see."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import aiohttp

from rxauth.credentials import Credential, MemoryStore
from rxauth.testing import FakeProvider

from .scenarios import ANSWER, FIRST, IDLE, Scenario

LIMIT = 8.0
"""Seconds after which a call that has not ended counts as a hang."""

Wire: TypeAlias = Literal["messages", "chat"]


@dataclass
class Message:
    """A message on the consumer's screen."""

    text: str = ""
    open: bool = True


@dataclass
class Screen:
    """The consumer of one call: messages as they open, grow and end, and the error that is shown."""

    messages: list[Message] = field(default_factory=list)
    error: str | None = None
    ended: bool = False
    hung: bool = False
    asked_at: float = field(default_factory=time.monotonic)
    first_word: float | None = None
    words: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self) -> None:
        """Open a message."""
        self.messages.append(Message())

    def text(self, delta: str) -> None:
        """Show a piece of text."""
        if not delta:
            return
        if self.first_word is None:
            self.first_word = time.monotonic() - self.asked_at
        if not self.messages:
            self.start()
        self.messages[-1].text += delta
        self.words += 1
        self.changed.set()

    def end(self) -> None:
        """End the message: the answer is complete."""
        self.ended = True
        if self.messages:
            self.messages[-1].open = False

    def fail(self, error: BaseException) -> None:
        """Show an error, which ends the message."""
        self.error = type(error).__name__
        if self.messages:
            self.messages[-1].open = False

    async def until_words(self, count: int) -> None:
        while self.words < count:
            self.changed.clear()
            await self.changed.wait()


@dataclass(frozen=True)
class Login:
    """All that a client needs: a base URL, a stored login, and where to refresh it."""

    base_url: str
    store: MemoryStore
    token_url: str
    client_id: str
    first: float = FIRST
    idle: float = IDLE


Ask: TypeAlias = Callable[[Screen], Awaitable[None]]


class Driver(Protocol):
    """A client with its recommended set-up."""

    NAME: str
    PACKAGES: tuple[str, ...]
    WIRE: Wire
    SETUP: str

    def connect(self, login: Login) -> AbstractAsyncContextManager[Ask]:
        """Make the client; the function that it gives asks once and shows the answer on a screen."""


@dataclass(frozen=True)
class Result:
    """What the consumer and the provider saw."""

    screens: list[Screen]
    requests: int
    token_requests: int
    reused: int
    left_open: bool

    @property
    def first_word(self) -> float | None:
        return self.screens[-1].first_word


async def run(driver: Driver, scenario: Scenario) -> Result:
    with FakeProvider(
        answer=ANSWER, replies=scenario.replies, token_replies=scenario.token_replies, rotate=scenario.rotate
    ) as fake:
        login = Login(
            fake.url if driver.WIRE == "messages" else fake.url + "/v1",
            MemoryStore(fake.credential()),
            fake.token_url,
            fake.client_id,
        )
        if scenario.expired:
            await expire(login)
            fake.invalidate()
        if scenario.prepare is not None:
            scenario.prepare(fake)
        screens: list[Screen] = []
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(driver.connect(login)) for _ in range(scenario.clients)]
            asks = [clients[number % scenario.clients] for number in range(scenario.calls)]
            if scenario.together:
                screens = list(await asyncio.gather(*(call(ask, scenario, fake) for ask in asks)))
            else:
                for number, ask in enumerate(asks):
                    if number and scenario.between is not None:
                        scenario.between(fake)
                    if number and scenario.rotated_elsewhere:
                        fake.invalidate()
                        await refresh_elsewhere(login)
                    leaves = scenario.leaves != "refresh" or number == 0
                    screens.append(await call(ask, scenario, fake, leaves=leaves))
            left_open = scenario.leaves is not None and not await is_closed(fake)
            return Result(
                screens,
                len(fake.api_requests),
                len(fake.token_requests),
                spent_again(fake) if scenario.rotate else 0,
                left_open,
            )


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
            screen.fail(error)
        else:
            if screen.error is None:
                screen.end()

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


async def expire(login: Login) -> None:
    stored = await login.store.load()
    assert stored is not None
    await login.store.save(Credential(stored.access_token, stored.refresh_token, time.time() - 1))


async def refresh_elsewhere(login: Login) -> None:
    """Another process refreshes the login and stores it."""
    stored = await login.store.load()
    assert stored is not None
    form = {"grant_type": "refresh_token", "refresh_token": stored.refresh_token, "client_id": login.client_id}
    async with aiohttp.ClientSession() as session, session.post(login.token_url, data=form) as response:
        answer = await response.json()
    await login.store.save(
        Credential(answer["access_token"], answer["refresh_token"], time.time() + answer["expires_in"])
    )
