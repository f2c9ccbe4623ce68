"""Streams that real providers sent, over real HTTP, cut at random places, after a 401 and one refresh."""

from __future__ import annotations

import hashlib
import json
import random
from itertools import pairwise
from typing import Any

import pytest
from reactivex import Observable

from rxauth.events import AssistantEvent, Start, TextDelta, ThinkingDelta, ToolCallDelta
from rxauth.operators import recover_auth
from rxauth.sources import anthropic_messages, openai_chat
from rxauth.testing import FakeProvider, Reply
from tests.sources.streams import RECORDED, REQUEST, Holder, check_grammar, collect, done

pytestmark = pytest.mark.skipif(not RECORDED.is_dir(), reason=f"the recorded streams are not there ({RECORDED})")

EXPECTED = (
    [json.loads(line) for line in (RECORDED / "expected.jsonl").read_text().splitlines()] if RECORDED.is_dir() else []
)

# Where we end otherwise than the program they were recorded with, and why.
ENDS = {
    "openai-05.sse": "refusal",  # the model refused: an end of its own
    "openai-23.sse": "stop",  # [DONE] came; this server never tells a reason
    "openai-24.sse": "stop",
}


def source(protocol: str, fake: FakeProvider, holder: Holder) -> Observable[AssistantEvent]:
    if protocol == "anthropic-messages":
        return anthropic_messages(REQUEST, base_url=fake.url, credentials=holder)
    return openai_chat(REQUEST, base_url=f"{fake.url}/v1", credentials=holder)


def digests(events: list[AssistantEvent]) -> dict[str, str]:
    said = {"text": "", "thinking": "", "tool": ""}
    for event in events:
        match event:
            case TextDelta():
                said["text"] += event.delta
            case ThinkingDelta():
                said["thinking"] += event.delta
            case ToolCallDelta():
                said["tool"] += event.delta
    return {kind: hashlib.sha256(text.encode()).hexdigest()[:16] if text else "" for kind, text in said.items()}


def cut(body: bytes, random_: random.Random, pieces: int) -> list[bytes]:
    places = [0, *sorted(random_.randrange(len(body)) for _ in range(pieces)), len(body)]
    return [body[start:end] for start, end in pairwise(places) if start < end]


@pytest.mark.parametrize("recorded", EXPECTED, ids=[each["file"] for each in EXPECTED])
async def test_a_recorded_stream_arrives_once_and_ends_once(recorded: dict[str, Any]) -> None:
    body = (RECORDED / recorded["file"]).read_bytes()
    assert hashlib.sha256(body).hexdigest() == recorded["sha256"]
    random_ = random.Random(recorded["sha256"])
    async with FakeProvider(replies=[Reply(body=cut(body, random_, 40)), Reply(body=cut(body, random_, 7))]) as fake:
        holder = Holder(fake.credential())
        fake.invalidate()

        async def refresh(failure: object) -> object:
            holder.credential = fake.credential()
            return holder.credential

        stream = source(recorded["protocol"], fake, holder).pipe(recover_auth(refresh))
        for _ in range(2):
            start, *events = await collect(stream)
            assert start == Start()
            check_grammar(events)
            assert digests(events) == recorded["delta_sha256_16"]
            assert done(events).reason == ENDS.get(recorded["file"], recorded["reason"])
        assert [request.status for request in fake.api_requests] == [401, 200, 200]
