"""The value, the static source and the store in memory."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import pprint
import subprocess
import sys
import threading
import traceback
import weakref
from contextvars import Context
from dataclasses import asdict, is_dataclass
from typing import Any

import msgspec
import pytest

from rxauth.credentials import (
    Credential,
    CredentialSource,
    CredentialStore,
    MemoryStore,
    StaticCredentials,
)
from rxauth.credentials._stores._held import holding
from rxauth.errors import CredentialRejected
from tests.credentials.tracebacks import told_with_variables

SECRET = Credential(
    "access-secret", refresh_token="refresh-secret", expires_at=1.5, extra={"id_token": "id-secret", "account_id": 7}
)


# The value -----------------------------------------------------------------------------------------------------------


def test_its_parts_are_plain() -> None:
    assert (SECRET.access_token, SECRET.refresh_token, SECRET.expires_at) == ("access-secret", "refresh-secret", 1.5)
    assert (SECRET.token_type, SECRET.scope, SECRET.account_id) == ("Bearer", None, "7")
    bare = Credential("a")
    assert (bare.refresh_token, bare.expires_at, dict(bare.extra), bare.account_id) == (None, None, {}, None)


def _raised() -> str:
    try:
        raise CredentialRejected("401", status=401, credential=SECRET)
    except CredentialRejected as error:
        told = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
        return told + "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def _logged() -> str:
    record = logging.LogRecord("rxauth", logging.INFO, "file", 1, "%s %r", (SECRET, SECRET), None)
    return logging.Formatter().format(record)


@pytest.mark.parametrize(
    "tell",
    [
        lambda: repr(SECRET),
        lambda: str(SECRET),
        lambda: f"{SECRET} {SECRET!r} {SECRET!s}",
        lambda: "%s %r" % (SECRET, SECRET),  # noqa: UP031
        lambda: repr([SECRET, {"c": SECRET}, (SECRET,)]),
        lambda: pprint.pformat({"c": SECRET}),
        lambda: repr(StaticCredentials(SECRET)) + repr(MemoryStore(SECRET)) + MemoryStore(SECRET).describe(),
        lambda: json.dumps(SECRET, default=repr),
        _raised,
        _logged,
    ],
    ids=["repr", "str", "f-string", "percent", "in a list", "pprint", "in a source", "json", "raised", "logged"],
)
def test_nothing_tells_its_secrets_by_accident(tell: Any) -> None:
    assert "secret" not in tell().lower().replace("tests/", "").replace("secret)", "")


@pytest.mark.parametrize(
    "take",
    [
        asdict,
        json.dumps,
        msgspec.json.encode,
        msgspec.to_builtins,
        pickle.dumps,
        lambda each: pickle.dumps([each]),
        dict,
        list,
    ],
    ids=["asdict", "json", "msgspec", "to_builtins", "pickle", "pickle in a list", "dict", "list"],
)
def test_it_cannot_be_taken_apart_by_accident(take: Any) -> None:
    assert not is_dataclass(SECRET)
    assert vars(SECRET) == {}
    with pytest.raises(TypeError) as caught:
        take(SECRET)
    assert "secret" not in str(caught.value).lower()


def test_it_does_not_change() -> None:
    for name in ("access_token", "_access_token", "anything"):
        with pytest.raises(AttributeError):
            setattr(SECRET, name, "other")
        with pytest.raises(AttributeError):
            delattr(SECRET, name)
    with pytest.raises(TypeError):
        SECRET.extra["account_id"] = "other"  # type: ignore[index]
    extra = {"account_id": "ann"}
    credential = Credential("a", extra=extra)
    extra["account_id"] = "bob"
    assert credential.account_id == "ann"
    assert copy.copy(SECRET) is SECRET
    assert copy.deepcopy([SECRET])[0] is SECRET


def test_equal_ones_are_equal_and_hash_alike() -> None:
    def one(**other: Any) -> Credential:
        fields: dict[str, Any] = {"access_token": "a", "refresh_token": "r", "expires_at": 1, "extra": {"x": [1]}}
        return Credential(**(fields | other))

    assert one() == one()
    assert len({one(), one()}) == 1
    others: list[dict[str, Any]] = [{"access_token": "b"}, {"refresh_token": None}, {"expires_at": 2}, {"extra": {}}]
    for other in others:
        assert one(**other) != one()
    assert one() != "a"


@pytest.mark.parametrize(
    "arguments",
    [
        {"access_token": ""},
        {"access_token": None},
        {"access_token": 7},
        {"access_token": b"bytes"},
        {"access_token": "a\r\nX-Evil: 1"},
        {"access_token": "ü"},
        {"access_token": "a", "refresh_token": 7},
        {"access_token": "a", "expires_at": float("nan")},
        {"access_token": "a", "expires_at": float("inf")},
        {"access_token": "a", "expires_at": 10**400},
        {"access_token": "a", "expires_at": "soon"},
    ],
)
def test_nonsense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as caught:
        Credential(**arguments)
    assert "self = Credential()" in told_with_variables(caught.value)


def test_it_has_expired_when_its_time_has_come() -> None:
    assert [Credential("a", expires_at=10).expired(now) for now in (9.9, 10, 11)] == [False, True, True]
    assert not Credential("a").expired(1e12)


# StaticCredentials ---------------------------------------------------------------------------------------------------


async def test_a_key_that_was_given_is_used_and_never_replaced() -> None:
    key = StaticCredentials("key")
    assert isinstance(key, CredentialSource)
    assert (await key.current()).access_token == "key"
    refresh: Any = key.refresh
    assert await refresh(CredentialRejected("401", credential=await key.current())) is None
    assert (await key.current()).access_token == "key"
    assert await StaticCredentials(SECRET).current() is SECRET
    for odd in ("", None, "ü"):
        with pytest.raises(ValueError):
            StaticCredentials(odd)  # type: ignore[arg-type]


# MemoryStore ---------------------------------------------------------------------------------------------------------


async def test_memory_keeps_what_was_saved() -> None:
    store = MemoryStore()
    assert isinstance(store, CredentialStore)
    assert await store.load() is None
    assert await store.delete() is False
    await store.save(SECRET)
    assert await store.load() is SECRET
    async with store.locked():
        await store.save(Credential("inside"))
        assert await store.delete() is True
    assert await store.load() is None
    with pytest.raises(TypeError):
        MemoryStore("token")  # type: ignore[arg-type]


async def test_the_lock_of_one_store_opens_no_other() -> None:
    one, other = MemoryStore(), MemoryStore()
    taken = asyncio.Event()

    async def save() -> None:
        await taken.wait()
        async with one.locked():
            await other.save(SECRET)

    saving = asyncio.create_task(save())  # here, where it does not inherit the lock
    async with other.locked():
        taken.set()
        for _ in range(10):
            await asyncio.sleep(0)
        assert await other.load() is None
    await saving
    assert await other.load() == SECRET
    async with asyncio.timeout(5), one.locked(), other.locked():
        await one.save(SECRET)
    assert await one.load() == SECRET


async def test_a_waiter_that_has_gone_is_passed_over() -> None:
    store = MemoryStore()
    async with asyncio.timeout(5):
        async with store.locked():
            waiting = [asyncio.create_task(store.locked().__aenter__(), context=Context()) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            await asyncio.wait(waiting[:1])
            waiting[1].cancel()  # in the moment in which it is its turn
        await waiting[2]


def test_a_lock_that_was_given_back_is_forgotten() -> None:
    """Or a task that refreshes for weeks would remember them all, and look through them each time."""

    class Lock:
        pass

    lock = Lock()
    forgotten = weakref.ref(lock)
    with holding(MemoryStore(), lock):
        del lock
        assert forgotten() is not None
    assert forgotten() is None


async def test_its_lock_is_given_in_the_order_of_asking() -> None:
    store = MemoryStore()
    order: list[int] = []

    async def enter(number: int) -> None:
        async with store.locked():
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(enter(number) for number in range(20)))
    assert order == list(range(20))


def test_its_lock_excludes_loops_on_other_threads() -> None:
    store = MemoryStore()
    inside = most = 0

    async def enter() -> None:
        nonlocal inside, most
        for _ in range(50):
            async with store.locked():
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

    threads = [threading.Thread(target=lambda: asyncio.run(enter())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == 1
    asyncio.run(enter())


@pytest.mark.parametrize("steps", range(6))
async def test_a_waiter_that_is_cancelled_at_any_step_keeps_no_lock(steps: int) -> None:
    store = MemoryStore()

    async def enter() -> None:
        async with store.locked():
            await asyncio.sleep(0)

    async with store.locked():
        waiters = [asyncio.create_task(enter()) for _ in range(3)]
        await asyncio.sleep(0)
    for _ in range(steps):
        await asyncio.sleep(0)
    waiters[0].cancel()
    async with asyncio.timeout(5):
        await asyncio.wait(waiters)
        async with store.locked():
            pass


# Imports -------------------------------------------------------------------------------------------------------------


def test_what_is_not_used_is_not_imported() -> None:
    script = """
import sys
from rxauth.credentials import Credential, MemoryStore, StaticCredentials
heavy = {"aiohttp", "filelock", "redis", "tenacity", "reactivex"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    import rxauth.credentials

    assert set(rxauth.credentials.__all__) <= set(dir(rxauth.credentials))
    with pytest.raises(AttributeError, match="Nonsense"):
        rxauth.credentials.Nonsense  # noqa: B018
