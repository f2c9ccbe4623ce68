"""What counts as an auth failure: rules that compose.

    is_auth_error                       the default: a status, else a structured code, else the text, conservatively
    is_auth_error | status(403)         a provider that answers 403 for a stale token
    is_auth_error & ~text("K3")         one message that a refresh cannot mend

A rule is called with a failure (an error event, an exception, a `NeverLiveError`, whose failure is judged) and says
yes or no. Anything else is no failure, and what the credential logic itself raises is final: both are always no. By
itself a rule knows an error event by its `type`, which ends with error, failed or failure; inside an operator, what
`is_error` says is an error event is one, whatever it is called.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any, TypeAlias

from rxauth.errors import CredentialError, NeverLiveError, causes

__all__ = ["Rule", "error_type", "is_auth_error", "judge_known", "status", "status_of", "text", "type_of"]

Judge: TypeAlias = Callable[[Any], bool]

_LENGTH = 8192  # of a message: what refuses a credential says so early, and a page of HTML is long
_WORD = 256  # of a code or a type
_PARTS = 40  # that are asked for one: a hostile failure is made of more, and so is every mock


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
        failure = _unwrapped(failure)
        return _is_failure(failure) and self._judge(failure)

    def of_known_failure(self, failure: Any) -> bool:
        """The same of what the caller knows to be a failure, whatever its type is called and whether it has one."""
        failure = _unwrapped(failure)
        return not _is_final(failure) and self._judge(failure)

    def __or__(self, other: Judge) -> Rule:
        mine, theirs = self._judge, _inside(other)
        return Rule(lambda failure: mine(failure) or theirs(failure), f"({self!r} | {other!r})")

    def __ror__(self, other: Judge) -> Rule:
        mine, theirs = self._judge, _inside(other)
        return Rule(lambda failure: theirs(failure) or mine(failure), f"({other!r} | {self!r})")

    def __and__(self, other: Judge) -> Rule:
        mine, theirs = self._judge, _inside(other)
        return Rule(lambda failure: mine(failure) and theirs(failure), f"({self!r} & {other!r})")

    def __rand__(self, other: Judge) -> Rule:
        mine, theirs = self._judge, _inside(other)
        return Rule(lambda failure: theirs(failure) and mine(failure), f"({other!r} & {self!r})")

    def __invert__(self) -> Rule:
        mine = self._judge
        return Rule(lambda failure: not mine(failure), f"~{self!r}")

    def __repr__(self) -> str:
        return self._name


def judge_known(judge: Judge, failure: Any) -> bool:
    """What `judge` says of what an operator knows to be a failure: by `is_error`, whatever the events are called."""
    return judge.of_known_failure(failure) if isinstance(judge, Rule) else judge(failure)


def status(*codes: int) -> Rule:
    """Failures with one of these HTTP statuses (400 to 599).

    >>> status(403)({"type": "error", "error": {"code": 403}})
    True
    """
    return Rule(lambda failure: status_of(failure) in codes, f"status({', '.join(map(str, codes))})")


def error_type(*names: str) -> Rule:
    """Failures with one of these structured codes or types, `expired_token` and `ExpiredToken` alike.

    >>> error_type("ExpiredTokenException")({"type": "error", "error": {"type": "ExpiredTokenException"}})
    True
    """
    wanted = {_normal(name) for name in names}
    return Rule(lambda failure: not wanted.isdisjoint(_words(failure)), f"error_type({', '.join(map(repr, names))})")


def text(pattern: str | re.Pattern[str]) -> Rule:
    """Failures with a message in which the regular expression is found, upper and lower case alike.

    One that is compiled has flags of its own.

    >>> text("token .* stale")(RuntimeError("the token is stale"))
    True
    """
    compiled = pattern if isinstance(pattern, re.Pattern) else re.compile(pattern, re.IGNORECASE)
    return Rule(lambda failure: any(map(compiled.search, _texts(failure))), f"text({compiled.pattern!r})")


def type_of(event: Any) -> Any:
    """The `type` of an event: an attribute, or the key of a mapping; `None` if it has none."""
    return _get(event, "type")


def status_of(failure: Any) -> int | None:
    """The HTTP status that a failure carries: 400 to 599, on itself, its `error` (or `response.error`), its `cause` or
    along `__cause__`.

    Any other number says nothing: SDKs report 200 for an error that came in-band.

    >>> status_of({"type": "error", "error": {"status_code": 401}})
    401
    """
    for part in _parts(failure):
        for each in causes(part) if isinstance(part, BaseException) else (part,):
            if each is not failure and isinstance(each, CredentialError):
                break  # that is the token endpoint's
            found = _own_status(each)
            if found is not None:
                return found
    return None


def _unwrapped(failure: Any) -> Any:
    return failure.failure if isinstance(failure, NeverLiveError) else failure


def _inside(judge: Judge) -> Judge:
    """What a composed rule asks of a part: that it is a failure is established once, for the whole."""
    return judge._judge if isinstance(judge, Rule) else judge


def _is_failure(failure: Any) -> bool:
    if _is_final(failure):
        return False
    if isinstance(failure, BaseException):
        return True
    kind = type_of(failure)
    return isinstance(kind, str) and _ERROR_EVENT.search(kind[-_WORD:]) is not None


def _is_final(failure: Any) -> bool:
    """What the credential logic itself says, or nothing at all."""
    return (
        failure is None or isinstance(failure, CredentialError) or isinstance(_get(failure, "cause"), CredentialError)
    )


def _judge_auth(failure: Any) -> bool:
    code = status_of(failure)
    if code is not None and code != 401:
        return False
    words = _words(failure)
    texts = _texts(failure)
    refusals = texts + _body_texts(failure)
    for body in [body for each in refusals for body in _bodies(each)]:
        words |= _words(body)
        code = code or status_of(body)
    if code is not None and code != 401:
        return False
    if not words.isdisjoint(_NOT_ALLOWED) or any(map(_NOT_ALLOWED_TEXT.search, refusals)):
        return False
    if code == 401 or not words.isdisjoint(_AUTH):
        return True
    return words.isdisjoint(_OTHER) and any(map(_says_auth, texts))


is_auth_error = Rule(_judge_auth, "is_auth_error")


# Reading a failure ---------------------------------------------------------------------------------------------------


def _get(value: Any, name: str) -> Any:
    # `dict` and `None` first: to ask an abstract class costs more than all the rest, and thousands may fail together.
    if value is None:
        return None
    try:
        return value.get(name) if isinstance(value, (dict, Mapping)) else getattr(value, name, None)
    except Exception:
        return None


def _values(value: Any, names: tuple[str, ...]) -> list[Any]:
    """What it has of these; whether it is a mapping is asked once."""
    try:
        mapping = isinstance(value, (dict, Mapping))
    except Exception:  # a proxy for what is not there just now has no class either
        return []
    found = []
    for name in names:
        try:
            each = value.get(name) if mapping else getattr(value, name, None)
        except Exception:  # noqa: S112 - a property of somebody else's that raises
            continue
        if each is not None:
            found.append(each)
    return found


def _parts(failure: Any) -> list[Any]:
    """Where a failure says what went wrong. An event such as `response.failed` has it in the response it ends with."""
    places = failure, _get(failure, "error"), _get(_get(failure, "response"), "error"), _get(failure, "cause")
    return [part for part in places if part is not None]


def _own_status(value: Any) -> int | None:
    if isinstance(value, str):
        return None
    candidates = _values(value, ("status", "status_code", "code"))
    response = _get(value, "response")
    if response is not None:
        candidates += _values(response, ("status", "status_code"))
    for candidate in candidates:
        number = _number(candidate)
        if number is not None and 400 <= number <= 599:
            return number
    return None


def _number(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        return int(value)
    return None


def _words(failure: Any) -> set[str]:
    """Every structured code or type on the failure and inside its error, body and causes; nothing that was said."""
    # botocore's errors say it in the response's "Error"
    waiting = [failure, *_values(_get(failure, "response"), ("error", "Error"))]
    words = set()
    for part in islice(waiting, _PARTS):  # to which is added meanwhile
        if isinstance(part, (str, bytes, CredentialError)):
            continue
        for word in _values(part, ("type", "code", "Code", "status", "error")):
            if isinstance(word, str):
                words.add(_normal(word))
        waiting += _values(part, ("error", "body", "cause", "__cause__"))
    return words


def _texts(failure: Any) -> list[str]:
    """The messages of a failure: its own, its error's, its cause's. Never what the assistant said."""
    texts = []
    for part in _parts(failure):
        if isinstance(part, str):
            continue
        if isinstance(part, BaseException):
            texts.append(_text(part))
        said = _values(part, ("message", "error_message", "errorMessage"))
        texts += [each[:_LENGTH] for each in said if isinstance(each, str)]
    return texts


def _text(error: BaseException) -> str:
    try:
        return str(error)[:_LENGTH]
    except Exception:  # aiohttp's ClientResponseError made by hand is one whose text cannot be had
        return ""


def _body_texts(failure: Any) -> list[str]:
    """What the body of a refusal says in words."""
    texts = []
    for part in (failure, _get(failure, "cause")):
        body = _get(part, "body")
        if body is None:
            continue
        if isinstance(body, bytes):
            body = body[:_LENGTH].decode(errors="replace")
        said = body, _get(body, "message"), _get(_get(body, "error"), "message")
        texts += [each[:_LENGTH] for each in said if isinstance(each, str)]
    return texts


def _bodies(message: str) -> Iterator[Any]:
    """JSON objects inside a message, outermost only."""
    at = message.find("{")
    for _ in range(8):  # a message made of braces must not cost quadratic time
        if at < 0:
            return
        try:
            body, end = _decoder.raw_decode(message, at)
        except ValueError:
            end = at + 1
        except RecursionError:  # so it is from the next brace on
            return
        else:
            yield body
        at = message.find("{", end)


_decoder = json.JSONDecoder()


def _normal(word: str) -> str:
    """The same for `authentication_error`, `authentication-error` and `AuthenticationError`."""
    return word[:_WORD].casefold().translate(_SEPARATORS)


_SEPARATORS = str.maketrans("", "", "-_ \t\n\r")


# The vocabulary of failures ------------------------------------------------------------------------------------------


def vocabulary(*words: str) -> frozenset[str]:
    return frozenset(map(_normal, words))


class _Pattern:
    """A regular expression that is compiled when the first failure is judged: most programs start without one."""

    def __init__(self, pattern: str, flags: re.RegexFlag) -> None:
        self._pattern = pattern
        self._flags = flags

    def search(self, text: str) -> re.Match[str] | None:
        return self._compiled.search(text)

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self._pattern, self._flags)


_ERROR_EVENT = _Pattern(r"(?:error|failed|failure)$", re.IGNORECASE)

_AUTH = vocabulary(
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
)

# Right credential, not enough of it: a refresh brings the same answer, also where the status is 401.
_NOT_ALLOWED = vocabulary(
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
)

_OTHER = vocabulary(
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
)

_NOT_ALLOWED_TEXT = _Pattern(
    r"""
      \b (?:subscription|plan|tier) \b [^.]{0,120}
        \b (?:does\ not|doesn.t|do\ not|don.t|only|not\ include|no\ longer|upgrade) \b
    | \b (?:subscription|plan) \ (?:has\ |is\ )? (?:expired|ended|inactive|required) \b
    | \b (?: upgrade | change | requires | exceed(?:s|ed)? | no\ active | only\ available
           | not\ (?:available|included|supported|allowed|enabled|part|covered) ) \b
      [^.]{0,120} \b (?:subscription|subscribers?|plan|tier) \b (?!\ key)
    | \b insufficient \ quota \b
    | \b permission \ (?:denied|error) \b
    | \b (?:no|missing|insufficient) \ (?:\w+\ )? permissions? \b
    | (?: \b (?:not\ have|lack|lacks|lacking|requires) | n.t\ have ) \b [^.]{0,40} \b permissions? \b
    | \b (?:missing|insufficient) [\ _] scopes? \b
    | \b (?:permission_error|permission_denied|insufficient_scope) \b
    """,
    re.IGNORECASE | re.VERBOSE,
)

_STATUS_SAID = _Pattern(
    r"""
      ^\s* (?:error\s+)? (?P<first>[45]\d\d) \b
        (?P<follows> \s* (?: [:{(\[] | -\s | [.!]?\s*$ | unauthori[sz]ed\b | status\b | client\ error\b ) )?
    | \b HTTP (?: /\d(?:\.\d)? )? (?: \s+ (?:status|error|code) ){0,2} [\s:=]+ (?P<http>[45]\d\d) \b (?!\.\d)
    | \b status (?: [\s_]? code )? \s* (?: [:=]\s* | \s (?:is|was|of)?\s* ) (?P<status>[45]\d\d) \b (?!\.\d)
    | \b (?: error\s+code | api\s+error ) \s* [:=(]? \s* (?P<code>[45]\d\d) \b (?!\.\d)
    | (?<![\d.:]) \b (?P<before>[45]\d\d) \s+ (?: status\ code | unauthori[sz]ed ) \b
    """,
    re.IGNORECASE | re.VERBOSE,
)

_SAYS_BAD = r"(?:expired|invalidated|revoked)"
_SAYS_INVALID = r"(?:invalid|expired|revoked|not\s+valid|incorrect)"
_IS = r"(?: (?: is | was | has | has\s+been | have\s+been | may\s+have | may\s+have\s+been | appears\s+to\s+be ) \s+ )?"
_WHOSE = r"(?: oauth|access|bearer|auth|authentication|authorization|session|api|id )"

_AUTH_TEXT = _Pattern(
    rf"""
      \b (?:invalid|incorrect|expired|revoked|invalidated|stale) \s+
         (?: x-api-key | api[\s_-]?key | {_WHOSE} [\s_-]+ (?:token|key)
           | (?:authentication|authorization|auth) \s+ (?:credentials?|header) | credentials | authentication ) \b
    | \b (?:expired|invalidated|revoked) \s+ token \b
    | (?<!page\ ) (?<!pagination\ ) (?<!continuation\ ) (?<!cancellation\ )
      (?<!csrf\ ) (?<!sync\ ) (?<!unexpected\ ) (?<!next\ ) \b (?:token|jwt) \s+ {_IS} {_SAYS_BAD} \b
    | \b {_WHOSE} [\s_-]+ token \s+ (?:provided\s+)? {_IS} {_SAYS_INVALID} \b
    | ^\s* (?: invalid\s+token | (?:(?:the|your)\s+)? token\s+is\s+(?:invalid|not\s+valid) ) [.!]? \s*$
    | \b api[\s_-]?key \s+ {_IS} {_SAYS_INVALID} \b
    | \b authentication \s+ (?:failed|fails|required|error) \b
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
