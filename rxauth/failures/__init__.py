"""What counts as an auth failure: rules that compose.

    is_auth_error                       the default: a status, else a structured code, else the text, conservatively
    is_auth_error | status(403)         a provider that answers 403 for a stale token
    is_auth_error & ~text("K3")         one message that a refresh cannot mend

A rule is called with a failure (an error event, an exception, a `NeverLiveError`, whose failure is judged) and says
yes or no. Anything else is no failure, and what the credential logic itself raises is final: both are always no. By
itself a rule knows an error event by its `type`, which ends with error, failed or failure; inside an operator, what
`is_error` says is an error event is one, whatever it is called.
"""

from rxauth.failures._rejected import rejected_credential
from rxauth.failures._rules import Judge, Rule, error_type, is_auth_error, judge_known, status, status_of, text, type_of
from rxauth.failures._transient import TRANSIENT_STATUS, is_transient, name_of, retry_after_of, seconds_to_wait

__all__ = [
    "Judge",
    "Rule",
    "error_type",
    "is_auth_error",
    "is_transient",
    "judge_known",
    "name_of",
    "rejected_credential",
    "retry_after_of",
    "seconds_to_wait",
    "status",
    "status_of",
    "text",
    "type_of",
    "TRANSIENT_STATUS",
]
