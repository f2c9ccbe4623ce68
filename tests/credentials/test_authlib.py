"""Logins and refreshes at an OAuth server that is not ours."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials import Credential, FileStore, MemoryStore, OAuthCredentials
from rxauth.errors import LoginRequired, RefreshFailed, RequestRejected
from tests import peers_needed
from tests.credentials.oauth import Time, rejected, renewed
from tests.credentials.test_device_login import Person

pytestmark = pytest.mark.peer

peers_needed.package("authlib")
peers_needed.package("flask")

from tests.credentials.authlib_server import AuthlibServer, Client, authlib_server  # noqa: E402


def credential(fields: dict[str, Any]) -> Credential:
    return Credential(fields["access_token"], fields["refresh_token"], time.time() + fields["expires_in"])


def source(server: AuthlibServer, store: Any, **options: Any) -> OAuthCredentials:
    return OAuthCredentials(store, token_url=server.url + "/token", **{"client_id": "app"} | options)


# Refreshes -----------------------------------------------------------------------------------------------------------


async def test_a_login_lives_through_many_refreshes(tmp_path: Path) -> None:
    """Of three programs on one machine."""
    with authlib_server(Client()) as (server, authlib):
        known = credential(server.log_in(authlib))
        await FileStore(tmp_path / "auth.json", "key").save(known)
        sources = [source(server, FileStore(tmp_path / "auth.json", "key")) for _ in range(3)]
        for round_number in range(1, 6):
            asked = [each.refresh(rejected(known)) for each in sources for _ in range(30)]
            (known,) = {each for each in await asyncio.gather(*asked) if each is not None}
            assert server.valid(known.access_token)
            assert len(server.statuses) == round_number
        assert server.revoked == set()


async def test_a_refresh_token_used_twice_revokes_the_login(now: Time) -> None:
    """Many tests here rely on it. The dead token is not sent a third time."""
    with authlib_server(Client()) as (server, authlib):
        first = credential(server.log_in(authlib))
        await renewed(source(server, MemoryStore(first)), first)
        ours = source(server, MemoryStore(first), sleep=now.sleep)
        for _ in range(3):
            with pytest.raises(LoginRequired):
                await ours.refresh(rejected(first))
        assert (server.revoked, server.statuses) == ({0}, [200, 400])


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("none", {}),
        ("client_secret_post", {"client_secret": "s&c:r%t ü"}),
        ("client_secret_basic", {"client_secret": "secret", "client_auth": "basic"}),
    ],
)
async def test_each_client_authentication_is_accepted(method: str, options: dict[str, Any]) -> None:
    client = Client(client_secret=options.get("client_secret", ""), auth_method=method)
    with authlib_server(client) as (server, authlib):
        first = credential(server.log_in(authlib))
        new = await renewed(source(server, MemoryStore(first), **options), first)
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
    with authlib_server(Client(client_secret="secret", auth_method="client_secret_post")) as (server, authlib):
        store = MemoryStore(first := credential(server.log_in(authlib)))
        with pytest.raises(RefreshFailed) as caught:
            await source(server, store, **options).refresh(rejected(first))
        assert (caught.value.type, len(server.statuses)) == (code, 1)
        await renewed(source(server, store, client_secret="secret"), first)


# Device logins -------------------------------------------------------------------------------------------------------


class Ann(Person):
    """Grants or refuses code number `at`, once `waits` waits have passed."""

    def __init__(self, server: AuthlibServer, grants: bool, *, at: int, waits: int) -> None:
        super().__init__()
        self.server, self.grants, self.at, self.waits_first = server, grants, at, waits

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        self.server.time += seconds
        if len(self.prompts) > self.at and len(self.slept) >= self.waits_first:
            self.server.granted[self.prompts[-1].user_code] = self.grants


@pytest.mark.parametrize(
    ("grants", "at", "waits", "slept"),
    [
        pytest.param(True, 0, 4, [5, 5, 10, 10], id="pending, slow_down, pending, granted"),
        pytest.param(True, 1, 0, None, id="the second code"),
        pytest.param(False, 0, 1, [5], id="refused"),
    ],
)
async def test_a_person_is_waited_for(grants: bool, at: int, waits: int, slept: list[float] | None) -> None:
    with authlib_server(Client()) as (server, _):
        ann = Ann(server, grants, at=at, waits=waits)
        login = ann.login(server, scope="read")
        if grants:
            credential = await login
            assert server.valid(credential.access_token)
            assert credential.refresh_token is not None
        else:
            with pytest.raises(LoginRequired):
                await login
        assert slept in (None, ann.slept)
        assert len({prompt.user_code for prompt in ann.prompts}) == at + 1


async def test_an_unknown_client_is_refused() -> None:
    with authlib_server(Client()) as (server, _), pytest.raises(RequestRejected, match="invalid_client"):
        await Person().login(server, client_id="stranger")
