"""Sort failures by the caller's next action."""

from __future__ import annotations

from enum import Enum

from rxauth.errors import CredentialRejected, ProviderUnavailable, RequestRejected
from rxauth.failures._reading import Reading
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
    REJECTED,
    REQUEST,
    STATUS_AT_START,
    STATUS_TEXT,
    UNAUTHORIZED,
    USED_UP,
)

TRANSIENT_STATUS = frozenset({408, 425, 429, *range(500, 600)})


class Kind(Enum):
    """The caller's next action after a provider's failure."""

    AUTH = "refresh the credential"
    BUSY = "try again later"
    REFUSED = "change the request, the plan or the permissions"
    UNKNOWN = "read the message"


def kind_of(reading: Reading) -> Kind:
    """Return the caller's next action. The first question with an answer decides: the surest evidence comes first."""
    for cls, kind in _OWN_ERRORS:
        if isinstance(reading.own_error, cls):
            return kind
    words, texts = reading.words, [text.lower() for text in reading.texts]
    code = reading.status or _status_in(texts)
    if code not in (None, 400, 401, 403):
        return Kind.BUSY if code in TRANSIENT_STATUS and words.isdisjoint(USED_UP) else Kind.REFUSED
    if not words.isdisjoint(DENIED) or any(map(DENIED_TEXT.search, texts)):
        return Kind.REFUSED
    if not words.isdisjoint(REJECTED if code == 400 else AUTH):
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
    """Find a status in the text of a message: "HTTP 401", "403: ..."."""
    for each in texts:
        first = STATUS_AT_START.match(each)
        if first is not None:
            # "401 ms elapsed" has no status; "500 upstream gateway said 401" has 500.
            if first["code"] != "401" or first["follows"] is not None:
                return int(first["code"])
            continue
        found = STATUS_TEXT.search(each)
        if found is not None:
            return int(found["http"] or found["status"] or found["code"] or found["before"])
    return None


_OWN_ERRORS = ((CredentialRejected, Kind.AUTH), (RequestRejected, Kind.REFUSED), (ProviderUnavailable, Kind.BUSY))
