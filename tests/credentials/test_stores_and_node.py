"""Node's real proper-lockfile on the other side, as pi and Kimi Code use it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rxauth.errors import StoreError
from tests import peers_needed
from tests.credentials.kinds import KIMI_CODE, NEW, PI, Kind, Waits, count, counted
from tests.credentials.test_lock_directory import Clock

pytestmark = pytest.mark.peer

_PEER = """
const fs = require('fs');
const lockfile = require('proper-lockfile');
const say = (reply) => fs.writeSync(1, JSON.stringify(reply) + '\\n');
const holds = {};
const does = {
  lock: async ({ path, options }) => {
    holds[path] = await lockfile.lock(path, { ...options, onCompromised: () => {} });
  },
  lockSync: async ({ path }) => { holds[path] = lockfile.lockSync(path); },
  release: async ({ path }) => { await holds[path](); },
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


class Protocol(NamedTuple):
    """How one program calls proper-lockfile."""

    kind: Kind
    target: str
    options: dict[str, Any]


PROTOCOLS = [
    Protocol(PI, "auth.json", {"stale": 30000}),
    Protocol(KIMI_CODE, "oauth/kimi-code", {"stale": 5000, "realpath": False}),
]


@pytest.fixture(params=PROTOCOLS, ids=lambda protocol: protocol.kind.name)
def theirs(request: pytest.FixtureRequest, tmp_path: Path) -> Protocol:
    found: Protocol = request.param
    found.kind.write(tmp_path, counted={"count": 0})
    (tmp_path / found.target).parent.mkdir(exist_ok=True)
    (tmp_path / found.target).touch()
    return found


async def test_node_and_we_wait_for_each_other(theirs: Protocol, tmp_path: Path, node: NodePeer) -> None:
    path, options = tmp_path / theirs.target, theirs.options
    node.ask("lock", path=path, options=options)
    waits = Waits({7: lambda: node.ask("release", path=path)})
    async with theirs.kind.store(tmp_path, sleep=waits).locked():
        assert waits.count == 7
        for way in ("lock", "lockSync"):
            with pytest.raises(Exception, match="ELOCKED"):
                node.ask(way, path=path, options=options)
        retries = {"retries": 1000, "factor": 1, "minTimeout": 5, "maxTimeout": 10}
        node.tell("lock", path=path, options=options | {"retries": retries})
    await asyncio.to_thread(node.answer)
    assert (tmp_path / theirs.kind.lock).is_dir()


@pytest.mark.looptime
async def test_node_takes_our_lock_for_alive_while_we_show_it(tmp_path: Path, node: NodePeer) -> None:
    path, lock = PI.write(tmp_path), tmp_path / PI.lock
    before = path.read_bytes()
    clock = Clock(-31)
    store = PI.store(tmp_path, clock=clock)
    async with store.locked():
        clock.offset = 0
        await asyncio.sleep(2.01)
        with pytest.raises(Exception, match="ELOCKED"):
            node.ask("lock", path=path, options={"stale": 30000})
    clock.offset = -31
    async with store.locked():
        assert time.time() - lock.stat().st_mtime > 30
        node.ask("lock", path=path, options={"stale": 30000})
        with pytest.raises(StoreError, match="lost"):
            await store.save(NEW)
    assert lock.is_dir(), "Node's now"
    assert path.read_bytes() == before
    node.ask("release", path=path)


async def test_we_take_over_from_a_dead_node(theirs: Protocol, tmp_path: Path, node: NodePeer) -> None:
    node.ask("lock", path=tmp_path / theirs.target, options=theirs.options)
    node.process.kill()
    node.process.wait()
    clock = Clock()
    late = theirs.options["stale"] / 1000 + 3  # Node dates a fresh lock up to a second ahead
    waits = Waits({4: clock.moves_to(late)})
    await theirs.kind.store(tmp_path, clock=clock, sleep=waits).save(NEW)
    assert waits.count >= 4
    assert not (tmp_path / theirs.kind.lock).exists()


async def test_nothing_is_lost_when_node_and_python_write_at_once(
    theirs: Protocol, tmp_path: Path, start_node: Callable[[], NodePeer]
) -> None:
    """Each reads a number and writes the next one, under its lock; every lost update would be missing."""
    times, path = 25, theirs.kind.path(tmp_path)
    peers = [start_node(), start_node()]
    for peer in peers:
        peer.tell("count", path=path, times=times, lock=tmp_path / theirs.target, options=theirs.options)
    stores = [theirs.kind.store(tmp_path, sleep=lambda seconds: asyncio.sleep(0.005)) for _ in range(2)]
    await asyncio.gather(count(stores[0], times), asyncio.to_thread(lambda: asyncio.run(count(stores[1], times))))
    for peer in peers:
        await asyncio.to_thread(peer.answer)
    assert json.loads(path.read_bytes())["counted"]["count"] == 2 * times
    assert await counted(stores[0]) == 2 * times
    assert theirs.kind.names(tmp_path) == {theirs.kind.file}
