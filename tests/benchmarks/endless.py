"""Prints how many bytes an event of a long stream leaves behind in a whole client: `endless URL EVENTS`.

The text is not counted: `done` brings it once more.
"""

from __future__ import annotations

import asyncio
import sys

from rxauth import AssistantEvent

from .clients import recovering
from .memory import resident
from .provider import Provider


async def main(url: str, events: int) -> None:
    ended = asyncio.get_running_loop().create_future()
    seen = text = 0
    before, text_before = 0, 0

    def consumer(event: AssistantEvent) -> None:
        nonlocal seen, text, before, text_before
        if event.type == "text_delta":
            seen += 1
            text += len(event.delta)
            if seen == events // 10:
                before, text_before = resident(), text
            elif seen == events:
                ended.set_result((resident() - before - (text - text_before)) / (events - events // 10))

    base_url = Provider(url).answers(events)
    subscription = recovering(base_url).subscribe(consumer, ended.set_exception)
    print(await ended)
    subscription.dispose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
