"""What every test needs."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import hypothesis
import pytest

pytest_plugins = ["rxauth.testing.fixtures"]

# A busy machine is no failure: what must be fast is shown by the benchmarks.
hypothesis.settings.register_profile("rxauth", deadline=None)
hypothesis.settings.load_profile("rxauth")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    # looptime asks every test for its loop; for a test that has none asyncio would make one, which nobody closes.
    # By its marker: the function itself is wrapped by now, and no coroutine function any more.
    if pyfuncitem.get_closest_marker("asyncio") is None:
        asyncio.set_event_loop(None)
    return (yield)
