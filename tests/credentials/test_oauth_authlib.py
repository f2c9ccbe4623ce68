"""Against an OAuth server that is not ours, which revokes the whole login when a refresh token comes twice."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials import Credential, FileStore, MemoryStore, OAuthCredentials
from rxauth.errors import LoginRequired, RefreshFailed
from tests import peers_needed
from tests.credentials.oauth import rejected

pytestmark = pytest.mark.peer

peers_needed.package("authlib")
peers_needed.package("flask")

from tests.credentials.authlib_server import Client, authlib_server  # noqa: E402


def credential(fields: dict[str, Any]) -> Credential:
    return Credential(fields["access_token"], fields["refresh_token"], time.time() + fields["expires_in"])


async def test_a_login_lives_through_many_refreshes(tmp_path: Path) -> None:
    with authlib_server(Client("app")) as (server, authlib):
        first = credential(server.log_in(authlib, "app"))
        await FileStore(tmp_path / "auth.json", "key").save(first)
        # Three programs on one machine, each with its own object.
        sources = [
            OAuthCredentials(FileStore(tmp_path / "auth.json", "key"), token_url=server.url, client_id="app")
            for _ in range(3)
        ]
        known = first
        for round_number in range(1, 6):
            asked = [source.refresh(rejected(known)) for source in sources for _ in range(30)]
            new = {each for each in await asyncio.gather(*asked) if each is not None}
            assert len(new) == 1
            known = new.pop()
            assert server.valid(known.access_token)
            assert server.requests == round_number
        assert server.revoked == set()


async def test_a_refresh_token_used_twice_revokes_the_login() -> None:
    """These tests rely on it."""
    with authlib_server(Client("app")) as (server, authlib):
        first = credential(server.log_in(authlib, "app"))
        for _ in range(2):
            source = OAuthCredentials(MemoryStore(first), token_url=server.url, client_id="app", sleep=no_time)
            outcome = (await asyncio.gather(source.refresh(rejected(first)), return_exceptions=True))[0]
        assert isinstance(outcome, LoginRequired)
        assert server.revoked == {0}
        assert server.statuses == [200, 400]


async def test_a_revoked_login_needs_a_login() -> None:
    with authlib_server(Client("app")) as (server, authlib):
        first = credential(server.log_in(authlib, "app"))
        server.revoked.add(0)
        source = OAuthCredentials(MemoryStore(first), token_url=server.url, client_id="app", sleep=no_time)
        for _ in range(3):
            with pytest.raises(LoginRequired):
                await source.refresh(rejected(first))
        assert server.requests == 1


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("none", {}),
        ("client_secret_post", {"client_secret": "s&c:r%t ü"}),
        ("client_secret_basic", {"client_secret": "secret", "client_auth": "basic"}),
    ],
)
async def test_each_client_authentication_is_accepted(method: str, options: dict[str, Any]) -> None:
    client = Client("app", client_secret=options.get("client_secret", ""), auth_method=method)
    with authlib_server(client) as (server, authlib):
        first = credential(server.log_in(authlib, "app"))
        source = OAuthCredentials(MemoryStore(first), token_url=server.url, client_id="app", **options)
        new = await source.refresh(rejected(first))
        assert new is not None
        assert server.valid(new.access_token)
        assert new.scope == "read write"
        assert new.expires_at is not None


@pytest.mark.parametrize(
    ("options", "code"),
    [
        pytest.param({"client_id": "stranger"}, "invalid_client", id="an unknown client"),
        pytest.param({"client_secret": "wrong"}, "invalid_client", id="a wrong secret"),
        pytest.param({"client_secret": "secret", "scope": "read write admin"}, "invalid_scope", id="too wide a scope"),
    ],
)
async def test_a_wrong_configuration_loses_no_login(options: dict[str, Any], code: str) -> None:
    with authlib_server(Client("app", client_secret="secret", auth_method="client_secret_post")) as (server, authlib):
        first = credential(server.log_in(authlib, "app"))
        store = MemoryStore(first)
        with pytest.raises(RefreshFailed) as caught:
            await OAuthCredentials(store, token_url=server.url, **({"client_id": "app"} | options)).refresh(
                rejected(first)
            )
        assert caught.value.type == code
        assert server.requests == 1
        right = OAuthCredentials(store, token_url=server.url, client_id="app", client_secret="secret")
        assert await right.refresh(rejected(first)) is not None


async def no_time(seconds: float) -> None:
    pass
