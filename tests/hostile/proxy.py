"""A TCP proxy on loopback that breaks each connection as a test says.

Nothing here waits for a time. A delay is so many turns of the event loop; a stall lasts until one side closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias
from urllib.parse import urlsplit

Kind: TypeAlias = Literal["none", "reset", "close", "half-close", "stall"]
Way: TypeAlias = Literal["up", "down"]


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


UNHARMED = Fault()


class Connection:
    """One connection: its fault, and how many bytes passed."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.struck = False
        self.passed: dict[Way, int] = {"up": 0, "down": 0}
        self.answered = False  # the server has closed its end, and all of it was passed on

    def __repr__(self) -> str:
        return f"Connection({self.fault}, {self.passed}, {'struck' if self.struck else 'unharmed'})"


class Proxy:
    """Pass connections on to `url`; the first one suffers the first of `faults`, and so on; later ones none.

    Use it with `async with`. Leaving it ends every connection.
    """

    def __init__(self, url: str, faults: Iterable[Fault] = ()) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._path = parts.path
        self._faults: Iterator[Fault] = iter(faults)
        self._opening = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: list[Connection] = []

    @property
    def url(self) -> str:
        """The address for a client, in place of the real one."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{self._path}"

    @property
    def struck(self) -> int:
        """Count the faults that have happened."""
        return sum(each.struck for each in self.connections)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._come_in, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for _ in range(5):  # a connection that was accepted before this is on its way in
            await asyncio.sleep(0)
        while self._opening:  # asyncio.open_connection that is cancelled forgets its socket
            await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _come_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(next(self._faults, UNHARMED))
        self.connections.append(connection)
        self._opening += 1
        task = asyncio.get_running_loop().create_task(self._connect(connection, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        finally:
            self._opening -= 1
        both = [
            asyncio.create_task(self._pass_on(connection, "up", reader, back, writer)),
            asyncio.create_task(self._pass_on(connection, "down", there, writer, back)),
        ]
        try:
            await asyncio.gather(*both)
        except ConnectionError:
            pass
        finally:
            for each in both:
                each.cancel()
            back.close()
            writer.close()
            try:
                await asyncio.gather(*both, back.wait_closed(), writer.wait_closed(), return_exceptions=True)
            finally:
                # A side that does not read would keep it open.
                back.transport.abort()
                writer.transport.abort()

    async def _pass_on(
        self,
        connection: Connection,
        way: Way,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        other: asyncio.StreamWriter,
    ) -> None:
        fault = connection.fault
        left = fault.at if fault.kind != "none" and fault.way == way else None
        while left != 0:
            data = await reader.read(fault.chop or 2**16)
            if not data:
                connection.answered = connection.answered or way == "down"
                with contextlib.suppress(OSError, RuntimeError):
                    writer.write_eof()
                if way == "down":
                    raise ConnectionResetError  # an answer that is over is the end of the connection
                # A client that has closed: the server hears of it, and the answer has nowhere to go.
                raise ConnectionAbortedError
            for _ in range(fault.delay):
                await asyncio.sleep(0)
            if left is not None:
                data = data[:left]
                left -= len(data)
            writer.write(data)
            await writer.drain()
            connection.passed[way] += len(data)
        connection.struck = True
        match fault.kind:
            case "reset":
                for each in (writer, other):
                    _reset(each)
                raise ConnectionResetError
            case "close":
                raise ConnectionAbortedError
            case "half-close":
                with contextlib.suppress(OSError, RuntimeError):
                    writer.write_eof()
        # Later bytes are dropped until their sender closes.
        while await reader.read(2**16):
            pass
        raise ConnectionAbortedError


def _reset(writer: asyncio.StreamWriter) -> None:
    # With a linger time of zero, closing a socket sends RST.
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
