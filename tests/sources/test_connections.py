"""The connections of streams without a session: kept for a second attempt, and for nothing else."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import weakref

import pytest
from reactivex import Observable

from rxauth.credentials import Credential
from rxauth.errors import CredentialRejected
from rxauth.events import AssistantEvent
from rxauth.operators import recover_auth
from rxauth.sources import anthropic_messages
from rxauth.sources._connections import KEPT_FOR, pool_of_running_loop
from rxauth.testing import FakeProvider, Gate, Reply
from tests.sources.streams import REQUEST, Counted, Holder, collect, done, failed


def messages(fake: FakeProvider, holder: Holder) -> Observable[AssistantEvent]:
    return anthropic_messages(REQUEST, base_url=fake.url, credentials=holder)


def dead(fake: FakeProvider) -> Holder:
    holder = Holder(fake.credential())
    fake.invalidate()
    return holder


async def closed_at_once(fake: FakeProvider) -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    await fake.until(lambda fake: fake.open_connections == 0)
    assert loop.time() - before < KEPT_FOR / 2


@pytest.mark.looptime
@pytest.mark.parametrize("reply", [None, Reply(chunk_size=7)], ids=["whole", "in pieces"])
async def test_a_second_attempt_uses_the_connection_again(reply: Reply | None) -> None:
    async with Counted(replies=[reply]) as fake:
        holder = dead(fake)

        async def refresh(failure: object) -> Credential:
            holder.credential = fake.credential()
            return holder.credential

        done(await collect(messages(fake, holder).pipe(recover_auth(refresh))))
        assert len(fake.requests) == 2
        assert fake.connections_made == 1
        await closed_at_once(fake)


async def test_a_rejection_in_pieces_is_read_to_its_end() -> None:
    body = b'{"error": {"type": "authentication_error", "message": "' + b"x" * 30_000 + b'"}}'
    async with Counted(replies=[Reply(status=401, body=body, chunk_size=1000), None]) as fake:
        holder = Holder(fake.credential())
        assert type(failed(await collect(messages(fake, holder))).cause) is CredentialRejected
        done(await collect(messages(fake, holder)))
        assert fake.connections_made == 1


@pytest.mark.looptime
async def test_a_connection_is_kept_for_seconds() -> None:
    async with FakeProvider() as fake:
        holder = dead(fake)
        await collect(messages(fake, holder))
        await asyncio.sleep(KEPT_FOR - 0.5)
        assert fake.open_connections == 1
        await asyncio.sleep(1)
        await fake.until(lambda fake: fake.open_connections == 0)


@pytest.mark.looptime
async def test_a_late_attempt_makes_a_new_connection() -> None:
    async with Counted() as fake:
        holder = dead(fake)
        await collect(messages(fake, holder))
        await asyncio.sleep(KEPT_FOR + 1)
        holder.credential = fake.credential()
        done(await collect(messages(fake, holder)))
        assert fake.connections_made == 2
        await fake.until(lambda fake: fake.open_connections == 0)


@pytest.mark.looptime
async def test_an_attempt_at_the_last_moment_keeps_its_session() -> None:
    async def second() -> None:
        await asyncio.sleep(KEPT_FOR)
        session = await pool_of_running_loop().take()
        await asyncio.sleep(1)
        assert not session.closed
        await pool_of_running_loop().give_back(comes_back=False)

    attempt = asyncio.ensure_future(second())
    await asyncio.sleep(0)  # its timer is the first of two that fire together
    session = await pool_of_running_loop().take()
    await pool_of_running_loop().give_back(comes_back=True)
    await attempt
    assert session.closed


@pytest.mark.looptime
async def test_each_rejected_stream_keeps_a_connection() -> None:
    async with Counted() as fake:
        holder = dead(fake)
        for each in await asyncio.gather(*(collect(messages(fake, holder)) for _ in range(2))):
            failed(each)
        holder.credential = fake.credential()
        for _ in range(2):
            done(await collect(messages(fake, holder)))
        assert fake.connections_made == 2
        await closed_at_once(fake)


@pytest.mark.looptime
async def test_an_attempt_that_never_comes_is_forgotten() -> None:
    async with FakeProvider() as fake:
        holder = dead(fake)
        await asyncio.gather(*(collect(messages(fake, holder)) for _ in range(3)))
        await fake.until(lambda fake: fake.open_connections == 0)
        holder.credential = fake.credential()
        done(await collect(messages(fake, holder)))
        await closed_at_once(fake)


@pytest.mark.looptime
async def test_the_last_stream_closes_the_shared_session() -> None:
    gate = Gate()
    async with FakeProvider(replies=[Reply.hang(gate, after=1), None, None]) as fake:
        holder = Holder(fake.credential())
        hanging = asyncio.ensure_future(collect(messages(fake, holder)))
        await gate.reached()
        for _ in range(2):
            done(await collect(messages(fake, holder)))
        assert fake.open_connections == 2, "one that hangs, and one that was used twice"
        gate.open()
        done(await hanging)
        await closed_at_once(fake)


async def test_more_than_a_hundred_streams_run_at_once() -> None:
    gate = Gate()
    async with FakeProvider(replies=[Reply.hang(gate, after=1)] * 101) as fake:
        holder = Holder(fake.credential())
        streams = [asyncio.ensure_future(collect(messages(fake, holder))) for _ in range(101)]
        await fake.seen(101)
        gate.open()
        for each in await asyncio.gather(*streams):
            done(each)


async def test_cookies_do_not_cross_accounts() -> None:
    async with FakeProvider(replies=[Reply(status=401, headers={"Set-Cookie": "account=one"}), None]) as fake:
        url = fake.url.replace("127.0.0.1", "localhost")  # an address alone would not be given cookies in any case
        for _ in range(2):
            await collect(anthropic_messages(REQUEST, base_url=url, credentials=Holder(fake.credential())))
        assert "Cookie" not in fake.requests[1].headers


@pytest.mark.parametrize("end", ["asyncio.run", "a bare loop"])
def test_a_loop_that_ends_leaves_nothing_open(end: str) -> None:
    with FakeProvider() as fake:
        holder = dead(fake) if end == "asyncio.run" else Holder(fake.credential())

        async def main() -> None:
            await collect(messages(fake, holder))

        if end == "asyncio.run":
            asyncio.run(main())  # right after a rejection: a connection is being kept
        else:
            loop = asyncio.new_event_loop()
            loop.run_until_complete(main())
            loop.close()
        gc.collect()  # an unclosed session or socket warns here, and a warning is an error
        asyncio.run(fake.until(lambda fake: fake.open_connections == 0))


def test_a_closed_loop_is_freed_when_the_next_one_comes() -> None:
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def main() -> None:
        gc.collect()
        assert not any(each() for each in loops[:-1])
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await pool_of_running_loop().take()
        await pool_of_running_loop().give_back(comes_back=True)

    for _ in range(3):
        asyncio.run(main())


@pytest.mark.looptime
async def test_a_running_loop_keeps_its_connections() -> None:
    async with Counted() as fake:
        holder = dead(fake)
        failed(await collect(messages(fake, holder)))

        async def elsewhere() -> None:
            await pool_of_running_loop().take()
            await pool_of_running_loop().give_back(comes_back=False)

        await asyncio.to_thread(asyncio.run, elsewhere())
        holder.credential = fake.credential()
        done(await collect(messages(fake, holder)))
        assert fake.connections_made == 1


@pytest.mark.filterwarnings("ignore:asynchronous generator:ResourceWarning")
async def test_a_loop_without_generators_gets_another_session() -> None:
    pool = pool_of_running_loop()
    first = await pool.take()
    await asyncio.get_running_loop().shutdown_asyncgens()
    assert first.closed
    assert not (await pool.take()).closed
    for _ in range(2):
        await pool.give_back(comes_back=False)


async def _rejected_then_answered(fake: FakeProvider, holder: Holder) -> None:
    failed(await collect(messages(fake, holder)))
    holder.credential = fake.credential()
    done(await collect(messages(fake, holder)))


def test_loopback_goes_to_no_proxy() -> None:
    program = (
        "import asyncio, sys\n"
        "from rxauth.credentials import StaticCredentials\n"
        "from rxauth.sources import anthropic_messages\n"
        "async def main():\n"
        "    completed = asyncio.Event()\n"
        "    stream = anthropic_messages({}, base_url=sys.argv[1], credentials=StaticCredentials('key'))\n"
        "    stream.subscribe(lambda event: print(event.type), on_completed=completed.set)\n"
        "    await completed.wait()\n"
        "asyncio.run(main())\n"
    )
    nowhere = {f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https", "all")}
    with FakeProvider(answer="Hi", api_keys=["key"]) as fake:
        run = subprocess.run(
            [sys.executable, "-c", program, fake.url],
            env=os.environ | nowhere,
            capture_output=True,
            text=True,
            check=True,
        )
    assert run.stdout.split()[-1] == "done"
