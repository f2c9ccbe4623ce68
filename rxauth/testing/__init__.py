"""For the tests of those who build on rxauth: a provider on loopback that does what a test says, and marbles.

>>> from rxauth.testing import FakeProvider, Reply
>>> with FakeProvider(replies=[Reply.unauthorized(), Reply.in_band_error("overloaded_error")]) as fake:
...     fake.url  # for the base_url of a client; `async with` in an event loop
'http://127.0.0.1:...'

`rxauth.testing.fixtures` has them as fixtures for pytest, with a test to paste.

Everything is loaded when it is first used: marbles need no HTTP server.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rxauth.testing import marbles
    from rxauth.testing._fake_provider import FakeProvider
    from rxauth.testing._replies import Pause, Reply
    from rxauth.testing._requests import SeenRequest
    from rxauth.testing._responses import openai_response_events
    from rxauth.testing._signal import Gate
    from rxauth.testing._virtual_time import VirtualTime
    from rxauth.testing._wires import anthropic_events, openai_chunks

__all__ = [
    "FakeProvider",
    "Reply",
    "Gate",
    "Pause",
    "SeenRequest",
    "anthropic_events",
    "openai_chunks",
    "openai_response_events",
    "marbles",
    "VirtualTime",
]

_HOME = {
    "FakeProvider": "_fake_provider",
    "Reply": "_replies",
    "Gate": "_signal",
    "Pause": "_replies",
    "SeenRequest": "_requests",
    "VirtualTime": "_virtual_time",
    "anthropic_events": "_wires",
    "openai_chunks": "_wires",
    "openai_response_events": "_responses",
}


def __getattr__(name: str) -> Any:
    if name == "marbles":
        value: Any = importlib.import_module("rxauth.testing.marbles")
    elif name in _HOME:
        value = getattr(importlib.import_module(f"rxauth.testing.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
