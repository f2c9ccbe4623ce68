"""Where other programs keep their logins, and what is particular to one program's file."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials import Credential, FileStore, KimiCliStore, KimiCodeStore, PiStore
from rxauth.errors import StoreError
from tests.credentials.kinds import KIMI_CODE, NEW, PI, tokens

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


# kimi-code's files by host -------------------------------------------------------------------------------------------


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


async def test_kimi_codes_file_is_complete(tmp_path: Path) -> None:
    """Kimi Code reads every field, and takes an empty string or 0 for none."""
    store = KimiCodeStore(tmp_path, clock=lambda: 1000.0)
    await store.save(Credential("alone"))
    none = {"access_token": "alone", "refresh_token": "", "expires_at": 0, "scope": "", "token_type": "Bearer"}
    assert KIMI_CODE.read(tmp_path) == none | {"expires_in": 0}
    loaded = await store.load()
    assert loaded is not None
    assert (loaded.refresh_token, loaded.expires_at, loaded.scope) == (None, None, None)
    await store.save(Credential("a", "r", 1900.4))
    some = {"access_token": "a", "refresh_token": "r", "expires_at": 1900.4, "expires_in": 900}
    assert KIMI_CODE.read(tmp_path) == none | some


# pi's file -----------------------------------------------------------------------------------------------------------


async def test_pis_file_says_in_its_own_way_what_is_not_known(tmp_path: Path) -> None:
    PI.write(tmp_path)
    await PI.store(tmp_path).save(Credential("alone"))
    assert (PI.read(tmp_path)["refresh"], PI.read(tmp_path)["expires"]) == ("", 0)
    loaded = await PI.store(tmp_path).load()
    assert loaded is not None
    assert (loaded.refresh_token, loaded.expires_at) == (None, None)


async def test_pis_api_key_of_the_same_provider_stays(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"kimi-coding": {"type": "api_key", "key": "$KEY"}}))
    before = path.read_bytes()
    assert await PI.store(tmp_path).load() is None
    assert await PI.store(tmp_path).delete() is False
    with pytest.raises(StoreError, match="API key"):
        await PI.store(tmp_path).save(NEW)
    assert path.read_bytes() == before


async def test_pis_other_providers_have_logins_of_their_own(tmp_path: Path) -> None:
    PI.write(tmp_path)
    rich = Credential("a", "r", 1800000000.5, token_type="DPoP", scope="x y", extra={"account_id": "7", "n": [1.5]})
    other = PiStore(tmp_path / "auth.json", provider="another")
    await other.save(rich)
    assert await other.load() == rich
    assert tokens(await PI.store(tmp_path).load()) == ("access-1", "refresh-1")


async def test_a_file_size_limit_leaves_the_file_whole(tmp_path: Path) -> None:
    """A process that may not write more than 100 bytes to a file, and gets the error after a part of them."""
    before = PI.write(tmp_path).read_bytes()
    script = f"""
import asyncio, resource, signal
from rxauth.credentials import Credential, PiStore
from rxauth.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    asyncio.run(PiStore({str(tmp_path / "auth.json")!r}).save(Credential("access-2")))
except StoreError as error:
    print(error)
"""
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True)
    assert "cannot be written: File too large" in done.stdout, done.stderr
    assert (tmp_path / "auth.json").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "auth.json"]
