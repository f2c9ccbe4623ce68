"""Scripted replies: what they refuse, and what a client gets."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxauth.events import Text
from rxauth.testing import FakeProvider, Gate, Pause, Reply
from rxauth.testing._bodies import writes
from tests.testing.conftest import CHAT, MESSAGES, REQUEST, Serve


@pytest.mark.parametrize(
    "nonsense",
    [
        {"status": 199},
        {"status": 600},
        {"headers": {"X-A": "two\r\nlines"}},
        {"headers": {"X\n": "a"}},
        {"delay": -1},
        {"delay": float("nan")},
        {"pause": float("inf")},
        {"cut_at": -1},
        {"cut_at": "tail"},
        {"reset_at": 1.5},
        {"cut_at": 1, "reset_at": 2},
        {"chunk_size": 0},
        {"events_per_write": 0},
        {"chunk_size": 3, "events_per_write": 2},
        {"body": "x", "answer": "y"},
        {"body": "x", "error": "y"},
        {"status": 401, "stop": "stop"},
        {"status": 401, "error": "x", "error_after": 1},
        {"error_after": 1},
        {"error": "x", "error_after": -1},
        {"error": "x", "stop": "stop"},
        {"stop": "end_turn"},
        {"shape": "round", "error": "e"},
        {"shape": "bare"},
        {"numbering": "by hand"},
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
        (Reply.cut(at=0), "Reply(cut_at=0)"),
        (Reply.reset(delay=1), "Reply(delay=1, reset_at='head')"),
        (Reply.hang(after=2), "Reply(hold=Gate(closed, 0 reached), hold_after=2)"),
        (Reply(status=200, body="secret"), "Reply(body=...)"),
        (Reply.rate_limited(headers={"a": "b"}), "Reply(status=429, headers={'a': 'b'})"),
    ],
    ids=str,
)
def test_a_reply_is_printed_as_it_was_made(reply: Reply, text: str) -> None:
    assert repr(reply) == text


@pytest.mark.parametrize("name", ["replies", "token_replies", "device_replies"])
def test_a_script_of_other_things_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        FakeProvider(**{name: [401]})  # type: ignore[arg-type]


# The response that a client gets.


@pytest.mark.parametrize(
    ("reply", "path", "error"),
    [
        pytest.param(Reply(status=400), MESSAGES, "invalid_request_error", id="400"),
        pytest.param(Reply(status=401), CHAT, "authentication_error", id="401"),
        pytest.param(Reply(status=502), MESSAGES, "api_error", id="a status without an error of its own"),
        pytest.param(Reply(status=529), MESSAGES, "overloaded_error", id="529"),
        pytest.param(Reply(status=403, error="token_expired"), CHAT, "token_expired", id="an error that was given"),
    ],
)
async def test_a_status_alone_brings_its_error(serve: Serve, reply: Reply, path: str, error: str) -> None:
    seen = await (await serve(replies=[replace(reply, message="Too late.", headers={"x-more": "1"})])).ask(path)
    head = seen.status, seen.headers["Content-Type"], seen.headers["x-more"]
    assert head == (reply.status, "application/json", "1")
    assert (seen.json["error"]["type"], seen.json["error"]["message"]) == (error, "Too late.")


LATE = {"type": "authentication_error", "message": "Late."}
KEY = {"code": "invalid_api_key", "param": None}


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (MESSAGES, {"type": "error", "error": LATE}),
        (CHAT, {"error": LATE | KEY}),
        ("/v1/responses", {"type": "error", "message": "Late.", **KEY}),
    ],
    ids=["anthropic", "chat", "responses"],
)
@pytest.mark.parametrize(("after", "before"), [(None, 1), (0, 0), (3, 3)])
async def test_an_in_band_error_ends_the_answer(
    serve: Serve, path: str, error: dict[str, Any], after: int | None, before: int
) -> None:
    seen = await (await serve(replies=[Reply.in_band_error(after=after, message="Late.")])).ask(path)
    assert (seen.status, seen.error, len(seen.events)) == (200, None, before + 1)
    assert seen.events[-1] == error | ({"sequence_number": before} if "code" in error else {})


@pytest.mark.parametrize(
    ("reply", "sent", "content_type"),
    [
        pytest.param(Reply(body=b"\xff\xfe"), b"\xff\xfe", "text/event-stream", id="bytes"),
        pytest.param(Reply(body="d\u00e9j\u00e0"), "d\u00e9j\u00e0".encode(), "text/event-stream", id="text"),
        pytest.param(Reply(status=401, body="No."), b"No.", "text/plain", id="text of an error"),
        pytest.param(Reply(body={"any": "thing"}), b'{"any":"thing"}', "application/json", id="a mapping"),
        pytest.param(Reply(body=[{"type": "x", "text": "\u00e9\u2028\n"}, {"type": 3}, "raw\n", b"\n"]),
                     b'event: x\ndata: {"type":"x","text":"\xc3\xa9\xe2\x80\xa8\\n"}\n\ndata: {"type":3}\n\nraw\n\n',
                     "text/event-stream", id="a list"),
        pytest.param(Reply(body=[]), b"", "text/event-stream", id="nothing"),
        pytest.param(Reply(body=lambda seen: {"n": seen.number}), b'{"n":1}', "application/json", id="a function"),
        pytest.param(Reply.redirect("/x"), b"", "", id="a redirect"),
        pytest.param(Reply(status=418, error="x", shape="bare words", message="Tea."), b"418 Tea.\n",
                     "text/event-stream", id="an error in a shape"),
    ],
)  # fmt: skip
async def test_a_body_is_sent_as_it_is(serve: Serve, reply: Reply, sent: bytes, content_type: str) -> None:
    seen = await (await serve(replies=[reply])).ask()
    assert (seen.body, seen.headers.get("Content-Type", "").split(";")[0], seen.error) == (sent, content_type, None)


async def test_a_body_of_other_things_is_refused(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    client = await serve(replies=[Reply(body=[1])])  # type: ignore[list-item]
    assert (await client.ask()).status == 500
    assert "A body consists of bytes, str, mappings, Pause and Gate, not of int." in caplog.text


# In which pieces.


GATE, PAUSE = Gate(), Pause(1)


@pytest.mark.parametrize(
    ("pieces", "reply", "steps"),
    [
        pytest.param([b"a", b"b"], Reply(hold=GATE), [b"a", b"b"], id="at the head it is not the body's business"),
        pytest.param([b"a", b"b"], Reply(hold=GATE, hold_after=0), [GATE, b"a", b"b"], id="a gate in front"),
        pytest.param([PAUSE, b"a", b"b"], Reply(hold=GATE, hold_after=1), [PAUSE, b"a", GATE, b"b"], id="within"),
        pytest.param([b"a", b"b"], Reply(hold=GATE, hold_after=9), [b"a", b"b", GATE], id="a gate behind the end"),
        pytest.param([b"a", PAUSE, b"bc"], Reply(chunk_size=2), [b"a", PAUSE, b"bc"], id="a pause ends a chunk"),
        pytest.param([b"a", PAUSE, b"b", b"c"], Reply(events_per_write=2), [b"a", PAUSE, b"bc"], id="and a write"),
        pytest.param([GATE, b"a"], Reply(cut_at=0), [GATE], id="a gate in front of a cut"),
        pytest.param([b"a", GATE, b"b", GATE], Reply(reset_at=1), [b"a", GATE], id="a gate behind a reset"),
    ],
)
def test_a_body_is_written_in_steps(pieces: list[Any], reply: Reply, steps: list[object]) -> None:
    assert list(writes(pieces, reply)) == steps


@given(
    pieces=st.lists(st.binary(max_size=9), max_size=9),
    how=st.one_of(
        st.fixed_dictionaries({"chunk_size": st.integers(1, 12)}),
        st.fixed_dictionaries({"events_per_write": st.integers(1, 4)}),
    ),
    end=st.sampled_from(["cut_at", "reset_at"]).flatmap(
        lambda name: st.fixed_dictionaries({}, optional={name: st.integers(0, 80)})
    ),
)
def test_the_bytes_are_the_same_in_any_writes(pieces: list[bytes], how: dict[str, int], end: dict[str, int]) -> None:
    sent = [step for step in writes(pieces, Reply(**how, **end)) if isinstance(step, bytes)]  # type: ignore[arg-type]
    assert b"".join(sent) == b"".join(pieces)[: next(iter(end.values()), None)]
    assert b"" not in sent, "an empty chunk is the terminal one"
    if "chunk_size" in how:
        assert all(len(step) == how["chunk_size"] for step in sent[:-1])


async def test_every_event_arrives_on_its_own(serve: Serve) -> None:
    client = await serve(answer="one two three four", replies=[None, Reply(events_per_write=4), Reply(chunk_size=7)])
    single, several, small = await client.ask(), await client.ask(), await client.ask()
    assert [piece.count(b"\n\n") for piece in single.pieces] == [1] * 10
    assert [piece.count(b"\n\n") for piece in several.pieces] == [4, 4, 2]
    assert {len(piece) for piece in small.pieces[:-1]} == {7}


@pytest.mark.parametrize("at", [0, 1, 100, 400])
async def test_a_cut_is_exact_to_the_byte(serve: Serve, at: int) -> None:
    client = await serve(replies=[None, Reply.cut(at=at), Reply.reset(at=at)])
    whole, cut, reset = [await client.ask() for _ in range(3)]
    assert [each.status for each in client.fake.requests] == [200, 200, 200]
    assert not any(each.client_closed for each in client.fake.requests)
    for seen in (cut, reset):
        assert (seen.status, len(seen.body)) == (200, at)
        assert seen.body[:10] == whole.body[:10][:at]
        assert isinstance(seen.error, aiohttp.ClientPayloadError)
    assert "ConnectionResetError" not in str(cut.error)
    assert "ConnectionResetError" in str(reset.error)


async def test_a_connection_may_end_before_its_status(serve: Serve) -> None:
    client = await serve(replies=[Reply.cut(), Reply.reset()])
    cut, reset = await client.ask(), await client.ask()
    assert [each.status for each in client.fake.requests] == [None, None]
    assert not any(each.client_closed for each in client.fake.requests)
    assert isinstance(cut.error, aiohttp.ServerDisconnectedError)
    assert isinstance(reset.error, aiohttp.ClientOSError)


async def test_large_requests_and_bodies_are_whole(serve: Serve) -> None:
    size = 3_000_000
    client = await serve(replies=[Reply(body=b"x" * size), Reply.cut(at=size - 1, body=b"x" * size)])
    request = b'{"x": "' + b"y" * size + b'"}'
    headers = {"x-api-key": client.credential.access_token}
    whole, cut = [await client.send(MESSAGES, data=io.BytesIO(request), headers=headers) for _ in range(2)]
    assert all(len(each.body) > size for each in client.fake.requests)
    assert (len(whole.body), len(cut.body)) == (size, size - 1)


# When.


@pytest.mark.looptime
async def test_delays_and_pauses_run_on_the_loops_clock(serve: Serve) -> None:
    client = await serve(latency=7, replies=[Reply(delay=30, pause=5, body=["a", Pause(1000), "b", "c"])])
    clock = asyncio.get_running_loop()
    begin, headers = clock.time(), {"x-api-key": client.credential.access_token}
    async with client.session.post(client.fake.url + MESSAGES, json=REQUEST, headers=headers) as response:
        assert clock.time() - begin == pytest.approx(37)
        times = [clock.time() - begin async for _ in response.content.iter_any()]
    assert times == pytest.approx([37, 1042, 1047])


def test_a_negative_latency_is_refused() -> None:
    with pytest.raises(ValueError, match="latency"):
        FakeProvider(latency=-1)
