from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rxauth.credentials._credential import Credential
from rxauth.credentials._store import CredentialStore
from rxauth.credentials._stores._kimi import KimiCodeStore
from rxauth.errors import StoreError

if TYPE_CHECKING:
    from tests.credentials.conftest import NodePeer

LOGIN = {
    "access_token": "access-1",
    "refresh_token": "refresh-1",
    "expires_at": 1700000000.25,
    "scope": "kimi-code",
    "token_type": "Bearer",
    "expires_in": 900,
    "region": "eu",
}
ISSUER = {"token_url": "https://auth.kimi.com/api/oauth/token"}
STORED = Credential(
    "access-1", "refresh-1", 1700000000.25, scope="kimi-code", extra=ISSUER | {"expires_in": 900, "region": "eu"}
)
NEW = Credential("access-2", "refresh-2", 1800000000, scope="kimi-code", extra={"expires_in": 600})
# Its own settings for the lock, as of release 2.1.0.
KIMI_CODES_LOCK = {"stale": 5000, "realpath": False}


async def no_time(seconds: float) -> None:
    await asyncio.sleep(0)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Kimi Code's directory, with a login and the file that it locks."""
    for name, content in {"credentials/kimi-code.json": json.dumps(LOGIN), "oauth/kimi-code": ""}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(content)
    return tmp_path


def login_in(home: Path) -> object:
    return json.loads((home / "credentials" / "kimi-code.json").read_bytes())


class TestTheFile:
    def test_is_where_kimi_code_keeps_it_unless_told_otherwise(self) -> None:
        ann = {"HOME": "/home/ann"}
        assert KimiCodeStore(environ=ann).describe() == "/home/ann/.kimi-code/credentials/kimi-code.json"
        elsewhere = KimiCodeStore(environ=ann | {"KIMI_CODE_HOME": "/k"})
        assert elsewhere.describe() == "/k/credentials/kimi-code.json"
        assert KimiCodeStore("/h", environ=ann | {"KIMI_CODE_HOME": "/k"}).describe() == "/h/credentials/kimi-code.json"
        assert KimiCodeStore("~/h").describe() == str(Path.home() / "h/credentials/kimi-code.json")

    async def test_is_read_and_written_with_unknown_fields_kept(self, home: Path) -> None:
        store = KimiCodeStore(home)
        assert isinstance(store, CredentialStore)
        assert await store.load() == STORED
        await store.save(NEW)
        assert login_in(home) == LOGIN | {
            "access_token": "access-2",
            "refresh_token": "refresh-2",
            "expires_at": 1800000000,
            "expires_in": 600,
        }
        assert (home / "credentials" / "kimi-code.json").stat().st_mode & 0o777 == 0o644, "as it was"

    async def test_that_is_missing_is_made_complete(self, tmp_path: Path) -> None:
        """Kimi Code reads every field, and takes an empty string or 0 for none."""
        home = tmp_path / "home"
        store = KimiCodeStore(home, clock=lambda: 1000.0)
        assert await store.load() is None
        assert not home.exists()
        await store.save(Credential("alone"))
        assert login_in(home) == {
            "access_token": "alone",
            "refresh_token": "",
            "expires_at": 0,
            "scope": "",
            "token_type": "Bearer",
            "expires_in": 0,
        }
        loaded = await store.load()
        assert loaded == Credential("alone", extra=ISSUER | {"expires_in": 0})
        await store.save(Credential("a", "r", 1900.4))
        assert login_in(home) == {
            "access_token": "a",
            "refresh_token": "r",
            "expires_at": 1900.4,
            "scope": "",
            "token_type": "Bearer",
            "expires_in": 900,
        }

    async def test_with_an_empty_access_token_is_no_login(self, home: Path) -> None:
        """What Kimi Code leaves when the server has rejected its refresh token."""
        path = home / "credentials" / "kimi-code.json"
        path.write_text(json.dumps(LOGIN | {"access_token": "", "refresh_token": "", "expires_at": 0}))
        assert await KimiCodeStore(home).load() is None
        assert await KimiCodeStore(home).delete() is False
        await KimiCodeStore(home).save(NEW)
        assert await KimiCodeStore(home).load() is not None

    async def test_goes_away_when_the_login_is_deleted(self, home: Path) -> None:
        assert await KimiCodeStore(home).delete() is True
        assert list((home / "credentials").iterdir()) == []
        assert await KimiCodeStore(home).delete() is False

    async def test_that_is_damaged_is_an_error_without_its_content(self, home: Path) -> None:
        path = home / "credentials" / "kimi-code.json"
        path.write_text('{"access_token": "hush')
        with pytest.raises(StoreError, match="no JSON object") as caught:
            await KimiCodeStore(home, sleep=no_time).load()
        assert "hush" not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


class TestTheLock:
    async def test_is_the_directory_that_kimi_code_locks_with(self, home: Path) -> None:
        async with KimiCodeStore(home).locked():
            assert (home / "oauth" / "kimi-code.lock").is_dir()
        assert sorted(path.name for path in (home / "oauth").iterdir()) == ["kimi-code"]

    @pytest.mark.looptime
    async def test_shows_a_sign_of_life_every_second(self, home: Path) -> None:
        offset = 0.0
        async with KimiCodeStore(home, clock=lambda: time.time() + offset).locked():
            for _ in range(20):
                offset += 1
                await asyncio.sleep(1.01)
                assert time.time() + offset - (home / "oauth" / "kimi-code.lock").stat().st_mtime < 1.5

    async def test_of_a_holder_that_died_is_free_after_five_seconds(self, home: Path) -> None:
        lock = home / "oauth" / "kimi-code.lock"
        for age, free in ((4, False), (6, True)):
            lock.mkdir()
            os.utime(lock, (time.time() - age, time.time() - age))
            looks = 0

            async def look(seconds: float) -> None:
                nonlocal looks
                looks += 1
                if looks == 10:
                    lock.rmdir()

            async with KimiCodeStore(home, sleep=look).locked():
                assert (looks < 10) is free

    async def test_that_was_lost_lets_nothing_be_saved(self, home: Path) -> None:
        store = KimiCodeStore(home)
        async with store.locked():
            (home / "oauth" / "kimi-code.lock").rmdir()
            for attempt in (store.save(NEW), store.delete()):
                with pytest.raises(StoreError, match="lost"):
                    await attempt
        assert login_in(home) == LOGIN

    async def test_that_is_switched_off_still_excludes_this_process(self, home: Path) -> None:
        off = {"KIMI_DISABLE_OAUTH_LOCK": "1"}
        (home / "oauth" / "kimi-code.lock").mkdir()  # which nobody looks at now
        inside, most = list[int](), list[int]()

        async def hold() -> None:
            for _ in range(3):
                store = KimiCodeStore(home, environ=off, sleep=no_time)
                async with store.locked():
                    inside.append(1)
                    await asyncio.sleep(0)
                    most.append(len(inside))
                    await store.save(NEW)
                    inside.pop()

        threads = [threading.Thread(target=lambda: asyncio.run(hold())) for _ in range(3)]
        for thread in threads:
            thread.start()
        await asyncio.gather(hold(), hold())
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert most == [1] * 15
        assert (home / "oauth" / "kimi-code.lock").is_dir(), "not ours to remove"

    async def test_is_off_for_that_one_value_only(self, home: Path) -> None:
        async with KimiCodeStore(home, environ={"KIMI_DISABLE_OAUTH_LOCK": "true"}).locked():
            assert (home / "oauth" / "kimi-code.lock").is_dir()


class TestWithNodesProperLockfile:
    async def test_kimi_code_is_refused_while_we_hold_it_and_gets_it_afterwards(
        self, home: Path, node: NodePeer
    ) -> None:
        target = home / "oauth" / "kimi-code"
        async with KimiCodeStore(home).locked():
            with pytest.raises(Exception, match="ELOCKED"):
                node.ask("lock", path=target, options=KIMI_CODES_LOCK)
        node.ask("lock", path=target, options=KIMI_CODES_LOCK)
        node.ask("release", path=target)

    async def test_we_wait_while_kimi_code_holds_it(self, home: Path, node: NodePeer) -> None:
        target = home / "oauth" / "kimi-code"
        node.ask("lock", path=target, options=KIMI_CODES_LOCK)
        looks = 0

        async def look(seconds: float) -> None:
            nonlocal looks
            looks += 1
            if looks == 5:
                node.ask("release", path=target)

        async with KimiCodeStore(home, sleep=look).locked():
            assert looks == 5

    async def test_two_of_them_and_we_never_get_in_together(
        self, home: Path, start_node: Callable[[], NodePeer]
    ) -> None:
        """Each reads a number and writes the next one in place, under the lock that they share."""
        times, counted = 20, home / "oauth" / "counted"
        counted.write_text(json.dumps({"counted": {"count": 0}}))
        peers = [start_node(), start_node()]
        for peer in peers:
            peer.tell("count", path=counted, times=times, lock=home / "oauth" / "kimi-code", options=KIMI_CODES_LOCK)
        for _ in range(times):
            async with KimiCodeStore(home, sleep=lambda seconds: asyncio.sleep(0.002)).locked():
                count = json.loads(counted.read_bytes())["counted"]["count"]
                counted.write_text(json.dumps({"counted": {"count": count + 1}}))
        for peer in peers:
            await asyncio.to_thread(peer.answer)
        assert json.loads(counted.read_bytes())["counted"]["count"] == 3 * times

    async def test_node_reads_what_we_saved(self, home: Path, node: NodePeer) -> None:
        await KimiCodeStore(home).save(NEW)
        saved = node.ask("read", path=home / "credentials" / "kimi-code.json")
        assert saved["access_token"] == "access-2"
        assert saved["expires_in"] == 600
