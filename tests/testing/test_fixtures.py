"""The fixtures that users get, used the way the documentation says."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from rxauth.testing import FakeProvider, Reply, VirtualTime, fixtures, pytest_plugin


def run_example(directory: Path, *, without: str = "(no such thing)", plugin: bool = True) -> str:
    """Return the output of pytest for the documented test, with rxauth's plugin alone and warnings being errors."""
    code = inspect.cleandoc(pytest_plugin.__doc__ or "").split("# test_chat.py")[1].rpartition("\n\n")[0]
    test = textwrap.dedent(code)
    (directory / "test_chat.py").write_text(test.replace(without, "(lambda _: lambda stream: stream)("))
    (directory / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    if plugin:
        command += ["-p", pytest_plugin.__name__]  # as the entry point does
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, env=alone)
    return done.stdout + done.stderr


def test_documented_test_passes(tmp_path: Path) -> None:
    assert "2 passed" in run_example(tmp_path)


def test_documented_test_fails_without_the_operator(tmp_path: Path) -> None:
    assert "2 failed" in run_example(tmp_path, without="recover_auth(")


def test_entry_point_names_the_plugin() -> None:
    (entry,) = entry_points(group="pytest11", name=pytest_plugin.__name__)
    assert entry.load() is pytest_plugin


def test_plugin_and_short_names_load_together(pytestconfig: pytest.Config) -> None:
    """The entry point's name is the module's: pytest refuses one module under two names."""
    assert pytestconfig.pluginmanager.get_plugin(pytest_plugin.__name__) is pytest_plugin
    assert pytestconfig.pluginmanager.get_plugin(fixtures.__name__) is fixtures


def test_every_name_of_the_plugin_is_prefixed() -> None:
    assert all(name.startswith("rxauth_") for name in pytest_plugin.__all__)


def test_plugin_imports_neither_rxpy_nor_an_http_server() -> None:
    program = "import sys, rxauth.testing.fixtures; print({'reactivex', 'aiohttp', 'msgspec'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_plain_test_gets_a_provider_that_is_running(fake_provider: FakeProvider) -> None:
    assert fake_provider.url.startswith("http://127.0.0.1:")
    assert fake_provider.accepts(fake_provider.credential().access_token)


@pytest.mark.fake_provider(client_id="of the class", answer="of the class")
class TestMarkers:
    @pytest.mark.fake_provider(client_id="of the test", replies=[Reply(status=503)])
    async def test_the_marker_nearest_to_the_test_wins_option_by_option(self, fake_provider: FakeProvider) -> None:
        assert fake_provider.client_id == "of the test"
        request = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nx-api-key: {self.key(fake_provider)}"
        host, port = fake_provider.url.removeprefix("http://").split(":")
        for expected in (b" 503 ", b"of the class"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"{request}\r\nConnection: close\r\n\r\n{{}}".encode())
            assert expected in await reader.read()
            writer.close()
            await writer.wait_closed()

    def key(self, provider: FakeProvider) -> str:
        return provider.credential().access_token


def test_every_test_has_a_clock_of_its_own(virtual_time: VirtualTime) -> None:
    assert virtual_time.scheduler.clock == 0


def test_a_source_can_be_seen_again_in_the_same_columns(virtual_time: VirtualTime) -> None:
    source = virtual_time.attempts("s--e|", "--s-a|")
    assert [virtual_time.see(source), virtual_time.subscriptions(source)] == ["s--e|", ["^---!"]]
    assert [virtual_time.see(source), virtual_time.subscriptions(source)] == ["--s-a|", ["^----!"]]


def test_a_stream_can_be_left(virtual_time: VirtualTime) -> None:
    source = virtual_time.cold("s-a-b-c")
    assert virtual_time.see(source, until=3) == "s-a"
    assert virtual_time.subscriptions(source) == ["^--!"]


def test_a_hot_source_has_gone_on_before(virtual_time: VirtualTime) -> None:
    source = virtual_time.hot("a-^-b|")
    assert virtual_time.see(lambda: source) == "--b|"
    assert virtual_time.subscriptions(source) == ["^--!"]


def test_other_events_are_drawn_by_their_letters(virtual_time: VirtualTime) -> None:
    events = {"h": {"type": "hello"}, "x": {"type": "failed"}}
    assert virtual_time.see(virtual_time.cold("h-x|", events), events) == "h-x|"
