"""A credential is a value that cannot be printed by accident."""

from __future__ import annotations

import copy
import dataclasses
import logging
import pickle
import traceback
from typing import Any

import pytest

from rxauth.credentials import Credential, CredentialSource, StaticCredentials, rejected_credential
from rxauth.errors import CredentialRejected
from rxauth.events import AssistantMessage, Error

CANARY = "canary-4711"


@pytest.fixture
def credential() -> Credential:
    return Credential(
        CANARY + "-access",
        refresh_token=CANARY + "-refresh",
        expires_at=1_700_000_000,
        scope="all",
        extra={"account_id": "me", "id_token": CANARY + "-id"},
    )


def test_its_tokens_are_plain_strings(credential: Credential) -> None:
    assert (credential.access_token, credential.refresh_token) == (CANARY + "-access", CANARY + "-refresh")
    assert (credential.expires_at, credential.token_type, credential.scope) == (1_700_000_000.0, "Bearer", "all")
    assert (credential.account_id, credential.extra["id_token"]) == ("me", CANARY + "-id")


@pytest.mark.parametrize(
    "shown",
    [
        repr,
        str,
        lambda c: f"{c}",
        lambda c: f"{c!r:>80}",
        vars,
        lambda c: [c],
        lambda c: {"c": c},
    ],
)
def test_no_way_of_printing_it_shows_a_token(credential: Credential, shown: Any) -> None:
    assert CANARY not in str(shown(credential))


def test_no_log_and_no_traceback_shows_a_token(credential: Credential, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("test").warning("%s %r", credential, credential)
    try:
        raise CredentialRejected("no", status=401, credential=credential)
    except CredentialRejected as error:
        told = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        told += repr(vars(error)) + repr(error)
    assert CANARY not in caplog.text + told


def test_it_neither_pickles_nor_turns_into_a_dict(credential: Credential) -> None:
    with pytest.raises(TypeError, match="store"):
        pickle.dumps(credential)
    thing: Any = credential
    with pytest.raises(TypeError):
        dataclasses.asdict(thing)


def test_an_error_that_holds_one_pickles_without_it(credential: Credential) -> None:
    error = pickle.loads(pickle.dumps(CredentialRejected("no", status=401, code="x", credential=credential)))
    assert (str(error), error.status, error.code, error.credential) == ("no", 401, "x", None)


def test_it_is_immutable_and_copies_to_itself(credential: Credential) -> None:
    for name in ("access_token", "_access_token", "anything"):
        with pytest.raises(AttributeError):
            setattr(credential, name, "other")
        with pytest.raises(AttributeError):
            delattr(credential, name)
    with pytest.raises(TypeError):
        credential.extra["more"] = 1  # type: ignore[index]
    assert copy.copy(credential) is credential
    assert copy.deepcopy({"c": credential})["c"] is credential


def test_two_with_the_same_values_are_equal(credential: Credential) -> None:
    same = Credential("a", "r", 5.0, extra={"x": 1})
    assert same == Credential("a", "r", 5, extra={"x": 1})
    assert hash(same) == hash(Credential("a", "r", 5, extra={"x": 1}))
    assert same != Credential("a", "r", 5, extra={"x": 2})
    assert same != credential
    assert len({same, Credential("a", "r", 5.0, extra={"x": 1})}) == 1


@pytest.mark.parametrize("token", ["", None, "with\nnewline", "with\0nul", "späť"])
def test_a_token_that_cannot_stand_in_a_header_is_refused_without_being_shown(token: Any) -> None:
    with pytest.raises(ValueError, match=r"access token") as refused:
        Credential(token)
    assert not token or token not in str(refused.value)


def test_a_failure_says_which_credential_it_was_made_with(credential: Credential) -> None:
    cause = CredentialRejected("no", status=401, credential=credential)
    outer = RuntimeError("wrapped")
    outer.__cause__ = cause
    for failure in (cause, outer, Error("error", AssistantMessage(), cause), {"type": "error", "cause": cause}):
        assert rejected_credential(failure) is credential
    nothing: list[Any] = [RuntimeError(), {"type": "error"}, None, "text"]
    assert [rejected_credential(failure) for failure in nothing] == [None] * 4


async def test_a_key_that_somebody_chose_is_never_exchanged() -> None:
    key: CredentialSource = StaticCredentials("key")
    assert isinstance(key, CredentialSource)
    assert (await key.current()).access_token == "key"
    assert await key.refresh(CredentialRejected("no", status=401)) is None
    assert "key" not in repr(key)
