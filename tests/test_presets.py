"""The presets hold the opening of a stream that has no types, and of one with two kinds of error."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import reactivex as rx

from rxauth import presets, recover_auth


def chunk(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


ROLE = chunk(role="assistant", content="")


@pytest.mark.parametrize(
    ("preset", "refused", "answered"),
    [
        pytest.param(
            presets.OPENAI_CHAT, [ROLE, {"error": {"code": 401, "message": "expired"}}], [ROLE, chunk(content="hi")],
            id="Chat Completions",
        ),
        pytest.param(
            presets.OPENAI_CHAT,
            [SimpleNamespace(choices=[]), {"error": {"code": 401}}],
            [SimpleNamespace(choices=[]), chunk(tool_calls=[{"index": 0}])],
            id="Chat Completions, a chunk without choices",
        ),
        pytest.param(
            presets.OPENAI_RESPONSES,
            [{"type": "response.created"}, {"type": "response.failed", "response": {"error": {"code": 401}}}],
            [{"type": "response.created"}, {"type": "response.output_text.delta"}],
            id="Responses",
        ),
    ],
)  # fmt: skip
def test_preset_recovers_an_error_behind_the_opening(preset: Any, refused: list[Any], answered: list[Any]) -> None:
    attempts = iter([refused, answered])
    seen: list[Any] = []
    rx.defer(lambda _: rx.from_iterable(next(attempts))).pipe(recover_auth(lambda _: True, **preset)).subscribe(
        seen.append
    )
    assert seen == answered


def test_finished_chunk_is_live() -> None:
    assert not presets.OPENAI_CHAT["is_prelude"]({"choices": [{"delta": {}, "finish_reason": "stop"}]})
