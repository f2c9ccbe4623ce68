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


def test_each_credential_is_a_line_without_its_token(cli: CommandLine) -> None:
    url = "https://api.example.com/v1"
    login = {"access_token": "canary-4711", "refresh_token": "r"}
    soon = time.time() + 630
    own_file(cli, kimi=login | {"expires_at": soon * 1000}, **{url: login | {"expires_at": soon}}, old={**login,
             "refresh_token": None, "expires_at": time.time() - 100})  # fmt: skip
    done = cli("status", env={"RXAUTH_TOKEN": "canary-4711", "OPENAI_API_KEY": "k"})
    file = f'{cli.home}/rxauth/credentials.json ("{{}}")'.format
    lines = {
        "any": "of unknown lifetime; in $RXAUTH_TOKEN",
        url: f"valid for 10 min, renews itself; in {file(url)}",
        "kimi": f"valid for 10 min, renews itself; in {file('kimi')}",  # an expiry in milliseconds is one
        "old": f"expired 100 s ago: log in again; in {file('old')}",
        "openai": "of unknown lifetime; in $OPENAI_API_KEY",
    }
    width = len(url)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [f"{name:<{width}} {line}" for name, line in lines.items()]


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
