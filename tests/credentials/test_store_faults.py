"""A failing file operation, or the end of the process, while a credential file is written."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials._stores._files import name_in_home
from rxauth.errors import StoreError
from tests.credentials.faulty_files import BindMounted, FaultyFiles, Full
from tests.credentials.kinds import KIMI_CODE, NEW, OLD, OWN, PI, Kind, no_time, tokens
from tests.credentials.tracebacks import with_variables


async def refresh(kind: Kind, directory: Path, files: Any) -> StoreError | None:
    """Do what a refresh does; return its error."""
    store = kind.store(directory, files=files)
    try:
        async with store.locked():
            await store.load()
            await store.check_can_save()
            await store.save(NEW)
    except StoreError as error:
        return error
    return None


@pytest.mark.parametrize("system", [FaultyFiles, BindMounted], ids=["renamed", "in place"])
@pytest.mark.parametrize(
    ("kind", "code"),
    [(OWN, errno.EACCES), (OWN, errno.EIO), (OWN, errno.ENOSPC), (PI, errno.ENOSPC), (KIMI_CODE, errno.EDQUOT)],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else value.name,
)
async def test_whichever_call_fails_the_file_is_whole(
    kind: Kind, system: type[FaultyFiles], code: int, tmp_path: Path, rxauth_home: Path
) -> None:
    counting = system()
    kind.write(tmp_path)
    await refresh(kind, tmp_path, counting)
    refused = saved = 0
    for number, name in enumerate(counting.calls):
        before = kind.write(tmp_path).read_bytes()
        files = system(number, code)
        error = await refresh(kind, tmp_path, files)
        assert files.failed == name
        loaded = tokens(await kind.store(tmp_path).load())
        if error is None:
            saved += 1
            assert loaded == tokens(NEW)
        elif loaded == tokens(OLD):
            refused += 1
            assert kind.path(tmp_path).read_bytes().rstrip() == before.rstrip()
        else:
            # In place, with its backup complete: the new credential is in the backup.
            assert (loaded, system) == (tokens(NEW), BindMounted)
        assert error is None or "access-" not in f"{error!r} {with_variables(error)}"
        left = [tmp_path / each for each in kind.names(tmp_path) - {kind.file}]
        assert left == [] or ([each.suffix for each in left] == [".bak"] and system is BindMounted), name
        async with asyncio.timeout(5), kind.store(tmp_path, sleep=no_time).locked():
            pass
        for each in left:
            each.unlink()
    assert refused > 5
    assert saved > 5


async def test_content_is_on_the_disk_before_its_name(tmp_path: Path) -> None:
    """A power cut leaves the old file or the new one, no empty one."""
    OWN.write(tmp_path)
    files = FaultyFiles()
    await OWN.store(tmp_path, files=files).save(NEW)
    order = [name for name in files.calls if name in ("pwrite", "ftruncate", "fsync", "replace")]
    assert order == ["pwrite", "fsync", "pwrite", "ftruncate", "fsync", "replace", "fsync"]


async def test_a_backup_counts_until_the_file_changes(kind: Kind, tmp_path: Path) -> None:
    """The writing of the file was interrupted before it began; later the other program has written."""
    before = kind.write(tmp_path).read_bytes()
    number = 0
    while tokens(await kind.store(tmp_path).load()) == tokens(OLD):
        await refresh(kind, tmp_path, BindMounted(number, for_good=True))
        number += 1
    assert kind.path(tmp_path).read_bytes().strip() == before.strip(), "the backup alone is new"
    kind.path(tmp_path).write_bytes(before.replace(b"access-1", b"access-3"))
    assert (await kind.store(tmp_path).load()).access_token == "access-3"
    await kind.store(tmp_path).save(OLD)
    assert kind.names(tmp_path) == {kind.file}


@pytest.mark.parametrize("newest", [0, 1])
async def test_the_newest_backup_counts(newest: int, tmp_path: Path, rxauth_home: Path) -> None:
    """One was left where its directory became read-only; the next one is in rxauth's own directory."""
    path = OWN.write(tmp_path)
    backups = [path.with_name(".auth.json.bak"), Path(f"{name_in_home(str(path), 'backups')}.bak")]
    backups[1].parent.mkdir()
    for number, backup in enumerate(backups):
        backup.write_bytes(path.read_bytes().replace(b"access-1", b"access-%d" % (number == newest)) + b"\nreplaced")
        os.utime(backup, (1, 1 + (number == newest)))
    path.write_text("!")
    assert (await OWN.store(tmp_path).load()).access_token == "access-1"


# Before a refresh token is spent -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, "the disk is full. Free some space"),
        (errno.EDQUOT, "the disk quota is used up. Free some space"),
        (errno.EROFS, "the file system is read-only. Make it writable"),
        (errno.EACCES, "permission denied. Make the file and its directory writable"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
async def test_check_can_save_says_what_to_do(kind: Kind, code: int, sentence: str, tmp_path: Path) -> None:
    before = kind.write(tmp_path).read_bytes()
    with pytest.raises(StoreError, match=f"cannot be written: {sentence}"):
        await kind.store(tmp_path, files=Full(code)).check_can_save()
    assert kind.path(tmp_path).read_bytes() == before
    assert kind.names(tmp_path) == {kind.file}


async def test_check_can_save_keeps_the_room_while_locked(kind: Kind, tmp_path: Path) -> None:
    path = kind.write(tmp_path)
    reserved = path.with_name(f".{path.name}.tmp")
    store = kind.store(tmp_path)
    async with store.locked():
        await store.check_can_save()
        await store.check_can_save()
        assert reserved.stat().st_size >= path.stat().st_size + 2048
        assert reserved.stat().st_blocks * 512 >= path.stat().st_size
    assert tokens(await store.load()) == tokens(OLD)
    async with store.locked():
        await store.check_can_save()
        await store.save(NEW)
        await store.save(NEW)
    assert tokens(await store.load()) == tokens(NEW)
    assert kind.names(tmp_path) == {kind.file}


async def test_a_file_that_is_written_in_place_keeps_its_room_too(kind: Kind, tmp_path: Path) -> None:
    """And is as it was if it is not written: the room was a tail of spaces, which JSON allows."""

    class ReadOnlyDirectory(FaultyFiles):
        def open(self, path: str, *arguments: Any) -> int:
            if path.startswith(str(tmp_path)) and path.endswith(".tmp"):
                raise PermissionError(errno.EACCES, "read-only")
            return os.open(path, *arguments)

    path = kind.write(tmp_path)
    before, inode = path.read_bytes(), path.stat().st_ino
    store = kind.store(tmp_path, files=ReadOnlyDirectory())
    async with store.locked():
        await store.check_can_save()
        assert path.stat().st_size >= len(before) + 2048
        assert tokens(await store.load()) == tokens(OLD)
    assert path.read_bytes() == before
    await store.save(NEW)
    assert (tokens(await store.load()), path.stat().st_ino) == (tokens(NEW), inode)
    assert kind.names(tmp_path) == {kind.file}
