"""The connections of streams without a session: kept for a second attempt, and for nothing else."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from rxauth.credentials import Credential
from rxauth.events import AssistantEvent
from rxauth.operators import recover_auth
from rxauth.sources import anthropic_messages
from rxauth.sources._connections import KEPT_FOR, pool_of_running_loop
from rxauth.testing import FakeProvider, Gate, Reply
from tests.sources.streams import REQUEST, Counted, Holder, collect, done, failed


async def stream(fake: FakeProvider, holder: Holder) -> list[AssistantEvent]:
    return await collect(anthropic_messages(REQUEST, base_url=fake.url, credentials=holder))


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
@pytest.mark.parametrize(
    "rejection",
    [
        pytest.param(Reply(status=401), id="whole"),
        pytest.param(Reply(status=401, chunk_size=7), id="in pieces"),
        pytest.param(Reply(status=401, body={"message": "x" * 30_000}, chunk_size=1000), id="long, in pieces"),
    ],
)
async def test_a_second_attempt_uses_the_connection_again(rejection: Reply) -> None:
    async with Counted(replies=[rejection, None]) as fake:
        holder = Holder(fake.credential())

        async def refresh(failure: object) -> Credential:
            holder.credential = fake.credential()
            return holder.credential

        source = anthropic_messages(REQUEST, base_url=fake.url, credentials=holder)
        done(await collect(source.pipe(recover_auth(refresh))))
        assert (len(fake.requests), fake.connections_made) == (2, 1)
        await closed_at_once(fake)


@pytest.mark.looptime
async def test_a_connection_is_kept_for_seconds() -> None:
    async with Counted() as fake:
        holder = dead(fake)
        await stream(fake, holder)
        await asyncio.sleep(KEPT_FOR - 0.5)
        assert fake.open_connections == 1
        await asyncio.sleep(1)
        await fake.until(lambda fake: fake.open_connections == 0)
        holder.credential = fake.credential()
        done(await stream(fake, holder))
        assert fake.connections_made == 2
        await closed_at_once(fake)


@pytest.mark.looptime
async def test_an_attempt_at_the_last_moment_keeps_its_session() -> None:
    pool = pool_of_running_loop()

    async def second() -> None:
        await asyncio.sleep(KEPT_FOR)
        session = await pool.take()
        await asyncio.sleep(1)
        assert not session.closed
        await pool.give_back(comes_back=False)

    attempt = asyncio.ensure_future(second())
    await asyncio.sleep(0)  # its timer is the first of two that fire together
    session = await pool.take()
    await pool.give_back(comes_back=True)
    await attempt
    assert session.closed


@pytest.mark.looptime
@pytest.mark.parametrize("comes_back", [True, False])
async def test_each_rejected_stream_keeps_a_connection(comes_back: bool) -> None:
    """Until its second attempt, or until none has come."""
    async with Counted() as fake:
        holder = dead(fake)
        for each in await asyncio.gather(*(stream(fake, holder) for _ in range(2))):
            failed(each)
        if not comes_back:
            await fake.until(lambda fake: fake.open_connections == 0)
        holder.credential = fake.credential()
        for _ in range(2 if comes_back else 1):
            done(await stream(fake, holder))
        assert fake.connections_made == (2 if comes_back else 3)
        await closed_at_once(fake)


@pytest.mark.looptime
async def test_the_last_stream_closes_the_shared_session() -> None:
    gate = Gate()
    async with FakeProvider(replies=[Reply.hang(gate, after=1), None, None]) as fake:
        holder = Holder(fake.credential())
        hanging = asyncio.ensure_future(stream(fake, holder))
        await gate.reached()
        for _ in range(2):
            done(await stream(fake, holder))
        assert fake.open_connections == 2, "one that hangs, and one that was used twice"
        gate.open()
        done(await hanging)
        await closed_at_once(fake)


async def test_more_than_a_hundred_streams_run_at_once() -> None:
    gate = Gate()
    async with FakeProvider(replies=[Reply.hang(gate, after=1)] * 101) as fake:
        holder = Holder(fake.credential())
        streams = [asyncio.ensure_future(stream(fake, holder)) for _ in range(101)]
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
        if end == "asyncio.run":
            asyncio.run(stream(fake, dead(fake)))  # right after a rejection: a connection is being kept
        else:
            loop = asyncio.new_event_loop()
            loop.run_until_complete(stream(fake, Holder(fake.credential())))
            loop.close()
        gc.collect()  # an unclosed session or socket warns here, and a warning is an error
        asyncio.run(fake.until(lambda fake: fake.open_connections == 0))


async def use_the_pool() -> None:
    await pool_of_running_loop().take()
    await pool_of_running_loop().give_back(comes_back=True)


def test_a_closed_loop_is_freed_when_the_next_one_comes() -> None:
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def main() -> None:
        gc.collect()
        assert not any(each() for each in loops[:-1])
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await use_the_pool()

    for _ in range(3):
        asyncio.run(main())


@pytest.mark.looptime
async def test_a_running_loop_keeps_its_connections() -> None:
    async with Counted() as fake:
        holder = dead(fake)
        failed(await stream(fake, holder))
        await asyncio.to_thread(asyncio.run, use_the_pool())
        holder.credential = fake.credential()
        done(await stream(fake, holder))
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
