"""One login in several files: pi's, kimi-code's and ours."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials import (
    Credential,
    CredentialStore,
    FileStore,
    LinkedStore,
    MemoryStore,
)
from rxauth.credentials._stores._other_program import Notes
from rxauth.errors import StoreError
from tests.credentials.faulty_files import FaultyFiles
from tests.credentials.kinds import KIMI_CODE, OWN, PI, no_time

NOW = 1_700_000_000.0
KIMI = "https://auth.kimi.com/api/oauth/token"


class Files:
    """The three stores in one directory, and what is in them."""

    def __init__(self, directory: Path) -> None:
        self.own = OWN.store(directory / "own", sleep=no_time)
        self.pi = PI.store(directory / "pi", sleep=no_time)
        self.kimi = KIMI_CODE.store(directory / "kimi", sleep=no_time)
        self.all = [self.own, self.pi, self.kimi]
        self.directory = directory

    async def put(self, **logins: tuple[str, str | None, float | None]) -> None:
        """Store (access token, refresh token, seconds left) by store."""
        for name, (access, refresh, left) in logins.items():
            issuer = {"token_url": KIMI}
            expires_at = None if left is None else NOW + left
            await getattr(self, name).save(Credential(access, refresh, expires_at, extra=issuer))

    async def refresh_tokens(self) -> tuple[str | None, ...]:
        """Return the refresh token in each."""
        stored = [await store.load() for store in self.all]
        return tuple(None if each is None else each.refresh_token for each in stored)

    def linked(self, *stores: CredentialStore, **options: Any) -> LinkedStore:
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
    await files.put(**{name: login for name, login in {"own": own, "pi": pi, "kimi": kimi}.items() if login})
    store = files.linked()
    assert isinstance(store, CredentialStore)
    assert access(await store.load()) == chosen


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
        assert await unlocked(files.own), "another login's file is not even locked"
        await store.save(Credential("new", "new", NOW + 900))
    assert await files.own.load() == elsewhere


async def unlocked(store: Any) -> bool:
    entering = asyncio.create_task(_enter(store))
    for _ in range(20):
        await asyncio.sleep(0)
    free = entering.done()
    entering.cancel()
    await asyncio.gather(entering, return_exceptions=True)
    return free


async def _enter(store: Any) -> None:
    async with store.locked():
        pass


async def test_load_stays_with_the_first_account(files: Files) -> None:
    for store, account, left in ((files.own, "ann", 5), (files.pi, "bob", 99), (files.kimi, None, 9)):
        extra = {"token_url": KIMI} | ({"account_id": account} if account else {})
        await store.save(Credential(f"of {account}", f"r-{account}", NOW + left, extra=extra))
    linked = files.linked()
    assert access(await linked.load()) == "of None", "may be ann's"
    linked.mark_dead(Credential("x", "r-None"))
    assert access(await linked.load()) == "of ann"
    linked.mark_dead(Credential("x", "r-ann"))
    assert access(await linked.load()) == "of bob"


async def test_load_is_not_hidden_by_a_file_that_cannot_be_read(files: Files) -> None:
    await files.put(kimi=("k", "r", 9))
    OWN.write(files.directory / "own").write_text("{")
    assert access(await files.linked().load()) == "k"
    await files.kimi.delete()
    with pytest.raises(StoreError, match="no JSON object"):
        await files.linked().load()


async def test_a_refused_copy_hides_no_other(files: Files) -> None:
    await files.put(own=("o", "r", 9), pi=("p", "dead", 99), kimi=("k", "dead", 99))
    store = files.linked()
    found = await store.load()
    assert found is not None
    store.mark_dead(found)
    assert access(await store.load()) == "o"
    store.mark_dead(Credential("o", "r"))
    assert access(await store.load()) == "o", "all are dead: the last one again, so that no other is taken for new"


# Saving --------------------------------------------------------------------------------------------------------------


async def test_save_replaces_every_copy_of_the_spent_token(files: Files) -> None:
    await files.put(own=("o", "other", 5), pi=("p", "spent", 9), kimi=("k", "spent", 7))
    async with files.linked().locked():
        pass
    await files.linked().save(Credential("new", "r-new", NOW + 900))
    assert await files.refresh_tokens() == ("other", "r-new", "r-new")
    assert access(await files.linked().load()) == "new"


async def test_save_replaces_the_copy_that_was_loaded_last(files: Files) -> None:
    """A program that ignores the locks has stored a newer one meanwhile."""
    await files.put(own=("o", "r", 5), pi=("p", "r", 9))
    store = files.linked()
    async with store.locked():
        await files.put(pi=("newer", "r2", 99))
        assert access(await store.load()) == "newer"
        await store.save(Credential("new", "r3", NOW + 900))
    assert await files.refresh_tokens() == ("r", "r3", None)


def test_notes_of_old_logins_are_forgotten(rxauth_home: Path) -> None:
    notes = Notes()
    for number in range(205):
        notes.put(f"{number}", next="x")
        os.utime(rxauth_home / "logins" / f"{number}", (number, number))
    notes.forget_old()
    assert len(list((rxauth_home / "logins").iterdir())) == 200
    assert (notes.of("4"), notes.of("5")) == ({}, {"next": "x"})


async def test_save_keeps_each_files_own_fields(files: Files) -> None:
    spent = {"token_url": KIMI, "expires_in": 600}
    await files.pi.save(Credential("a", "r", NOW + 1, extra=spent | {"models": [1], "account_id": "ann"}))
    await files.kimi.save(Credential("a", "r", NOW + 2, extra=spent | {"scope_of": "k"}))
    renewed = Credential("b", "s", NOW + 900, extra={"token_url": KIMI, "expires_in": 900, "scope_of": "k", "new": 1})
    await files.linked().save(renewed)
    pi, kimi = PI.read(files.directory / "pi"), KIMI_CODE.read(files.directory / "kimi")
    assert (pi["models"], pi["new"], pi["expires_in"], "scope_of" in pi) == ([1], 1, 900, False)
    assert (kimi["scope_of"], kimi["new"], kimi["expires_in"], "models" in kimi) == ("k", 1, 900, False)
    assert "account_id" not in pi, "of the login before"


async def test_a_first_login_is_saved_in_the_first_store(files: Files) -> None:
    await files.linked().check_can_save()
    await files.linked().save(Credential("a", "r", NOW + 9))
    assert await files.refresh_tokens() == ("r", None, None)


async def test_delete_removes_every_copy_of_the_login(files: Files) -> None:
    assert await files.linked().delete() is False
    await files.put(own=("o", "other", 5), pi=("p", "r", 9), kimi=("k", "r", 7))
    assert await files.linked().delete() is True
    assert await files.refresh_tokens() == ("other", None, None)


async def test_a_copy_that_a_killed_process_left_is_replaced_later(files: Files) -> None:
    """It was killed between the two files: pi still has a token that is spent. Its line leads to the living one."""
    await files.put(pi=("p", "r1", 9), kimi=("k", "r1", 9))

    class Killed(Exception):
        pass

    class Dies(FaultyFiles):
        def replace(self, source: str, target: str) -> None:
            raise Killed

    dying = KIMI_CODE.store(files.directory / "kimi", files=Dies())
    with pytest.raises(Killed):
        await files.linked(files.pi, dying).save(Credential("new", "r2", NOW + 900))
    assert await files.refresh_tokens() == (None, "r2", "r1")
    assert access(await files.linked().load()) == "new"
    await files.linked().save(Credential("newer", "r3", NOW + 1800))
    assert await files.refresh_tokens() == (None, "r3", "r3")


async def test_a_spent_copy_is_not_chosen_though_it_seems_newer(files: Files) -> None:
    await files.put(pi=("p", "r1", 9), kimi=("k", "r1", 9))
    await files.linked().save(Credential("new", "r2", NOW + 900))
    await files.put(pi=("p", "r1", 9999))
    assert access(await files.linked().load()) == "new"


# Before the token is spent -------------------------------------------------------------------------------------------


class Full(FaultyFiles):
    """A full disk."""

    def pwrite(self, fd: int, data: Any, offset: int) -> int:
        raise OSError(28, "No space left on device")


async def test_check_can_save_asks_for_one_file_at_least(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    await files.put(pi=("p", "r", 9), kimi=("k", "r", 7))
    full = KIMI_CODE.store(files.directory / "kimi", files=Full())
    await files.linked(files.pi, full).check_can_save()
    assert [message for message in caplog.messages if "disk is full" in message] == caplog.messages[-1:]
    both_full = files.linked(PI.store(files.directory / "pi", files=Full()), full)
    with pytest.raises(StoreError, match=r"the disk is full\. Free some space"):
        await both_full.check_can_save()
    await files.linked(files.pi, full).save(Credential("new", "r-new", NOW + 900))
    assert await files.refresh_tokens() == (None, "r-new", "r")
    assert "keeps a copy of the login that is spent: log in there again" in caplog.messages[-1]
    with pytest.raises(StoreError, match="the disk is full"):
        await both_full.save(Credential("newer", "r-newer", NOW + 900))


async def test_retry_at_is_kept_with_every_copy(files: Files) -> None:
    assert await files.linked().load_retry_at() is None
    await files.linked().save_retry_at(NOW)
    await files.put(own=("o", "r", 5), kimi=("k", "r", 9))
    await files.linked().save_retry_at(NOW + 60)
    assert await files.own.load_retry_at() == await files.kimi.load_retry_at() == NOW + 60  # type: ignore[attr-defined]
    await files.kimi.save_retry_at(NOW + 90)  # type: ignore[attr-defined]
    assert await files.linked().load_retry_at() == NOW + 90
    await files.linked().save_retry_at(None)
    assert await files.linked().load_retry_at() is None
    assert await LinkedStore([Bare(Credential("a"))]).load_retry_at() is None


class Bare:
    """A store of a user, with the methods that every store has."""

    def __init__(self, credential: Credential) -> None:
        self.inner = MemoryStore(credential)
        self.load, self.save, self.delete, self.locked = (
            self.inner.load,
            self.inner.save,
            self.inner.delete,
            self.inner.locked,
        )

    def describe(self) -> str:
        return "a bare store"


# Locks ---------------------------------------------------------------------------------------------------------------


async def test_all_locks_of_the_login_are_held(files: Files) -> None:
    await files.put(own=("o", "other", 5), pi=("p", "r", 9), kimi=("k", "r", 7))
    store = files.linked()
    async with store.locked():
        assert await asyncio.gather(*map(unlocked, Files(files.directory).all)) == [False, False, False]
        await store.save(Credential("new", "r-new", NOW + 900))
    assert await files.refresh_tokens() == ("other", "r-new", "r-new")


async def test_no_order_of_the_stores_ends_in_a_deadlock(files: Files) -> None:
    await files.put(own=("o", "r", 5), pi=("p", "r", 9), kimi=("k", "r", 7))

    async def use(order: tuple[Any, ...]) -> None:
        for _ in range(3):
            async with files.linked(*order, lock_timeout=60).locked():
                await asyncio.sleep(0)

    orders = list(itertools.permutations(files.all))
    threads = [threading.Thread(target=lambda: asyncio.run(use(orders[5])), daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    async with asyncio.timeout(30):
        await asyncio.gather(*(use(order) for order in orders))
        for thread in threads:
            await asyncio.to_thread(thread.join)


async def test_two_keys_of_one_file_have_one_lock(tmp_path: Path) -> None:
    one, other = FileStore(tmp_path / "a.json", "one"), FileStore(tmp_path / "a.json", "other")
    for store in (one, other):
        await store.save(Credential("a", "r", NOW + 9))
    async with asyncio.timeout(5):
        await LinkedStore([one, other], clock=lambda: NOW).save(Credential("b", "s", NOW + 99))
    assert access(await one.load()) == access(await other.load()) == "b"


@pytest.mark.looptime
async def test_a_lock_that_is_not_had_in_time_costs_its_file_alone(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    await files.put(own=("o", "r", 5), pi=("p", "r", 9), kimi=("k", "r", 7))
    (files.directory / "pi" / "auth.json.lock").mkdir()
    pi = PI.store(files.directory / "pi")
    loop = asyncio.get_running_loop()
    before = loop.time()
    store = files.linked(files.own, pi, files.kimi)
    async with store.locked():
        assert 10 <= loop.time() - before < 10.5
        await store.save(Credential("new", "r-new", NOW + 900))
    assert await files.refresh_tokens() == ("r-new", "r", "r-new")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "pi/auth.json could not be acquired (it was held by another program for 10 s)" in caplog.text


@pytest.mark.looptime
async def test_retry_at_waits_for_no_lock_that_was_not_had(files: Files) -> None:
    await files.put(own=("o", "r", 5), kimi=("k", "r", 9))
    async with OWN.store(files.directory / "own").locked():
        store = files.linked(OWN.store(files.directory / "own"), files.kimi)
        async with store.locked(), asyncio.timeout(1):
            await store.save_retry_at(NOW + 60)
    assert await files.own.load_retry_at() is None  # type: ignore[attr-defined]
    assert await files.linked().load_retry_at() == NOW + 60


@pytest.mark.looptime
async def test_without_a_lock_of_the_login_nothing_is_spent(files: Files) -> None:
    """Another login's lock is no substitute."""
    await files.put(own=("o", "other", 5), pi=("p", "r", 9))
    (files.directory / "pi" / "auth.json.lock").mkdir()
    with pytest.raises(TimeoutError):
        async with files.linked(files.own, PI.store(files.directory / "pi")).locked():
            pytest.fail("it got in")
    assert await unlocked(files.own)


async def test_a_lock_that_can_never_be_had_is_the_stores_error(files: Files) -> None:
    await files.put(pi=("p", "r", 5))
    lock = files.directory / "pi" / "auth.json.lock"
    lock.touch()
    os.utime(lock, (1, 1))
    with pytest.raises(StoreError, match="cannot be had"):
        async with files.linked().locked():
            pytest.fail("it got in")


def test_no_store_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one store"):
        LinkedStore([])
