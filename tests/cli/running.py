"""Run the command line inside the test's process, or as one of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rxauth.cli import main
from rxauth.credentials import Credential
from rxauth.providers import KIMI
from rxauth.testing import FakeProvider

assert KIMI.oauth is not None
CLIENT_ID = KIMI.oauth.client_id
KEY = "the-right-key"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line on standard error."""
        assert (self.err.count("\n"), self.err[:8]) == (1, "rxauth: "), self.err
        return self.err


class CommandLine:
    """The command line of a person with this home directory and these variables."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {"HOME": str(home), "RXAUTH_HOME": str(home / "rxauth")}
        self.file = home / "rxauth/credentials.json"

    def at(self, fake: FakeProvider) -> CommandLine:
        """Let Kimi's variables name a fake provider."""
        self.environ |= {"KIMI_CODE_OAUTH_HOST": fake.url, "KIMI_CODE_BASE_URL": fake.url + "/coding"}
        return self

    def __call__(
        self,
        *args: str,
        typed: bytes = b"",
        encoding: str = "utf-8",
        env: Mapping[str, str] | None = None,
        from_process: bool = False,
        **streams: io.StringIO | None,
    ) -> Outcome:
        """Call `main` with these arguments, or with those of one line as a person types it, variables included.

        The command gets streams of its own, or the given `stdout` and `stderr`. It does not wait. `from_process`: it
        takes its arguments from the process, and so began when the process did.
        """
        variables = dict(env or {})
        words = shlex.split(args[0]) if len(args) == 1 else list(args)
        while words and re.match("[A-Z_]+=", words[0]):
            name, _, variables[name] = words.pop(0).partition("=")
        usual = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
        given: dict[str, Any] = {"stdin": io.TextIOWrapper(io.BytesIO(typed), "ascii"), "stdout": usual}
        given |= {"stderr": io.StringIO(), "argv": ["rxauth", *words]} | streams
        with patch.dict(os.environ, self.environ | variables, clear=True), patch.multiple(sys, **given):
            code = main(None if from_process else words, pace=0)
            for name, stream in given.items():
                if stream is None:
                    getattr(sys, name).close()
        written = usual.buffer.getvalue().decode("utf-8" if "--json" in words else encoding)
        return Outcome(code, written, given["stderr"].getvalue() if given["stderr"] else "")

    @contextlib.contextmanager
    def process(self, *args: str, code: str = "", env: Mapping[str, str] | None = None) -> Iterator[Process]:
        """Start the installed command, or a program in its place; it is killed at the end."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KIMI", "PI_", "RXAUTH"))}
        with subprocess.Popen(
            [*([sys.executable, "-c", code] if code else [Path(sys.executable).with_name("rxauth")]), *args],
            env=kept | self.environ | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield Process(process)
            finally:
                process.kill()


@dataclass(frozen=True)
class Process:
    popen: subprocess.Popen[str]

    def read(self, characters: int = 0, *, err: bool = False) -> str:
        """Read that many characters, or a line."""
        pipe = self.popen.stderr if err else self.popen.stdout
        assert pipe is not None
        return pipe.read(characters) if characters else pipe.readline()

    def outcome(self, within: float = 60) -> Outcome:
        out, err = self.popen.communicate(timeout=within)
        return Outcome(self.popen.returncode, out, err)


class Terminal(io.StringIO):
    """A terminal with a person in front of it, who answers a line that begins with a word."""

    def __init__(self, **answers: Callable[[], object]) -> None:
        super().__init__()
        self._answers = answers

    def isatty(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        for line in text.splitlines():
            if answer := self._answers.get(line.split(" ")[0]):
                answer()
        return super().write(text)


def entry(credential: Credential, **more: Any) -> dict[str, Any]:
    return {"access_token": credential.access_token, "refresh_token": credential.refresh_token, **more}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(0o600)
    return path


def login_at(fake: FakeProvider, path: Path, *, name: str | None = None) -> Path:
    """Write a credential file with a login at a fake provider that is no preset."""
    login = entry(fake.credential(), token_url=fake.token_url, client_id=fake.client_id)
    return write(path, {name or fake.url: login})
