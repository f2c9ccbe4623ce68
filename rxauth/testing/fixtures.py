"""Offer the fixtures of `rxauth.testing.pytest_plugin` under short names, to a `conftest.py` that names this module:

    pytest_plugins = ["rxauth.testing.fixtures"]

`fake_provider` is `rxauth_provider`, with a marker of the same short name; `virtual_time` is `rxauth_virtual_time`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from rxauth.testing.pytest_plugin import _provider

if TYPE_CHECKING:
    from rxauth.testing import FakeProvider, VirtualTime

__all__ = ["fake_provider", "virtual_time"]


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, for runs with --strict-markers."""
    config.addinivalue_line("markers", "fake_provider(**options): the arguments of this test's `FakeProvider`")


@pytest.fixture
def fake_provider(request: pytest.FixtureRequest) -> Iterator[FakeProvider]:
    """Run a `rxauth.testing.FakeProvider`; `@pytest.mark.fake_provider(answer="Hi")` gives its arguments."""
    yield from _provider(request, "fake_provider")


@pytest.fixture
def virtual_time() -> VirtualTime:
    """Make a `rxauth.testing.VirtualTime`."""
    from rxauth.testing import VirtualTime

    return VirtualTime()
