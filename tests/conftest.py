"""What every test needs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    # looptime asks every test for its loop; for a test that has none asyncio would make one, which nobody closes.
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        asyncio.set_event_loop(None)
    return (yield)
