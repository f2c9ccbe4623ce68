"""`rxauth status`: each credential that a stream would use, and no token."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from rxauth.cli.home import Notes

from .running import CommandLine, own_file, pi_file, write


def test_no_credentials_say_how_to_get_one(cli: CommandLine) -> None:
    done = cli("status")
    assert (done.code, "rxauth login kimi" in done.out) == (0, True)
    assert json.loads(cli("status", "--json").out) == {"credentials": []}


def test_each_credential_is_a_line_without_its_token(cli: CommandLine) -> None:
    url = "https://api.example.com/v1"
    login = {"access_token": "canary-4711", "refresh_token": "r"}
    soon = time.time() + 630
    logins = {
        "kimi": login | {"expires_at": soon * 1000},  # in milliseconds
        "kimi-global": login | {"token_url": "https://else.example/token"},
        url: login | {"expires_at": soon},
        "old": {"access_token": "canary-4711", "expires_at": time.time() - 100},
    }
    own_file(cli, **logins)
    done = cli("status", env={"RXAUTH_TOKEN": "canary-4711", "OPENAI_API_KEY": "k"})
    lines = {
        "any": "of unknown lifetime; in $RXAUTH_TOKEN",
        url: f'valid for 10 min, renews itself; in {{file}} ("{url}")',
        "kimi": 'valid for 10 min, renews itself; in {file} ("kimi")',
        "kimi-global@else.example": 'of unknown lifetime, renews itself; in {file} ("kimi-global")',
        "old": 'expired 100 s ago: log in again; in {file} ("old")',
        "openai": "of unknown lifetime; in $OPENAI_API_KEY",
    }
    file = cli.home / "rxauth/credentials.json"
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [f"{name:<{len(url)}} {line.format(file=file)}" for name, line in lines.items()]


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


def test_the_oldest_of_many_notes_is_removed(tmp_path: Path) -> None:
    for number in range(201):
        Notes(tmp_path).add_ended(str(number))
    assert [Notes(tmp_path).has_ended(str(number)) for number in range(201)].count(False) == 1
