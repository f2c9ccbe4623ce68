"""Against an OAuth server that is not ours, which revokes the whole login when a refresh token comes twice."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials import Credential, FileStore, MemoryStore, OAuthCredentials
from rxauth.errors import CredentialRejected, LoginRequired, RefreshFailed
from tests.credentials.authlib_server import Client, authlib_server


def credential(fields: dict[str, Any]) -> Credential:
    return Credential(fields["access_token"], fields["refresh_token"], time.time() + fields["expires_in"])


def rejected(one: Credential) -> CredentialRejected:
    return CredentialRejected("401", status=401, credential=one)


async def test_a_login_lives_through_many_refreshes_by_many_askers_on_one_file(tmp_path: Path) -> None:
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


async def test_the_same_without_comparing_would_revoke_the_login() -> None:
    """That the server does what these tests rely on."""
    with authlib_server(Client("app")) as (server, authlib):
        first = credential(server.log_in(authlib, "app"))
        for _ in range(2):
            source = OAuthCredentials(MemoryStore(first), token_url=server.url, client_id="app", sleep=no_time)
            outcome = (await asyncio.gather(source.refresh(rejected(first)), return_exceptions=True))[0]
        assert isinstance(outcome, LoginRequired)
        assert server.revoked == {0}
        assert server.statuses == [200, 400]


async def test_a_revoked_login_is_a_login_to_make() -> None:
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
async def test_it_knows_us_however_we_say_who_we_are(method: str, options: dict[str, Any]) -> None:
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
        pytest.param({"client_id": "nobody"}, "invalid_client", id="an unknown client"),
        pytest.param({"client_secret": "wrong"}, "invalid_client", id="a wrong secret"),
        pytest.param({"client_secret": "secret", "scope": "read write admin"}, "invalid_scope", id="too wide a scope"),
    ],
)
async def test_a_wrong_configuration_is_no_lost_login(options: dict[str, Any], code: str) -> None:
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
