"""Where a command asks, and with which credential."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rxauth import KimiCodeStore, LoginRequired, StaticCredentials, StoreError
from rxauth import __version__ as version
from rxauth.cli.endpoint import Endpoint, real_endpoint
from rxauth.cli.identity import identity
from rxauth.cli.logins import oauth_app
from rxauth.cli.statuses import statuses
from rxauth.providers import ANTHROPIC, KIMI, OPENAI, Provider
from rxauth.testing import FakeProvider

from .running import (
    CLIENT_ID,
    KEY,
    CommandLine,
    entry,
    kimi_cli_file,
    kimi_code_file,
    own_file,
    pi_file,
    write,
)

CODING = "https://api.kimi.com/coding"
BROKEN = '{"kimi-coding": {"type": "oauth", "access": 5}}'


async def endpoint(environ: Mapping[str, str], provider: str | None = "kimi", **flags: Any) -> Endpoint:
    return await real_endpoint(environ, provider=provider, **flags)


async def token(endpoint: Endpoint) -> str:
    return (await endpoint.credentials.current()).access_token


def ours(home: Path) -> Path:
    cli = CommandLine(home)
    return own_file(cli, kimi={"access_token": "ours", "refresh_token": "r"})


@pytest.mark.parametrize(
    ("variable", "anthropic", "openai"),
    [
        (None, CODING, f"{CODING}/v1"),
        ("", CODING, f"{CODING}/v1"),
        ("https://proxy/coding/v1", "https://proxy/coding", "https://proxy/coding/v1"),
        ("https://proxy/coding/v1/", "https://proxy/coding", "https://proxy/coding/v1"),
        ("https://proxy/coding", "https://proxy/coding", "https://proxy/coding/v1"),
        (" https://proxy ", "https://proxy", "https://proxy/v1"),
    ],
)
async def test_one_variable_moves_both_protocols(
    cli: CommandLine, variable: str | None, anthropic: str, openai: str
) -> None:
    environ = cli.environ | {"KIMI_API_KEY": "k"} | ({} if variable is None else {"KIMI_CODE_BASE_URL": variable})
    assert (await endpoint(environ)).base_url == anthropic
    assert (await endpoint(environ, protocol="openai-chat")).base_url == openai
    assert (await endpoint(environ, base_url="https://flag")).base_url == "https://flag"


@pytest.mark.parametrize("url", ["api.kimi.com", "http://api.kimi.com", "https://", "https://me:secret@host"])
async def test_a_base_url_that_takes_no_tokens_is_named(cli: CommandLine, url: str) -> None:
    with pytest.raises(ValueError, match="KIMI_CODE_BASE_URL"):
        await endpoint(cli.environ | {"KIMI_API_KEY": "k", "KIMI_CODE_BASE_URL": url})


@pytest.mark.parametrize(
    ("environ", "host"),
    [
        ({}, "https://auth.kimi.com"),
        ({"KIMI_CODE_OAUTH_HOST": "https://one/"}, "https://one"),
        ({"KIMI_OAUTH_HOST": "https://two"}, "https://two"),
        ({"KIMI_CODE_OAUTH_HOST": "https://one", "KIMI_OAUTH_HOST": "https://two"}, "https://one"),
        ({"KIMI_CODE_OAUTH_HOST": " ", "KIMI_OAUTH_HOST": "https://two"}, "https://two"),
    ],
    ids=str,
)
def test_one_variable_moves_both_login_endpoints(environ: dict[str, str], host: str) -> None:
    app = oauth_app(environ, KIMI)
    assert app is not None
    assert (app.device_url, app.token_url) == (f"{host}/api/oauth/device_authorization", f"{host}/api/oauth/token")


@pytest.mark.parametrize(
    ("url", "protocol", "preset", "spoken"),
    [
        ("https://api.anthropic.com", None, ANTHROPIC, "anthropic-messages"),
        ("https://api.openai.com/v1/", None, OPENAI, "openai-chat"),
        ("https://api.kimi.com/coding/v1", "openai-chat", KIMI, "openai-chat"),
    ],
)
async def test_a_url_of_a_preset_is_that_preset(
    cli: CommandLine, url: str, protocol: Any, preset: Provider, spoken: str
) -> None:
    found = await endpoint(cli.environ | {"RXAUTH_TOKEN": "t"}, None, base_url=url, protocol=protocol)
    assert (found.provider, found.protocol, found.base_url) == (preset, spoken, url)


async def test_another_url_needs_no_preset(cli: CommandLine) -> None:
    environ = cli.environ | {"RXAUTH_TOKEN": "t"}
    found = await endpoint(environ, None, base_url="https://x/v1", protocol="openai-chat", model="m")
    assert (found.protocol, found.base_url, found.model) == ("openai-chat", "https://x/v1", "m")
    assert (found.headers, found.provider.auth_header) == ({}, "authorization")


@pytest.mark.parametrize(
    ("variables", "files", "expected"),
    [
        pytest.param({"RXAUTH_TOKEN": "given", "KIMI_API_KEY": "key"}, [ours, pi_file], "given", id="RXAUTH_TOKEN"),
        pytest.param({"KIMI_API_KEY": "key"}, [ours, pi_file], "key", id="then the provider's variable"),
        pytest.param({}, [ours], "ours", id="then our file"),
        pytest.param({}, [pi_file], "of pi", id="pi's"),
        pytest.param({}, [kimi_code_file], "of kimi-code", id="kimi-code's"),
        pytest.param({}, [kimi_cli_file], "of kimi-cli", id="kimi-cli's"),
        pytest.param({"RXAUTH_TOKEN": " "}, [kimi_cli_file], "of kimi-cli", id="a blank variable is none"),
    ],
)
async def test_the_first_credential_that_exists_is_used(
    cli: CommandLine, variables: dict[str, str], files: list[Callable[[Path], Path]], expected: str
) -> None:
    for file in files:
        file(cli.home)
    assert await token(await endpoint(cli.environ | variables)) == expected


@pytest.mark.parametrize(
    ("variable", "file", "elsewhere"),
    [
        ("PI_CODING_AGENT_DIR", pi_file, ".pi/agent"),
        ("KIMI_CODE_HOME", kimi_code_file, ".kimi-code"),
        ("KIMI_SHARE_DIR", kimi_cli_file, ".kimi"),
    ],
)
async def test_other_programs_variables_move_their_files(
    cli: CommandLine, variable: str, file: Callable[..., Path], elsewhere: str
) -> None:
    file(cli.home / "moved", access="moved")
    assert await token(await endpoint(cli.environ | {variable: str(cli.home / "moved" / elsewhere)})) == "moved"


async def test_a_given_key_is_never_replaced_by_a_login(cli: CommandLine) -> None:
    ours(cli.home)
    found = await endpoint(cli.environ | {"KIMI_API_KEY": "key"})
    assert await found.credentials.refresh(RuntimeError("401")) is None
    assert found.logins is not None
    assert "KIMI_API_KEY" in found.logins.next_action()


async def test_a_login_without_refresh_token_is_used_as_it_is(cli: CommandLine) -> None:
    own_file(cli, kimi={"access_token": "ours", "refresh_token": ""})
    assert isinstance((await endpoint(cli.environ)).credentials, StaticCredentials)


async def test_a_broken_file_does_not_hide_the_next_programs(cli: CommandLine) -> None:
    write(cli.home / ".pi/agent/auth.json", BROKEN)
    with pytest.raises(StoreError, match=r"auth\.json"):
        await endpoint(cli.environ)
    kimi_cli_file(cli.home)
    assert await token(await endpoint(cli.environ)) == "of kimi-cli"
    assert sorted(bool(each.trouble) for each in await statuses(cli.environ)) == [False, True]


async def test_our_broken_file_is_reported_in_any_case(cli: CommandLine) -> None:
    write(cli.home / "rxauth/credentials.json", "{")
    pi_file(cli.home)
    with pytest.raises(StoreError, match=r"credentials\.json"):
        await endpoint(cli.environ)


async def test_an_api_key_in_pis_file_is_no_login(cli: CommandLine) -> None:
    write(cli.home / ".pi/agent/auth.json", {"kimi-coding": {"type": "api_key", "key": "k"}})
    with pytest.raises(LoginRequired, match="rxauth login kimi"):
        await endpoint(cli.environ)


async def test_other_programs_files_are_only_kimis(cli: CommandLine) -> None:
    pi_file(cli.home)
    with pytest.raises(LoginRequired, match="OPENAI_API_KEY"):
        await endpoint(cli.environ, "openai")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without an account")
async def test_a_user_without_a_home_directory_has_only_ours(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    real = os.getuid()
    os.setreuid(54321, -1)  # as in a container
    try:
        with pytest.raises(LoginRequired):
            await endpoint({"RXAUTH_HOME": str(cli.home)})
        with pytest.raises(StoreError, match="Set RXAUTH_HOME"):
            await endpoint({})
    finally:
        os.setreuid(real, -1)


def test_kimis_headers_say_who_we_are(cli: CommandLine) -> None:
    headers = identity(cli.environ, KIMI)
    names = ("Platform", "Version", "Device-Name", "Device-Model", "Os-Version", "Device-Id")
    assert set(headers) == {f"X-Msh-{each}" for each in names}
    assert (headers["X-Msh-Platform"], headers["X-Msh-Version"]) == ("rxauth", version)
    assert all(each and each.isascii() and each.isprintable() for each in headers.values())
    assert identity(cli.environ, KIMI) == headers


def test_other_providers_get_no_such_headers(cli: CommandLine) -> None:
    assert identity(cli.environ, ANTHROPIC) == identity(cli.environ, OPENAI) == {}
    assert not Path(cli.environ["RXAUTH_HOME"]).exists()


@pytest.mark.parametrize("kept", ["", "two\nlines", "\u00fc" * 8, "a b", "a" * 1000])
def test_a_device_id_that_no_header_takes_is_replaced(cli: CommandLine, kept: str) -> None:
    path = write(cli.home / "rxauth/device_id", kept)
    made = identity(cli.environ, KIMI)["X-Msh-Device-Id"]
    assert made.isascii()
    assert path.read_text().strip() == made


def test_a_home_that_cannot_be_written_gets_a_device_id(cli: CommandLine) -> None:
    write(cli.home / "rxauth", "a file in the place of the directory")
    assert identity(cli.environ, KIMI)["X-Msh-Device-Id"]


@pytest.mark.parametrize("program", ["ours", "pi", "kimi-code"])
def test_a_renewed_login_returns_to_its_file(cli: CommandLine, program: str) -> None:
    with FakeProvider(api_keys=[KEY], client_id=CLIENT_ID) as fake:
        credential = fake.credential()
        cli.at(fake)
        if program == "pi":
            file = pi_file(cli.home, credential.access_token, str(credential.refresh_token), mine="kept")
        elif program == "ours":
            file = own_file(cli, kimi=entry(credential, mine="kept"))
        else:  # a file of its own for each server
            store = KimiCodeStore(oauth_host=fake.url, base_url=fake.url + "/coding", environ=cli.environ)
            file = write(Path(store.describe()), entry(credential, mine="kept"))
        before = file.read_text()
        fake.invalidate()
        for _ in range(2):
            assert cli("stream", "hi", "--provider", "kimi").code == 0
        assert (len(fake.api_requests), len(fake.token_requests)) == (3, 1)
        accepted = str(fake.api_requests[-1].token)
        after = file.read_text()
    assert (accepted in before, accepted in after) == (False, True)
    assert '"mine": "kept"' in after.replace('":"', '": "')
    assert Path(cli.environ["RXAUTH_HOME"], "credentials.json").exists() == (program == "ours")
