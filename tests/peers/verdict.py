"""The screen of a consumer, and the rule of README.md that every cell of the table is judged by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from .scenarios import ANSWER, Scenario


@dataclass
class Screen:
    """The consumer of one call: the texts of the messages that were opened, how the call ended, and the error shown."""

    messages: list[str] = field(default_factory=list)
    error: str | None = None
    ended: bool = False
    hung: bool = False
    asked_at: float = field(default_factory=time.monotonic)
    first_word: float | None = None
    words: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def show(self, pieces: AsyncIterator[str | None]) -> None:
        async for piece in pieces:
            if piece is None:
                self.messages.append("")
            elif piece:
                if self.first_word is None:
                    self.first_word = time.monotonic() - self.asked_at
                self.messages[-1:] = ["".join([*self.messages[-1:], piece])]
                self.words += 1
                self.changed.set()

    async def until_words(self, count: int) -> None:
        while self.words < count:
            self.changed.clear()
            await self.changed.wait()


@dataclass(frozen=True)
class Result:
    """Hold what the consumer and the provider saw."""

    screens: list[Screen]
    requests: int
    token_requests: int
    reused: int
    left_open: bool

    @property
    def first_word(self) -> float | None:
        return self.screens[-1].first_word


def faults(scenario: Scenario, result: Result) -> list[str]:
    """Name what went wrong, each kind once; nothing if the cell is right."""
    found: list[str] = []
    for number, screen in enumerate(result.screens):
        expected = "nothing" if scenario.leaves is not None and number == 0 else scenario.expected
        text = "".join(screen.messages)
        if screen.hung:
            found.append("hang")
        if "" in screen.messages[:-1]:
            found.append("phantom")
        if not ANSWER.startswith(text) or sum(map(bool, screen.messages)) > 1:
            found.append("twice")
        elif expected != "nothing" and screen.ended and text != ANSWER:
            found.append("unnoticed")
        elif expected == "answer" and screen.error is not None:
            found.append("error")
    if result.reused:
        found.append("reuse")
    if result.token_requests > scenario.max_token_requests:
        found.append(f"{result.token_requests} refreshes")
    if result.requests > scenario.max_requests * scenario.calls:
        found.append(f"{result.requests} requests")
    if result.left_open:
        found.append("open")
    return list(dict.fromkeys(found))
