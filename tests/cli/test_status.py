"""`rxauth status`: each credential that a stream would use, and no token."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from rxauth import Credential, PiStore
from rxauth.cli.notes import has_ended, note_ended

from .running import CommandLine, write


def test_no_credentials_say_how_to_get_one(cli: CommandLine) -> None:
    done = cli("status")
    assert (done.code, "rxauth login kimi" in done.out) == (0, True)
    assert json.loads(cli("status --json").out) == {"credentials": []}


def test_each_credential_is_a_line_without_its_token(cli: CommandLine) -> None:
    url = "https://api.example.com/v1"
    login = {"access_token": "canary-4711", "refresh_token": "r"}
    soon = time.time() + 630
    logins = {
        "kimi": login | {"expires_at": soon * 1000},  # in milliseconds
        "kimi-global": login | {"token_url": "https://else.example/token"},
        "kimi-global@auth.kimi.ai": login | {"token_url": "https://auth.kimi.com/api/oauth/token"},
        url: login | {"expires_at": soon},
        "old": {"access_token": "canary-4711", "expires_at": time.time() - 100},
    }
    write(cli.file, logins)
    done = cli("RXAUTH_TOKEN=canary-4711 OPENAI_API_KEY=k status")
    lines = [
        ("any", "of unknown lifetime; in $RXAUTH_TOKEN"),
        (url, f'valid for 10 min, renews itself; in {cli.file} ("{url}")'),
        ("kimi", f'valid for 10 min, renews itself; in {cli.file} ("kimi")'),
        ("kimi", f'of unknown lifetime, renews itself; in {cli.file} ("kimi-global@auth.kimi.ai")'),
        ("kimi-global@else.example", f'of unknown lifetime, renews itself; in {cli.file} ("kimi-global")'),
        ("old", f'expired 100 s ago: log in again; in {cli.file} ("old")'),
        ("openai", "of unknown lifetime; in $OPENAI_API_KEY"),
    ]
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [f"{name:<{len(url)}} {line}" for name, line in lines]


@pytest.mark.parametrize("flags", ["", "--json"])
def test_a_broken_file_is_reported_once(cli: CommandLine, flags: str) -> None:
    write(cli.file, "{")
    asyncio.run(PiStore(environ=cli.environ).save(Credential("of pi")))
    done = cli(f"status {flags}")
    assert done.code == 2
    assert str(cli.file) in done.sentence
    if flags:
        assert [bool(each["trouble"]) for each in json.loads(done.out)["credentials"]].count(False) == 1
    else:
        assert done.out.count("\n") == 1


def test_the_oldest_of_many_notes_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RXAUTH_HOME", str(tmp_path))
    for number in range(201):
        note_ended(str(number))
    assert [has_ended(str(number)) for number in range(201)].count(False) == 1
