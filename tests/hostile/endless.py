"""A server of bare bytes, for what no HTTP server would send."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable

SUCCESS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

Write = Callable[[bytes], Awaitable[None]]


def serving(talk: Callable[[Write], Awaitable[None]]) -> contextlib.AbstractAsyncContextManager[str]:
    """The URL of a server that answers each connection with what `talk` writes. A write waits for the reader."""
    return _serving(lambda _, write: talk(write))


def parroting(answer: Callable[[bytes], bytes]) -> contextlib.AbstractAsyncContextManager[str]:
    """The URL of a server that answers each request with what `answer` makes of it: head and body in one line."""

    async def talk(reader: asyncio.StreamReader, write: Write) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
        assert length is not None
        request = head + await reader.readexactly(int(length[1]))
        await write(answer(b" ".join(request.split(b"\r\n"))))

    return _serving(talk)


@contextlib.asynccontextmanager
async def _serving(talk: Callable[[asyncio.StreamReader, Write], Awaitable[None]]) -> AsyncIterator[str]:
    tasks: set[asyncio.Task[None]] = set()

    def come_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(answer(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def write(data: bytes) -> None:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0)

        try:
            with contextlib.suppress(ConnectionError):
                await talk(reader, write)
            writer.close()  # what was written is sent
            await writer.wait_closed()
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(come_in, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
