from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rxauth.testing import FakeProvider

from .running import CLIENT_ID, KEY, CommandLine


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "home")


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider(
        answer="Hello from the other side.", api_keys=[KEY], interval=0.01, client_id=CLIENT_ID
    ) as provider:
        yield provider
