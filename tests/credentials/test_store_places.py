"""Where the programs keep their logins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials import FileStore, KimiCliStore, KimiCodeStore, PiStore
from rxauth.providers import KIMI, KIMI_GLOBAL
from tests.credentials.kinds import KIMI_CODE

ANN = {"HOME": "/home/ann"}
GLOBAL = {"oauth_host": "https://auth.kimi.ai", "base_url": "https://api.kimi.ai/coding/v1"}


@pytest.mark.parametrize(
    ("store", "place"),
    [
        (PiStore(environ=ANN), "/home/ann/.pi/agent/auth.json"),
        (PiStore(environ=ANN | {"PI_CODING_AGENT_DIR": "~/pi"}), "/home/ann/pi/auth.json"),
        (PiStore(environ=ANN | {"PI_CODING_AGENT_DIR": "/abs"}), "/abs/auth.json"),
        (PiStore("x.json", environ=ANN), "x.json"),
        (PiStore("~/x.json"), f"{Path.home()}/x.json"),
        (KimiCodeStore(environ=ANN), "/home/ann/.kimi-code/credentials/kimi-code.json"),
        (KimiCodeStore(environ=ANN | {"KIMI_CODE_HOME": "/k"}), "/k/credentials/kimi-code.json"),
        (KimiCodeStore("/h", environ=ANN | {"KIMI_CODE_HOME": "/k"}), "/h/credentials/kimi-code.json"),
        (KimiCodeStore("~/h"), f"{Path.home()}/h/credentials/kimi-code.json"),
        (KimiCliStore(environ=ANN), "/home/ann/.kimi/credentials/kimi-code.json"),
        (KimiCliStore(environ=ANN | {"KIMI_SHARE_DIR": "/k"}), "/k/credentials/kimi-code.json"),
        (KimiCliStore("/s", environ=ANN | {"KIMI_SHARE_DIR": "/k"}), "/s/credentials/kimi-code.json"),
        (FileStore("~/auth.json", "kimi"), f'{Path.home()}/auth.json ("kimi")'),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_store_is_where_its_program_keeps_the_login(store: Any, place: str) -> None:
    assert store.describe() == place
    assert place.split(" (")[0] in repr(store)


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        pytest.param({}, "kimi-code", id="the default hosts"),
        pytest.param(
            {"oauth_host": " https://auth.kimi.com/ ", "base_url": "https://api.kimi.com/coding/v1//"},
            "kimi-code",
            id="the same with slashes",
        ),
        pytest.param(GLOBAL, "kimi-code-env-0e4f99c69cc27850", id="the global region"),
        pytest.param(
            {"base_url": "https://api.example/coding"}, "kimi-code-env-022cba9b9cb35f45", id="another API alone"
        ),
    ],
)
async def test_kimi_code_has_a_file_and_a_lock_for_each_host(hosts: Any, name: str, tmp_path: Path) -> None:
    """`<first 16 of the SHA-256 of {"oauthHost":...,"baseUrl":...}>`, as release 2.1.0 names them."""
    store = KimiCodeStore(tmp_path, **hosts)
    assert store.describe() == f"{tmp_path}/credentials/{name}.json"
    async with store.locked():
        assert (tmp_path / "oauth" / f"{name}.lock").is_dir()
    KIMI_CODE.write(tmp_path).rename(store.describe())
    loaded = await store.load()
    assert loaded is not None
    assert loaded.token_url == hosts.get("oauth_host", "https://auth.kimi.com").strip(" /") + "/api/oauth/token"


def test_kimi_code_stores_of_all_regions_are_found() -> None:
    def names(**environ: str) -> list[str]:
        return [Path(store.describe()).stem for store in KimiCodeStore.of_all_regions(environ=ANN | environ)]

    presets = [preset.base_urls["openai-chat"] for preset in (KIMI, KIMI_GLOBAL)]
    assert [store.base_url for store in KimiCodeStore.of_all_regions(environ=ANN)] == presets
    both = ["kimi-code", "kimi-code-env-0e4f99c69cc27850"]
    assert names() == both
    assert names(KIMI_CODE_OAUTH_HOST="https://auth.kimi.ai", KIMI_CODE_BASE_URL=GLOBAL["base_url"]) == both
    assert len(names(KIMI_OAUTH_HOST="https://auth.test")) == 3


@pytest.mark.parametrize(
    ("noted", "region"), [("global\n", "global"), ("mainland-cn", "mainland-cn"), ("mars", None), (None, None)]
)
def test_kimi_codes_region_is_the_installers(noted: str | None, region: str | None, tmp_path: Path) -> None:
    if noted is not None:
        (tmp_path / "region").write_text(noted)
    assert KimiCodeStore.region(tmp_path) == region
