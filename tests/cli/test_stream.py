"""`rxauth stream`: the answer on standard output, the exit code, one sentence if it fails."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rxauth.events import Block, Text, Thinking, ToolCall
from rxauth.testing import FakeProvider, Reply

from .running import CLIENT_ID, KEY, CommandLine, Terminal, entry, login_at, write

PLAN = "Your current subscription does not have access to K3"
PLAN_LIMIT = {"error": {"type": "authentication_error", "message": PLAN}, "type": "error"}


@pytest.mark.parametrize(("protocol", "path"), [("anthropic-messages", ""), ("openai-chat", "/v1")])
def test_any_compatible_server_answers(cli: CommandLine, fake: FakeProvider, protocol: str, path: str) -> None:
    flags = f"--base-url {fake.url}{path} --protocol {protocol} --model m --header 'X-Gateway: me'"
    done = cli(f"RXAUTH_TOKEN={KEY} stream - {flags}", typed="from a pipe: ü".encode())
    assert (done.code, done.out, done.err) == (0, "Hello from the other side.\n", "")
    (request,) = fake.api_requests
    assert (request.json()["model"], request.headers["X-Gateway"]) == ("m", "me")
    assert request.json()["messages"] == [{"role": "user", "content": "from a pipe: ü"}]
    assert [each for each in request.headers if each.startswith("x-msh")] == []
    assert not cli.file.parent.exists()


def test_a_key_goes_into_the_header_of_its_provider(cli: CommandLine, fake: FakeProvider) -> None:
    done = cli(f"ANTHROPIC_API_KEY={KEY} stream hi --provider anthropic --base-url {fake.url}")
    assert (done.code, fake.api_requests[0].headers["x-api-key"]) == (0, KEY)


@pytest.mark.parametrize("protocol", ["anthropic-messages", "openai-chat"])
def test_the_embedded_provider_answers_with_a_dead_token(cli: CommandLine, protocol: str) -> None:
    line = f"stream hi --provider fake --protocol {protocol}"
    text, events = cli(line), cli(f"{line} --json")
    assert (text.code, text.err, events.code, events.err) == (0, "", 0, "")
    assert re.fullmatch(r"I am the embedded provider\..*\n", text.out)
    types = [json.loads(line)["type"] for line in events.out.splitlines()]
    assert (types[0], types[-1], types.count("start")) == ("start", "done", 1)


def test_thinking_and_tool_calls_are_shown_aside(cli: CommandLine) -> None:
    answer: list[Block] = [Thinking("Hm."), Text("One moment."), ToolCall("1", "look", '{"at": "it"}')]
    with FakeProvider(answer=answer, api_keys=[KEY]) as fake:
        line = f"RXAUTH_TOKEN={KEY} TERM=xterm stream hi --base-url {fake.url}"
        plain, colored = cli(line), cli(line, stderr=Terminal())
    assert (plain.out, plain.err) == ("One moment.\n", 'Hm.\n[calls look({"at": "it"})]\n')
    assert colored.err == '\x1b[2mHm.\x1b[0m\n\x1b[2m[calls look({"at": "it"})]\x1b[0m\n'


def test_a_login_in_a_file_is_renewed_there(cli: CommandLine, fake: FakeProvider) -> None:
    file = login_at(fake, cli.home / "credentials.json")
    before = json.loads(file.read_text())[fake.url]["access_token"]
    fake.invalidate()
    done = cli(f"stream hello --base-url {fake.url} --credentials {file} --header 'X-Gateway: me'")
    assert (done.code, done.out, done.err) == (0, "Hello from the other side.\n", "")
    assert json.loads(file.read_text())[fake.url]["access_token"] not in ("", before)
    assert fake.token_requests[0].headers["X-Gateway"] == "me"


@pytest.mark.parametrize(
    ("reply", "code", "part"),
    [
        pytest.param(Reply.html(), 1, "text/html", id="HTML instead of an event stream"),
        pytest.param(Reply(status=529), 1, "529, overloaded_error). Try again later.", id="an overload"),
        pytest.param(Reply.rate_limited(30), 1, "Try again in 30 s.", id="a rate limit"),
        pytest.param(Reply(status=400, message="too large"), 1, "Change the prompt", id="a bad request"),
        pytest.param(Reply(status=403), 1, "what your account may use", id="no permission"),
        pytest.param(Reply(status=401, body=PLAN_LIMIT), 1, f"rxauth: {PLAN} (", id="a 401 about a plan"),
        pytest.param(Reply.cut(200), 1, "complete. Try again later.", id="a stream that is cut"),
        pytest.param(Reply.reset(), 1, "Check the address and the network", id="a reset connection"),
        pytest.param(None, 3, "Log in again. Run `rxauth login kimi`.\n", id="a login that has ended"),
    ],
)
def test_a_failed_stream_is_one_sentence_with_an_action(
    cli: CommandLine, reply: Reply | None, code: int, part: str
) -> None:
    """No refresh token is spent for it, and the credential file stays as it is."""
    dead = Reply(status=400, error="invalid_grant")
    with FakeProvider(client_id=CLIENT_ID, replies=[reply], token_replies=[dead]) as fake:
        write(cli.at(fake).file, {"kimi": entry(fake.credential())})
        before = cli.file.read_bytes()
        if code == 3:
            fake.invalidate()
        done = cli("stream hi --provider kimi")
        assert (done.code, cli.file.read_bytes()) == (code, before)
        assert part in done.sentence
        assert (len(fake.api_requests), len(fake.token_requests)) == (1, code == 3)
    for shown in (done.sentence, cli("status").out):
        assert ("log in again" in shown.lower()) == (code == 3)


def test_a_refused_key_is_named_but_not_printed(cli: CommandLine, fake: FakeProvider) -> None:
    key = "canary-token-4711"
    file = write(cli.home / "credentials.json", {fake.url: {"access_token": key}})
    line = f"RXAUTH_TOKEN={key} stream hi --base-url {fake.url}"
    for refused, action in (
        (line, "Check RXAUTH_TOKEN."),
        (f"{line} --credentials {file}", f"Check the credential in {file}."),
    ):
        done = cli(refused)
        assert done.code == 1
        assert action in done.sentence
        assert "4711" not in done.err + done.out
    assert len(fake.requests) == 2


def test_a_file_that_others_can_read_is_tightened(cli: CommandLine, fake: FakeProvider, tmp_path: Path) -> None:
    file = write(tmp_path / "credentials.json", {fake.url: {"access_token": KEY}})
    file.chmod(0o644)
    done = cli(f"stream hi --base-url {fake.url} --credentials {file}")
    assert (done.code, done.out) == (0, "Hello from the other side.\n")
    assert "could be read by others" in done.sentence
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("provider", ["kimi", None])
def test_a_made_up_block_is_dropped_where_a_provider_makes_it_up(cli: CommandLine, provider: str | None) -> None:
    with FakeProvider(answer="(Empty response: the model only thought)", api_keys=[KEY]) as fake:
        flags = f"--provider {provider}" if provider else f"--base-url {fake.url}"
        done = cli.at(fake)(f"RXAUTH_TOKEN={KEY} stream hi {flags}")
    assert (done.code, bool(done.out)) == (0, provider is None)
