"""The command line as a person or a script meets it: a real process, its output, its exit code."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

import rxauth
from rxauth import FileStore, OAuthCredentials
from rxauth.cli import _has_color, _Waiting
from rxauth.credentials import DeviceWaiting
from rxauth.demo import ANSWER, PHANTOM, run_demo
from rxauth.events import Start, TextDelta
from rxauth.marbles import Diagram, Mark, Timeline
from rxauth.providers import PROVIDERS
from rxauth.testing import FakeProvider, Gate, Reply


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider(answer="Hello from the other side.", api_keys=["the-right-key"]) as provider:
        yield provider


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KIMI", "ANTHROPIC", "OPENAI"))}
    return kept | {"RXAUTH_HOME": str(home), "HOME": str(home)} | more


def rxauth_command(*args: str | bytes, home: Path, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rxauth", *args],
        input=stdin,
        env=environment(home, **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("rxauth: ")
    assert "Traceback" not in done.stderr
    return done.stderr


class TestStream:
    def test_the_embedded_provider_answers_although_its_token_is_dead(self, home: Path) -> None:
        done = rxauth_command("stream", "--provider", "fake", "hello", home=home)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("I am the embedded provider.")
        assert done.stdout.endswith("\n")

    @pytest.mark.parametrize(
        ("protocol", "path"), [("anthropic-messages", ""), ("openai-chat", "/v1")], ids=["anthropic", "openai"]
    )
    def test_any_compatible_server_answers(self, fake: FakeProvider, home: Path, protocol: str, path: str) -> None:
        done = rxauth_command(
            "stream", "--base-url", fake.url + path, "--protocol", protocol, "--model", "m", "hello",
            home=home, RXAUTH_TOKEN="the-right-key",
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "Hello from the other side.\n", "")
        assert fake.api_requests[0].json()["model"] == "m"

    def test_a_dash_reads_the_prompt_from_standard_input(self, fake: FakeProvider, home: Path) -> None:
        done = rxauth_command(
            "stream", "-", "--base-url", fake.url,
            home=home, stdin="from a pipe: ü", RXAUTH_TOKEN="the-right-key", PYTHONIOENCODING="ascii",
        )  # fmt: skip
        assert done.returncode == 0
        assert fake.api_requests[0].json()["messages"] == [{"role": "user", "content": "from a pipe: ü"}]

    def test_json_is_one_event_per_line(self, home: Path) -> None:
        done = rxauth_command("stream", "--provider", "fake", "--json", "hello", home=home)
        types = [json.loads(line)["type"] for line in done.stdout.splitlines()]
        assert (types[0], types[-1], types.count("start")) == ("start", "done", 1)

    def test_a_credential_from_a_file_is_refreshed_and_the_file_keeps_its_other_fields(
        self, fake: FakeProvider, home: Path, tmp_path: Path
    ) -> None:
        credential = fake.credential()
        fake.invalidate()
        file = tmp_path / "credentials.json"
        entry = {
            "access_token": credential.access_token,
            "refresh_token": credential.refresh_token,
            "token_url": fake.token_url,
            "client_id": fake.client_id,
            "mine": "kept",
        }
        file.write_text(json.dumps({fake.url: entry, "other": {"access_token": "untouched"}}))
        file.chmod(0o600)
        done = rxauth_command("stream", "--base-url", fake.url, "--credentials", str(file), "hello", home=home)
        assert (done.returncode, done.stdout, done.stderr) == (0, "Hello from the other side.\n", "")
        stored = json.loads(file.read_text())
        assert stored[fake.url]["access_token"] != credential.access_token
        assert stored[fake.url]["mine"] == "kept"
        assert stored["other"] == {"access_token": "untouched"}

    def test_text_arrives_as_it_is_sent(self, home: Path) -> None:
        gate = Gate()
        with FakeProvider(answer="one two three four", api_keys=["the-right-key"],
                          replies=[Reply(hold=gate, hold_after=5)]) as fake:  # fmt: skip
            key = {"RXAUTH_TOKEN": "the-right-key"}
            with started("stream", "--base-url", fake.url, "hello", home=home, **key) as process:
                assert read(process.stdout, 3) == "one"
                gate.open()
                rest, _ = process.communicate(timeout=60)
                assert rest.endswith("four\n")

    def test_ctrl_c_leaves_at_once(self, home: Path) -> None:
        with FakeProvider(answer="one two", api_keys=["the-right-key"],
                          replies=[Reply(hold=Gate(), hold_after=5)]) as fake:  # fmt: skip
            key = {"RXAUTH_TOKEN": "the-right-key"}
            with started("stream", "--base-url", fake.url, "hello", home=home, **key) as process:
                assert read(process.stdout, 3) == "one"
                process.send_signal(signal.SIGINT)
                _, errors = process.communicate(timeout=60)
                assert process.returncode == 130
                assert "Traceback" not in errors

    @pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
    def test_a_token_that_was_being_refreshed_when_it_was_told_to_leave_is_kept(
        self, home: Path, tmp_path: Path, sent: int, code: int
    ) -> None:
        gate = Gate()
        with FakeProvider(token_replies=[Reply(hold=gate, hold_after=0)]) as fake:
            credential = fake.credential()
            fake.invalidate()
            file = tmp_path / "credentials.json"
            entry = {"access_token": credential.access_token, "refresh_token": credential.refresh_token}
            file.write_text(json.dumps({fake.url: entry | {"token_url": fake.token_url, "client_id": fake.client_id}}))
            file.chmod(0o600)
            with started("stream", "hi", "--base-url", fake.url, "--credentials", str(file), home=home) as process:
                asyncio.run(gate.reached())
                process.send_signal(sent)
                gate.open()
                _, errors = process.communicate(timeout=60)
                assert (process.returncode, "Traceback" in errors) == (code, False)
            stored = json.loads(file.read_text())[fake.url]
            assert stored["refresh_token"] != credential.refresh_token
            assert fake.accepts(stored["access_token"])

    def test_who_presses_ctrl_c_again_does_not_wait_for_the_refresh(self, home: Path, tmp_path: Path) -> None:
        gate = Gate()
        with FakeProvider(token_replies=[Reply(hold=gate)]) as fake:
            file = stored(fake, tmp_path)
            fake.invalidate()
            with started("stream", "hi", "--base-url", fake.url, "--credentials", str(file), home=home) as process:
                asyncio.run(gate.reached())
                process.send_signal(signal.SIGINT)
                said = [read(process.stderr), read(process.stderr)]
                process.send_signal(signal.SIGINT)
                _, rest = process.communicate(timeout=60)
            assert (process.returncode, said[0], rest.strip()) == (130, "\n", "")
            assert "Ctrl-C again leaves at once" in said[1]

    @pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
    @pytest.mark.parametrize(
        "command", [["stream", "hi", "--base-url"], ["login", "kimi", "--no-browser"]], ids="".join
    )
    def test_a_name_that_is_still_being_resolved_holds_nobody_up(
        self, home: Path, command: list[str], sent: int, code: int
    ) -> None:
        address = "https://nobody-answers.invalid"
        command = [*command, address] if command[0] == "stream" else command
        with subprocess.Popen(
            [sys.executable, "-c", RESOLVING, *command],
            env=environment(home, RXAUTH_TOKEN="a-token-of-sorts", KIMI_CODE_OAUTH_HOST=address),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                assert read(process.stdout) == "resolving\n"
                process.send_signal(sent)
                _, errors = process.communicate(timeout=60)
            finally:
                process.kill()
        assert (process.returncode, errors.strip()) == (code, "")

    def test_a_reader_that_leaves_is_no_failure(self, home: Path) -> None:
        done = subprocess.run(
            f"{sys.executable} -m rxauth stream --provider fake --json hello | head -n 1",
            shell=True, env=environment(home), capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert (json.loads(done.stdout)["type"], done.stderr) == ("start", "")


# A name server that never answers.
RESOLVING = """
import sys, threading
from rxauth.__main__ import main

def hang(event, args):
    if event == "socket.getaddrinfo":
        print("resolving", flush=True)
        threading.Event().wait()

sys.addaudithook(hang)
main()
"""


def stored(fake: FakeProvider, tmp_path: Path) -> Path:
    """A file with a login at that provider."""
    credential = fake.credential()
    entry = {"access_token": credential.access_token, "refresh_token": credential.refresh_token}
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps({fake.url: entry | {"token_url": fake.token_url, "client_id": fake.client_id}}))
    file.chmod(0o600)
    return file


@contextmanager
def started(*args: str, home: Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "rxauth", *args],
        env=environment(home, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read(pipe: IO[str] | None, characters: int = 0) -> str:
    """So many characters, or a line."""
    assert pipe is not None
    return pipe.read(characters) if characters else pipe.readline()


class TestOutput:
    """Where it goes is not always a terminal that can show everything."""

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
    @pytest.mark.parametrize(
        "command",
        [
            "stream hi --provider fake", "stream hi --provider fake --json",
            "demo", "demo --json", "status", "logout", "--version", "stream --help",
        ],
    )  # fmt: skip
    def test_a_full_disk_is_told_in_one_sentence(self, home: Path, command: str) -> None:
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "rxauth", *command.split()], env=environment(home),
                stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
            )  # fmt: skip
        assert done.returncode == 1
        assert "cannot be written" in one_sentence(done)

    def test_the_demo_is_drawn_in_ascii_where_there_is_nothing_else(self, home: Path) -> None:
        done = rxauth_command("demo", home=home, PYTHONIOENCODING="ascii")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.isascii()
        assert "\\" not in done.stdout
        assert "` POST /oauth/token 200" in done.stdout

    def test_text_that_the_terminal_cannot_show_is_escaped_and_json_is_always_utf_8(self, home: Path) -> None:
        with FakeProvider(answer="Grüße", api_keys=["the-right-key"]) as fake:
            for flags, shown in ((), b"Gr\\xfc\\xdfe\n"), (("--json",), '"Grüße"'.encode()):
                done = subprocess.run(
                    [sys.executable, "-m", "rxauth", "stream", "hi", "--base-url", fake.url, *flags],
                    env=environment(home, RXAUTH_TOKEN="the-right-key", PYTHONIOENCODING="ascii"),
                    capture_output=True, timeout=60, check=False,
                )  # fmt: skip
                assert (done.returncode, done.stderr) == (0, b"")
                assert shown in done.stdout

    @pytest.mark.parametrize(
        ("command", "code", "said"),
        [
            pytest.param("stream - --provider fake <&-", 2, "prompt is empty", id="no input"),
            pytest.param("stream hi --provider fake >&-", 0, "", id="no output"),
            pytest.param("stream '' --provider fake 2>&-", 2, "", id="nobody to complain to"),
            pytest.param(
                "stream hi --provider fake --json 2>&-", 0, '"done"', id="an answer, and nobody to complain to"
            ),
        ],
    )
    def test_a_standard_stream_that_is_closed_is_no_failure(
        self, home: Path, command: str, code: int, said: str
    ) -> None:
        done = subprocess.run(
            f"{sys.executable} -m rxauth {command}",
            shell=True, env=environment(home), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code
        assert said in done.stdout + done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(("variable", "coloured"), [("", True), ("1", False)])
    def test_no_color_counts_unless_it_is_empty(
        self, monkeypatch: pytest.MonkeyPatch, variable: str, coloured: bool
    ) -> None:
        monkeypatch.setenv("NO_COLOR", variable)
        monkeypatch.setenv("TERM", "xterm")
        assert _has_color(Terminal()) is coloured


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestBadInput:
    @pytest.mark.parametrize(
        ("args", "code", "says"),
        [
            pytest.param(["stream", "", "--provider", "fake"], 2, "prompt is empty", id="an empty prompt"),
            pytest.param(["stream", "-", "--provider", "fake"], 2, "prompt is empty", id="an empty standard input"),
            pytest.param(["stream", "hi"], 2, "--provider", id="no provider"),
            pytest.param(["stream", "hi", "--provider", "nope"], 2, "anthropic, fake, kimi, openai", id="unknown"),
            pytest.param(["stream", "hi", "--base-url", "nope"], 2, "--base-url is not an http(s) URL", id="no URL"),
            pytest.param(["stream", "hi", "--base-url", "http://[::1"], 2, "--base-url is not", id="half an address"),
            pytest.param(["stream", "hi", "--provider", "fake", "--base-url", "http://127.0.0.1:1"], 2, "leave out",
                         id="an address for the embedded provider"),
            pytest.param(["stream", "hi", "you", "--provider", "fake"], 2, "quotes", id="a prompt without quotes"),
            pytest.param(["stream", b"\xff", "--provider", "fake"], 2, "UTF-8", id="a prompt that is no text"),
            pytest.param(["stream", "hi", "--provider", "kimi", "--credentials", "c" * 300], 2, "too long",
                         id="a file that cannot be"),
            pytest.param(["stream", "hi", "--provider", "kimi", "--credentials", "c"], 2, "no credential file c. Check",
                         id="a file that is not there"),
            pytest.param(["login", "fake"], 2, "choose anthropic, kimi, openai.", id="a login at fake"),
            pytest.param(["logout", "kimmi"], 2, "choose anthropic, kimi, openai.", id="a logout from nowhere"),
            pytest.param(["stream", "hi", "--base-url", "http://example.org"], 2, "https", id="a token without TLS"),
            pytest.param(["stream", "hi", "--base-url", "http://127.0.0.1:1"], 1, "Check the address", id="no one"),
            pytest.param(["stream", "hi", "--base-url", "https://no.invalid"], 1, "no.invalid", id="an unknown host"),
            pytest.param(
                ["stream", "hi", "--provider", "anthropic", "--protocol", "openai-chat"], 2, "anthropic-messages",
                id="a protocol that it does not speak",
            ),
            pytest.param(["stream", "hi", "--max-tokens", "0", "--provider", "fake"], 2, "whole number", id="none"),
            pytest.param([], 2, "COMMAND", id="no command"),
            pytest.param(["nope"], 2, "nope", id="an unknown command"),
        ],
    )  # fmt: skip
    def test_it_gets_one_sentence_and_its_exit_code(
        self, home: Path, args: list[str | bytes], code: int, says: str
    ) -> None:
        done = rxauth_command(*args, home=home, RXAUTH_TOKEN="a-token-of-sorts")
        assert done.returncode == code
        assert says in one_sentence(done)

    def test_no_credential_says_how_to_get_one(self, home: Path) -> None:
        done = rxauth_command("stream", "hi", "--provider", "kimi", home=home)
        assert done.returncode == 3
        assert "rxauth login kimi" in one_sentence(done)

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"k": 1}', "\xff", '{"k": {"access_token": 5}}'])
    def test_a_credential_file_that_is_none_stays_as_it_was(self, home: Path, tmp_path: Path, content: str) -> None:
        file = tmp_path / "credentials.json"
        file.write_bytes(content.replace('"k"', '"kimi"').encode("latin-1"))
        file.chmod(0o600)
        before = file.read_bytes()
        done = rxauth_command("stream", "hi", "--provider", "kimi", "--credentials", str(file), home=home)
        assert done.returncode == 2
        assert str(file) in one_sentence(done)
        assert file.read_bytes() == before

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file that belongs to somebody else")
    def test_a_credential_file_of_somebody_else_is_refused(self, home: Path, tmp_path: Path) -> None:
        file = tmp_path / "credentials.json"
        file.write_text('{"kimi": {"access_token": "theirs"}}')
        os.chown(file, 12345, 12345)
        done = rxauth_command("stream", "hi", "--provider", "kimi", "--credentials", str(file), home=home)
        assert done.returncode == 2
        assert "theirs" not in one_sentence(done)

    @pytest.mark.parametrize(
        ("reply", "says"),
        [
            pytest.param(Reply.html(), "text/html", id="HTML instead of an event stream"),
            pytest.param(Reply(status=529), "529, overloaded_error). Try again later.", id="an overload"),
            pytest.param(Reply.rate_limited(30), "Try again in 30 s.", id="a rate limit"),
            pytest.param(Reply(status=400, message="max_tokens: too large"), "Change the prompt", id="a bad request"),
            pytest.param(Reply(status=403), "what your account may use", id="no permission"),
            pytest.param(Reply.cut(200), "complete. Try again later.", id="a stream that is cut"),
            pytest.param(Reply.reset(), "Check the address and the network", id="a reset connection"),
        ],
    )
    def test_a_provider_that_fails_is_told_in_one_sentence(self, home: Path, reply: Reply, says: str) -> None:
        with FakeProvider(api_keys=["the-right-key"], replies=[reply]) as fake:
            done = rxauth_command("stream", "hi", "--base-url", fake.url, home=home, RXAUTH_TOKEN="the-right-key")
        assert done.returncode == 1
        assert says in one_sentence(done)

    @pytest.mark.parametrize(
        ("reply", "code", "says"),
        [
            pytest.param(Reply(status=400, error="invalid_grant"), 3, "Log in again.", id="a login that has ended"),
            pytest.param(Reply(status=400, error="invalid_client"), 1, "client_id", id="a client that is unknown"),
        ],
    )
    def test_a_refresh_that_fails_says_what_to_do_and_leaves_the_file(
        self, home: Path, tmp_path: Path, reply: Reply, code: int, says: str
    ) -> None:
        with FakeProvider(token_replies=[reply]) as fake:
            file = stored(fake, tmp_path)
            fake.invalidate()
            before = file.read_bytes()
            done = rxauth_command("stream", "hi", "--base-url", fake.url, "--credentials", str(file), home=home)
        assert done.returncode == code
        assert says in one_sentence(done)
        assert file.read_bytes() == before

    def test_a_login_that_has_ended_names_the_command_that_begins_another(self, home: Path) -> None:
        ended = Reply(status=400, error="invalid_grant")
        with FakeProvider(token_replies=[ended], client_id=KIMI_CLIENT) as fake:
            credential = fake.credential()
            entry = {"access_token": credential.access_token, "refresh_token": credential.refresh_token}
            home.mkdir()
            (home / "credentials.json").write_text(json.dumps({"kimi": entry}))
            (home / "credentials.json").chmod(0o600)
            fake.invalidate()
            more = {"KIMI_CODE_OAUTH_HOST": fake.url, "KIMI_CODE_BASE_URL": fake.url}
            done = rxauth_command("stream", "hi", "--provider", "kimi", home=home, **more)
        assert done.returncode == 3
        assert one_sentence(done).endswith("Log in again. Run `rxauth login kimi`.\n")

    @pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["login"], ["logout"]], ids=" ".join)
    def test_a_home_that_nobody_has_is_told(self, home: Path, command: list[str]) -> None:
        done = rxauth_command(*command, home=home, RXAUTH_HOME="~no-such-user/rxauth")
        assert done.returncode == 2
        assert "Set RXAUTH_HOME" in one_sentence(done)

    def test_a_login_host_that_is_no_address_names_its_variable(self, home: Path) -> None:
        done = rxauth_command("login", "kimi", home=home, KIMI_CODE_OAUTH_HOST="auth.example.com")
        assert done.returncode == 2
        assert "KIMI_CODE_OAUTH_HOST" in one_sentence(done)

    def test_a_credential_file_that_others_can_read_is_tightened_and_said_so(
        self, fake: FakeProvider, home: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "credentials.json"
        file.write_text(json.dumps({fake.url: {"access_token": "the-right-key"}}))
        file.chmod(0o644)
        done = rxauth_command("stream", "hi", "--base-url", fake.url, "--credentials", str(file), home=home)
        assert (done.returncode, done.stdout) == (0, "Hello from the other side.\n")
        assert "could be read by others" in one_sentence(done)
        assert file.stat().st_mode & 0o777 == 0o600

    def test_a_key_that_is_refused_names_where_it_came_from_and_is_not_printed(
        self, fake: FakeProvider, home: Path
    ) -> None:
        done = rxauth_command("stream", "hi", "--base-url", fake.url, home=home, RXAUTH_TOKEN="canary-token-4711")
        assert done.returncode == 1
        assert "Check RXAUTH_TOKEN" in one_sentence(done)
        assert "4711" not in done.stderr + done.stdout
        assert len(fake.requests) == 1


class TestDemo:
    def test_it_shows_the_three_ways_at_80_columns_without_colour_in_a_pipe(self, home: Path) -> None:
        done = rxauth_command("demo", home=home)
        assert (done.returncode, done.stderr) == (0, "")
        assert max(map(len, done.stdout.splitlines())) <= 80
        assert "\x1b" not in done.stdout
        for word in ("no filter", "a retry, but no buffer", "rxauth", "phantom", "POST /oauth/token 200"):
            assert word in done.stdout

    def test_the_phantom_is_pointed_at_however_slow_the_machine_is(self) -> None:
        for answer_begins in range(1, 72):
            marks = (Mark(0, "next", Start()), Mark(answer_begins, "next", TextDelta(0, ANSWER)), Mark(72, "completed"))
            assert f"╰ {PHANTOM}" in Diagram(Timeline("screen", marks).with_note(PHANTOM, at=0)).text()

    def test_json_tells_machines_the_same(self, home: Path) -> None:
        done = rxauth_command("demo", "--json", home=home)
        told: dict[str, Any] = json.loads(done.stdout)
        unfiltered, phantom, recovered = told["scenes"]
        assert told["ok"] is True
        assert [event["type"] for event in unfiltered["events"]] == ["start", "error"]
        assert [entry["open"] for entry in phantom["transcript"]] == [True, False]
        assert [entry["open"] for entry in recovered["transcript"]] == [False]
        assert [each["status"] for each in recovered["requests"]] == [401, 200, 200]
        assert phantom["transcript"][1]["message"]["content"] == recovered["transcript"][0]["message"]["content"]

    async def test_who_leaves_in_the_middle_leaves_nothing_running(self) -> None:
        def refreshing() -> list[str]:
            names = (getattr(each.get_coro(), "__qualname__", "") for each in asyncio.all_tasks())
            return [name for name in names if name == OAuthCredentials.refresh.__qualname__]

        demo = asyncio.ensure_future(run_demo())
        while not refreshing():
            await asyncio.sleep(0)
        demo.cancel()
        await asyncio.gather(demo, return_exceptions=True)
        for _ in range(10):
            await asyncio.sleep(0)
        assert (demo.cancelled(), refreshing()) == (True, [])

    def test_colour_can_be_asked_for(self, home: Path) -> None:
        assert "\x1b[" in rxauth_command("demo", "--color", "always", home=home).stdout


KIMI_CLIENT = PROVIDERS["kimi"].oauth.client_id if PROVIDERS["kimi"].oauth else ""


class TestCredentials:
    def test_login_shows_the_code_stores_the_credential_and_stream_uses_it(self, home: Path) -> None:
        with FakeProvider(answer="Welcome.", interval=0.01, client_id=KIMI_CLIENT) as fake:
            more = {"KIMI_CODE_OAUTH_HOST": fake.url, "KIMI_CODE_BASE_URL": fake.url}
            with started("login", "kimi", "--no-browser", home=home, **more) as process:
                shown = read(process.stderr) + read(process.stderr)
                fake.approve()
                out, _ = process.communicate(timeout=60)
                assert process.returncode == 0, shown + out
            assert "Logged in at kimi" in out
            assert fake.url in shown

            status = rxauth_command("status", home=home, **more)
            assert status.returncode == 0
            assert "kimi" in status.stdout
            assert "renews itself" in status.stdout

            done = rxauth_command("stream", "--provider", "kimi", "hello", home=home, **more)
            assert (done.returncode, done.stdout) == (0, "Welcome.\n")

            token = fake.api_requests[-1].token
            assert token
            assert token not in status.stdout + out + shown

            first, second = (rxauth_command("logout", "kimi", home=home, **more) for _ in range(2))
            assert first.stdout.startswith("Deleted the credential of kimi from ")
            assert second.stdout.startswith("Nothing to delete")

    def test_login_that_is_refused_says_so(self, home: Path) -> None:
        with (
            FakeProvider(interval=0.01, client_id=KIMI_CLIENT) as fake,
            started("login", "kimi", "--no-browser", home=home, KIMI_CODE_OAUTH_HOST=fake.url) as process,
        ):
            read(process.stderr)
            fake.deny()
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 3
            assert "rxauth: " in errors

    def test_login_where_nothing_can_be_stored_says_so_before_anybody_goes_to_the_browser(self, home: Path) -> None:
        home.write_text("a file, where the directory should be")
        with FakeProvider(client_id=KIMI_CLIENT) as fake:
            more = {"KIMI_CODE_OAUTH_HOST": fake.url}
            done = rxauth_command("login", "kimi", "--no-browser", home=home, **more)
            assert fake.requests == []
        assert done.returncode == 2
        assert str(home) in one_sentence(done)
        assert one_sentence(done).endswith("Set RXAUTH_HOME to a directory that can be written.\n")

    async def test_login_waits_for_nobody_who_holds_the_file(self, home: Path) -> None:
        with FakeProvider(interval=0.01, client_id=KIMI_CLIENT) as fake:
            async with FileStore(home / "credentials.json", "kimi").locked():
                with started("login", "kimi", "--no-browser", home=home, KIMI_CODE_OAUTH_HOST=fake.url) as process:
                    assert "Open" in await asyncio.to_thread(read, process.stderr)
                    process.send_signal(signal.SIGINT)
                    process.communicate(timeout=60)

    def test_login_leaves_at_once_with_ctrl_c(self, home: Path) -> None:
        with (
            FakeProvider(interval=60, client_id=KIMI_CLIENT) as fake,
            started("login", "kimi", "--no-browser", home=home, KIMI_CODE_OAUTH_HOST=fake.url) as process,
        ):
            read(process.stderr)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 130
            assert "Traceback" not in errors

    def test_a_code_that_expires_is_followed_by_another_and_said_so(self, home: Path) -> None:
        with (
            FakeProvider(interval=0.01, client_id=KIMI_CLIENT) as fake,
            started("login", "kimi", "--no-browser", home=home, KIMI_CODE_OAUTH_HOST=fake.url) as process,
        ):
            first = [read(process.stderr) for _ in range(4)]  # where, what, both in one, waiting
            fake.expire_devices()
            second = [read(process.stderr) for _ in range(3)]
            fake.approve()
            process.communicate(timeout=60)
            assert process.returncode == 0
        assert second[0] == "That code has expired. Here is a new one.\n"
        assert second[1] == first[0]
        assert second[2] != first[1]

    def test_the_line_that_waits_is_one_line_of_any_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "40")
        monkeypatch.setenv("TERM", "xterm")
        terminal = Terminal()
        waiting = _Waiting(terminal, browser=False)
        trouble = "The token endpoint auth.example.com did not answer within 10 s."
        for each in (None, trouble):
            waiting.tick(DeviceWaiting(elapsed=1, remaining=599, trouble=each))
        waiting.end()
        lines = terminal.getvalue().split("\r\x1b[K")
        assert "\n" not in terminal.getvalue()
        assert lines[1].startswith("Waiting for you, 1 s")
        assert all(len(line) < 40 for line in lines)
        assert lines[-1] == ""

    def test_a_terminal_that_can_do_nothing_is_sent_nothing_but_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "dumb")
        terminal = Terminal()
        waiting = _Waiting(terminal, browser=False)
        waiting.tick(DeviceWaiting(elapsed=1, remaining=599))
        waiting.end()
        assert terminal.getvalue() == "Waiting for you, 1 s; the code is good for 599 s more.\n"

    def test_one_cannot_log_in_where_there_are_only_keys(self, home: Path) -> None:
        done = rxauth_command("login", "anthropic", home=home)
        assert done.returncode == 2
        assert "ANTHROPIC_API_KEY" in one_sentence(done)

    def test_status_without_anything_says_what_to_do(self, home: Path) -> None:
        done = rxauth_command("status", home=home)
        assert (done.returncode, "rxauth login kimi" in done.stdout) == (0, True)
        assert json.loads(rxauth_command("status", "--json", home=home).stdout) == {"credentials": []}

    def test_status_names_the_token_that_comes_before_all_others(self, home: Path) -> None:
        done = rxauth_command("status", home=home, RXAUTH_TOKEN="canary-token-4711")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("any ")
        assert "$RXAUTH_TOKEN" in done.stdout
        assert "4711" not in done.stdout

    @pytest.mark.parametrize("flags", [[], ["--json"]], ids=["for a person", "for machines"])
    def test_status_tells_of_a_file_that_it_cannot_read_once(self, home: Path, flags: list[str]) -> None:
        home.mkdir()
        file = home / "credentials.json"
        file.write_text("{")
        file.chmod(0o600)
        done = rxauth_command("status", *flags, home=home)
        assert done.returncode == 2
        assert str(file) in one_sentence(done)
        assert done.stdout == "" if not flags else json.loads(done.stdout)["credentials"][0]["trouble"]


@pytest.mark.parametrize(
    "command", [[sys.executable, "-m", "rxauth"], [str(Path(sys.executable).with_name("rxauth"))]], ids=["-m", "rxauth"]
)
def test_the_version(command: list[str]) -> None:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"rxauth {rxauth.__version__}\n", "")
