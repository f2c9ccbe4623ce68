"""The content of the credential files of all stores, on real files."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from rxauth.credentials import Credential, FileStore
from rxauth.errors import StoreError
from tests.credentials.faulty_files import AnotherUser, FaultyFiles, ShortWrites
from tests.credentials.kinds import KIMI_CODE, NEW, OLD, OTHERS, OWN, PI, Kind, Waits, no_time, tokens
from tests.credentials.tracebacks import with_variables


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_load_reads_what_its_program_wrote(kind: Kind, tmp_path: Path) -> None:
    kind.write(tmp_path)
    loaded = await kind.store(tmp_path).load()
    assert (tokens(loaded), loaded.expires_at, loaded.account_id) == (tokens(OLD), OLD.expires_at, "ann")
    assert loaded.scope in ("", None)


@pytest.mark.parametrize("end", ["", "\n"], ids=["no last line break", "a last line break"])
@pytest.mark.parametrize(
    "layout",
    [{"indent": 2}, {"indent": "\t"}, {}, {"separators": (",", ":")}],
    ids=["2 spaces", "tabs", "one line", "compact"],
)
async def test_save_keeps_order_unknown_fields_and_layout(kind: Kind, layout: Any, end: str, tmp_path: Path) -> None:
    """A diff shows the new values alone."""
    path = kind.write(tmp_path, theirs={"n": [1.0, None, "é"]})
    before = json.dumps(json.loads(path.read_text()), **layout) + end
    path.write_text(before)
    await kind.store(tmp_path, clock=lambda: 1_800_000_000 - 900).save(NEW)
    expected = before.replace("access-1", "access-2").replace("refresh-1", "refresh-2").replace("17000", "18000")
    assert path.read_text() == expected


@pytest.mark.parametrize("kind", [OWN, PI], ids=["own", "pi"])
async def test_save_keeps_foreign_values_as_they_are_written(kind: Kind, tmp_path: Path) -> None:
    path = kind.write(tmp_path)
    theirs = '{"huge": 1e400, "exact": 1.10, "big": 123456789012345678901234567890, "twice": "\\u00e9é"}'
    path.write_text(path.read_text().replace("{", '{"theirs": ' + theirs + ",", 1))
    await kind.store(tmp_path).save(NEW)
    for lexeme in ("1e400", "1.10", "123456789012345678901234567890", '"\\u00e9é"'):
        assert lexeme in path.read_text()


async def test_extra_fields_cannot_replace_a_token(kind: Kind, tmp_path: Path) -> None:
    odd = {"access_token": "x", "refresh_token": "y", "access": "z", "refresh": "z", "expires": 1, "type": "z"}
    await kind.store(tmp_path).save(Credential("a", "r", extra=odd))
    assert tokens(await kind.store(tmp_path).load()) == ("a", "r")


async def test_delete_removes_its_login_alone(kind: Kind, tmp_path: Path) -> None:
    path = kind.write(tmp_path, other={"b": 1})
    path.with_name(f".{path.name}.bak").write_text("of a killed process")
    assert await kind.store(tmp_path).delete() is True
    assert kind.names(tmp_path) == ({kind.file} if kind.key else set())
    assert (json.loads(path.read_text()) == {"other": {"b": 1}}) if kind.key else not path.exists()


@pytest.mark.parametrize(
    ("written", "loaded"),
    [
        pytest.param("1700000000.5", 1_700_000_000.5, id="seconds"),
        pytest.param("1700000000500", 1_700_000_000.5, id="milliseconds"),
        pytest.param("1700000000500000", 1_700_000_000.5, id="microseconds"),
        pytest.param("1700000000500000000", 1_700_000_000.5, id="nanoseconds"),
        pytest.param("100000000000", 1e11, id="the year 5138"),
        pytest.param('"1700000000.5"', 1_700_000_000.5, id="text"),
        *((odd, None) for odd in ("1e400", "1" + "0" * 400, "true", '"soon"', "null", "[]")),
    ],
)
async def test_expiry_is_read_in_seconds(kind: Kind, written: str, loaded: float | None, tmp_path: Path) -> None:
    path = kind.write(tmp_path)
    name = "expires" if kind is PI else "expires_at"
    path.write_text(path.read_text().replace(f'"{name}": {kind.login[name]}', f'"{name}": {written}'))
    assert (await kind.store(tmp_path).load()).expires_at == loaded


async def test_a_system_that_writes_byte_by_byte_is_no_obstacle(kind: Kind, tmp_path: Path) -> None:
    store = kind.store(tmp_path, files=ShortWrites())
    await store.save(OLD)
    assert tokens(await store.load()) == tokens(OLD)


# The content it refuses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'{"kimi": {"access_token": "secret-token', id="half a file"),
        pytest.param(b'{"x": NaN}', id="a number that only Python reads"),
        pytest.param(b"\xff\xfe{}", id="not UTF-8"),
        pytest.param(b"\x00" * 100, id="zeros, as a power cut leaves them"),
        pytest.param(b"[" * 100_000, id="nested beyond reason"),
        *(pytest.param(text, id=text.decode()) for text in (b"[]", b"null", b"secret-token", b'{"kimi": 1} {}')),
    ],
)
async def test_a_file_that_is_no_json_object_is_left_as_it_is(kind: Kind, content: bytes, tmp_path: Path) -> None:
    path = kind.write(tmp_path)
    path.write_bytes(content)
    store = kind.store(tmp_path, sleep=no_time)
    for use in (store.load, lambda: store.save(NEW), store.delete):
        with pytest.raises(StoreError, match=r"no JSON object.*Mend it") as caught:
            await use()
        assert "secret-token" not in f"{caught.value!r} {caught.value.__context__!r} {with_variables(caught.value)}"
    assert path.read_bytes() == content


@pytest.mark.parametrize("access", [7, ["hush"], "hu\nsh", "hushé"], ids=["a number", "a list", "two lines", "é"])
async def test_a_login_without_a_usable_token_is_an_error(kind: Kind, access: Any, tmp_path: Path) -> None:
    kind.write(tmp_path, access=access)
    store = kind.store(tmp_path)
    with pytest.raises(StoreError, match=r"no credential: its? .*Log in again, or mend the file") as caught:
        await store.load()
    assert "hu" not in repr(caught.value)
    assert "refresh-1" not in with_variables(caught.value)
    await store.save(NEW)
    assert tokens(await store.load()) == tokens(NEW), "a login replaces it"


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.name)
async def test_a_half_written_file_is_read_again(kind: Kind, tmp_path: Path) -> None:
    path = kind.write(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    waits = Waits({3: lambda: path.write_bytes(whole)})
    assert tokens(await kind.store(tmp_path, sleep=waits).load()) == tokens(OLD)
    assert waits.count == 3


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf{}"], ids=["nothing", "a blank line", "a BOM"])
async def test_another_programs_empty_file_holds_nothing(content: bytes, tmp_path: Path) -> None:
    PI.write(tmp_path).write_bytes(content)
    assert await PI.store(tmp_path).load() is None
    await PI.store(tmp_path).save(NEW)
    assert tokens(await PI.store(tmp_path).load()) == tokens(NEW)


async def test_another_users_file_is_refused(kind: Kind, tmp_path: Path) -> None:
    before = kind.write(tmp_path).read_bytes()
    theirs = kind.store(tmp_path, files=AnotherUser())
    for use in (theirs.load, lambda: theirs.save(NEW), theirs.delete):
        with pytest.raises(StoreError, match="belongs to another user"):
            await use()
    assert kind.path(tmp_path).read_bytes() == before


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a directory"])
async def test_a_file_that_is_no_regular_file_is_refused(kind: Kind, make: Any, tmp_path: Path) -> None:
    kind.path(tmp_path).parent.mkdir(exist_ok=True)
    make(kind.path(tmp_path))
    for use in (kind.store(tmp_path).load, lambda: kind.store(tmp_path).save(NEW)):
        with pytest.raises(StoreError, match="not a regular file"):
            await use()


@pytest.mark.parametrize(("path", "key"), [("", "k"), ("a\0b", "k"), ("a", ""), ("a", None), (None, "k")])
def test_file_store_refuses_nonsense(path: Any, key: Any) -> None:
    with pytest.raises(TypeError if path is None else ValueError):
        FileStore(path, key)


# Mode, group, links --------------------------------------------------------------------------------------------------


async def test_a_new_file_is_its_owners_alone(kind: Kind, tmp_path: Path) -> None:
    await kind.store(tmp_path / "new").save(NEW)
    path = kind.path(tmp_path / "new")
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


async def test_save_keeps_another_programs_mode(kind: Kind, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = kind.write(tmp_path)
    path.chmod(0o640)
    await kind.store(tmp_path).load()
    await kind.store(tmp_path).save(NEW)
    assert mode(path) == (0o600 if kind is OWN else 0o640)
    warning = f"The credential file {path} could be read by others (mode 0640); now it is its owner's alone."
    assert caplog.messages == ([warning] if kind is OWN else [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to any group")
async def test_save_keeps_the_group(kind: Kind, tmp_path: Path) -> None:
    path = kind.write(tmp_path)
    os.chown(path, -1, 12345)
    await kind.store(tmp_path).save(NEW)
    assert path.stat().st_gid == 12345


async def test_a_group_that_cannot_be_kept_is_kept_by_writing_in_place(kind: Kind, tmp_path: Path) -> None:
    class Unprivileged(FaultyFiles):
        def stat(self, path: str) -> os.stat_result:
            status = Path(path).stat()
            return os.stat_result([*status[:5], status.st_gid + 1, *status[6:]])

        def fchown(self, fd: int, uid: int, gid: int) -> None:
            raise PermissionError(errno.EPERM, "not a member")

    path = kind.write(tmp_path)
    inode = path.stat().st_ino
    await kind.store(tmp_path, files=Unprivileged()).save(NEW)
    assert path.stat().st_ino == inode
    assert tokens(await kind.store(tmp_path).load()) == tokens(NEW)


async def test_what_is_odd_about_a_file_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class ReadOnly(FaultyFiles):
        def fchmod(self, fd: int, mode: int) -> None:
            raise OSError(errno.EROFS, "read-only")

    path = OWN.write(tmp_path)
    path.chmod(0o644)
    path.with_name("second").hardlink_to(path)
    store = OWN.store(tmp_path, files=ReadOnly())
    for _ in range(3):
        assert tokens(await store.load()) == tokens(OLD)
    assert len(caplog.messages) == 2
    assert "(mode 0644), and its mode cannot be changed." in caplog.text
    assert "a hard link" in caplog.text


async def test_a_symlink_stays(kind: Kind, tmp_path: Path) -> None:
    path = kind.path(tmp_path)
    path.parent.mkdir(exist_ok=True)
    real = tmp_path / "elsewhere" / "real.json"
    path.symlink_to(os.path.relpath(real, path.parent))
    await kind.store(tmp_path).save(NEW)
    assert path.is_symlink()
    assert real.exists()
    assert tokens(await kind.store(tmp_path).load()) == tokens(NEW)


async def test_a_killed_process_s_temporary_file_is_removed(kind: Kind, tmp_path: Path) -> None:
    """Also one that is a link by now: it is not followed."""
    path = kind.write(tmp_path)
    (tmp_path / "victim").write_text("content")
    path.with_name(f".{path.name}.tmp").symlink_to(tmp_path / "victim")
    await kind.store(tmp_path).save(NEW)
    assert (tmp_path / "victim").read_text() == "content"
    assert kind.names(tmp_path) == {kind.file, "victim"}


# Retry-After and the endpoint ----------------------------------------------------------------------------------------


async def test_facts_about_a_login_are_no_fields_of_theirs(kind: Kind, tmp_path: Path, rxauth_home: Path) -> None:
    await kind.store(tmp_path).save(Credential("a", "refresh-3", extra={"token_url": "https://test.example/token"}))
    await kind.store(tmp_path).save_retry_at(1234.5)
    assert (await kind.store(tmp_path).load()).token_url == "https://test.example/token"
    assert [name in kind.read(tmp_path) for name in ("token_url", "retry_at")] == [kind is OWN] * 2
    noted = b"".join(file.read_bytes() for file in rxauth_home.rglob("*") if file.is_file())
    assert (b"test.example" in noted, b"refresh-" in noted) == (kind is not OWN, False)
    await kind.store(tmp_path).save(NEW)
    assert (await kind.store(tmp_path).load()).token_url is None, "of the login before"


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.name)
async def test_the_usual_endpoint_of_a_program_is_known(kind: Kind, tmp_path: Path) -> None:
    """pi sends its login wherever its environment says."""
    kind.write(tmp_path)
    usual = None if kind is PI else "https://auth.kimi.com/api/oauth/token"
    assert (await kind.store(tmp_path).load()).token_url == usual


@pytest.mark.parametrize("home", [None, "~no-such-user/x"], ids=["a file in its place", "no home"])
async def test_retry_at_without_a_login_or_a_home_is_dropped(
    kind: Kind,
    home: str | None,
    tmp_path: Path,
    rxauth_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (rxauth_home / "logins").touch()
    if home is not None:
        monkeypatch.setenv("RXAUTH_HOME", home)
    store = kind.store(tmp_path)
    await store.save_retry_at(5.0)
    assert await store.load_retry_at() is None
    assert not kind.path(tmp_path).exists()
    await store.save(Credential("a", extra={"token_url": "https://test.example/token"}))
    await store.save_retry_at(5.0)
    assert await store.load_retry_at() == (5.0 if kind is OWN else None)
    assert ("could not be kept" in caplog.text) == (kind is not OWN and home is None)


# The particulars of one program's file --------------------------------------------------------------------------------


@pytest.mark.parametrize("access", ["", None])
async def test_kimi_codes_empty_token_is_no_login(access: str | None, tmp_path: Path) -> None:
    """kimi-code leaves that when the server has rejected its refresh token."""
    KIMI_CODE.write(tmp_path, access=access)
    store = KIMI_CODE.store(tmp_path)
    assert await store.load() is None
    assert await store.delete() is False


@pytest.mark.parametrize(
    ("kind", "alone"),
    [
        (PI, {"type": "oauth", "access": "a", "refresh": "", "expires": 0}),
        (
            KIMI_CODE,
            {
                "access_token": "a",
                "refresh_token": "",
                "expires_at": 0,
                "expires_in": 0,
                "scope": "",
                "token_type": "Bearer",
            },
        ),
    ],
    ids=["pi", "kimi-code"],
)
async def test_what_is_not_known_is_written_as_its_program_does(kind: Kind, alone: Any, tmp_path: Path) -> None:
    """Both programs refuse a login in which a field is missing."""
    await kind.store(tmp_path).save(Credential("a"))
    assert kind.read(tmp_path) == alone
    loaded = await kind.store(tmp_path).load()
    assert (tokens(loaded), loaded.expires_at, loaded.scope) == (("a", None), None, None)


async def test_pis_api_key_of_the_same_provider_stays(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"kimi-coding": {"type": "api_key", "key": "$KEY"}}))
    before = path.read_bytes()
    assert await PI.store(tmp_path).load() is None
    assert await PI.store(tmp_path).delete() is False
    with pytest.raises(StoreError, match="API key") as caught:
        await PI.store(tmp_path).save(NEW)
    assert "$KEY" not in with_variables(caught.value)
    assert path.read_bytes() == before
