"""What the package offers, and what it costs to have it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rxauth.testing


def test_the_public_names_are_these() -> None:
    assert sorted(rxauth.testing.__all__) == [
        "FakeProvider", "Gate", "Pause", "Reply", "SeenRequest", "VirtualTime", "anthropic_events", "marbles",
        "openai_chunks", "openai_response_events",
    ]  # fmt: skip
    for name in rxauth.testing.__all__:
        assert getattr(rxauth.testing, name) is not None
        assert name in dir(rxauth.testing)
    with pytest.raises(AttributeError, match="nothing"):
        rxauth.testing.nothing  # noqa: B018


@pytest.mark.parametrize(
    "imported",
    [
        "from rxauth.testing import marbles; marbles.cold",
        "from rxauth.testing.marbles import cold",
        "import rxauth.testing; rxauth.testing.marbles.cold",
    ],
)
def test_marbles_need_no_http_server(imported: str) -> None:
    program = f"{imported}; import sys; print('aiohttp' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
