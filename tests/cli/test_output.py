"""The standard streams: full, closed, in another encoding, without color."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from unittest.mock import patch

import pytest

from rxauth.cli import main
from rxauth.cli.screen import has_color, width
from rxauth.testing import FakeProvider

from .running import KEY, CommandLine, Terminal


class Full(io.StringIO):
    """A file on a full disk, which may find out when it is flushed."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "command",
    [
        "stream hi --provider fake", "stream hi --provider fake --json", "demo", "demo --json", "status", "logout",
        "--version", "stream --help",
    ],
)  # fmt: skip
def test_a_full_disk_is_one_sentence(cli: CommandLine, command: str) -> None:
    err = io.StringIO()
    with (
        patch.dict(os.environ, cli.environ),
        contextlib.redirect_stdout(Full()),
        contextlib.redirect_stderr(err),
    ):
        code = main(command.split())
    assert code == 1
    assert err.getvalue().startswith("rxauth: The output cannot be written: No space left on device.")
    assert err.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "shown"),
    [pytest.param([], "Gr\\xfc\\xdfe\n", id="text"), pytest.param(["--json"], '"Grüße"', id="json")],
)
def test_text_is_escaped_for_the_terminal_but_json_is_utf_8(cli: CommandLine, flags: list[str], shown: str) -> None:
    with FakeProvider(answer="Grüße", api_keys=[KEY]) as fake:
        args = ["stream", "hi", "--base-url", fake.url, *flags]
        done = cli(*args, encoding="ascii", env={"RXAUTH_TOKEN": KEY})
    assert (done.code, done.err) == (0, "")
    assert shown in done.out


@pytest.mark.parametrize(
    ("closed", "args", "code"),
    [
        pytest.param("stdin", ["stream", "-", "--provider", "fake"], 2, id="no input"),
        pytest.param("stdout", ["stream", "hi", "--provider", "fake"], 0, id="no output"),
        pytest.param("stderr", ["stream", "", "--provider", "fake"], 2, id="no place for the error"),
        pytest.param("stderr", ["stream", "hi", "--provider", "fake"], 0, id="an answer, but no place for errors"),
    ],
)
def test_a_closed_standard_stream_is_no_failure(cli: CommandLine, closed: str, args: list[str], code: int) -> None:
    with (
        patch.dict(os.environ, cli.environ),
        patch(f"sys.{closed}", None),
        contextlib.redirect_stdout(None if closed == "stdout" else io.StringIO()),
        contextlib.redirect_stderr(None if closed == "stderr" else io.StringIO()),
    ):
        assert main(args) == code
        getattr(sys, closed).close()


class Left(io.StringIO):
    """A pipe whose reader has left."""

    def flush(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def test_a_reader_that_leaves_is_no_failure(cli: CommandLine) -> None:
    err = io.StringIO()
    with (
        patch.dict(os.environ, cli.environ),
        contextlib.redirect_stdout(Left()),
        contextlib.redirect_stderr(err),
    ):
        code = main(["stream", "hi", "--provider", "fake", "--json"])
    assert (code, err.getvalue()) == (0, "")


@pytest.mark.parametrize(
    ("out", "columns", "wide"),
    [(io.StringIO(), "50", 80), (Terminal(), "50", 50), (Terminal(), "200", 80), (Terminal(), "5", 40)],
    ids=["a file", "a narrow terminal", "a wide one", "a very narrow one"],
)
def test_a_diagram_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch, out: io.StringIO, columns: str, wide: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert width(out) == wide


@pytest.mark.parametrize(("variable", "colored"), [("", True), ("1", False)])
def test_no_color_counts_unless_it_is_empty(monkeypatch: pytest.MonkeyPatch, variable: str, colored: bool) -> None:
    monkeypatch.setenv("NO_COLOR", variable)
    monkeypatch.setenv("TERM", "xterm")
    assert has_color(Terminal()) is colored
