"""Replies: their fields, their steps, and waiting at a gate."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxauth.events import Text
from rxauth.testing import Gate, Pause, Reply
from rxauth.testing._replies import End, encoded, sse, writes
from rxauth.testing._signal import Signal


@pytest.mark.parametrize(
    "nonsense",
    [
        {"status": 199},
        {"status": 600},
        {"status": "200"},
        {"status": True},
        {"headers": {"X-A": "two\r\nlines"}},
        {"headers": {"X\n": "a"}},
        {"delay": -1},
        {"delay": float("nan")},
        {"pause": float("inf")},
        {"pause": "1"},
        {"delay": True},
        {"cut_at": -1},
        {"cut_at": "tail"},
        {"reset_at": 1.5},
        {"cut_at": 1, "reset_at": 2},
        {"chunk_size": 0},
        {"events_per_write": 0},
        {"chunk_size": 3, "events_per_write": 2},
        {"body": "x", "answer": "y"},
        {"body": "x", "error": "y"},
        {"body": "x", "stop": "stop"},
        {"status": 401, "answer": "x"},
        {"status": 401, "stop": "stop"},
        {"status": 401, "error": "x", "error_after": 1},
        {"error_after": 1},
        {"error": "x", "error_after": -1},
        {"error": "x", "stop": "stop"},
        {"stop": "end_turn"},
        {"hold_after": 1},
        {"hold": Gate(), "hold_after": -1},
    ],
    ids=str,
)
def test_nonsense_is_refused(nonsense: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Reply(**nonsense)


def test_a_reply_keeps_its_own_copies() -> None:
    headers, body, answer = {"a": "b"}, [b"one"], [Text("one")]
    replies = Reply(headers=headers, body=body), Reply(answer=answer)
    headers["c"], body[0] = "d", b"two"
    answer.append(Text("two"))
    assert (dict(replies[0].headers), replies[0].body, replies[1].answer) == ({"a": "b"}, (b"one",), (Text("one"),))


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(), "Reply()"),
        (Reply.cut(), "Reply(cut_at='head')"),
        (Reply.cut(at=0), "Reply(cut_at=0)"),
        (Reply.reset(5, delay=1), "Reply(delay=1, reset_at=5)"),
        (Reply.hang(after=2), "Reply(hold=Gate(closed, 0 reached), hold_after=2)"),
        (Reply(status=200, body="secret"), "Reply(body=...)"),
        (Reply.rate_limited(headers={"a": "b"}), "Reply(status=429, headers={'a': 'b'})"),
        (Reply.unauthorized("token_expired"), "Reply(status=401, error='token_expired')"),
    ],
    ids=str,
)
def test_a_reply_is_printed_as_it_was_made(reply: Reply, text: str) -> None:
    assert repr(reply) == text


def test_an_event_is_encoded_with_its_type() -> None:
    assert (
        sse({"type": "x", "text": "\u00e9\u2028\n"})
        == 'event: x\ndata: {"type":"x","text":"\u00e9\u2028\\n"}\n\n'.encode()
    )
    assert sse({"type": 3}) == b'data: {"type":3}\n\n'


def test_a_body_of_other_things_is_refused() -> None:
    with pytest.raises(TypeError, match="int"):
        list(encoded([1]))  # type: ignore[list-item]


def test_a_gate_stands_after_so_many_events() -> None:
    gate = Gate()
    for after, steps in [(0, [gate, b"a", b"b"]), (1, [b"a", gate, b"b"]), (2, [b"a", b"b", gate])]:
        assert list(writes([b"a", b"b"], Reply(hold=gate, hold_after=after))) == steps
    assert list(writes([b"a", b"b"], Reply(hold=gate, hold_after=9))) == [b"a", b"b", gate]
    pause = Pause(1)
    assert list(writes([pause, b"a", b"b"], Reply(hold=gate, hold_after=1))) == [pause, b"a", gate, b"b"]
    assert list(writes([b"a", b"b"], Reply(hold=gate))) == [b"a", b"b"], "at the head it is not the body's business"


def test_a_pause_ends_a_write() -> None:
    pause = Pause(1)
    assert list(writes([b"a", pause, b"bc"], Reply(chunk_size=2))) == [b"a", pause, b"bc"]
    assert list(writes([b"a", pause, b"b", b"c"], Reply(events_per_write=2))) == [b"a", pause, b"bc"]


def test_a_cut_of_zero_writes_nothing() -> None:
    gate = Gate()
    assert list(writes([gate, b"a"], Reply(cut_at=0))) == [gate, End.CUT]
    assert list(writes([b"a", gate, b"b"], Reply(reset_at=1))) == [b"a", gate, End.RESET]


@given(
    pieces=st.lists(st.binary(max_size=9), max_size=9),
    how=st.one_of(
        st.fixed_dictionaries({"chunk_size": st.integers(1, 12)}),
        st.fixed_dictionaries({"events_per_write": st.integers(1, 4)}),
    ),
    end=st.one_of(
        st.just({}),
        st.fixed_dictionaries({"cut_at": st.integers(0, 80)}),
        st.fixed_dictionaries({"reset_at": st.integers(0, 80)}),
    ),
    pause=st.sampled_from([0, 1]),
)
def test_the_bytes_are_the_same_in_any_writes(
    pieces: list[bytes], how: dict[str, int], end: dict[str, int], pause: int
) -> None:
    steps = list(writes(pieces, Reply(pause=pause, **how, **end)))  # type: ignore[arg-type]
    sent = [step for step in steps if isinstance(step, bytes)]
    whole, at = b"".join(pieces), next(iter(end.values()), None)
    assert b"".join(sent) == whole[:at]
    assert b"" not in sent, "an empty chunk is the terminal one"
    assert [step for step in steps if isinstance(step, End)] == ([] if at is None else [steps[-1]])
    assert sum(isinstance(step, Pause) for step in steps) == (max(0, len(sent) - 1) if pause else 0)
    if "chunk_size" in how:
        assert all(len(step) == how["chunk_size"] for step in sent[:-1])


# Waiting.


async def test_a_gate_counts_responses() -> None:
    gate = Gate()
    held = [asyncio.create_task(gate.hold()) for _ in range(3)]
    await gate.reached(3)
    assert not any(task.done() for task in held)
    gate.open()
    await asyncio.gather(*held, gate.hold())
    assert gate.is_open


def test_a_gate_is_opened_from_another_thread() -> None:
    gate, passed = Gate(), threading.Event()

    def waiter() -> None:
        asyncio.run(gate.hold())
        passed.set()

    thread = threading.Thread(target=waiter)
    thread.start()
    asyncio.run(gate.reached())
    assert not passed.is_set()
    gate.open()
    thread.join(10)
    assert passed.is_set()


async def test_a_signal_outlives_waiters_and_loops() -> None:
    signal, changed = Signal(), False
    waiting = asyncio.create_task(signal.until(lambda: changed))
    leaving = asyncio.create_task(signal.until(lambda: changed))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert len(signal._waiting) == 1

    ended = asyncio.new_event_loop()
    signal._waiting.add(ended.create_future())
    ended.close()
    changed = True
    signal.notify()
    await waiting


async def test_a_waiter_that_leaves_when_woken_is_no_error() -> None:
    trouble: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: trouble.append(context))
    signal = Signal()
    waiting = asyncio.create_task(signal.until(lambda: False))
    await asyncio.sleep(0)
    signal.notify()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert trouble == []


def test_a_condition_true_between_checks_is_not_missed() -> None:
    signal = Signal()
    answers = iter([False, True])

    async def main() -> None:
        async with asyncio.timeout(5):
            await signal.until(lambda: next(answers))

    asyncio.run(main())
