"""A `FakeProvider` some milliseconds away, in a process of its own: `far SECONDS`.

It prints where it is, as JSON; for every line it is sent it says a new credential: `stale` or `valid`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rxauth import Credential, MemoryStore, OAuthCredentials
from rxauth.credentials import CredentialStore
from rxauth.testing import FakeProvider

_ROOT = Path(__file__).parents[2]


@contextmanager
def far(latency: float) -> Iterator[Far]:
    """The process, running."""
    command = [sys.executable, "-m", "tests.benchmarks.far", str(latency)]
    process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Far(process.stdin, process.stdout)
    finally:
        process.communicate()


class Far:
    def __init__(self, commands: IO[str], answers: IO[str]) -> None:
        self._commands = commands
        self._answers = answers
        told = json.loads(answers.readline())
        self.url: str = told["url"]
        self.token_url: str = told["token_url"]
        self.client_id: str = told["client_id"]

    def stale(self) -> Credential:
        """A credential that will be refused, and can be refreshed."""
        return self._ask("stale")

    def valid(self) -> Credential:
        """A credential that will be accepted."""
        return self._ask("valid")

    def _ask(self, kind: str) -> Credential:
        self._commands.write(f"{kind}\n")
        self._commands.flush()
        access, refresh = json.loads(self._answers.readline())
        return Credential(access, refresh_token=refresh)

    def credentials(self, store: CredentialStore | Credential) -> OAuthCredentials:
        kept = MemoryStore(store) if isinstance(store, Credential) else store
        return OAuthCredentials(kept, token_url=self.token_url, client_id=self.client_id)


def main(latency: float) -> None:
    with FakeProvider(latency=latency) as fake:
        told = {"url": fake.url, "token_url": fake.token_url, "client_id": fake.client_id}
        print(json.dumps(told), flush=True)
        for kind in sys.stdin:
            credential = fake.credential()
            if kind.strip() == "stale":
                fake.invalidate()
            print(json.dumps([credential.access_token, credential.refresh_token]), flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
