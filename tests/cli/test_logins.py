"""Which server a command asks, and with which credential."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from argparse import Namespace
from typing import Any

import pytest

from rxauth import CredentialStore, FileStore, KimiCodeStore, PiStore
from rxauth import __version__ as version
from rxauth.cli.stream import provider_of
from rxauth.providers import ANTHROPIC, KIMI, OPENAI, Provider
from rxauth.testing import FakeProvider

from .running import KEY, CommandLine, write

CODING = "https://api.kimi.com/coding"
CHAT = "openai-chat"


@pytest.mark.parametrize(
    ("variable", "bare"),
    [
        ("", CODING),
        ("https://proxy/coding/v1", "https://proxy/coding"),
        ("https://proxy/coding/v1/", "https://proxy/coding"),
        (" https://proxy ", "https://proxy"),
    ],
)
def test_one_variable_moves_both_protocols(monkeypatch: pytest.MonkeyPatch, variable: str, bare: str) -> None:
    monkeypatch.setenv("KIMI_CODE_BASE_URL", variable)
    for protocol, url in (("anthropic-messages", bare), (CHAT, f"{bare}/v1")):
        provider = provider_of(Namespace(provider="kimi", base_url=None, protocol=protocol))
        assert (provider.name, provider.base_urls) == ("kimi", {protocol: url})


@pytest.mark.parametrize(
    ("url", "protocol", "known", "spoken"),
    [
        ("https://api.anthropic.com", None, ANTHROPIC, "anthropic-messages"),
        ("https://api.openai.com/v1/", None, OPENAI, CHAT),
        (f"{CODING}/v1", CHAT, KIMI, CHAT),
        ("https://x/v1", CHAT, None, CHAT),
        ("https://x", None, None, "anthropic-messages"),
    ],
)
def test_a_url_of_a_known_provider_names_it(url: str, protocol: Any, known: Provider | None, spoken: str) -> None:
    provider = provider_of(Namespace(provider=None, base_url=url, protocol=protocol))
    assert (provider.name, provider.base_urls) == (known.name if known else url, {spoken: url})
    assert provider.auth_header == (known or KIMI).auth_header


LOGIN = {"access_token": "ours", "refresh_token": "r"}
ELSEWHERE = {**LOGIN, "token_url": "https://else.example/token"}
PI = {"type": "oauth", "access": "of pi", "refresh": "r", "expires": 4e12}
KIMI_CODE = {"access_token": "of kimi-code", "refresh_token": "r", "expires_at": 4e9}
FILES = {
    "ours": "rxauth/credentials.json",
    "pi": ".pi/agent/auth.json",
    "kimi-code": ".kimi-code/credentials/kimi-code.json",
    "kimi-cli": ".kimi/credentials/kimi-code.json",
    "moved pi": "moved/auth.json",
    "moved kimi": "moved/credentials/kimi-code.json",
}


@pytest.mark.parametrize(
    ("line", "files", "code", "shown"),
    [
        pytest.param("RXAUTH_TOKEN=one KIMI_API_KEY=k token", {"ours": {"kimi": LOGIN}}, 0, "one", id="RXAUTH_TOKEN"),
        pytest.param("KIMI_API_KEY=key token", {"ours": {"kimi": LOGIN}}, 0, "key", id="then the provider's variable"),
        pytest.param("RXAUTH_TOKEN=' ' token", {"ours": {"kimi": LOGIN}}, 0, "ours", id="a blank variable is none"),
        pytest.param("token", {"pi": {"kimi-coding": PI}}, 0, "of pi", id="pi's"),
        pytest.param("token", {"kimi-code": KIMI_CODE}, 0, "of kimi-code", id="kimi-code's"),
        pytest.param("token", {"pi": {"kimi-coding": {**PI, "access": 5}}, "kimi-cli": KIMI_CODE}, 0, "of kimi-code",
                     id="kimi-cli's, behind a broken file"),
        pytest.param("PI_CODING_AGENT_DIR=@ token", {"moved pi": {"kimi-coding": PI}}, 0, "of pi", id="pi's moved"),
        pytest.param("KIMI_CODE_HOME=@ token", {"moved kimi": KIMI_CODE}, 0, "of kimi-code", id="kimi-code's moved"),
        pytest.param("KIMI_SHARE_DIR=@ token", {"moved kimi": KIMI_CODE}, 0, "of kimi-code", id="kimi-cli's moved"),
        pytest.param("token", {}, 3, "Run `rxauth login kimi`, or set KIMI_API_KEY.", id="no login"),
        pytest.param("token", {"ours": {"kimi": ELSEWHERE}}, 3, "belongs to else.example", id="one of another host"),
        pytest.param("token", {"ours": "{", "pi": {"kimi-coding": PI}}, 2, "credentials.json", id="ours, broken"),
        pytest.param("token", {"pi": {"kimi-coding": {**PI, "access": 5}}}, 2, "auth.json", id="pi's, broken"),
        pytest.param("token", {"pi": {"kimi-coding": {"type": "api_key", "key": "k"}}}, 3, "rxauth login kimi",
                     id="an API key in pi's file is no login"),
        pytest.param("token openai", {"pi": {"kimi-coding": PI}}, 3, "OPENAI_API_KEY", id="pi's is only Kimi's"),
        pytest.param("token --credentials @/auth.json", {"moved pi": {"openai": LOGIN}}, 3, "under the key 'kimi'.",
                     id="a file without that login"),
        pytest.param("token --rejected", {"ours": {"kimi": {"access_token": "a"}}}, 3,
                     "cannot be renewed. Run `rxauth login kimi`.", id="a login without a refresh token"),
    ],
)  # fmt: skip
def test_the_first_credential_that_exists_is_used(
    cli: CommandLine, line: str, files: dict[str, Any], code: int, shown: str
) -> None:
    for name, content in files.items():
        write(cli.home / FILES[name], content)
    done = cli(line.replace("@", shlex.quote(str(cli.home / "moved"))))
    assert (done.code, done.out) == (code, "" if code else f"{shown}\n")
    assert code == 0 or shown in done.sentence


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
def test_kimis_headers_say_who_we_are(cli: CommandLine, fake: FakeProvider, kept: str | None) -> None:
    """They are text that a header takes, whatever the file of the device id holds; `None`: it cannot be written."""
    write(cli.home / "rxauth", "") if kept is None else write(cli.home / "rxauth/device_id", kept)
    for _ in range(2):
        assert cli.at(fake)(f"KIMI_API_KEY={KEY} stream hi --provider kimi").code == 0
    first, second = ({k: v for k, v in each.headers.items() if k.startswith("x-msh")} for each in fake.requests)
    names = ("platform", "version", "device-name", "device-model", "os-version", "device-id")
    assert set(first) == {f"x-msh-{each}" for each in names}
    assert (first["x-msh-platform"], first["x-msh-version"]) == ("rxauth", version)
    assert all(each and each.isascii() and each.isprintable() for each in first.values())
    assert re.fullmatch("[0-9a-f]{32}", first["x-msh-device-id"])
    assert (first == second) == (kept is not None)


@pytest.mark.parametrize(
    ("program", "protocol", "path"),
    [
        ("ours", "anthropic-messages", "/coding/v1/messages"),
        ("pi", CHAT, "/coding/v1/chat/completions"),
        ("kimi-code", "anthropic-messages", "/coding/v1/messages"),
    ],
)
def test_a_renewed_login_returns_to_its_file(
    cli: CommandLine, fake: FakeProvider, program: str, protocol: str, path: str
) -> None:
    credential = fake.credential()
    cli.at(fake)
    stores: dict[str, CredentialStore] = {
        "ours": FileStore(cli.file, "kimi"),
        "pi": PiStore(environ=cli.environ),
        "kimi-code": KimiCodeStore(oauth_host=fake.url, base_url=fake.url + "/coding", environ=cli.environ),
    }
    asyncio.run(stores[program].save(credential))
    fake.invalidate()
    for _ in range(2):
        done = cli(f"stream hi --provider kimi --protocol {protocol}")
        assert (done.code, done.out, done.err) == (0, "Hello from the other side.\n", "")
    assert (len(fake.api_requests), len(fake.token_requests)) == (3, 1)
    renewed = asyncio.run(stores[program].load())
    assert renewed is not None
    assert credential.access_token != renewed.access_token == fake.api_requests[-1].token
    assert cli.file.exists() == (program == "ours")
    assert {each.headers["X-Msh-Platform"] for each in fake.requests} == {"rxauth"}
    assert len({each.headers["X-Msh-Device-Id"] for each in fake.requests}) == 1
    assert {each.path for each in fake.api_requests} == {path}
