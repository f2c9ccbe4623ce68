"""The standard streams: full, closed, in another encoding, without color."""

from __future__ import annotations

import errno
import io
import os
from typing import Any

import pytest

from rxauth.cli.screen import has_color, width
from rxauth.testing import FakeProvider

from .running import KEY, CommandLine, Terminal

ANSWER = "stream hi --provider fake"
FULL = "rxauth: The output cannot be written: No space left on device. Write it elsewhere.\n"


class Failing(io.StringIO):
    """Fails as a file on a full disk does, or a pipe whose reader has left: it may find out when it is flushed."""

    def __init__(self, reason: int) -> None:
        super().__init__()
        self._error = OSError(reason, os.strerror(reason))

    def flush(self) -> None:
        raise self._error


@pytest.mark.parametrize(
    "line", [ANSWER, f"{ANSWER} --json", "demo", "demo --json", "status", "logout", "--version", "stream --help"]
)
@pytest.mark.parametrize(
    ("reason", "code", "err"),
    [pytest.param(errno.ENOSPC, 1, FULL, id="a full disk"), pytest.param(errno.EPIPE, 0, "", id="a reader that left")],
)
def test_an_output_that_fails_is_at_most_one_sentence(
    cli: CommandLine, line: str, reason: int, code: int, err: str
) -> None:
    done = cli(line, stdout=Failing(reason))
    assert (done.code, done.err) == (code, err)


@pytest.mark.parametrize(
    ("closed", "line", "code"),
    [
        pytest.param("stdin", "stream - --provider fake", 2, id="no input"),
        pytest.param("stdout", ANSWER, 0, id="no output"),
        pytest.param("stderr", "stream '' --provider fake", 2, id="no place for the error"),
        pytest.param("stderr", ANSWER, 0, id="an answer, but no place for errors"),
    ],
)
def test_a_closed_standard_stream_is_no_failure(cli: CommandLine, closed: str, line: str, code: int) -> None:
    streams: Any = {closed: None}
    assert cli(line, **streams).code == code


@pytest.mark.parametrize(
    ("flags", "shown"),
    [pytest.param("", "Gr\\xfc\\xdfe\n", id="text"), pytest.param("--json", '"Grüße"', id="json")],
)
def test_text_is_escaped_for_the_terminal_but_json_is_utf_8(cli: CommandLine, flags: str, shown: str) -> None:
    with FakeProvider(answer="Grüße", api_keys=[KEY]) as fake:
        done = cli(f"RXAUTH_TOKEN={KEY} stream hi --base-url {fake.url} {flags}", encoding="ascii")
    assert (done.code, done.err, shown in done.out) == (0, "", True)


@pytest.mark.parametrize(
    ("out", "columns", "wide", "no_color", "colored"),
    [
        pytest.param(io.StringIO(), "50",  80, "",  False, id="a file"),
        pytest.param(Terminal(),    "50",  50, "",  True,  id="a narrow terminal"),
        pytest.param(Terminal(),    "200", 80, "1", False, id="a wide one, and NO_COLOR"),
        pytest.param(Terminal(),    "5",   40, "",  True,  id="a very narrow one"),
    ],
)  # fmt: skip
def test_a_diagram_fits_the_terminal_and_its_colors(
    monkeypatch: pytest.MonkeyPatch, out: io.StringIO, columns: str, wide: int, no_color: str, colored: bool
) -> None:
    for name, value in (("COLUMNS", columns), ("NO_COLOR", no_color), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    assert (width(out), has_color(out)) == (wide, colored)
