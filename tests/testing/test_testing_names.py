"""What the package offers, and what it costs to have it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rxauth.testing


def test_the_public_names_are_these() -> None:
    assert sorted(rxauth.testing.__all__) == [
        "FakeProvider", "Gate", "Pause", "Reply", "SeenRequest", "anthropic_events", "marbles", "openai_chunks",
        "openai_response_events",
    ]  # fmt: skip
    for name in rxauth.testing.__all__:
        assert getattr(rxauth.testing, name) is not None
        assert name in dir(rxauth.testing)
    with pytest.raises(AttributeError, match="nothing"):
        rxauth.testing.nothing  # noqa: B018


def test_marbles_need_no_http_server() -> None:
    program = "import sys; from rxauth.testing import marbles; assert marbles.messages; print('aiohttp' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
