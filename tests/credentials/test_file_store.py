"""The file store, on real files and real locks."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials import Credential, CredentialStore, FileStore
from rxauth.errors import StoreError
from tests.credentials.faulty_files import AnotherUser, FaultyFiles, ShortWrites
from tests.credentials.tracebacks import told_with_variables

OLD = Credential("old-access", "old-refresh", 1_700_000_000.5, scope="read", extra={"account_id": "ann", "n": 1})
NEW = Credential("new-access", "new-refresh", 1_800_000_000.0)
LATER = Credential("later-access", "later-refresh", 1_800_000_000.0, scope="read", extra=OLD.extra)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "auth.json"


def store(path: Path, **options: Any) -> FileStore:
    return FileStore(path, "kimi", **options)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files_in(directory: Path) -> set[str]:
    return {each.name for each in directory.iterdir()}


# What it keeps -------------------------------------------------------------------------------------------------------


async def test_what_is_saved_is_loaded(path: Path) -> None:
    assert await store(path).load() is None
    for credential in (OLD, NEW, Credential("bare")):
        await store(path).save(credential)
        loaded = await store(path).load()
        assert loaded is not None
        assert (loaded.access_token, loaded.refresh_token) == (credential.access_token, credential.refresh_token)
        assert (loaded.expires_at, loaded.scope) == (credential.expires_at, credential.scope)


async def test_the_file_has_the_names_of_rfc_6749(path: Path) -> None:
    await store(path).save(OLD)
    assert json.loads(path.read_text()) == {
        "kimi": {
            "access_token": "old-access",
            "refresh_token": "old-refresh",
            "expires_at": 1_700_000_000.5,
            "token_type": "Bearer",
            "scope": "read",
            "account_id": "ann",
            "n": 1,
        }
    }


async def test_other_keys_and_unknown_fields_stay_as_they_are_written(path: Path) -> None:
    theirs = '{"huge": 1e400, "exact": 1.10, "big": 123456789012345678901234567890, "twice": "\\u00e9é"}'
    path.write_text(f'{{"theirs": {theirs}, "kimi": {{"access_token": "a", "unknown": [1.0, {{"x": null}}]}}, "n": 1}}')
    await store(path).save(NEW)
    content = path.read_text()
    for lexeme in ("1e400", "1.10", "123456789012345678901234567890", '"\\u00e9é"'):
        assert lexeme in content
    assert list(json.loads(content)) == ["theirs", "kimi", "n"]
    assert json.loads(content)["kimi"]["unknown"] == [1.0, {"x": None}]


async def test_an_extra_field_cannot_take_the_place_of_a_token(path: Path) -> None:
    await store(path).save(Credential("a", "r", extra={"access_token": "x", "refresh_token": "y", "scope": "z"}))
    assert await store(path).load() == Credential("a", "r")


async def test_a_new_login_does_not_inherit_the_old_ones_account(path: Path) -> None:
    await store(path).save(Credential("a", "r", 1.0, scope="s", extra={"account_id": "ann", "id_token": "i", "x": 1}))
    await store(path).save(Credential("b"))
    loaded = await store(path).load()
    assert loaded is not None
    assert (loaded.refresh_token, loaded.expires_at, loaded.scope, dict(loaded.extra)) == (None, None, None, {"x": 1})


async def test_two_keys_share_a_file(path: Path) -> None:
    one, other = FileStore(path, "one"), FileStore(path, "other")
    await asyncio.gather(one.save(OLD), other.save(NEW))
    assert await one.load() == OLD
    assert (await other.load()) == NEW


async def test_delete_removes_its_key_alone(path: Path) -> None:
    path.write_text('{"kimi": {"access_token": "a"}, "other": {"b": 1}}')
    assert await store(path).delete() is True
    assert json.loads(path.read_text()) == {"other": {"b": 1}}
    assert await store(path).delete() is False
    assert await store(path).load() is None


async def test_delete_of_nothing_makes_no_file(path: Path) -> None:
    assert await store(path).delete() is False
    assert not path.exists()


async def test_a_system_that_writes_byte_by_byte_is_no_obstacle(path: Path) -> None:
    short = store(path, files=ShortWrites())
    await short.save(OLD)
    assert await short.load() == OLD


@pytest.mark.parametrize(
    ("expires_at", "loaded"),
    [("1.5", 1.5), ('"1.5"', 1.5), ("true", None), ("null", None), ('"soon"', None), ("[]", None), ("1e400", None)],
)
async def test_an_expiry_that_is_none_is_unknown(path: Path, expires_at: str, loaded: float | None) -> None:
    path.write_text(f'{{"kimi": {{"access_token": "a", "expires_at": {expires_at}}}}}')
    credential = await store(path).load()
    assert credential is not None
    assert credential.expires_at == loaded


# What it refuses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"kimi": {"access_token": "secret-token"',
        b"[]",
        b"null",
        b"secret-token",
        b"\xff\xfe{}",
        b'{"kimi": 1} {}',
        b"\x00" * 100,
        b"[" * 100_000,
    ],
)
async def test_a_file_that_is_no_json_object_is_refused_and_left_as_it_was(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for use in (store(path).load, lambda: store(path).save(NEW), store(path).delete):
        with pytest.raises(StoreError, match=r"no JSON object.*[Mm]end it") as caught:
            await use()
        assert "secret-token" not in repr(caught.value)
        assert "secret-token" not in told_with_variables(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "entry",
    [
        "1",
        "[]",
        '"secret-token"',
        "{}",
        '{"access_token": ""}',
        '{"access_token": 1}',
        '{"access_token": "é"}',
        '{"access_token": "a", "n": ' + "9" * 5000 + "}",
    ],
)
async def test_an_entry_that_is_no_credential_is_a_clear_error_and_a_login_replaces_it(path: Path, entry: str) -> None:
    path.write_text(f'{{"kimi": {entry}}}')
    with pytest.raises(StoreError, match="no credential") as caught:
        await store(path).load()
    assert "secret-token" not in str(caught.value)
    await store(path).save(NEW)
    loaded = await store(path).load()
    assert loaded is not None
    assert loaded.access_token == "new-access"


async def test_extra_fields_that_are_no_json_are_refused(path: Path) -> None:
    await store(path).save(OLD)
    before = path.read_bytes()
    for odd in (object(), float("nan"), {1, 2}):
        with pytest.raises(StoreError):
            await store(path).save(Credential("a", extra={"odd": odd}))
    assert path.read_bytes() == before


async def test_another_users_file_is_refused_and_left_as_it_was(path: Path) -> None:
    await store(path).save(OLD)
    before = path.read_bytes()
    theirs = store(path, files=AnotherUser())
    for use in (theirs.load, lambda: theirs.save(NEW), theirs.delete):
        with pytest.raises(StoreError, match="belongs to another user"):
            await use()
    assert path.read_bytes() == before


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a directory"])
async def test_what_is_no_regular_file_is_refused(path: Path, make: Any) -> None:
    make(path)
    for use in (store(path).load, lambda: store(path).save(NEW)):
        with pytest.raises(StoreError, match="not a regular file"):
            await use()


@pytest.mark.parametrize(
    ("path", "key", "error"),
    [
        ("", "k", ValueError),
        ("a\0b", "k", ValueError),
        ("a", "", ValueError),
        ("a", None, ValueError),
        (None, "k", TypeError),
    ],
)
def test_nonsense_is_refused_at_construction(path: Any, key: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        FileStore(path, key)


# Who may read it, and links ------------------------------------------------------------------------------------------


async def test_the_file_and_its_directory_are_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "home" / "auth.json"
    await store(path).save(OLD)
    assert (mode(path), mode(path.parent), mode(Path(f"{path}.lock"))) == (0o600, 0o700, 0o600)


async def test_a_file_that_others_could_read_is_tightened_and_that_is_said(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await store(path).save(OLD)
    path.chmod(0o644)
    assert await store(path).load() == OLD
    assert mode(path) == 0o600
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("WARNING", f"The credential file {path} could be read by others (mode 0644); now it is its owner's alone.")
    ]


async def test_a_mode_that_cannot_be_changed_is_said_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await store(path).save(OLD)
    path.chmod(0o644)
    files = FaultyFiles()
    here = store(path, files=files)
    for _ in range(3):
        files.calls.clear()
        files.fails_at, files.errno = 2, errno.EROFS
        assert await here.load() == OLD
        assert files.failed == "fchmod"
    assert len(caplog.records) == 1


async def test_symbolic_links_stay_links(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "real.json"
    link, chain = tmp_path / "auth.json", tmp_path / "chain.json"
    link.symlink_to(real)  # and the directory is not there yet
    chain.symlink_to("auth.json")
    await store(chain).save(OLD)
    assert (link.is_symlink(), chain.is_symlink(), real.is_symlink()) == (True, True, False)
    assert await store(real).load() == await store(link).load() == OLD
    await store(link).save(LATER)
    assert await store(chain).load() == LATER
    assert files_in(real.parent) == {"real.json", "real.json.lock"}


async def test_a_file_and_a_link_to_it_have_one_lock(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    link.symlink_to(real)
    async with store(real).locked():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02), store(link).locked():
                pytest.fail("both got in")


async def test_links_in_a_circle_are_a_clear_error(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.symlink_to(two)
    two.symlink_to(one)
    for use in (store(one).load, lambda: store(one).save(NEW)):
        with pytest.raises(StoreError):
            await use()


async def test_a_second_name_of_the_file_is_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await store(path).save(OLD)
    path.with_name("second").hardlink_to(path)
    await store(path).save(NEW)
    assert "hard link" in caplog.text


async def test_a_lock_file_that_is_a_link_is_refused(path: Path) -> None:
    victim = path.with_name("victim")
    victim.write_text("content")
    Path(f"{path}.lock").symlink_to(victim)
    with pytest.raises(StoreError):
        await store(path).save(NEW)
    assert victim.read_text() == "content"


async def test_a_temporary_file_that_is_a_link_is_not_followed(path: Path) -> None:
    victim = path.with_name("victim")
    victim.write_text("content")
    path.with_name(f".{path.name}.tmp").symlink_to(victim)
    await store(path).save(NEW)
    assert victim.read_text() == "content"
    assert files_in(path.parent) == {"auth.json", "auth.json.lock", "victim"}


# Faults --------------------------------------------------------------------------------------------------------------


async def _calls_of_a_save(path: Path) -> list[str]:
    files = FaultyFiles()
    await store(path, files=files).save(NEW)
    return files.calls


async def _error_of(work: Awaitable[None]) -> StoreError | None:
    try:
        await work
    except StoreError as error:
        return error
    return None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO, errno.EDQUOT, errno.EROFS])
async def test_whichever_call_fails_the_file_is_whole_and_nothing_is_left_behind(tmp_path: Path, code: int) -> None:
    path = tmp_path / "auth.json"
    await store(path).save(OLD)
    calls = await _calls_of_a_save(path)
    # Its content is on the disk before its name: a power cut leaves the old file or the new one, no empty one.
    assert [name for name in calls if name in ("pwrite", "ftruncate", "fsync", "replace")] == [
        *("pwrite", "fsync"),
        *("pwrite", "ftruncate", "fsync", "replace", "fsync"),
    ]
    failed = []
    for number, name in enumerate(calls):
        await store(path).save(OLD)
        before = path.read_bytes()
        files = FaultyFiles(number, code)
        error = await _error_of(store(path, files=files).save(NEW))
        if error is not None:
            assert "What was stored is as it was." in str(error)
            assert path.read_bytes() == before
            failed.append(name)
        else:
            assert (await store(path).load()) != OLD
        assert files.failed == name
        assert files_in(tmp_path) == {"auth.json", "auth.json.lock"}
        # The lock is free: the next one waits for nobody.
        async with asyncio.timeout(5), store(path).locked():
            pass
    # Without permission for a step of the replacement, the file is written in place.
    assert "pwrite" in failed
    assert set(failed) <= set(calls[: calls.index("replace") + 1])


async def test_a_full_disk_is_named(path: Path) -> None:
    await store(path).save(OLD)
    number = (await _calls_of_a_save(path)).index("pwrite")
    with pytest.raises(StoreError, match="the disk is full"):
        await store(path, files=FaultyFiles(number, errno.ENOSPC)).save(NEW)


async def test_what_a_killed_process_left_behind_is_taken_away(path: Path) -> None:
    path.with_name(f".{path.name}.tmp").write_text("half a file with a token")
    await store(path).save(NEW)
    assert files_in(path.parent) == {"auth.json", "auth.json.lock"}


# The lock ------------------------------------------------------------------------------------------------------------


def test_it_is_a_store(path: Path) -> None:
    assert str(Path.home() / "auth.json") in FileStore("~/auth.json", "kimi").describe()
    assert isinstance(store(path), CredentialStore)
    assert str(path) in store(path).describe()


async def test_the_lock_excludes_tasks_and_lets_its_holder_save(path: Path) -> None:
    shared = store(path)
    inside = 0

    async def use(number: int) -> None:
        nonlocal inside
        async with shared.locked():
            inside += 1
            assert inside == 1
            await shared.save(Credential(f"token-{number}"))
            await asyncio.sleep(0)
            assert (await shared.load()) == Credential(f"token-{number}")
            inside -= 1

    await asyncio.gather(*(use(number) for number in range(5)))


async def test_the_lock_excludes_threads(path: Path) -> None:
    got_in = threading.Event()

    def other() -> None:
        async def enter() -> None:
            async with store(path).locked():
                got_in.set()

        asyncio.run(enter())

    async with store(path).locked():
        thread = threading.Thread(target=other)
        thread.start()
        # 0.2 s are four looks of the other one at the lock.
        assert not await asyncio.to_thread(got_in.wait, 0.2)
    assert await asyncio.to_thread(got_in.wait, 10)
    thread.join()


async def test_a_second_lock_inside_the_first_waits_like_any_other(path: Path) -> None:
    shared = store(path)
    async with shared.locked():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02), shared.locked():
                pytest.fail("it got in")
        await shared.save(NEW)
    assert (await shared.load()) == NEW


async def test_a_task_started_inside_takes_the_lock_once_it_is_free(path: Path) -> None:
    shared = store(path)
    left = asyncio.Event()

    async def later() -> None:
        await left.wait()
        await shared.save(OLD)

    async with shared.locked():
        task = asyncio.create_task(later())
        await asyncio.sleep(0)
    async with store(path).locked():
        left.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert await shared.load() is None
    await task
    assert await shared.load() == OLD


async def test_a_cancelled_waiter_takes_no_lock_with_it(path: Path) -> None:
    for steps in range(8):
        async with store(path).locked():
            waiter = asyncio.create_task(_lock_and_leave(path))
            for _ in range(steps):
                await asyncio.sleep(0)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
        async with asyncio.timeout(5), store(path).locked():
            pass


async def _lock_and_leave(path: Path) -> None:
    async with store(path).locked():
        pass


_HOLD = """
import asyncio, sys
from rxauth.credentials import FileStore
async def hold():
    async with FileStore(sys.argv[1], "kimi").locked():
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
asyncio.run(hold())
"""


async def test_the_lock_excludes_processes_and_dies_with_its_holder(path: Path) -> None:
    command = [sys.executable, "-c", _HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await store(path).save(NEW)
        assert not path.exists()
        holder.kill()
        holder.wait()
        async with asyncio.timeout(5):
            await store(path).save(NEW)
    assert (await store(path).load()) == NEW


async def test_a_lock_that_cannot_be_made_is_a_clear_error(path: Path) -> None:
    Path(f"{path}.lock").mkdir()
    with pytest.raises(StoreError, match="cannot be had"):
        await store(path).save(NEW)


async def test_a_reader_sees_the_old_file_or_the_new_one_while_it_is_replaced(path: Path) -> None:
    await store(path).save(OLD)
    seen, stop = set(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(asyncio.run(store(path).load()))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        await store(path).save(NEW)
        await store(path).save(OLD)
        await asyncio.sleep(0)
    stop.set()
    reader.join()
    assert {each.access_token if each else None for each in seen} <= {"old-access", "new-access"}
