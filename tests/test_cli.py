"""The command line as a person or a script meets it: a real process, its output, its exit code."""

from __future__ import annotations

import asyncio
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


def rxauth_command(*args: str, home: Path, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
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
            "stream", "-", "--base-url", fake.url, home=home, stdin="from a pipe", RXAUTH_TOKEN="the-right-key"
        )
        assert done.returncode == 0
        assert fake.api_requests[0].json()["messages"] == [{"role": "user", "content": "from a pipe"}]

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

    def test_a_reader_that_leaves_is_no_failure(self, home: Path) -> None:
        done = subprocess.run(
            f"{sys.executable} -m rxauth stream --provider fake --json hello | head -n 1",
            shell=True, env=environment(home), capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert (json.loads(done.stdout)["type"], done.stderr) == ("start", "")


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


class TestBadInput:
    @pytest.mark.parametrize(
        ("args", "code", "says"),
        [
            pytest.param(["stream", "", "--provider", "fake"], 2, "prompt is empty", id="an empty prompt"),
            pytest.param(["stream", "-", "--provider", "fake"], 2, "prompt is empty", id="an empty standard input"),
            pytest.param(["stream", "hi"], 2, "--provider", id="no provider"),
            pytest.param(["stream", "hi", "--provider", "nope"], 2, "anthropic, fake, kimi, openai", id="unknown"),
            pytest.param(["stream", "hi", "--base-url", "nope"], 2, "not an http(s) URL", id="no URL"),
            pytest.param(["stream", "hi", "--base-url", "http://example.org"], 2, "https", id="a token without TLS"),
            pytest.param(["stream", "hi", "--base-url", "http://127.0.0.1:1"], 1, "127.0.0.1:1", id="nobody there"),
            pytest.param(["stream", "hi", "--base-url", "https://no.invalid"], 1, "no.invalid", id="an unknown host"),
            pytest.param(
                ["stream", "hi", "--provider", "anthropic", "--protocol", "openai-chat"], 2, "anthropic-messages",
                id="a protocol that it does not speak",
            ),
            pytest.param(["stream", "hi", "--max-tokens", "0", "--provider", "fake"], 2, "max-tokens", id="no tokens"),
            pytest.param([], 2, "COMMAND", id="no command"),
            pytest.param(["nope"], 2, "nope", id="an unknown command"),
        ],
    )  # fmt: skip
    def test_it_gets_one_sentence_and_its_exit_code(self, home: Path, args: list[str], code: int, says: str) -> None:
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
            pytest.param(Reply(status=529), "529", id="an overload"),
            pytest.param(Reply.cut(200), "cut the stream off", id="a stream that is cut"),
            pytest.param(Reply.reset(), "127.0.0.1", id="a reset connection"),
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
            pytest.param(Reply(status=400, error="invalid_grant"), 3, "rxauth login", id="a login that has ended"),
            pytest.param(Reply(status=400, error="invalid_client"), 1, "client_id", id="a client that is unknown"),
        ],
    )
    def test_a_refresh_that_fails_says_what_to_do_and_leaves_the_file(
        self, home: Path, tmp_path: Path, reply: Reply, code: int, says: str
    ) -> None:
        with FakeProvider(token_replies=[reply]) as fake:
            credential = fake.credential()
            fake.invalidate()
            file = tmp_path / "credentials.json"
            entry = {"access_token": credential.access_token, "refresh_token": credential.refresh_token}
            file.write_text(json.dumps({fake.url: entry | {"token_url": fake.token_url, "client_id": fake.client_id}}))
            file.chmod(0o600)
            before = file.read_bytes()
            done = rxauth_command("stream", "hi", "--base-url", fake.url, "--credentials", str(file), home=home)
        assert done.returncode == code
        assert says in one_sentence(done)
        assert file.read_bytes() == before

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

    def test_one_cannot_log_in_where_there_are_only_keys(self, home: Path) -> None:
        done = rxauth_command("login", "anthropic", home=home)
        assert done.returncode == 2
        assert "ANTHROPIC_API_KEY" in one_sentence(done)

    def test_status_without_anything_says_what_to_do(self, home: Path) -> None:
        done = rxauth_command("status", home=home)
        assert (done.returncode, "rxauth login kimi" in done.stdout) == (0, True)
        assert json.loads(rxauth_command("status", "--json", home=home).stdout) == {"credentials": []}


def test_the_version(home: Path) -> None:
    assert rxauth_command("--version", home=home).stdout == f"rxauth {rxauth.__version__}\n"
