"""What counts as an auth failure: rules that compose.

    is_auth_error                       the default: a status, else a structured code, else the text, conservatively
    is_auth_error | status(403)         a provider that answers 403 for a stale token
    is_auth_error & ~text("K3")         one message that a refresh cannot mend

A rule is called with a failure (an error event, an exception, a `NeverLiveError`, whose failure is judged) and says
yes or no. Anything else is no failure, and what the credential logic itself raises is final: both are always no.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from rxauth.errors import CredentialError, NeverLiveError, causes

__all__ = ["Rule", "error_type", "is_auth_error", "status", "status_of", "text", "type_of"]

Judge: TypeAlias = Callable[[Any], bool]

_LENGTH = 8192  # of a message: what refuses a credential says so early, and a page of HTML is long
_DEPTH = 6  # of bodies inside errors inside causes: no provider nests deeper, a hostile one may


class Rule:
    """A judgement of failures that composes with `|`, `&` and `~`, also with a plain function on either side.

    >>> stale = is_auth_error | status(403)
    >>> stale({"type": "error", "status": 403})
    True
    """

    __slots__ = ("_judge", "_name")

    def __init__(self, judge: Judge, name: str) -> None:
        self._judge = judge
        self._name = name

    def __call__(self, failure: Any) -> bool:
        """Whether it is one."""
        for _ in range(_DEPTH):
            if not isinstance(failure, NeverLiveError):
                break
            failure = failure.failure
        return _is_failure(failure) and self._judge(failure)

    def __or__(self, other: Judge) -> Rule:
        return Rule(lambda failure: self(failure) or other(failure), f"({self!r} | {other!r})")

    def __ror__(self, other: Judge) -> Rule:
        return Rule(lambda failure: other(failure) or self(failure), f"({other!r} | {self!r})")

    def __and__(self, other: Judge) -> Rule:
        return Rule(lambda failure: self(failure) and other(failure), f"({self!r} & {other!r})")

    def __rand__(self, other: Judge) -> Rule:
        return Rule(lambda failure: other(failure) and self(failure), f"({other!r} & {self!r})")

    def __invert__(self) -> Rule:
        return Rule(lambda failure: not self(failure), f"~{self!r}")

    def __repr__(self) -> str:
        return self._name


def status(*codes: int) -> Rule:
    """Failures with one of these HTTP statuses (400 to 599).

    >>> status(403)({"type": "error", "error": {"code": 403}})
    True
    """
    return Rule(lambda failure: status_of(failure) in codes, f"status({', '.join(map(str, codes))})")


def error_type(*names: str) -> Rule:
    """Failures with one of these structured codes or types, upper and lower case alike.

    >>> error_type("ExpiredTokenException")({"type": "error", "error": {"type": "ExpiredTokenException"}})
    True
    """
    wanted = {_normal(name) for name in names}
    return Rule(lambda failure: not wanted.isdisjoint(_words(failure)), f"error_type({', '.join(map(repr, names))})")


def text(pattern: str) -> Rule:
    """Failures with a message in which the regular expression is found, upper and lower case alike.

    >>> text("token .* stale")(RuntimeError("the token is stale"))
    True
    """
    compiled = re.compile(pattern, re.IGNORECASE)
    return Rule(lambda failure: any(map(compiled.search, _texts(failure))), f"text({pattern!r})")


def type_of(event: Any) -> Any:
    """The `type` of an event: an attribute, or the key of a mapping; `None` if it has none."""
    return _get(event, "type")


def status_of(failure: Any) -> int | None:
    """The HTTP status that a failure carries: 400 to 599, on itself, its `error`, its `cause` or along `__cause__`.

    Any other number says nothing: SDKs report 200 for an error that came in-band.

    >>> status_of({"type": "error", "error": {"status_code": 401}})
    401
    """
    for part in (failure, _get(failure, "error"), _get(failure, "cause")):
        for each in causes(part) if isinstance(part, BaseException) else (part,):
            found = _own_status(each)
            if found is not None:
                return found
    return None


def _is_failure(failure: Any) -> bool:
    if isinstance(failure, CredentialError):
        return False
    if isinstance(failure, BaseException):
        return True
    kind = type_of(failure)
    return isinstance(kind, str) and _ERROR_EVENT.search(kind) is not None and not _is_final(failure)


def _is_final(event: Any) -> bool:
    return isinstance(_get(event, "cause"), CredentialError)


def _judge_auth(failure: Any) -> bool:
    words = set(_words(failure))
    texts = list(_texts(failure))
    bodies = [body for each in texts for body in _bodies(each)]
    for body in bodies:
        words.update(_words(body))
    code = status_of(failure) or next(filter(None, map(status_of, bodies)), None)
    if code is not None and code != 401:
        return False
    if words & _NOT_ALLOWED or any(map(_NOT_ALLOWED_TEXT.search, texts)):
        return False
    if code == 401 or words & _AUTH:
        return True
    if words & _OTHER:
        return False
    return any(map(_says_auth, texts))


is_auth_error = Rule(_judge_auth, "is_auth_error")


# Reading a failure ---------------------------------------------------------------------------------------------------


def _get(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    try:
        return getattr(value, name, None)
    except Exception:
        return None


def _own_status(value: Any) -> int | None:
    if value is None or isinstance(value, str):
        return None
    response = _get(value, "response")
    for candidate in (
        _get(value, "status"),
        _get(value, "status_code"),
        _get(value, "code"),
        _get(response, "status"),
        _get(response, "status_code"),
    ):
        number = _number(candidate)
        if number is not None and 400 <= number <= 599:
            return number
    return None


def _number(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[45]\d\d", value, re.ASCII):
        return int(value)
    return None


def _words(failure: Any, depth: int = _DEPTH) -> Iterator[str]:
    """Every structured code or type on the failure and inside its error, body and causes; nothing that was said."""
    if depth == 0 or failure is None:
        return
    for name in ("type", "code", "status", "error"):
        word = _get(failure, name)
        if isinstance(word, str):
            yield _normal(word)
    for name in ("error", "body", "cause", "__cause__"):
        inner = _get(failure, name)
        if inner is not None and not isinstance(inner, str | bytes):
            yield from _words(inner, depth - 1)


def _texts(failure: Any) -> Iterator[str]:
    """The messages of a failure: its own, its error's, its cause's. Never what the assistant said."""
    for part in (failure, _get(failure, "error"), _get(failure, "cause")):
        if isinstance(part, BaseException):
            yield str(part)[:_LENGTH]
        if part is None or isinstance(part, str):
            continue
        for name in ("message", "error_message", "errorMessage"):
            message = _get(part, name)
            if isinstance(message, str):
                yield message[:_LENGTH]


def _bodies(message: str) -> Iterator[Any]:
    """JSON objects inside a message, outermost only."""
    at = message.find("{")
    for _ in range(8):  # a message made of braces must not cost quadratic time
        if at < 0:
            return
        try:
            body, end = _decoder.raw_decode(message, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield body
        at = message.find("{", end)


_decoder = json.JSONDecoder()


def _normal(word: str) -> str:
    return re.sub(r"[\s\-]+", "_", word.strip().casefold())


# The vocabulary of failures ------------------------------------------------------------------------------------------

_ERROR_EVENT = re.compile(r"(?:error|failed|failure)$", re.IGNORECASE)

_AUTH = frozenset(
    {
        "access_token_expired",
        "authentication_error",
        "authentication_failed",
        "authentication_required",
        "expired_access_token",
        "expired_token",
        "invalid_access_token",
        "invalid_api_key",
        "invalid_authentication",
        "invalid_authentication_error",
        "invalid_credentials",
        "invalid_token",
        "incorrect_api_key",
        "token_expired",
        "token_invalidated",
        "token_revoked",
        "unauthenticated",
        "unauthorized",
        "unauthorized_error",
    }
)

# Right credential, not enough of it: a refresh brings the same answer, also where the status is 401.
_NOT_ALLOWED = frozenset(
    {
        "access_denied",
        "access_terminated_error",
        "billing_error",
        "billing_hard_limit_reached",
        "forbidden",
        "insufficient_permissions",
        "insufficient_quota",
        "insufficient_scope",
        "permission_denied",
        "permission_denied_error",
        "permission_error",
        "quota_exceeded",
        "usage_limit_reached",
    }
)

_OTHER = frozenset(
    {
        "api_error",
        "bad_request",
        "content_filter",
        "context_length_exceeded",
        "engine_overloaded_error",
        "exceeded_current_quota_error",
        "internal_error",
        "internal_server_error",
        "invalid_request_error",
        "model_not_found",
        "not_found",
        "not_found_error",
        "overloaded",
        "overloaded_error",
        "rate_limit_error",
        "rate_limit_exceeded",
        "rate_limit_reached_error",
        "request_too_large",
        "resource_exhausted",
        "server_error",
        "service_unavailable",
        "timeout_error",
        "too_many_requests",
        "unavailable",
    }
)

_NOT_ALLOWED_TEXT = re.compile(
    r"""
      \b (?:subscription|plan|tier) \b [^.]{0,120}
        \b (?:does\ not|doesn't|do\ not|only|not\ include|no\ longer|upgrade) \b
    | \b (?:upgrade|change) \b [^.]{0,120} \b (?:subscription|plan|tier) \b
    | \b insufficient \ (?:permissions?|scopes?|quota) \b
    | \b (?: permission\ (?:denied|error) | no\ permission | not\ have\ (?:the\ )?permission | lacks?\ permission ) \b
    | \b (?:missing|insufficient) [\ _] scopes? \b
    | \b (?:permission_error|permission_denied|insufficient_scope) \b
    """,
    re.IGNORECASE | re.VERBOSE,
)

_STATUS_SAID = re.compile(
    r"""
      ^\s* (?:error\s+)? (?P<first>[45]\d\d) \b
        (?P<follows> \s* (?: [:{(\[] | -\s | $ | unauthori[sz]ed\b | status\b | client\ error\b ) )?
    | \b HTTP (?: /\d(?:\.\d)? )? (?: \s+ (?:status|error|code) ){0,2} [\s:=]+ (?P<http>[45]\d\d) (?![\d.]) \b
    | \b status (?: [\s_]? code )? \s* (?: [:=]\s* | \s (?:is|was|of)?\s* ) (?P<status>[45]\d\d) (?![\d.]) \b
    | \b error \s+ code \s* [:=]? \s* (?P<code>[45]\d\d) (?![\d.]) \b
    | (?<![\d.:]) \b (?P<before>[45]\d\d) \s+ (?: status\ code | unauthori[sz]ed ) \b
    """,
    re.IGNORECASE | re.VERBOSE,
)

_SAYS_BAD = r"(?:expired|invalidated|revoked)"
_SAYS_INVALID = r"(?:invalid|expired|revoked|not\s+valid|incorrect)"
_IS = r"(?: (?: is | was | has | has\s+been | have\s+been | may\s+have | may\s+have\s+been | appears\s+to\s+be ) \s+ )?"
_WHOSE = r"(?: oauth|access|bearer|auth|authentication|authorization|session|api|id )"

_AUTH_TEXT = re.compile(
    rf"""
      \b (?:invalid|incorrect|expired|revoked|invalidated|stale) \s+
         (?: x-api-key | api[\s_-]?key | {_WHOSE} [\s_-]+ (?:token|key)
           | (?:authentication|auth) \s+ (?:credentials?|header) | credentials | authentication ) \b
    | \b (?:expired|invalidated|revoked) \s+ token \b
    | (?<!page\ ) (?<!pagination\ ) (?<!continuation\ ) (?<!cancellation\ )
      (?<!csrf\ ) (?<!sync\ ) (?<!unexpected\ ) (?<!next\ ) \b token \s+ {_IS} {_SAYS_BAD} \b
    | \b {_WHOSE} [\s_-]+ token \s+ {_IS} {_SAYS_INVALID} \b
    | \b api[\s_-]?key \s+ {_IS} {_SAYS_INVALID} \b
    | \b authentication \s+ (?:failed|required|error) \b
    | \b (?:unauthori[sz]ed|unauthenticated) \b
    | \b (?:authentication_error|invalid_authentication_error|token_expired|invalid_api_key) \b
    """,
    re.IGNORECASE | re.VERBOSE,
)


def _says_auth(message: str) -> bool:
    said = _STATUS_SAID.search(message)
    if said is not None:
        if said["first"] is None:
            return (said["http"] or said["status"] or said["code"] or said["before"]) == "401"
        if said["first"] != "401":  # "500 upstream gateway said 401"
            return False
        if said["follows"] is not None:
            return True
    return _AUTH_TEXT.search(message) is not None
