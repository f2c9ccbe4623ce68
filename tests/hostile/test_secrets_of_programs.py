"""No program prints a token: neither one that crashes nor the command line."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rxauth import Credential, FileStore
from rxauth.testing import FakeProvider, Reply, SeenRequest
from tests.cli.running import CommandLine
from tests.hostile.test_secrets import ACCESS, REFRESH, SECRET, scene, seen_in

CRASH = """
import asyncio, logging, sys
logging.basicConfig(level=logging.DEBUG)
from rxauth import FileStore, OAuthCredentials, anthropic_messages, recover_auth, to_async_iterable
url, token_url, path, how = sys.argv[1:]

class Crash(Exception):
    pass

async def main():
    asyncio.get_running_loop().set_debug(True)
    credentials = OAuthCredentials(FileStore(path, "key"), token_url=token_url, client_id="app")
    stream = anthropic_messages({"model": "m", "messages": []}, base_url=url, credentials=credentials)
    async for event in to_async_iterable(stream.pipe(recover_auth(credentials.refresh))):
        if event.type == "error":
            raise Crash(event) from event.cause
        if how == "abort":
            import os
            os.abort()
        raise Crash(event, credentials, await credentials.current())

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["an exception", "abort", "an error"])
def test_a_program_that_crashes_shows_no_token(tmp_path: Path, how: str) -> None:
    replies = [Reply(status=401, body=echoing)] if how == "an error" else []
    with FakeProvider(api_keys=[ACCESS], replies=replies) as fake:
        path = tmp_path / "auth.json"
        asyncio.run(FileStore(path, "key").save(Credential(ACCESS, refresh_token=REFRESH)))
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-X", "dev", "-c", CRASH, fake.url, fake.token_url, path, how],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode != 0
    assert ("Fatal Python error" if how == "abort" else "Crash") in done.stderr
    assert seen_in(done.stdout + done.stderr) == []


def echoing(seen: SeenRequest) -> dict[str, Any]:
    return {"error": {"type": "authentication_error", "message": f"{seen.token} and {REFRESH} are bad"}}


COMMANDS: dict[str, list[str]] = {
    "an answer": ["stream", "hi"],
    "an answer in JSON": ["stream", "hi", "--json"],
    "status": ["status"],
    "status in JSON": ["status", "--json"],
    "a login where there is none": ["login", "anthropic"],
    "a logout": ["logout", "kimi"],
}


@pytest.mark.parametrize("args", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("refused", [False, True], ids=["accepted", "refused with an echo"])
def test_the_command_line_prints_no_token(tmp_path: Path, args: list[str], refused: bool) -> None:
    replies = [scene("401 in JSON", "as it is")[0][0]] if refused else []
    keys = {"KIMI_API_KEY": ACCESS, "ANTHROPIC_API_KEY": SECRET, "OPENAI_API_KEY": REFRESH, "RXAUTH_TOKEN": ACCESS}
    with FakeProvider(api_keys=[ACCESS], replies=replies) as fake:
        more = ["--base-url", fake.url] if args[0] == "stream" else []
        done = CommandLine(tmp_path)(*args, *more, env=keys)
    assert seen_in(done.out + done.err) == []
    assert done.out + done.err
