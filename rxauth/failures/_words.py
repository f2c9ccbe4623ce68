"""The vocabulary of failures: codes, types and sentences that providers use. Data, no behaviour.

Collected from public reports and SDK sources; each group has its examples in tests/failures/refusals.py.
"""

from __future__ import annotations

import re
from functools import cache

_LONGEST_WORD = 256  # characters of a code or type that are read


def normal(word: str) -> str:
    """Spell a code or type one way: `expired_token`, `ExpiredToken` and `aws.service#ExpiredTokenException:http://...`.

    >>> normal("expired_token"), normal("com.amazon#ExpiredTokenException:http://internal.amazon.com")
    ('expiredtoken', 'expiredtoken')
    """
    word = word[:_LONGEST_WORD]
    if "#" in word or ":" in word:
        word = word.rpartition("#")[2].partition(":")[0]
    word = word.casefold().translate(_SEPARATORS)
    return word.removesuffix("exception") or word


_SEPARATORS = str.maketrans("", "", "-_ \t\n\r")


def _vocabulary(words: str) -> frozenset[str]:
    return frozenset(map(normal, words.split()))


# A key, a token or a session is not accepted: believed under 401, 403, 400 and without a status.
REJECTED = _vocabulary("""
    390114 390144 390195 390198 390303 390318 access_token_expired access_token_type_unsupported api_key_expired
    api_key_invalid authentication_token_expired expired_access_token expired_authentication_token expired_credentials
    expired_key expired_token incorrect_api_key invalid_access_token invalid_api_key invalid_authentication_token
    invalid_authorization_token invalid_client_token_id invalid_key invalid_session_id invalid_token jwt_expired
    request_expired session_expired token_expired token_invalid token_invalidated token_not_found_in_db token_revoked
    unrecognized_client
""")

# The same in general terms: believed under 401, 403 and without a status.
AUTH = REJECTED | _vocabulary("""
    authentication authentication_error authentication_failed authentication_required bad_credentials invalid_auth
    invalid_authentication invalid_authentication_error invalid_credentials unauthenticated unauthenticated_error
""")

# As weak as a status of 401: providers use these for permissions too.
UNAUTHORIZED = _vocabulary("unauthorized unauthorized_error not_authenticated")

# Refused in general; a provider uses it for a stale token too, and then says so in its message.
FORBIDDEN = _vocabulary("""
    access_denied authorization_error forbidden forbidden_error not_authorized permission permission_denied
    permission_denied_error permission_error request_forbidden
""")

# A limit that time does not lift soon: also under 429, where other limits are worth another try.
USED_UP = _vocabulary("""
    billing_error billing_hard_limit_reached billing_not_active budget_exceeded exceeded_current_quota_error
    insufficient_quota quota_exceeded usage_limit_reached
""")

# The credential is valid but lacks a right: after a refresh the answer is the same, also where the status is 401.
DENIED = USED_UP | _vocabulary("""
    access_terminated_error access_token_scope_insufficient account_deactivated account_disabled account_suspended
    api_key_http_referrer_blocked api_key_ip_address_blocked api_key_service_blocked consumer_invalid
    consumer_suspended iam_permission_denied insufficient_permissions insufficient_scope ip_not_authorized
    key_model_access_denied mismatched_organization mismatched_project missing_scope model_access_denied
    no_organization organization_deactivated organization_disabled service_disabled team_model_access_denied
    unsupported_country_region_territory user_blocked
""")

# The same request may succeed later.
BUSY = _vocabulary("""
    api_error api_timeout_error bad_gateway deadline_exceeded engine_overloaded_error gateway_timeout internal
    internal_error internal_failure internal_server internal_server_error model_not_ready model_stream_error
    model_timeout overloaded overloaded_error rate_limit rate_limit_error rate_limit_exceeded rate_limit_reached_error
    rate_limited resource_exhausted server_busy server_error server_overloaded service_unavailable
    service_unavailable_error slow_down temporarily_unavailable throttled throttling timeout timeout_error
    too_many_requests unavailable
""")

# The request has to be changed.
REQUEST = _vocabulary("""
    bad_request bad_request_error content_filter context_length_exceeded exceed_context_size_error failed_precondition
    invalid_argument invalid_request invalid_request_error model_not_found not_found not_found_error request_too_large
    resource_not_found unprocessable_entity unprocessable_entity_error unsupported_value validation validation_error
    value_error
""")


# Regular expressions for texts in lower case. Each alternative begins with letters and no case is ignored: so the
# engine skips what cannot match, which makes it five times as fast.


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.VERBOSE)


def search(pattern: str, text: str) -> re.Match[str] | None:
    """Find a pattern of this module, which is compiled when the first failure is judged."""
    return _compiled(pattern).search(text)


DENIED_TEXT = r"""
      (?:subscription|plan|\ tier) \b [^.]{0,120}
        \b (?:does\ not|doesn.t|do\ not|don.t|only|not\ include|no\ longer|upgrade) \b
    | (?:subscription|plan) \ (?:has\ |is\ )? (?:expired|ended|inactive|required) \b
    | (?: upgrade | change | requires | exceed(?:s|ed)? | no\ active | only\ available
         | not\ (?:available|included|supported|allowed|enabled|part|covered) ) \b
      [^.]{0,120} \b (?:subscription|subscribers?|plan|tier) \b (?!\ key)
    | insufficient \ (?:quota|credits?|balance|funds) \b
    | (?:out\ of|no) \ (?:\w+\ )? credits \b
    | (?:credit\ balance|payment\ (?:method|required)|(?:usage|spend|spending|budget)\ limit) \b
    | trial \b [^.]{0,30} \b (?:expired|ended|over) \b
    | exceeded \b [^.]{0,40} \b quota \b
    | quota \b [^.]{0,30} \b (?:exceeded|exhausted|reached) \b
    | permission \ (?:denied|error) \b
    | (?:no|missing|insufficient|sufficient) \ (?:\w+\ )? permissions? \b
    | (?: not\ have | l(?<!\wl)ack(?:s|ing)? | requires | n.t\ have ) \b [^.]{0,40} \b permissions? \b
    | (?:missing|insufficient) [\ _] (?:\w+\ )? scopes? \b
    | scope \ requirement \b
    | insufficient_scope \b
    | not \ (?:allowed|authori[sz]ed|permitted|entitled|eligible) \ (?:to|for|from|on|by|in) \b
    | not \ available \ (?:to|for) \ (?:your?|this) \b
    | must \ be \ verified \b
    | blocked \ by \b
    | lack(?:s|ing)? \ the \ required \b
    | not \ accessible \ by \b
    | (?: not | n.t ) \ have \ access \b
    | no \ access \ to \b
    | (?:account|organi[sz]ation|workspace|project|user) \b [^.]{0,60}
      \b (?:deactivated|disabled|suspended|terminated|banned|blocked|locked|restricted|inactive) \b
    | (?:deactivated|disabled|suspended) \ for \b [^.]{0,20} \b (?:account|organi[sz]ation|workspace|project) \b
    | tenant \b [^.]{0,60} \b not \ match \b
    | should\ match \ organi[sz]ation \b
    | member \ of \ an? \ organi[sz]ation \b
    | ip (?:\ address)? \b [^.]{0,40} \b (?:blocked|not\ (?:authori[sz]ed|allowed|permitted|whitelisted)) \b
    | (?:virtual\ network|firewall) \b
    | (?:country|region|territory|location) [^.]{0,40} \b not \ (?:supported|available|allowed) \b
    | not \ (?:supported|available|allowed) \ in \b [^.]{0,20} \b (?:country|region|territory|location) \b
    """

FORBIDDEN_TEXT = r"permission[\s_]?(?:error|denied) | forbidden\b | access[\s_]?denied (?!\ due\b)"

STATUS_AT_START = r"""
      \A \s* \[? (?:error\s+)? (?P<code>[45]\d\d) \b
        (?P<follows> \s* (?: [:{(\[\]] | -\s | [.!]?\s*$ | unauthori[sz]ed\b | status\b | client\ error\b ) )?
    """

STATUS_TEXT = r"""
      http (?: /\d(?:\.\d)? )? (?: \s+ (?:status|error|code) ){0,2} [\s:=]+ (?P<http>[45]\d\d) \b (?!\.\d)
    | status (?: [\s_]? code )? \s* (?: [:=]\s* | \s (?:is|was|of)?\s* ) (?P<status>[45]\d\d) \b (?!\.\d)
    | (?: error\s+code | api\s+error ) \s* [:=(]? \s* (?P<code>[45]\d\d) \b (?!\.\d)
    | (?P<before>[45]\d\d) (?<![\w.:]\d\d\d) \s+ (?: status\ code | unauthori[sz]ed ) \b
    """

# How gRPC and botocore word their codes; searched in the text as it is.
CODE_IN_TEXT = r"StatusCode\.(?P<grpc>[A-Z_]+) | An\ error\ occurred\ \((?P<aws>\w+)\)"

_IS = r"""(?: (?: included\ in\ the\ request | provided | is | was | has | has\s+been | have\s+been | may\s+have
        | may\s+have\s+been | appears\s+to\s+be ) \s+ ){0,3}"""
_BAD = r"(?: invalid | expired | revoked | invalidated | incorrect | not\s+valid )"
_KIND = r"(?: oauth | access | bearer | auth | authentication | authorization | security | session | api | id )"
_KEY = r"(?: x-api-key | (?:api|access)[\s_-]?key | subscription\ key )"

# Sentences that are said of refused credentials only: believed under a 400 or 403 and against a general type.
CERTAIN_TEXT = rf"""
      (?:invalid|incorrect|expired|revoked|invalidated) \s+ (?: {_KEY} | (?: {_KIND} [\s_-]+ ){{1,2}} token ) \b
      (?! \s+ (?:for|id|type|format|count)\b )
    | {_KEY} \s+ {_IS} {_BAD} \b (?! \s+ for\b )
    | {_KIND} [\s_-]+ token \s+ {_IS} {_BAD} \b (?! \s+ for\b )
    | authentication\ error \W+ expired\ key \b
    | authentication\ failed \W [^.]{{0,40}} \b api\ key \b
    | invalid\ or\ expired \s+ (?:\w+\s+)? (?:token|key|credentials) \b
    | token \s+ is \s+ expiring \b
    | (?:key|credentials) \s+ (?:has|have|is|are) \s+ (?:been\s+)? (?:expired|revoked) \b
    | token \s+ expiry \b .{{0,60}} \b is\ earlier\ than \b
    """

AUTH_TEXT = rf"""
      (?:invalid|incorrect|expired|revoked|invalidated|stale) \s+
         (?: {_KEY} | {_KIND} [\s_-]+ (?:token|key)
           | (?:authentication|authorization|auth) \s+ (?:credentials?|header) | credentials | authentication ) \b
    | (?:expired|invalidated|revoked) \s+ token \b
    | session \s+ (?:has\s+)? expired \b
    | (?:token|jwt) (?<! page\ token) (?<! pagination\ token) (?<! continuation\ token) (?<! cancellation\ token)
        (?<! csrf\ token) (?<! sync\ token) (?<! unexpected\ token) (?<! next\ token)
        \s+ {_IS} (?:expired|invalidated|revoked) \b
    | authentication[\s_]? (?:failed|fails|required|error) \b
    | (?: could \ not \ validate \ credentials | credentials \ (?:are|were) \ invalid | not \ authenticated ) \b
    | invalid \s+ jwt \b
    | no \ (?:cookie\ )? auth \ credentials \ found \b
    | bad \ credentials \b
    | (?:unauthori[sz]ed|unauthenticated) \b
    | (?:token_expired|invalid_api_key) \b
    | \A \s* (?: invalid\ token | (?:the\ |your\ )? token\ is\ (?:invalid|not\ valid) ) [.!\s]* \Z
    """
