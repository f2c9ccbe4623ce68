"""How long a consumer waits for the first event because the token was stale: wall time, the provider 50 ms away."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rxauth import AssistantEvent, Credential, FileStore, OAuthCredentials, anthropic_messages, recover_auth

from .contest import Contest, Cost, row
from .far import Far, far

LATENCY = 0.05
ROUND_TRIPS = 2  # that the provider cannot do without: the refresh, and the second request

REQUEST = {"model": "any", "max_tokens": 99, "messages": [{"role": "user", "content": "hello"}]}


@row("wait that a stale token causes / the provider's own two round trips (wall time)", at_most=1.25, rounds=9)
def wait_for_a_stale_token(scale: int) -> Generator[Contest]:
    with stage() as (provider, runner):

        async def wait() -> float:
            credentials = provider.credentials(provider.stale())
            with_stale = await time_to_the_first_event(provider, credentials)
            return with_stale - await time_to_the_first_event(provider, credentials)

        yield Contest(typical(runner, wait), lambda: ROUND_TRIPS * LATENCY)


@row("the same with a FileStore", at_most=1.25, rounds=9)
def wait_with_a_file(scale: int) -> Generator[Contest]:
    with stage() as (provider, runner), tempfile.TemporaryDirectory() as directory:
        store = FileStore(Path(directory) / "credentials.json", "benchmark")

        async def wait() -> float:
            await store.save(provider.stale())
            credentials = provider.credentials(store)
            with_stale = await time_to_the_first_event(provider, credentials)
            return with_stale - await time_to_the_first_event(provider, credentials)

        yield Contest(typical(runner, wait), lambda: ROUND_TRIPS * LATENCY)


@row("the same for a token that is known to have expired / one round trip (wall time)", at_most=1.25, rounds=9)
def wait_for_an_expired_token(scale: int) -> Generator[Contest]:
    with stage() as (provider, runner):

        async def wait() -> float:
            credentials = provider.credentials(expiring(provider.stale(), seconds=-1))
            with_expired = await time_to_the_first_event(provider, credentials)
            return with_expired - await time_to_the_first_event(provider, credentials)

        yield Contest(typical(runner, wait), lambda: LATENCY)


@row(
    "first event with a token that is refreshed in the background / with a fresh one (wall time)", at_most=1.1, rounds=9
)
def wait_for_a_token_that_ends_soon(scale: int) -> Generator[Contest]:
    with stage() as (provider, runner):

        async def time_with(seconds: float) -> float:
            credentials = provider.credentials(expiring(provider.valid(), seconds=seconds))
            return await time_to_the_first_event(provider, credentials)

        yield Contest(typical(runner, lambda: time_with(60)), typical(runner, lambda: time_with(800)))


@contextmanager
def stage() -> Generator[tuple[Far, asyncio.Runner]]:
    with far(LATENCY) as provider, asyncio.Runner() as runner:
        yield provider, runner


def typical(runner: asyncio.Runner, wait: Callable[[], Coroutine[Any, Any, float]]) -> Cost:
    async def several() -> float:
        return statistics.median([await wait() for _ in range(3)])

    return lambda: runner.run(several())


def expiring(credential: Credential, *, seconds: float) -> Credential:
    return Credential(
        credential.access_token,
        refresh_token=credential.refresh_token,
        expires_at=time.time() + seconds,
        extra={"expires_in": 900},
    )


async def time_to_the_first_event(provider: Far, credentials: OAuthCredentials) -> float:
    """Seconds from subscribe to the first event that the consumer gets; the answer is read to its end."""
    first = 0.0
    ended = asyncio.get_running_loop().create_future()

    def consumer(event: AssistantEvent) -> None:
        nonlocal first
        first = first or time.perf_counter()
        assert event.type != "error", event

    stream = anthropic_messages(REQUEST, base_url=provider.url, credentials=credentials)
    begun = time.perf_counter()
    stream.pipe(recover_auth(credentials.refresh)).subscribe(
        consumer, ended.set_exception, lambda: ended.set_result(None)
    )
    await ended
    return first - begun
