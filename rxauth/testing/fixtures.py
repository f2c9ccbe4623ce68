"""Fixtures for pytest: a provider on loopback, and virtual time.

They are there where the `conftest.py` at the root of your tests asks for them. They are no installed plugin: a program
that only uses rxauth keeps its fixtures' names and its pytest's start to itself. A test to paste:

    # conftest.py
    pytest_plugins = ["rxauth.testing.fixtures"]


    # test_chat.py
    import asyncio
    import pytest
    from rxauth import MemoryStore, OAuthCredentials, anthropic_messages
    from rxauth import collect_message, recover_auth, to_async_iterable


    def test_a_stale_token_costs_one_refresh_and_shows_nothing(virtual_time):
        source = virtual_time.attempts("s--e",
                                       "      s-a----|")
        refresh = virtual_time.cold(   "   ---r|", {"r": "a new token"})

        seen = virtual_time.see(source.pipe(recover_auth(lambda failure: refresh)))

        assert seen ==                 "--------(sa)-|"
        assert virtual_time.subscriptions(source) == [
                                       "^--!",
                                       "------^------!"]


    @pytest.mark.fake_provider(answer="All is well.")
    def test_my_chat_survives_an_expired_token(fake_provider):
        store = MemoryStore(fake_provider.credential())
        credentials = OAuthCredentials(store, token_url=fake_provider.token_url, client_id=fake_provider.client_id)
        request = {"model": "any", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}
        stream = anthropic_messages(request, base_url=fake_provider.url, credentials=credentials)
        fake_provider.invalidate()

        async def chat():
            whole = stream.pipe(recover_auth(credentials.refresh), collect_message())
            return [message.text async for message in to_async_iterable(whole)]

        assert asyncio.run(chat()) == ["All is well."]
        assert len(fake_provider.token_requests) == 1

In the first one a column is a tick, and every diagram stands in the column where it begins. Nothing but pytest is
needed. Where pytest-asyncio or anyio's plugin runs coroutine tests, they take the same fixtures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rxauth.testing import FakeProvider, VirtualTime

__all__ = ["fake_provider", "virtual_time"]


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, also where pytest is strict about them."""
    config.addinivalue_line("markers", "fake_provider(**options): how `FakeProvider` is made for this test")


@pytest.fixture
def fake_provider(request: pytest.FixtureRequest) -> Iterator[FakeProvider]:
    """A `rxauth.testing.FakeProvider` that runs on a thread of its own, so that plain and coroutine tests can use it.

    `@pytest.mark.fake_provider(answer="Hi", replies=[Reply(status=503)])` says how it is made; the marker nearest to
    the test wins, option by option.
    """
    from rxauth.testing import FakeProvider

    options: dict[str, Any] = {}
    for marker in request.node.iter_markers("fake_provider"):
        options = {**marker.kwargs, **options}
    with FakeProvider(**options) as provider:
        yield provider


@pytest.fixture
def virtual_time() -> VirtualTime:
    """A clock that runs only while the test looks, and streams on it that are written as diagrams.

    A `VirtualTime`: `cold`, `hot` and `attempts` make sources, `see` draws what comes of a pipeline, `subscriptions`
    when its sources were subscribed to.
    """
    from rxauth.testing import VirtualTime

    return VirtualTime()
