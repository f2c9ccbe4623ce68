"""Failures that are made to raise, to hang or to lie."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import hypothesis.strategies as st
import pytest
from hypothesis import given

from rxauth.failures import Reading, is_auth_error, is_transient, rejected_credential, retry_after_of, status_of

from .made import failure, in_band


class Raising:
    """Whose every attribute raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class Proxy:
    """Without a class, as a lazy proxy outside of its context."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("outside of a request")

    @__class__.setter
    def __class__(self, _: Any) -> None: ...


class Wordless(Exception):
    """Without a text: aiohttp's ClientResponseError is so where it was made without a request."""

    def __str__(self) -> str:
        raise AttributeError("'NoneType' object has no attribute 'real_url'")


class Unsent(Exception):
    @property
    def response(self) -> Any:
        raise RuntimeError("The request was not sent.")


class Unreadable(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("closed")

    get = items  # type: ignore[assignment]


def endless(**fields: Any) -> dict[str, Any]:
    loop = in_band(**fields)
    loop.update(error=loop, body=loop, cause=loop, response=loop, errors=[loop] * 5)
    return loop


@pytest.mark.parametrize(
    ("hostile", "auth"),
    [
        pytest.param(Unsent("HTTP 401"), True, id="a property that raises"),
        pytest.param(failure("HTTP 401", response=Proxy()), True, id="a response that is a lazy proxy"),
        pytest.param(in_band(status=401, message=Proxy()), True, id="a message that is one"),
        pytest.param(failure("HTTP 401", error=Raising(), body=Raising()), True, id="attributes that raise"),
        pytest.param(in_band(status=401, error=Unreadable()), True, id="a mapping that raises inside"),
        pytest.param(SimpleNamespace(type="error", cause=Wordless(), status=401), True, id="no text, but a status"),
        pytest.param(endless(status=401), True, id="a failure that contains itself"),
        pytest.param(failure(response=Mock(status_code=401)), True, id="a mock of a response"),
        pytest.param(Wordless(), False, id="no text"),
        pytest.param(Unreadable(type="error"), False, id="a mapping that raises"),
        pytest.param(endless(), False, id="nothing in a failure that contains itself"),
        pytest.param(failure(error=Mock(), body=Mock()), False, id="mocks that have every attribute"),
        pytest.param(Mock(spec=Exception), False, id="a mock of an exception"),
        pytest.param(Mock(), False, id="a mock"),
    ],
)
def test_hostile_failure_is_judged(hostile: Any, auth: bool) -> None:
    assert (is_auth_error(hostile), is_transient(hostile)) == (auth, False)
    assert (retry_after_of(hostile), rejected_credential(hostile)) == (None, None)
    assert status_of(hostile) in (401, None)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "x", "{", "'", '{"a":', "{'a':", "{'", " ", "401 ", "HTTP ", "token has  ", "api key is ", "plan no ",
        "upgrade plan ", "account ", "ip address ", "country ", "requires ",
    ],
)  # fmt: skip
def test_long_text_is_judged_in_a_moment(text: str) -> None:
    """In linear time on a bounded part: quadratic time would take minutes."""
    long = text * (1_000_000 // len(text))
    assert not is_auth_error(failure(long))
    assert not is_auth_error({"type": "error" + long, "error": {"type": long, "code": long, "message": long}})
    many = [{"message": f"{n}{long[:9000]}", "errors": [f"{n} {long[:9000]}"] * 9} for n in range(50)]
    assert not is_auth_error(in_band(errors=many, body=many, detail=many))
    assert sum(map(len, Reading(many).texts)) < 20_000


def test_objects_without_end_are_read_ten_deep() -> None:
    reads = []

    class Endless:
        def __getattr__(self, name: str) -> Any:
            reads.append(name)
            return Endless()

    assert not is_auth_error(failure(error=Endless(), body=Endless()))
    assert len(reads) < 300


names = st.sampled_from(["type", "error", "code", "status", "message", "body", "cause", "response", "metadata"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20)
json_like = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4))


@given(json_like, st.text(max_size=300))
def test_no_shape_of_a_failure_raises(shape: Any, words: str) -> None:
    for hostile in (
        in_band(error=shape, body=shape, cause=shape, message=words),
        failure(words, error=shape, body=shape, response=shape, code=shape, status=shape, headers=shape),
        failure(repr(shape)),
    ):
        assert {is_auth_error(hostile), is_transient(hostile)} <= {True, False}
