"""The fixtures that users get, used the way the documentation says, and what it costs to have them."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import textwrap
from contextlib import closing
from http.client import HTTPConnection
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import rxauth.testing
from rxauth.testing import FakeProvider, Reply, fixtures, pytest_plugin


@pytest.mark.parametrize(
    ("without", "outcome"),
    [
        pytest.param("(no such thing)", "2 passed", id="as documented"),
        pytest.param("recover_auth(", "2 failed", id="without the operator"),
    ],
)
def test_documented_test_needs_the_operator(tmp_path: Path, without: str, outcome: str) -> None:
    code = inspect.cleandoc(pytest_plugin.__doc__ or "").split("# test_chat.py")[1].rpartition("\n\n")[0]
    test = textwrap.dedent(code).replace(without, "(lambda _: lambda stream: stream)(")
    (tmp_path / "test_chat.py").write_text(test)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", pytest_plugin.__name__]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=alone)
    assert outcome in done.stdout, done.stderr


def test_entry_point_names_the_plugin(pytestconfig: pytest.Config) -> None:
    (entry,) = entry_points(group="pytest11", name=pytest_plugin.__name__)
    assert entry.load() is pytest_plugin
    # The entry point's name is the module's: pytest refuses one module under two names.
    for module in (pytest_plugin, fixtures):
        assert pytestconfig.pluginmanager.get_plugin(module.__name__) is module


def test_every_name_of_the_plugin_is_prefixed() -> None:
    assert all(name.startswith("rxauth_") for name in pytest_plugin.__all__)


def test_a_plain_test_gets_a_provider_that_is_running(fake_provider: FakeProvider) -> None:
    assert fake_provider.url.startswith("http://127.0.0.1:")
    assert fake_provider.accepts(fake_provider.credential().access_token)


@pytest.mark.fake_provider(client_id="of the class", answer="of the class", api_keys=["k"])
class TestMarkers:
    @pytest.mark.fake_provider(client_id="of the test", replies=[Reply(status=529)])
    def test_the_marker_nearest_to_the_test_wins_option_by_option(self, fake_provider: FakeProvider) -> None:
        assert fake_provider.client_id == "of the test"
        with closing(HTTPConnection(fake_provider.url.removeprefix("http://"), timeout=10)) as connection:
            for expected in (b"overloaded_error", b"of the class"):
                connection.request("POST", "/v1/messages", "{}", {"x-api-key": "k"})
                assert expected in connection.getresponse().read()


def test_the_public_names_are_these() -> None:
    assert sorted(rxauth.testing.__all__) == [
        "FakeProvider", "Gate", "Pause", "Reply", "SeenRequest", "VirtualTime", "anthropic_events", "marbles",
        "openai_chunks", "openai_response_events",
    ]  # fmt: skip
    for name in rxauth.testing.__all__:
        assert getattr(rxauth.testing, name) is not None
        assert name in dir(rxauth.testing)
    with pytest.raises(AttributeError, match="nothing"):
        rxauth.testing.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("imported", "unused"),
    [
        ("import rxauth.testing.fixtures", {"reactivex", "aiohttp", "msgspec"}),
        ("import rxauth.testing; rxauth.testing.VirtualTime; rxauth.testing.marbles.cold", {"aiohttp"}),
    ],
    ids=str,
)
def test_an_import_loads_only_what_it_needs(imported: str, unused: set[str]) -> None:
    program = f"{imported}; import sys; print({unused} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
