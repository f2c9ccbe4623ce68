"""Test pipelines that use rxauth: with a provider on loopback that follows a script, and with marbles.

pytest finds them as the fixtures `rxauth_provider` and `rxauth_virtual_time`; `rxauth.testing.pytest_plugin` has two
tests to paste.

A client in any language and over any SDK can be tested so: it needs only a base URL and an access token.
`fake.invalidate()` revokes the token early, while the client's clock says that it is valid:

>>> from contextlib import closing
>>> from http.client import HTTPConnection
>>> from rxauth.testing import FakeProvider
>>> def ask(base_url, token):
...     with closing(HTTPConnection(base_url.removeprefix("http://"))) as connection:
...         connection.request("POST", "/v1/messages", '{"stream": true}', {"Authorization": f"Bearer {token}"})
...         return connection.getresponse().status
>>> with FakeProvider() as fake:  # `async with` in an event loop
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

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rxauth.testing import marbles as marbles
    from rxauth.testing._fake_provider import FakeProvider as FakeProvider
    from rxauth.testing._gate import Gate as Gate
    from rxauth.testing._replies import Pause as Pause
    from rxauth.testing._replies import Reply as Reply
    from rxauth.testing._requests import SeenRequest as SeenRequest
    from rxauth.testing._responses import openai_response_events as openai_response_events
    from rxauth.testing._wires import anthropic_events as anthropic_events
    from rxauth.testing._wires import openai_chunks as openai_chunks
    from rxauth.testing.marbles import VirtualTime as VirtualTime

_HOMES = {
    "FakeProvider": "_fake_provider",
    "Gate": "_gate",
    "Pause": "_replies",
    "Reply": "_replies",
    "SeenRequest": "_requests",
    "VirtualTime": "marbles",
    "anthropic_events": "_wires",
    "marbles": "marbles",
    "openai_chunks": "_wires",
    "openai_response_events": "_responses",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOMES[name]}")
    value = globals()[name] = module if name == _HOMES[name] else getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
