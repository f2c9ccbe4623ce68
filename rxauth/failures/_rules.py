"""Compose rules about failures with `|`, `&` and `~`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

from rxauth.errors import CredentialError, field
from rxauth.failures._kinds import Kind, kind_of
from rxauth.failures._reading import Reading, leaves
from rxauth.failures._words import normal

Judge: TypeAlias = Callable[[Any], bool]


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
    wanted = {normal(name) for name in names}
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
