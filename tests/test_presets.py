"""The presets hold the opening of a stream that has no types, and of one with two kinds of error."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import reactivex as rx

from rxauth import recover_auth
from rxauth.presets import OPENAI_CHAT, OPENAI_RESPONSES


def chunk(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


ROLE = chunk(role="assistant", content="")
EMPTY = SimpleNamespace(choices=[])
CREATED = {"type": "response.created"}
REFUSED = {"error": {"code": 401, "message": "expired"}}
FAILED = {"type": "response.failed", "response": REFUSED}
DELTA = {"type": "response.output_text.delta"}


@pytest.mark.parametrize(
    ("preset", "refused", "answered"),
    [
        pytest.param(OPENAI_CHAT, [ROLE, REFUSED], [ROLE, chunk(content="hi")], id="Chat Completions"),
        pytest.param(OPENAI_CHAT, [EMPTY, REFUSED], [EMPTY, chunk(tool_calls=[{"index": 0}])], id="no choices"),
        pytest.param(OPENAI_CHAT, [ROLE, REFUSED], [ROLE, chunk("stop")], id="a finished chunk is live"),
        pytest.param(OPENAI_RESPONSES, [CREATED, FAILED], [CREATED, DELTA], id="Responses"),
    ],
)
def test_preset_recovers_an_error_behind_the_opening(preset: Any, refused: list[Any], answered: list[Any]) -> None:
    attempts, seen = iter([refused, answered]), list[Any]()
    stream: rx.Observable[Any] = rx.defer(lambda _: rx.concat(rx.from_iterable(next(attempts)), rx.never()))
    stream.pipe(recover_auth(lambda _: True, **preset)).subscribe(seen.append)
    assert seen == answered
