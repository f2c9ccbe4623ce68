"""`rxauth demo`: the phantom without rxauth, and one whole message with it."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from rxauth import OAuthCredentials
from rxauth.cli.demo import ANSWER, PHANTOM, run_demo
from rxauth.events import Start, TextDelta
from rxauth.marbles import Diagram, Mark, Timeline

from .running import CommandLine


@pytest.mark.parametrize(("encoding", "color"), [("utf-8", "auto"), ("ascii", "always")])
def test_the_demo_shows_three_ways_at_80_columns(cli: CommandLine, encoding: str, color: str) -> None:
    done = cli("demo", "--color", color, encoding=encoding)
    assert (done.code, done.err, "\x1b[" in done.out) == (0, "", color == "always")
    shown = re.sub(r"\x1b\[[\d;]*m", "", done.out)
    assert max(map(len, shown.splitlines())) <= 80
    corner = "`" if encoding == "ascii" else "╰"
    for part in ("no filter", "a retry, but no buffer", "rxauth", PHANTOM, "POST /oauth/token 200", corner):
        assert part in shown
    assert "\\" not in shown


def test_the_demo_as_json_has_the_same_scenes(cli: CommandLine) -> None:
    done = json.loads(cli("demo --json").out)
    unfiltered, phantom, recovered = done["scenes"]
    assert done["ok"] is True
    assert [event["type"] for event in unfiltered["events"]] == ["start", "error"]
    assert [entry["open"] for entry in phantom["transcript"]] == [True, False]
    assert [entry["open"] for entry in recovered["transcript"]] == [False]
    assert [each["status"] for each in recovered["requests"]] == [401, 200, 200]
    assert phantom["transcript"][1]["message"]["content"] == recovered["transcript"][0]["message"]["content"]


def test_the_phantoms_note_fits_beside_any_answer() -> None:
    for column in range(1, 72):
        marks = (Mark(0, "next", Start()), Mark(column, "next", TextDelta(0, ANSWER)), Mark(72, "completed"))
        assert f"╰ {PHANTOM}" in Diagram(Timeline("screen", marks).with_note(PHANTOM, at=0)).text()


async def test_a_cancelled_demo_leaves_no_task_behind() -> None:
    def refreshing() -> list[str]:
        names = (getattr(each.get_coro(), "__qualname__", "") for each in asyncio.all_tasks())
        return [name for name in names if name == OAuthCredentials.refresh.__qualname__]

    demo = asyncio.ensure_future(run_demo(pace=0))
    while not refreshing():
        await asyncio.sleep(0)
    demo.cancel()
    await asyncio.gather(demo, return_exceptions=True)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (demo.cancelled(), refreshing()) == (True, [])
