"""A refresh of one login in several files, against a token endpoint."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rxauth.credentials import Credential, FileStore, KimiCodeStore, LinkedStore, OAuthCredentials, PiStore
from rxauth.errors import CredentialRejected, LoginRequired
from tests.credentials.kinds import no_time
from tests.credentials.token_server import TokenServer


def access(credential: Credential | None) -> str | None:
    return None if credential is None else credential.access_token


async def test_a_refresh_writes_both_programs_files(server: TokenServer, tmp_path: Path) -> None:
    """And the login is found again where only one of them has the newest, whatever its file's usual endpoint."""
    pi, kimi = PiStore(tmp_path / "auth.json"), KimiCodeStore(tmp_path)
    old = server.credential()
    for store in (pi, kimi):
        await store.save(old)
    source = OAuthCredentials(LinkedStore([pi, kimi], token_url=server.url), token_url=server.url, client_id="app")
    new = await source.refresh(CredentialRejected("401", status=401, credential=old))
    assert new is not None
    assert [access(await store.load()) for store in (pi, kimi)] == [new.access_token] * 2
    (tmp_path / "auth.json").write_text(
        json.dumps({"kimi-coding": {"type": "oauth", "access": "dead", "refresh": "dead", "expires": 1}})
    )
    assert access(await source.current()) == new.access_token


async def test_a_dead_copy_costs_one_request_and_no_login(server: TokenServer, tmp_path: Path) -> None:
    own, other = FileStore(tmp_path / "a.json", "kimi"), FileStore(tmp_path / "b.json", "kimi")
    living, dead = server.credential(), Credential("dead", "dead")
    await own.save(dead)
    await other.save(living)
    source = OAuthCredentials(LinkedStore([own, other]), token_url=server.url, client_id="app", sleep=no_time)
    found = await source.refresh(CredentialRejected("401", status=401, credential=dead))
    assert access(found) == living.access_token
    assert (server.reused, await own.load()) == ([], dead)


async def test_all_copies_dead_asks_for_a_login(server: TokenServer, tmp_path: Path) -> None:
    stores = [FileStore(tmp_path / name, "kimi") for name in ("a.json", "b.json")]
    for number, store in enumerate(stores):
        await store.save(Credential(f"dead-{number}", f"dead-{number}"))
    source = OAuthCredentials(LinkedStore(stores), token_url=server.url, client_id="app", sleep=no_time)
    other = await source.refresh(CredentialRejected("401", status=401, credential=Credential("dead-0")))
    assert access(other) == "dead-1", "its access token may still be good"
    for _ in range(3):
        with pytest.raises(LoginRequired):
            await source.refresh(CredentialRejected("401", status=401, credential=other))
    assert len(server.requests) == 2


_PROCESS = """
import asyncio, sys
from pathlib import Path
from rxauth.credentials import FileStore, KimiCodeStore, LinkedStore, OAuthCredentials, PiStore
from rxauth.errors import CredentialRejected
url, at, order = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
kinds = {"f": FileStore(at / "own.json", "kimi"), "p": PiStore(at / "auth.json"), "k": KimiCodeStore(at)}
source = OAuthCredentials(LinkedStore([kinds[each] for each in order], token_url=url), token_url=url, client_id="app")
async def main():
    stored = await source.current()
    print("ready", flush=True)
    sys.stdin.readline()
    new = await source.refresh(CredentialRejected("401", status=401, credential=stored))
    print(new.access_token, flush=True)
asyncio.run(main())
"""


@pytest.mark.slow
def test_processes_in_any_order_make_one_token_request(server: TokenServer, tmp_path: Path) -> None:
    """Each lists the three stores in another order; none waits for another in a circle, and no token is used twice."""
    stores = FileStore(tmp_path / "own.json", "kimi"), PiStore(tmp_path / "auth.json"), KimiCodeStore(tmp_path)
    old = server.credential(expires_at=time.time() + 600, extra={"token_url": server.url})
    for store in stores:
        asyncio.run(store.save(old))
    orders = ["".join(order) for order in itertools.permutations("fpk")]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS, server.url, str(tmp_path), order], stdin=pipe, stdout=pipe, text=True
        )
        for order in orders
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    answers = [process.communicate("go\n", timeout=60)[0] for process in processes]
    assert set(answers) == {"access-2\n"}
    assert (len(server.requests), server.reused) == (1, [])
    assert [access(asyncio.run(store.load())) for store in stores] == ["access-2"] * 3
