"""Offer the fixtures `rxauth_provider` and `rxauth_virtual_time` to pytest wherever rxauth is installed.

pytest loads this module itself, through an entry point. It imports neither RxPY nor an HTTP server before a test asks
for a fixture. `-p no:rxauth.testing.pytest_plugin` turns it off. Two tests to paste:

    # test_chat.py
    import asyncio
    import pytest
    from rxauth import MemoryStore, OAuthCredentials, anthropic_messages
    from rxauth import collect_message, recover_auth, to_async_iterable


    def test_a_stale_token_costs_one_refresh_and_shows_nothing(rxauth_virtual_time):
        source = rxauth_virtual_time.attempts("s--e",
                                              "      s-a----|")
        refresh = rxauth_virtual_time.cold(   "   ---r|", {"r": "a new token"})

        seen = rxauth_virtual_time.see(source.pipe(recover_auth(lambda failure: refresh)))

        assert seen ==                        "--------(sa)-|"
        assert rxauth_virtual_time.subscriptions(source) == [
                                              "^--!",
                                              "------^------!"]


    @pytest.mark.rxauth_provider(answer="All is well.")
    def test_my_chat_survives_an_expired_token(rxauth_provider):
        store = MemoryStore(rxauth_provider.credential())
        credentials = OAuthCredentials(store, token_url=rxauth_provider.token_url, client_id=rxauth_provider.client_id)
        request = {"model": "any", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}
        stream = anthropic_messages(request, base_url=rxauth_provider.url, credentials=credentials)
        rxauth_provider.invalidate()

        async def chat():
            whole = stream.pipe(recover_auth(credentials.refresh), collect_message())
            return [message.text async for message in to_async_iterable(whole)]

        assert asyncio.run(chat()) == ["All is well."]
        assert len(rxauth_provider.token_requests) == 1

In the first test a column is a tick, and every diagram stands in the column where it begins. Where pytest-asyncio or
anyio's plugin runs coroutine tests, they take the same fixtures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rxauth.testing import FakeProvider, VirtualTime

__all__ = ["rxauth_provider", "rxauth_virtual_time"]


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, for runs with --strict-markers."""
    config.addinivalue_line("markers", "rxauth_provider(**options): the arguments of this test's `FakeProvider`")


@pytest.fixture
def rxauth_provider(request: pytest.FixtureRequest) -> Iterator[FakeProvider]:
    """Run a `rxauth.testing.FakeProvider` on a thread of its own, for plain and for coroutine tests.

    `@pytest.mark.rxauth_provider(answer="Hi", replies=[Reply(status=503)])` gives its arguments; the marker nearest to
    the test wins, option by option.
    """
    yield from _provider(request, "rxauth_provider")


@pytest.fixture
def rxauth_virtual_time() -> VirtualTime:
    """Make a `rxauth.testing.VirtualTime`: a clock that runs only while the test looks.

    `cold`, `hot` and `attempts` make sources from diagrams, `see` draws what a pipeline emits, `subscriptions` when its
    sources were subscribed to.
    """
    from rxauth.testing import VirtualTime

    return VirtualTime()


def _provider(request: pytest.FixtureRequest, marker_name: str) -> Iterator[FakeProvider]:
    from rxauth.testing import FakeProvider

    options: dict[str, Any] = {}
    for marker in request.node.iter_markers(marker_name):
        options = {**marker.kwargs, **options}
    with FakeProvider(**options) as provider:
        yield provider
