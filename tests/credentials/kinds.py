"""The stores in a table: each test of what all of them promise runs for all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rxauth.credentials import Credential, FileStore, KimiCliStore, KimiCodeStore, PiStore

OLD = Credential("access-1", "refresh-1", 1_700_000_000, extra={"account_id": "ann"})
NEW = Credential("access-2", "refresh-2", 1_800_000_000, extra={"account_id": "ann"})

_LOGIN = {"access_token": "access-1", "refresh_token": "refresh-1", "expires_at": 1_700_000_000}
_KIMI = _LOGIN | {"scope": "", "token_type": "Bearer", "expires_in": 900, "account_id": "ann"}
_OWN = _LOGIN | {"token_type": "Bearer", "account_id": "ann"}
_PI = {"access": "access-1", "type": "oauth", "expires": 1_700_000_000_000, "refresh": "refresh-1", "account_id": "ann"}


class Kind(NamedTuple):
    """A store that keeps a credential in a JSON file, and how its file looks."""

    name: str
    file: str  # below the directory
    lock: str
    login: dict[str, Any]
    key: str | None  # under which the login stands; None if it is the whole file
    build: Callable[..., Any]

    def store(self, directory: Path, **options: Any) -> Any:
        return self.build(directory, **options)

    def path(self, directory: Path) -> Path:
        return directory / self.file

    def write(self, directory: Path, *, access: Any = "access-1", **more: Any) -> Path:
        """Write the file with OLD in it, or with another access token."""
        path = self.path(directory)
        path.parent.mkdir(parents=True, exist_ok=True)
        login = self.login | {"access" if "access" in self.login else "access_token": access}
        document = {**more, **login} if self.key is None else {**more, self.key: login}
        path.write_text(json.dumps(document, indent=2))
        path.chmod(0o600)
        return path

    def read(self, directory: Path) -> dict[str, Any]:
        """Return the login in the file."""
        document: dict[str, Any] = json.loads(self.path(directory).read_bytes())
        return document if self.key is None else document[self.key]

    def names(self, directory: Path) -> set[str]:
        """Return which files there are, but for the lock's."""
        found = {each.relative_to(directory).as_posix() for each in directory.rglob("*")}
        return found - {self.lock, "oauth", "oauth/kimi-code", "credentials"}


OWN = Kind("own", "auth.json", "auth.json.lock", _OWN, "kimi", lambda at, **o: FileStore(at / "auth.json", "kimi", **o))
PI = Kind("pi", "auth.json", "auth.json.lock", _PI, "kimi-coding", lambda at, **o: PiStore(at / "auth.json", **o))
_FILE = "credentials/kimi-code.json"
KIMI_CODE = Kind("kimi-code", _FILE, "oauth/kimi-code.lock", _KIMI, None, KimiCodeStore)
KIMI_CLI = Kind("kimi-cli", _FILE, "credentials/kimi-code.lock", _KIMI, None, KimiCliStore)
KINDS = [OWN, PI, KIMI_CODE, KIMI_CLI]
OTHERS = KINDS[1:]


def tokens(credential: Credential | None) -> tuple[str, str | None] | None:
    """Return what tells OLD from NEW."""
    return None if credential is None else (credential.access_token, credential.refresh_token)


async def turns(number: int) -> None:
    """Let the loop go round."""
    for _ in range(number):
        await asyncio.sleep(0)


async def is_free(store: Any, *, within: float = 0.05) -> bool:
    """Return whether the store's lock can be had in that time."""
    try:
        async with asyncio.timeout(within), store.locked():
            return True
    except TimeoutError:
        return False


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


async def count(store: Any, times: int) -> None:
    """Read a number and write the next one, under the lock; every lost update is missing at the end."""
    for _ in range(times):
        async with store.locked():
            loaded = await store.load()
            before = 0 if loaded is None else loaded.extra.get("n", 0)
            await asyncio.sleep(0)
            await store.save(Credential("a", extra={"n": before + 1}))


async def counted(store: Any) -> int:
    """Return that number."""
    loaded = await store.load()
    assert loaded is not None
    number: int = loaded.extra["n"]
    return number
