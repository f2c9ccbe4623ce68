"""The setting of every test.

Generated tests take the same cases every time. For new ones, as many as you like:

    RXAUTH_CASES=100000 pytest --timeout=0 tests/sources/test_reader_laws.py tests/sources/test_sse.py
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = ["rxauth.testing.fixtures"]

# A shell starts in the background what is deaf to Ctrl-C, and so are the programs that it starts: here some must hear.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_CASES = os.environ.get("RXAUTH_CASES")

hypothesis.settings.register_profile(
    "rxauth",
    max_examples=int(_CASES or 100),
    derandomize=_CASES is None,
    database=None,
    deadline=None,  # a busy machine is no failure: what must be fast is shown by the benchmarks
)
hypothesis.settings.load_profile("rxauth")


_TIERS = ("peer", "slow", "notebook", "build")
_TIER_OF_A_MODULE = re.compile(rf"^pytestmark = pytest\.mark\.({'|'.join(_TIERS)})\b", re.MULTILINE)
_LEFT_OUT = pytest.StashKey[Counter[str]]()


def _tier(path: Path) -> str | None:
    """Return the tier that a whole module is marked with."""
    found = _TIER_OF_A_MODULE.search(path.read_text("utf-8")) if path.suffix == ".py" else None
    return found and found[1]


def _is_default_run(config: pytest.Config) -> bool:
    addopts = config.getini("addopts")
    return bool(config.getoption("markexpr") == addopts[addopts.index("-m") + 1])


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave unread what the default run does not need: it may import packages that the test extra does not have."""
    if collection_path.suffix == ".py" and "tests" in collection_path.parts and not collection_path.match("test_*.py"):
        return True  # --doctest-modules would import every helper
    if not _is_default_run(config) or collection_path.is_dir():
        return None
    tier = _tier(collection_path)
    if tier is None:
        return None
    config.stash.setdefault(_LEFT_OUT, Counter())[f"modules of {tier}"] += 1
    return True


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count the single tests that the default run leaves out, by marker."""
    for item in items:
        tier = next((each for each in _TIERS if item.get_closest_marker(each)), None)
        if tier is not None:
            item.config.stash.setdefault(_LEFT_OUT, Counter())[f"tests of {tier}"] += 1


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Name in the last line what this run left out."""
    counts = config.stash.get(_LEFT_OUT, None)
    if counts and _is_default_run(config):
        tiers = ", ".join(f"{count} {tier}" for tier, count in sorted(counts.items()))
        sys.stdout.write(f"Left out: {tiers}. Their commands stand in README.md under Contributing.\n")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip a module of a marked tier whose package is not installed; in CI every package has to be there."""
    report = yield
    if report.failed and isinstance(collector, pytest.Module) and _tier(collector.path) and not os.environ.get("CI"):
        missing = re.search(r"No module named '([^']+)'", str(report.longrepr))
        if missing:
            report.outcome = "skipped"
            report.longrepr = (str(collector.path), 1, f"Skipped: the package {missing[1]} is not installed")
    return report


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Let no cycle be collected: what is gone in such a test was held by none."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    # looptime asks every test for its loop; for a test that has none asyncio would make one and leave it open.
    # By its marker: the function itself is wrapped by now, and no coroutine function any more.
    if pyfuncitem.get_closest_marker("asyncio") is None:
        asyncio.set_event_loop(None)
    return (yield)
