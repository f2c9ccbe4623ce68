"""A credential as a value, and the static source."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import pprint
import subprocess
import sys
import traceback
from dataclasses import asdict, is_dataclass
from typing import Any

import msgspec
import pytest

import rxauth.credentials
from rxauth.credentials import Credential, CredentialSource, MemoryStore, StaticCredentials
from rxauth.errors import CredentialRejected
from tests.credentials.tracebacks import with_variables

SECRET = Credential(
    "access-secret", refresh_token="refresh-secret", expires_at=1.5, extra={"id_token": "id-secret", "account_id": 7}
)


def test_the_fields_are_plain() -> None:
    assert (SECRET.access_token, SECRET.refresh_token, SECRET.expires_at) == ("access-secret", "refresh-secret", 1.5)
    assert (SECRET.token_type, SECRET.scope, SECRET.account_id) == ("Bearer", None, "7")
    bare = Credential("a")
    assert (bare.refresh_token, bare.expires_at, dict(bare.extra), bare.account_id) == (None, None, {}, None)
    assert Credential("a", extra={"token_url": "https://example.com/token"}).token_url == "https://example.com/token"
    assert {Credential("a", extra={"token_url": odd}).token_url for odd in (None, "", 7)} == {None}
    assert [Credential("a", expires_at=10).expired(now) for now in (9.9, 10, 11)] == [False, True, True]
    assert not bare.expired(1e12)


def _raised() -> str:
    try:
        raise CredentialRejected("401", status=401, credential=SECRET)
    except CredentialRejected as error:
        shown = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
        return shown + "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def _logged() -> str:
    record = logging.LogRecord("rxauth", logging.INFO, "file", 1, "%s %r", (SECRET, SECRET), None)
    return logging.Formatter().format(record)


@pytest.mark.parametrize(
    "show",
    [
        lambda: repr(SECRET),
        lambda: str(SECRET),
        lambda: f"{SECRET} {SECRET!r} {SECRET!s}",
        lambda: "%s %r" % (SECRET, SECRET),  # noqa: UP031
        lambda: repr([SECRET, {"c": SECRET}, (SECRET,)]),
        lambda: pprint.pformat({"c": SECRET}),
        lambda: repr(StaticCredentials(SECRET)) + repr(MemoryStore(SECRET)) + MemoryStore(SECRET).describe(),
        lambda: json.dumps(SECRET, default=repr),
        lambda: repr(vars(SECRET)),
        _raised,
        _logged,
    ],
    ids=["repr", "str", "f-string", "percent", "list", "pprint", "in a source", "json", "vars", "raised", "logged"],
)
def test_no_text_shows_its_secrets(show: Any) -> None:
    assert "secret" not in show().lower().replace("tests/", "").replace("secret)", "")


@pytest.mark.parametrize(
    "take", [asdict, json.dumps, msgspec.json.encode, msgspec.to_builtins, pickle.dumps, dict, list]
)
def test_no_serializer_takes_it(take: Any) -> None:
    assert not is_dataclass(SECRET)
    with pytest.raises(TypeError) as caught:
        take(SECRET)
    assert "secret" not in str(caught.value).lower()
    with pytest.raises(TypeError, match="Keep it in a store"):
        pickle.dumps(SECRET)


def test_a_credential_is_immutable() -> None:
    for name in ("access_token", "_fields", "anything"):
        with pytest.raises(AttributeError):
            setattr(SECRET, name, "other")
        with pytest.raises(AttributeError):
            delattr(SECRET, name)
    with pytest.raises(TypeError):
        SECRET.extra["account_id"] = "other"  # type: ignore[index]
    credential = Credential("a", extra=(extra := {"account_id": "ann"}))
    extra["account_id"] = "bob"
    assert credential.account_id == "ann"
    assert copy.copy(SECRET) is SECRET
    assert copy.deepcopy([SECRET])[0] is SECRET


def test_equal_credentials_hash_alike() -> None:
    def one(**other: Any) -> Credential:
        fields: dict[str, Any] = {"access_token": "a", "refresh_token": "r", "expires_at": 1, "extra": {"x": [1]}}
        return Credential(**(fields | other))

    assert len({one(), one()}) == 1
    others: list[dict[str, Any]] = [{"access_token": "b"}, {"refresh_token": None}, {"expires_at": 2}, {"extra": {}}]
    for other in others:
        assert one(**other) != one()
    assert one() != "a"


@pytest.mark.parametrize(
    "arguments",
    [
        *[{"access_token": odd} for odd in ("", None, 7, b"bytes", "a\r\nX-Evil: 1", "ü")],
        {"access_token": "a", "refresh_token": 7},
        *[{"access_token": "a", "expires_at": odd} for odd in (float("nan"), float("inf"), 10**400, "soon")],
    ],
)
def test_nonsense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as caught:
        Credential(**arguments)
    assert "self = Credential()" in with_variables(caught.value)


async def test_a_chosen_key_is_never_replaced() -> None:
    key = StaticCredentials("key")
    assert isinstance(key, CredentialSource)
    assert (await key.current()).access_token == await key.token() == "key"
    refresh: Any = key.refresh
    assert await refresh(CredentialRejected("401", credential=await key.current())) is None
    assert (await key.current()).access_token == "key"
    assert await StaticCredentials(SECRET).current() is SECRET
    for odd in ("", None, "ü"):
        with pytest.raises(ValueError):
            StaticCredentials(odd)  # type: ignore[arg-type]


def test_unused_packages_are_not_imported() -> None:
    script = """
import sys
from rxauth.credentials import Credential, MemoryStore, StaticCredentials
heavy = {"aiohttp", "filelock", "redis", "tenacity", "reactivex"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert set(rxauth.credentials.__all__) <= set(dir(rxauth.credentials))
    with pytest.raises(AttributeError, match="Nonsense"):
        rxauth.credentials.Nonsense  # noqa: B018
