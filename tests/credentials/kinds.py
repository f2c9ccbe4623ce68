"""The stores that keep a credential in a JSON file, in a table: each test of the family runs for all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rxauth.credentials import Credential, FileStore, KimiCliStore, KimiCodeStore, PiStore
from rxauth.credentials._stores._json_store import JsonFileStore

OLD = Credential("access-1", "refresh-1", 1_700_000_000, extra={"account_id": "ann"})
NEW = Credential("access-2", "refresh-2", 1_800_000_000, extra={"account_id": "ann"})

_RFC = {"scope": "", "token_type": "Bearer", "expires_in": 900, "account_id": "ann"}
_OWN = {
    "access_token": "access-1",
    "refresh_token": "refresh-1",
    "expires_at": 1_700_000_000,
    "token_type": "Bearer",
    "account_id": "ann",
}
_OWN["account_id"] = "ann"
_KIMI = {"refresh_token": "refresh-1", "access_token": "access-1", "expires_at": 1_700_000_000, **_RFC}
_PI = {"access": "access-1", "type": "oauth", "expires": 1_700_000_000_000, "refresh": "refresh-1", "account_id": "ann"}


class Kind(NamedTuple):
    """A store, and how its file looks."""

    name: str
    file: str  # below the directory
    lock: str
    login: dict[str, Any]
    key: str | None  # under which the login stands; None if it is the whole file
    build: Callable[..., JsonFileStore]

    def store(self, directory: Path, **options: Any) -> JsonFileStore:
        return self.build(directory, **options)

    def path(self, directory: Path) -> Path:
        return directory / self.file

    def write(
        self, directory: Path, *, indent: int | str | None = 2, end: str = "", access: Any = "access-1", **more: Any
    ) -> Path:
        """Write the file with OLD in it, or with another access token."""
        path = self.path(directory)
        path.parent.mkdir(parents=True, exist_ok=True)
        login = self.login | {"access" if "access" in self.login else "access_token": access}
        document = {**more, **login} if self.key is None else {**more, self.key: login}
        path.write_text(json.dumps(document, indent=indent) + end)
        path.chmod(0o600)
        return path

    def read(self, directory: Path) -> dict[str, Any]:
        """Return the login in the file."""
        document: dict[str, Any] = json.loads(self.path(directory).read_bytes())
        return document if self.key is None else document[self.key]

    def names(self, directory: Path) -> set[str]:
        """Return which files there are, but for the lock's."""
        locks = {self.lock, "oauth", "oauth/kimi-code"}
        found = (each.relative_to(directory).as_posix() for each in directory.rglob("*"))
        return {name for name in found if name not in locks and name != "credentials"}


def _own(directory: Path, **options: Any) -> FileStore:
    return FileStore(directory / "auth.json", "kimi", **options)


def _pi(directory: Path, **options: Any) -> PiStore:
    return PiStore(directory / "auth.json", **options)


KINDS = [
    Kind(
        "own",
        "auth.json",
        "auth.json.lock",
        _OWN,
        "kimi",
        lambda at, **more: FileStore(at / "auth.json", "kimi", **more),
    ),
    Kind("pi", "auth.json", "auth.json.lock", _PI, "kimi-coding", _pi),
    Kind("kimi-code", "credentials/kimi-code.json", "oauth/kimi-code.lock", _KIMI, None, KimiCodeStore),
    Kind("kimi-cli", "credentials/kimi-code.json", "credentials/kimi-code.lock", _KIMI, None, KimiCliStore),
]
OWN, PI, KIMI_CODE, KIMI_CLI = KINDS
OTHERS = KINDS[1:]


def tokens(credential: Credential | None) -> tuple[str, str | None] | None:
    """Return what tells OLD from NEW."""
    return None if credential is None else (credential.access_token, credential.refresh_token)


async def no_time(seconds: float) -> None:
    """A `sleep` that lets the others go on."""
    await asyncio.sleep(0)


class Waits:
    """A `sleep` that takes no time and does something at a given turn."""

    def __init__(self, turns: dict[int, Callable[[], object]] | None = None) -> None:
        self.turns = turns or {}
        self.count = 0

    async def __call__(self, seconds: float) -> None:
        self.count += 1
        self.turns.get(self.count, lambda: None)()
        assert self.count < 1000, "waited for ever"
        await asyncio.sleep(0)
