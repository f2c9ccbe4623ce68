"""The error tree: its shape, its texts, its copies and pickles."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from types import SimpleNamespace
from typing import Any

import pytest

import rxauth.errors
from rxauth import Credential
from rxauth.errors import (
    CredentialRejected,
    NeverLiveError,
    ProtocolError,
    ProviderUnavailable,
    RefreshFailed,
    RxAuthError,
    StreamCut,
    TransientError,
    causes,
)

CLASSES = [each for _, each in inspect.getmembers(rxauth.errors, inspect.isclass) if issubclass(each, RxAuthError)]

EXAMPLES = [
    TransientError("busy", retry_after=7.0),
    RefreshFailed("a sentence", type="server_error", status=503),
    RefreshFailed(type="TimeoutError"),
    ProviderUnavailable("503: busy", status=503, retry_after=2.0, request_id="r"),
    CredentialRejected("401: no", status=401, code="invalid_api_key", type="a", credential=Credential("canary")),
    StreamCut("cut"),
    NeverLiveError(({"type": "start"},), ValueError),
]


class Status(Exception):
    def __init__(self, text: str, **attributes: Any) -> None:
        super().__init__(text)
        vars(self).update(attributes)


class Broken(Exception):
    @property
    def status(self) -> int:
        raise RuntimeError("not sent")

    cause = error = status


def test_tree_is_as_drawn() -> None:
    drawn: dict[str, int] = {}
    for line in inspect.getdoc(rxauth.errors).splitlines():  # type: ignore[union-attr]
        found = re.match(r"    ((?:│   |    )*)(?:├── |└── |)([A-Z]\w+)", line)
        if found:
            drawn[found[2]] = (len(found[1]) // 4) + ("── " in line)
    path: list[str] = []
    for name, depth in drawn.items():
        path[depth:] = [name]
        cls = getattr(rxauth.errors, name)
        assert depth == 0 or cls.__bases__[0].__name__ == path[depth - 1]
    assert set(drawn) == {each.__name__ for each in CLASSES} == set(rxauth.errors.__all__)


def test_transient_errors_are_so_by_their_class() -> None:
    transient = {each.__name__ for each in CLASSES if issubclass(each, TransientError)}
    assert transient == {"TransientError", "ProviderUnavailable", "ConnectionFailed", "StreamCut"}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("travel", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"])
def test_error_keeps_its_facts_when_copied_or_pickled(error: Exception, travel: Any) -> None:
    arrived = travel(error)
    assert type(arrived) is type(error)
    facts = vars(error) | ({"credential": None} if "credential" in vars(error) else {})
    assert (str(arrived), arrived.args, vars(arrived)) == (str(error), error.args, facts)


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        pytest.param(None, "it completed without an event that counts", id="a completion"),
        pytest.param(Status("canary"), "(Status)", id="an exception by its class"),
        pytest.param(Status("canary", status=401), "(Status, status 401)", id="an exception's status"),
        pytest.param(Status("canary", response=Status("", status_code=503)), "status 503", id="its response's"),
        pytest.param(Status("canary", status=200, code=401), "status 401", id="a status that is a failure's"),
        pytest.param({"type": "error", "status": 429}, "(error, status 429)", id="a mapping's type and status"),
        pytest.param(SimpleNamespace(type="response.failed"), "(response.failed)", id="an event's type"),
        pytest.param({"type": "error", "error": {"code": 401}}, "(error, status 401)", id="its error's status"),
        pytest.param({"type": "canary canary"}, "(dict)", id="no type that is a text"),
        pytest.param({"type": "error", "cause": Status("", status=401)}, "(Status, status 401)", id="the cause"),
        pytest.param(Broken(), "(Broken)", id="properties that raise"),
    ],
)
def test_text_names_the_failure_without_its_words(failure: Any, says: str) -> None:
    error = NeverLiveError(("canary",), failure)
    assert says in str(error)
    assert "flush_on_complete_or_error()" in str(error)
    assert "canary" not in str(error) + repr(error)


def test_never_live_error_of_another_is_one() -> None:
    failure = ValueError()
    outer = NeverLiveError(("a",), NeverLiveError(("b",), NeverLiveError(("c",), failure)))
    assert (outer.held, outer.failure, outer.__cause__) == (("a", "b", "c"), failure, failure)
    assert NeverLiveError((), {"type": "error"}).__cause__ is None


def test_refresh_failed_with_equal_facts_is_equal() -> None:
    assert "(server_error, status 503)" in str(RefreshFailed(type="server_error", status=503))
    assert RefreshFailed(type="a", status=1) == RefreshFailed(type="a", status=1)
    assert len({RefreshFailed(type="a"), RefreshFailed(type="a"), RefreshFailed(type="b")}) == 2
    assert RefreshFailed(type="a") != RefreshFailed("another sentence", type="a")
    for name in ("type", "status"):
        with pytest.raises(AttributeError):
            setattr(RefreshFailed(type="a"), name, "b")


def test_causes_end_in_a_circle() -> None:
    first, second = ProtocolError("one"), ValueError("two")
    first.__cause__, second.__cause__ = second, first
    assert list(causes(first)) == [first, second]
    assert list(causes(None)) == []
