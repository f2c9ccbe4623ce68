"""`rxauth status`: each credential that a stream would use, and no token."""

from __future__ import annotations

import json
import time

import pytest

from .running import CommandLine, own_file, pi_file, write


def test_no_credentials_say_how_to_get_one(cli: CommandLine) -> None:
    done = cli("status")
    assert (done.code, "rxauth login kimi" in done.out) == (0, True)
    assert json.loads(cli("status", "--json").out) == {"credentials": []}


def test_the_token_that_comes_first_is_listed_first(cli: CommandLine) -> None:
    own_file(cli, kimi={"access_token": "a"})
    done = cli("status", env={"RXAUTH_TOKEN": "canary-token-4711", "OPENAI_API_KEY": "k"})
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()] == ["any", "kimi", "openai"]
    assert "$RXAUTH_TOKEN" in done.out.splitlines()[0]
    assert "4711" not in done.out


def test_a_login_for_a_base_url_is_listed(cli: CommandLine) -> None:
    url = "https://api.example.com/v1"
    own_file(cli, **{url: {"access_token": "a", "refresh_token": "r", "expires_at": time.time() + 630}})
    assert cli("status").out.startswith(f"{url} valid for 10 min, renews itself; in ")


def test_an_expiry_in_milliseconds_is_one(cli: CommandLine) -> None:
    own_file(cli, kimi={"access_token": "a", "expires_at": (time.time() + 630) * 1000})
    assert "valid for 10 min" in cli("status").out


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["text", "json"])
def test_a_broken_file_is_reported_once(cli: CommandLine, flags: list[str]) -> None:
    file = write(cli.home / "rxauth/credentials.json", "{")
    pi_file(cli.home)
    done = cli("status", *flags)
    assert done.code == 2
    assert str(file) in done.sentence
    if flags:
        assert [bool(each["trouble"]) for each in json.loads(done.out)["credentials"]].count(False) == 1
    else:
        assert done.out.count("\n") == 1
