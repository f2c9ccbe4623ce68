"""The fake provider as an authorization server."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import aiohttp
import pytest

from rxauth.testing import FakeProvider, Reply
from tests.testing.client import Client


async def test_a_refresh_token_used_twice_ends_the_login(session: aiohttp.ClientSession) -> None:
    async with FakeProvider() as fake:
        client = Client(fake, session)
        first = client.credential.refresh_token
        response = await client.refresh(first)
        assert response.status == 200
        assert response.headers["Cache-Control"] == "no-store"
        granted = json.loads(response.body)
        assert granted["token_type"] == "Bearer"
        assert granted["refresh_token"] != first
        assert (await client.ask(token=granted["access_token"])).status == 200

        reused = await client.refresh(first)
        assert (reused.status, json.loads(reused.body)["error"]) == (400, "invalid_grant")
        descendant = await client.refresh(granted["refresh_token"])
        assert (descendant.status, json.loads(descendant.body)["error"]) == (400, "invalid_grant")
        assert (await client.ask(token=granted["access_token"])).status == 401


async def test_a_rotation_stays_if_its_response_is_lost(session: aiohttp.ClientSession) -> None:
    replies = [Reply.cut(at=10), Reply.reset(), Reply(status=503), Reply(body="not JSON"), Reply.hang()]
    for reply, spent in zip(replies, (True, True, False, False, True), strict=True):
        async with FakeProvider(token_replies=[reply]) as fake:
            client = Client(fake, session)
            lost = asyncio.create_task(client.refresh(client.credential.refresh_token))
            await fake.seen(1)
            if reply.hold is not None:
                await reply.hold.reached()
                lost.cancel()
            await asyncio.wait([lost])
            again = await client.refresh(client.credential.refresh_token)
            assert again.status == (400 if spent else 200), reply


@pytest.mark.parametrize(
    ("reply", "status", "body"),
    [
        (Reply(status=400), 400, "invalid_grant"),
        (Reply(status=401), 401, "invalid_client"),
        (Reply(status=500), 500, "server_error"),
        (Reply(status=400, error="unauthorized_client"), 400, "unauthorized_client"),
        (Reply(error="bad_refresh_token"), 200, "bad_refresh_token"),
    ],
)
async def test_a_scripted_oauth_error_has_rfc_6749_fields(
    session: aiohttp.ClientSession, reply: Reply, status: int, body: str
) -> None:
    async with FakeProvider(token_replies=[reply]) as fake:
        seen = await Client(fake, session).refresh("any")
    assert (seen.status, json.loads(seen.body)["error"]) == (status, body)


async def test_a_client_secret_counts_in_either_place(session: aiohttp.ClientSession) -> None:
    async with FakeProvider(client_secret="s/e+c") as fake:
        client = Client(fake, session)
        refused = await client.refresh(client.credential.refresh_token)
        assert (refused.status, json.loads(refused.body)["error"]) == (401, "invalid_client")
        assert refused.headers["WWW-Authenticate"].startswith("Basic")
        in_body = await client.refresh(client.credential.refresh_token, client_secret="s/e+c")
        assert in_body.status == 200
        form = {"grant_type": "refresh_token", "refresh_token": json.loads(in_body.body)["refresh_token"]}
        basic = "Basic " + base64.b64encode(f"{fake.client_id}:s%2Fe%2Bc".encode()).decode()
        async with session.post(fake.token_url, data=form, headers={"Authorization": basic}) as response:
            assert response.status == 200


@pytest.mark.looptime
async def test_a_device_login_keeps_the_pace(session: aiohttp.ClientSession) -> None:
    async with FakeProvider() as fake:
        client = Client(fake, session)
        who = {"client_id": fake.client_id}
        started = json.loads((await client._send("POST", fake.device_url, data=who | {"scope": "all"})).body)
        assert started["interval"] == 5
        assert started["verification_uri_complete"].endswith(started["user_code"])
        poll = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": started["device_code"]}

        async def polled() -> Any:
            return json.loads((await client._send("POST", fake.token_url, data=who | poll)).body)

        assert (await polled())["error"] == "authorization_pending"
        await asyncio.sleep(5)
        assert (await polled())["error"] == "authorization_pending"
        await asyncio.sleep(3)
        assert (await polled())["error"] == "slow_down"
        fake.approve(started["user_code"])
        await asyncio.sleep(5)
        assert (await polled())["error"] == "slow_down", "the interval is 10 s after the first slow_down"
        await asyncio.sleep(15)
        granted = await polled()
        assert granted["scope"] == "all"
        assert (await client.ask(token=granted["access_token"])).status == 200
        await asyncio.sleep(30)
        assert (await polled())["error"] == "invalid_grant"
        assert len(fake.device_requests) == 1
