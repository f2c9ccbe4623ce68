"""Which server a command asks, and with which credential."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rxauth import KimiCodeStore
from rxauth import __version__ as version
from rxauth.cli.logins import Logins, oauth_app
from rxauth.cli.stream import base_url_of, preset_of
from rxauth.providers import ANTHROPIC, KIMI, OPENAI, Provider
from rxauth.testing import FakeProvider

from .running import CommandLine, entry, kimi_cli_file, kimi_code_file, own_file, pi_file, write

CODING = "https://api.kimi.com/coding"
File = Callable[[Path], object]


@pytest.mark.parametrize(
    ("variable", "bare"),
    [
        (None, CODING),
        ("", CODING),
        ("https://proxy/coding/v1", "https://proxy/coding"),
        ("https://proxy/coding/v1/", "https://proxy/coding"),
        ("https://proxy/coding", "https://proxy/coding"),
        (" https://proxy ", "https://proxy"),
    ],
)
def test_one_variable_moves_both_protocols(variable: str | None, bare: str) -> None:
    environ = {} if variable is None else {"KIMI_CODE_BASE_URL": variable}
    assert base_url_of(KIMI, "anthropic-messages", environ) == bare
    assert base_url_of(KIMI, "openai-chat", environ) == f"{bare}/v1"


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


@pytest.mark.parametrize("url", ["api.kimi.com", "http://api.kimi.com", "https://", "https://me:secret@host"])
@pytest.mark.parametrize("variable", ["KIMI_CODE_BASE_URL", "KIMI_CODE_OAUTH_HOST", "KIMI_OAUTH_HOST"])
def test_an_address_that_takes_no_tokens_is_named(cli: CommandLine, variable: str, url: str) -> None:
    done = cli("stream", "hi", "--provider", "kimi", env={"KIMI_API_KEY": "k", variable: url})
    assert done.code == 2
    assert variable in done.sentence
    assert "secret" not in done.sentence


@pytest.mark.parametrize(
    ("url", "protocol", "preset", "spoken"),
    [
        ("https://api.anthropic.com", None, ANTHROPIC, "anthropic-messages"),
        ("https://api.openai.com/v1/", None, OPENAI, "openai-chat"),
        (f"{CODING}/v1", "openai-chat", KIMI, "openai-chat"),
        ("https://x/v1", "openai-chat", None, "openai-chat"),
    ],
)
def test_a_url_of_a_preset_is_that_preset(url: str, protocol: Any, preset: Provider | None, spoken: str) -> None:
    other = Provider(name=url, base_urls={"openai-chat": url}, model=KIMI.model)
    assert preset_of(None, url, protocol) == (preset or other, spoken)


def ours(home: Path) -> None:
    own_file(CommandLine(home), kimi={"access_token": "ours", "refresh_token": "r"})


def our_broken(home: Path) -> None:
    write(home / "rxauth/credentials.json", "{")


def pis_broken(home: Path) -> None:
    write(home / ".pi/agent/auth.json", '{"kimi-coding": {"type": "oauth", "access": 5}}')


def pis_api_key(home: Path) -> None:
    write(home / ".pi/agent/auth.json", {"kimi-coding": {"type": "api_key", "key": "k"}})


def moved(file: Callable[..., Path]) -> File:
    return lambda home: file(home / "moved", access="moved")


@pytest.mark.parametrize(
    ("variables", "files", "used"),
    [
        pytest.param({"RXAUTH_TOKEN": "one", "KIMI_API_KEY": "k"}, [ours, pi_file], "one", id="RXAUTH_TOKEN"),
        pytest.param({"KIMI_API_KEY": "key"}, [ours, pi_file], "key", id="then the provider's variable"),
        pytest.param({"RXAUTH_TOKEN": " "}, [ours], "ours", id="a blank variable is none"),
        pytest.param({}, [pi_file], "of pi", id="pi's"),
        pytest.param({}, [kimi_code_file], "of kimi-code", id="kimi-code's"),
        pytest.param({}, [kimi_cli_file], "of kimi-cli", id="kimi-cli's"),
        pytest.param({}, [pis_broken, kimi_cli_file], "of kimi-cli", id="a broken file does not hide the next"),
        pytest.param({"PI_CODING_AGENT_DIR": ".pi/agent"}, [moved(pi_file)], "moved", id="pi's in another place"),
        pytest.param({"KIMI_CODE_HOME": ".kimi-code"}, [moved(kimi_code_file)], "moved", id="kimi-code's too"),
        pytest.param({"KIMI_SHARE_DIR": ".kimi"}, [moved(kimi_cli_file)], "moved", id="kimi-cli's too"),
    ],
)  # fmt: skip
def test_the_first_credential_that_exists_is_used(
    cli: CommandLine, variables: dict[str, str], files: list[File], used: str
) -> None:
    for file in files:
        file(cli.home)
    env = {name: str(cli.home / "moved" / value) if value[0] == "." else value for name, value in variables.items()}
    done = cli("token", env=env)
    assert (done.code, done.out) == (0, f"{used}\n")


@pytest.mark.parametrize(
    ("args", "files", "code", "part"),
    [
        pytest.param("token", [], 3, "Run `rxauth login kimi`, or set KIMI_API_KEY.", id="no login"),
        pytest.param("token", [our_broken, pi_file], 2, "credentials.json", id="a broken file of ours"),
        pytest.param("token", [pis_broken], 2, "auth.json", id="a broken file of pi"),
        pytest.param("token", [pis_api_key], 3, "rxauth login kimi", id="an API key in pi's file is no login"),
        pytest.param("token openai", [pi_file], 3, "OPENAI_API_KEY", id="other programs' files are only Kimi's"),
        pytest.param("token --rejected", [lambda home: own_file(CommandLine(home), kimi={"access_token": "a"})], 3,
                     "cannot be renewed. Run `rxauth login kimi`.", id="a login without a refresh token"),
    ],
)  # fmt: skip
def test_a_credential_that_cannot_be_used_is_named(
    cli: CommandLine, args: str, files: list[File], code: int, part: str
) -> None:
    for file in files:
        file(cli.home)
    done = cli(*args.split())
    assert (done.code, done.out) == (code, "")
    assert part in done.sentence


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without an account")
def test_a_user_without_a_home_directory_has_only_ours(cli: CommandLine) -> None:
    del cli.environ["HOME"]
    real = os.getuid()
    os.setreuid(54321, -1)  # as in a container
    try:
        assert cli("token").code == 3
        del cli.environ["RXAUTH_HOME"]
        done = cli("token")
    finally:
        os.setreuid(real, -1)
    assert (done.code, "Set RXAUTH_HOME" in done.sentence) == (2, True)


@pytest.mark.parametrize("kept", ["", "two\nlines", "\u00fc" * 8, "a b", "a" * 1000, None])
def test_kimis_headers_say_who_we_are(cli: CommandLine, kept: str | None) -> None:
    """They are text that a header takes, whatever the file of the device id holds; `None`: it cannot be written."""
    write(cli.home / "rxauth", "") if kept is None else write(cli.home / "rxauth/device_id", kept)
    headers = Logins(cli.environ, KIMI).headers()
    names = ("Platform", "Version", "Device-Name", "Device-Model", "Os-Version", "Device-Id")
    assert set(headers) == {f"X-Msh-{each}" for each in names}
    assert (headers["X-Msh-Platform"], headers["X-Msh-Version"]) == ("rxauth", version)
    assert all(each and each.isascii() and each.isprintable() for each in headers.values())
    assert (Logins(cli.environ, KIMI).headers() == headers) == (kept is not None)


@pytest.mark.parametrize("preset", [ANTHROPIC, OPENAI])
def test_other_providers_get_no_such_headers(cli: CommandLine, preset: Provider) -> None:
    assert Logins(cli.environ, preset).headers() == {}
    assert not Path(cli.environ["RXAUTH_HOME"]).exists()


@pytest.mark.parametrize("protocol", ["anthropic-messages", "openai-chat"])
@pytest.mark.parametrize("program", ["ours", "pi", "kimi-code"])
def test_a_renewed_login_returns_to_its_file(cli: CommandLine, fake: FakeProvider, program: str, protocol: str) -> None:
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
        done = cli("stream", "hi", "--provider", "kimi", "--protocol", protocol)
        assert (done.code, done.out, done.err) == (0, "Hello from the other side.\n", "")
    assert (len(fake.api_requests), len(fake.token_requests)) == (3, 1)
    accepted = str(fake.api_requests[-1].token)
    after = file.read_text()
    assert (accepted in before, accepted in after) == (False, True)
    assert '"mine": "kept"' in after.replace('":"', '": "')
    assert Path(cli.environ["RXAUTH_HOME"], "credentials.json").exists() == (program == "ours")
    assert {each.headers["X-Msh-Platform"] for each in fake.requests} == {"rxauth"}
    assert len({each.headers["X-Msh-Device-Id"] for each in fake.requests}) == 1
    path = "/coding/v1/messages" if protocol == "anthropic-messages" else "/coding/v1/chat/completions"
    assert {each.path for each in fake.api_requests} == {path}
