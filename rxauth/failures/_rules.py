"""Rules that judge a failure, and the judgement behind them."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias

from rxauth.errors import CredentialError, CredentialRejected, ProviderUnavailable, RequestRejected, field
from rxauth.failures._reading import Reading, leaves
from rxauth.failures._words import (
    AUTH,
    AUTH_SENTENCES,
    AUTH_TEXT,
    BUSY,
    CERTAIN_TEXT,
    DENIED,
    DENIED_TEXT,
    FORBIDDEN,
    FORBIDDEN_TEXT,
    REQUEST,
    STATUS_AT_START,
    STATUS_TEXT,
    UNAUTHORIZED,
    USED_UP,
    normal,
)

Judge: TypeAlias = Callable[[Any], bool]
_Judge: TypeAlias = Callable[[Reading], bool]

TRANSIENT_STATUS = frozenset({408, 425, 429, *range(500, 600)})


class Kind(Enum):
    """The caller's next action after a provider's failure."""

    AUTH = "refresh the credential"
    BUSY = "try again later"
    REFUSED = "change the request, the plan or the permissions"
    UNKNOWN = "read the message"


class Rule:
    """A judgement of failures that composes with `|`, `&` and `~`, also with a plain function on either side.

    >>> stale = is_auth_error | status(403)
    >>> stale({"type": "error", "status": 403})
    True
    """

    __slots__ = ("_judge", "_name")

    def __init__(self, judge: Callable[[Reading], bool], name: str) -> None:
        self._judge = judge
        self._name = name

    def __call__(self, failure: Any) -> bool:
        """Judge an error event, an exception or a NeverLiveError; anything else is no failure.

        An exception group is what all of its exceptions are.
        """
        return all(_is_failure(each) and self._judge(Reading(each)) for each in leaves(failure))

    def of_known_failure(self, failure: Any) -> bool:
        """Judge what the caller knows to be a failure, whatever its type is called and whether it has one."""
        return all(not _is_final(each) and self._judge(Reading(each)) for each in leaves(failure))

    def __or__(self, other: Judge) -> Rule:
        mine, theirs = self._judge, _on_reading(other)
        return Rule(lambda reading: mine(reading) or theirs(reading), f"({self!r} | {other!r})")

    def __ror__(self, other: Judge) -> Rule:
        mine, theirs = self._judge, _on_reading(other)
        return Rule(lambda reading: theirs(reading) or mine(reading), f"({other!r} | {self!r})")

    def __and__(self, other: Judge) -> Rule:
        mine, theirs = self._judge, _on_reading(other)
        return Rule(lambda reading: mine(reading) and theirs(reading), f"({self!r} & {other!r})")

    def __rand__(self, other: Judge) -> Rule:
        mine, theirs = self._judge, _on_reading(other)
        return Rule(lambda reading: theirs(reading) and mine(reading), f"({other!r} & {self!r})")

    def __invert__(self) -> Rule:
        mine = self._judge
        return Rule(lambda reading: not mine(reading), f"~{self!r}")

    def __repr__(self) -> str:
        return self._name


def _on_reading(judge: Judge) -> _Judge:
    """Let the parts of a composed rule share one reading."""
    return judge._judge if isinstance(judge, Rule) else lambda reading: judge(reading.failure)


def judge_known(judge: Judge, failure: Any) -> bool:
    """Ask `judge` about what an operator knows to be a failure: by `is_error`, whatever its events are called."""
    return judge.of_known_failure(failure) if isinstance(judge, Rule) else judge(failure)


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
    wanted = {normal(name) for name in names}
    return Rule(lambda reading: not wanted.isdisjoint(reading.words), f"error_type({', '.join(map(repr, names))})")


def text(pattern: str | re.Pattern[str]) -> Rule:
    """Accept failures with a message in which the regular expression is found, upper and lower case alike.

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

    Any other number says nothing: SDKs report 200 for an error that came in-band.

    >>> status_of({"type": "error", "error": {"status_code": 401}})
    401
    """
    found = {Reading(leaf).status for leaf in leaves(failure)}
    return found.pop() if len(found) == 1 else None


def _is_failure(failure: Any) -> bool:
    if _is_final(failure):
        return False
    if isinstance(failure, BaseException):
        return True
    kind = type_of(failure)
    return isinstance(kind, str) and kind[-7:].lower().endswith(("error", "failed", "failure"))


def _is_final(failure: Any) -> bool:
    """Whether it comes from the credential logic, which has tried what can be tried, or is nothing at all."""
    return (
        failure is None or isinstance(failure, CredentialError) or isinstance(field(failure, "cause"), CredentialError)
    )


def kind_of(reading: Reading) -> Kind:
    """Name the caller's next action. The order of the questions is the precedence of the evidence."""
    for cls, kind in _OURS if reading.ours is not None else ():
        if isinstance(reading.ours, cls):
            return kind
    words, texts = reading.words, [text.lower() for text in reading.texts]
    code = reading.status or _status_in(texts)
    if code not in (None, 400, 401, 403):
        return Kind.BUSY if code in TRANSIENT_STATUS and words.isdisjoint(USED_UP) else Kind.REFUSED
    if not words.isdisjoint(DENIED) or any(map(DENIED_TEXT.search, texts)):
        return Kind.REFUSED
    if not words.isdisjoint(AUTH):
        return Kind.AUTH
    if code is None and not words.isdisjoint(BUSY):
        return Kind.BUSY
    if any(map(CERTAIN_TEXT.search, texts)):
        return Kind.AUTH
    if not words.isdisjoint(FORBIDDEN) or any(map(FORBIDDEN_TEXT.search, texts)):
        return Kind.REFUSED
    if code is not None:
        return Kind.AUTH if code == 401 else Kind.REFUSED
    if not words.isdisjoint(UNAUTHORIZED):
        return Kind.AUTH
    if not words.isdisjoint(REQUEST):
        return Kind.REFUSED
    if any(map(AUTH_TEXT.search, texts)) or any(text.strip().rstrip(".!") in AUTH_SENTENCES for text in texts):
        return Kind.AUTH
    return Kind.UNKNOWN


def _status_in(texts: list[str]) -> int | None:
    """Find the status that a message says in words: "HTTP 401", "403: ..."."""
    for each in texts:
        first = STATUS_AT_START.match(each)
        if first is not None:
            # "401 ms elapsed" is no status; "500 upstream gateway said 401" is one.
            if first["code"] != "401" or first["follows"] is not None:
                return int(first["code"])
            continue
        said = STATUS_TEXT.search(each)
        if said is not None:
            return int(said["http"] or said["status"] or said["code"] or said["before"])
    return None


_OURS = ((CredentialRejected, Kind.AUTH), (RequestRejected, Kind.REFUSED), (ProviderUnavailable, Kind.BUSY))

is_auth_error = Rule(lambda reading: kind_of(reading) is Kind.AUTH, "is_auth_error")
