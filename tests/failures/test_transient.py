"""Which failures may pass by themselves, how long to wait for it, and how they are named."""

from __future__ import annotations

import email.message
import urllib.error
from typing import Any

import aiohttp
import pytest

from rxauth import backoff
from rxauth.credentials._post import EndpointUnavailable
from rxauth.errors import (
    AccountChanged,
    LoginRequired,
    NeverLiveError,
    ProviderUnavailable,
    RefreshFailed,
    TransientError,
)
from rxauth.failures import is_transient, name_of, retry_after_of, seconds_to_wait

from .made import caused, failure, group, in_band, of_sdk

NO_HEADERS = email.message.Message()
BUSY = {"code": "server_error"}


def of_type(word: str) -> dict[str, Any]:
    return in_band(error={"type": word})


@pytest.mark.parametrize(
    ("failure", "transient"),
    [
        pytest.param(OSError(), True, id="OSError"),
        pytest.param(TimeoutError(), True, id="TimeoutError"),
        pytest.param(TransientError("busy"), True, id="TransientError"),
        pytest.param(ProviderUnavailable("busy"), True, id="ProviderUnavailable"),
        pytest.param(aiohttp.ServerDisconnectedError(), True, id="aiohttp: the server disconnected"),
        pytest.param(aiohttp.ClientPayloadError(), True, id="aiohttp: the body was cut off"),
        *(pytest.param(failure(status=code), True, id=str(code)) for code in (408, 425, 429, 500, 529, 599)),
        pytest.param(in_band(status=529), True, id="an error event's status"),
        pytest.param(in_band(cause=OSError()), True, id="an error event's cause"),
        pytest.param(NeverLiveError((), OSError()), True, id="the failure of a NeverLiveError"),
        *(pytest.param(of_type(word), True, id=word) for word in ("overloaded_error", "rate_limit_error")),
        pytest.param({"type": "response.failed", "response": {"error": BUSY}}, True, id="responses"),
        pytest.param(of_sdk(200, of_type("overloaded_error")), True, id="an SDK's in-band overload, with status 200"),
        pytest.param(EndpointUnavailable("no JSON", type="x", status=401), True, id="a token endpoint's 401 in HTML"),
        pytest.param(group(OSError(), failure(status=503)), True, id="a group of transient errors"),
        pytest.param(ValueError(), False, id="another exception"),
        pytest.param(LoginRequired("log in"), False, id="LoginRequired"),
        pytest.param(AccountChanged("another"), False, id="AccountChanged"),
        pytest.param(RefreshFailed("no", type="server_error", status=503), False, id="RefreshFailed, after its tries"),
        pytest.param(in_band(cause=LoginRequired("log in")), False, id="an event with LoginRequired"),
        *(pytest.param(failure(status=code), False, id=repr(code)) for code in (400, 403, 499, 200, True, "503 x")),
        pytest.param(None, False, id="a completion"),
        pytest.param(of_sdk(400, of_type("overloaded_error")), False, id="a status decides before a code"),
        pytest.param(of_sdk(429, of_type("insufficient_quota")), False, id="429 for a quota that is used up"),
        pytest.param(of_type("authentication_error"), False, id="in-band authentication_error"),
        pytest.param(TransientError("HTTP 401"), False, id="an auth failure of a transient type"),
        pytest.param(group(OSError(), ValueError()), False, id="a group with another error"),
        pytest.param(caused(OSError(), LoginRequired("log in")), False, id="a connection error for a failed refresh"),
        pytest.param(type("PermissionDenied", (OSError,), {})("m"), False, id="an OSError whose class refuses"),
        pytest.param(OSError("HTTP 401"), False, id="an OSError about a credential"),
        pytest.param(urllib.error.HTTPError("x", 404, "m", NO_HEADERS, None), False, id="an OSError's status"),
    ],
)
def test_is_transient_judges(failure: Any, transient: bool) -> None:
    assert is_transient(failure) is transient


def test_is_transient_keeps_its_place_in_backoff() -> None:
    assert backoff.is_transient is is_transient


@pytest.mark.parametrize(
    ("failure", "seconds"),
    [
        (TransientError("busy", retry_after=7), 7.0),
        (TransientError("busy", retry_after=0), 0.0),
        (NeverLiveError((), in_band(cause=TransientError("busy", retry_after=2.5))), 2.5),
        *((failure(retry_after=value), None) for value in (-1, "7", True, float("inf"), float("nan"))),
        (of_sdk(429, None, **{"Retry-After": "9"}), 9.0),
        (of_sdk(429, None), None),
        (None, None),
    ],
)
def test_retry_after_of_reads_a_number_of_seconds(failure: Any, seconds: float | None) -> None:
    assert retry_after_of(failure) == seconds


@pytest.mark.parametrize(
    ("failure", "name"),
    [
        (failure("canary", status=401), "Exception"),
        ({"type": "canary", "cause": TimeoutError("canary")}, "TimeoutError"),
        ({"type": "canary"}, "dict"),
        (RefreshFailed("canary", type="server_error"), "server_error"),
    ],
)
def test_name_of_comes_from_code(failure: Any, name: str) -> None:
    """A server may echo the token in its type, code or message."""
    assert name_of(failure) == name


DATE = "Thu, 01 Jan 1970 00:02:00"
NO_WAITS = ("", "soon", "-1", "inf", "nan", "1e9", "\u0667", "9" * 400, "1_0", "Thu, 99 Jan 99999999999 00:00:00 GMT")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({"Retry-After": "7"}, 7.0, id="seconds"),
        pytest.param({"retry-after": "0"}, 0.0, id="no seconds, and a name in lower case"),
        pytest.param(email.message_from_string("Retry-After: 7\n\n"), 7.0, id="the headers of urllib"),
        pytest.param({"Retry-After": " 1.5 "}, 1.5, id="a fraction"),
        pytest.param({"retry-after-ms": "250", "Retry-After": "1"}, 0.25, id="milliseconds are more precise"),
        pytest.param({"Retry-After": f"{DATE} GMT"}, 20.0, id="a date, by this clock"),
        pytest.param({"Retry-After": f"{DATE} -0000"}, 20.0, id="a date without a zone"),
        pytest.param({"Retry-After": f"{DATE} GMT", "Date": "Thu, 01 Jan 1970 00:01:30 GMT"}, 30.0, id="by its clock"),
        pytest.param({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0, id="a date in the past is now"),
        pytest.param({}, None, id="nothing"),
        pytest.param(None, None, id="no headers"),
        *(pytest.param({"Retry-After": value}, None, id=value[:12] or "empty") for value in NO_WAITS),
    ],
)
def test_seconds_to_wait_reads_both_headers(headers: Any, seconds: float | None) -> None:
    assert seconds_to_wait(headers, now=100) == seconds
