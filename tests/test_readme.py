"""What the README prints works as printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import reactivex as rx

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


def test_the_first_two_commands_are_one_line_each() -> None:
    demo, tests = blocks("sh")[:2]
    assert demo.count("\n") == tests.count("\n") == 1
    assert demo.strip().endswith("rxauth demo")
    assert tests.strip().endswith("pytest")


def test_the_pipeline_runs_and_prints_what_the_readme_says() -> None:
    done = subprocess.run([sys.executable, "-c", blocks("python")[0]], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["start", "text_start", "text_delta", "text_end", "done"]


def test_the_example_of_another_provider_recovers_what_it_says() -> None:
    names: dict[str, Any] = {}
    exec(compile(blocks("python")[1], "README.md", "exec"), names)
    keys = ["stale"]

    def attempt(_: Any) -> rx.Observable[Any]:
        last = {"type": "failed", "status": 403} if keys[-1] == "stale" else {"type": "text"}
        return rx.of({"type": "hello"}, {"type": "queued"}, last)

    def refresh(failure: Any) -> bool:
        keys.append("fresh")
        return True

    seen: list[str] = []
    recovered = names["answer_of_a_provider_that_says_403"](rx.defer(attempt), refresh)
    recovered.subscribe(lambda event: seen.append(event["type"]))
    assert seen == ["hello", "queued", "text"]
