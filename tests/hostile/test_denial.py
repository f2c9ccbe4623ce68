"""A credential store that is held, full, read-only, or shared with another version of the program."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rxauth import Credential, CredentialRejected, FileStore, OAuthCredentials, RefreshFailed, StoreError
from rxauth.testing import FakeProvider
from tests.hostile import denying
from tests.hostile.leaks import nothing_left


@contextlib.contextmanager
def held_by_a_stuck_process(path: Path) -> Iterator[None]:
    command = [sys.executable, denying.__file__, f"{path}.lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            yield
        finally:
            process.kill()


def rejected(credential: Credential) -> CredentialRejected:
    return CredentialRejected("401", status=401, credential=credential)


def logged_in(fake: FakeProvider, path: Path) -> tuple[FileStore, Credential]:
    store, credential = FileStore(path, "key"), fake.credential()
    asyncio.run(store.save(credential))
    return store, credential


def source(fake: FakeProvider, store: FileStore, timeout: float = 0.6) -> OAuthCredentials:
    return OAuthCredentials(
        store, token_url=fake.token_url, client_id=fake.client_id, timeout=timeout, request_timeout=timeout / 2
    )


def test_a_store_that_a_stuck_process_holds_delays_nobody_whose_token_is_valid_and_a_refresh_for_its_time(
    tmp_path: Path,
) -> None:
    path = tmp_path / "auth.json"
    with FakeProvider() as fake, nothing_left():
        store, credential = logged_in(fake, path)
        ours = source(fake, store)
        before = path.read_bytes()

        async def scenario() -> float:
            async with asyncio.timeout(10):
                asked = asyncio.create_task(ours.refresh(rejected(credential)))
                await asyncio.sleep(0)
                # While the refresh waits.
                assert await ours.current() == credential
                assert not asked.done()
                began = time.monotonic()
                with pytest.raises(RefreshFailed, match=r"Somebody else has held the lock of .*auth\.json.* later"):
                    await asked
                return time.monotonic() - began

        with held_by_a_stuck_process(path):
            assert asyncio.run(scenario()) < 5
        assert (path.read_bytes(), fake.token_requests) == (before, [])
        # It was killed: its lock is free, and nothing has to be cleaned up.
        renewed = asyncio.run(ours.refresh(rejected(credential)))
        assert renewed is not None
        assert fake.accepts(renewed.access_token)


def test_a_token_that_somebody_stored_without_the_lock_is_adopted_while_a_stuck_process_holds_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "auth.json"
    with FakeProvider() as fake:
        store, credential = logged_in(fake, path)
        newer = fake.credential()
        entry = json.loads(path.read_text())
        entry["key"] |= {"access_token": newer.access_token, "refresh_token": newer.refresh_token}
        with held_by_a_stuck_process(path):
            path.write_text(json.dumps(entry))
            adopted = asyncio.run(source(fake, store).refresh(rejected(credential)))
        assert adopted is not None
        assert adopted.access_token == newer.access_token
        assert fake.token_requests == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few pages."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=16", "tmpfs", place], capture_output=True, check=False
    )
    if mount.returncode != 0:
        pytest.skip("only root may mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tmpfs is Linux's")
def test_on_a_full_disk_the_program_goes_on_and_stores_when_there_is_room(small_disk: Path) -> None:
    path = small_disk / "auth.json"
    with FakeProvider() as fake, nothing_left():
        store, credential = logged_in(fake, path)
        ours = source(fake, store, timeout=5)
        # The lock file is there already: the disk is full of data, not of files.
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 1024)
        before = path.read_bytes()
        renewed = asyncio.run(ours.refresh(rejected(credential)))
        assert renewed is not None
        assert fake.accepts(renewed.access_token)
        assert path.read_bytes() == before
        assert {each.name for each in small_disk.iterdir()} == {"auth.json", "auth.json.lock", "filler"}
        filler.unlink()
        newest = asyncio.run(ours.refresh(rejected(renewed)))
        assert newest is not None
        assert asyncio.run(store.load()) == newest
        assert fake.accepts(newest.access_token)


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Also for root, who may write where the mode says no."""
    if os.geteuid() == 0:
        if subprocess.run(["mount", "--bind", directory, directory], capture_output=True, check=False).returncode:
            pytest.skip("root may write everywhere, and nothing can be mounted here")
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", directory], check=True)
            yield
        finally:
            subprocess.run(["umount", directory], check=True)
    else:
        directory.chmod(0o500)
        try:
            yield
        finally:
            directory.chmod(0o700)


def test_in_a_read_only_directory_a_valid_token_is_used_and_none_is_spent(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    path = home / "auth.json"
    with FakeProvider() as fake, nothing_left():
        store, credential = logged_in(fake, path)
        (home / "auth.json.lock").unlink()
        ours = source(fake, store)
        with read_only(home):
            assert asyncio.run(ours.current()) == credential
            with pytest.raises(StoreError, match=r"auth\.json") as failed:
                asyncio.run(ours.refresh(rejected(credential)))
            assert str(failed.value).count("\n") == 0
            assert fake.token_requests == []
        renewed = asyncio.run(ours.refresh(rejected(credential)))
        assert renewed is not None
        assert fake.accepts(renewed.access_token)


VERSIONS = {
    "an older one, that knows less": {"access_token": "a", "refresh_token": "r"},
    "a newer one, that knows more": {
        "access_token": "a",
        "refresh_token": "r",
        "expires_at": 4e9,
        "token_type": "DPoP",
        "key": {"kid": "k", "nested": [1, {"deep": None}]},
        "schema": 7,
        "ünïcode": "ß",
    },
    "one that writes numbers as text": {"access_token": "a", "refresh_token": "r", "expires_at": "4000000000"},
    "one that leaves nulls": {"access_token": "a", "refresh_token": "r", "expires_at": None, "scope": None},
}


@pytest.mark.parametrize("theirs", VERSIONS.values(), ids=VERSIONS)
def test_the_fields_of_another_version_of_the_program_survive_ours(tmp_path: Path, theirs: dict[str, object]) -> None:
    path = tmp_path / "auth.json"
    with FakeProvider() as fake:
        credential = fake.credential()
        entry = theirs | {"access_token": credential.access_token, "refresh_token": credential.refresh_token}
        path.write_text(json.dumps({"key": entry, "version": 3, "other": {"whatever": [1, 2]}}))
        path.chmod(0o600)
        store = FileStore(path, "key")
        ours = source(fake, store, timeout=5)
        stored = asyncio.run(ours.current())
        renewed = asyncio.run(ours.refresh(rejected(stored)))
        assert renewed is not None
        assert fake.accepts(renewed.access_token)
        now = json.loads(path.read_text())
        assert {name: now[name] for name in ("version", "other")} == {"version": 3, "other": {"whatever": [1, 2]}}
        known = {"access_token", "refresh_token", "expires_at", "expires_in", "token_type", "scope"}
        assert {name: value for name, value in now["key"].items() if name not in known} == {
            name: value for name, value in entry.items() if name not in known
        }
        assert now["key"]["access_token"] == renewed.access_token


def test_two_versions_that_take_turns_keep_each_others_fields(tmp_path: Path) -> None:
    """The older one rewrites what it knows in place and keeps the rest, as this one does."""
    path = tmp_path / "auth.json"
    with FakeProvider() as fake:
        store, credential = logged_in(fake, path)
        for turn in range(6):
            entries = json.loads(path.read_text())
            entries["key"][f"of_version_{turn}"] = turn
            path.write_text(json.dumps(entries))
            stored = asyncio.run(store.load())
            assert stored is not None
            renewed = asyncio.run(source(fake, FileStore(path, "key"), timeout=5).refresh(rejected(stored)))
            assert renewed is not None
        entry = json.loads(path.read_text())["key"]
        assert [entry[f"of_version_{turn}"] for turn in range(6)] == list(range(6))
        assert len(fake.token_requests) == 6
        assert credential.access_token != entry["access_token"]
        assert fake.accepts(entry["access_token"])
