"""`rxauth login` and `rxauth logout`."""

from __future__ import annotations

import json
from contextlib import redirect_stderr
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from filelock import FileLock

from rxauth.cli.login import LoginPrompt
from rxauth.credentials import DeviceWaiting
from rxauth.testing import FakeProvider

from .running import CommandLine, Terminal, entry, write

LOGIN = "login kimi --no-browser"


def test_a_login_is_stored_and_used_until_logout(cli: CommandLine, fake: FakeProvider) -> None:
    done = cli.at(fake)(f"{LOGIN} --header 'X-Gateway: me'", stderr=Terminal(Enter=fake.approve))
    assert (done.code, done.out.startswith("Logged in at kimi.")) == (0, True)
    assert done.err.startswith(f"Open   {fake.url}")
    assert done.err.endswith("s more.\r\x1b[K")  # the waiting line is erased
    assert {each.headers["X-Gateway"] for each in fake.requests} == {"me"}

    status = cli("status")
    assert (status.code, "kimi" in status.out, "renews itself" in status.out) == (0, True, True)

    answer = cli("stream --provider kimi hello")
    assert (answer.code, answer.out) == (0, "Hello from the other side.\n")
    token = fake.api_requests[-1].token
    assert token
    assert token not in status.out + done.out + done.err

    first, second = cli("logout kimi"), cli("logout kimi")
    assert first.out.startswith("Deleted the credential of kimi from ")
    assert second.out.startswith("Nothing to delete")


def test_a_refused_login_exits_with_3_after_a_second_code(cli: CommandLine, fake: FakeProvider) -> None:
    answers = iter([fake.expire_devices, fake.deny])
    done = cli.at(fake)(LOGIN, stderr=Terminal(Enter=lambda: next(answers)()))
    codes = {line for line in done.err.splitlines() if line.startswith("Enter")}
    assert (done.code, len(codes), "rxauth: " in done.err) == (3, 2, True)
    assert "That code has expired. Here is a new one.\n" in done.err


def test_a_login_checks_first_that_it_can_be_stored(cli: CommandLine, fake: FakeProvider) -> None:
    write(cli.home / "rxauth", "a file in the place of the directory")
    done = cli.at(fake)(LOGIN)
    assert (done.code, fake.requests) == (2, [])
    assert str(cli.home) in done.sentence
    assert done.sentence.endswith("Set RXAUTH_HOME to a directory that can be written.\n")


def test_a_login_waits_for_the_files_lock_only_to_save(cli: CommandLine, fake: FakeProvider) -> None:
    cli.file.parent.mkdir(parents=True)
    lock = FileLock(f"{cli.file}.lock")
    lock.acquire()

    def answer() -> None:
        fake.approve()
        lock.release()

    done = cli.at(fake)(LOGIN, stderr=Terminal(Enter=answer))
    assert (done.code, "Logged in at kimi." in done.out) == (0, True)


@pytest.mark.parametrize(
    "issuer", [{"token_url": "https://auth.kimi.com/api/oauth/token"}, {}], ids=["known", "unknown"]
)
def test_a_login_at_another_host_leaves_the_first_one_alone(
    cli: CommandLine, fake: FakeProvider, issuer: dict[str, str]
) -> None:
    usual = entry(fake.credential(), **issuer)
    write(cli.at(fake).file, {"kimi": usual})
    assert cli(LOGIN, stderr=Terminal(Enter=fake.approve)).code == 0
    stored = json.loads(cli.file.read_text())
    assert (stored["kimi"], len(stored)) == (usual, 2)
    assert cli("stream --provider kimi hello").code == 0
    assert cli("logout").code == 0
    assert json.loads(cli.file.read_text()) == {"kimi": usual}


def test_a_new_login_at_its_server_replaces_the_usual_entry(cli: CommandLine, fake: FakeProvider) -> None:
    usual, other = (entry(fake.credential(), token_url=f"{fake.url}/api/oauth/token") for _ in range(2))
    write(cli.at(fake).file, {"kimi": usual, f"kimi@{urlsplit(fake.url).netloc}": other})
    assert cli(LOGIN, stderr=Terminal(Enter=fake.approve)).code == 0
    stored = list(json.loads(cli.file.read_text()).values())
    assert (stored[0] != usual, stored[1:]) == (True, [other])


@pytest.mark.parametrize(
    ("noted", "line", "host"),
    [
        pytest.param("", LOGIN, "auth.kimi.com", id="kimi"),
        pytest.param("", f"{LOGIN} --region global", "auth.kimi.ai", id="--region global"),
        pytest.param("global", LOGIN, "auth.kimi.ai", id="as kimi-code is installed"),
        pytest.param("global", f"{LOGIN} --region mainland-cn", "auth.kimi.com", id="a region before that"),
        pytest.param("global, but logged in", LOGIN, "auth.kimi.com", id="not as installed, where there is a login"),
        pytest.param("", f"KIMI_CODE_OAUTH_HOST=https://one.test/ KIMI_OAUTH_HOST=https://two.test {LOGIN}",
                     "one.test", id="the first variable"),
        pytest.param("global", f"KIMI_CODE_OAUTH_HOST=' ' KIMI_OAUTH_HOST=https://two.test {LOGIN}", "two.test",
                     id="the second, where the first is blank, before the installed one"),
    ],
)  # fmt: skip
def test_a_login_goes_to_the_deployment_of_the_region(cli: CommandLine, noted: str, line: str, host: str) -> None:
    write(cli.home / ".kimi-code/region", noted.split(",")[0])
    if "logged in" in noted:
        write(cli.file, {"kimi": {"access_token": "a", "refresh_token": "r"}})
    done = cli(line, env={"HTTPS_PROXY": "http://127.0.0.1:1"})  # no proxy there: nothing leaves the machine
    assert done.code == 1
    assert f"The login server {host} cannot be reached" in done.err
    assert ("kimi-code is installed for kimi-global" in done.err) == (noted == "global" and line == LOGIN)


def test_logins_at_one_provider_stand_side_by_side(cli: CommandLine, fake: FakeProvider, tmp_path: Path) -> None:
    cli.at(fake)
    file = tmp_path / "mine.json"
    for flags in ("", "--account work", f"--credentials {file}"):
        assert cli(f"{LOGIN} {flags}", stderr=Terminal(Enter=fake.approve)).code == 0
        assert cli(f"stream hi --provider kimi {flags}").code == 0
    assert len({each.token for each in fake.api_requests}) == 3
    assert [line.split()[0] for line in cli("status").out.splitlines()] == ["kimi", "kimi/work"]
    assert list(json.loads(file.read_text())) == ["kimi"]


@pytest.mark.parametrize(
    ("term", "shown"),
    [
        pytest.param("xterm", ["Waiting for you, 1 s; the code is…", "The token endpoint did not answer.…", ""],
                     id="a terminal has one line"),
        pytest.param("dumb", ["Waiting for you, 1 s; the code is good for 599 s more.\n",
                              "The token endpoint did not answer. Trying again; the code is good for 599 s more.\n"],
                     id="a terminal that cannot erase"),
    ],
)  # fmt: skip
def test_the_waiting_line_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, term: str, shown: list[str]) -> None:
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "36")
    monkeypatch.setenv("TERM", term)
    with redirect_stderr(terminal):
        prompt = LoginPrompt(browser=False)
        for trouble in (None, "The token endpoint did not answer."):
            prompt.tick(DeviceWaiting(elapsed=1, remaining=599, trouble=trouble))
        prompt.end()
    assert terminal.getvalue() == "".join(("" if term == "dumb" else "\r\x1b[K") + line for line in shown)
