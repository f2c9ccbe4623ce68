"""Which failures may pass by themselves, how long to wait for it, and how they are named."""

from __future__ import annotations

import email.message
import urllib.error
from types import SimpleNamespace
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


def with_status(status: Any) -> Exception:
    error = Exception("canary")
    vars(error)["status"] = status
    return error


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


def http_error(code: int) -> Exception:
    return urllib.error.HTTPError("http://127.0.0.1/", code, "m", email.message.Message(), None)


def in_band(word: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": word}}


def of_sdk(status: int, word: str, **headers: str) -> Exception:
    error = Exception("canary")
    vars(error).update(status_code=status, body=in_band(word), response=SimpleNamespace(headers=headers))
    return error


@pytest.mark.parametrize(
    ("failure", "transient"),
    [
        pytest.param(OSError(), True, id="OSError"),
        pytest.param(TimeoutError(), True, id="TimeoutError"),
        pytest.param(ConnectionResetError(), True, id="a connection reset"),
        pytest.param(TransientError("busy"), True, id="TransientError"),
        pytest.param(ProviderUnavailable("busy"), True, id="ProviderUnavailable"),
        pytest.param(aiohttp.ServerDisconnectedError(), True, id="aiohttp: the server disconnected"),
        pytest.param(aiohttp.ClientPayloadError(), True, id="aiohttp: the body was cut off"),
        *(pytest.param(with_status(code), True, id=str(code)) for code in (408, 425, 429, 500, 503, 529, 599)),
        pytest.param({"type": "error", "status": 529}, True, id="an error event's status"),
        pytest.param({"type": "error", "cause": OSError()}, True, id="an error event's cause"),
        pytest.param(NeverLiveError((), OSError()), True, id="the failure of a NeverLiveError"),
        pytest.param(ValueError(), False, id="another exception"),
        pytest.param(LoginRequired("log in"), False, id="LoginRequired"),
        pytest.param(AccountChanged("another"), False, id="AccountChanged"),
        pytest.param(RefreshFailed("no", type="server_error", status=503), False, id="RefreshFailed, after its tries"),
        pytest.param({"type": "error", "cause": LoginRequired("log in")}, False, id="an event with LoginRequired"),
        *(pytest.param(with_status(code), False, id=repr(code)) for code in (400, 401, 403, 499, 200, True, "503 x")),
        pytest.param(None, False, id="a completion"),
        *(pytest.param(in_band(word), True, id=f"in-band {word}") for word in ("overloaded_error", "rate_limit_error")),
        pytest.param(
            {"type": "response.failed", "response": {"error": {"code": "server_error"}}}, True, id="responses"
        ),
        pytest.param(of_sdk(200, "overloaded_error"), True, id="an SDK's in-band overload, with status 200"),
        pytest.param(of_sdk(400, "overloaded_error"), False, id="a status decides before a code"),
        pytest.param(of_sdk(429, "insufficient_quota"), False, id="429 for a quota that is used up"),
        pytest.param(in_band("authentication_error"), False, id="in-band authentication_error"),
        pytest.param(TransientError("HTTP 401"), False, id="an auth failure of a transient type"),
        pytest.param(EndpointUnavailable("no JSON", type="x", status=401), True, id="a token endpoint's 401 in HTML"),
        pytest.param(ExceptionGroup("g", [OSError(), with_status(503)]), True, id="a group of transient errors"),
        pytest.param(ExceptionGroup("g", [OSError(), ValueError()]), False, id="a group with another error"),
        pytest.param(caused(OSError(), LoginRequired("log in")), False, id="a connection error for a failed refresh"),
        pytest.param(type("PermissionDenied", (OSError,), {})("m"), False, id="an OSError whose class refuses"),
        pytest.param(OSError("HTTP 401"), False, id="an OSError about a credential"),
        pytest.param(http_error(404), False, id="an OSError with another status"),
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
        (NeverLiveError((), {"type": "error", "cause": TransientError("busy", retry_after=2.5)}), 2.5),
        *((TransientError("busy", retry_after=value), None) for value in (-1, "7", True, float("inf"), float("nan"))),  # type: ignore[arg-type]
        (of_sdk(429, "rate_limit_error", **{"Retry-After": "9"}), 9.0),
        (of_sdk(429, "rate_limit_error"), None),
        (None, None),
    ],
)
def test_retry_after_of_reads_a_number_of_seconds(failure: Any, seconds: float | None) -> None:
    assert retry_after_of(failure) == seconds


@pytest.mark.parametrize(
    ("failure", "name"),
    [
        (with_status(401), "Exception"),
        ({"type": "canary", "cause": TimeoutError("canary")}, "TimeoutError"),
        ({"type": "canary"}, "dict"),
        (RefreshFailed("canary", type="server_error"), "server_error"),
    ],
)
def test_name_of_comes_from_code(failure: Any, name: str) -> None:
    """A server may echo the token in its type, code or message."""
    assert name_of(failure) == name


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({"Retry-After": "7"}, 7.0, id="seconds"),
        pytest.param({"Retry-After": "0"}, 0.0, id="no seconds"),
        pytest.param({"retry-after": "7"}, 7.0, id="a name in lower case"),
        pytest.param(email.message_from_string("Retry-After: 7\n\n"), 7.0, id="the headers of urllib"),
        pytest.param(None, None, id="no headers"),
        pytest.param({"Retry-After": " 1.5 "}, 1.5, id="a fraction"),
        pytest.param({"retry-after-ms": "250", "Retry-After": "1"}, 0.25, id="milliseconds are more precise"),
        pytest.param({"Retry-After": "Thu, 01 Jan 1970 00:02:00 GMT"}, 20.0, id="a date, by this clock"),
        pytest.param({"Retry-After": "Thu, 01 Jan 1970 00:02:00 -0000"}, 20.0, id="a date without a zone"),
        pytest.param(
            {"Retry-After": "Fri, 02 Jan 2026 00:00:30 GMT", "Date": "Fri, 02 Jan 2026 00:00:00 GMT"},
            30.0,
            id="a date, by the server's clock",
        ),
        pytest.param({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0, id="a date in the past is now"),
        pytest.param({}, None, id="nothing"),
        *(
            pytest.param({"Retry-After": value}, None, id=value[:12] or "empty")
            for value in (
                "",
                "soon",
                "-1",
                "inf",
                "nan",
                "1e9",
                "\u0667",
                "9" * 400,
                "1_0",
                "Thu, 99 Jan 99999999999 00:00:00 GMT",
            )
        ),
    ],
)
def test_seconds_to_wait_reads_both_headers(headers: Any, seconds: float | None) -> None:
    assert seconds_to_wait(headers, now=100) == seconds
