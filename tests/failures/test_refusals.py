"""How well real refusals are judged, each in the forms in which a program meets it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from rxauth.failures import is_auth_error, is_transient

from .made import failure, in_band, of_sdk
from .refusals import AUTH, REFUSED, TRANSIENT, Refusal


def forms(refusal: Refusal) -> Iterator[Any]:
    """Yield the refusal as an SDK's exception, as an error event, as JSON text and as the Python repr."""
    _, status, body = refusal
    as_json = body if isinstance(body, str) else json.dumps(body)
    yield of_sdk(status or 200, body)
    yield in_band(status=status, error=body)
    yield failure(f"{status}: {as_json}" if status else as_json)
    yield failure(f"Error code: {status} - {body}" if status else str(body))


@pytest.mark.parametrize("refusal", AUTH + REFUSED + TRANSIENT, ids=lambda refusal: refusal[0])
def test_refusal_is_judged_alike_in_every_form(refusal: Refusal) -> None:
    verdicts = [(is_auth_error(failure), is_transient(failure)) for failure in forms(refusal)]
    assert len(set(verdicts)) == 1, verdicts


@pytest.mark.parametrize(
    ("rule", "accepted", "others"),
    [
        pytest.param(is_auth_error, AUTH, REFUSED + TRANSIENT, id="is_auth_error"),
        pytest.param(is_transient, TRANSIENT, AUTH + REFUSED, id="is_transient"),
    ],
)
def test_rule_is_right_on_real_refusals(rule: Any, accepted: list[Refusal], others: list[Refusal]) -> None:
    """At least 95 of 100 are found, and at least 95 of 100 that are found are right."""
    assert len(accepted + others) >= 195
    missed = [refusal[0] for refusal in accepted for failure in forms(refusal) if not rule(failure)]
    wrong = [refusal[0] for refusal in others for failure in forms(refusal) if rule(failure)]
    found = sum(1 for refusal in accepted for _ in forms(refusal)) - len(missed)
    precision, recall = found / (found + len(wrong)), found / (found + len(missed))
    print(f"{len(accepted)} of {len(accepted + others)} refusals: precision {precision:.3f}, recall {recall:.3f}")
    assert min(precision, recall) >= 0.95, (precision, recall, missed, wrong)
