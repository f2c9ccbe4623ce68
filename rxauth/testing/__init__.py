"""Test pipelines that use rxauth: with a provider on loopback that follows a script, and with marbles.

>>> from rxauth.testing import FakeProvider, Reply
>>> with FakeProvider(replies=[Reply.unauthorized(), Reply.in_band_error("overloaded_error")]) as fake:
...     fake.url  # for the base_url of a client; `async with` in an event loop
'http://127.0.0.1:...'

pytest finds them as the fixtures `rxauth_provider` and `rxauth_virtual_time`; `rxauth.testing.pytest_plugin` has two
tests to paste.

A client in any language and over any SDK can be tested so: it needs only a base URL and an access token.
`fake.invalidate()` revokes the token early, while the client's clock says that it is valid:

>>> import urllib.error, urllib.request
>>> def ask(base_url, token):
...     headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
...     request = urllib.request.Request(base_url + "/v1/messages", b'{"stream": true}', headers)
...     try:
...         with urllib.request.urlopen(request) as response:
...             return response.status
...     except urllib.error.HTTPError as error:
...         with error:
...             return error.code
>>> with FakeProvider() as fake:
...     token = fake.credential().access_token  # its refresh token goes to fake.token_url
...     first = ask(fake.url, token)
...     fake.invalidate()
...     print(first, ask(fake.url, token), len(fake.api_requests))
200 401 2

    the token is refused                     fake.invalidate(), before or between two calls
      in another form                        Reply(status=401, body="Unauthorized"), Reply.html(status=401)
      with 403                               Reply(status=403, error="authentication_error")
      in-band, at once                       Reply.in_band_error("authentication_error", after=0)
      in-band, after the opening             Reply.in_band_error("authentication_error", after=1)
      in-band, after some words              Reply.in_band_error("authentication_error", after=6)
    the login is over                        fake.revoke()
    the plan does not allow it               Reply(status=401, message="Your subscription does not include this model.")
    the provider is overloaded               Reply(status=529), Reply.in_band_error("overloaded_error", after=0)
    it asks to wait                          Reply.rate_limited(retry_after=1)
    it is silent                             Reply.hang(), Reply.hang(after=0), Reply.hang(after=6)
    it sends nothing but pings               Reply(body=[": ping\\n\\n", Pause(0.2)] * 99)
    the connection breaks                    Reply.reset(), Reply.cut(at=0), Reply.cut(at=900)
    the token endpoint has the same          FakeProvider(token_replies=[Reply(status=503)])

Look at `fake.api_requests` and `fake.token_requests` afterwards: how many there were, with which tokens, and whether
the client closed a stream that it left. A refresh token that is presented twice ends the login, as at real providers.
`tests/peers` of the repository runs nearly all of this with several clients.

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
