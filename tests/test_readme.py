"""The blocks of the README work as printed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import reactivex as rx
from reactivex.testing import TestScheduler

from rxauth import StaticCredentials

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


def function_of(block: int) -> Callable[..., Any]:
    """Return the function that a Python block defines."""
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(blocks("python")[block], "README.md", "exec"), names)
    (function,) = (each for each in names.values() if getattr(each, "__module__", "") == "readme")
    return cast(Callable[..., Any], function)


def refusing_once(
    *before: Any, refusal: Any, then: rx.Observable[Any]
) -> tuple[rx.Observable[Any], Callable[..., bool]]:
    """Return a cold stream that a stale token ends, and the refresh that mends it."""
    tokens = ["stale"]

    def attempt(scheduler: Any) -> rx.Observable[Any]:
        return rx.of(*before, refusal) if tokens == ["stale"] else rx.concat(rx.of(*before), then)

    def refresh(failure: Any) -> bool:
        tokens.append("fresh")
        return True

    return rx.defer(attempt), refresh


def test_commands_and_links_lead_somewhere() -> None:
    demo, tests = (each.splitlines() for each in blocks("sh")[:2])
    assert (len(demo), len(tests)) == (1, 1)
    assert (demo[0].endswith("rxauth demo"), tests[0].endswith("pytest")) == (True, True)
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text())
    assert [each for each in links if not (ROOT / each).exists()] == []


async def test_sdk_block_recovers_an_sdk_stream() -> None:
    tokens = ["stale"]

    class Unauthorized(Exception):
        status_code = 401

    async def create(**request: Any) -> AsyncIterator[Any]:
        if tokens == ["stale"]:
            raise Unauthorized

        async def events() -> AsyncIterator[Any]:
            for each in ("message_start", "content_block_delta", "message_stop"):
                yield SimpleNamespace(type=each)

        return events()

    def refresh(failure: Any) -> bool:
        tokens.append("fresh")
        return True

    client = SimpleNamespace(messages=SimpleNamespace(create=create))
    answer = function_of(0)(client, {"model": "m"}, refresh)
    assert [event.type async for event in answer] == ["message_start", "content_block_delta", "message_stop"]
    assert len(tokens) == 2


def test_pipeline_block_prints_the_documented_events(capsys: pytest.CaptureFixture[str]) -> None:
    exec(blocks("python")[1], {})
    assert capsys.readouterr().out.split() == ["start", "text_start", "text_delta", "text_end", "done"]


@pytest.mark.parametrize(
    ("fails", "expected"),
    [
        pytest.param(0, ["start", "text"], id="a stale token"),
        pytest.param(2, ["start", "text"], id="and two overloads"),
        pytest.param(3, ["backup", "text"], id="and three"),
    ],
)
def test_policy_block_shows_one_opening(fails: int, expected: list[str]) -> None:
    overloads = [{"type": "error", "status": 529}] * fails
    live = rx.defer(lambda _: rx.of(overloads.pop() if overloads else {"type": "text"}))
    source, refresh = refusing_once({"type": "start"}, refusal={"type": "error", "status": 401}, then=live)
    backup = rx.of({"type": "start", "of": "backup"}, {"type": "text"})
    seen: list[str] = []
    scheduler = TestScheduler()
    function_of(2)(source, backup, refresh).subscribe(
        lambda event: seen.append(event.get("of", event["type"])), scheduler=scheduler
    )
    scheduler.advance_to(1000)
    assert seen == expected


def test_other_provider_block_recovers_a_403() -> None:
    source, refresh = refusing_once(
        {"type": "hello"}, {"type": "queued"}, refusal={"type": "failed", "status": 403}, then=rx.of({"type": "text"})
    )
    seen: list[str] = []
    function_of(3)(source, refresh).subscribe(lambda event: seen.append(event["type"]))
    assert seen == ["hello", "queued", "text"]


@pytest.mark.peer
async def test_clients_block_makes_clients_of_one_login() -> None:
    made: list[Any] = []
    sdk = SimpleNamespace(AsyncOpenAI=lambda **options: made.append(options))
    http = SimpleNamespace(AsyncClient=lambda auth: auth)
    session, _ = function_of(4)(StaticCredentials("key"), sdk, http)
    await session.close()
    assert hasattr(made[0]["http_client"], "async_auth_flow")
