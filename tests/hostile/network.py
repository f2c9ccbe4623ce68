"""Two TCP servers on loopback: a proxy that breaks each connection as a test says, and one that sends bare bytes.

Nothing here waits for a time. A delay is so many turns of the event loop; a stall lasts until one side closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

Kind: TypeAlias = Literal["none", "reset", "close", "half-close", "stall"]
Way: TypeAlias = Literal["up", "down"]
Talk: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Break one connection.

    Args:
        kind: `close` ends both directions; `half-close` ends the one it happens in and leaves the other open.
        way: `up` is from the client to the server.
        at: after so many bytes in that direction; no later byte gets through.
        chop: bytes per write, in both directions; `None`: as they come.
        delay: turns of the event loop before each write.
    """

    kind: Kind = "none"
    way: Way = "down"
    at: int = 0
    chop: int | None = None
    delay: int = 0


@dataclass
class Connection:
    """One connection: its fault, how many bytes passed, and whether an answer was passed on to its end."""

    fault: Fault
    struck: bool = False
    passed: dict[Way, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    answered: bool = False


class Proxy:
    """Pass connections on to a server; the first one suffers the first of `faults`, and so on; later ones none."""

    def __init__(self, url: str, faults: Iterable[Fault]) -> None:
        self._target = urlsplit(url)
        self._faults: Iterator[Fault] = iter(faults)
        self.url = ""
        self.connections: list[Connection] = []

    @property
    def struck(self) -> int:
        """Count the faults that have happened."""
        return sum(each.struck for each in self.connections)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(next(self._faults, Fault()))
        self.connections.append(connection)
        # Shielded: asyncio.open_connection that is cancelled forgets its socket.
        opening = asyncio.ensure_future(asyncio.open_connection(self._target.hostname, self._target.port))
        both: list[asyncio.Future[None]] = []
        try:
            there, back = await asyncio.shield(opening)
            both.append(asyncio.ensure_future(_pass_on(connection, "up", reader, back)))
            both.append(asyncio.ensure_future(_pass_on(connection, "down", there, writer)))
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if connection.struck and connection.fault.kind == "reset":
                _reset(writer)
                _reset(back)
            back.close()
            await back.wait_closed()
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            with contextlib.suppress(OSError):
                (await opening)[1].transport.abort()


async def _pass_on(
    connection: Connection, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Pass bytes on until one side closes or the fault strikes; the connection ends with it."""
    fault = connection.fault
    left = fault.at if fault.kind != "none" and fault.way == way else None
    while left != 0:
        data = await reader.read(fault.chop or 2**16)
        if not data:
            connection.answered = connection.answered or way == "down"
            return
        for _ in range(fault.delay):
            await asyncio.sleep(0)
        if left is not None:
            data = data[:left]
            left -= len(data)
        writer.write(data)
        await writer.drain()
        connection.passed[way] += len(data)
    connection.struck = True
    if fault.kind == "half-close":
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()
    if fault.kind in ("half-close", "stall"):
        while await reader.read(2**16):  # later bytes are dropped until their sender closes
            pass


def _reset(writer: asyncio.StreamWriter) -> None:
    # With a linger time of zero, closing a socket sends RST.
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def proxy(url: str, faults: Iterable[Fault] = ()) -> AsyncIterator[Proxy]:
    """Run a proxy in front of a URL."""
    server = Proxy(url, faults)
    async with serving(server.talk) as own_url:
        server.url = own_url + urlsplit(url).path
        yield server


@contextlib.asynccontextmanager
async def serving(talk: Talk) -> AsyncIterator[str]:
    """Run a server that lets `talk` have each connection, and yield its URL; at the end every connection is closed."""
    tasks: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                await talk(reader, writer)
            writer.close()  # what was written is sent
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    def come_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(answer(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(come_in, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for _ in range(5):  # a connection that was accepted before this is on its way in
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
