"""A network that breaks anywhere: every stream ends once, every credential survives."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from rxauth import (
    Credential,
    FileStore,
    LoginRequired,
    OAuthCredentials,
    RxAuthError,
    anthropic_messages,
    buffer_until_live,
    flush_on_complete_or_error,
    openai_chat,
    recover_auth,
    retry_on_first_auth_error,
    to_async_iterable,
)
from rxauth.testing import FakeProvider
from tests.hostile.leaks import run
from tests.hostile.network import Connection, Fault, proxy

pytestmark = pytest.mark.slow

ANSWER = "The whole answer, every word of it, once."
REQUEST = {"model": "any", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}

# Seconds; a stall lasts so long.
SILENCE = 0.15
BOUND = 20.0

CI_SHARE = 40
EXAMPLES = int(os.environ.get("RXAUTH_CASES", CI_SHARE))

faults = st.builds(
    Fault,
    kind=st.sampled_from(["none", "reset", "close", "half-close", "stall"]),
    way=st.sampled_from(["down", "down", "up"]),
    at=st.integers(0, 40) | st.integers(100, 500) | st.integers(0, 2500),
    chop=st.none() | st.integers(8, 200),
    delay=st.integers(0, 3),
)


async def no_time(seconds: float) -> None:
    await asyncio.sleep(0)


def credentials_at(token_url: str, store: FileStore, client_id: str, silence: float) -> OAuthCredentials:
    bounds: Any = {"request_timeout": silence, "answer_timeout": silence, "timeout": 12 * silence, "sleep": no_time}
    return OAuthCredentials(store, token_url=token_url, client_id=client_id, **bounds)


async def one_stream(
    path: Path,
    api_faults: Sequence[Fault],
    token_faults: Sequence[Fault],
    *,
    openai: bool = False,
    three: bool = False,
    silence: float = SILENCE,
) -> tuple[list[Any], int]:
    """Return the events, and how many faults have happened."""
    async with (
        FakeProvider(answer=ANSWER) as fake,
        proxy(fake.url, api_faults) as api,
        proxy(fake.token_url, token_faults) as oauth,
    ):
        store = FileStore(path, "key")
        await store.save(fake.credential())
        fake.invalidate()
        credentials = credentials_at(oauth.url, store, fake.client_id, silence)
        make, path_of_wire = (openai_chat, "/v1") if openai else (anthropic_messages, "")
        source = make(REQUEST, base_url=api.url + path_of_wire, credentials=credentials, read_timeout=silence)
        refresh = credentials.refresh
        pipe: Any = (recover_auth(refresh),)
        if three:
            pipe = (buffer_until_live(), retry_on_first_auth_error(refresh), flush_on_complete_or_error())
        async with asyncio.timeout(BOUND):
            events = [event async for event in to_async_iterable(source.pipe(*pipe))]
        check_one_stream(events)
        await check_the_credential(fake, store, credentials, oauth.connections)
        return events, api.struck + oauth.struck


def check_one_stream(events: list[Any]) -> None:
    types = [event.type for event in events]
    assert types[0] == "start"
    assert types[-1] in ("done", "error")
    assert types.count("start") == types.count("done") + types.count("error") == 1
    text = "".join(event.delta for event in events if event.type == "text_delta")
    if types[-1] == "done":
        assert text == events[-1].message.text == ANSWER
    else:
        assert ANSWER.startswith(text)
        assert events[-1].error.text == text
        assert isinstance(events[-1].cause, RxAuthError)


async def check_the_credential(
    fake: FakeProvider, store: FileStore, credentials: OAuthCredentials, connections: Sequence[Connection]
) -> None:
    stored = await store.load()
    assert stored is not None
    if fake.accepts(stored.access_token):
        return
    # Without the proxy the refresh token is good, or it was spent for an answer that was lost on its way back.
    later = credentials_at(fake.token_url, store, fake.client_id, SILENCE)
    (outcome,) = await asyncio.gather(later.refresh(None), return_exceptions=True)
    if isinstance(outcome, LoginRequired):
        swallowed = [each for each in connections if each.struck and not each.answered and each.passed["up"] > 0]
        assert swallowed, connections
        assert "Log in again." in str(outcome)
        assert await store.load() == stored
    else:
        assert isinstance(outcome, Credential)
        assert fake.accepts(outcome.access_token)


@pytest.mark.slow
@hypothesis.settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES <= CI_SHARE,
    database=None,
    phases=[hypothesis.Phase.generate],  # to shrink what takes a tenth of a second takes minutes
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
@hypothesis.given(
    api_faults=st.lists(faults, max_size=3),
    token_faults=st.lists(faults, max_size=4),
    openai=st.booleans(),
    three=st.booleans(),
)
def test_a_broken_network_ends_each_stream_once(
    api_faults: list[Fault], token_faults: list[Fault], openai: bool, three: bool
) -> None:
    with tempfile.TemporaryDirectory() as home:
        _, struck = run(one_stream(Path(home) / "auth.json", api_faults, token_faults, openai=openai, three=three))
    hypothesis.event(f"{struck} faults")


def at_each_kind(way: Any, at: int) -> list[Fault]:
    kinds: Any = ("reset", "close", "half-close", "stall")
    return [Fault(kind=kind, way=way, at=at) for kind in kinds]


@pytest.mark.parametrize("openai", [False, True], ids=["anthropic", "openai"])
@pytest.mark.parametrize("fault", [Fault(chop=1), Fault(chop=7, delay=5), Fault(delay=20)], ids=str)
def test_a_slow_network_changes_nothing(tmp_path: Path, fault: Fault, openai: bool) -> None:
    path = tmp_path / "auth.json"
    events, _ = run(one_stream(path, [fault] * 2, [fault], openai=openai, silence=BOUND / 2))
    assert events[-1].type == "done"


@pytest.mark.parametrize("fault", at_each_kind("up", 50), ids=str)
def test_a_lost_token_request_is_made_again(tmp_path: Path, fault: Fault) -> None:
    events, struck = run(one_stream(tmp_path / "auth.json", [], [fault, fault]))
    assert (events[-1].type, struck) == ("done", 2)


# The first connection brings the 401, and is used again.
@pytest.mark.parametrize("fault", at_each_kind("down", 1200), ids=str)
def test_an_answer_without_its_end_is_an_error(tmp_path: Path, fault: Fault) -> None:
    events, struck = run(one_stream(tmp_path / "auth.json", [fault], []))
    assert (events[-1].type, struck) == ("error", 1)
    assert 0 < len(events[-1].error.text) < len(ANSWER)
