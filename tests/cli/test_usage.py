"""Arguments and files that cannot be used: one sentence, exit code 2."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import rxauth.cli

from .running import CommandLine, Outcome

KIMI = "stream hi --provider kimi"
FAKE = "stream hi --provider fake"
URL = "stream hi --base-url"


@pytest.mark.parametrize(
    ("line", "code", "part"),
    [
        pytest.param("stream '' --provider fake", 2, "prompt is empty", id="an empty prompt"),
        pytest.param("stream - --provider fake", 2, "prompt is empty", id="an empty standard input"),
        pytest.param("stream \udcff --provider fake", 2, "UTF-8", id="a prompt that is no text"),
        pytest.param("stream hi you --provider fake", 2, "quotes", id="a prompt without quotes"),
        pytest.param("stream hi", 2, "--provider anthropic|fake|kimi|", id="no provider"),
        pytest.param("stream hi --provider nope", 2, "anthropic, fake, kimi, ", id="an unknown provider"),
        pytest.param(f"{URL} nope", 2, "--base-url is not an http(s) URL", id="no URL"),
        pytest.param(f"{URL} http://example.org", 2, "https", id="a token without TLS"),
        pytest.param(f"{URL} http://127.0.0.1:1", 1, "Check the address", id="no server"),
        *[pytest.param(f"KIMI_API_KEY=k {each}=https://me:secret@host {KIMI}", 2, each, id=f"{each} with a password")
          for each in ("KIMI_CODE_BASE_URL", "KIMI_CODE_OAUTH_HOST", "KIMI_OAUTH_HOST")],
        pytest.param(f"{FAKE} --base-url http://127.0.0.1:1", 2, "leave out", id="an address for the embedded one"),
        pytest.param("stream hi --provider anthropic --protocol openai-chat", 2, "speaks anthropic-messages",
                     id="a protocol that the provider does not speak"),
        pytest.param(f"{FAKE} --max-tokens 0", 2, "whole number", id="no tokens"),
        pytest.param(f"{FAKE} --header x", 2, "Name: value", id="no header"),
        pytest.param(f"{FAKE} --header 'x: ü'", 2, "ASCII", id="no header in ASCII"),
        pytest.param(f"{KIMI} --account a/b", 2, "not a name", id="no account"),
        pytest.param(f"{KIMI} --credentials {'c' * 300}", 2, "too long", id="no file name"),
        pytest.param(f"{KIMI} --credentials c", 2, "no credential file c. Check", id="a file that does not exist"),
        pytest.param(f"{KIMI} --account work", 3, "`rxauth login kimi --account work`", id="an account without login"),
        pytest.param("RXAUTH_TOKEN=ü token", 2, "RXAUTH_TOKEN does not hold a token", id="no token"),
        pytest.param("login fake", 2, "choose anthropic, kimi, ", id="a login at fake"),
        pytest.param("login anthropic", 2, "ANTHROPIC_API_KEY", id="a login where there are only keys"),
        pytest.param("login https://a.example", 2, "Set RXAUTH_TOKEN", id="a login at a base URL"),
        pytest.param("login anthropic --region global", 2, "login kimi --region", id="a region of another provider"),
        pytest.param("logout kimmi", 2, "choose anthropic, kimi, ", id="a logout from nowhere"),
        *[pytest.param(f"token --min-ttl='{each}'", 2, "90s, 10m or 1h", id=f"no time: {each!r}")
          for each in ("x", "-1", "1w", "inf", "")],
        *[pytest.param(f"RXAUTH_HOME=~no-such-user/rxauth {each}", 2, "Set RXAUTH_HOME", id=f"{each} without a home")
          for each in ("status", "login", "logout")],
        pytest.param("", 2, "COMMAND", id="no command"),
        pytest.param("nope", 2, "nope", id="an unknown command"),
    ],
)  # fmt: skip
def test_bad_arguments_get_one_sentence(cli: CommandLine, line: str, code: int, part: str) -> None:
    done = cli(line, env={"RXAUTH_TOKEN": "a-token-of-sorts"})
    assert done.code == code
    assert part in done.sentence
    assert "secret" not in done.sentence


def test_the_version_is_printed(cli: CommandLine) -> None:
    assert cli("--version") == Outcome(0, f"rxauth {rxauth.__version__}\n", "")


def test_the_command_line_imports_public_names_only() -> None:
    private = re.compile(r"^\s*(from rxauth\S*\._|from rxauth\S* import _(?!_)|import rxauth\S*\._)", re.MULTILINE)
    files = Path(rxauth.cli.__file__).parent.glob("*.py")
    assert {each.name: found for each in files if (found := private.findall(each.read_text()))} == {}
