"""A real redis-server for the tests of RedisStore, and a proxy in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis import Redis

from rxauth.credentials import RedisStore


class RedisServer:
    """A real redis-server, on a socket in a temporary directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"unix://{directory}/s"
        self.client = Redis.from_url(self.url, decode_responses=True)
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", "0", "--unixsocket", "s", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen([*command, "--logfile", "log"], cwd=self.directory)
        for _ in range(1000):
            with contextlib.suppress(OSError, Exception):
                self.client.ping()
                return
            threading.Event().wait(0.005)
        raise AssertionError("redis-server does not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    @property
    def lock(self) -> object:
        """Who holds the lock of the key `kimi`."""
        return self.client.get("{kimi}:lock")

    def lock_ends_in(self) -> int:
        """Return the milliseconds until it expires."""
        return int(self.client.pttl("{kimi}:lock"))

    def expire_lock(self) -> None:
        """As if its time to live had passed."""
        self.client.delete("{kimi}:lock")


def store_on(server: RedisServer, **options: Any) -> RedisStore:
    return RedisStore(server.url, "kimi", **options)


class Signs:
    """A `sleep` that ends when the test lets it, and shows when it is called."""

    def __init__(self) -> None:
        self.called = asyncio.Queue[float]()
        self.go = asyncio.Semaphore(0)

    async def __call__(self, seconds: float) -> None:
        self.called.put_nowait(seconds)
        await self.go.acquire()


class Proxy:
    """Between a store and the server: can keep answers back, or lose one.

    `held` keeps back what the server says on connections that are made while it is set; `lose` names a command whose
    next answer is lost with its connection, after the server has done what it says.
    """

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.url = f"unix://{server.directory}/p"
        self.held: asyncio.Event | None = None
        self.lose: bytes | None = None
        self.lost = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held = self.held
        from_server, to_server = await asyncio.open_unix_connection(f"{self.server.directory}/s")
        losing = False

        async def forth() -> None:
            nonlocal losing
            while data := await reader.read(65536):
                losing = losing or (self.lose is not None and self.lose in data)
                to_server.write(data)
            to_server.close()

        async def back() -> None:
            while data := await from_server.read(65536):
                if held is not None:
                    await held.wait()
                if losing:
                    self.lose = None
                    self.lost += 1
                    break
                writer.write(data)
            writer.close()

        with contextlib.suppress(ConnectionError):
            await asyncio.gather(forth(), back())

    async def __aenter__(self) -> Proxy:
        self.listener = await asyncio.start_unix_server(self.handle, f"{self.server.directory}/p")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listener.close()
        await self.listener.wait_closed()


async def soon(condition: Callable[[], bool]) -> None:
    """Let the loop run until it is so."""
    while not condition():
        await asyncio.sleep(0)
