"""What every test needs.

Generated tests take the same cases every time. For new ones, as many as you like:

    RXAUTH_CASES=100000 pytest --timeout=0 tests/sources/test_reader_laws.py tests/sources/test_sse.py
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Generator

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


_MARKED_TIERS = ("peer", "slow", "notebook", "build")


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count what the default run leaves out, by marker."""
    for item in items:
        marker = next((each for each in _MARKED_TIERS if item.get_closest_marker(each)), None)
        if marker is not None:
            counts = item.config.stash.setdefault(_LEFT_OUT, Counter())
            counts[marker] += 1


_LEFT_OUT = pytest.StashKey[Counter[str]]()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Name in one line, the last one, what this run left out."""
    counts = config.stash.get(_LEFT_OUT, None)
    if counts:
        tiers = ", ".join(f"{count} {marker}" for marker, count in counts.items())
        sys.stdout.write(f"Left out: {tiers}. CONTRIBUTING in README.md has the commands that run them.\n")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    # looptime asks every test for its loop; for a test that has none asyncio would make one, which nobody closes.
    # By its marker: the function itself is wrapped by now, and no coroutine function any more.
    if pyfuncitem.get_closest_marker("asyncio") is None:
        asyncio.set_event_loop(None)
    return (yield)
