"""One process of `test_one_login.py`: five clients that share a login, in a loop until a line on stdin says stop.

    python -m tests.recipes.one_login_worker FILE API_URL TOKEN_URL CLIENT_ID MCP_URL

It prints `ready` once the packages are imported, and a line for each call: the client, and `ok` or the exception.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import anthropic
import httpx2
import mcp
import openai
from mcp.client.streamable_http import streamable_http_client

from rxauth import FileStore, OAuthCredentials, aiohttp_middleware, httpx_auth

MESSAGES: Any = [{"role": "user", "content": "hi"}]
QUESTION: Any = {"model": "m", "max_tokens": 9, "messages": MESSAGES}


async def main(path: str, url: str, token_url: str, client_id: str, mcp_url: str) -> None:
    print("ready", flush=True)
    credentials = OAuthCredentials(FileStore(path, url), token_url=token_url, client_id=client_id)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(middlewares=[aiohttp_middleware(credentials)], raise_for_status=True)
        )
        http_client = await stack.enter_async_context(httpx2.AsyncClient(auth=httpx_auth(credentials), timeout=60))
        options: Any = {"http_client": http_client, "max_retries": 0}
        chat = openai.AsyncOpenAI(api_key="unused", base_url=f"{url}/v1", **options)
        claude = anthropic.AsyncAnthropic(auth_token="unused", base_url=url, **options)
        read, write, *_ = await stack.enter_async_context(streamable_http_client(mcp_url, http_client=http_client))
        tools = await stack.enter_async_context(mcp.ClientSession(read, write))
        await tools.initialize()

        async def by_aiohttp() -> None:
            async with session.post(f"{url}/v1/messages", json=QUESTION) as response:
                await response.read()

        async def by_command() -> None:
            """Ask for a token as a program does that runs a command to get one; on a refusal, say so and ask again."""
            rejected: list[str] = []
            async with aiohttp.ClientSession() as plain:
                for _ in range(3):  # a token may be revoked between the command and the request
                    token = await printed(url, "--credentials", path, *rejected)
                    headers = {"Authorization": f"Bearer {token}"}
                    async with plain.post(f"{url}/v1/messages", json=QUESTION, headers=headers) as response:
                        if response.status == 200:
                            return
                        rejected = ["--rejected"]
            raise RuntimeError("three tokens in a row were refused")

        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "aiohttp": by_aiohttp,
            "openai": lambda: chat.chat.completions.create(model="m", messages=MESSAGES),
            "anthropic": lambda: claude.messages.create(**QUESTION),
            "mcp": lambda: tools.call_tool("shout", {"word": "hello"}),
            "rxauth token": by_command,
        }
        stop = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        while not stop.done():
            await asyncio.gather(*(report(name, call) for name, call in calls.items()))


async def report(name: str, call: Callable[[], Awaitable[Any]]) -> None:
    try:
        await call()
    except Exception as error:
        print(f"{name}\t{type(error).__name__}: {error}".replace("\n", " "), flush=True)
    else:
        print(f"{name}\tok", flush=True)


async def printed(*arguments: str) -> str:
    command = [sys.executable, "-m", "rxauth", "token", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"rxauth token exited with {process.returncode}")
    return output.decode().strip()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
