"""Run the command line inside the test's process, or as one of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
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
        **streams: io.StringIO | None,
    ) -> Outcome:
        """Call `main(args)` with streams of its own, or with the given `stdout` and `stderr`."""
        usual = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
        given: dict[str, Any] = {"stdin": io.TextIOWrapper(io.BytesIO(typed), "ascii"), "stdout": usual}
        given |= {"stderr": io.StringIO()} | streams
        with (
            patch.dict(os.environ, self.environ | dict(env or {}), clear=True),
            patch.multiple(sys, **given),
        ):
            code = main(args)
            for name, stream in given.items():
                if stream is None:
                    getattr(sys, name).close()
        written = usual.buffer.getvalue().decode("utf-8" if "--json" in args else encoding)
        return Outcome(code, written, given["stderr"].getvalue() if given["stderr"] else "")

    @contextlib.contextmanager
    def process(self, *args: str, code: str = "", env: Mapping[str, str] | None = None) -> Iterator[Process]:
        """Start `python -m rxauth`, or a program in its place; it is killed at the end."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KIMI", "PI_", "RXAUTH"))}
        with subprocess.Popen(
            [sys.executable, *(["-c", code] if code else ["-m", "rxauth"]), *args],
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
        pipe: IO[str] | None = self.popen.stderr if err else self.popen.stdout
        assert pipe is not None
        return pipe.read(characters) if characters else pipe.readline()

    def outcome(self, within: float = 60) -> Outcome:
        out, err = self.popen.communicate(timeout=within)
        return Outcome(self.popen.returncode, out, err)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Screen(Terminal):
    """Standard error with a person in front of it, who answers a line that begins with a word."""

    def __init__(self, **answers: Callable[[], object]) -> None:
        super().__init__()
        self._answers = answers

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


def own_file(cli: CommandLine, **entries: Any) -> Path:
    """Write our credential file."""
    return write(cli.home / "rxauth/credentials.json", entries)


def login_at(fake: FakeProvider, path: Path, *, name: str | None = None) -> Path:
    """Write a credential file with a login at a fake provider that is no preset."""
    login = entry(fake.credential(), token_url=fake.token_url, client_id=fake.client_id)
    return write(path, {name or fake.url: login})


def pi_file(home: Path, access: str = "of pi", refresh: str = "r", **more: Any) -> Path:
    login = {"type": "oauth", "access": access, "refresh": refresh, "expires": (time.time() + 900) * 1000, **more}
    return write(home / ".pi/agent/auth.json", {"other": {"type": "api_key", "key": "k"}, "kimi-coding": login})


def kimi_code_file(home: Path, access: str = "of kimi-code", refresh: str = "r", **more: Any) -> Path:
    return write(home / ".kimi-code/credentials/kimi-code.json", _kimi_login(access, refresh, **more))


def kimi_cli_file(home: Path, access: str = "of kimi-cli", refresh: str = "r", **more: Any) -> Path:
    return write(home / ".kimi/credentials/kimi-code.json", _kimi_login(access, refresh, **more))


def _kimi_login(access: str, refresh: str, **more: Any) -> dict[str, Any]:
    times = {"expires_at": time.time() + 900, "expires_in": 900}
    return {"access_token": access, "refresh_token": refresh, "scope": "", "token_type": "Bearer", **times, **more}
