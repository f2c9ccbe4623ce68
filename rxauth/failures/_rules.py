"""Judge failures: what status, codes and texts mean for the caller, and rules that compose with `|`, `&` and `~`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias

from rxauth.errors import (
    CredentialError,
    CredentialRejected,
    ProviderUnavailable,
    RequestRejected,
    TransientError,
    field,
)
from rxauth.failures import _words as vocabulary
from rxauth.failures._reading import Reading, leaves

Judge: TypeAlias = Callable[[Any], bool]

TRANSIENT_STATUS = frozenset({408, 425, 429, *range(500, 600)})

# Looked up in sys.modules: no failure is an instance of a class that was never imported.
_CONNECTION_ERRORS = (
    ("aiohttp", "ClientConnectionError"),
    ("aiohttp", "ClientPayloadError"),
    ("httpx", "TransportError"),
    ("httpx2", "TransportError"),
    ("anthropic", "APIConnectionError"),
    ("openai", "APIConnectionError"),
    ("botocore.exceptions", "ConnectionError"),
    ("botocore.exceptions", "HTTPClientError"),
)


class Kind(Enum):
    """The caller's next action after a provider's failure."""

    AUTH = "refresh the credential"
    BUSY = "try again later"
    REFUSED = "change the request, the plan or the permissions"
    UNKNOWN = "read the message"


_OWN_ERRORS = ((CredentialRejected, Kind.AUTH), (RequestRejected, Kind.REFUSED), (ProviderUnavailable, Kind.BUSY))


def kind_of(reading: Reading) -> Kind:
    """Return the caller's next action. The first question with an answer decides: the surest evidence comes first."""
    for cls, kind in _OWN_ERRORS:
        if isinstance(reading.own_error, cls):
            return kind
    texts = [text.lower() for text in reading.texts]
    code = reading.status or _status_in(texts)

    def has(words: frozenset[str]) -> bool:
        return not words.isdisjoint(reading.words)

    def says(pattern: str) -> bool:
        return any(vocabulary.search(pattern, text) for text in texts)

    if code not in (None, 400, 401, 403):
        return Kind.BUSY if code in TRANSIENT_STATUS and not has(vocabulary.USED_UP) else Kind.REFUSED
    if has(vocabulary.DENIED) or says(vocabulary.DENIED_TEXT):
        return Kind.REFUSED
    if has(vocabulary.REJECTED if code == 400 else vocabulary.AUTH):
        return Kind.AUTH
    if code is None and has(vocabulary.BUSY):
        return Kind.BUSY
    if says(vocabulary.CERTAIN_TEXT):
        return Kind.AUTH
    if has(vocabulary.FORBIDDEN) or says(vocabulary.FORBIDDEN_TEXT):
        return Kind.REFUSED
    if code is not None:
        return Kind.AUTH if code == 401 else Kind.REFUSED
    if has(vocabulary.UNAUTHORIZED):
        return Kind.AUTH
    if has(vocabulary.REQUEST):
        return Kind.REFUSED
    return Kind.AUTH if says(vocabulary.AUTH_TEXT) else Kind.UNKNOWN


def is_transient(failure: Any) -> bool:
    """Return whether the same call may succeed when it is made again.

    Yes: `rxauth.TransientError`; a status of 408, 425, 429 or 5xx, a code such as `overloaded_error`; where there is no
    status, `OSError` (timeouts, connections) and the connection errors of aiohttp, httpx, httpx2, botocore and the
    official SDKs. No: an auth failure, a quota that is used up, the errors of `OAuthCredentials`, which has retried
    already, and all else.

    >>> is_transient(TimeoutError()), is_transient(ValueError()), is_transient({"type": "error", "status": 529})
    (True, False, True)
    """
    return all(map(_is_transient, leaves(failure)))


def _is_transient(failure: Any) -> bool:
    reading = Reading(failure)
    cause = failure if isinstance(failure, BaseException) else field(failure, "cause")
    if isinstance(cause, CredentialError) or reading.refresh_failed:
        return False
    kind = kind_of(reading)
    if isinstance(cause, TransientError):
        # A status on it was judged where it was made: a token endpoint's 401 without a code is transient.
        return kind is not Kind.AUTH or field(cause, "status") is not None
    if kind is not Kind.AUTH and reading.status is None and isinstance(cause, (OSError, *_connection_errors())):
        return reading.words.isdisjoint(
            vocabulary.FORBIDDEN | vocabulary.REQUEST
        )  # databricks' PermissionDenied is an OSError
    return kind is Kind.BUSY


def _connection_errors() -> tuple[type[BaseException], ...]:
    found = (getattr(sys.modules.get(module), name, None) for module, name in _CONNECTION_ERRORS)
    return tuple(each for each in found if isinstance(each, type))


def _status_in(texts: list[str]) -> int | None:
    """Find a status in the text of a message: "HTTP 401", "403: ..."."""
    for each in texts:
        first = vocabulary.search(vocabulary.STATUS_AT_START, each)
        if first is not None:
            # "401 ms elapsed" has no status; "500 upstream gateway said 401" has 500.
            if first["code"] != "401" or first["follows"] is not None:
                return int(first["code"])
            continue
        found = vocabulary.search(vocabulary.STATUS_TEXT, each)
        if found is not None:
            return int(found["http"] or found["status"] or found["code"] or found["before"])
    return None


class Rule:
    """Judge failures; compose with `|`, `&` and `~`, also with a plain function on either side.

    >>> stale = is_auth_error | status(403)
    >>> stale({"type": "error", "status": 403})
    True
    """

    __slots__ = ("_judge", "_name")

    def __init__(self, judge: Callable[[Reading], bool], name: str) -> None:
        self._judge = judge
        self._name = name

    def __call__(self, failure: Any, *, known: bool = False) -> bool:
        """Judge an error event, an exception or a NeverLiveError; anything else is no failure.

        The answer for an exception group is yes if it is yes for each of its exceptions.

        Args:
            failure: the failure.
            known: whether the caller has recognized it as one, whatever its `type` is.
        """
        failures = leaves(failure)
        return all(_is_failure(each, known=known) and self._judge(Reading(each)) for each in failures)

    def __or__(self, other: Judge) -> Rule:
        mine, theirs = self._judge, _as_rule(other)._judge
        return Rule(lambda reading: mine(reading) or theirs(reading), f"({self!r} | {other!r})")

    def __ror__(self, other: Judge) -> Rule:
        return _as_rule(other) | self

    def __and__(self, other: Judge) -> Rule:
        mine, theirs = self._judge, _as_rule(other)._judge
        return Rule(lambda reading: mine(reading) and theirs(reading), f"({self!r} & {other!r})")

    def __rand__(self, other: Judge) -> Rule:
        return _as_rule(other) & self

    def __invert__(self) -> Rule:
        mine = self._judge
        return Rule(lambda reading: not mine(reading), f"~{self!r}")

    def __repr__(self) -> str:
        return self._name


def _as_rule(judge: Judge) -> Rule:
    """Return a rule that judges as `judge` does, so that the parts of a composed rule share one reading."""
    return judge if isinstance(judge, Rule) else Rule(lambda reading: judge(reading.failure), repr(judge))


def judge_known(judge: Judge, failure: Any) -> bool:
    """Judge a failure that `is_error` has recognized, even where its `type` does not look like an error."""
    return judge(failure, known=True) if isinstance(judge, Rule) else judge(failure)


def status(*codes: int) -> Rule:
    """Accept failures with one of these HTTP statuses (400 to 599).

    >>> status(403)({"type": "error", "error": {"code": 403}})
    True
    """
    return Rule(lambda reading: reading.status in codes, f"status({', '.join(map(str, codes))})")


def error_type(*names: str) -> Rule:
    """Accept failures with one of these structured codes or types, `expired_token` and `ExpiredToken` alike.

    >>> error_type("ExpiredTokenException")({"type": "error", "error": {"type": "ExpiredTokenException"}})
    True
    """
    wanted = {vocabulary.normal(name) for name in names}
    return Rule(lambda reading: not wanted.isdisjoint(reading.words), f"error_type({', '.join(map(repr, names))})")


def text(pattern: str | re.Pattern[str]) -> Rule:
    """Accept failures with a message in which the regular expression is found, ignoring case.

    A compiled pattern keeps its own flags.

    >>> text("token .* stale")(RuntimeError("the token is stale"))
    True
    """
    compiled = pattern if isinstance(pattern, re.Pattern) else re.compile(pattern, re.IGNORECASE)
    return Rule(lambda reading: any(map(compiled.search, reading.texts)), f"text({compiled.pattern!r})")


def type_of(event: Any) -> Any:
    """Return the `type` of an event, an attribute or the key of a mapping; `None` if it has none."""
    return field(event, "type")


def status_of(failure: Any) -> int | None:
    """Return the HTTP status that a failure carries: 400 to 599, on itself, its `error`, `body`, `response` or `cause`,
    or along `__cause__`.

    Any other number is ignored: SDKs report 200 for an error that came in-band.

    >>> status_of({"type": "error", "error": {"status_code": 401}})
    401
    """
    found = {Reading(leaf).status for leaf in leaves(failure)}
    return found.pop() if len(found) == 1 else None


def _is_failure(failure: Any, *, known: bool) -> bool:
    """Return whether there is something to judge: no completion, and nothing that the credential logic has retried."""
    if failure is None or isinstance(failure, CredentialError) or isinstance(field(failure, "cause"), CredentialError):
        return False
    kind = type_of(failure)
    is_error = isinstance(kind, str) and kind[-7:].lower().endswith(("error", "failed", "failure"))
    return known or is_error or isinstance(failure, BaseException)


is_auth_error = Rule(lambda reading: kind_of(reading) is Kind.AUTH, "is_auth_error")
