"""One login in several files: pi's, kimi-code's and ours."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials import Credential, FileStore, LinkedStore, MemoryStore
from rxauth.credentials._stores._other_program import Notes
from rxauth.errors import LoginRequired, StoreError
from tests.credentials.faulty_files import FaultyFiles, Full
from tests.credentials.kinds import KIMI_CODE, OWN, PI, Kind, is_free, no_time
from tests.credentials.oauth import rejected, source
from tests.credentials.token_server import TokenServer

NOW = 1_700_000_000.0
KIMI = "https://auth.kimi.com/api/oauth/token"
NEW = Credential("new", "r-new", NOW + 900)


class Files:
    """The three stores in one directory, and what is in them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.own, self.pi, self.kimi = self.all = [self.store(kind) for kind in (OWN, PI, KIMI_CODE)]

    def store(self, kind: Kind, **options: Any) -> Any:
        return kind.store(self.directory / kind.name, **{"sleep": no_time} | options)

    async def put(self, **logins: tuple[str, str | None, float | None] | None) -> None:
        """Store (access token, refresh token, seconds left) by store."""
        for name, login in logins.items():
            if login is not None:
                access, refresh, left = login
                expires_at = None if left is None else NOW + left
                await getattr(self, name).save(Credential(access, refresh, expires_at, extra={"token_url": KIMI}))

    async def refresh_tokens(self) -> tuple[str | None, ...]:
        """Return the refresh token in each."""
        stored = [await store.load() for store in self.all]
        return tuple(None if each is None else each.refresh_token for each in stored)

    def linked(self, *stores: Any, **options: Any) -> LinkedStore:
        defaults: dict[str, Any] = {"clock": lambda: NOW, "token_url": KIMI}
        return LinkedStore(stores or self.all, **defaults | options)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def access(credential: Credential | None) -> str | None:
    return None if credential is None else credential.access_token


# Which copy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "pi", "kimi", "chosen"),
    [
        pytest.param(None, None, None, None, id="nothing"),
        pytest.param(None, ("p", "r", 9), None, "p", id="the only one"),
        pytest.param(("o", "r", 5), ("p", "r", 9), ("k", "r", 7), "p", id="the newest"),
        pytest.param(("o", "r", 5), ("p", "s", 5), None, "o", id="the first of two that are as new"),
        pytest.param(("o", "r", -1), ("p", "s", -9), ("k", "t", 1), "k", id="one that lives"),
        pytest.param(("o", "r", -5), ("p", "s", -1), None, "p", id="the newest that has expired"),
        pytest.param(("o", None, -1), ("p", "s", -9), None, "p", id="one that can be refreshed"),
        pytest.param(("o", "r", -1), ("p", "s", None), None, "p", id="one of unknown lifetime lives"),
        pytest.param(("o", "r", None), ("p", "s", 5), None, "p", id="a known lifetime before an unknown one"),
    ],
)
async def test_load_returns_the_newest_living_copy(files: Files, own: Any, pi: Any, kimi: Any, chosen: Any) -> None:
    await files.put(own=own, pi=pi, kimi=kimi)
    assert access(await files.linked().load()) == chosen


async def test_load_leaves_out_what_another_endpoint_issued(files: Files) -> None:
    elsewhere = Credential("e", "r2", NOW + 99, extra={"token_url": "https://test.example/token"})
    await files.put(kimi=("k", "r", 9))
    await files.own.save(elsewhere)
    assert access(await files.linked().load()) == "k"
    assert access(await files.linked(token_url="https://TEST.example:443/token").load()) == "e"
    assert access(await files.linked(token_url=None).load()) == "e"
    assert await files.linked(files.own).load() is None
    store = files.linked()
    async with store.locked():
        assert await is_free(files.own), "another login's file is not even locked"
        await store.save(NEW)
    assert await files.own.load() == elsewhere


async def test_load_stays_with_the_first_account(files: Files) -> None:
    for store, account, left in ((files.own, "ann", 5), (files.pi, "bob", 99), (files.kimi, None, 9)):
        extra = {"token_url": KIMI} | ({"account_id": account} if account else {})
        await store.save(Credential(f"of {account}", f"r-{account}", NOW + left, extra=extra))
    linked = files.linked()
    assert access(await linked.load()) == "of None", "may be ann's"
    for dead, next_one in (("r-None", "of ann"), ("r-ann", "of bob"), ("r-bob", "of bob")):
        linked.mark_dead(Credential("x", dead))
        assert access(await linked.load()) == next_one, "the last one again: no other is taken for new"


async def test_a_file_that_cannot_be_read_hides_no_other(files: Files) -> None:
    await files.put(kimi=("k", "r", 9))
    OWN.write(files.directory / "own").write_text("{")
    assert access(await files.linked().load()) == "k"
    await files.kimi.delete()
    with pytest.raises(StoreError, match="no JSON object"):
        await files.linked().load()


# Saving --------------------------------------------------------------------------------------------------------------


async def test_save_replaces_every_copy_of_the_spent_token(files: Files) -> None:
    await files.linked().check_can_save()
    await files.linked().save(Credential("a", "first", NOW + 9))
    assert await files.refresh_tokens() == ("first", None, None)
    await files.put(own=("o", "other", 5), pi=("p", "spent", 9), kimi=("k", "spent", 7))
    store = files.linked()
    async with store.locked():
        assert [await is_free(each) for each in Files(files.directory).all] == [False] * 3, "all locks are held"
        await store.save(NEW)
    assert await files.refresh_tokens() == ("other", "r-new", "r-new")
    await files.put(pi=("p", "spent", 9999))
    assert access(await files.linked().load()) == "new", "not the spent copy, though it seems newer"
    assert await files.linked().delete() is True
    assert (await files.refresh_tokens())[0] == "other"


async def test_save_replaces_the_copy_that_was_loaded_last(files: Files) -> None:
    """A program that ignores the locks has stored a newer one meanwhile."""
    await files.put(own=("o", "r", 5), pi=("p", "r", 9))
    store = files.linked()
    async with store.locked():
        await files.put(pi=("newer", "r2", 99))
        assert access(await store.load()) == "newer"
        await store.save(NEW)
    assert await files.refresh_tokens() == ("r", "r-new", None)


async def test_save_keeps_each_files_own_fields(files: Files) -> None:
    spent = {"token_url": KIMI, "expires_in": 600}
    await files.pi.save(Credential("a", "r", NOW + 1, extra=spent | {"models": [1], "account_id": "ann"}))
    await files.kimi.save(Credential("a", "r", NOW + 2, extra=spent | {"scope_of": "k"}))
    renewed = Credential("b", "s", NOW + 900, extra={"token_url": KIMI, "expires_in": 900, "scope_of": "k", "new": 1})
    await files.linked().save(renewed)
    pi, kimi = PI.read(files.directory / "pi"), KIMI_CODE.read(files.directory / "kimi-code")
    assert (pi["models"], pi["new"], pi["expires_in"], "scope_of" in pi) == ([1], 1, 900, False)
    assert (kimi["scope_of"], kimi["new"], kimi["expires_in"], "models" in kimi) == ("k", 1, 900, False)
    assert "account_id" not in pi, "of the login before"


async def test_a_copy_that_a_killed_process_left_is_replaced_later(files: Files) -> None:
    """It was killed between the two files: pi still has a token that is spent. Its line leads to the living one."""
    await files.put(pi=("p", "r1", 9), kimi=("k", "r1", 9))

    class Killed(Exception):
        pass

    class Dies(FaultyFiles):
        def replace(self, source: str, target: str) -> None:
            raise Killed

    with pytest.raises(Killed):
        await files.linked(files.pi, files.store(KIMI_CODE, files=Dies())).save(NEW)
    assert await files.refresh_tokens() == (None, "r-new", "r1")
    assert access(await files.linked().load()) == "new"
    await files.linked().save(Credential("newer", "r3", NOW + 1800))
    assert await files.refresh_tokens() == (None, "r3", "r3")


def test_notes_of_old_logins_are_forgotten(rxauth_home: Path) -> None:
    notes = Notes()
    for number in range(205):
        notes.put(f"{number}", next="x")
        os.utime(rxauth_home / "logins" / f"{number}", (number, number))
    notes.forget_old()
    assert len(list((rxauth_home / "logins").iterdir())) == 200
    assert (notes.of("4"), notes.of("5")) == ({}, {"next": "x"})


async def test_one_file_that_can_be_written_is_enough(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    await files.put(pi=("p", "r", 9), kimi=("k", "r", 7))
    full = files.store(KIMI_CODE, files=Full())
    await files.linked(files.pi, full).check_can_save()
    assert [message for message in caplog.messages if "disk is full" in message] == caplog.messages[-1:]
    both_full = files.linked(files.store(PI, files=Full()), full)
    for write in (both_full.check_can_save(), both_full.save(NEW)):
        with pytest.raises(StoreError, match=r"the disk is full\. Free some space"):
            await write
    await files.linked(files.pi, full).save(NEW)
    assert await files.refresh_tokens() == (None, "r-new", "r")
    assert "keeps a copy of the login that is spent: log in there again" in caplog.messages[-1]


async def test_retry_at_is_kept_with_every_copy(files: Files) -> None:
    await files.linked().save_retry_at(NOW)
    await files.put(own=("o", "r", 5), kimi=("k", "r", 9))
    await files.linked().save_retry_at(NOW + 60)
    assert await files.own.load_retry_at() == await files.kimi.load_retry_at() == NOW + 60
    await files.kimi.save_retry_at(NOW + 90)
    assert await files.linked().load_retry_at() == NOW + 90


async def test_a_users_store_may_lack_what_is_optional() -> None:
    class Bare:
        def __init__(self) -> None:
            for name in ("load", "save", "delete", "locked", "describe"):
                setattr(self, name, getattr(MemoryStore(Credential("a")), name))

    store = LinkedStore([Bare()])  # type: ignore[list-item]
    assert await store.load_retry_at() is None
    await store.check_can_save()
    with pytest.raises(ValueError, match="at least one store"):
        LinkedStore([])


# Locks ---------------------------------------------------------------------------------------------------------------


async def test_two_keys_of_one_file_have_one_lock(tmp_path: Path) -> None:
    one, other = FileStore(tmp_path / "a.json", "one"), FileStore(tmp_path / "a.json", "other")
    for store in (one, other):
        await store.save(Credential("a", "r", NOW + 9))
    async with asyncio.timeout(5):
        await LinkedStore([one, other], clock=lambda: NOW).save(NEW)
    assert access(await one.load()) == access(await other.load()) == "new"


@pytest.mark.looptime
async def test_a_lock_that_is_not_had_in_time_costs_its_file_alone(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    await files.put(own=("o", "r", 5), pi=("p", "r", 9), kimi=("k", "r", 7))
    loop = asyncio.get_running_loop()
    before = loop.time()
    store = files.linked(OWN.store(files.directory / "own"), files.pi, files.kimi)
    async with files.own.locked(), store.locked():
        assert 10 <= loop.time() - before < 10.5
        async with asyncio.timeout(1):
            await store.save_retry_at(NOW + 60)
            assert await files.own.load_retry_at() is None
            await store.save(NEW)
    assert await files.refresh_tokens() == ("r", "r-new", "r-new")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert 'own/auth.json ("kimi") could not be acquired (it was held by another program for 10 s)' in caplog.text


@pytest.mark.looptime
async def test_without_a_lock_of_the_login_nothing_is_spent(files: Files) -> None:
    """Another login's lock is no substitute."""
    await files.put(own=("o", "other", 5), pi=("p", "r", 9))
    lock = files.directory / "pi" / "auth.json.lock"
    lock.mkdir()
    with pytest.raises(TimeoutError):
        async with files.linked(files.own, PI.store(files.directory / "pi")).locked():
            pytest.fail("it got in")
    assert await is_free(files.own)
    lock.rmdir()
    lock.touch()
    os.utime(lock, (1, 1))
    with pytest.raises(StoreError, match="cannot be had"):
        async with files.linked().locked():
            pytest.fail("it got in")


# A refresh, against a token endpoint ---------------------------------------------------------------------------------


async def test_a_dead_copy_costs_one_request_and_no_login(server: TokenServer, files: Files) -> None:
    living, dead = server.credential(), Credential("dead", "dead")
    await files.own.save(dead)
    await files.pi.save(living)
    ours = source(server, LinkedStore([files.own, files.pi]), sleep=no_time)
    assert access(await ours.refresh(rejected(dead))) == living.access_token
    assert (server.reused, await files.own.load()) == ([], dead)


async def test_all_copies_dead_asks_for_a_login(server: TokenServer, files: Files) -> None:
    for number, store in enumerate((files.own, files.pi)):
        await store.save(Credential(f"dead-{number}", f"dead-{number}"))
    ours = source(server, LinkedStore([files.own, files.pi]), sleep=no_time)
    other = await ours.refresh(rejected(Credential("dead-0")))
    assert other is not None
    assert other.access_token == "dead-1", "its access token may still be good"
    for _ in range(3):
        with pytest.raises(LoginRequired):
            await ours.refresh(rejected(other))
    assert len(server.requests) == 2
