"""Requests of the sources: what is sent, and what is refused before a connection is made."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
from reactivex import Observable

from rxauth.credentials import Credential
from rxauth.events import AssistantEvent, Start
from rxauth.sources import anthropic_messages, openai_chat
from rxauth.testing import FakeProvider
from tests.sources.streams import KEY, REQUEST, Holder, collect, done, messages, text_of

Source = Callable[..., Observable[AssistantEvent]]

both = pytest.mark.parametrize(
    ("source", "path"),
    [pytest.param(anthropic_messages, "", id="anthropic"), pytest.param(openai_chat, "/v1", id="openai")],
)


@both
async def test_each_subscription_makes_one_request(source: Source, path: str) -> None:
    async with FakeProvider(answer="Hi") as fake:
        holder = Holder(fake.credential())
        stream = source(REQUEST, base_url=fake.url + path, credentials=holder)
        assert (holder.asked, fake.requests) == (0, [])
        for count in (1, 2):
            events = await collect(stream)
            assert (events[0], text_of(events), done(events).reason) == (Start(), "Hi", "stop")
            assert (holder.asked, len(fake.requests)) == (count, count)
        request = fake.requests[0]
        assert request.method == "POST"
        assert request.path == ("/v1/chat/completions" if path else "/v1/messages")
        sent = {
            "Authorization": f"Bearer {holder.credential.access_token}",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
        }
        assert {name: request.headers[name] for name in sent} == sent
        assert request.headers["User-Agent"].startswith("rxauth/")
        options = {"stream_options": {"include_usage": True}} if path else {}
        assert request.json() == {**REQUEST, "stream": True, **options}


async def test_a_key_goes_in_the_header_that_is_named() -> None:
    async with FakeProvider(api_keys=["a-static-key"]) as fake:
        await collect(anthropic_messages(REQUEST, base_url=fake.url, credentials=KEY, auth_header="x-api-key"))
        headers = fake.requests[0].headers
        assert (headers["x-api-key"], headers["anthropic-version"]) == ("a-static-key", "2023-06-01")
        assert "Authorization" not in headers


async def test_own_headers_replace_ours_in_any_case() -> None:
    own = {"Anthropic-Version": "2099-01-01", "USER-AGENT": "mine/1", "anthropic-beta": "x"}
    async with FakeProvider() as fake:
        await collect(messages(fake, headers=own))
        headers = fake.requests[0].headers
        assert {name: headers.getall(name) for name in own} == {name: [value] for name, value in own.items()}


async def test_stream_options_can_be_set_and_left_out() -> None:
    async with FakeProvider(api_keys=["a-static-key"]) as fake:
        own = {**REQUEST, "stream_options": {"include_usage": False}}
        await collect(openai_chat(own, base_url=f"{fake.url}/v1/", credentials=KEY))
        await collect(openai_chat(REQUEST, base_url=f"{fake.url}/v1", credentials=KEY, include_usage=False))
        first, second = fake.requests
        assert first.json()["stream_options"] == {"include_usage": False}
        assert "stream_options" not in second.json()


@both
async def test_the_request_is_any_mapping_and_copied(source: Source, path: str) -> None:
    message = {"role": "user", "content": "é\u2028"}
    request = MappingProxyType({"model": "m", "messages": [MappingProxyType(message)], "stream": None})
    async with FakeProvider(api_keys=["a-static-key"]) as fake:
        stream = source(request, base_url=fake.url + path, credentials=KEY)
        message["content"] = "after"
        await collect(stream)
        sent = fake.requests[0].json()
        assert (sent["messages"], sent["stream"]) == ([{"role": "user", "content": "é\u2028"}], True)
        assert request["stream"] is None


async def test_a_large_request_is_sent_without_a_warning() -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "x" * 3_000_000}]}
    async with FakeProvider(api_keys=["a-static-key"]) as fake:
        await collect(anthropic_messages(request, base_url=fake.url, credentials=KEY))
        assert len(fake.requests[0].body) > 3_000_000


@both
@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        pytest.param(None, TypeError, id="nothing"),
        pytest.param([("model", "m")], TypeError, id="pairs"),
        pytest.param({"model": object()}, TypeError, id="what JSON cannot hold"),
        pytest.param({"stream": False}, ValueError, id="no stream"),
        pytest.param({"stream": 0}, ValueError, id="no stream, as a number"),
        pytest.param({"messages": "\ud800"}, ValueError, id="half a character"),
    ],
)
def test_a_bad_request_is_refused_at_the_call(source: Source, path: str, request_: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        source(request_, base_url="https://example.com" + path, credentials=KEY)


@both
@pytest.mark.parametrize(
    "url", ["", "sk-canary-key", "http://example.com", "https://canary@host", "https://host?key=canary", None]
)
def test_a_bad_base_url_is_refused_in_one_sentence(source: Source, path: str, url: Any) -> None:
    with pytest.raises(ValueError, match=r"^base_url [^\n]*\.$") as refused:
        source(REQUEST, base_url=url, credentials=KEY)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"credentials": "canary"}, TypeError),
        ({"credentials": Credential("canary")}, TypeError),
        ({"headers": {"Authorization": "Bearer canary"}}, ValueError),
        ({"headers": {"X-Api-Key": "canary"}}, ValueError),
        ({"headers": {"x": "canary\r\nHost: evil"}}, ValueError),
        ({"headers": {"x y": "canary"}}, ValueError),
        ({"headers": {"": "canary"}}, ValueError),
        ({"headers": {"x": 1}}, TypeError),
        ({"auth_header": "cookie"}, ValueError),
        ({"read_timeout": 0}, ValueError),
        ({"connect_timeout": float("nan")}, ValueError),
        ({"max_event_bytes": 0}, ValueError),
    ],
)
def test_bad_options_are_refused_and_not_shown(options: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind) as refused:
        anthropic_messages(REQUEST, **{"base_url": "https://h", "credentials": KEY, **options})
    assert "canary" not in str(refused.value)
