from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rxauth.credentials._credential import Credential
from rxauth.credentials._store import CredentialStore
from rxauth.credentials._stores._pi import PiStore
from rxauth.errors import StoreError
from tests.credentials.faulty_files import FaultyFiles
from tests.credentials.tracebacks import told_with_variables

if TYPE_CHECKING:
    from tests.credentials.conftest import NodePeer

LOGIN = {
    "type": "oauth",
    "access": "access-1",
    "refresh": "refresh-1",
    "expires": 1700000000000,
    "email": "ann@example.org",
}
OTHERS = {
    "anthropic": {"type": "api_key", "key": "$KEY", "note": "é"},
    "counted": {"type": "api_key", "count": 0},
}
STORED = Credential("access-1", "refresh-1", expires_at=1700000000, extra={"email": "ann@example.org"})
NEW_IN_PLACE = Credential("access-2", "refresh-2", expires_at=1800000000, extra={"email": "ann@example.org"})
NEW = Credential("access-2", refresh_token="refresh-2", expires_at=1800000000)


@pytest.fixture
def auth(tmp_path: Path) -> Path:
    """pi's file, with a login and two other providers in it."""
    path = tmp_path / "agent" / "auth.json"
    path.parent.mkdir()
    write(path, OTHERS | {"kimi-coding": LOGIN})
    return path


def write(path: Path, document: object) -> None:
    path.write_bytes(json.dumps(document, indent=2).encode())
    path.chmod(0o600)


def lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def left_behind(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir() if each != path)


async def no_time(seconds: float) -> None:
    """A `sleep` that lets the others go on."""
    await asyncio.sleep(0)


class Waits:
    """A `sleep` that takes no time and does something at a given turn."""

    def __init__(self, turns: dict[int, Callable[[], object]] | None = None) -> None:
        self.turns = turns or {}
        self.count = 0

    async def __call__(self, seconds: float) -> None:
        self.count += 1
        self.turns.get(self.count, lambda: None)()
        assert self.count < 1000, "waited for ever"
        await asyncio.sleep(0)


class Clock:
    """Unix time, moved by hand."""

    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


class TestTheFile:
    async def test_is_where_pi_keeps_it_unless_told_otherwise(self, tmp_path: Path) -> None:
        home = {"HOME": str(tmp_path)}
        assert PiStore(environ=home).describe() == f"{tmp_path}/.pi/agent/auth.json"
        assert (
            PiStore(environ=home | {"PI_CODING_AGENT_DIR": "~/elsewhere"}).describe()
            == f"{tmp_path}/elsewhere/auth.json"
        )
        assert PiStore(environ=home | {"PI_CODING_AGENT_DIR": "/abs"}).describe() == "/abs/auth.json"
        assert PiStore("x.json", environ=home).describe() == "x.json"
        assert PiStore("~/x.json").describe() == str(Path.home() / "x.json")

    async def test_is_a_store(self, auth: Path) -> None:
        assert isinstance(PiStore(auth), CredentialStore)

    async def test_is_not_made_by_looking_for_it(self, tmp_path: Path) -> None:
        assert await PiStore(tmp_path / "none" / "auth.json").load() is None
        assert list(tmp_path.iterdir()) == []

    async def test_is_read_with_milliseconds_and_whatever_else_is_in_the_login(self, auth: Path) -> None:
        assert await PiStore(auth).load() == STORED

    async def test_keeps_unknown_fields_and_other_providers_and_their_order(self, auth: Path) -> None:
        await PiStore(auth).save(NEW)
        document = json.loads(auth.read_bytes())
        assert document == OTHERS | {
            "kimi-coding": LOGIN | {"access": "access-2", "refresh": "refresh-2", "expires": 1800000000000}
        }
        assert list(document) == [*OTHERS, "kimi-coding"]
        assert auth.stat().st_mode & 0o777 == 0o600
        assert left_behind(auth) == []

    async def test_that_is_missing_is_made_for_its_owner_alone(self, tmp_path: Path) -> None:
        path = tmp_path / ".pi" / "agent" / "auth.json"
        await PiStore(path).save(NEW)
        assert await PiStore(path).load() == NEW
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700

    async def test_gives_back_what_was_saved(self, auth: Path) -> None:
        rich = Credential(
            "a", "r", 1800000000.5, token_type="DPoP", scope="x y", extra={"account_id": "7", "n": [1.5, None]}
        )
        store = PiStore(auth, provider="another")
        await store.save(rich)
        assert await store.load() == rich

    async def test_says_in_pis_own_way_that_there_is_no_refresh_token_and_no_known_expiry(self, auth: Path) -> None:
        await PiStore(auth).save(Credential("alone"))
        entry = json.loads(auth.read_bytes())["kimi-coding"]
        assert (entry["refresh"], entry["expires"]) == ("", 0)
        loaded = await PiStore(auth).load()
        assert loaded is not None
        assert loaded.refresh_token is None
        assert loaded.expires_at is None

    @pytest.mark.parametrize("expires", ["1e400", "1" + "0" * 400, "true", "-5", '"soon"', "null", "[]"])
    async def test_with_an_expiry_that_is_none_does_not_know_it(self, auth: Path, expires: str) -> None:
        login = '{"type": "oauth", "access": "a", "refresh": "r", "expires": ' + expires + "}"
        auth.write_text('{"kimi-coding": ' + login + "}")
        assert await PiStore(auth).load() == Credential("a", "r")

    async def test_stays_behind_its_symlink(self, auth: Path, tmp_path: Path) -> None:
        link = tmp_path / "link.json"
        link.symlink_to(auth)
        await PiStore(link).save(NEW)
        assert link.is_symlink()
        assert json.loads(auth.read_bytes())["kimi-coding"]["access"] == "access-2"

    async def test_loses_one_login_only_when_that_is_deleted(self, auth: Path) -> None:
        assert await PiStore(auth).delete() is True
        assert json.loads(auth.read_bytes()) == OTHERS
        assert await PiStore(auth).delete() is False
        assert left_behind(auth) == []

    async def test_keeps_an_api_key_of_the_same_provider(self, auth: Path) -> None:
        before = auth.read_bytes()
        store = PiStore(auth, provider="anthropic")
        assert await store.load() is None
        assert await store.delete() is False
        with pytest.raises(StoreError, match="API key"):
            await store.save(NEW)
        assert auth.read_bytes() == before

    async def test_that_is_half_written_is_read_again(self, auth: Path) -> None:
        whole = auth.read_bytes()
        auth.write_bytes(whole[:40])
        waits = Waits({3: lambda: auth.write_bytes(whole)})
        assert await PiStore(auth, sleep=waits).load() == STORED
        assert waits.count == 3

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            pytest.param(b'{"kimi-coding": {"type": "oauth", "access": "hush', "no JSON object", id="half a file"),
            pytest.param(b'{"x": NaN}', "no JSON object", id="a number that only Python reads"),
            pytest.param(b"\xff\xfe{}", "no JSON object", id="not UTF-8"),
            pytest.param(b"[" * 100_000, "no JSON object", id="nested beyond reason"),
            pytest.param(b"[]", "no JSON object", id="a list"),
            pytest.param(b"null", "no JSON object", id="null"),
            pytest.param(
                b'{"kimi-coding": {"type": "oauth", "refresh": "hush"}}', "no access_token", id="no access token"
            ),
            pytest.param(
                b'{"kimi-coding": {"type": "oauth", "access": 7}}', "no access_token", id="a number for a token"
            ),
            pytest.param(
                b'{"kimi-coding": {"type": "oauth", "access": "hush\\nret"}}',
                "not printable ASCII",
                id="a token that splits a header",
            ),
        ],
    )
    async def test_that_makes_no_sense_is_an_error_without_its_content(
        self, auth: Path, content: bytes, sentence: str
    ) -> None:
        auth.write_bytes(content)
        with pytest.raises(StoreError, match=sentence) as caught:
            await PiStore(auth, sleep=Waits()).load()
        assert "hush" not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
        assert "hush" not in told_with_variables(caught.value)
        assert auth.read_bytes() == content

    async def test_that_makes_no_sense_is_not_written_over(self, auth: Path) -> None:
        auth.write_bytes(b'{"half')
        with pytest.raises(StoreError):
            await PiStore(auth, sleep=Waits()).save(NEW)
        assert auth.read_bytes() == b'{"half'
        assert left_behind(auth) == []

    @pytest.mark.parametrize(
        "content", [b"", b"\n", b"\xef\xbb\xbf{}"], ids=["nothing", "a blank line", "a byte order mark"]
    )
    async def test_that_is_empty_holds_nothing(self, auth: Path, content: bytes) -> None:
        auth.write_bytes(content)
        assert await PiStore(auth).load() is None
        await PiStore(auth).save(NEW)
        assert await PiStore(auth).load() == NEW

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    async def test_of_another_user_is_refused_and_left_alone(self, auth: Path) -> None:
        os.chown(auth, 65534, 65534)
        before = auth.read_bytes()
        for attempt in (PiStore(auth).load(), PiStore(auth).save(NEW)):
            with pytest.raises(StoreError, match="another user"):
                await attempt
        assert (auth.read_bytes(), auth.stat().st_uid) == (before, 65534)

    async def test_that_cannot_be_written_stays_as_it_was(self, auth: Path) -> None:
        endless = Credential("a", extra={"endless": float("inf")})
        before = auth.read_bytes()
        with pytest.raises(StoreError, match="are not JSON"):
            await PiStore(auth).save(endless)
        assert auth.read_bytes() == before
        assert left_behind(auth) == []

    async def test_survives_a_full_disk(self, auth: Path) -> None:
        """A process that may not write more than 100 bytes to a file: what is there stays, whole."""
        script = f"""
import asyncio, resource, signal
from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._pi import PiStore
from rxauth.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    asyncio.run(PiStore({str(auth)!r}).save(Credential("access-2")))
except StoreError as error:
    print(error)
"""
        before = auth.read_bytes()
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
        )
        assert "cannot be written: File too large" in done.stdout, done.stderr
        assert auth.read_bytes() == before
        assert left_behind(auth) == []

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO], ids=errno.errorcode.get)
    async def test_is_whole_whichever_file_operation_fails(self, auth: Path, code: int) -> None:
        counting = FaultyFiles()
        await PiStore(auth, files=counting).save(STORED)
        before = auth.read_bytes()
        for number in range(len(counting.calls)):
            faulty = FaultyFiles(number, code)
            try:
                await PiStore(auth, files=faulty).save(NEW)
            except StoreError as error:
                assert "access-" not in f"{error!r} {error.__cause__!r}"  # noqa: PT017
                assert auth.read_bytes() == before
            else:
                assert json.loads(auth.read_bytes())["kimi-coding"]["access"] == "access-2"
                auth.write_bytes(before)
            assert left_behind(auth) == []

    async def test_is_not_replaced_when_the_lock_is_lost_while_it_is_written(self, auth: Path) -> None:
        class Robbed(FaultyFiles):
            def ftruncate(self, descriptor: int, length: int) -> None:
                os.ftruncate(descriptor, length)
                lock_of(auth).rmdir()

        before = auth.read_bytes()
        with pytest.raises(StoreError, match="lost"):
            await PiStore(auth, files=Robbed()).save(NEW)
        assert auth.read_bytes() == before
        assert left_behind(auth) == []

    async def test_loses_what_a_killed_process_left_beside_it(self, auth: Path) -> None:
        auth.with_name(".auth.json.tmp").write_text("access-0")
        await PiStore(auth).save(NEW)
        assert left_behind(auth) == []

    async def test_is_not_told_in_repr(self, auth: Path) -> None:
        assert repr(PiStore(auth)) == f"PiStore('{auth}', provider='kimi-coding')"


class TestTheLock:
    async def test_is_a_directory_beside_the_real_file_that_goes_away(self, auth: Path, tmp_path: Path) -> None:
        link = tmp_path / "link.json"
        link.symlink_to(auth)
        store = PiStore(link)
        async with store.locked():
            assert lock_of(auth).is_dir()
        assert left_behind(auth) == []
        assert not lock_of(link).exists()

    async def test_excludes_tasks_of_this_process_also_on_one_object(self, auth: Path) -> None:
        store, order = PiStore(auth, sleep=no_time), list[str]()

        async def hold(name: str) -> None:
            async with store.locked():
                order.append(f"{name} in")
                await asyncio.sleep(0)
                order.append(f"{name} out")

        await asyncio.gather(*(hold(name) for name in "abcd"))
        assert len(order) == 8
        assert all(order[i][0] == order[i + 1][0] for i in range(0, 8, 2)), order

    async def test_excludes_threads_with_loops_of_their_own(self, auth: Path) -> None:
        store, inside, most = PiStore(auth, sleep=no_time), list[int](), list[int]()

        async def hold() -> None:
            for _ in range(3):
                async with store.locked():
                    inside.append(1)
                    await asyncio.sleep(0)
                    most.append(len(inside))
                    inside.pop()

        threads = [threading.Thread(target=lambda: asyncio.run(hold())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert most == [1] * 12

    async def test_is_waited_for_by_a_save_from_another_task_and_taken_as_read_by_ones_own(self, auth: Path) -> None:
        store = PiStore(auth, sleep=no_time)
        begin = asyncio.Event()

        async def save() -> None:
            await begin.wait()
            await store.save(Credential("theirs"))

        other = asyncio.create_task(save())
        async with store.locked():
            begin.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await store.save(NEW)
            assert not other.done()
            assert await store.load() == NEW_IN_PLACE
        await other
        assert json.loads(auth.read_bytes())["kimi-coding"]["access"] == "theirs"
        assert left_behind(auth) == []

    @pytest.mark.looptime
    async def test_shows_a_sign_of_life_every_two_seconds(self, auth: Path) -> None:
        clock = Clock()
        async with PiStore(auth, clock=clock).locked():
            first = lock_of(auth).stat().st_mtime
            for _ in range(20):
                clock.offset += 2
                await asyncio.sleep(2.01)
                assert clock() - lock_of(auth).stat().st_mtime < 2.5
            assert lock_of(auth).stat().st_mtime > first + 38

    async def test_of_a_holder_that_died_is_free_after_its_stale_time(self, auth: Path) -> None:
        lock_of(auth).mkdir()
        clock = Clock()
        waits = Waits({5: lambda: setattr(clock, "offset", 29), 10: lambda: setattr(clock, "offset", 31)})
        async with PiStore(auth, clock=clock, sleep=waits).locked():
            assert waits.count == 11, "ten looks, and a moment to see whether another took it at the same time"
        assert left_behind(auth) == []

    @pytest.mark.looptime
    async def test_of_a_holder_that_died_is_free_although_the_clock_was_set_back(self, auth: Path) -> None:
        lock_of(auth).mkdir()
        clock = Clock()
        clock.offset = -86400
        loop = asyncio.get_running_loop()
        before = loop.time()
        async with PiStore(auth, clock=clock).locked():
            assert 30 < loop.time() - before < 31

    async def test_of_a_killed_process_is_free_after_its_stale_time(self, auth: Path) -> None:
        script = f"""
import asyncio
from rxauth.credentials._stores._pi import PiStore
async def main():
    async with PiStore({str(auth)!r}).locked():
        print("held", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert process.stdout
        assert await asyncio.to_thread(process.stdout.readline) == b"held\n"
        process.kill()
        process.communicate()
        assert left_behind(auth) == ["auth.json.lock"]
        clock = Clock()
        waits = Waits({3: lambda: setattr(clock, "offset", 31)})
        await PiStore(auth, clock=clock, sleep=waits).save(NEW)
        assert left_behind(auth) == []

    async def test_is_let_go_by_a_holder_that_is_cancelled_wherever_that_hits(self, auth: Path) -> None:
        store = PiStore(auth)

        async def use() -> None:
            async with store.locked():
                await asyncio.sleep(0)
                await store.save(NEW)
                await asyncio.sleep(0)

        for turns in range(8):
            task = asyncio.create_task(use())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert left_behind(auth) == []
        await store.save(NEW)

    async def test_is_let_go_by_one_that_is_cancelled_in_the_moment_of_taking_over(self, auth: Path) -> None:
        lock_of(auth).mkdir()
        clock = Clock()
        clock.offset = 31
        settling = asyncio.Event()

        async def settle(seconds: float) -> None:
            settling.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(PiStore(auth, clock=clock, sleep=settle).save(NEW))
        await settling.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left_behind(auth) == []

    async def test_is_not_left_behind_by_a_waiter_that_is_cancelled(self, auth: Path) -> None:
        lock_of(auth).mkdir()
        waiter = asyncio.create_task(PiStore(auth, sleep=Waits()).save(NEW))
        for _ in range(5):
            await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert left_behind(auth) == ["auth.json.lock"]

    @pytest.mark.parametrize("again", [False, True], ids=["removed", "removed and made again by another"])
    async def test_that_was_lost_lets_nothing_be_saved(self, auth: Path, again: bool) -> None:
        before = auth.read_bytes()
        store = PiStore(auth)
        async with store.locked():
            lock_of(auth).rmdir()
            if again:
                lock_of(auth).mkdir()
            for attempt in (store.save(NEW), store.delete()):
                with pytest.raises(StoreError, match="lost"):
                    await attempt
        assert auth.read_bytes() == before
        assert lock_of(auth).exists() is again, "another's lock is not ours to remove"

    async def test_leaves_no_open_file_behind(self, auth: Path) -> None:
        def next_descriptor() -> int:
            os.close(free := os.open(auth, os.O_RDONLY))
            return free

        before = next_descriptor()
        for _ in range(3):
            async with PiStore(auth).locked():
                pass
        assert next_descriptor() == before

    async def test_that_two_took_for_dead_at_once_is_held_by_one(self, auth: Path) -> None:
        """The slower one removes what the faster one has just made: the faster one notices before it believes."""
        lock_of(auth).mkdir()
        clock = Clock()
        clock.offset = 31

        def the_slower_one_comes() -> None:
            lock_of(auth).rmdir()
            lock_of(auth).mkdir()
            os.utime(lock_of(auth), (clock(), clock()))

        waits = Waits({1: the_slower_one_comes, 9: lambda: lock_of(auth).rmdir()})
        async with PiStore(auth, clock=clock, sleep=waits).locked():
            assert waits.count >= 9

    async def test_that_was_overslept_is_renewed_before_a_save_if_nobody_took_it(self, auth: Path) -> None:
        clock = Clock()
        store = PiStore(auth, clock=clock, sleep=Waits())
        async with store.locked():
            clock.offset = 3600
            await store.save(NEW)
            assert clock() - lock_of(auth).stat().st_mtime < 5
        assert await store.load() is not None
        assert left_behind(auth) == []

    async def test_that_was_overslept_and_is_taken_in_that_moment_lets_nothing_be_saved(self, auth: Path) -> None:
        clock = Clock()

        def another_takes_it() -> None:
            lock_of(auth).rmdir()
            lock_of(auth).mkdir()

        store = PiStore(auth, clock=clock, sleep=Waits({1: another_takes_it}))
        before = auth.read_bytes()
        async with store.locked():
            clock.offset = 3600
            with pytest.raises(StoreError, match="lost"):
                await store.save(NEW)
        assert auth.read_bytes() == before

    @pytest.mark.parametrize("what", ["a file", "a link to nowhere", "not empty"])
    async def test_that_can_never_be_had_is_an_error_not_a_hang(self, auth: Path, what: str) -> None:
        lock = lock_of(auth)
        if what == "a file":
            lock.touch()
        elif what == "not empty":
            (lock / "x").mkdir(parents=True)
        else:
            lock.symlink_to("nowhere")
        clock = Clock()
        clock.offset = 31
        with pytest.raises(StoreError, match="cannot be had"):
            await PiStore(auth, clock=clock, sleep=Waits()).save(NEW)

    async def test_that_cannot_be_made_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreError, match="cannot be had"):
            await PiStore(tmp_path / "file" / "auth.json").save(NEW)


class TestWithNodesProperLockfile:
    async def test_we_wait_while_node_holds_the_lock(self, auth: Path, node: NodePeer) -> None:
        node.ask("lock", path=auth, options={"stale": 30000})
        waits = Waits({7: lambda: node.ask("release", path=auth)})
        async with PiStore(auth, sleep=waits).locked():
            assert waits.count == 7

    @pytest.mark.parametrize("way", ["lock", "lockSync"])
    async def test_node_is_refused_while_we_hold_it_and_gets_it_afterwards(
        self, auth: Path, node: NodePeer, way: str
    ) -> None:
        async with PiStore(auth).locked():
            with pytest.raises(Exception, match="ELOCKED"):
                node.ask(way, path=auth, options={"stale": 30000})
        node.ask(way, path=auth, options={"stale": 30000})
        node.ask("release", path=auth)

    async def test_node_waits_for_us(self, auth: Path, node: NodePeer) -> None:
        async with PiStore(auth).locked():
            retries = {"retries": 1000, "factor": 1, "minTimeout": 5, "maxTimeout": 10}
            node.tell("lock", path=auth, options={"stale": 30000, "retries": retries})
        await asyncio.to_thread(node.answer)
        assert lock_of(auth).is_dir()

    @pytest.mark.looptime
    async def test_node_takes_our_lock_for_alive_as_long_as_we_show_it_and_no_longer(
        self, auth: Path, node: NodePeer
    ) -> None:
        clock = Clock()
        store = PiStore(auth, clock=clock)
        before = auth.read_bytes()
        async with store.locked():
            # Thirty-one seconds ago, as far as the directory tells; then the sign of life.
            os.utime(lock_of(auth), (time.time(), time.time()))
            with pytest.raises(Exception, match="ELOCKED"):
                node.ask("lock", path=auth, options={"stale": 30000})
        clock.offset = -31
        async with store.locked():
            clock.offset = 0
            await asyncio.sleep(2.01)
            with pytest.raises(Exception, match="ELOCKED"):
                node.ask("lock", path=auth, options={"stale": 30000})
        clock.offset = -31
        async with store.locked():
            node.ask("lock", path=auth, options={"stale": 30000})
            with pytest.raises(StoreError, match="lost"):
                await store.save(NEW)
        assert lock_of(auth).is_dir(), "Node's now"
        assert auth.read_bytes() == before
        node.ask("release", path=auth)

    async def test_we_take_over_from_a_dead_node(self, auth: Path, node: NodePeer) -> None:
        node.ask("lock", path=auth, options={"stale": 30000})
        node.process.kill()
        node.process.wait()
        clock = Clock()
        waits = Waits({4: lambda: setattr(clock, "offset", 33)})  # Node dates a fresh lock up to a second ahead
        await PiStore(auth, clock=clock, sleep=waits).save(NEW)
        assert waits.count >= 4
        assert left_behind(auth) == []

    async def test_node_reads_what_we_saved_with_everything_else_in_place(self, auth: Path, node: NodePeer) -> None:
        before = node.ask("read", path=auth)
        await PiStore(auth).save(NEW)
        saved = node.ask("read", path=auth)
        assert saved == before | {
            "kimi-coding": LOGIN | {"access": "access-2", "refresh": "refresh-2", "expires": 1800000000000}
        }

    async def test_nothing_is_lost_when_node_and_python_processes_write_at_once(
        self, auth: Path, start_node: Callable[[], NodePeer]
    ) -> None:
        """Each reads a number and writes the next one, under its lock; every lost update would be missing."""
        times = 25
        script = f"""
import asyncio
from rxauth.credentials._credential import Credential
from rxauth.credentials._stores._pi import PiStore
store = PiStore({str(auth)!r}, sleep=lambda seconds: asyncio.sleep(0.005))
async def main():
    for _ in range({times}):
        async with store.locked():
            credential = await store.load()
            await store.save(Credential("a", extra={{"n": credential.extra.get("n", 0) + 1}}))
asyncio.run(main())
"""
        peers = [start_node(), start_node()]
        for peer in peers:
            peer.tell("count", path=auth, times=times)
        pythons = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
        for python in pythons:
            assert await asyncio.to_thread(python.wait) == 0
        for peer in peers:
            await asyncio.to_thread(peer.answer)
        document = json.loads(auth.read_bytes())
        assert (document["counted"]["count"], document["kimi-coding"]["n"]) == (2 * times, 2 * times)
        assert left_behind(auth) == []
