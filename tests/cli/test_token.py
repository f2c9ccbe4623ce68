"""`rxauth token`: one access token on standard output, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from rxauth.testing import FakeProvider, Gate, Reply

from ..peers_needed import program
from .running import CLIENT_ID, CommandLine, entry, login_at, write

README = Path(__file__).parents[2] / "README.md"


def stored(cli: CommandLine, fake: FakeProvider, left: float = 900, lifetime: float = 900) -> str:
    """Store a login whose token is valid for `left` seconds of its lifetime; return its token."""
    credential = fake.credential()
    write(cli.at(fake).file, {"kimi": entry(credential, expires_at=time.time() + left, expires_in=lifetime)})
    return credential.access_token


@pytest.mark.parametrize(
    ("left", "lifetime", "line", "renewed"),
    [
        pytest.param(-1,  900, "token",                   True,  id="expired"),
        pytest.param(119, 900, "token",                   True,  id="less than two minutes"),
        pytest.param(121, 900, "token",                   False, id="more than two minutes"),
        pytest.param(40,  60,  "token",                   False, id="more than half of a short life"),
        pytest.param(500, 900, "token --min-ttl 10m",     True,  id="less than was asked for"),
        pytest.param(500, 900, "token --min-ttl 90s",     False, id="more than was asked for"),
        pytest.param(850, 900, "token kimi --min-ttl 1h", False, id="just renewed, but more was asked for"),
        pytest.param(895, 900, "token --rejected",        False, id="rejected, but too new for that"),
        pytest.param(885, 900, "token --rejected",        True,  id="rejected, by a caller that is not known"),
        pytest.param(300, 0,   "token --rejected",        True,  id="rejected, of unknown age"),
    ],
)  # fmt: skip
def test_a_token_is_renewed_only_if_it_must_be(
    cli: CommandLine, fake: FakeProvider, left: float, lifetime: float, line: str, renewed: bool
) -> None:
    token = stored(cli, fake, left, lifetime)
    done = cli(line)
    printed = done.out.removesuffix("\n")
    assert (done.code, done.err, printed != token) == (0, "", renewed)
    assert len(fake.requests) == renewed
    assert fake.accepts(printed)
    as_json = json.loads(cli("token --json").out)
    assert (as_json["access_token"], as_json["token_type"]) == (printed, "Bearer")
    assert as_json["expires_at"] - time.time() == pytest.approx(as_json["expires_in"], abs=10)


def test_a_rejected_token_is_renewed_each_time(cli: CommandLine, fake: FakeProvider) -> None:
    stored(cli, fake)
    tokens = []
    for line in ("token", "token --rejected", "token --rejected"):
        tokens.append(cli(line).out.strip())
        assert fake.accepts(tokens[-1])
        fake.invalidate()
    assert (len(set(tokens)), len(fake.token_requests)) == (3, 2)
    newer = stored(cli, fake)  # another program has renewed the login
    assert cli("token --rejected").out.strip() == newer
    assert len(fake.token_requests) == 2


def test_calls_that_start_together_mean_the_same_token(cli: CommandLine, fake: FakeProvider) -> None:
    stored(cli, fake)
    for line in ("token", "token --rejected"):
        with cli.process(*line.split()) as process:
            first = process.outcome().out
    assert len(fake.token_requests) == 1  # the second began after the first token was printed
    late = [cli(line, from_process=line.endswith("d")).out for line in ("token", "token --rejected")]
    assert late == [first, first]
    assert len(fake.token_requests) == 1  # the last one began before


@pytest.mark.parametrize(
    "flags", [[], pytest.param(["--rejected"], marks=pytest.mark.slow)], ids=["an expired token", "a rejected token"]
)
def test_concurrent_calls_make_one_token_request(cli: CommandLine, fake: FakeProvider, flags: list[str]) -> None:
    stored(cli, fake, left=300 if flags else -1)
    with ExitStack() as stack:
        calls = [stack.enter_context(cli.process("token", "kimi", *flags)) for _ in range(2)]
        done = [call.outcome() for call in calls]
    assert [(each.code, each.err) for each in done] == [(0, "")] * 2
    assert (len({each.out for each in done}), len(fake.token_requests)) == (1, 1)


@pytest.mark.parametrize(
    ("reply", "left", "code", "part"),
    [
        pytest.param(Reply(status=400, error="invalid_grant"), -1, 3, "Run `rxauth login kimi`.", id="a dead login"),
        pytest.param(Reply(status=400, error="invalid_client"), -1, 1, "client_id", id="an unknown client"),
        pytest.param(Reply(status=400, error="invalid_client"), 60, 0, "still valid for", id="a token that is good"),
    ],
)
def test_a_failed_renewal_is_one_sentence_without_a_token(
    cli: CommandLine, reply: Reply, left: float, code: int, part: str
) -> None:
    with FakeProvider(client_id=CLIENT_ID, token_replies=[reply]) as fake:
        token = stored(cli, fake, left)
        done = cli("token")
        assert (done.code, done.out) == (code, "" if code else f"{token}\n")
        assert part in done.sentence
        assert token not in done.err
        assert fake.token_requests[0].form()["refresh_token"][0] not in done.err
        assert ("the login has ended: log in again" in cli("status").out) == (code == 3)


def test_a_refused_key_of_the_environment_is_named(cli: CommandLine) -> None:
    assert cli("OPENAI_API_KEY=k token openai").out == "k\n"
    refused = cli("OPENAI_API_KEY=canary-4711 token openai --rejected")
    assert (refused.code, "4711" in refused.sentence) == (1, False)
    assert "Check OPENAI_API_KEY." in refused.sentence


def test_a_stored_token_costs_no_heavy_import(cli: CommandLine, fake: FakeProvider) -> None:
    stored(cli, fake)
    code = "import sys; from rxauth.cli import main; main(['token']); print(sorted({*sys.argv} & {*sys.modules}))"
    heavy = ["aiohttp", "asyncio", "tenacity", "reactivex", "ssl", "urllib.request", "filelock", "redis"]
    with cli.process(*heavy, code=code) as process:
        assert process.outcome().out.splitlines()[1] == "[]"


@pytest.mark.parametrize("line", ["token", "stream hi --provider kimi"])
def test_an_unwritable_file_is_found_before_the_token_is_spent(cli: CommandLine, fake: FakeProvider, line: str) -> None:
    token = stored(cli, fake, left=-1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # as if the disk were full
    try:
        done = cli(line)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (done.code, done.out, fake.token_requests) == (2, "", [])
    assert "cannot be written: File too large" in done.sentence
    assert token in cli.file.read_text()


@pytest.mark.parametrize("line", ["token", "stream hi --provider kimi"])
def test_a_renewed_login_that_is_not_stored_is_reported(cli: CommandLine, line: str) -> None:
    gate = Gate()

    def break_the_file() -> None:
        asyncio.run(gate.reached())
        cli.file.unlink()
        cli.file.mkdir()
        gate.open()

    with (
        FakeProvider(answer="Hi.", client_id=CLIENT_ID, token_replies=[Reply(hold=gate)]) as fake,
        ThreadPoolExecutor() as threads,
    ):
        stored(cli, fake, left=-1)
        broken = threads.submit(break_the_file)
        done = cli(line)
        broken.result()
        assert fake.accepts(done.out.strip()) or done.out == "Hi.\n"  # the token is good
    at_once, at_the_end = done.err.splitlines()
    assert done.code == 2
    assert at_once.startswith("rxauth: The refreshed credential could not be stored.")
    assert at_the_end.startswith("rxauth: The renewed login is lost, because it could not be stored.")
    assert at_the_end.endswith("Run `rxauth login kimi`.")
    assert line != "token" or done.out.strip() not in done.err


def readme_block(language: str) -> str:
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    return str(block)


def test_the_helpers_in_the_readme_are_commands(cli: CommandLine, fake: FakeProvider) -> None:
    """Each asks for the token of a login that is stored, in the file's own format; codex' one is rejected."""
    token = stored(cli, fake)
    entries = json.loads(cli.file.read_text())
    entries |= json.loads(login_at(fake, cli.file, name="https://api.example.com/v1").read_text())
    write(cli.file, entries)
    claude = json.loads(readme_block("json"))["apiKeyHelper"].split()
    codex = tomllib.loads(readme_block("toml"))["model_providers"]["example"]["auth"]
    assert cli(*claude[1:]).out == f"{token}\n"
    fake.invalidate()
    assert fake.accepts(cli(*codex["args"]).out.strip())
    assert claude[0] == codex["command"] == "rxauth"


@pytest.mark.peer
def test_git_takes_the_token_and_reports_a_refused_one(cli: CommandLine, fake: FakeProvider) -> None:
    git = program("git")
    login_at(fake, cli.file, name="https://git.example.com")
    config = write(cli.home / ".gitconfig", readme_block("ini"))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = cli.environ | {"GIT_CONFIG_GLOBAL": str(config), "GIT_TERMINAL_PROMPT": "0", "PATH": path}

    def ask(verb: str, attributes: str) -> str:
        command = [git, "credential", verb]
        done = subprocess.run(command, input=attributes, env=environ, capture_output=True, text=True, check=True)
        return done.stdout

    filled = ask("fill", "protocol=https\nhost=git.example.com\n\n")
    first = dict(line.split("=", 1) for line in filled.splitlines())["password"]
    fake.invalidate()
    ask("reject", filled)
    second = dict(line.split("=", 1) for line in ask("fill", "protocol=https\nhost=git.example.com\n\n").splitlines())
    assert second["username"] == "oauth2"
    assert (fake.accepts(first), fake.accepts(second["password"])) == (False, True)
