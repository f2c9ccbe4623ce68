"""The command line as a process of its own: signals, and how it ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rxauth.testing import FakeProvider, Gate, Reply

from .running import CLIENT_ID, KEY, CommandLine, Process, login_at


def test_text_arrives_as_it_is_sent_until_ctrl_c(cli: CommandLine) -> None:
    replies = [Reply(hold=Gate(), hold_after=5)]
    with (
        FakeProvider(answer="one two three four", api_keys=[KEY], replies=replies) as fake,
        cli.process("stream", "--base-url", fake.url, "hello", env={"RXAUTH_TOKEN": KEY}) as process,
    ):
        assert process.read(3) == "one"
        process.popen.send_signal(signal.SIGINT)
        done = process.outcome()
    assert (done.code, done.err) == (130, "\n")


@contextmanager
def refreshing(cli: CommandLine, code: str = "") -> Iterator[tuple[FakeProvider, Gate, Process]]:
    """Start a stream, and wait for its token request, which is not answered before the gate opens."""
    gate = Gate()
    with FakeProvider(token_replies=[Reply(hold=gate)]) as fake:
        login_at(fake, cli.file)
        fake.invalidate()
        with cli.process("stream", "hi", "--base-url", fake.url, code=code) as process:
            asyncio.run(gate.reached())
            yield fake, gate, process


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_token_request_under_way_is_finished_and_stored(cli: CommandLine, sent: int, code: int) -> None:
    with refreshing(cli) as (fake, gate, process):
        process.popen.send_signal(sent)
        gate.open()
        done = process.outcome()
        stored = cli("token", fake.url)
        assert (done.code, "Traceback" in done.err) == (code, False)
        assert fake.accepts(stored.out.strip())
        assert len(fake.token_requests) == 1


# A process that stops before it waits for the token request: while it writes that it will.
STOPPED = """
import io, sys, threading
from rxauth.__main__ import main

class Stopping(io.StringIO):
    def write(self, text):
        if "Ctrl-C again leaves at once" in text:
            print("stopped", flush=True)
            threading.Event().wait()

sys.stderr = Stopping()
main()
"""


@pytest.mark.parametrize("stopped", [False, True], ids=["while it waits", "before it waits"])
def test_a_second_ctrl_c_leaves_at_once(cli: CommandLine, stopped: bool) -> None:
    with refreshing(cli, STOPPED if stopped else "") as (_, _, process):
        process.popen.send_signal(signal.SIGINT)
        if stopped:
            assert process.read() == "stopped\n"
        else:
            assert process.read(err=True) == "\n"
            assert "Ctrl-C again leaves at once" in process.read(err=True)
        process.popen.send_signal(signal.SIGINT)
        done = process.outcome(within=5)  # the token request takes at least 10 s to time out
    assert (done.code, done.err.strip()) == (130, "")


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


def test_a_name_that_is_being_resolved_holds_no_exit_up(cli: CommandLine) -> None:
    args = ["stream", "hi", "--base-url", "https://no-answer.invalid"]
    with cli.process(*args, code=RESOLVING, env={"RXAUTH_TOKEN": KEY}) as process:
        assert process.read() == "resolving\n"
        process.popen.send_signal(signal.SIGINT)
        done = process.outcome()
    assert (done.code, done.err.strip()) == (130, "")


def test_a_login_that_waits_is_terminated_at_once(cli: CommandLine) -> None:
    with (
        FakeProvider(interval=60, client_id=CLIENT_ID) as fake,
        cli.at(fake).process("login", "kimi", "--no-browser") as process,
    ):
        process.read(err=True)
        process.popen.send_signal(signal.SIGTERM)
        done = process.outcome()
    assert (done.code, "Traceback" in done.err) == (143, False)
