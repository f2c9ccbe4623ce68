from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from rxauth.credentials._credential import Credential
from rxauth.credentials._store import CredentialStore
from rxauth.credentials._stores._redis import RedisStore
from rxauth.errors import StoreError
from rxauth.testing import FakeProvider

CREDENTIAL = Credential("access-1", "refresh-1", expires_at=1700000000.5, scope="a b", extra={"account_id": "7"})


class Server:
    """A real redis-server, on a socket in a temporary directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"unix://{directory}/s"
        self.process: subprocess.Popen[bytes]
        self.start()
        self.redis = Redis.from_url(self.url, decode_responses=True)

    def start(self) -> None:
        command = ["redis-server", "--port", "0", "--unixsocket", "s", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen([*command, "--logfile", "log"], cwd=self.directory)
        redis = Redis.from_url(self.url)
        for _ in range(1000):
            with contextlib.suppress(OSError, Exception):
                redis.ping()
                redis.close()
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
        return self.redis.get("{kimi}:lock")

    def expire_lock(self) -> None:
        """As if its time to live had passed."""
        self.redis.delete("{kimi}:lock")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if shutil.which("redis-server") is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is missing; these tests need a real one")
        pytest.skip("redis-server is not installed")
    server = Server(tmp_path_factory.mktemp("r"))
    yield server
    server.redis.close()
    server.kill()


@pytest.fixture
def server(redis_server: Server) -> Iterator[Server]:
    redis_server.redis.flushall()
    yield redis_server
    redis_server.go_on()
    if redis_server.process.poll() is not None:
        redis_server.start()


def store_on(server: Server, **options: object) -> RedisStore:
    return RedisStore(server.url, "kimi", **options)  # type: ignore[arg-type]


class Signs:
    """A `sleep` that ends when it is told to, and says when it is called."""

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

    def __init__(self, server: Server) -> None:
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


async def count(url: str) -> None:
    """Two tasks that each count up by 8."""
    store = RedisStore(url, "kimi", sleep=lambda seconds: asyncio.sleep(seconds / 50))

    async def up() -> None:
        for _ in range(8):
            async with store.locked():
                loaded = await store.load()
                assert loaded is not None
                await store.save(Credential("a", extra={"n": loaded.extra["n"] + 1}))

    await asyncio.gather(up(), up())


async def soon(condition: Callable[[], bool]) -> None:
    """Let the loop run until it is so."""
    while not condition():
        await asyncio.sleep(0)


class TestWhatIsStored:
    async def test_comes_back_as_it_was(self, server: Server) -> None:
        store = store_on(server)
        assert isinstance(store, CredentialStore)
        assert await store.load() is None
        await store.save(CREDENTIAL)
        assert await store.load() == CREDENTIAL
        assert await store_on(server).load() == CREDENTIAL

    async def test_goes_away_when_it_is_deleted_and_its_version_does_not(self, server: Server) -> None:
        store = store_on(server)
        assert await store.delete() is False
        await store.save(CREDENTIAL)
        assert await store.delete() is True
        assert await store.load() is None
        assert server.redis.hget("kimi", "version") == "3"

    async def test_is_apart_from_what_other_keys_hold(self, server: Server) -> None:
        await store_on(server).save(CREDENTIAL)
        assert await RedisStore(server.url, "other").load() is None

    async def test_is_seen_in_other_loops_and_threads(self, server: Server) -> None:
        store = store_on(server)
        await asyncio.to_thread(lambda: asyncio.run(store.save(CREDENTIAL)))
        assert await store.load() == CREDENTIAL
        assert await asyncio.to_thread(lambda: asyncio.run(store.load())) == CREDENTIAL

    @pytest.mark.parametrize("content", ["hush{", "[]", "{}", '{"access_token": "hu\\nsh"}'])
    async def test_that_makes_no_sense_is_an_error_without_its_content(self, server: Server, content: str) -> None:
        server.redis.hset("kimi", "credential", content)
        with pytest.raises(StoreError, match="not a credential") as caught:
            await store_on(server).load()
        assert "hush" not in repr(caught.value)

    async def test_of_somebody_elses_kind_is_an_error_and_stays(self, server: Server) -> None:
        server.redis.set("kimi", "theirs")
        for attempt in (store_on(server).load(), store_on(server).save(CREDENTIAL)):
            with pytest.raises(StoreError, match="cannot be used"):
                await attempt
        assert server.redis.get("kimi") == "theirs"
        assert server.lock is None

    @pytest.mark.parametrize("value", [float("inf"), object()], ids=["a number without end", "an object"])
    async def test_that_json_cannot_say_is_not_stored(self, server: Server, value: object) -> None:
        with pytest.raises(StoreError, match="not JSON"):
            await store_on(server).save(Credential("a", extra={"of": value}))
        assert server.redis.keys() == []

    async def test_is_fetched_once_for_all_who_ask_at_the_same_moment(self, server: Server) -> None:
        store = store_on(server)
        await store.save(CREDENTIAL)
        before = int(server.redis.info("stats")["total_connections_received"])
        loaded = await asyncio.gather(*(store.load() for _ in range(10_000)))
        assert set(loaded) == {CREDENTIAL}
        assert int(server.redis.info("stats")["total_connections_received"]) - before <= 2

    async def test_is_never_older_than_a_save_that_was_over_before_the_question(self, server: Server) -> None:
        await store_on(server).save(CREDENTIAL)
        async with Proxy(server) as proxy:
            store = RedisStore(proxy.url, "kimi")
            proxy.held = asyncio.Event()
            early = asyncio.create_task(store.load())
            await asyncio.sleep(0)
            before = server.redis.hget("kimi", "version")
            await soon(lambda: len(server.redis.client_list()) > 1)
            held, proxy.held = proxy.held, None
            await store.save(Credential("access-2"))
            assert server.redis.hget("kimi", "version") != before
            late = asyncio.create_task(store.load())
            assert await late == Credential("access-2")
            held.set()
            await early

    async def test_is_still_fetched_for_the_others_when_one_is_cancelled(self, server: Server) -> None:
        store = store_on(server)
        await store.save(CREDENTIAL)
        tasks = [asyncio.create_task(store.load()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert await asyncio.gather(*tasks[1:]) == [CREDENTIAL, CREDENTIAL]


class TestTheLock:
    async def test_excludes_tasks_threads_and_processes(self, server: Server) -> None:
        """Each reads a number and writes the next one, under the lock; every lost update would be missing."""
        await store_on(server).save(Credential("a", extra={"n": 0}))
        script = (
            "import asyncio, sys; from tests.credentials.test_redis_store import count; asyncio.run(count(sys.argv[1]))"
        )
        processes = [
            subprocess.Popen([sys.executable, "-c", script, server.url], cwd=Path(__file__).parents[2])
            for _ in range(2)
        ]
        threads = [asyncio.to_thread(lambda: asyncio.run(count(server.url))) for _ in range(2)]
        await asyncio.gather(count(server.url), *threads)
        for process in processes:
            assert await asyncio.to_thread(process.wait) == 0
        loaded = await store_on(server).load()
        assert loaded is not None
        assert loaded.extra["n"] == 5 * 2 * 8
        assert server.lock is None

    async def test_is_renewed_while_it_is_held(self, server: Server) -> None:
        sleep = Signs()
        async with store_on(server, sleep=sleep, lock_ttl=15.0).locked():
            for _ in range(3):
                assert await sleep.called.get() == 5.0
                server.redis.pexpire("{kimi}:lock", 4000)
                sleep.go.release()
                await soon(lambda: not sleep.called.empty())
                assert int(server.redis.pttl("{kimi}:lock")) > 14000
        assert server.lock is None

    async def test_that_another_took_is_not_renewed_for_them(
        self, server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        sleep = Signs()
        async with store_on(server, sleep=sleep).locked():
            await sleep.called.get()
            server.redis.set("{kimi}:lock", "somebody", px=4000)
            sleep.go.release()
            await soon(lambda: "was lost while it was held" in caplog.text)
            assert 0 < int(server.redis.pttl("{kimi}:lock")) <= 4000
        assert server.lock == "somebody"

    async def test_is_waited_for(self, server: Server) -> None:
        server.redis.set("{kimi}:lock", "somebody")
        looks = 0

        async def look(seconds: float) -> None:
            nonlocal looks
            looks += 1
            if looks == 5:
                server.expire_lock()

        async with store_on(server, sleep=look).locked():
            assert looks == 5

    async def test_of_a_killed_process_expires(self, server: Server) -> None:
        script = f"""
import asyncio
from rxauth.credentials._stores._redis import RedisStore
async def main():
    async with RedisStore({server.url!r}, "kimi", lock_ttl=0.3).locked():
        print("held", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert process.stdout
        assert await asyncio.to_thread(process.stdout.readline) == b"held\n"
        process.kill()
        process.communicate()
        assert 0 < int(server.redis.pttl("{kimi}:lock")) <= 300
        await store_on(server).save(CREDENTIAL)
        assert await store_on(server).load() == CREDENTIAL

    async def test_leaves_nothing_behind_however_it_is_cancelled(self, server: Server) -> None:
        """At 150 random places: in the question, in its answer, in the wait, in the save, in the farewell."""
        chance = random.Random(7)
        store = store_on(server, sleep=lambda seconds: asyncio.sleep(0))
        done = 0

        async def use() -> None:
            async with store.locked():
                await store.load()
                await store.save(CREDENTIAL)

        turns = 0
        for number in range(200):
            task = asyncio.create_task(use())
            if number % 4 == 0:  # left alone: so many turns of the loop does one take, here and now
                turns = 0
                while not task.done():
                    await asyncio.sleep(0)
                    turns += 1
            else:
                for _ in range(chance.randrange(turns)):
                    await asyncio.sleep(0)
                task.cancel()
            done += (await asyncio.gather(task, return_exceptions=True))[0] is None
            assert server.lock is None
        assert 50 <= done < 150, "the cancellations must hit something"
        await store.save(CREDENTIAL)

    async def test_lets_a_cancellation_through_wherever_it_hits(self, server: Server) -> None:
        """redis-py swallows about half of them."""
        store = store_on(server)
        await store.save(CREDENTIAL)

        async def use() -> None:
            async with store.locked():
                while True:
                    await store.load()

        for turns in range(60):
            task = asyncio.create_task(use())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def test_that_is_waited_for_in_vain_leaves_the_holder_alone(self, server: Server) -> None:
        server.redis.set("{kimi}:lock", "somebody")
        waiter = asyncio.create_task(store_on(server, sleep=lambda seconds: asyncio.sleep(0)).save(CREDENTIAL))
        for _ in range(200):
            await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert server.lock == "somebody"

    @pytest.mark.parametrize("thief", [None, "somebody"], ids=["expired", "expired and taken by another"])
    async def test_that_was_lost_lets_nothing_be_written(self, server: Server, thief: str | None) -> None:
        store = store_on(server)
        await store.save(CREDENTIAL)
        async with store.locked():
            server.expire_lock()
            if thief:
                server.redis.set("{kimi}:lock", thief)
            for attempt in (store.save(Credential("access-2")), store.delete()):
                with pytest.raises(StoreError, match="lost while it was held; nothing was written"):
                    await attempt
        assert await store.load() == CREDENTIAL
        assert server.lock == thief

    async def test_that_redis_lost_lets_nothing_be_written_over_what_came_after(self, server: Server) -> None:
        """After a failover the old holder may find its own lock again, and behind it a newer credential."""
        store = store_on(server)
        await store.save(CREDENTIAL)
        async with store.locked():
            mine = server.lock
            server.expire_lock()
            await store_on(server).save(Credential("theirs"))
            server.redis.set("{kimi}:lock", str(mine))
            with pytest.raises(StoreError, match="without its lock; nothing was written"):
                await store.save(Credential("mine"))
        assert await store.load() == Credential("theirs")

    async def test_lets_its_holder_write_as_often_as_it_likes(self, server: Server) -> None:
        store = store_on(server)
        async with store.locked():
            for number in range(3):
                await store.save(Credential(f"access-{number}"))
            assert await store.load() == Credential("access-2")
            assert await store.delete() is True
            await store.save(CREDENTIAL)
        assert await store.load() == CREDENTIAL

    async def test_that_is_lost_again_and_again_never_lets_two_believe_that_they_won(self, server: Server) -> None:
        """Every save that did not raise is in the number that is stored: none was written over."""
        chance = random.Random(11)
        store = store_on(server, sleep=lambda seconds: asyncio.sleep(0))
        await store.save(Credential("a", extra={"n": 0}))
        won = lost = 0

        async def count() -> None:
            nonlocal won, lost
            for _ in range(15):
                try:
                    async with store.locked():
                        loaded = await store.load()
                        assert loaded is not None
                        for _ in range(chance.randrange(30)):
                            await asyncio.sleep(0)
                        await store.save(Credential("a", extra={"n": loaded.extra["n"] + 1}))
                        won += 1
                except StoreError:
                    lost += 1

        async def steal(counting: asyncio.Future[list[None]]) -> None:
            while not counting.done():
                for _ in range(chance.randrange(60)):
                    await asyncio.sleep(0)
                server.expire_lock()

        counting = asyncio.gather(*(count() for _ in range(5)))
        await steal(counting)
        await counting
        assert won > 5
        assert lost > 5
        loaded = await store.load()
        assert loaded is not None
        assert loaded.extra["n"] == won


class TestAServerInTrouble:
    async def test_that_is_not_there_is_an_error_not_a_hang(self, tmp_path: Path) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            store = RedisStore(f"redis://:hush@127.0.0.1:{unused.getsockname()[1]}/0", "kimi")
            for attempt in (store.load(), store.save(CREDENTIAL), store.delete()):
                with pytest.raises(StoreError, match=r"redis://127.0.0.1:\d+/0 cannot be used") as caught:
                    await attempt
                assert "hush" not in repr(caught.value)

    async def test_that_hangs_is_an_error_after_the_timeout(self, server: Server) -> None:
        store = store_on(server, timeout=0.2)
        server.pause()
        loop = asyncio.get_running_loop()
        before = loop.time()
        for attempt in (store.load(), store.save(CREDENTIAL)):
            with pytest.raises(StoreError, match="did not answer in time"):
                await attempt
        assert loop.time() - before < 2
        server.go_on()
        assert await store.load() is None
        assert server.lock is None or int(server.redis.pttl("{kimi}:lock")) > 0

    async def test_that_accepts_and_never_answers_is_an_error_after_the_timeout(self) -> None:
        release = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await release.wait()
            writer.close()

        async with await asyncio.start_server(silent, "127.0.0.1", 0) as silence:
            port = silence.sockets[0].getsockname()[1]
            with pytest.raises(StoreError, match="did not answer in time"):
                await RedisStore(f"redis://127.0.0.1:{port}", "kimi", timeout=0.1).load()
            release.set()

    async def test_that_dies_while_the_lock_is_held_lets_nothing_be_written(
        self, server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = store_on(server)
        async with store.locked():
            server.kill()
            with pytest.raises(StoreError, match="cannot be used"):
                await store.save(CREDENTIAL)
        assert "is free in 15 s: it cannot be given back now" in caplog.text

    async def test_that_comes_back_empty_lets_nothing_be_written_under_the_old_lock(self, server: Server) -> None:
        store = store_on(server)
        async with store.locked():
            server.kill()
            server.start()
            with pytest.raises(StoreError, match="lost while it was held"):
                await store.save(CREDENTIAL)
        await store.save(CREDENTIAL)
        assert await store.load() == CREDENTIAL

    async def test_that_comes_back_with_what_it_had_goes_on(self, server: Server) -> None:
        store = store_on(server)
        async with store.locked():
            server.redis.save()
            server.kill()
            server.start()
            await store.save(CREDENTIAL)
        assert await store.load() == CREDENTIAL
        assert server.lock is None
        (server.directory / "dump.rdb").unlink()

    @pytest.mark.parametrize(
        "deed", [b"'NX'", b"'lost'", b"'DEL'", b"'PEXPIRE'"], ids=["the lock", "the save", "the release", "the renewal"]
    )
    async def test_whose_answer_is_lost_is_asked_again_and_has_done_it_once(self, server: Server, deed: bytes) -> None:
        async with Proxy(server) as proxy:
            sleep = Signs()
            store = RedisStore(proxy.url, "kimi", sleep=sleep)
            proxy.lose = deed
            async with store.locked():
                await sleep.called.get()
                sleep.go.release()
                await sleep.called.get()
                await store.save(CREDENTIAL)
            assert proxy.lost == 1
            assert await store.load() == CREDENTIAL
        assert server.lock is None

    async def test_that_pauses_past_the_end_of_the_lock_lets_nothing_be_written(self, server: Server) -> None:
        store = store_on(server, timeout=0.2, lock_ttl=0.3)
        with pytest.raises(StoreError, match="did not answer in time"):
            async with store.locked():
                server.pause()
                await store.save(CREDENTIAL)
        await asyncio.to_thread(threading.Event().wait, 0.3)
        server.go_on()
        assert await store_on(server).load() is None
        assert server.lock is None


class TestWithOAuthCredentials:
    async def test_processes_that_share_it_make_one_token_request(self, server: Server) -> None:
        from rxauth.credentials._oauth import OAuthCredentials

        script = """
import asyncio, sys
from rxauth.credentials._oauth import OAuthCredentials
from rxauth.credentials._stores._redis import RedisStore
url, token_url, client_id = sys.argv[1:]
async def main():
    source = OAuthCredentials(RedisStore(url, "kimi"), token_url=token_url, client_id=client_id)
    await source.current()
    print("ready", flush=True)
    sys.stdin.readline()
    assert await source.refresh(Exception("401")) is not None
asyncio.run(main())
"""
        async with FakeProvider() as fake:
            await store_on(server).save(fake.credential())
            fake.invalidate()
            source = OAuthCredentials(store_on(server), token_url=fake.token_url, client_id=fake.client_id)
            await source.current()
            arguments = [sys.executable, "-c", script, server.url, fake.token_url, fake.client_id]
            pipe = subprocess.PIPE
            processes = [await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe) for _ in range(3)]
            for process in processes:
                assert process.stdout
                assert await process.stdout.readline() == b"ready\n"
            for process in processes:
                assert process.stdin
                process.stdin.write(b"\n")
                process.stdin.close()
            mine = await source.refresh(Exception("401"))
            assert [await process.wait() for process in processes] == [0, 0, 0]
            assert len(fake.token_requests) == 1
            assert await store_on(server).load() == mine
        assert server.lock is None


class TestTheAddress:
    def test_is_told_without_its_password(self) -> None:
        url = "rediss://user:hush@redis.example.com:6380/2?password=hush&ssl_ca_certs=/x"
        store = RedisStore(url, "kimi")
        assert store.describe() == "rediss://redis.example.com:6380/2 (kimi)"
        assert repr(store) == "RedisStore('rediss://redis.example.com:6380/2', 'kimi')"

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]:6379", ""])
    def test_may_be_plain_on_loopback(self, host: str) -> None:
        RedisStore(f"redis://{host}", "kimi")

    def test_must_be_encrypted_elsewhere_unless_that_is_said_to_be_wanted(self) -> None:
        with pytest.raises(ValueError, match=r"do not travel unencrypted to redis\.example\.com") as caught:
            RedisStore("redis://:hush@redis.example.com", "kimi")
        assert "hush" not in str(caught.value)
        RedisStore("redis://redis.example.com", "kimi", allow_plaintext=True)

    @pytest.mark.parametrize("url", ["", "http://localhost", "redis://[", "redis://localhost:port", "/socket"])
    def test_that_is_none_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match="url is"):
            RedisStore(url, "kimi")

    @pytest.mark.parametrize("options", [{"timeout": 0}, {"lock_ttl": 0}, {"lock_ttl": -1}])
    def test_goes_with_times_that_make_sense(self, options: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="more than 0"):
            RedisStore("redis://", "kimi", **options)  # type: ignore[arg-type]

    def test_goes_with_a_key(self) -> None:
        with pytest.raises(ValueError, match="key"):
            RedisStore("redis://", "")

    async def test_without_the_package_says_what_to_install(self) -> None:
        script = """
import sys
sys.modules["redis"] = None
from rxauth.credentials._stores._redis import RedisStore
try:
    RedisStore("redis://", "kimi")
except ImportError as error:
    print(error)
"""
        done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True)
        assert done.stdout == "RedisStore needs the package redis: pip install 'rxauth[redis]'.\n", done.stderr
