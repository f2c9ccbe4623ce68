"""Node's real proper-lockfile, the peer that pi and Kimi Code lock with."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import peers_needed
from tests.credentials.kinds import KINDS, Kind
from tests.credentials.oauth import Time
from tests.credentials.token_server import TokenServer, running

if TYPE_CHECKING:
    from tests.credentials.redis_servers import RedisServer

_PEER = """
const fs = require('fs');
const lockfile = require('proper-lockfile');
const say = (reply) => fs.writeSync(1, JSON.stringify(reply) + '\\n');
const holds = {};
const does = {
  lock: async ({ path, options }) => {
    holds[path] = await lockfile.lock(path, { ...options, onCompromised: () => { holds[path] = null; } });
  },
  lockSync: async ({ path }) => { holds[path] = lockfile.lockSync(path); },
  release: async ({ path }) => { await holds[path](); },
  compromised: async ({ path }) => holds[path] === null,
  read: async ({ path }) => JSON.parse(fs.readFileSync(path, 'utf-8')),
  // pi does this for every change: lock, read, write in place.
  count: async ({ path, times, lock = path, options = { stale: 30000 } }) => {
    for (let i = 0; i < times; i++) {
      const retries = { retries: 1000, factor: 1, minTimeout: 5, maxTimeout: 20 };
      const release = await lockfile.lock(lock, { ...options, retries });
      const data = JSON.parse(fs.readFileSync(path, 'utf-8'));
      data.counted.count += 1;
      fs.writeFileSync(path, JSON.stringify(data, null, 2));
      await release();
    }
  },
};
require('readline').createInterface({ input: process.stdin }).on('line', async (line) => {
  const request = JSON.parse(line);
  try {
    say({ value: (await does[request.does](request)) ?? null });
  } catch (error) {
    say({ error: error.code || String(error) });
  }
});
say({ value: 'ready' });
"""


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


class NodePeer:
    """A Node process that takes requests, one line of JSON at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert self.answer() == "ready"

    def tell(self, does: str, **request: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"does": does} | request, default=str) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Return its answer; raise the code of an error that it threw."""
        assert self.process.stdout
        reply = json.loads(self.process.stdout.readline())
        if "error" in reply:
            raise NodeError(reply["error"])
        return reply["value"]

    def ask(self, does: str, **request: Any) -> Any:
        self.tell(does, **request)
        return self.answer()


class NodeError(Exception):
    """Node threw an error."""


@pytest.fixture(scope="session")
def proper_lockfile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with proper-lockfile installed in it."""
    peers_needed.program("node")
    npm = peers_needed.program("npm")
    directory = tmp_path_factory.mktemp("node")
    command = [npm, "install", "--prefix", str(directory), "--no-audit", "--no-fund", "proper-lockfile@4.1.2"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=100)
    except (subprocess.SubprocessError, OSError) as error:
        peers_needed.missing(f"npm cannot install proper-lockfile ({type(error).__name__})")
    (directory / "peer.js").write_text(_PEER)
    return directory


@pytest.fixture
def start_node(proper_lockfile: Path) -> Iterator[Callable[[], NodePeer]]:
    """Starts Node processes, and ends them with the test."""
    started: list[subprocess.Popen[str]] = []

    def start() -> NodePeer:
        started.append(
            subprocess.Popen(
                ["node", proper_lockfile / "peer.js"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
        return NodePeer(started[-1])

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def node(start_node: Callable[[], NodePeer]) -> NodePeer:
    """One Node process."""
    return start_node()


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
