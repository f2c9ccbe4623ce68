"""Which credential a failure is about."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rxauth import Credential
from rxauth.errors import CredentialRejected, NeverLiveError
from rxauth.failures import rejected_credential

from .made import caused, failure, group, in_band

GIVEN = Credential("given", refresh_token="canary")
CAUSE = CredentialRejected("no", status=401, credential=GIVEN)


@pytest.mark.parametrize(
    "carrier",
    [
        pytest.param(CAUSE, id="an exception"),
        pytest.param(in_band(cause=CAUSE), id="an event's cause"),
        pytest.param(NeverLiveError((), {"cause": CAUSE}), id="NeverLiveError"),
        pytest.param(caused(RuntimeError(), CAUSE), id="__cause__"),
        pytest.param(group(ValueError(), CAUSE), id="a group"),
    ],
)
def test_rejected_credential_is_the_one_carried_by(carrier: Any) -> None:
    assert rejected_credential(carrier) is GIVEN


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({"Authorization": "Bearer sent"}, "sent"),
        ({"authorization": " bearer  sent "}, "sent"),
        ({b"Authorization": b"Bearer sent"}, "sent"),
        ({"X-Api-Key": "sent"}, "sent"),
        ({"x-api-key": "other", "authorization": "Bearer sent"}, "sent"),
        ({"x-api-key": "sent", "authorization": "Basic c2VudA=="}, "sent"),
        ({"authorization": "Bearer "}, None),
        ({"authorization": "Bearer s\u00e9nt"}, None),
        ([("authorization", "Bearer sent")], None),
        (None, None),
    ],
)
def test_rejected_credential_is_read_from_headers(headers: Any, token: str | None) -> None:
    request = SimpleNamespace(headers=headers)
    for carrier in (failure(response=SimpleNamespace(request=request)), failure(request=request)):
        rejected = rejected_credential(carrier)
        assert (rejected.access_token if rejected else None) == token


@pytest.mark.parametrize("nothing", [None, RuntimeError(), {"cause": "x"}, CredentialRejected("401")], ids=repr)
def test_rejected_credential_of_nothing_is_none(nothing: Any) -> None:
    assert rejected_credential(nothing) is None
