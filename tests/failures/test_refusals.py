"""How well real refusals are judged, each in the forms in which a program meets it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from rxauth.failures import is_auth_error, is_transient

from .refusals import AUTH, REFUSED, TRANSIENT, Refusal


class SdkError(Exception):
    """As an official SDK raises it: a status, a decoded body, a response with headers, a text that repeats them."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"Error code: {status} - {body}")
        self.status_code = status
        self.body = body
        self.response = SimpleNamespace(status_code=status, headers={})


def forms(refusal: Refusal) -> Iterator[tuple[str, Any]]:
    """Yield the refusal as a structure, as an error event, as JSON text and as the Python repr."""
    _, status, body = refusal
    as_json = body if isinstance(body, str) else json.dumps(body)
    if status is None:
        yield "structure", SdkError(200, body)
        yield "JSON text", Exception(as_json)
        yield "repr", Exception(str(body))
    else:
        yield "structure", SdkError(status, body)
        yield "JSON text", Exception(f"{status}: {as_json}")
        yield "repr", Exception(f"Error code: {status} - {body}")
    yield "event", {"type": "error", "status": status, "error": body}


@pytest.mark.parametrize("refusal", AUTH + REFUSED + TRANSIENT, ids=lambda refusal: refusal[0])
def test_refusal_is_judged_alike_in_every_form(refusal: Refusal) -> None:
    verdicts = {form: (is_auth_error(failure), is_transient(failure)) for form, failure in forms(refusal)}
    assert len(set(verdicts.values())) == 1, verdicts


@pytest.mark.parametrize(
    ("rule", "accepted", "others"),
    [
        pytest.param(is_auth_error, AUTH, REFUSED + TRANSIENT, id="is_auth_error"),
        pytest.param(is_transient, TRANSIENT, AUTH + REFUSED, id="is_transient"),
    ],
)
def test_rule_is_right_on_real_refusals(rule: Any, accepted: list[Refusal], others: list[Refusal]) -> None:
    """At least 95 of 100 are found, and at least 95 of 100 that are found are right."""
    missed = [(r[0], form) for r in accepted for form, failure in forms(r) if not rule(failure)]
    wrong = [(r[0], form) for r in others for form, failure in forms(r) if rule(failure)]
    total = sum(1 for r in accepted for _ in forms(r))
    found = total - len(missed)
    precision, recall = found / (found + len(wrong)), found / total
    print(f"{len(accepted)} of {len(accepted + others)} refusals: precision {precision:.3f}, recall {recall:.3f}")
    assert min(precision, recall) >= 0.95, (precision, recall, missed, wrong)


def test_table_has_over_a_hundred_refusals() -> None:
    assert len(AUTH + REFUSED + TRANSIENT) >= 100
