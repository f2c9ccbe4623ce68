"""Judge failures: is it an auth failure, is it transient, and which credential did the server reject?

    is_auth_error                       the default: by status, structured code and text
    is_auth_error | status(403)         a provider that answers 403 for a stale token
    is_auth_error & ~text("K3")         a message for which a refresh does not help

A rule judges an error event, an exception, a `NeverLiveError` (its failure) or an exception group (each exception).
Anything else is no failure, and an error of the credential logic is final: the answer is no. By itself a rule
knows an error event by its `type`, which ends with error, failed or failure; inside an operator, the events for which
`is_error` is true are error events, whatever they are called.
"""

from rxauth.errors import name_of
from rxauth.failures._reading import Reading
from rxauth.failures._rejected_credential import rejected_credential
from rxauth.failures._retry_after import retry_after_of, seconds_to_wait
from rxauth.failures._rules import (
    TRANSIENT_STATUS,
    Judge,
    Kind,
    Rule,
    error_type,
    is_auth_error,
    is_transient,
    judge_known,
    kind_of,
    status,
    status_of,
    text,
    type_of,
)

__all__ = [
    "Judge",
    "Kind",
    "Reading",
    "Rule",
    "error_type",
    "is_auth_error",
    "is_transient",
    "judge_known",
    "kind_of",
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
