from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rxauth.credentials._credential import Credential
from rxauth.credentials._store import CredentialStore
from rxauth.credentials._stores._kimi import KimiCliStore
from rxauth.errors import StoreError

LOGIN = {
    "access_token": "access-1",
    "refresh_token": "refresh-1",
    "expires_at": 1700000000.25,
    "scope": "kimi-code",
    "token_type": "Bearer",
    "expires_in": 900.0,
    "later": [1],
}
NEW = Credential("access-2", "refresh-2", 1800000000, scope="kimi-code", extra={"expires_in": 600})

# How kimi-cli takes its lock, and reads and writes its file, with the operating system's calls alone.
_PEER = """
import fcntl, json, os, sys
from pathlib import Path
directory = Path(sys.argv[1])
path, lock = directory / "kimi-code.json", directory / "kimi-code.lock"
held = None
print("ready", flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == "lock":
        held = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            print("locked", flush=True)
        except OSError:
            os.close(held)
            print("refused", flush=True)
    elif word == "release":
        os.close(held)
        print("released", flush=True)
    elif word == "read":
        print(json.dumps(json.loads(path.read_text(encoding="utf-8"))), flush=True)
    elif word.startswith("count"):
        for _ in range(int(word[5:])):
            held = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(held, fcntl.LOCK_EX)
            login = json.loads(path.read_text(encoding="utf-8"))
            login["later"][0] += 1
            path.with_suffix(".new").write_text(json.dumps(login))
            os.replace(path.with_suffix(".new"), path)
            os.close(held)
        print("counted", flush=True)
"""


class Peer:
    """Another process with kimi-cli's lock protocol."""

    def __init__(self, share: Path) -> None:
        command = [sys.executable, "-c", _PEER, str(share / "credentials")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.answer() == "ready"

    def tell(self, word: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def ask(self, word: str) -> str:
        self.tell(word)
        return self.answer()


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """kimi-cli's directory, with a login."""
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "kimi-code.json").write_text(json.dumps(LOGIN))
    return tmp_path


@pytest.fixture
def start_peer(share: Path) -> Iterator[Callable[[], Peer]]:
    peers: list[Peer] = []

    def start() -> Peer:
        peers.append(Peer(share))
        return peers[-1]

    yield start
    for peer in peers:
        peer.process.kill()
        peer.process.communicate()


@pytest.fixture
def peer(start_peer: Callable[[], Peer]) -> Peer:
    return start_peer()


def login_in(share: Path) -> object:
    return json.loads((share / "credentials" / "kimi-code.json").read_bytes())


async def no_time(seconds: float) -> None:
    await asyncio.sleep(0)


def test_the_file_is_where_kimi_cli_keeps_it_unless_told_otherwise() -> None:
    ann = {"HOME": "/home/ann"}
    assert KimiCliStore(environ=ann).describe() == "/home/ann/.kimi/credentials/kimi-code.json"
    assert KimiCliStore(environ=ann | {"KIMI_SHARE_DIR": "/k"}).describe() == "/k/credentials/kimi-code.json"
    assert KimiCliStore("/s", environ=ann | {"KIMI_SHARE_DIR": "/k"}).describe() == "/s/credentials/kimi-code.json"
    assert KimiCliStore("~/s").describe() == str(Path.home() / "s/credentials/kimi-code.json")


async def test_a_login_is_read_written_with_unknown_fields_kept_and_deleted(share: Path, peer: Peer) -> None:
    store = KimiCliStore(share)
    assert isinstance(store, CredentialStore)
    assert await store.load() == Credential(
        "access-1",
        "refresh-1",
        1700000000.25,
        scope="kimi-code",
        extra={"expires_in": 900, "later": [1], "token_url": "https://auth.kimi.com/api/oauth/token"},
    )
    await store.save(NEW)
    expected = {"access_token": "access-2", "refresh_token": "refresh-2", "expires_at": 1800000000, "expires_in": 600}
    assert json.loads(peer.ask("read")) == LOGIN | expected
    assert await store.delete() is True
    assert await store.load() is None
    assert sorted(path.name for path in (share / "credentials").iterdir()) == ["kimi-code.lock"]


async def test_kimi_cli_is_refused_while_we_hold_the_lock_and_gets_it_afterwards(share: Path, peer: Peer) -> None:
    async with KimiCliStore(share).locked():
        assert peer.ask("lock") == "refused"
    assert peer.ask("lock") == "locked"


async def test_we_wait_while_kimi_cli_holds_the_lock(share: Path, peer: Peer) -> None:
    assert peer.ask("lock") == "locked"
    looks = 0

    async def look(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 5:
            assert peer.ask("release") == "released"

    async with KimiCliStore(share, sleep=look).locked():
        assert looks == 5


async def test_a_killed_kimi_cli_frees_the_lock_at_once(share: Path, peer: Peer) -> None:
    assert peer.ask("lock") == "locked"
    peer.process.kill()
    peer.process.wait()
    await KimiCliStore(share).save(NEW)


async def test_nothing_is_lost_when_processes_threads_and_tasks_write_at_once(
    share: Path, start_peer: Callable[[], Peer]
) -> None:
    """Each reads a number and writes the next one, under the lock; every lost update would be missing."""
    times = 20
    peers = [start_peer(), start_peer()]
    for each in peers:
        each.tell(f"count {times}")

    store = KimiCliStore(share, sleep=lambda seconds: asyncio.sleep(0.001))

    async def count() -> None:
        for _ in range(times):
            async with store.locked():
                loaded = await store.load()
                assert loaded is not None
                await store.save(Credential("a", extra={"later": [loaded.extra["later"][0] + 1]}))

    threads = [threading.Thread(target=lambda: asyncio.run(count())) for _ in range(2)]
    for thread in threads:
        thread.start()
    await asyncio.gather(count(), count())
    for thread in threads:
        await asyncio.to_thread(thread.join)
    for each in peers:
        assert await asyncio.to_thread(each.answer) == "counted"
    loaded = await store.load()
    assert loaded is not None
    assert loaded.extra["later"] == [1 + 6 * times]


async def test_a_holder_that_is_cancelled_lets_go(share: Path, peer: Peer) -> None:
    store = KimiCliStore(share)

    async def hold() -> None:
        async with store.locked():
            await asyncio.Event().wait()

    for turns in range(4):
        task = asyncio.create_task(hold())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert peer.ask("lock") == "locked"
        assert peer.ask("release") == "released"


@pytest.mark.parametrize("again", [False, True], ids=["removed", "removed and made again"])
async def test_a_lock_file_that_somebody_removed_lets_nothing_be_saved(share: Path, again: bool) -> None:
    store, lock = KimiCliStore(share), share / "credentials" / "kimi-code.lock"
    async with store.locked():
        lock.unlink()
        if again:
            lock.touch()
        for attempt in (store.save(NEW), store.delete()):
            with pytest.raises(StoreError, match="lost"):
                await attempt
    assert login_in(share) == LOGIN


async def test_the_lock_file_stays_because_a_lock_on_a_removed_one_excludes_nobody(share: Path) -> None:
    lock = share / "credentials" / "kimi-code.lock"
    async with KimiCliStore(share).locked():
        number = lock.stat().st_ino
    async with KimiCliStore(share).locked():
        assert lock.stat().st_ino == number


async def test_a_lock_that_can_never_be_had_is_an_error(share: Path) -> None:
    (share / "credentials" / "kimi-code.lock").mkdir()
    with pytest.raises(StoreError, match="cannot be had"):
        await KimiCliStore(share).save(NEW)
