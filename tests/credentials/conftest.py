"""A token endpoint, two clocks, the stores in JSON files, and a redis-server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import peers_needed
from tests.credentials.kinds import KINDS, Kind
from tests.credentials.oauth import Time
from tests.credentials.token_server import TokenServer, running

if TYPE_CHECKING:
    from tests.credentials.redis_servers import RedisServer


@pytest.fixture(autouse=True)
def rxauth_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of rxauth's own for each test, so that none writes into the user's."""
    home = tmp_path_factory.mktemp("rxauth_home")
    monkeypatch.setenv("RXAUTH_HOME", str(home))
    return home


@pytest.fixture
def server() -> Iterator[TokenServer]:
    """A token endpoint on loopback."""
    with running(TokenServer()) as server:
        yield server


@pytest.fixture
def now() -> Time:
    """Both clocks of an `OAuthCredentials`."""
    return Time()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each store that keeps a credential in a JSON file."""
    found: Kind = request.param
    return found


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A redis-server for all tests."""
    peers_needed.program("redis-server")
    peers_needed.package("redis")
    from tests.credentials.redis_servers import RedisServer

    server = RedisServer(tmp_path_factory.mktemp("r"))
    yield server
    server.client.close()
    server.kill()


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[RedisServer]:
    """The same, empty and running."""
    redis_server.client.flushall()
    yield redis_server
    redis_server.go_on()
    if redis_server.process.poll() is not None:
        redis_server.start()
