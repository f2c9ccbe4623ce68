"""The fake provider as an authorization server: what RFC 6749 and RFC 8628 grant and refuse."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from rxauth.testing import Reply
from tests.testing.conftest import Client, Serve

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
REFRESH = {"grant_type": "refresh_token", "client_id": "fake-client"}
DEVICE = {"grant_type": DEVICE_GRANT, "client_id": "fake-client"}


async def is_live(client: Client, token: str) -> bool:
    assert client.fake.accepts(token) == ((await client.ask(token=token)).status == 200)
    return client.fake.accepts(token)


async def error_of(client: Client, refresh_token: str | None) -> str | None:
    seen = await client.refresh(refresh_token)
    assert seen.status == (400 if "error" in seen.json else 200)
    error: str | None = seen.json.get("error")
    return error


async def test_reuse_of_a_refresh_token_ends_its_login_alone(serve: Serve) -> None:
    client = await serve()
    one, other = client.credential, client.fake.credential()
    response = await client.refresh()
    assert response.headers["Cache-Control"] == "no-store"
    newer = response.json
    assert (newer["token_type"], newer["refresh_token"] != one.refresh_token) == ("Bearer", True)
    assert await is_live(client, one.access_token), "a refresh does not kill the token it replaces"
    assert await is_live(client, newer["access_token"])
    assert await error_of(client, one.refresh_token) == "invalid_grant"
    assert not await is_live(client, newer["access_token"])
    assert not await is_live(client, one.access_token)
    assert await error_of(client, newer["refresh_token"]) == "invalid_grant"
    assert await is_live(client, other.access_token)
    assert await error_of(client, other.refresh_token) is None


async def test_invalidate_ends_tokens_and_revoke_the_login(serve: Serve) -> None:
    client = await serve()
    client.fake.invalidate()
    assert not await is_live(client, client.credential.access_token)
    newer = (await client.refresh()).json
    assert await is_live(client, newer["access_token"])
    client.fake.revoke()
    assert not await is_live(client, newer["access_token"])
    assert await error_of(client, newer["refresh_token"]) == "invalid_grant"
    assert await is_live(client, client.fake.credential().access_token), "a new login is not concerned"


async def test_a_token_expires(serve: Serve) -> None:
    now = 1000.0
    client = await serve(expires_in=900.0, clock=lambda: now)
    assert client.credential.expires_at == 1900
    assert client.credential.extra == {"expires_in": 900}
    now = 1899.9
    assert await is_live(client, client.credential.access_token)
    now = 1900
    assert not await is_live(client, client.credential.access_token)
    response = await client.refresh()
    assert b'"expires_in":900,' in response.body, "an integer where it is one: some clients fail on 900.0"
    assert await is_live(client, response.json["access_token"])


async def test_a_life_without_end_is_not_mentioned(serve: Serve) -> None:
    client = await serve(expires_in=None, clock=lambda: 1e12)
    assert client.credential.expires_at is None
    assert await is_live(client, client.credential.access_token)
    assert "expires_in" not in (await client.refresh()).json


async def test_without_rotation_no_refresh_token_is_returned(serve: Serve) -> None:
    client = await serve(rotate=False)
    for _ in range(2):
        assert "refresh_token" not in (await client.refresh()).json


async def test_a_refresh_keeps_scope_and_extra_fields(serve: Serve) -> None:
    client = await serve(extra={"account_id": "a1"})
    client.credential = client.fake.credential(scope="read write")
    assert (client.credential.account_id, client.credential.scope) == ("a1", "read write")
    assert (await client.refresh(scope="read admin")).json["error"] == "invalid_scope"
    response = (await client.refresh(scope="read")).json
    assert (response["account_id"], response["scope"]) == ("a1", "read write")


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"client_id": "fake-client"}, 400, "invalid_request"),
        ({"client_id": "fake-client", "grant_type": "password"}, 400, "unsupported_grant_type"),
        (REFRESH, 400, "invalid_request"),
        (REFRESH | {"refresh_token": ""}, 400, "invalid_request"),
        (REFRESH | {"refresh_token": "unknown"}, 400, "invalid_grant"),
        (REFRESH | {"client_id": "other"}, 401, "invalid_client"),
        ({"grant_type": "refresh_token"}, 401, "invalid_client"),
        (REFRESH | {"client_secret": "for a public client"}, 401, "invalid_client"),
        ([*REFRESH.items(), *[("refresh_token", "unknown")] * 2], 400, "invalid_request"),
        (DEVICE, 400, "invalid_request"),
        (DEVICE | {"device_code": "x"}, 400, "invalid_grant"),
    ],
    ids=str,
)
async def test_a_bad_request_has_the_error_of_the_rfc(serve: Serve, form: Any, status: int, error: str) -> None:
    seen = await (await serve(token_replies=[Reply(headers={"x-more": "1"})])).send("/oauth/token", data=form)
    assert (seen.status, seen.json["error"], seen.headers["x-more"]) == (status, error, "1")
    assert ("WWW-Authenticate" in seen.headers) == (status == 401)


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("header", "in_form", "status"),
    [
        pytest.param(None, {}, 401, id="no secret"),
        pytest.param(None, {"client_secret": "s/e+c"}, 200, id="in the form"),
        pytest.param(basic("fake-client:s%2Fe%2Bc"), {}, 200, id="in the header"),
        pytest.param(basic("fake-client:s%2Fe%2Bc"), {"client_secret": "s/e+c"}, 400, id="in both"),
        pytest.param(basic("fake-client:no"), {}, 401, id="a wrong secret"),
        pytest.param(basic("other:s%2Fe%2Bc"), {}, 401, id="another client"),
        pytest.param(basic("fake-client"), {}, 401, id="no colon"),
        pytest.param("Basic !", {}, 401, id="no base64"),
        pytest.param("Bearer" + basic("fake-client:s%2Fe%2Bc")[5:], {}, 401, id="another scheme"),
    ],
)
async def test_a_client_secret_counts_in_one_place(
    serve: Serve, header: str | None, in_form: dict[str, str], status: int
) -> None:
    client = await serve(client_secret="s/e+c")
    form = {"grant_type": "refresh_token", "refresh_token": client.credential.refresh_token, **in_form}
    headers = {} if header is None else {"Authorization": header}
    seen = await client.send("/oauth/token", data=form if header else form | REFRESH, headers=headers)
    assert seen.status == status


@pytest.mark.parametrize(
    ("reply", "status", "error"),
    [
        (Reply(status=400), 400, "invalid_grant"),
        (Reply(status=401), 401, "invalid_client"),
        (Reply(status=500), 500, "server_error"),
        (Reply(status=400, error="unauthorized_client"), 400, "unauthorized_client"),
        (Reply(error="bad_refresh_token"), 200, "bad_refresh_token"),
    ],
    ids=str,
)
async def test_a_scripted_oauth_error_has_rfc_6749_fields(serve: Serve, reply: Reply, status: int, error: str) -> None:
    seen = await (await serve(token_replies=[reply])).refresh()
    assert (seen.status, seen.json["error"]) == (status, error)


@pytest.mark.parametrize(
    ("reply", "spent"),
    [
        (Reply.cut(at=10), True),
        (Reply.reset(), True),
        (Reply.hang(), True),
        (Reply(status=503), False),
        (Reply(body="not JSON"), False),
    ],
    ids=str,
)
async def test_a_rotation_stays_if_its_response_is_lost(serve: Serve, reply: Reply, spent: bool) -> None:
    client = await serve(token_replies=[reply])
    lost = asyncio.create_task(client.refresh())
    await client.fake.seen(1)
    if reply.hold is not None:
        await reply.hold.reached()
        lost.cancel()
    await asyncio.wait([lost])
    assert (await client.refresh()).status == (400 if spent else 200)


# Device logins.


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("interval", "polls"),
    [
        pytest.param(5, [(0, "authorization_pending"), (5, "authorization_pending"), (3, "slow_down"),
                         (9.9, "slow_down"), (15, "approve"), (0, None), (30, "invalid_grant")], id="the pace is kept"),
        pytest.param(2, [(0, "authorization_pending"), (1, "slow_down"), (6.995, "authorization_pending")],
                     id="a timer that is a clock tick early is forgiven"),
        pytest.param(None, [(0, "authorization_pending"), (5, "authorization_pending"), (4.9, "slow_down")],
                     id="not spoken: 5 seconds"),
        pytest.param(0, [(0, "authorization_pending")] * 3, id="at will"),
        pytest.param(5, [(0, "deny"), (0, "access_denied")], id="denied"),
        pytest.param(5, [(599, "authorization_pending"), (5, "expired_token")], id="expired"),
        pytest.param(5, [(0, "expire_devices"), (0, "expired_token")], id="expired at once"),
    ],
)  # fmt: skip
async def test_a_device_login_is_polled(
    serve: Serve, interval: float | None, polls: list[tuple[float, str | None]]
) -> None:
    client = await serve(interval=interval)
    started = (await client.send("/oauth/device_authorization", data=DEVICE | {"scope": "all"})).json
    assert started.get("interval") == interval
    assert started["verification_uri_complete"] == f"{client.fake.url}/device?user_code={started['user_code']}"
    assert len(client.fake.device_requests) == 1
    for wait, expected in polls:
        await asyncio.sleep(wait)
        if expected in ("approve", "deny", "expire_devices"):
            getattr(client.fake, expected)()
            continue
        polled = (await client.send("/oauth/token", data=DEVICE | {"device_code": started["device_code"]})).json
        assert polled.get("error") == expected
        if expected is None:
            assert polled["scope"] == "all"
            assert await is_live(client, polled["access_token"])


async def test_a_person_decides_on_one_code_or_on_all(serve: Serve) -> None:
    client = await serve()
    one, *others = [(await client.send("/oauth/device_authorization", data=DEVICE)).json for _ in range(3)]
    client.fake.deny(one["user_code"])
    client.fake.approve()
    polled = [await client.send("/oauth/token", data=DEVICE | {"device_code": each["device_code"]})
              for each in (one, *others)]  # fmt: skip
    assert [each.json.get("error") for each in polled] == ["access_denied", None, None]
    for decide in (client.fake.approve, client.fake.deny):
        with pytest.raises(LookupError):
            decide()
