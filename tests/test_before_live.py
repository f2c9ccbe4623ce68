"""Every failure before the first word and after it, over the real sources: the table of notebook 5, cell by cell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tenacity
from reactivex import operators as ops
from reactivex.testing import TestScheduler

from rxauth import (
    MemoryStore,
    OAuthCredentials,
    StaticCredentials,
    anthropic_messages,
    buffer_until_live,
    flush_on_complete_or_error,
    limit_silence,
    openai_chat,
    retry_never_live,
    retry_on_first_auth_error,
    switch_if_never_live,
)
from rxauth.testing import FakeProvider, Gate, Reply

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "5_composing.ipynb"

ANSWER = "Every word of the answer, once."
FIRST, IDLE = 60, 30
LIVE = 5  # that many events of either wire bring a word of the answer
PLAN = "Your current subscription does not have access to this model."

WHOLE = "start, text_start, text, text_end, done"
BROKEN_OFF = "start, text_start, text, error"
TIMED_OUT = "start, text_start, text, TimeoutError"


@dataclass(frozen=True)
class Cell:
    """One cell of the table: how the provider behaves, and the outcome in words and numbers.

    `advance` is the time that passes at each gate that a reply reaches; `leaves` disposes there instead. `each_ping` is
    the time that has passed when a ping comes.
    """

    words: str
    reply: Callable[[Gate], Reply | None]
    seen: str
    requests: int = 1
    refreshes: int = 0
    failover: bool = False
    stale: bool = False
    revoked: bool = False
    advance: float = 0.0
    each_ping: float = 0.0
    leaves: bool = False


AGAIN = "two more attempts, then the backup answers"
SHOWN = "the error is shown behind the text"
CLOSED = "the connection is closed; no further request"


def silent(gate: Gate) -> Reply:
    return Reply.hang(gate, after=LIVE)


def before(words: str, reply: Callable[[Gate], Reply | None], **options: Any) -> Cell:
    return Cell(words, reply, WHOLE, failover=True, **options)


def after(reply: Callable[[Gate], Reply | None], words: str = SHOWN, **options: Any) -> Cell:
    return Cell(words, reply, **({"seen": BROKEN_OFF} | options))


def in_band(error: str, **options: Any) -> Callable[[Gate], Reply]:
    return lambda _: Reply.in_band_error(error, after=LIVE, **options)


PINGS = Reply(body=[": a comment is a ping\n\n"] * 20)

TABLE: dict[str, tuple[Cell | None, Cell | None]] = {
    "stale token": (
        Cell("one refresh, one more request: the answer", lambda _: None, WHOLE, requests=2, refreshes=1, stale=True),
        after(in_band("authentication_error")),
    ),
    "dead login": (
        before("one refused refresh, then the backup answers", lambda _: None, refreshes=1, stale=True, revoked=True),
        after(in_band("authentication_error")),
    ),
    "plan limit with 401": (
        before("the backup answers", lambda _: Reply(status=401, message=PLAN)),
        after(in_band("permission_error", message=PLAN)),
    ),
    "overloaded": (
        before(AGAIN, lambda _: Reply(status=529), requests=3),
        after(in_band("overloaded_error")),
    ),
    "connection reset": (
        before(AGAIN, lambda _: Reply.reset(), requests=3),
        after(lambda _: Reply.reset(at=700)),
    ),
    "silence before the headers": (
        before(f"ended after `idle`; {AGAIN}", Reply.hang, requests=3, advance=IDLE),
        None,
    ),
    "silence after the headers": (
        before(f"ended after `idle`; {AGAIN}", lambda gate: Reply.hang(gate, after=0), requests=3, advance=IDLE),
        None,
    ),
    "pings only": (
        before(f"ended after `first`; {AGAIN}", lambda _: PINGS, requests=3, each_ping=IDLE / 2),
        None,
    ),
    "silence in the middle": (
        None,
        after(silent, "`TimeoutError` after `idle`, behind the text", seen=TIMED_OUT, advance=IDLE),
    ),
    "stream cut off": (
        before(AGAIN, lambda _: Reply.cut(at=40), requests=3),
        after(lambda _: Reply.cut(at=700)),
    ),
    "consumer gone": (
        Cell(CLOSED, Reply.hang, "", leaves=True),
        after(silent, CLOSED, seen="start, text_start, text", leaves=True),
    ),
}

CELLS = [
    pytest.param(cell, id=f"{cause}, {phase} live")
    for cause, cells in TABLE.items()
    for phase, cell in zip(("before", "after"), cells, strict=True)
    if cell is not None
]


def markdown() -> Iterator[str]:
    yield "| cause | before the stream is live | after |"
    yield "|---|---|---|"
    for cause, cells in TABLE.items():
        yield f"| {' | '.join([cause, *('-' if cell is None else cell.words for cell in cells)])} |"


def test_the_table_in_the_notebook_is_this_one() -> None:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    assert any("\n".join(markdown()) in text for text in texts)


async def no_wait(seconds: float) -> None:
    """Return at once."""


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("source", "path"),
    [pytest.param(anthropic_messages, "", id="anthropic"), pytest.param(openai_chat, "/v1", id="openai")],
)
async def test_each_cell(cell: Cell, source: Any, path: str) -> None:
    gate, clock = Gate(), TestScheduler()
    reply = cell.reply(gate)
    async with (
        FakeProvider(answer=ANSWER, replies=[reply] * 9) as fake,
        FakeProvider(answer=ANSWER, api_keys=["the backup's"]) as backup,
    ):
        store = MemoryStore(fake.credential())
        credentials = OAuthCredentials(store, token_url=fake.token_url, client_id=fake.client_id, sleep=no_wait)
        if cell.stale:
            fake.invalidate()
        if cell.revoked:
            fake.revoke()
        seen: list[Any] = []
        ended = asyncio.get_running_loop().create_future()
        at_once = tenacity.Retrying(stop=tenacity.stop_after_attempt(3))

        def let_time_pass(event: Any) -> None:
            if event.type == "ping":
                clock.advance_by(cell.each_ping)

        request = {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}
        first = source(request, base_url=fake.url + path, credentials=credentials, pings=True)
        second = source(request, base_url=backup.url + path, credentials=StaticCredentials("the backup's"))
        stream = first.pipe(
            ops.do_action(let_time_pass),
            limit_silence(first=FIRST, idle=IDLE),
            buffer_until_live(),
            retry_on_first_auth_error(credentials.refresh),
            retry_never_live(retrying=at_once),
            switch_if_never_live(second.pipe(buffer_until_live())),
            flush_on_complete_or_error(),
        )
        subscription = stream.subscribe(
            seen.append,
            lambda error: ended.set_result(type(error).__name__),
            lambda: ended.set_result(None),
            scheduler=clock,
        )
        held = 0
        while not ended.done():
            reached = asyncio.ensure_future(gate.reached(held + 1))
            await asyncio.wait({ended, reached}, return_when=asyncio.FIRST_COMPLETED)
            reached.cancel()
            if not ended.done():
                held += 1
                if cell.leaves:
                    subscription.dispose()
                    await fake.until(lambda fake: fake.open_connections == 0)
                    break
                clock.advance_by(cell.advance)
        types = ["text" if event.type == "text_delta" else event.type for event in seen]
        error = [ended.result()] if ended.done() and ended.result() else []
        assert ", ".join([*dict.fromkeys(types), *error]) == cell.seen
        assert types.count("start") == (1 if cell.seen else 0)
        text = "".join(event.delta for event in seen if event.type == "text_delta")
        assert text == ANSWER if cell.seen == WHOLE else ANSWER.startswith(text)
        assert (len(fake.api_requests), len(fake.token_requests)) == (cell.requests, cell.refreshes)
        assert len(backup.api_requests) == cell.failover
