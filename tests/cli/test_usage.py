"""Arguments and files that cannot be used: one sentence, exit code 2."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import rxauth.cli

from .running import CommandLine, write

EMPTY = "prompt is empty"
STREAM = ["stream", "hi"]


@pytest.mark.parametrize(
    ("args", "code", "part"),
    [
        pytest.param(["stream", "", "--provider", "fake"], 2, EMPTY, id="an empty prompt"),
        pytest.param(["stream", "-", "--provider", "fake"], 2, EMPTY, id="an empty standard input"),
        pytest.param(["stream", "\udcff", "--provider", "fake"], 2, "UTF-8", id="a prompt that is no text"),
        pytest.param([*STREAM, "you", "--provider", "fake"], 2, "quotes", id="a prompt without quotes"),
        pytest.param(STREAM, 2, "--provider anthropic|fake|kimi|", id="no provider"),
        pytest.param([*STREAM, "--provider", "nope"], 2, "anthropic, fake, kimi, ", id="an unknown provider"),
        pytest.param([*STREAM, "--base-url", "nope"], 2, "--base-url is not an http(s) URL", id="no URL"),
        pytest.param([*STREAM, "--base-url", "http://[::1"], 2, "--base-url is not", id="half an address"),
        pytest.param([*STREAM, "--base-url", "http://example.org"], 2, "https", id="a token without TLS"),
        pytest.param([*STREAM, "--base-url", "http://127.0.0.1:1"], 1, "Check the address", id="no server"),
        pytest.param([*STREAM, "--provider", "fake", "--base-url", "http://127.0.0.1:1"], 2, "leave out",
                     id="an address for the embedded provider"),
        pytest.param([*STREAM, "--provider", "anthropic", "--protocol", "openai-chat"], 2, "speaks anthropic-messages",
                     id="a protocol that the provider does not speak"),
        pytest.param([*STREAM, "--provider", "fake", "--max-tokens", "0"], 2, "whole number", id="no tokens"),
        pytest.param([*STREAM, "--provider", "fake", "--header", "x"], 2, "Name: value", id="no header"),
        pytest.param([*STREAM, "--provider", "fake", "--header", "x: ü"], 2, "ASCII", id="no header in ASCII"),
        pytest.param([*STREAM, "--provider", "kimi", "--account", "a/b"], 2, "not a name", id="no account"),
        pytest.param([*STREAM, "--provider", "kimi", "--credentials", "c" * 300], 2, "too long", id="no file name"),
        pytest.param([*STREAM, "--provider", "kimi", "--credentials", "c"], 2, "no credential file c. Check",
                     id="a file that does not exist"),
        pytest.param([*STREAM, "--provider", "kimi", "--account", "work"], 3, "`rxauth login kimi --account work`",
                     id="an account without a login"),
        pytest.param(["login", "fake"], 2, "choose anthropic, kimi, ", id="a login at fake"),
        pytest.param(["login", "anthropic"], 2, "ANTHROPIC_API_KEY", id="a login where there are only keys"),
        pytest.param(["login", "https://a.example"], 2, "Set RXAUTH_TOKEN", id="a login at a base URL"),
        pytest.param(["logout", "kimmi"], 2, "choose anthropic, kimi, ", id="a logout from nowhere"),
        *[pytest.param(["token", f"--min-ttl={each}"], 2, "90s, 10m or 1h", id=f"no time: {each!r}")
          for each in ("x", "-1", "1w", "inf", "")],
        pytest.param([], 2, "COMMAND", id="no command"),
        pytest.param(["nope"], 2, "nope", id="an unknown command"),
    ],
)  # fmt: skip
def test_bad_arguments_get_one_sentence(cli: CommandLine, args: list[str], code: int, part: str) -> None:
    done = cli(*args, env={"RXAUTH_TOKEN": "a-token-of-sorts"})
    assert done.code == code
    assert part in done.sentence


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kimi": 1}', "\xff", '{"kimi": {"access_token": 5}}'])
def test_a_broken_credential_file_stays_as_it_is(cli: CommandLine, tmp_path: Path, content: str) -> None:
    file = write(tmp_path / "credentials.json", "")
    file.write_bytes(content.encode("latin-1"))
    done = cli(*STREAM, "--provider", "kimi", "--credentials", str(file))
    assert (done.code, file.read_bytes()) == (2, content.encode("latin-1"))
    assert str(file) in done.sentence


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_a_credential_file_of_another_user_is_refused(cli: CommandLine, tmp_path: Path) -> None:
    file = write(tmp_path / "credentials.json", {"kimi": {"access_token": "theirs"}})
    os.chown(file, 12345, 12345)
    done = cli(*STREAM, "--provider", "kimi", "--credentials", str(file))
    assert done.code == 2
    assert "theirs" not in done.sentence


@pytest.mark.parametrize("command", ["status", "status --json", "login", "logout"])
def test_a_home_of_an_unknown_user_is_one_sentence(cli: CommandLine, command: str) -> None:
    done = cli(*command.split(), env={"RXAUTH_HOME": "~no-such-user/rxauth"})
    assert done.code == 2
    assert "Set RXAUTH_HOME" in done.sentence


def test_the_command_line_imports_public_names_only() -> None:
    private = re.compile(r"^\s*(from rxauth\S*\._|from rxauth\S* import _(?!_)|import rxauth\S*\._)", re.MULTILINE)
    files = Path(rxauth.cli.__file__).parent.glob("*.py")
    assert {each.name: found for each in files if (found := private.findall(each.read_text()))} == {}
