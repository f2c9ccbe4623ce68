"""Streams that real providers sent, cut at random places."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import pytest

from rxauth.events import TextDelta, ThinkingDelta, ToolCallDelta
from tests.sources.streams import ANTHROPIC, OPENAI, RECORDED, check_grammar, done, read

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


@pytest.mark.parametrize("recorded", EXPECTED, ids=[each["file"] for each in EXPECTED])
def test_a_recorded_stream_keeps_its_deltas_and_its_end(recorded: dict[str, Any]) -> None:
    body = (RECORDED / recorded["file"]).read_bytes()
    assert hashlib.sha256(body).hexdigest() == recorded["sha256"]
    random_ = random.Random(recorded["sha256"])
    for pieces in (1, 7, 40):
        cuts = [random_.randrange(len(body)) for _ in range(pieces)]
        events = read(ANTHROPIC if recorded["protocol"] == "anthropic-messages" else OPENAI, body, cuts=cuts)
        check_grammar(events)
        for name, kind in (("text", TextDelta), ("thinking", ThinkingDelta), ("tool", ToolCallDelta)):
            said = "".join(event.delta for event in events if isinstance(event, kind))
            digest = hashlib.sha256(said.encode()).hexdigest()[:16] if said else ""
            assert digest == recorded["delta_sha256_16"][name]
        assert done(events).reason == ENDS.get(recorded["file"], recorded["reason"])
